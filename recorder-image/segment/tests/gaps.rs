//! Ten thousand holes of one frame to one hour, found exactly, whatever of them the peer fills.
#![allow(clippy::unwrap_used, missing_docs)]

use segment::canonical::choose;
use segment::compared::joined;
use segment::ledger::{Gap, Record};
use segment::parts::{Detail, gops as gops_of};
use segment::timeline::{GapState, TimelineGap, gaps, spans};
use segment::{
    Catalogue, ClockSource, Compared, Copy, Extent, Fragment, FrameHash, Header, Index, Origin, SealedEntry,
    SegmentId,
};
use uuid::Uuid;

/// One frame, microseconds and 1/90000 s; 25 of them are a group of pictures.
const FRAME_US: i64 = 40_000;
const FRAME: u64 = 3600;
const GROUP: u64 = 25;
const HOUR: u64 = 3600 * GROUP;
const OWN: Uuid = Uuid::from_u128(1);
const PEER: Uuid = Uuid::from_u128(2);
const STREAM: Uuid = Uuid::from_u128(9);
/// All of time.
const ALL: (i64, i64) = (i64::MIN, i64::MAX);
const CAUSES: [&str; 4] = ["PacketLoss", "Watchdog", "Disconnected", "RecorderRestart"];

/// SplitMix64: the same holes for the same seed.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `least` to `most`, both included.
    fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// The same, where each length is as likely as its double.
    fn length(&mut self, most: u64) -> u64 {
        let doublings = (most as f64).log2() * (self.next() as f64 / u64::MAX as f64);
        (doublings.exp2().round() as u64).clamp(1, most)
    }
}

/// Frames `first..end` that this member lacks, and those of them that the peer has.
#[derive(Clone, Debug)]
struct Hole {
    first: u64,
    end: u64,
    cause: &'static str,
    fill: Option<(u64, u64)>,
}

/// Holes with a few groups of pictures between them, and where the recording ends. A hole that is longer than its group ends
/// with a key frame: before it nothing can be played.
fn holes(count: usize, seed: u64) -> (Vec<Hole>, u64) {
    let mut random = Seeded(seed);
    let (mut at, mut out) = (4 * GROUP, Vec::new());
    for n in 0..count {
        let first = at + random.within(1, GROUP - 1);
        let length = if n % 1000 == 0 { HOUR } else { random.length(HOUR) };
        let group_end = first.next_multiple_of(GROUP);
        let end = if first + length < group_end {
            first + length
        } else {
            (first + length).next_multiple_of(GROUP)
        };
        let cause = CAUSES[random.within(0, CAUSES.len() as u64 - 1) as usize];
        let fill = fill(&mut random, (first, end));
        out.push(Hole {
            first,
            end,
            cause,
            fill,
        });
        at = end.next_multiple_of(GROUP) + random.within(3, 6) * GROUP;
    }
    (out, at + 2 * GROUP)
}

/// What the peer has of a hole: nothing, all, or whole groups of it. Long ones it has in part, but for a few: else there would be
/// too much to hold in memory.
fn fill(random: &mut Seeded, (first, end): (u64, u64)) -> Option<(u64, u64)> {
    let whole = (first / GROUP * GROUP, end.next_multiple_of(GROUP));
    let groups = (whole.1 - whole.0) / GROUP;
    match random.within(0, 2) {
        0 => None,
        1 if groups <= 30 || groups == 3601 && random.within(0, 3) == 0 => Some(whole),
        _ if groups < 4 => Some(whole),
        _ => {
            let begin = random.within(0, groups - 3);
            let count = random.within(2, (groups - begin - 1).min(20));
            Some((whole.0 + begin * GROUP, whole.0 + (begin + count) * GROUP))
        }
    }
}

fn hash(frame: u64) -> FrameHash {
    u128::from(frame + 1).to_be_bytes()
}

/// A sealed segment of a store that has these stretches of frames: each group of pictures begins a fragment, and each stretch.
fn segment(store: Uuid, sequence: u64, run: u64, stretches: &[(u64, u64)]) -> Copy {
    let mut fragments: Vec<Fragment> = Vec::new();
    let mut hashes = Vec::new();
    for (first, end) in stretches {
        let mut at = *first;
        while at < *end {
            let until = (at + 1).next_multiple_of(GROUP).min(*end);
            fragments.push(Fragment {
                offset: 1000 + 10 * at,
                len: ((until - at) * 10) as u32,
                key: at.is_multiple_of(GROUP),
                start_us: at as i64 * FRAME_US,
                dts: (at * FRAME) as i64,
                duration: (until - at) * FRAME,
                frames: (until - at) as u32,
                paused: 0,
            });
            hashes.extend((at..until).map(hash));
            at = until;
        }
    }
    let header = Header {
        id: SegmentId {
            stream: STREAM,
            store,
            member: format!("m-{store}"),
            incarnation: 1,
            sequence,
        },
        stream_name: "cam".into(),
        pair_epoch: 1,
        stream_epoch: 0,
        owner: store == OWN,
        run: Uuid::from_u64_pair(store.as_u64_pair().1, run),
        opened_us: fragments[0].start_us,
        clock: ClockSource::Own,
        hevc: false,
        audio: None,
    };
    let entry = SealedEntry {
        extent: Extent::of(&header, &fragments),
        header,
        length: fragments.last().unwrap().end(),
        root: [0; 32],
        head_len: 1000,
        signature: None,
    };
    let index = Index { fragments, hashes };
    let origin = if store == OWN { Origin::Live } else { Origin::Peer };
    Copy::from_entry(entry, Some(index), origin, 0)
}

/// What this member recorded: a segment for each stretch between holes that end with a key frame. After a hole of less than a
/// second the session goes on, else it is another.
fn recorded(holes: &[Hole], end: u64) -> Catalogue {
    let mut catalogue = Catalogue::default();
    let (mut stretches, mut at, mut sequence, mut run) = (Vec::new(), 0, 0, 0);
    for hole in holes {
        stretches.push((at, hole.first));
        at = hole.end;
        if at.is_multiple_of(GROUP) {
            catalogue.upsert(segment(OWN, sequence, run, &std::mem::take(&mut stretches)));
            sequence += 1;
            run += u64::from(hole.end - hole.first >= GROUP);
        }
        let (start_us, end_us) = span((hole.first, hole.end));
        let gap = Gap {
            start_us,
            end_us: Some(end_us),
            cause: hole.cause.into(),
            evidence: format!("frames {} to {}", hole.first, hole.end),
            frames: Some(hole.end - hole.first),
        };
        // It is noted when it begins, too.
        let begins = Gap {
            end_us: None,
            frames: None,
            ..gap.clone()
        };
        catalogue.apply(STREAM, Record::Gap(begins));
        catalogue.apply(STREAM, Record::Gap(gap));
    }
    stretches.push((at, end));
    catalogue.upsert(segment(OWN, sequence, run, &stretches));
    catalogue
}

fn span((first, end): (u64, u64)) -> (i64, i64) {
    (first as i64 * FRAME_US, end as i64 * FRAME_US)
}

type Found = (i64, i64, String, GapState);

/// The same, whether every group of pictures is known or only what has to be.
fn found(catalogue: &Catalogue, compared: &Compared) -> Vec<Found> {
    let noted = &catalogue.stream(STREAM).unwrap().gaps;
    let by = |detail| {
        let parts = catalogue.parts_of(STREAM, ALL, detail);
        let chosen = choose(gops_of(&parts, ALL, |_, _| Ok(None)).unwrap());
        (spans(&chosen), gaps(&chosen, noted, OWN, compared), chosen.len())
    };
    let ((spans, gaps, groups), (others, times, fewer)) = (by(Detail::Groups), by(Detail::Times));
    for (a, b) in spans.iter().zip(&others) {
        assert_eq!(a, b);
    }
    for (a, b) in gaps.iter().zip(&times) {
        assert_eq!(a, b);
    }
    assert_eq!((spans.len(), gaps.len()), (others.len(), times.len()));
    assert!(fewer < groups, "{fewer} of {groups}");
    let shown = |gap: TimelineGap| (gap.start_us, gap.end_us.unwrap(), gap.cause, gap.state);
    gaps.into_iter().map(shown).collect()
}

/// What is to be found where the peer's parts of the holes that `filled` chooses are here, and `open` says what else may come.
fn expected(holes: &[Hole], filled: &dyn Fn(usize) -> bool, open: &dyn Fn(usize) -> bool) -> Vec<Found> {
    let mut out = Vec::new();
    for (n, hole) in holes.iter().enumerate() {
        let mut part = |first: u64, end: u64, state| {
            let (first, end) = (first.max(hole.first), end.min(hole.end));
            if first < end {
                let (start_us, end_us) = span((first, end));
                out.push((start_us, end_us, hole.cause.to_owned(), state));
            }
        };
        let rest = if open(n) { GapState::Open } else { GapState::Lost };
        match hole.fill.filter(|_| filled(n)) {
            None => part(hole.first, hole.end, rest),
            Some((first, end)) => {
                part(hole.first, first, rest);
                part(first, end, GapState::Refilled);
                part(end, hole.end, rest);
            }
        }
    }
    out
}

#[track_caller]
fn same(found: &[Found], expected: &[Found], what: &str) {
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    if let Some(at) = differs {
        panic!("{what}: found {:?}, expected {:?}", &found[at], &expected[at]);
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

fn all_found(count: usize, seed: u64) {
    let (holes, end) = holes(count, seed);
    let mut catalogue = recorded(&holes, end);
    let never = |_: usize| false;
    let always = |_: usize| true;
    same(
        &found(&catalogue, &Compared::default()),
        &expected(&holes, &never, &always),
        "the peer was never heard",
    );

    // The peer says what it holds.
    let fills = holes.iter().filter_map(|hole| hole.fill.map(span));
    let mut compared = Compared {
        until_us: Some(i64::MAX),
        lacking: fills.collect(),
    };
    let comes = |n: usize| {
        let (start_us, end_us) = span((holes[n].first, holes[n].end));
        compared.may_hold((start_us, end_us))
    };
    assert!((0..holes.len()).all(|n| comes(n) || holes[n].fill.is_none()));
    same(
        &found(&catalogue, &compared),
        &expected(&holes, &never, &comes),
        "the peer said what it holds",
    );
    let few = joined(compared.lacking.clone());
    assert!(few.len() <= 16 && few[0].0 <= compared.lacking[0].0, "{few:?}");

    // A part of it comes, then all.
    let half = |n: usize| n.is_multiple_of(2);
    for (n, hole) in holes.iter().enumerate().filter(|(n, _)| half(*n)) {
        if let Some(fill) = hole.fill {
            catalogue.upsert(segment(PEER, n as u64, n as u64, &[fill]));
        }
    }
    compared.until_us = None;
    same(
        &found(&catalogue, &compared),
        &expected(&holes, &half, &always),
        "a half came, and the peer is gone",
    );
    for (n, hole) in holes.iter().enumerate().filter(|(n, _)| !half(*n)) {
        if let Some(fill) = hole.fill {
            catalogue.upsert(segment(PEER, n as u64, n as u64, &[fill]));
        }
    }
    let all = Compared {
        until_us: Some(i64::MAX),
        lacking: Vec::new(),
    };
    same(
        &found(&catalogue, &all),
        &expected(&holes, &always, &never),
        "all that the peer holds is here",
    );
}

#[test]
fn ten_thousand_holes_are_found_exactly() {
    all_found(10_000, 1);
}

#[test]
fn holes_of_any_seed_are_found_exactly() {
    for seed in 2..30 {
        all_found(50, seed);
    }
}
