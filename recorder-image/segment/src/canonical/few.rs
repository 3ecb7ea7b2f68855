//! Groups of which a member has the beginning, and behind that what came after a loss: a session that stood still goes on
//! within a later group. Its own frames of the group are no more than those before the loss.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::Gop;
use super::matching::Pair;
use crate::hash::FrameHash;

/// Which copies have only the beginning of their group: (index, frames of the group).
pub(super) type Beginnings = Vec<(usize, usize)>;

/// Of pairs that have little more than their key frame in common, those of which one is the beginning of the other: every frame that
/// the other one lacks is in a later group of the other one's store. So whatever is not played of it is played later. `written` has
/// all copies that one writer made of the same frames, the best first, by which a pair names them.
pub(super) fn beginnings(gops: &[Gop], written: &[Vec<usize>], pairs: Vec<Pair>) -> Vec<(Pair, Beginnings)> {
    if pairs.is_empty() {
        return Vec::new();
    }
    let copies: HashMap<usize, &[usize]> = written.iter().map(|all| (all[0], &all[..])).collect();
    let both = |p: &Pair| [(p.a, p.b), (p.b, p.a)];
    let rests = pairs.iter().flat_map(both).flat_map(|(few, whole)| {
        let rests = copies[&few]
            .iter()
            .flat_map(move |copy| rest(&gops[*copy], &gops[whole]).1);
        rests.map(move |hash| (gops[whole].id.store, *hash))
    });
    let latest = latest(gops, rests.collect());
    let cut = |(few, whole): (usize, usize)| -> Option<Beginnings> {
        let (whole, mut found) = (&gops[whole], Beginnings::new());
        for copy in copies[&few] {
            let (at, rest) = rest(&gops[*copy], whole);
            let later = |hash: &FrameHash| {
                let start_us = latest.get(&(whole.id.store, *hash)).copied().flatten();
                start_us.is_some_and(|us| us > whole.start_us)
            };
            if !rest.iter().all(later) {
                return None;
            }
            found.extend((!rest.is_empty()).then_some((*copy, at)));
        }
        Some(found)
    };
    let proven = |pair: Pair| {
        let [one, other] = both(&pair).map(cut);
        // If each is the beginning of the other, pictures repeat, and nothing is known.
        let found = one.xor(other)?;
        Some((pair, found))
    };
    pairs.into_iter().filter_map(proven).collect()
}

/// How many frames `few` begins with that `whole` has too, and the frames after them.
fn rest<'a>(few: &'a Gop, whole: &Gop) -> (usize, &'a [FrameHash]) {
    let has: HashSet<&FrameHash> = whole.hashes.iter().collect();
    let at = few.hashes.iter().position(|hash| !has.contains(hash));
    let at = at.unwrap_or(few.hashes.len());
    (at, &few.hashes[at..])
}

/// When the latest group of a store begins that has a frame, microseconds since the Unix epoch; of these frames.
fn latest(gops: &[Gop], frames: HashSet<(Uuid, FrameHash)>) -> HashMap<(Uuid, FrameHash), Option<i64>> {
    let mut latest: HashMap<_, Option<i64>> = frames.into_iter().map(|frame| (frame, None)).collect();
    for gop in gops {
        for hash in &gop.hashes {
            if let Some(known) = latest.get_mut(&(gop.id.store, *hash)) {
                *known = (*known).max(Some(gop.start_us));
            }
        }
    }
    latest
}
