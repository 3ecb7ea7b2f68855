//! Parts of a stream's catalogue, taken under its lock, of which the groups of pictures are read later.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::canonical::{Gop, WINDOW_US};
use crate::catalogue::{Catalogue, Stream};
use crate::copy::{Copy, State};
use crate::error::Result;
use crate::hash::Root;
use crate::id::{SegmentId, StreamUid};
use crate::index::Index;

/// What of the copies has to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Every group of pictures.
    Groups,
    /// When something is recorded, and by whom: a sealed segment without a hole, within the time that is asked for and of whose time no
    /// other copy is, counts as one group. Its index is not read.
    Times,
}

/// A copy whose groups of pictures are to be read, as the catalogue knew it: whoever reads its index holds no lock meanwhile.
#[derive(Clone, Debug)]
pub struct Part {
    copy: Copy,
    /// Whether the same writer went on in the same run.
    followed: bool,
    /// Whether it counts as one group.
    whole: bool,
}

/// The groups of pictures of these copies that overlap the time from `from_us` to `to_us`. `read` gets the index of a sealed segment, as
/// [`crate::Volume::index`] does; it has none where the segment left meanwhile.
///
/// # Errors
/// Those of `read`.
pub fn gops(
    parts: Vec<Part>,
    (from_us, to_us): (i64, i64),
    read: impl Fn(&SegmentId, &Root) -> Result<Option<Index>>,
) -> Result<Vec<Gop>> {
    let mut found = Vec::new();
    for Part {
        copy,
        followed,
        whole,
    } in parts
    {
        if whole {
            found.push(Gop::unread(&copy, followed));
            continue;
        }
        let index = copy.index(&read)?.unwrap_or_default();
        let gops = index.gops(&copy.header, followed).into_iter();
        found.extend(gops.filter(|gop| gop.start_us < to_us && gop.end_us() > from_us));
    }
    Ok(found)
}

impl Catalogue {
    /// The copies of a stream that overlap the time from `from_us` to `to_us`, for [`gops`].
    pub fn parts(&self, uid: StreamUid, (from_us, to_us): (i64, i64), detail: Detail) -> Vec<Part> {
        let Some(stream) = self.stream(uid) else {
            return Vec::new();
        };
        let whole = match detail {
            Detail::Groups => BTreeSet::new(),
            Detail::Times => alone(stream, (from_us, to_us)),
        };
        let overlaps = |c: &&Copy| c.start_us() < to_us && c.end_us() > from_us;
        let part = |copy: &Copy| Part {
            copy: copy.clone(),
            followed: is_followed(stream, copy),
            whole: whole.contains(copy.id()),
        };
        stream.copies.values().filter(overlaps).map(part).collect()
    }
}

/// How far copies of one writer may overlap that come one after the other, microseconds: their wall clock is rounded.
const ROUNDED_US: i64 = 20_000;

/// The sealed segments without a hole that lie within a time, and of whose time no other copy is.
fn alone(stream: &Stream, (from_us, to_us): (i64, i64)) -> BTreeSet<&SegmentId> {
    let (first_us, last_us) = (from_us.saturating_sub(WINDOW_US), to_us.saturating_add(WINDOW_US));
    let near = |c: &&Copy| c.start_us() < last_us && c.end_us() > first_us;
    let mut copies: Vec<&Copy> = stream.copies.values().filter(near).collect();
    copies.sort_by_key(|copy| copy.start_us());
    let mut beside = vec![false; copies.len()];
    for (a, copy) in copies.iter().enumerate() {
        let later = copies.iter().enumerate().skip(a + 1);
        for (b, other) in later.take_while(|(_, other)| other.start_us() < copy.end_us() + WINDOW_US) {
            let apart = copy.id().store != other.id().store;
            if apart || other.start_us() + ROUNDED_US < copy.end_us() {
                (beside[a], beside[b]) = (true, true);
            }
        }
    }
    let within = |c: &Copy| c.start_us() >= from_us && c.end_us() <= to_us;
    let alone = copies.into_iter().zip(beside).filter(|(_, beside)| !beside);
    let whole = alone.filter(|(c, _)| c.state == State::Sealed && c.extent.is_whole() && within(c));
    whole.map(|(copy, _)| copy.id()).collect()
}

/// Whether the writer of `copy` went on in the same run with the next segment of the stream. Numbers of segments are shared
/// by all streams of an incarnation, so the next one is not always one higher.
fn is_followed(stream: &Stream, copy: &Copy) -> bool {
    let id = copy.id();
    let same_writer = |next: &SegmentId| {
        (next.store, &next.member, next.incarnation) == (id.store, &id.member, id.incarnation)
    };
    let later = stream.copies.range((Bound::Excluded(id), Bound::Unbounded));
    let next = later
        .take_while(|(next, _)| same_writer(next))
        .map(|(_, next)| next)
        .find(|next| next.extent.frames > 0);
    next.is_some_and(|next| next.header.run == copy.header.run && next.extent.dts.0 == copy.extent.dts.1)
}
