//! Which received groups of pictures are the ones in the ring.
//!
//! Two members see the same frames from one camera, so their slices hash alike. Static scenes repeat hashes, so a
//! whole group of pictures is compared, and it must lie within [`WINDOW_US`]. Where more than one group fits, nothing
//! is matched: the cost is a duplicate on disk, never a frame.

use std::collections::{HashMap, VecDeque};

use crate::local::{FrameMark, SegmentId};

/// How far apart the two members' wall clocks of one group may be, microseconds.
pub const WINDOW_US: i64 = 2_000_000;

/// How many unmatched received groups are remembered.
const REMEMBERED: usize = 256;
/// The most frames of one received group that are collected, before it is given up.
const MAX_FRAMES: usize = 36_000;
/// How many received segments of one stream may be open at once.
const MAX_OPEN: usize = 16;

/// A received group of pictures, whole and durable here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeGop {
    /// Wall clock of its key frame, microseconds since the Unix epoch.
    pub start_us: i64,
    /// The hashes of its frames.
    pub hashes: Vec<[u8; 16]>,
}

/// Collects the frames of received segments to whole groups.
#[derive(Debug, Default)]
pub struct Collector {
    open: HashMap<SegmentId, WholeGop>,
}

impl Collector {
    /// Frames of `id` became durable: returns the groups that they complete. A group is complete when the next key
    /// frame, or the seal, follows it.
    pub fn durable(&mut self, id: &SegmentId, frames: &[FrameMark]) -> Vec<WholeGop> {
        if self.open.len() >= MAX_OPEN && !self.open.contains_key(id) {
            self.open.clear();
        }
        let mut whole = Vec::new();
        for frame in frames {
            if frame.key {
                let next = WholeGop {
                    start_us: frame.wallclock_us,
                    hashes: vec![frame.hash],
                };
                whole.extend(self.open.insert(id.clone(), next));
            } else if let Some(gop) = self.open.get_mut(id)
                && gop.hashes.len() < MAX_FRAMES
            {
                gop.hashes.push(frame.hash);
            }
        }
        whole
    }

    /// The segment ended; `sealed` says that its last group is whole.
    pub fn ended(&mut self, id: &SegmentId, sealed: bool) -> Option<WholeGop> {
        self.open.remove(id).filter(|_| sealed)
    }
}

/// A group in the ring, as the matcher sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    /// Waits for a match: closed and not durable.
    pub(super) open: bool,
    /// Closed, durable or not: such a group makes a second one with the same hashes ambiguous.
    pub(super) closed: bool,
    pub(super) start_us: i64,
    pub(super) hashes: &'a [[u8; 16]],
}

impl Candidate<'_> {
    fn fits(&self, gop: &WholeGop) -> bool {
        self.closed && self.start_us.abs_diff(gop.start_us) <= WINDOW_US as u64 && self.hashes == gop.hashes
    }
}

/// Received groups that wait for their twin.
#[derive(Debug, Default)]
pub(super) struct Received {
    waiting: VecDeque<WholeGop>,
}

impl Received {
    pub(super) fn add(&mut self, gop: WholeGop) {
        if self.waiting.len() >= REMEMBERED {
            self.waiting.pop_front();
        }
        self.waiting.push_back(gop);
    }

    /// The indices of the candidates that have a twin; twins are used up.
    pub(super) fn matches(&mut self, ring: &[Candidate<'_>]) -> Vec<usize> {
        let mut found = Vec::new();
        self.waiting.retain(|gop| {
            let mut fitting = ring.iter().enumerate().filter(|(_, c)| c.fits(gop));
            match (fitting.next(), fitting.next()) {
                (Some((index, c)), None) => {
                    if c.open {
                        found.push(index);
                    }
                    false
                }
                (None, _) => true,
                // Ambiguous: used up unmatched, or it would match the other one once the first has left.
                (Some(_), Some(_)) => false,
            }
        });
        found
    }
}
