//! Which groups of pictures are the same.
//!
//! Two groups of one store are the same only if they begin with the same frame of the same run (a writer that had to write
//! again). Groups of two stores are the same if their key frames are, and at least half of the frames of the shorter one,
//! and they begin within 2 s of wall clock: a frame that one member missed, or a writer that died, does not part them.
//! Static scenes repeat hashes, so a group may have more than one candidate. Then the one with most frames in common is
//! taken; else the nearest in time, by the difference of the two clocks that the unambiguous pairs of the two runs show.
//! No two groups of one store are ever the same by their hashes.
//! A member that lost much at once has few frames of a group, and behind them what came after the loss (`few`). Such a group is the
//! same as one with its key frame that begins at the same time, where the difference of the two clocks is known.
//!
//! A member that lost a key frame has what follows it in the group before. Another's copy of that group ends earlier, and its next
//! group begins with the frame that is lost here: so it is known how far the longer copy reaches.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::few::{Beginnings, beginnings};
use super::{Gop, WINDOW_US};
use crate::hash::FrameHash;

/// How far an ambiguous pair may be from the difference of the two clocks, at least, microseconds.
const JITTER_US: i64 = 250_000;

/// How many tenths of the shorter of two groups both have, if they are the same by their frames alone.
const HALF: usize = 5;

/// Two runs, the lower first.
type Runs = (Uuid, Uuid);

/// What is the same.
#[derive(Debug, Default)]
pub(super) struct Matched {
    /// The indices of the groups that are the same pictures, by start.
    pub(super) clusters: Vec<Vec<usize>>,
    /// How many frames of a group come before a key frame that was lost in it, where one was.
    reach: HashMap<usize, usize>,
    /// Runs that have pictures in common: the camera sends both the same bytes.
    alike: HashSet<Runs>,
}

impl Matched {
    /// How many frames of this group come before a key frame that was lost in it, if one was.
    pub(super) fn reach(&self, gop: usize) -> Option<usize> {
        self.reach.get(&gop).copied()
    }

    /// Whether the camera sends two runs the same bytes.
    pub(super) fn alike(&self, a: Uuid, b: Uuid) -> bool {
        self.alike.contains(&(a.min(b), a.max(b)))
    }
}

fn runs(a: &Gop, b: &Gop) -> Runs {
    (a.run.min(b.run), a.run.max(b.run))
}

/// Two groups that may be the same.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) a: usize,
    pub(super) b: usize,
    /// Tenths of the shorter one that both have.
    common: usize,
    /// How much later the group of the higher run begins, microseconds.
    apart_us: i64,
    /// Whether neither has another candidate in the other's store.
    certain: bool,
}

/// Matches the groups.
pub(super) fn of(gops: &[Gop]) -> Matched {
    let written = rewritten(gops);
    let (mut pairs, mut faint) = pairs(gops, &written);
    let clocks = clocks(gops, &pairs);
    let off_us = |p: &Pair| {
        let clock = clocks.get(&runs(&gops[p.a], &gops[p.b]));
        (p.apart_us - clock.copied().unwrap_or(0)).abs()
    };
    pairs.retain(|p| {
        let shorter_us = gops[p.a].duration_us().min(gops[p.b].duration_us());
        let known = clocks.contains_key(&runs(&gops[p.a], &gops[p.b]));
        p.certain || !known || off_us(p) <= JITTER_US.max(shorter_us / 2)
    });
    faint.retain(|p| {
        let longer_us = gops[p.a].duration_us().max(gops[p.b].duration_us());
        let known = clocks.contains_key(&runs(&gops[p.a], &gops[p.b]));
        known && off_us(p) <= JITTER_US.min(longer_us / 2)
    });
    let alone = |pair: Pair| (pair, Beginnings::new());
    let mut pairs: Vec<(Pair, Beginnings)> = pairs.into_iter().map(alone).collect();
    pairs.extend(beginnings(gops, &written, faint));
    pairs.sort_by_key(|(p, _)| (Reverse(p.common), off_us(p), p.a, p.b));
    join(gops, written, pairs)
}

/// Copies that one writer made of the same frames, in the order of time; the best copy first.
fn rewritten(gops: &[Gop]) -> Vec<Vec<usize>> {
    let mut same: BTreeMap<(Uuid, Uuid, i64), Vec<usize>> = BTreeMap::new();
    for (i, gop) in gops.iter().enumerate() {
        same.entry((gop.id.store, gop.run, gop.dts)).or_default().push(i);
    }
    let mut out: Vec<Vec<usize>> = same.into_values().collect();
    for copies in &mut out {
        copies.sort_by(|a, b| gops[*b].rank(None).cmp(&gops[*a].rank(None)));
    }
    out.sort_by_key(|copies| {
        let first = &gops[copies[0]];
        (first.start_us, &first.id, first.offset)
    });
    out
}

/// All pairs of `written` (by their indices in it) that may be the same by their frames, and those that have little more than the
/// key frame in common.
fn pairs(gops: &[Gop], written: &[Vec<usize>]) -> (Vec<Pair>, Vec<Pair>) {
    let mut by_key: HashMap<FrameHash, Vec<usize>> = HashMap::new();
    let (mut out, mut faint): (Vec<Pair>, Vec<Pair>) = (Vec::new(), Vec::new());
    for (b, copies) in written.iter().enumerate() {
        let later = &gops[copies[0]];
        let Some(key) = later.hashes.first() else {
            continue;
        };
        let same_key = by_key.entry(*key).or_default();
        for &a in same_key.iter().rev() {
            let earlier = &gops[written[a][0]];
            if later.start_us - earlier.start_us > WINDOW_US {
                break;
            }
            if earlier.id.store == later.id.store {
                continue;
            }
            let common = common(&earlier.hashes, &later.hashes);
            let apart_us = later.start_us - earlier.start_us;
            let like = if common < HALF { &mut faint } else { &mut out };
            like.push(Pair {
                a: written[a][0],
                b: copies[0],
                common,
                apart_us: if earlier.run < later.run {
                    apart_us
                } else {
                    -apart_us
                },
                certain: true,
            });
        }
        same_key.push(b);
    }
    mark_certain(gops, &mut out);
    (out, faint)
}

fn mark_certain(gops: &[Gop], pairs: &mut [Pair]) {
    let mut candidates: HashMap<(usize, Uuid), usize> = HashMap::new();
    for p in &*pairs {
        *candidates.entry((p.a, gops[p.b].id.store)).or_default() += 1;
        *candidates.entry((p.b, gops[p.a].id.store)).or_default() += 1;
    }
    for p in pairs {
        let keys = [(p.a, gops[p.b].id.store), (p.b, gops[p.a].id.store)];
        p.certain = keys.iter().all(|k| candidates.get(k) == Some(&1));
    }
}

/// How many tenths of the shorter of two lists are in the other too.
fn common(a: &[FrameHash], b: &[FrameHash]) -> usize {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if short.is_empty() || short == &long[..short.len()] {
        return 10;
    }
    let long: BTreeSet<&FrameHash> = long.iter().collect();
    short.iter().filter(|h| long.contains(h)).count() * 10 / short.len()
}

/// How much later the clock of the higher run is, by the certain pairs: their median.
fn clocks(gops: &[Gop], pairs: &[Pair]) -> HashMap<Runs, i64> {
    let mut seen: HashMap<Runs, Vec<i64>> = HashMap::new();
    for p in pairs.iter().filter(|p| p.certain) {
        seen.entry(runs(&gops[p.a], &gops[p.b]))
            .or_default()
            .push(p.apart_us);
    }
    let median = |(runs, mut apart): (Runs, Vec<i64>)| {
        apart.sort_unstable();
        (runs, apart[apart.len() / 2])
    };
    seen.into_iter().map(median).collect()
}

/// Runs that have a key frame in common, at whatever time: their clocks may be far apart, but their bytes are the same.
fn same_keys(gops: &[Gop]) -> HashSet<Runs> {
    let mut by_key: HashMap<FrameHash, BTreeSet<Uuid>> = HashMap::new();
    for gop in gops {
        if let Some(key) = gop.hashes.first() {
            by_key.entry(*key).or_default().insert(gop.run);
        }
    }
    let pairs = |same: &BTreeSet<Uuid>| {
        let same: Vec<Uuid> = same.iter().copied().collect();
        let with_later = |i: usize| same[i + 1..].iter().map(|b| (same[i], *b)).collect::<Vec<Runs>>();
        (0..same.len()).flat_map(with_later).collect::<Vec<Runs>>()
    };
    by_key.values().flat_map(pairs).collect()
}

/// Joins the pairs, the best first; a cluster never has two groups of one store.
fn join(gops: &[Gop], written: Vec<Vec<usize>>, pairs: Vec<(Pair, Beginnings)>) -> Matched {
    let mut alike = same_keys(gops);
    let mut cluster_of: HashMap<usize, usize> = HashMap::new();
    let (mut clusters, mut few) = (written, Beginnings::new());
    for (i, copies) in clusters.iter().enumerate() {
        cluster_of.extend(copies.iter().map(|copy| (*copy, i)));
    }
    for (p, beginnings) in pairs {
        let (a, b) = (cluster_of[&p.a], cluster_of[&p.b]);
        let stores = |c: usize| clusters[c].iter().map(|i| gops[*i].id.store);
        if a == b || stores(a).any(|store| stores(b).any(|other| other == store)) {
            continue;
        }
        alike.insert(runs(&gops[p.a], &gops[p.b]));
        let (into, from) = (a.min(b), a.max(b));
        let moved = std::mem::take(&mut clusters[from]);
        cluster_of.extend(moved.iter().map(|copy| (*copy, into)));
        clusters[into].extend(moved);
        few.extend(beginnings);
    }
    clusters.retain(|c| !c.is_empty());
    let mut reach = reaches(gops, &clusters);
    for (copy, frames) in few {
        let known = reach.entry(copy).or_insert(frames);
        *known = frames.min(*known);
    }
    Matched {
        clusters,
        reach,
        alike,
    }
}

/// Where key frames were lost: see the module.
fn reaches(gops: &[Gop], clusters: &[Vec<usize>]) -> HashMap<usize, usize> {
    let of_cluster = |cluster: &Vec<usize>| {
        let pairs = cluster.iter().flat_map(|i| cluster.iter().map(move |j| (*i, *j)));
        let longer = |(i, j): &(usize, usize)| gops[*i].duration > gops[*j].duration;
        pairs.filter(longer).collect::<Vec<_>>()
    };
    let longer: Vec<(usize, usize)> = clusters.iter().flat_map(of_cluster).collect();
    if longer.is_empty() {
        return HashMap::new();
    }
    let places = gops.iter().map(|g| ((g.id.store, g.run, g.dts), g));
    let begins: HashMap<(Uuid, Uuid, i64), &Gop> = places.collect();
    let next = |g: &Gop| begins.get(&(g.id.store, g.run, g.end_dts())).copied();
    let lost = |(i, j): (usize, usize)| Some((i, reach(&gops[i], next(&gops[j])?)?));
    longer.into_iter().filter_map(lost).collect()
}

/// How many frames of `gop` come before those of `next`, whose key frame it lacks.
fn reach(gop: &Gop, next: &Gop) -> Option<usize> {
    let key = next.hashes.first()?;
    if gop.hashes.contains(key) || common(&gop.hashes, &next.hashes) < HALF {
        return None;
    }
    gop.hashes.iter().position(|hash| next.hashes.contains(hash))
}
