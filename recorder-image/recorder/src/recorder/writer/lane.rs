//! The writing of one stream: from its ring into segments.

use std::sync::Arc;
use std::time::Duration;

use segment::{Catalogue, Error, Finished};

use super::fragment::Pending;
use super::volume::{OpenFile, Opening, Volume};
use crate::local::ToReplicator;
use crate::recorder::decide::should_write;
use crate::recorder::frame::Frame;
use crate::recorder::pair::Pair;
use crate::recorder::stream::Stream;

/// The most that is taken from a ring at once, bytes, so that no stream starves the others.
const AT_ONCE: usize = 4 << 20;

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
    standing: (u64, bool),
    first_dts: i64,
    pending: Pending,
    /// The sequence number after the newest frame that was given to `pending`.
    next: u64,
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
}

impl Lane {
    /// A stream that is not written.
    pub fn new(stream: Arc<Stream>) -> Self {
        Self {
            stream,
            active: None,
            unsynced: None,
            ended: Vec::new(),
        }
    }

    /// Whether nothing of this stream waits for the disk.
    pub fn is_idle(&self) -> bool {
        self.active.is_none() && self.unsynced.is_none() && self.ended.is_empty()
    }

    /// Takes what the ring has and writes it. Returns the bytes written.
    ///
    /// # Errors
    /// When the volume refuses; the lane then begins again with the oldest group that is not durable.
    pub fn step(&mut self, step: &mut Step<'_>) -> Result<u64, Error> {
        let before = step.volume.written();
        let outcome = self.advance(step);
        if outcome.is_err() {
            self.give_up();
        }
        outcome.map(|()| step.volume.written() - before)
    }

    fn advance(&mut self, step: &mut Step<'_>) -> Result<(), Error> {
        let (taken, stopped) = self.take(step);
        for (seq, frame) in taken {
            self.write(seq, frame, step)?;
        }
        if stopped || step.last {
            return self.end_segment(None, step);
        }
        let overdue = self.active.as_ref().is_some_and(|a| a.pending.overdue(step.now));
        if overdue { self.flush(None, step) } else { Ok(()) }
    }

    /// Decides whether to write, and takes the next frames. The second value says that writing stopped.
    fn take(&mut self, step: &Step<'_>) -> (Vec<(u64, Arc<Frame>)>, bool) {
        let peer = step.pair.peer(self.stream.uid, step.now);
        let mut inner = self.stream.lock();
        let why = should_write(peer, &inner.ring.backlog(), step.now, step.max_ring);
        if why.is_some() && !inner.ring.is_writing() {
            tracing::info!(stream = %self.stream.name, ?why, "begins to write");
            inner.ring.start();
        }
        let taken = inner.ring.take(AT_ONCE);
        let stopped = why.is_none() && inner.ring.is_writing() && taken.is_empty() && inner.ring.stop();
        if stopped {
            tracing::info!(stream = %self.stream.name, "stops writing: the peer does");
        }
        inner.ring.trim(step.now);
        (taken, stopped)
    }

    fn write(&mut self, seq: u64, frame: Arc<Frame>, step: &mut Step<'_>) -> Result<(), Error> {
        if self.active.as_ref().is_some_and(|a| a.pending.due(&frame)) {
            self.flush(Some(&frame), step)?;
        }
        if frame.key && self.rotates(seq, &frame, step) {
            self.end_segment(Some(&frame), step)?;
            self.active = Some(Active::open(&self.stream, seq, &frame, step)?);
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
            let standing = step.pair.standing(step.now);
            a.next != seq || a.run != frame.run.id || length >= step.target || a.standing != standing
        })
    }

    fn flush(&mut self, next: Option<&Frame>, step: &mut Step<'_>) -> Result<(), Error> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let Some(ready) = active.pending.take(next) else {
            return Ok(());
        };
        let (to, count) = (active.next, ready.frames.len() as u64);
        step.volume.append(&mut active.file, &ready)?;
        let from = self.unsynced.map_or(to - count, |(from, _)| from);
        self.unsynced = Some((from, to));
        Ok(())
    }

    fn end_segment(&mut self, next: Option<&Frame>, step: &mut Step<'_>) -> Result<(), Error> {
        self.flush(next, step)?;
        self.ended.extend(self.active.take().map(|a| a.file));
        Ok(())
    }

    /// The volume refused a write: what was appended so far stays, the rest begins again in another segment.
    fn give_up(&mut self) {
        self.ended
            .extend(self.active.take().map(|a| a.file).filter(|f| !f.is_empty()));
        self.stream.lock().ring.rewind();
    }

    /// Everything written so far is synced: frames become durable in the ring, and it is told. Returns the ended
    /// segments, which may be sealed now.
    pub fn committed(&mut self, catalogue: &mut Catalogue, outbox: &mut Vec<ToReplicator>) -> Vec<Finished> {
        if let Some((from, to)) = self.unsynced.take() {
            self.stream.lock().ring.durable(from, to);
            self.stream.counters.written(&self.stream.name, to - from);
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

    /// A sync failed: what was not synced before may be lost, so it is written again. The files are left as they
    /// are; the next start finds out what of them is whole.
    pub fn lost(&mut self) {
        self.active = None;
        self.unsynced = None;
        self.ended.clear();
        self.stream.lock().ring.rewind();
    }
}

impl Active {
    fn open(stream: &Stream, seq: u64, frame: &Frame, step: &mut Step<'_>) -> Result<Self, Error> {
        let standing = step.pair.standing(step.now);
        let file = step.volume.create(&Opening {
            stream,
            standing,
            first: frame,
        })?;
        let pending = Pending::default();
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
