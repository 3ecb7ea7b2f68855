//! The ring of one stream: every frame stays in memory until it is durable on this member's volume (I12).
//!
//! A pure data structure: time is passed in, nothing waits, nothing is written. It holds whole groups of pictures,
//! bounded in bytes. A frame is durable when this member's own write of it was synced, or when a whole received
//! group of pictures with the same run of frame hashes is durable here (see [`matching`]).
//!
//! The writer reads it through a cursor: [`Ring::start`], [`Ring::take`], [`Ring::durable`]; [`Ring::take_rest`] and [`Ring::stop`].

mod gop;
pub mod matching;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use segment::sabotage::{Invariant::I12, breaks};

use self::gop::Gop;
use self::matching::{Received, WholeGop};
use super::frame::Frame;

/// How much a ring keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes in memory.
    pub max_bytes: usize,
    /// How long a durable group of pictures is kept.
    pub preroll: Duration,
}

/// Frames that left, or never entered, although they are not durable here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// How many frames.
    pub frames: u64,
    /// Wall clock of the first, microseconds since the Unix epoch.
    pub start_us: i64,
    /// Wall clock of the last.
    pub end_us: i64,
}

impl Dropped {
    fn join(one: Option<Self>, other: Self) -> Self {
        one.map_or(other, |one| Self {
            frames: one.frames + other.frames,
            start_us: one.start_us.min(other.start_us),
            end_us: one.end_us.max(other.end_us),
        })
    }
}

/// What is not durable yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// When the first frame of the oldest group of pictures that is not durable was received.
    pub oldest: Option<Duration>,
    /// Length of the longest closed group of pictures in the ring.
    pub longest_gop: Duration,
    /// Bytes of the groups that are not durable.
    pub bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Ring {
    limits: Limits,
    gops: VecDeque<Gop>,
    next_seq: u64,
    bytes: usize,
    /// The next frame that the writer takes; `None` while it does not write.
    cursor: Option<u64>,
    /// The head of the open group was dropped, so the rest of it is of no use.
    skip_to_key: bool,
    /// Nothing is kept for the pre-roll.
    resting: bool,
    received: Received,
}

impl Ring {
    /// An empty ring.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            gops: VecDeque::new(),
            next_seq: 0,
            bytes: 0,
            cursor: None,
            skip_to_key: true,
            resting: false,
            received: Received::default(),
        }
    }

    /// Other limits, from a changed configuration. Takes effect with the next frame.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether no frame is expected: then what is durable leaves at once.
    pub fn rest(&mut self, yes: bool) {
        self.resting = yes;
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The groups' frames, oldest first.
    pub fn frames(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.gops.iter().flat_map(Gop::held)
    }

    /// The newest group of pictures, if its key frame is still here, and whether more frames of it may come.
    pub fn newest_group(&self) -> Option<(Vec<Arc<Frame>>, bool)> {
        let gop = self.gops.back()?;
        let frames: Vec<_> = gop.held().cloned().collect();
        frames.first()?.key.then_some((frames, !gop.closed))
    }

    /// Adds a frame. A key frame closes the group before it. A frame that follows no key frame is not taken: it is
    /// returned as dropped, like whatever had to leave at the cap.
    pub fn push(&mut self, frame: impl Into<Arc<Frame>>) -> Option<Dropped> {
        let frame = frame.into();
        let mut dropped = None;
        if frame.key {
            self.close_gop();
            self.skip_to_key = false;
            self.gops.push_back(Gop::new(self.next_seq));
        } else if self.skip_to_key || self.gops.back().is_none_or(|g| g.closed) {
            return Some(Dropped {
                frames: 1,
                start_us: frame.wallclock_us,
                end_us: frame.wallclock_us,
            });
        }
        self.trim(frame.received);
        if let Some(gop) = self.gops.back_mut() {
            self.bytes += frame.cost();
            self.next_seq += 1;
            gop.push(frame);
        }
        while self.bytes > self.limits.max_bytes {
            match self.make_room() {
                Some(d) => dropped = Some(Dropped::join(dropped, d)),
                None if self.gops.is_empty() => break,
                None => {}
            }
        }
        dropped
    }

    /// Ends the open group of pictures: the session broke, or a new run begins.
    pub fn close_gop(&mut self) {
        if let Some(gop) = self.gops.back_mut()
            && !gop.closed
        {
            gop.closed = true;
            self.match_received();
        }
        self.skip_to_key = true;
    }

    /// Forgets durable groups older than the pre-roll, of which there is none while nothing is expected.
    pub fn trim(&mut self, now: Duration) {
        while let Some(gop) = self.gops.front() {
            let past = |at| now.saturating_sub(at) > self.limits.preroll;
            let old = self.resting || gop.last_received().is_none_or(past);
            let free = gop.is_durable() || gop.closed && breaks(I12);
            if !(free && old) {
                break;
            }
            self.remove(0);
        }
    }

    /// The peer writes better pictures than those that were received after `since`: whole groups of these are not waited for.
    pub fn forgo(&mut self, since: Duration) {
        let after = |gop: &&mut Gop| gop.closed && gop.first_received().is_some_and(|at| at > since);
        self.gops
            .iter_mut()
            .filter(after)
            .for_each(|gop| gop.by_peer = true);
    }

    /// Length of the longest closed group of pictures here, if there is one.
    pub fn longest_gop(&self) -> Option<Duration> {
        let closed = self.gops.iter().filter(|gop| gop.closed);
        closed.map(Gop::span).max()
    }

    /// What is not durable yet.
    pub fn backlog(&self) -> Backlog {
        let mut backlog = Backlog {
            longest_gop: self.longest_gop().unwrap_or_default(),
            ..Backlog::default()
        };
        for gop in &self.gops {
            if !gop.is_durable() {
                backlog.bytes += gop.bytes;
                backlog.oldest = backlog.oldest.or(gop.first_received());
            }
        }
        backlog
    }

    /// Lets the writer begin with the oldest group that is not durable. One whose head has left cannot be written again: the rest of it
    /// is returned as dropped.
    #[must_use]
    pub fn start(&mut self) -> Option<Dropped> {
        let mut dropped = None;
        while let Some(index) = self.gops.iter().position(Gop::is_headless) {
            let Some(gop) = self.remove(index) else { break };
            self.skip_to_key |= !gop.closed;
            dropped = gop.lost().map(|lost| Dropped::join(dropped, lost)).or(dropped);
        }
        let first = self.gops.iter().find(|g| !g.is_durable()).map(|g| g.first_seq);
        self.cursor = Some(first.unwrap_or(self.next_seq));
        dropped
    }

    /// Ends writing if the cursor stands between two groups of pictures. Returns whether it did.
    pub fn stop(&mut self) -> bool {
        let Some(cursor) = self.cursor else { return true };
        let inside = self.gops.iter().any(|g| g.holds_inside(cursor));
        if !inside {
            self.cursor = None;
        }
        !inside
    }

    /// Whether the writer reads.
    pub fn is_writing(&self) -> bool {
        self.cursor.is_some()
    }

    /// The next frames for the writer, with their sequence numbers, up to about `max_bytes`. They stay in the ring.
    pub fn take(&mut self, max_bytes: usize) -> Vec<(u64, Arc<Frame>)> {
        self.take_before(u64::MAX, max_bytes)
    }

    /// As [`Self::take`], for a writer that is to stop: only the rest of the group that it is in. Without this it would
    /// be inside the next group already whenever it looks, because the key frame that closes a group opens the next.
    pub fn take_rest(&mut self, max_bytes: usize) -> Vec<(u64, Arc<Frame>)> {
        let inside = |cursor: &u64| self.gops.iter().find(|g| g.holds_inside(*cursor));
        let end = self.cursor.as_ref().and_then(inside).map_or(0, Gop::end_seq);
        self.take_before(end, max_bytes)
    }

    fn take_before(&mut self, end: u64, max_bytes: usize) -> Vec<(u64, Arc<Frame>)> {
        let Some(start) = self.cursor else {
            return Vec::new();
        };
        let mut cursor = start;
        let mut taken = Vec::new();
        let mut bytes = 0;
        'all: for gop in self.gops.iter().filter(|g| g.end_seq() > start) {
            for (seq, frame) in gop.from(start) {
                if bytes >= max_bytes || seq >= end {
                    break 'all;
                }
                bytes += frame.cost();
                cursor = seq + 1;
                taken.push((seq, Arc::clone(frame)));
            }
        }
        self.cursor = Some(cursor);
        taken
    }

    /// The own write of the frames `from..end` was synced.
    pub fn durable(&mut self, from: u64, end: u64) {
        for gop in self
            .gops
            .iter_mut()
            .filter(|g| g.first_seq < end && g.end_seq() > from)
        {
            gop.written(from, end);
        }
    }

    /// The volume refused what was taken: the writer will begin again, as by [`Self::start`].
    #[must_use]
    pub fn rewind(&mut self) -> Option<Dropped> {
        self.cursor.and_then(|_| self.start())
    }

    /// The frame `seq` can never be written: its group leaves. Returns what is lost with it, from that frame on. The
    /// writer goes on after the group.
    pub fn discard(&mut self, seq: u64) -> Option<Dropped> {
        let holds = |g: &Gop| (g.first_seq..g.end_seq()).contains(&seq);
        let Some(gop) = self.gops.iter().position(holds).and_then(|i| self.remove(i)) else {
            return self.rewind();
        };
        self.skip_to_key |= !gop.closed;
        self.cursor = self.cursor.map(|_| gop.end_seq());
        gop.lost_from(seq)
    }

    /// Notes a whole received group of pictures that is durable here, and matches it. One from long before all that is
    /// here, as a peer sends it when it fills a volume again, has no twin and must not push others out.
    pub fn received(&mut self, gop: WholeGop) {
        let oldest = self.gops.iter().map(Gop::start_us).min();
        if oldest.is_some_and(|at| gop.start_us < at - matching::WINDOW_US) {
            return;
        }
        self.received.add(gop);
        self.match_received();
    }

    fn match_received(&mut self) {
        let open: Vec<_> = self.gops.iter().map(Gop::candidate).collect();
        for index in self.received.matches(&open) {
            self.gops[index].by_peer = true;
        }
    }

    /// One step towards the cap: a durable group, else the durable head of the group being written, else the oldest
    /// whole group.
    fn make_room(&mut self) -> Option<Dropped> {
        if let Some(index) = self.gops.iter().position(Gop::is_durable) {
            self.remove(index);
            return None;
        }
        if let Some(gop) = self.gops.iter_mut().find(|g| g.can_release(self.cursor)) {
            self.bytes -= gop.release();
            return None;
        }
        let was_open = self.gops.front().is_some_and(|g| !g.closed);
        let gop = self.remove(0)?;
        self.skip_to_key |= was_open;
        gop.lost()
    }

    fn remove(&mut self, index: usize) -> Option<Gop> {
        let gop = self.gops.remove(index)?;
        self.bytes -= gop.bytes;
        Some(gop)
    }
}
