//! Which copy of a group of pictures is played. Pure: it needs no authority, only the catalogue.
//!
//! `matching` and `few` say which groups of different stores are the same pictures, `order` in which order they are played,
//! `unlike` what of two encodes of one time is.
//! Of the same pictures the copy with most frames is played; among those one before another that lost the next key frame, a complete
//! one before one whose end is not known, an owner's before another's, the higher (pair epoch, stream epoch), and last the lower store id.

mod few;
mod matching;
mod order;
#[cfg(test)]
mod tests;
pub(crate) mod unlike;

use std::cmp::Reverse;

use uuid::Uuid;

use crate::copy::Copy;
use crate::entry::Fragment;
use crate::hash::FrameHash;
use crate::header::Header;
use crate::id::SegmentId;
use crate::sabotage::{Invariant::I1, breaks};

/// How far apart two copies of the same pictures may begin, microseconds.
pub const WINDOW_US: i64 = 2_000_000;

/// The most that a playlist has in one entry, 1/90000 s.
pub const PART: u64 = 900_000;

/// How much later than it should the next fragment of a run may begin without a hole between them, 1/90000 s. A writer that
/// waits for a frame gives the one before its usual duration; when the next came, it would have believed so much. What
/// was lost meanwhile is in the ledger.
pub(crate) const PAUSE: i64 = 90_000;

/// Whether nothing is missing in a pause of this length before a fragment or group, whose writer knows so of one of `paused`.
fn lacks_nothing(pause: i64, paused: u32) -> bool {
    (0..PAUSE).contains(&pause) || pause == i64::from(paused)
}

/// A place between two fragments of a long group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where the fragment after it begins in the file, bytes.
    pub offset: u64,
    /// The duration of the group up to there, 1/90000 s.
    pub at: u64,
    /// For how long nothing came then although nothing was lost, 1/90000 s, if that was long.
    pub pause: u64,
}

/// One copy of a group of pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gop {
    /// The segment that it is in.
    pub id: SegmentId,
    /// The run.
    pub run: Uuid,
    /// Where it begins in the file, bytes.
    pub offset: u64,
    /// Its length, bytes.
    pub len: u64,
    /// Wall clock of its first frame, microseconds since the Unix epoch.
    pub start_us: i64,
    /// Decoding time of its first frame in the run, 1/90000 s.
    pub dts: i64,
    /// Its duration, 1/90000 s.
    pub duration: u64,
    /// How long after the group before it in the run it begins although nothing was lost between, 1/90000 s; 0 where that is not known.
    pub paused: u32,
    /// The hash of every frame.
    pub hashes: Vec<FrameHash>,
    /// How many frames it has where their hashes were not read: it is a whole segment, and no other copy is of its time.
    pub unread: Option<usize>,
    /// Where a group that is longer than [`PART`], or pauses, is cut for a playlist.
    pub cuts: Vec<Cut>,
    /// Whether the next key frame followed in the same run.
    pub complete: bool,
    /// The pair's epoch at the segment's opening.
    pub pair_epoch: u64,
    /// The stream's epoch at the segment's opening.
    pub stream_epoch: u64,
    /// Whether the writer owned the stream then.
    pub owner: bool,
}

impl Gop {
    pub(crate) fn begin(header: &Header, fragment: &Fragment, hashes: Vec<FrameHash>) -> Self {
        Self {
            id: header.id.clone(),
            run: header.run,
            offset: fragment.offset,
            len: u64::from(fragment.len),
            start_us: fragment.start_us,
            dts: fragment.dts,
            duration: fragment.duration,
            paused: fragment.paused,
            hashes,
            unread: None,
            cuts: Vec::new(),
            complete: false,
            pair_epoch: header.pair_epoch,
            stream_epoch: header.stream_epoch,
            owner: header.owner,
        }
    }

    /// A whole segment instead of its groups.
    pub(crate) fn unread(copy: &Copy, followed: bool) -> Self {
        let Copy { header, extent, .. } = copy;
        Self {
            id: header.id.clone(),
            run: header.run,
            offset: copy.head_len,
            len: copy.length - copy.head_len,
            start_us: extent.start_us,
            dts: extent.dts.0,
            duration: (extent.dts.1 - extent.dts.0).cast_unsigned(),
            paused: extent.paused,
            hashes: Vec::new(),
            unread: Some(extent.frames as usize),
            cuts: Vec::new(),
            complete: followed,
            pair_epoch: header.pair_epoch,
            stream_epoch: header.stream_epoch,
            owner: header.owner,
        }
    }

    /// How many frames it has.
    pub fn frames(&self) -> usize {
        self.unread.unwrap_or(self.hashes.len())
    }

    pub(crate) fn extend(&mut self, fragment: &Fragment, hashes: Vec<FrameHash>) {
        // Before a pause a writer does not know how long a frame is shown.
        let pause = fragment.dts - self.end_dts();
        let shown = if lacks_nothing(pause, fragment.paused) {
            pause
        } else {
            0
        };
        let at = self.duration + shown.cast_unsigned();
        let part = at.saturating_sub(self.cuts.last().map_or(0, |cut| cut.at + cut.pause));
        let paused = shown >= PAUSE;
        if paused || part + fragment.duration > PART {
            let (at, pause) = if paused {
                (self.duration, shown.cast_unsigned())
            } else {
                (at, 0)
            };
            self.cuts.push(Cut {
                offset: fragment.offset,
                at,
                pause,
            });
        }
        self.len += u64::from(fragment.len);
        self.duration = at + fragment.duration;
        self.hashes.extend(hashes);
    }

    /// Wall clock of its end, microseconds since the Unix epoch.
    pub fn end_us(&self) -> i64 {
        self.start_us + self.duration_us()
    }

    /// Its duration, microseconds.
    pub fn duration_us(&self) -> i64 {
        (self.duration * 100 / 9) as i64
    }

    /// Decoding time of its end in the run, 1/90000 s.
    fn end_dts(&self) -> i64 {
        self.dts + self.duration as i64
    }

    /// The mean duration of its frames, microseconds; at least 1.
    pub(crate) fn frame_us(&self) -> i64 {
        (self.duration_us() / self.frames().max(1) as i64).max(1)
    }

    /// Half of its mean frame, microseconds.
    fn half_frame_us(&self) -> i64 {
        self.frame_us() / 2
    }

    /// What is played first has the highest rank. `reach` is how many frames come before a key frame that was lost in it, if one was.
    fn rank(&self, reach: Option<usize>) -> impl Ord + use<'_> {
        let epochs = (self.pair_epoch, self.stream_epoch);
        let frames = reach.unwrap_or(self.frames());
        (
            if breaks(I1) { 0 } else { frames },
            reach.is_none(),
            self.complete,
            self.owner,
            epochs,
            Reverse((self.id.store, &self.id, self.offset)),
        )
    }
}

/// What one store has of a group of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The store that it was written to first.
    pub store: Uuid,
    /// Its run.
    pub run: Uuid,
    /// Frames of its longest copy, up to a key frame that was lost in it.
    pub frames: usize,
    /// Wall clock of its first frame by that writer's clock, microseconds since the Unix epoch.
    pub start_us: i64,
    /// Decoding times of its beginning and of its end in the run, 1/90000 s.
    pub dts: (i64, i64),
    /// [`Gop::paused`].
    pub paused: u32,
}

/// A group of pictures to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The copy to play.
    pub gop: Gop,
    /// How many copies there are of it, this one included.
    pub copies: usize,
    /// What each store has of it.
    pub holdings: Vec<Holding>,
    /// Whether a writer has it and the one before, without a hole between them.
    pub follows: bool,
    /// Where another encode of the camera goes on, because it sends the two members different bytes: for how long it shows
    /// what the one before shows, microseconds.
    pub seam_us: Option<i64>,
}

impl Chosen {
    /// Whether it shows a part of what the one before shows, in other bytes.
    pub fn overlaps(&self) -> bool {
        self.seam_us.is_some_and(|us| us > 0)
    }
}

/// Chooses among all copies of a stream's groups of pictures; the result is in the order in which it is played.
pub fn choose(gops: Vec<Gop>) -> Vec<Chosen> {
    choose_from(gops, i64::MIN)
}

/// Chooses among the copies of the groups of pictures that end after `from_us`, microseconds since the Unix epoch.
pub fn choose_from(gops: Vec<Gop>, from_us: i64) -> Vec<Chosen> {
    let matched = matching::of(&gops);
    order::of(gops, &matched, from_us)
}
