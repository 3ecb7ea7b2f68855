//! Live viewers of one stream: each has a bounded queue, fed with every frame as it arrives.
//!
//! The feeder runs in the stream's own task and waits for nobody. A viewer that lets its queue run full is dropped, and
//! what waited for it is let go at once. A queue holds references to frames that the ring holds too, so that many
//! viewers of one stream cost the memory of one, and the part of each that it was handed last.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use segment::fmp4::{self, write_fragment};
use tokio::sync::Notify;

use super::{Inner, Stream};
use crate::recorder::frame::{Frame, Run};
use crate::recorder::writer::fragment::{Pending, Ready};
use crate::recorder::writer::volume::{sample, track};

/// The most viewers of one stream on one member.
pub const MAX_VIEWERS: usize = 32;
/// The most frames that wait for one viewer.
const MAX_FRAMES: usize = 256;
/// The most bytes that wait for one viewer, unless they are one frame.
const MAX_BYTES: usize = 8 << 20;
/// The most bytes that one viewer is handed at once, unless they are one frame: it has them for itself, and nobody takes them back.
const PART: usize = 256 << 10;
/// The longest that a frame waits for one viewer. One that takes nothing for so long sees the present sooner if it
/// begins anew.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// A stream without a frame for so long, and for [`INTERVALS`], has no picture.
const SILENCE: Duration = Duration::from_secs(5);
/// See [`SILENCE`]: slow streams are given longer.
const INTERVALS: u32 = 3;

/// Why a viewer gets no more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It fell behind.
    Behind,
    /// The camera changed its parameter sets: a player has to begin anew.
    Parameters,
    /// No frame came for too long.
    NoPicture,
    /// The stream left the configuration, or the process is about to exit.
    Gone,
}

/// Why a viewer is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// [`MAX_VIEWERS`] watch already.
    TooMany,
    /// There is nothing to show, and why, in words.
    NoPicture(String),
}

/// What waits for one viewer.
#[derive(Debug, Default)]
struct Queue {
    /// What is left of the newest group of pictures as it was at the beginning: it goes first, and does not count.
    begun: VecDeque<Arc<Frame>>,
    frames: VecDeque<Arc<Frame>>,
    /// Of `frames`.
    bytes: usize,
    end: Option<End>,
}

impl Queue {
    /// Takes what is handed out next: a [`PART`], or one frame.
    fn part(&mut self) -> Vec<Arc<Frame>> {
        let counts = self.begun.is_empty();
        let waiting = if counts { &mut self.frames } else { &mut self.begun };
        let mut bytes = 0;
        let fits = |frame: &&Arc<Frame>| {
            let first = bytes == 0;
            bytes += frame.cost();
            first || bytes <= PART
        };
        let count = waiting.iter().take_while(fits).count();
        let part: Vec<_> = waiting.drain(..count).collect();
        if counts {
            self.bytes -= part.iter().map(|frame| frame.cost()).sum::<usize>();
        }
        part
    }
}

/// Where the feeder and one viewer meet.
#[derive(Debug)]
struct Seat {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Seat {
    /// The seat of a viewer that begins with these frames.
    fn new(begun: Vec<Arc<Frame>>) -> Self {
        let queue = Queue {
            begun: begun.into(),
            ..Queue::default()
        };
        Self {
            queue: Mutex::new(queue),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame, unless there is no room for it.
    fn offer(&self, frame: &Arc<Frame>) -> bool {
        let mut queue = self.lock();
        let bytes = queue.bytes + frame.cost();
        if let Some(oldest) = queue.frames.front()
            && (queue.frames.len() >= MAX_FRAMES
                || bytes > MAX_BYTES
                || frame.received.saturating_sub(oldest.received) > MAX_WAIT)
        {
            return false;
        }
        queue.bytes = bytes;
        queue.frames.push_back(Arc::clone(frame));
        drop(queue);
        self.changed.notify_one();
        true
    }

    fn end(&self, end: End) {
        let mut queue = self.lock();
        if end == End::Behind {
            *queue = Queue::default();
        }
        queue.end = Some(end);
        drop(queue);
        self.changed.notify_one();
    }

    /// The next part of what waits, or why nothing will; `None` while there is nothing yet.
    fn take(&self) -> Option<Result<Vec<Arc<Frame>>, End>> {
        let mut queue = self.lock();
        let part = queue.part();
        if part.is_empty() {
            return queue.end.map(Err);
        }
        Some(Ok(part))
    }
}

/// One viewer, as the feeder sees it.
#[derive(Debug)]
struct Feed {
    seat: Arc<Seat>,
    /// What the viewer was told of the codec.
    run: Arc<Run>,
    /// It has no picture that the next frame could build on.
    waits_for_key: bool,
}

impl Feed {
    /// Passes a frame on; returns why it could not be.
    fn pass(&mut self, frame: &Arc<Frame>) -> Option<End> {
        if !same_parameters(&self.run, &frame.run) {
            return Some(End::Parameters);
        }
        self.waits_for_key &= !frame.key;
        let passed = self.waits_for_key || self.seat.offer(frame);
        (!passed).then_some(End::Behind)
    }
}

fn same_parameters(one: &Arc<Run>, other: &Arc<Run>) -> bool {
    let parameters = |run: &Run| (run.hevc, run.width, run.height);
    Arc::ptr_eq(one, other)
        || (parameters(one) == parameters(other) && one.sample_entry == other.sample_entry)
}

/// All viewers of one stream.
#[derive(Debug)]
pub struct Viewers {
    feeds: Vec<Feed>,
    newest: Option<Arc<Run>>,
    watching: Gauge,
    dropped: Counter,
}

impl Viewers {
    /// Nobody watches yet. `watching` and `dropped` are told who does, and who fell behind.
    pub(super) fn new(watching: Gauge, dropped: Counter) -> Self {
        Self {
            feeds: Vec::new(),
            newest: None,
            watching,
            dropped,
        }
    }

    /// Passes a frame on to all of them.
    pub(super) fn feed(&mut self, frame: &Arc<Frame>) {
        self.newest = Some(Arc::clone(&frame.run));
        let dropped = &self.dropped;
        self.feeds.retain_mut(|feed| {
            let end = feed.pass(frame);
            if let Some(end) = end {
                feed.seat.end(end);
                dropped.inc_by(u64::from(end == End::Behind));
            }
            end.is_none()
        });
        self.count();
    }

    /// No frame follows for any of them.
    pub fn end(&mut self, end: End) {
        for feed in self.feeds.drain(..) {
            feed.seat.end(end);
        }
        self.count();
    }

    fn add(&mut self, feed: Feed) {
        self.feeds.push(feed);
        self.count();
    }

    fn leave(&mut self, seat: &Arc<Seat>) {
        self.feeds.retain(|feed| !Arc::ptr_eq(&feed.seat, seat));
        self.count();
    }

    fn count(&self) {
        self.watching.set(self.feeds.len() as i64);
    }
}

/// One viewer's end. Whoever drops it watches no longer.
#[derive(Debug)]
pub struct Viewer {
    stream: Arc<Stream>,
    seat: Arc<Seat>,
    run: Arc<Run>,
}

impl Stream {
    /// Begins to watch at `now`, with the newest group of pictures that is in the ring.
    ///
    /// # Errors
    /// Why there is nothing to see.
    pub fn watch(self: &Arc<Self>, now: Duration) -> Result<Viewer, Refused> {
        let mut inner = self.lock();
        if inner.viewers.feeds.len() >= MAX_VIEWERS {
            return Err(Refused::TooMany);
        }
        let newest = inner
            .viewers
            .newest
            .clone()
            .filter(|_| !inner.picture_for(now).is_zero());
        let Some(newest) = newest else {
            return Err(Refused::NoPicture(inner.why_dark(now)));
        };
        let group = inner.ring.newest_group();
        let (begun, goes_on) = group
            .filter(|(frames, _)| same_parameters(&frames[0].run, &newest))
            .unwrap_or_default();
        let seat = Arc::new(Seat::new(begun));
        inner.viewers.add(Feed {
            seat: Arc::clone(&seat),
            run: Arc::clone(&newest),
            waits_for_key: !goes_on,
        });
        drop(inner);
        Ok(Viewer {
            stream: Arc::clone(self),
            seat,
            run: newest,
        })
    }
}

impl Inner {
    /// After how long without a frame the stream has no picture.
    fn patience(&self) -> Duration {
        let interval = Duration::from_micros(self.interval_us().unwrap_or(0).max(0).cast_unsigned());
        SILENCE.max(interval * INTERVALS)
    }

    fn silent_for(&self, now: Duration) -> Option<Duration> {
        self.last_frame().map(|at| now.saturating_sub(at))
    }

    /// How long the stream has a picture from `now` on, if no frame comes.
    fn picture_for(&self, now: Duration) -> Duration {
        let silent = self.silent_for(now).unwrap_or(Duration::MAX);
        self.patience().saturating_sub(silent)
    }

    fn why_dark(&self, now: Duration) -> String {
        match (self.why_silent(), self.silent_for(now)) {
            (Some(why), _) => why.to_owned(),
            (None, None) => "no frame has come from the camera yet".to_owned(),
            (None, Some(silent)) => format!("no frame has come from the camera for {} s", silent.as_secs()),
        }
    }
}

impl Viewer {
    /// What it is about to see.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The next frames, as soon as there is one; a bounded part of all that wait. The first of all is a key frame.
    ///
    /// # Errors
    /// Why there are no more.
    pub async fn next(&mut self) -> Result<Vec<Arc<Frame>>, End> {
        loop {
            if let Some(taken) = self.seat.take() {
                return taken;
            }
            let now = Duration::from_nanos(crate::clock::boottime_ns());
            let left = self.stream.lock().picture_for(now);
            let waited = tokio::time::timeout(left, self.seat.changed.notified()).await;
            // Frames may have come that this viewer cannot begin with.
            if waited.is_err() && left.is_zero() {
                return Err(End::NoPicture);
            }
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.stream.lock().viewers.leave(&self.seat);
    }
}

/// Makes fragmented MP4 of a viewer's frames. The duration of the last frame that it is given at once is a guess, by the one before: to
/// know it would cost a frame of delay. Its time is right in any case.
#[derive(Debug, Default)]
pub struct Muxer {
    pending: Pending,
    fragments: u64,
}

impl Muxer {
    /// What comes before the first fragment.
    ///
    /// # Errors
    /// If the sample entry cannot be kept.
    pub fn init(run: &Run) -> segment::Result<Bytes> {
        // A player waits for sound that it was told of, and browsers play no G.711: pictures come first.
        let audio = None;
        fmp4::write_init(&segment::Track { audio, ..track(run) })
    }

    /// The frames as whole fragments.
    ///
    /// # Errors
    /// If a frame is too large for one.
    pub fn fragments(&mut self, frames: Vec<Arc<Frame>>) -> segment::Result<Bytes> {
        let mut out = Vec::new();
        for frame in frames {
            let full = self.pending.due(&frame).then(|| self.pending.take(Some(&frame)));
            if let Some(ready) = full.flatten() {
                self.write(&ready, &mut out)?;
            }
            self.pending.push(frame);
        }
        if let Some(ready) = self.pending.take(None) {
            self.write(&ready, &mut out)?;
        }
        Ok(out.into())
    }

    fn write(&mut self, ready: &Ready, out: &mut Vec<u8>) -> segment::Result<()> {
        let samples: Vec<_> = ready
            .frames
            .iter()
            .zip(&ready.durations)
            .map(|(f, d)| sample(f, *d))
            .collect();
        out.extend_from_slice(&write_fragment(self.fragments, 0, &samples, None)?);
        self.fragments += 1;
        Ok(())
    }
}
