//! Which of two encodes of one time is played: a camera that sends each session other bytes leaves nothing to match.
//!
//! Then time decides, and a whole chain at once: what one writer has of one run without a hole. The chain that is played goes
//! on until it ends; what others have of its time stays in the recording and is not played. After its end the chain goes on
//! that lasts longer, from its group of pictures that holds that end: so one group at most is played twice, and none is
//! missing. Where more than one chain could go on, it is the owner's, the higher (pair epoch, stream epoch), the one with
//! more frames, last the lower store id. What was chosen before a chain's end does not depend on what comes after it.
//!
//! Runs that have pictures in common are never judged by time, neither are those of one store.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::matching::Matched;
use super::{Chosen, Gop};

/// A span of time, microseconds since the Unix epoch.
type Time = (i64, i64);

/// What one writer, or writers of the same pictures, have without a hole.
#[derive(Default)]
struct Chain {
    /// Its groups, in the order of play.
    items: Vec<usize>,
    /// Its time, without holes where its clock stepped.
    times: Vec<Time>,
    /// Which volumes and runs have it, and when.
    holders: Vec<(Time, BTreeSet<(Uuid, Uuid)>)>,
}

impl Chain {
    fn add(&mut self, item: usize, chosen: &Chosen) {
        self.items.push(item);
        let (start, end) = time(&chosen.gop);
        let holders = chosen.holdings.iter().map(|h| (h.store, h.run)).collect();
        match self.holders.last_mut() {
            Some(last) if last.1 == holders => last.0 = (last.0.0.min(start), last.0.1.max(end)),
            _ => self.holders.push(((start, end), holders)),
        }
        match self.times.last_mut() {
            Some(last) if (last.1 - start).abs() <= chosen.gop.half_frame_us() => last.1 = end,
            _ => self.times.push((start, end)),
        }
    }

    fn start_us(&self) -> i64 {
        self.times.iter().map(|t| t.0).min().unwrap_or(i64::MAX)
    }

    fn end_us(&self) -> i64 {
        self.times.iter().map(|t| t.1).max().unwrap_or(i64::MIN)
    }

    /// Whether the two have nothing in common in a time. A writer that came again may have the bytes of the other one.
    fn is_unlike(&self, other: &Self, (start, end): Time, matched: &Matched) -> bool {
        let there = |chain: &Self| {
            let at_once = chain.holders.iter().filter(|(t, _)| t.0 < end && t.1 > start);
            at_once
                .flat_map(|(_, holders)| holders)
                .copied()
                .collect::<BTreeSet<(Uuid, Uuid)>>()
        };
        let (here, others) = (there(self), there(other));
        let has_in_common = |a: &(Uuid, Uuid)| others.iter().any(|b| a.0 == b.0 || matched.alike(a.1, b.1));
        !here.iter().any(has_in_common)
    }
}

fn time(gop: &Gop) -> Time {
    (gop.start_us, gop.end_us())
}

/// Leaves out what is played already in another encode, from `from_us` on, and marks where another encode goes on.
pub(super) fn settle(chosen: Vec<Chosen>, matched: &Matched, from_us: i64) -> Vec<Chosen> {
    let chains = chains(&chosen);
    let rivals = rivals(&chosen, &chains, matched);
    let order = if rivals.iter().all(Vec::is_empty) {
        (0..chosen.len()).collect()
    } else {
        let play = Play::of(&chosen, &chains, &rivals, from_us);
        play.order
    };
    let mut chain_of = vec![0; chosen.len()];
    for (c, chain) in chains.iter().enumerate() {
        chain.items.iter().for_each(|i| chain_of[*i] = c);
    }
    let mut chosen: Vec<Option<Chosen>> = chosen.into_iter().map(Some).collect();
    let mut out: Vec<Chosen> = Vec::with_capacity(order.len());
    let mut before: Option<usize> = None;
    for item in order {
        let Some(mut next) = chosen[item].take() else {
            continue;
        };
        let chain = chain_of[item];
        if let (Some(last), Some(before)) = (out.last(), before)
            && rivals[chain].contains(&before)
        {
            let doubled_us = last.gop.end_us().min(next.gop.end_us()) - next.gop.start_us;
            let half_us = next.gop.half_frame_us().min(last.gop.half_frame_us());
            next.seam_us = Some(if doubled_us > half_us { doubled_us } else { 0 });
        }
        out.push(next);
        before = Some(chain);
    }
    out
}

/// The chains: groups that a writer has one after the other are in one.
fn chains(chosen: &[Chosen]) -> Vec<Chain> {
    let mut root: Vec<usize> = (0..chosen.len()).collect();
    let mut ends: HashMap<(Uuid, Uuid, i64), usize> = HashMap::new();
    for (i, next) in chosen.iter().enumerate() {
        for h in &next.holdings {
            ends.insert((h.store, h.run, h.dts.1), i);
        }
    }
    for (i, next) in chosen.iter().enumerate() {
        for h in &next.holdings {
            let end = h.dts.0 - i64::from(h.paused);
            if let Some(before) = ends.get(&(h.store, h.run, end)) {
                let (a, b) = (find(&mut root, *before), find(&mut root, i));
                root[a.max(b)] = a.min(b);
            }
        }
    }
    let mut out: BTreeMap<usize, Chain> = BTreeMap::new();
    for (i, next) in chosen.iter().enumerate() {
        let chain = find(&mut root, i);
        out.entry(chain).or_default().add(i, next);
    }
    out.into_values().collect()
}

fn find(root: &mut [usize], mut i: usize) -> usize {
    while root[i] != i {
        root[i] = root[root[i]];
        i = root[i];
    }
    i
}

/// For each chain the unlike ones that overlap it in time, by more than half a frame.
fn rivals(chosen: &[Chosen], chains: &[Chain], matched: &Matched) -> Vec<Vec<usize>> {
    let mut by_start: Vec<usize> = (0..chains.len()).collect();
    by_start.sort_by_key(|c| (chains[*c].start_us(), *c));
    let half_us = |chain: &Chain| chosen[chain.items[0]].gop.half_frame_us();
    let mut out = vec![Vec::new(); chains.len()];
    let mut open: Vec<usize> = Vec::new();
    for b in by_start {
        let later = &chains[b];
        open.retain(|a| chains[*a].end_us() > later.start_us());
        for &a in &open {
            let earlier = &chains[a];
            let at_once = (later.start_us(), earlier.end_us().min(later.end_us()));
            let is_longer = at_once.1 - at_once.0 > half_us(earlier).min(half_us(later));
            if is_longer && earlier.is_unlike(later, at_once, matched) {
                out[a].push(b);
                out[b].push(a);
            }
        }
        open.push(b);
    }
    out
}

/// What is played of all chains.
struct Play<'a> {
    chosen: &'a [Chosen],
    chains: &'a [Chain],
    rivals: &'a [Vec<usize>],
    from_us: i64,
    /// The time that the played groups of each chain show.
    shown: Vec<Vec<Time>>,
    /// Where each group is played, if it is: at its place or after another's, and its place.
    place: Vec<Option<(usize, bool, usize)>>,
    order: Vec<usize>,
}

impl<'a> Play<'a> {
    fn of(chosen: &'a [Chosen], chains: &'a [Chain], rivals: &'a [Vec<usize>], from_us: i64) -> Self {
        let mut play = Self {
            chosen,
            chains,
            rivals,
            from_us,
            shown: vec![Vec::new(); chains.len()],
            place: vec![None; chosen.len()],
            order: Vec::new(),
        };
        let mut seen = vec![false; chains.len()];
        for c in 0..chains.len() {
            if !seen[c] {
                play.contest(together(c, rivals, &mut seen));
            }
        }
        let mut order: Vec<usize> = (0..chosen.len()).filter(|i| play.place[*i].is_some()).collect();
        order.sort_by_key(|i| play.place[*i]);
        play.order = order;
        play
    }

    /// Chains that overlap, each another one of them.
    fn contest(&mut self, mut rest: Vec<usize>) {
        let (mut until_us, mut before) = (self.from_us, None);
        while let Some(next) = self.next(&rest, until_us) {
            rest.retain(|c| *c != next);
            self.show(next, before);
            (until_us, before) = (until_us.max(self.chains[next].end_us()), Some(next));
        }
        // What ends before may hold what none of the others does: where a clock stepped.
        for chain in rest {
            self.show(chain, None);
        }
    }

    /// The chain that goes on from a time: of those that have it the best, else the one that begins first.
    fn next(&self, rest: &[usize], until_us: i64) -> Option<usize> {
        let outlasts = |c: &&usize| self.chains[**c].end_us() > until_us;
        let first_us = rest
            .iter()
            .filter(outlasts)
            .map(|c| self.chains[*c].start_us())
            .min()?;
        let at_us = first_us.max(until_us);
        let has = |c: &&usize| {
            let chain = &self.chains[**c];
            chain.start_us() <= at_us.saturating_add(self.chosen[chain.items[0]].gop.half_frame_us())
        };
        let there = rest.iter().filter(outlasts).filter(has);
        there.copied().max_by_key(|c| self.rank(*c, at_us))
    }

    /// How a chain ranks where it would go on.
    fn rank(&self, chain: usize, at_us: i64) -> impl Ord + use<> {
        let items = &self.chains[chain].items;
        let at = items.iter().find(|i| self.chosen[**i].gop.end_us() > at_us);
        let gop = &self.chosen[*at.unwrap_or(&items[0])].gop;
        let epochs = (gop.pair_epoch, gop.stream_epoch);
        let by_frames = (gop.frames(), gop.complete);
        (
            gop.owner,
            epochs,
            by_frames,
            Reverse((gop.id.store, gop.run, gop.dts)),
        )
    }

    /// Plays what a chain shows and its rivals do not.
    fn show(&mut self, chain: usize, before: Option<usize>) {
        let before = before.filter(|b| self.rivals[chain].contains(b));
        let ended = before.map(|b| (self.chains[b].end_us(), self.chains[b].items.last().copied()));
        for &item in &self.chains[chain].items {
            let gop = &self.chosen[item].gop;
            if self.is_shown(chain, gop) {
                continue;
            }
            // All of the chain that ended comes before the group that outlasts it.
            let after = ended.and_then(|(end_us, last)| last.filter(|_| gop.end_us() > end_us));
            let after = after.filter(|last| *last > item);
            self.place[item] = Some((after.unwrap_or(item), after.is_some(), item));
            let (start, end) = time(gop);
            match self.shown[chain].last_mut() {
                Some(last) if (last.1 - start).abs() <= gop.half_frame_us() => last.1 = end,
                _ => self.shown[chain].push((start, end)),
            }
        }
    }

    /// Whether rivals show all that a group does, but for half a frame.
    fn is_shown(&self, chain: usize, gop: &Gop) -> bool {
        let (start, end) = (gop.start_us.max(self.from_us), gop.end_us());
        let shown = self.rivals[chain].iter().flat_map(|r| &self.shown[*r]);
        let mut shown: Vec<Time> = shown.filter(|t| t.0 < end && t.1 > start).copied().collect();
        shown.sort_unstable();
        let (mut until, mut lacks) = (start, 0);
        for (from, to) in shown {
            lacks += (from - until).max(0);
            until = until.max(to);
        }
        lacks += (end - until).max(0);
        start < end && lacks <= gop.half_frame_us()
    }
}

/// The chains that rival one, those that rival them, and so on.
fn together(first: usize, rivals: &[Vec<usize>], seen: &mut [bool]) -> Vec<usize> {
    let (mut out, mut next) = (Vec::new(), vec![first]);
    while let Some(c) = next.pop() {
        if !std::mem::replace(&mut seen[c], true) {
            out.push(c);
            next.extend(&rivals[c]);
        }
    }
    out.sort_unstable();
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::canonical::{choose, choose_from};
    use crate::id::SegmentId;

    /// Frames of 40 ms.
    const FRAME_US: i64 = 40_000;

    /// One run of a writer: groups of `frames`, the first one at `start_ms`. No picture is like any other.
    pub(crate) fn run(store: u8, run: u8, start_ms: i64, frames: u8, groups: u8, owner: bool) -> Vec<Gop> {
        let group = |n: u8| {
            let (first, duration) = (i64::from(n) * i64::from(frames), 3600 * u64::from(frames));
            Gop {
                id: SegmentId {
                    stream: Uuid::nil(),
                    store: Uuid::from_u128(u128::from(store)),
                    member: format!("m-{store}"),
                    incarnation: u64::from(run),
                    sequence: 0,
                },
                run: Uuid::from_u128(u128::from(store) << 8 | u128::from(run)),
                offset: u64::from(n),
                len: 1,
                start_us: start_ms * 1000 + first * FRAME_US,
                dts: first * 3600,
                duration,
                paused: 0,
                hashes: (0..frames)
                    .map(|f| [[store, run, n, f]; 4].concat().try_into().unwrap())
                    .collect(),
                unread: None,
                cuts: Vec::new(),
                complete: n + 1 < groups,
                pair_epoch: 1,
                stream_epoch: 1,
                owner,
            }
        };
        (0..groups).map(group).collect()
    }

    /// Who is played from when, seconds/10, and where for how long twice, ms.
    fn played(chosen: &[Chosen]) -> (Vec<(u128, i64)>, Vec<i64>) {
        let who = |c: &Chosen| c.gop.id.store.as_u128();
        let mut turns: Vec<(u128, i64)> = Vec::new();
        for c in chosen {
            if turns.last().is_none_or(|t| t.0 != who(c)) {
                turns.push((who(c), c.gop.start_us / 100_000));
            }
        }
        let twice = chosen.iter().filter_map(|c| c.seam_us).map(|us| us / 1000);
        (turns, twice.collect())
    }

    #[test]
    fn one_chain_is_played_as_long_as_it_lasts() {
        // Runs as (store, run, start in ms, frames of a group, groups, owner).
        type Runs<'a> = &'a [(u8, u8, i64, u8, u8, bool)];
        type Case<'a> = (&'a str, Runs<'a>, &'a [(u128, i64)], &'a [i64]);
        let table: [Case<'_>; 8] = [
            (
                "both record all the time",
                &[(1, 1, 0, 25, 9, true), (2, 1, 400, 25, 9, false)],
                &[(1, 0), (2, 84)],
                &[600],
            ),
            (
                "whoever began",
                &[(1, 1, 400, 25, 8, true), (2, 1, 0, 25, 9, false)],
                &[(2, 0)],
                &[],
            ),
            (
                "the owner, if both began at once",
                &[(1, 1, 0, 25, 5, false), (2, 1, 10, 25, 5, true)],
                &[(2, 0)],
                &[],
            ),
            (
                "the lower store else",
                &[(1, 1, 10, 25, 5, false), (2, 1, 0, 25, 5, false)],
                &[(1, 0)],
                &[],
            ),
            (
                "each dies once",
                &[
                    (1, 1, 0, 25, 5, true),
                    (2, 1, 300, 25, 11, false),
                    (1, 2, 8100, 25, 9, false),
                ],
                &[(1, 0), (2, 43), (1, 111)],
                &[700, 200],
            ),
            (
                "a longer group",
                &[(1, 1, 0, 25, 9, true), (2, 1, 500, 250, 2, false)],
                &[(1, 0), (2, 5)],
                &[8500],
            ),
            (
                "one within another",
                &[(1, 1, 0, 25, 9, false), (2, 1, 2300, 10, 9, true)],
                &[(1, 0)],
                &[],
            ),
            (
                "one after another",
                &[(1, 1, 0, 25, 3, false), (2, 1, 3000, 25, 3, true)],
                &[(1, 0), (2, 30)],
                &[],
            ),
        ];
        for (what, runs, turns, twice) in table {
            let all = runs
                .iter()
                .map(|(s, r, at, frames, n, owner)| run(*s, *r, *at, *frames, *n, *owner));
            let found = played(&choose(all.flatten().collect()));
            assert_eq!(found, (turns.to_vec(), twice.to_vec()), "{what}");
        }
    }

    #[test]
    fn where_the_asked_time_begins_the_owners_chain_is_played() {
        let both = || {
            run(1, 1, 0, 25, 9, false)
                .into_iter()
                .chain(run(2, 1, 400, 25, 9, true))
        };
        assert_eq!(played(&choose(both().collect())).0[0], (1, 0));
        let asked = both().filter(|g| g.end_us() > 5_000_000).collect();
        assert_eq!(played(&choose_from(asked, 5_000_000)), (vec![(2, 44)], vec![]));
    }

    #[test]
    fn a_writer_that_comes_again_with_the_bytes_of_the_other_is_no_rival() {
        let other = run(2, 1, 400, 25, 20, false);
        let mut again = run(1, 2, 9400, 25, 9, false);
        for (a, b) in again.iter_mut().zip(&other[9..]) {
            a.hashes.clone_from(&b.hashes);
        }
        let chosen = choose([run(1, 1, 0, 25, 5, true), other, again].concat());
        assert_eq!((chosen.len(), played(&chosen).1), (21, vec![600]));
    }

    #[test]
    fn of_clocks_that_are_far_apart_a_key_frame_tells() {
        let mut late = run(2, 1, 3000, 25, 9, true);
        let early = run(1, 1, 0, 25, 9, true);
        for (a, b) in early.iter().zip(&mut late) {
            b.hashes.clone_from(&a.hashes);
        }
        let chosen = choose(early.into_iter().chain(late).collect());
        assert_eq!(chosen.len(), 18, "by time three seconds would be missing");
    }

    /// Runs of two members: what each waits before it begins, ms, frames of its groups, and how many.
    fn recordings() -> impl Strategy<Value = Vec<Gop>> {
        let runs = || prop::collection::vec((1i64..9000, 1u8..60, 1u8..12, any::<bool>()), 1..5);
        (runs(), runs()).prop_map(|both| {
            let mut out = Vec::new();
            for (store, runs) in [(1, both.0), (2, both.1)] {
                let mut at_ms = 0;
                for (n, (wait_ms, frames, groups, owner)) in (1..).zip(runs) {
                    let next = run(store, n, at_ms + wait_ms, frames, groups, owner);
                    at_ms = next.last().map_or(0, Gop::end_us) / 1000;
                    out.extend(next);
                }
            }
            out
        })
    }

    fn union(mut times: Vec<Time>) -> Vec<Time> {
        times.sort_unstable();
        let mut out: Vec<Time> = Vec::new();
        for t in times {
            match out.last_mut() {
                Some(last) if t.0 <= last.1 => last.1 = last.1.max(t.1),
                _ => out.push(t),
            }
        }
        out
    }

    fn length_us(times: &[Time]) -> i64 {
        times.iter().map(|t| t.1 - t.0).sum()
    }

    proptest! {
        /// I1: all time that a member recorded is played, in whole groups, and what is played twice is marked: at each seam one
        /// group at most.
        #[test]
        fn all_time_is_played_and_what_is_played_twice_is_marked(gops in recordings()) {
            let chosen = choose(gops.clone());
            let times: Vec<Time> = chosen.iter().map(|c| time(&c.gop)).collect();
            let shown = union(times.clone());
            for gop in &gops {
                let mut with = shown.clone();
                with.push(time(gop));
                let lacks = length_us(&union(with)) - length_us(&shown);
                prop_assert!(lacks <= FRAME_US / 2, "{lacks} us of {:?} are not played", time(gop));
            }
            prop_assert!(chosen.iter().all(|c| gops.contains(&c.gop)));
            let seams: Vec<i64> = chosen.iter().filter_map(|c| c.seam_us).collect();
            let twice = length_us(&times) - length_us(&shown);
            let unmarked = twice - seams.iter().sum::<i64>();
            let turns = chosen.windows(2).filter(|p| p[0].gop.id.store != p[1].gop.id.store).count();
            prop_assert!(unmarked <= FRAME_US / 2 * turns as i64, "{unmarked} us are doubled, and not marked");
            for c in &chosen {
                prop_assert!(c.seam_us.unwrap_or(0) <= c.gop.duration_us());
            }
            for pair in chosen.windows(2) {
                let back_us = pair[0].gop.end_us() - pair[1].gop.start_us;
                prop_assert!(back_us <= pair[1].seam_us.unwrap_or(0) + FRAME_US / 2);
            }
        }

        /// The order in which copies came does not matter.
        #[test]
        fn the_choice_is_of_the_set(gops in recordings(), seed in any::<u64>()) {
            let mut other = gops.clone();
            other.sort_by_key(|g| g.hashes[0].iter().fold(seed, |h, b| {
                h.wrapping_mul(31).wrapping_add(u64::from(*b)).rotate_left(7)
            }));
            prop_assert_eq!(choose(gops), choose(other));
        }
    }
}
