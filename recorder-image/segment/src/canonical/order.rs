//! In which order what was chosen is played.
//!
//! Each store's groups keep the order in which they were written: by run, and by media time in it, whatever its wall clock
//! did meanwhile. Groups that two stores have hold their orders together; where nothing does, wall clock decides.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use uuid::Uuid;

use super::matching::Matched;
use super::{Chosen, Gop, Holding, lacks_nothing, unlike};

/// Chooses of each cluster, and puts the choices in order; `from_us` is where the time begins that is asked for.
pub(super) fn of(gops: Vec<Gop>, matched: &Matched, from_us: i64) -> Vec<Chosen> {
    let order = played(&gops, &matched.clusters);
    let mut gops: Vec<Option<Gop>> = gops.into_iter().map(Some).collect();
    let mut out: Vec<Chosen> = Vec::with_capacity(order.len());
    for cluster in order {
        let copies = matched.clusters[cluster].iter();
        let copies = copies.filter_map(|i| Some((matched.reach(*i), gops[*i].take()?)));
        if let Some(next) = best(copies.collect()) {
            out.push(next);
        }
    }
    let mut out = unlike::settle(out, matched, from_us);
    for i in 1..out.len() {
        out[i].follows = follows(&out[i - 1], &out[i]);
    }
    out
}

/// Of copies, each with how far it reaches where a key frame was lost in it.
fn best(group: Vec<(Option<usize>, Gop)>) -> Option<Chosen> {
    let (copies, holdings) = (group.len(), holdings(&group));
    let (_, gop) = group
        .into_iter()
        .max_by(|(a, one), (b, other)| one.rank(*a).cmp(&other.rank(*b)))?;
    Some(Chosen {
        gop,
        copies,
        holdings,
        follows: false,
        seam_us: None,
    })
}

fn holdings(group: &[(Option<usize>, Gop)]) -> Vec<Holding> {
    let mut out: Vec<Holding> = Vec::new();
    for (reach, gop) in group {
        let held = Holding {
            store: gop.id.store,
            run: gop.run,
            frames: reach.unwrap_or(gop.frames()),
            start_us: gop.start_us,
            dts: (gop.dts, gop.end_dts()),
            paused: gop.paused,
        };
        match out.iter_mut().find(|h| h.store == held.store) {
            Some(known) if known.frames < held.frames => *known = held,
            Some(_) => {}
            None => out.push(held),
        }
    }
    out
}

/// Whether one writer has both, without a hole between them.
fn follows(before: &Chosen, next: &Chosen) -> bool {
    let leads = |a: &Holding, b: &Holding| {
        (a.store, a.run) == (b.store, b.run) && lacks_nothing(b.dts.0 - a.dts.1, b.paused)
    };
    before
        .holdings
        .iter()
        .any(|a| next.holdings.iter().any(|b| leads(a, b)))
}

/// The clusters in the order of play: each after those that a store has before it, else by wall clock.
fn played(gops: &[Gop], clusters: &[Vec<usize>]) -> Vec<usize> {
    let (mut after, mut waits) = (vec![Vec::new(); clusters.len()], vec![0_usize; clusters.len()]);
    for line in lines(gops, clusters) {
        for step in line.windows(2) {
            after[step[0]].push(step[1]);
            waits[step[1]] += 1;
        }
    }
    let times: Vec<i64> = clusters.iter().map(|c| start_us(gops, c)).collect();
    let mut rest: Vec<usize> = (0..clusters.len()).collect();
    rest.sort_by_key(|c| (times[*c], *c));
    let first = rest.iter().filter(|c| waits[**c] == 0);
    let mut ready: BinaryHeap<_> = first.map(|c| Reverse((times[*c], *c))).collect();
    let mut rest = rest.into_iter();
    let (mut done, mut out) = (vec![false; clusters.len()], Vec::with_capacity(clusters.len()));
    loop {
        // Where two stores contradict each other nothing is ready: then the earliest goes on.
        let next = ready.pop().map(|Reverse((_, c))| c);
        let Some(next) = next.or_else(|| rest.find(|c| !done[*c])) else {
            return out;
        };
        if std::mem::replace(&mut done[next], true) {
            continue;
        }
        out.push(next);
        for &c in &after[next] {
            waits[c] -= 1;
            if waits[c] == 0 {
                ready.push(Reverse((times[c], c)));
            }
        }
    }
}

/// The wall clock by which a cluster is played.
fn start_us(gops: &[Gop], cluster: &[usize]) -> i64 {
    let copies = cluster.iter().map(|i| &gops[*i]);
    let best = copies.max_by(|a, b| a.rank(None).cmp(&b.rank(None)));
    best.map_or(0, |g| g.start_us)
}

/// Where a group stands in what its store wrote: run, media time, and its cluster.
type Placed = ((i64, u64, u64), i64, usize);

/// For each store the clusters that it has, in the order in which it wrote them.
fn lines(gops: &[Gop], clusters: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let runs = Runs::of(gops);
    let mut stores: BTreeMap<Uuid, Vec<Placed>> = BTreeMap::new();
    for (c, cluster) in clusters.iter().enumerate() {
        for gop in cluster.iter().map(|i| &gops[*i]) {
            let place = (runs.place(gop), gop.dts, c);
            stores.entry(gop.id.store).or_default().push(place);
        }
    }
    let sorted = |mut line: Vec<Placed>| {
        line.sort_unstable();
        let mut line: Vec<usize> = line.into_iter().map(|(.., c)| c).collect();
        line.dedup();
        line
    };
    stores.into_values().map(sorted).collect()
}

/// Where the runs of each store stand: by the start of their incarnation, whose number is random, and by their first
/// segment in it.
struct Runs {
    incarnations: BTreeMap<(Uuid, u64), (u64, u64, i64)>,
    first: BTreeMap<(Uuid, Uuid), u64>,
}

impl Runs {
    fn of(gops: &[Gop]) -> Self {
        let (mut incarnations, mut first) = (BTreeMap::new(), BTreeMap::new());
        for gop in gops {
            let id = &gop.id;
            let begun = (id.sequence, gop.offset, gop.start_us);
            let known = incarnations.entry((id.store, id.incarnation)).or_insert(begun);
            *known = begun.min(*known);
            let known = first.entry((id.store, gop.run)).or_insert(id.sequence);
            *known = id.sequence.min(*known);
        }
        Self { incarnations, first }
    }

    fn place(&self, gop: &Gop) -> (i64, u64, u64) {
        let incarnation = gop.id.incarnation;
        let begun = self.incarnations.get(&(gop.id.store, incarnation));
        let first = self.first.get(&(gop.id.store, gop.run));
        (begun.map_or(0, |b| b.2), incarnation, first.copied().unwrap_or(0))
    }
}
