//! One group of pictures in the ring.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Dropped;
use super::matching::Candidate;
use crate::recorder::frame::Frame;

/// Frames with consecutive sequence numbers, the first of them a key frame.
#[derive(Debug)]
pub(super) struct Gop {
    /// The sequence number of the key frame.
    pub(super) first_seq: u64,
    /// No frame will follow.
    pub(super) closed: bool,
    /// A received group with the same hashes is durable here, or a better one will be.
    pub(super) by_peer: bool,
    /// Bytes of the frames still held.
    pub(super) bytes: usize,
    /// Frames that are held, after `released` ones.
    held: VecDeque<Arc<Frame>>,
    /// Durable frames at the head that were let go to stay under the cap.
    released: u64,
    /// The length of the head that is durable by the own write.
    durable: u64,
    hashes: Vec<[u8; 16]>,
    start_us: i64,
    first_received: Duration,
    last_received: Duration,
    last_us: i64,
}

impl Gop {
    pub(super) fn new(first_seq: u64) -> Self {
        Self {
            first_seq,
            closed: false,
            by_peer: false,
            bytes: 0,
            held: VecDeque::new(),
            released: 0,
            durable: 0,
            hashes: Vec::new(),
            start_us: 0,
            first_received: Duration::ZERO,
            last_received: Duration::ZERO,
            last_us: 0,
        }
    }

    pub(super) fn push(&mut self, frame: Arc<Frame>) {
        if self.hashes.is_empty() {
            self.start_us = frame.wallclock_us;
            self.first_received = frame.received;
        }
        self.last_us = frame.wallclock_us;
        self.last_received = frame.received;
        self.hashes.push(frame.hash);
        self.bytes += frame.cost();
        self.held.push_back(frame);
    }

    pub(super) fn end_seq(&self) -> u64 {
        self.first_seq + self.hashes.len() as u64
    }

    pub(super) fn held(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.held.iter()
    }

    pub(super) fn first_received(&self) -> Option<Duration> {
        (!self.hashes.is_empty()).then_some(self.first_received)
    }

    pub(super) fn last_received(&self) -> Option<Duration> {
        (!self.hashes.is_empty()).then_some(self.last_received)
    }

    pub(super) fn span(&self) -> Duration {
        self.last_received.saturating_sub(self.first_received)
    }

    /// Durable as a whole: only a closed group can be.
    pub(super) fn is_durable(&self) -> bool {
        self.closed && (self.by_peer || self.durable == self.hashes.len() as u64)
    }

    /// Whether a cursor at `seq` has begun this group and not finished it.
    pub(super) fn holds_inside(&self, seq: u64) -> bool {
        let begun = seq > self.first_seq;
        begun && (seq < self.end_seq() || (seq == self.end_seq() && !self.closed))
    }

    pub(super) fn from(&self, seq: u64) -> impl Iterator<Item = (u64, &Arc<Frame>)> {
        let first = self.first_seq + self.released;
        (first..).zip(self.held.iter()).skip_while(move |(s, _)| *s < seq)
    }

    /// Frames `from..end` were synced; counts only what continues the durable head.
    pub(super) fn written(&mut self, from: u64, end: u64) {
        let end = end.min(self.end_seq()) - self.first_seq;
        if from <= self.first_seq + self.durable {
            self.durable = self.durable.max(end);
        }
    }

    /// Not durable as a whole, and not all of it is here any more.
    pub(super) fn is_headless(&self) -> bool {
        self.released > 0 && !self.is_durable()
    }

    /// Whether its durable head may leave; a writer that begins again with the group needs it.
    pub(super) fn can_release(&self, cursor: Option<u64>) -> bool {
        self.released < self.durable && cursor.is_none_or(|at| at >= self.first_seq + self.durable)
    }

    /// Lets the durable head go; returns its bytes.
    pub(super) fn release(&mut self) -> usize {
        let n = (self.durable - self.released) as usize;
        let freed = self.held.drain(..n).map(|f| f.cost()).sum();
        self.released = self.durable;
        self.bytes -= freed;
        freed
    }

    /// Wall clock of its key frame, microseconds since the Unix epoch.
    pub(super) fn start_us(&self) -> i64 {
        self.start_us
    }

    /// What is lost when this group leaves now.
    pub(super) fn lost(&self) -> Option<Dropped> {
        self.lost_from(self.first_seq + self.durable)
    }

    /// What is lost with the frames from `seq` on.
    pub(super) fn lost_from(&self, seq: u64) -> Option<Dropped> {
        let skip = seq.saturating_sub(self.first_seq + self.released) as usize;
        let first = self.held.get(skip)?;
        let frames = (self.held.len() - skip) as u64;
        Some(Dropped {
            frames,
            start_us: first.wallclock_us,
            end_us: self.last_us,
        })
    }

    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate {
            open: self.closed && !self.is_durable(),
            closed: self.closed,
            start_us: self.start_us,
            hashes: &self.hashes,
        }
    }
}
