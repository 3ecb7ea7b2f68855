#![allow(clippy::unwrap_used)]

mod sim;

use uuid::Uuid;

use super::propose::{MARGIN_US, due, kept_instead_of};
use super::*;
use crate::catalogue::Catalogue;
use crate::copy::{Copy, Origin, State};
use crate::entry::{Extent, Fragment, SealedEntry};
use crate::header::{ClockSource, Header};
use crate::index::Index;
use crate::parts::{Detail, gops};
use crate::retention::{Now, Policy, evictions};

const STREAM: Uuid = Uuid::from_u128(9);
/// Frames of a whole group of pictures, which lasts a second.
const FRAMES: u8 = 25;

fn id(store: u128, sequence: u64) -> SegmentId {
    SegmentId {
        stream: STREAM,
        store: Uuid::from_u128(store),
        member: format!("front-{store}"),
        incarnation: store as u64,
        sequence,
    }
}

/// A group of pictures: the second in which it begins, which frames it has, and what it shows.
#[derive(Clone, Debug)]
struct Group {
    second: i64,
    late_us: i64,
    frames: Vec<u8>,
    scene: u8,
}

fn group(second: i64, frames: std::ops::Range<u8>) -> Group {
    Group {
        second,
        late_us: 0,
        frames: frames.collect(),
        scene: second as u8,
    }
}

/// Whole groups of these seconds.
fn seconds(range: std::ops::Range<i64>) -> Vec<Group> {
    range.map(|second| group(second, 0..FRAMES)).collect()
}

fn header(id: SegmentId, first: &Group) -> Header {
    Header {
        run: id.store,
        id,
        stream_name: "door".into(),
        pair_epoch: 1,
        stream_epoch: 0,
        owner: true,
        opened_us: first.second * 1_000_000 + first.late_us,
        clock: ClockSource::Own,
        hevc: false,
        audio: None,
    }
}

/// A sealed copy of these groups, one fragment each, received a minute after their end.
fn copy(id: SegmentId, groups: &[Group]) -> Copy {
    let mut fragments: Vec<Fragment> = Vec::new();
    for group in groups {
        fragments.push(Fragment {
            offset: fragments.last().map_or(100, Fragment::end),
            len: 10,
            key: true,
            start_us: group.second * 1_000_000 + group.late_us,
            dts: group.second * 90_000,
            duration: 3600 * group.frames.len() as u64,
            frames: group.frames.len() as u32,
            paused: 0,
        });
    }
    let hash = |group: &Group, frame: u8| {
        let mut hash = [group.scene; 16];
        hash[0] = frame;
        hash
    };
    let hashes = groups
        .iter()
        .flat_map(|g| g.frames.iter().map(|f| hash(g, *f)))
        .collect::<Vec<_>>();
    let root = *blake3::hash(&[&id.stem().into_bytes()[..], &hashes.concat()].concat()).as_bytes();
    let entry = SealedEntry {
        header: header(id.clone(), &groups[0]),
        length: fragments.last().unwrap().end(),
        root,
        head_len: 100,
        extent: Extent::of(&header(id, &groups[0]), &fragments),
        signature: None,
    };
    let received_s = groups.last().unwrap().second + 61;
    Copy::from_entry(entry, Some(Index { fragments, hashes }), Origin::Peer, received_s)
}

fn catalogue(copies: impl IntoIterator<Item = Copy>) -> Catalogue {
    let mut catalogue = Catalogue::default();
    copies.into_iter().for_each(|copy| catalogue.upsert(copy));
    catalogue
}

/// What stays instead of a copy, by a catalogue.
fn judged(catalogue: &Catalogue, id: &SegmentId) -> Option<Vec<SegmentId>> {
    let copy = catalogue.get(id)?;
    let around = (copy.start_us() - MARGIN_US, copy.end_us() + MARGIN_US);
    kept_instead_of(
        id,
        &gops(
            &catalogue.parts_of(STREAM, around, Detail::Groups),
            around,
            |_, _| Ok(None),
        )
        .unwrap(),
    )
}

fn pin(duplicate: &SegmentId, kept: &[&SegmentId]) -> Pin {
    Pin {
        duplicate: duplicate.clone(),
        kept: kept.iter().copied().cloned().collect(),
    }
}

#[test]
fn what_others_hold_and_play_is_a_duplicate() {
    let (one, two, dup) = (id(1, 0), id(1, 1), id(2, 0));
    let late = |mut groups: Vec<Group>, us| {
        for group in &mut groups {
            group.late_us = us;
        }
        groups
    };
    let of = |second, frames: &[u8]| Group {
        frames: frames.to_vec(),
        ..group(second, 0..FRAMES)
    };
    let lacks = |at: u8| (0..FRAMES).filter(|f| *f != at).collect::<Vec<_>>();
    let still = |groups: Vec<Group>| groups.into_iter().map(|g| Group { scene: 7, ..g }).collect();
    let both = Some(vec![one.clone(), two.clone()]);
    let table = [
        ("within two", seconds(4..8), both.clone()),
        (
            "by a clock that is late",
            late(seconds(4..8), 1_900_000),
            both.clone(),
        ),
        ("by one that is too late", late(seconds(4..8), 2_100_000), None),
        (
            "its last group is not whole",
            vec![group(4, 0..FRAMES), group(5, 0..9)],
            Some(vec![one.clone()]),
        ),
        ("it has frames that nobody else has", seconds(8..11), None),
        ("it lacks a frame in the middle", vec![of(4, &lacks(9))], None),
        ("nothing of it is there", seconds(20..22), None),
        (
            "other bytes",
            seconds(4..8)
                .into_iter()
                .map(|g| Group { scene: 99, ..g })
                .collect(),
            None,
        ),
        ("a static scene", still(seconds(4..8)), None),
    ];
    for (what, groups, kept) in table {
        let (mut first, mut second) = (seconds(0..6), seconds(6..10));
        if what == "a static scene" {
            (first, second) = (still(first), still(second));
        }
        let all = catalogue([
            copy(one.clone(), &first),
            copy(two.clone(), &second),
            copy(dup.clone(), &groups),
        ]);
        assert_eq!(judged(&all, &dup), kept, "{what}");
        if kept.is_some() {
            assert_eq!((judged(&all, &one), judged(&all, &two)), (None, None), "{what}");
        }
    }
}

#[test]
fn two_seconds_that_look_alike_are_not_one() {
    // The scene stands still for two seconds; one member has the first of them, the other one the second.
    let still = |second| Group {
        scene: 77,
        ..group(second, 0..FRAMES)
    };
    let moving = |second| group(second, 0..FRAMES);
    for (one, two) in [
        (vec![still(5)], vec![still(6)]),
        (vec![moving(4), still(5)], vec![moving(4), still(6)]),
    ] {
        let all = catalogue([copy(id(1, 0), &one), copy(id(2, 0), &two)]);
        assert_eq!((judged(&all, &id(1, 0)), judged(&all, &id(2, 0))), (None, None));
    }
    // It stood still five seconds before, too.
    let again = [
        copy(id(1, 0), &[still(0), moving(1)]),
        copy(id(1, 1), &[still(5)]),
        copy(id(2, 0), &[still(5)]),
    ];
    let all = catalogue(again);
    assert_eq!(judged(&all, &id(2, 0)), None);
}

#[test]
fn a_copy_that_is_played_is_no_duplicate() {
    // The same frames twice: what is played stays, and the other one goes.
    for (epoch, played, dup) in [(2, id(2, 0), id(1, 0)), (1, id(1, 0), id(2, 0))] {
        let mut second = copy(id(2, 0), &seconds(0..5));
        second.header.pair_epoch = epoch;
        let all = catalogue([copy(id(1, 0), &seconds(0..5)), second]);
        assert_eq!(judged(&all, &played), None);
        assert_eq!(judged(&all, &dup), Some(vec![played]));
    }
    // Another copy of the same store is no second witness.
    let all = catalogue([copy(id(1, 0), &seconds(0..5)), copy(id(1, 1), &seconds(0..5))]);
    assert_eq!((judged(&all, &id(1, 0)), judged(&all, &id(1, 1))), (None, None));
}

#[test]
fn only_what_is_settled_and_doubled_is_looked_at() {
    let long = copy(id(1, 0), &seconds(0..6));
    let (newest, dup) = (long.received_s, id(2, 0));
    let all = [
        long,
        copy(dup.clone(), &seconds(2..4)),
        copy(id(1, 9), &seconds(90..91)),
    ];
    let found = |all: Catalogue, since_s, until_s| {
        let found = due(all.stream(STREAM).unwrap(), since_s, until_s);
        found.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    };
    let both = vec![id(1, 0), dup.clone()];
    assert_eq!(found(catalogue(all.clone()), i64::MIN, newest), both);
    assert_eq!(found(catalogue(all.clone()), newest - 1, i64::MAX - 1), both);
    assert_eq!(
        found(catalogue(all.clone()), i64::MIN, newest - 1),
        [],
        "too early"
    );
    assert_eq!(
        found(catalogue(all.clone()), newest, i64::MAX - 1),
        [],
        "looked at before"
    );
    let mut growing = all.clone();
    growing[0].state = State::Open;
    assert_eq!(
        found(catalogue(growing), i64::MIN, i64::MAX - 1),
        [],
        "still written"
    );
    let mut pinned = catalogue(all);
    assert!(pinned.pin(pin(&dup, &[&id(1, 0)]), 0));
    assert_eq!(found(pinned, i64::MIN, newest), [], "a duplicate, and kept");
}

#[test]
fn no_copy_is_both_a_duplicate_and_kept() {
    let [a, b, c, d] = [0, 1, 2, 3].map(|n| id(1, n));
    let mut pins = Pins::default();
    assert!(pins.add(pin(&a, &[&b, &c])));
    for (what, bad) in [
        ("a circle", pin(&b, &[&a])),
        ("a chain", pin(&c, &[&d])),
        ("the other way round", pin(&d, &[&a])),
        ("twice", pin(&a, &[&d])),
        ("itself", pin(&d, &[&d])),
        ("nothing", pin(&d, &[])),
        (
            "too many",
            Pin {
                duplicate: d.clone(),
                kept: (10..30).map(|n| id(1, n)).collect(),
            },
        ),
    ] {
        assert!(!pins.allows(&bad), "{what}");
    }
    assert!(pins.add(pin(&d, &[&b])));
    // What retention removed is kept no more, and keeps nothing from being pinned.
    pins.left(&c);
    assert!(!pins.names(&a) && !pins.names(&c) && pins.keeps(&b));
    pins.left(&b);
    assert_eq!(pins, Pins::default());
}

#[test]
fn i11_what_is_kept_inherits_the_later_receipt() {
    let (kept, dup) = (id(1, 0), id(2, 0));
    let mut all = catalogue([
        copy(kept.clone(), &seconds(0..6)),
        copy(dup.clone(), &seconds(2..4)),
    ]);
    assert!(all.pin(pin(&dup, &[&kept]), 500));
    let policy = Policy {
        min_age: std::time::Duration::from_secs(100),
        max_age: None,
        max_bytes: Some(0),
        short: 0,
    };
    let held = || all.get(&kept).map(Copy::candidate).into_iter();
    let leave = |now_s: i64| {
        let now = Now {
            retention_s: now_s,
            latest_s: now_s,
        };
        let out = evictions(held(), now, &policy, 9).into_iter();
        out.map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(leave(599), []);
    assert_eq!(leave(600), std::slice::from_ref(&kept));
}

/// A duplicate, what is kept instead, and everything that has to be so before it is removed.
struct Bed {
    catalogue: Catalogue,
    pin: Pin,
    peer: PeerPins,
}

impl Bed {
    fn new() -> Self {
        let pin = pin(&id(2, 0), &[&id(1, 0), &id(1, 1)]);
        let copies = [
            copy(id(1, 0), &seconds(0..6)),
            copy(id(1, 1), &seconds(6..9)),
            copy(id(2, 0), &seconds(4..8)),
        ];
        let mut catalogue = catalogue(copies);
        assert!(catalogue.pin(pin.clone(), 0));
        catalogue.pins_synced();
        let mut peer = PeerPins::default();
        peer.hear([pin.clone()]);
        Self { catalogue, pin, peer }
    }

    fn proof(&self) -> Proof {
        Proof::of(self.pin.clone(), |id| {
            (self.catalogue.get(id).unwrap(), "avc1", 0)
        })
    }

    fn asked(&self, proof: &Proof) -> Result<(), Stays> {
        may_remove(proof, &self.catalogue, &self.peer, true, |_| false)
    }
}

/// Something that is not as it has to be.
type Change<'a> = &'a dyn Fn(&mut Bed);

#[test]
fn a_duplicate_is_removed_only_if_everything_holds() {
    let bed = Bed::new();
    assert_eq!(bed.asked(&bed.proof()), Ok(()));
    let silent = may_remove(&bed.proof(), &bed.catalogue, &bed.peer, false, |_| false);
    assert_eq!(silent, Err(Stays::PeerSilent), "I7");
    for id in [&bed.pin.duplicate, &bed.pin.kept[1]] {
        let leaves = |leaving: &SegmentId| leaving == id;
        let found = may_remove(&bed.proof(), &bed.catalogue, &bed.peer, true, leaves);
        assert_eq!(found, Err(Stays::Leaving));
    }
    let changed = |change: &dyn Fn(&mut Bed)| {
        let mut bed = Bed::new();
        let proof = bed.proof();
        change(&mut bed);
        bed.asked(&proof)
    };
    let pin = || Bed::new().pin;
    let table: [(&str, Change<'_>, Stays); 8] = [
        (
            "only the peer pinned it",
            &|b| b.catalogue.stream_mut(STREAM).pins = Pins::default(),
            Stays::NotPinned,
        ),
        (
            "its own pin is not durable",
            &|b| {
                b.catalogue.stream_mut(STREAM).pins = Pins::default();
                assert!(b.catalogue.pin(pin(), 0));
            },
            Stays::NotPinned,
        ),
        (
            "the peer has not pinned it",
            &|b| b.peer.clear(),
            Stays::NotPinnedThere,
        ),
        (
            "the peer pinned something else",
            &|b| {
                b.peer.hear([Pin {
                    kept: vec![id(1, 0)],
                    ..pin()
                }]);
            },
            Stays::NotPinnedThere,
        ),
        (
            "pins cross",
            &|b| {
                b.peer.hear([Pin {
                    duplicate: id(1, 1),
                    kept: vec![id(2, 0)],
                }]);
            },
            Stays::Crossed,
        ),
        (
            "what is kept left",
            &|b| drop(b.catalogue.evict(&id(1, 0), 0)),
            Stays::NotPinned,
        ),
        (
            "it is here no more",
            &|b| drop(b.catalogue.reclaim(&id(2, 0))),
            Stays::Changed,
        ),
        (
            "another content came",
            &|b| b.catalogue.upsert(copy(id(1, 1), &seconds(6..10))),
            Stays::Changed,
        ),
    ];
    for (what, change, why) in table {
        assert_eq!(changed(change), Err(why), "{what}");
    }
}

#[test]
fn what_is_read_has_to_hold_every_group() {
    let bed = Bed::new();
    let all = |id: &SegmentId| (bed.catalogue.get(id).unwrap(), "avc1", 10);
    assert_eq!(Proof::of(bed.pin.clone(), all).holds(), Ok(()));
    let dup = &bed.pin.duplicate;
    let rotten = copy(id(1, 1), &[group(6, 0..FRAMES), group(7, 0..FRAMES - 1)]);
    let other = |id: &SegmentId| {
        if *id == rotten.header.id {
            (&rotten, "avc1", 10)
        } else {
            all(id)
        }
    };
    assert_eq!(Proof::of(bed.pin.clone(), other).holds(), Err(Stays::NotHeld));
    let less_sound = |id: &SegmentId| (all(id).0, "avc1", if id == dup { 10 } else { 7 });
    assert_eq!(
        Proof::of(bed.pin.clone(), less_sound).holds(),
        Err(Stays::OtherTracks)
    );
    let moved_sound = |id: &SegmentId| (all(id).0, "avc1", if id == dup { 10 } else { 8 });
    assert_eq!(Proof::of(bed.pin.clone(), moved_sound).holds(), Ok(()));
    let other_sets = |id: &SegmentId| (all(id).0, if id == dup { "avc1" } else { "hvc1" }, 10);
    assert_eq!(
        Proof::of(bed.pin.clone(), other_sets).holds(),
        Err(Stays::OtherTracks)
    );
    let mut sounding = all(dup).0.clone();
    sounding.header.audio = Some(crate::fmp4::Audio {
        codec: crate::fmp4::AudioCodec::Pcmu,
        rate: 8000,
        channels: 1,
    });
    let silent = |id: &SegmentId| {
        if id == dup {
            (&sounding, "avc1", 0)
        } else {
            all(id)
        }
    };
    assert_eq!(
        Proof::of(bed.pin.clone(), silent).holds(),
        Err(Stays::OtherTracks)
    );
    // One group of what is kept never stands for two.
    let still = |second| Group {
        scene: 1,
        ..group(second, 0..FRAMES)
    };
    let (one, two) = (copy(id(1, 0), &[still(4)]), copy(id(2, 0), &[still(4), still(5)]));
    let files = |id: &SegmentId| (if *id == one.header.id { &one } else { &two }, "avc1", 0);
    assert_eq!(
        Proof::of(pin(&id(2, 0), &[&id(1, 0)]), files).holds(),
        Err(Stays::NotHeld)
    );
}
