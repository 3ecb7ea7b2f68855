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
    let side = |few: usize, whole: usize| Side {
        whole: &gops[whole],
        copies: copies[&few]
            .iter()
            .map(|copy| Copy::of(gops, *copy, &gops[whole]))
            .collect(),
    };
    let with_sides = |pair: Pair| {
        let sides = [side(pair.a, pair.b), side(pair.b, pair.a)];
        (pair, sides)
    };
    let pairs: Vec<(Pair, [Side<'_>; 2])> = pairs.into_iter().map(with_sides).collect();
    let rests = pairs.iter().flat_map(|(_, sides)| sides).flat_map(Side::rests);
    let latest = latest(gops, rests.collect());
    let proven = |(pair, sides): (Pair, [Side<'_>; 2])| {
        let [one, other] = sides.map(|side| side.beginnings(&latest));
        // If each is the beginning of the other, pictures repeat, and nothing is known.
        Some((pair, one.xor(other)?))
    };
    pairs.into_iter().filter_map(proven).collect()
}

/// One group of a pair, as if it were the beginning of the other one.
struct Side<'a> {
    whole: &'a Gop,
    copies: Vec<Copy<'a>>,
}

impl Side<'_> {
    /// The frames that the other group lacks, as those of its store.
    fn rests(&self) -> impl Iterator<Item = (Uuid, FrameHash)> {
        let rests = self.copies.iter().flat_map(|copy| copy.rest);
        rests.map(|hash| (self.whole.id.store, *hash))
    }

    /// What its copies have of the other group, if all that they have besides is in later groups of that store.
    fn beginnings(&self, latest: &HashMap<(Uuid, FrameHash), i64>) -> Option<Beginnings> {
        let are_later = self.rests().all(|frame| latest[&frame] > self.whole.start_us);
        let shorter = self.copies.iter().filter(|copy| !copy.rest.is_empty());
        are_later.then(|| shorter.map(|copy| (copy.index, copy.frames)).collect())
    }
}

/// A copy of a group that may be the beginning of another.
struct Copy<'a> {
    index: usize,
    /// How many frames it begins with that the other group has too.
    frames: usize,
    /// The frames after them.
    rest: &'a [FrameHash],
}

impl<'a> Copy<'a> {
    fn of(gops: &'a [Gop], index: usize, whole: &Gop) -> Self {
        let hashes = &gops[index].hashes;
        let has: HashSet<&FrameHash> = whole.hashes.iter().collect();
        let lacking = hashes.iter().position(|hash| !has.contains(hash));
        let frames = lacking.unwrap_or(hashes.len());
        Self {
            index,
            frames,
            rest: &hashes[frames..],
        }
    }
}

/// When the latest group of a store begins that has a frame, microseconds since the Unix epoch; of these frames. Before all time
/// where it has none.
fn latest(gops: &[Gop], frames: HashSet<(Uuid, FrameHash)>) -> HashMap<(Uuid, FrameHash), i64> {
    let mut latest: HashMap<_, i64> = frames.into_iter().map(|frame| (frame, i64::MIN)).collect();
    for gop in gops {
        for hash in &gop.hashes {
            if let Some(known) = latest.get_mut(&(gop.id.store, *hash)) {
                *known = gop.start_us.max(*known);
            }
        }
    }
    latest
}
