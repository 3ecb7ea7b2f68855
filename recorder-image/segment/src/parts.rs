//! Parts of a stream's catalogue, of which the groups of pictures are read later. Its lock is held for moments: first for when its
//! copies are, then for a few of them at a time.

use std::ops::Bound;

use crate::canonical::{Gop, WINDOW_US};
use crate::catalogue::{Catalogue, Stream};
use crate::copy::{Copy, State};
use crate::error::Result;
use crate::hash::Root;
use crate::id::{SegmentId, StreamUid};
use crate::index::Index;

/// How far copies of one writer may overlap that come one after the other, microseconds: their wall clock is rounded.
const ROUNDED_US: i64 = 20_000;

/// What of the copies has to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Every group of pictures.
    Groups,
    /// When something is recorded, and by whom: a sealed segment without a hole, within the time that is asked for and of whose time no
    /// other copy is, counts as one group. Its index is not read.
    Times,
}

/// When a copy is.
#[derive(Clone, Debug)]
pub struct Timed {
    id: SegmentId,
    start_us: i64,
    end_us: i64,
    /// Whether it is sealed and has no hole.
    whole: bool,
}

/// A copy of which something has to be known.
#[derive(Clone, Debug)]
pub struct Wanted {
    id: SegmentId,
    /// Whether it counts as one group.
    whole: bool,
    /// How long it is, where its groups are to be read, microseconds.
    pub read_us: i64,
}

/// A copy whose groups of pictures are to be read, as the catalogue knew it.
#[derive(Clone, Debug)]
pub struct Part {
    copy: Copy,
    /// Whether the same writer went on in the same run.
    followed: bool,
    /// Whether it counts as one group.
    whole: bool,
}

impl Catalogue {
    /// When the copies of a stream are that overlap the time from `from_us` to `to_us`, or nearly do.
    pub fn timed(&self, uid: StreamUid, (from_us, to_us): (i64, i64)) -> Vec<Timed> {
        let (first_us, last_us) = (from_us.saturating_sub(WINDOW_US), to_us.saturating_add(WINDOW_US));
        let copies = self.stream(uid).into_iter().flat_map(|s| s.copies.values());
        let near = copies.filter(|c| c.start_us() < last_us && c.end_us() > first_us);
        let timed = |copy: &Copy| Timed {
            id: copy.id().clone(),
            start_us: copy.start_us(),
            end_us: copy.end_us(),
            whole: copy.state == State::Sealed && copy.extent.is_whole(),
        };
        near.map(timed).collect()
    }

    /// What is wanted of the copies that overlap a time, at once: for who has the catalogue for itself.
    pub fn parts_of(&self, uid: StreamUid, span: (i64, i64), detail: Detail) -> Vec<Part> {
        self.parts(&wanted(self.timed(uid, span), span, detail))
    }

    /// The copies that are wanted, as far as they are still here, for [`gops`].
    pub fn parts(&self, wanted: &[Wanted]) -> Vec<Part> {
        let part = |wanted: &Wanted| {
            let stream = self.stream(wanted.id.stream)?;
            let copy = stream.copies.get(&wanted.id)?;
            Some(Part {
                copy: copy.clone(),
                followed: is_followed(stream, copy),
                whole: wanted.whole,
            })
        };
        wanted.iter().filter_map(part).collect()
    }
}

/// What has to be known of the copies that overlap the time from `from_us` to `to_us`, by identity. Pure.
pub fn wanted(mut copies: Vec<Timed>, (from_us, to_us): (i64, i64), detail: Detail) -> Vec<Wanted> {
    copies.sort_by_key(|copy| copy.start_us);
    let alone = match detail {
        Detail::Groups => vec![false; copies.len()],
        Detail::Times => alone(&copies),
    };
    let within = |c: &Timed| c.start_us >= from_us && c.end_us <= to_us;
    let overlaps = |c: &Timed| c.start_us < to_us && c.end_us > from_us;
    let wanted = copies.into_iter().zip(alone).filter(|(copy, _)| overlaps(copy));
    let wanted = wanted.map(|(copy, alone)| {
        let whole = alone && copy.whole && within(&copy);
        let lasts_us = copy.end_us.saturating_sub(copy.start_us);
        Wanted {
            whole,
            read_us: if whole { 0 } else { lasts_us },
            id: copy.id,
        }
    });
    let mut wanted: Vec<Wanted> = wanted.collect();
    wanted.sort_by(|a, b| a.id.cmp(&b.id));
    wanted
}

/// Whether each of these, which are in the order of their beginning, has its time for itself.
fn alone(copies: &[Timed]) -> Vec<bool> {
    let mut alone = vec![true; copies.len()];
    for (a, copy) in copies.iter().enumerate() {
        let until_us = copy.end_us.saturating_add(WINDOW_US);
        let later = copies.iter().enumerate().skip(a + 1);
        for (b, other) in later.take_while(|(_, other)| other.start_us < until_us) {
            let apart = copy.id.store != other.id.store;
            if apart || other.start_us.saturating_add(ROUNDED_US) < copy.end_us {
                (alone[a], alone[b]) = (false, false);
            }
        }
    }
    alone
}

impl Part {
    /// Its groups of pictures that overlap the time from `from_us` to `to_us`. `read` gets the index of a sealed segment, as
    /// [`crate::Volume::index`] does; it has none where the segment left meanwhile.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn gops(
        &self,
        (from_us, to_us): (i64, i64),
        read: impl FnOnce(&SegmentId, &Root) -> Result<Option<Index>>,
    ) -> Result<Vec<Gop>> {
        if self.whole {
            return Ok(vec![self.as_one()]);
        }
        let index = self.copy.index(read)?.unwrap_or_default();
        let gops = index.gops(&self.copy.header, self.followed).into_iter();
        Ok(gops
            .filter(|gop| gop.start_us < to_us && gop.end_us() > from_us)
            .collect())
    }

    /// All of it as one group of pictures, as far as the catalogue knows it.
    pub fn as_one(&self) -> Gop {
        Gop::unread(&self.copy, self.followed)
    }
}

/// The groups of pictures of these copies, as [`Part::gops`] has them.
///
/// # Errors
/// Those of `read`.
pub fn gops(
    parts: &[Part],
    span: (i64, i64),
    read: impl Fn(&SegmentId, &Root) -> Result<Option<Index>>,
) -> Result<Vec<Gop>> {
    let mut found = Vec::new();
    for part in parts {
        found.extend(part.gops(span, &read)?);
    }
    Ok(found)
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
