//! The writing of one stream: from its ring into segments.

use std::sync::Arc;
use std::time::Duration;

use segment::{Catalogue, Error, Finished};

use super::fragment::Pending;
use super::volume::{OpenFile, Opening, Volume};
use crate::local::{ErrorCode, StreamError, ToReplicator};
use crate::recorder::decide::should_write;
use crate::recorder::frame::Frame;
use crate::recorder::pair::{Pair, Standing};
use crate::recorder::ring::Dropped;
use crate::recorder::stream::{Inner, Stream};

/// The most that is taken from a ring at once, bytes, so that no stream starves the others.
const AT_ONCE: usize = 4 << 20;
/// Why the rest of a group is not held here after the volume refused it.
const HEADLESS: &str =
    "the volume did not take the rest of a group whose beginning it has, and that had left the memory";
/// How long a stream is held off whose files alone cannot be written.
const HOLD_OFF: Duration = Duration::from_secs(1);

/// What a step needs beside the lane.
#[derive(Debug)]
pub struct Step<'a> {
    /// The volume.
    pub volume: &'a mut Volume,
    /// Authority and the peer.
    pub pair: &'a Pair,
    /// Now, on `CLOCK_BOOTTIME`.
    pub now: Duration,
    /// Target length of a segment.
    pub target: Duration,
    /// The cap of the ring, bytes.
    pub max_ring: usize,
    /// Whether the stream left the configuration, or the process is about to exit: everything is written, nothing
    /// stays open.
    pub last: bool,
}

/// The segment that is being written.
#[derive(Debug)]
struct Active {
    file: OpenFile,
    run: uuid::Uuid,
    standing: Standing,
    first_dts: i64,
    pending: Pending,
    /// The sequence number after the newest frame that was given to `pending`.
    next: u64,
}

/// A frame that could not be written.
#[derive(Debug)]
struct Failed {
    /// The first one of its fragment.
    seq: u64,
    error: Error,
}

/// Why this stream alone is not written.
#[derive(Debug)]
struct Trouble {
    error: StreamError,
    /// No attempt before.
    until: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Lane {
    /// The stream.
    pub stream: Arc<Stream>,
    active: Option<Active>,
    /// Frames `from..to` are in fragments that are written, but not synced.
    unsynced: Option<(u64, u64)>,
    /// Ended segments whose bytes are not synced yet.
    ended: Vec<OpenFile>,
    trouble: Option<Trouble>,
}

impl Lane {
    /// A stream that is not written.
    pub fn new(stream: Arc<Stream>) -> Self {
        Self {
            stream,
            active: None,
            unsynced: None,
            ended: Vec::new(),
            trouble: None,
        }
    }

    /// Why this stream alone is not written now.
    pub fn trouble(&self) -> Option<&StreamError> {
        self.trouble.as_ref().map(|t| &t.error)
    }

    /// Whether nothing of this stream waits for the disk.
    pub fn is_idle(&self) -> bool {
        self.active.is_none() && self.unsynced.is_none() && self.ended.is_empty()
    }

    /// Takes what the ring has and writes it.
    ///
    /// # Errors
    /// When something cannot be written. If the volume refuses ([`Error::is_volume_refusal`]), the lane begins again with
    /// the oldest group that is not durable. If this stream alone cannot be written it says so ([`Self::trouble`]): what
    /// is no media leaves with its group, anything else is tried again after `HOLD_OFF`.
    pub fn step(&mut self, step: &mut Step<'_>) -> Result<(), Error> {
        if !step.last && self.trouble.as_ref().is_some_and(|t| step.now < t.until) {
            self.stream.lock().ring.trim(step.now);
            return Ok(());
        }
        self.advance(step).map_err(|failed| {
            self.give_up(&failed, step);
            failed.error
        })
    }

    fn advance(&mut self, step: &mut Step<'_>) -> Result<(), Failed> {
        let (taken, stopped) = self.take(step);
        for (seq, frame) in taken {
            self.write(seq, frame, step)?;
        }
        if stopped || step.last {
            return self.end_segment(None);
        }
        let overdue = self.active.as_ref().is_some_and(|a| a.pending.overdue(step.now));
        if overdue { self.flush(None) } else { Ok(()) }
    }

    /// Decides whether to write, and takes the next frames. The second value says that writing stopped.
    fn take(&mut self, step: &Step<'_>) -> (Vec<(u64, Arc<Frame>)>, bool) {
        let peer = step.pair.peer(self.stream.uid, step.now);
        let mut inner = self.stream.lock();
        let why = should_write(peer, &inner.ring.backlog(), step.now, step.max_ring);
        if why.is_none()
            && let Some(since) = inner.still_since(step.now)
        {
            inner.ring.forgo(since);
        }
        if why.is_some() && !inner.ring.is_writing() {
            tracing::info!(stream = %self.stream.name, ?why, "begins to write");
            let dropped = inner.ring.start();
            tell_headless(&mut inner, dropped, step.now);
        }
        // At the end there is no next time.
        let at_once = if step.last { usize::MAX } else { AT_ONCE };
        let taken = match why {
            Some(_) => inner.ring.take(at_once),
            None => inner.ring.take_rest(at_once),
        };
        let stopped = why.is_none() && inner.ring.is_writing() && inner.ring.stop();
        if stopped {
            tracing::info!(stream = %self.stream.name, "stops writing: the peer does");
        }
        if !inner.ring.is_writing() {
            self.trouble = None;
        }
        inner.ring.trim(step.now);
        (taken, stopped)
    }

    fn write(&mut self, seq: u64, frame: Arc<Frame>, step: &mut Step<'_>) -> Result<(), Failed> {
        if self.active.as_ref().is_some_and(|a| a.pending.due(&frame)) {
            self.flush(Some(&frame))?;
        }
        if frame.key && self.rotates(seq, &frame, step) {
            self.rotate(seq, &frame, step)?;
        }
        if let Some(active) = &mut self.active {
            active.pending.push(frame);
            active.next = seq + 1;
        }
        Ok(())
    }

    /// Whether a new segment begins with this key frame.
    fn rotates(&self, seq: u64, frame: &Frame, step: &Step<'_>) -> bool {
        self.active.as_ref().is_none_or(|a| {
            let length = Duration::from_micros(((frame.dts - a.first_dts) * 100 / 9).max(0).cast_unsigned());
            let standing = step.pair.standing(self.stream.uid, step.now);
            a.next != seq || a.run != frame.run.id || length >= step.target || a.standing != standing
        })
    }

    /// Ends the segment, and begins another one with this key frame.
    fn rotate(&mut self, seq: u64, frame: &Frame, step: &mut Step<'_>) -> Result<(), Failed> {
        self.flush(Some(frame))?;
        let same_run = self.active.as_ref().filter(|a| a.run == frame.run.id);
        let pending = same_run
            .map(|a| a.pending.go_on(a.next == seq))
            .unwrap_or_default();
        self.end_segment(Some(frame))?;
        let opened = Active::open(&self.stream, seq, frame, pending, step);
        self.active = Some(opened.map_err(|error| Failed { seq, error })?);
        Ok(())
    }

    fn flush(&mut self, next: Option<&Frame>) -> Result<(), Failed> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let Some(ready) = active.pending.take(next) else {
            return Ok(());
        };
        let (to, count) = (active.next, ready.frames.len() as u64);
        let seq = to - count;
        let appended = active.file.append(&ready);
        appended.map_err(|error| Failed { seq, error })?;
        let from = self.unsynced.map_or(seq, |(from, _)| from);
        self.unsynced = Some((from, to));
        Ok(())
    }

    fn end_segment(&mut self, next: Option<&Frame>) -> Result<(), Failed> {
        self.flush(next)?;
        self.ended.extend(self.active.take().map(|a| a.file));
        Ok(())
    }

    /// Something was not written: what was appended so far stays, the rest goes into another segment.
    fn give_up(&mut self, failed: &Failed, step: &mut Step<'_>) {
        match self.active.take().map(|a| a.file) {
            Some(file) if file.is_empty() => step.volume.doubt(&file),
            file => self.ended.extend(file),
        }
        let mut inner = self.stream.lock();
        if let Error::Media(why) = &failed.error {
            // It will never be written: the rest of the stream must not wait for it.
            if let Some(dropped) = inner.ring.discard(failed.seq) {
                inner.not_held(dropped, &format!("it cannot be written: {why}"), step.now);
            }
        } else {
            let dropped = inner.ring.rewind();
            tell_headless(&mut inner, dropped, step.now);
        }
        drop(inner);
        if !failed.error.is_volume_refusal() {
            self.say(failed, step.now);
        }
    }

    fn say(&mut self, failed: &Failed, now: Duration) {
        let name = &self.stream.name;
        let (code, cure, wait) = match &failed.error {
            Error::Media(_) => (
                ErrorCode::Malformed,
                "check the camera's firmware, or report it",
                Duration::ZERO,
            ),
            _ => (
                ErrorCode::DiskFailing,
                "check the stream's folder on the volume",
                HOLD_OFF,
            ),
        };
        let message = format!(
            "stream {name} is not recorded here: {}; {cure}",
            failed.error.steady()
        );
        if self.trouble().is_none_or(|t| t.message != message) {
            tracing::error!(stream = %name, "{message}");
        }
        self.trouble = Some(Trouble {
            error: StreamError { code, message },
            until: now + wait,
        });
    }

    /// Everything written so far is synced: frames become durable in the ring, and it is told. Returns the ended
    /// segments, which may be sealed now.
    pub fn committed(&mut self, catalogue: &mut Catalogue, outbox: &mut Vec<ToReplicator>) -> Vec<Finished> {
        if let Some((from, to)) = self.unsynced.take() {
            self.stream.lock().ring.durable(from, to);
            self.stream.counters.written(&self.stream.name, to - from);
            self.trouble = None;
        }
        let active = self.active.as_mut().map(|a| &mut a.file);
        for file in self.ended.iter_mut().chain(active) {
            file.tell(catalogue, outbox);
        }
        std::mem::take(&mut self.ended)
            .into_iter()
            .map(OpenFile::finish)
            .collect()
    }

    /// A sync failed: what was not synced before may be lost, also when the next sync succeeds. It is written again, into
    /// other files.
    pub fn lost(&mut self, volume: &mut Volume, now: Duration) {
        let active = self.active.take().map(|a| a.file);
        for file in self.ended.drain(..).chain(active) {
            volume.doubt(&file);
        }
        self.unsynced = None;
        let mut inner = self.stream.lock();
        let dropped = inner.ring.rewind();
        tell_headless(&mut inner, dropped, now);
    }
}

/// The rest of groups whose head left the memory cannot be written any more.
fn tell_headless(inner: &mut Inner, dropped: Option<Dropped>, now: Duration) {
    if let Some(dropped) = dropped {
        inner.not_held(dropped, HEADLESS, now);
    }
}

impl Active {
    fn open(
        stream: &Stream,
        seq: u64,
        frame: &Frame,
        pending: Pending,
        step: &mut Step<'_>,
    ) -> Result<Self, Error> {
        let standing = step.pair.standing(stream.uid, step.now);
        let file = step.volume.create(&Opening {
            stream,
            standing,
            first: frame,
        })?;
        Ok(Self {
            file,
            run: frame.run.id,
            standing,
            first_dts: frame.dts,
            pending,
            next: seq,
        })
    }
}
