//! Which copies are duplicates, and what stays instead. Pure: the catalogue decides, so both members find the same.

use std::collections::BTreeSet;

use crate::canonical::{Gop, WINDOW_US, choose};
use crate::catalogue::Stream;
use crate::copy::{Copy, State};
use crate::id::SegmentId;

/// What is looked at before and after a duplicate, microseconds: what is played there must not change either.
pub const MARGIN_US: i64 = 10_000_000;

/// How much the difference of two clocks may change within a duplicate, microseconds.
const JITTER_US: i64 = 250_000;

/// The sealed copies that lie in the time of another store's, of which the newest that lies in their time was received after
/// `since_s` and until `until_s`, on the retention clock; with that time, the earliest first. What is still written is not settled.
pub fn due(stream: &Stream, since_s: i64, until_s: i64) -> Vec<(i64, SegmentId)> {
    let mut copies: Vec<&Copy> = stream.copies.values().collect();
    copies.sort_by_key(|copy| copy.start_us());
    let mut newest: Vec<i64> = copies.iter().map(|copy| received_s(copy)).collect();
    let mut beside = vec![false; copies.len()];
    for (a, copy) in copies.iter().enumerate() {
        let end_us = copy.end_us().saturating_add(WINDOW_US);
        let later = copies.iter().enumerate().skip(a + 1);
        for (b, other) in later.take_while(|(_, other)| other.start_us() < end_us) {
            let last_s = received_s(copy).max(received_s(other));
            let apart = copy.id().store != other.id().store;
            for i in [a, b] {
                newest[i] = newest[i].max(last_s);
                beside[i] |= apart;
            }
        }
    }
    let due = |i: &usize| {
        let copy = copies[*i];
        let in_time = newest[*i] > since_s && newest[*i] <= until_s;
        copy.state == State::Sealed && beside[*i] && in_time && !stream.pins.names(copy.id())
    };
    let mut found: Vec<(i64, SegmentId)> = (0..copies.len())
        .filter(due)
        .map(|i| (newest[i], copies[i].id().clone()))
        .collect();
    found.sort();
    found
}

/// When a copy was received; one that grows is yet to be.
fn received_s(copy: &Copy) -> i64 {
    if copy.state == State::Open {
        i64::MAX
    } else {
        copy.received_s
    }
}

/// The copies that hold every group of pictures of `duplicate` and are played in its stead, where playback is the same without
/// it; `gops` are those of its time and [`MARGIN_US`] around it, of all copies.
///
/// A group is held by another store's that begins with the very same frames, within 2 s. A static scene repeats hashes, and what is
/// ambiguous stays: neither store may have a second group that begins so, nor may the two clocks differ by more at one group than
/// at another. Where there is one group alone, they must not differ by half of it.
pub fn kept_instead_of(duplicate: &SegmentId, gops: &[Gop]) -> Option<Vec<SegmentId>> {
    let with = play(gops.to_vec());
    let without = play(gops.iter().filter(|gop| gop.id != *duplicate).cloned().collect());
    if with != without {
        return None;
    }
    let played: BTreeSet<(&SegmentId, u64)> = with.iter().map(|part| (&part.0, part.1)).collect();
    let own = || gops.iter().filter(|gop| gop.id == *duplicate);
    let holders: Vec<&Gop> = own()
        .map(|gop| holder(gop, gops, &played))
        .collect::<Option<_>>()?;
    let apart = own()
        .zip(&holders)
        .map(|(gop, holder)| holder.start_us - gop.start_us);
    let (least, most) = (apart.clone().min()?, apart.max()?);
    let certain = match own().next() {
        Some(alone) if holders.len() == 1 => most.abs() < alone.duration_us() / 2,
        _ => most - least <= JITTER_US,
    };
    let kept: BTreeSet<&SegmentId> = holders.iter().map(|holder| &holder.id).collect();
    certain.then(|| kept.into_iter().cloned().collect())
}

/// What is played of each group, and how it joins the one before.
type Played = (SegmentId, u64, bool, Option<i64>);

fn play(gops: Vec<Gop>) -> Vec<Played> {
    let played = choose(gops).into_iter();
    played
        .map(|chosen| (chosen.gop.id, chosen.gop.offset, chosen.follows, chosen.seam_us))
        .collect()
}

/// The one group that is played instead of `gop`.
fn holder<'a>(gop: &Gop, gops: &'a [Gop], played: &BTreeSet<(&SegmentId, u64)>) -> Option<&'a Gop> {
    let key = gop.hashes.first()?;
    let (mut stores, mut found) = (BTreeSet::new(), None);
    for other in gops.iter().filter(|other| other.hashes.first() == Some(key)) {
        if !stores.insert(other.id.store) {
            return None;
        }
        if other.id.store != gop.id.store && played.contains(&(&other.id, other.offset)) {
            found = Some(other);
        }
    }
    let near = |other: &&Gop| other.start_us.abs_diff(gop.start_us) <= WINDOW_US.cast_unsigned();
    found
        .filter(near)
        .filter(|other| other.hashes.starts_with(&gop.hashes))
}
