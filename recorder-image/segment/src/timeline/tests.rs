use super::*;
use crate::canonical::{Gop, choose};
use crate::id::SegmentId;

/// Second `second` as a store has it, without the frames `lacks`.
fn second(store: u128, second: i64, lacks: std::ops::Range<u8>) -> Gop {
    Gop {
        id: SegmentId {
            stream: Uuid::nil(),
            store: Uuid::from_u128(store),
            member: format!("m-{store}"),
            incarnation: store as u64,
            sequence: second as u64,
        },
        run: Uuid::from_u128(store),
        offset: 0,
        len: 1,
        start_us: second * 1_000_000,
        dts: second * 90_000,
        duration: 90_000,
        paused: 0,
        hashes: (0..25)
            .filter(|f| !lacks.contains(f))
            .map(|f| [(second * 25) as u8 + f; 16])
            .collect(),
        unread: None,
        cuts: Vec::new(),
        complete: true,
        pair_epoch: 1,
        stream_epoch: 0,
        owner: true,
    }
}

fn noted(start_ms: i64, end_ms: Option<i64>, cause: &str) -> Gap {
    Gap {
        start_us: start_ms * 1000,
        end_us: end_ms.map(|ms| ms * 1000),
        cause: cause.into(),
        evidence: String::new(),
        frames: None,
    }
}

fn states(gops: Vec<Gop>, gap: Gap) -> Vec<(i64, GapState)> {
    let found = gaps(&choose(gops), &[gap], Uuid::from_u128(1), &Compared::default());
    found.iter().map(|g| (g.start_us / 1000, g.state)).collect()
}

#[test]
fn a_gap_is_refilled_only_by_another_copy_with_more_frames() {
    let gap = || noted(1200, Some(1280), "PacketLoss");
    let own = || (0..3).map(|s| second(1, s, if s == 1 { 5..7 } else { 0..0 }));
    let peers = |lacks: std::ops::Range<u8>| (0..3).map(move |s| second(2, s, lacks.clone()));
    assert_eq!(
        states(own().collect(), gap()),
        [(1200, GapState::Open)],
        "nobody has them"
    );
    assert_eq!(
        states(own().chain(peers(5..7)).collect(), gap()),
        [(1200, GapState::Open)],
        "the peer lacks as many"
    );
    assert_eq!(
        states(own().chain(peers(0..0)).collect(), gap()),
        [(1200, GapState::Refilled)]
    );
}

#[test]
fn a_gap_over_groups_that_only_the_peer_has_is_refilled_whatever_its_clock() {
    for late_us in [-300_000, 0, 300_000] {
        let mut first = second(1, 1, 10..25);
        (first.duration, first.complete) = (36_000, false);
        let own = [second(1, 0, 0..0), first, second(1, 4, 0..0)];
        let peers = (0..6).map(|s| {
            let mut g = second(2, s, 0..0);
            // It is the one that is played.
            (g.start_us, g.pair_epoch) = (g.start_us + late_us, 2);
            g
        });
        let found = states(
            own.into_iter().chain(peers).collect(),
            noted(1400, Some(4000), "Disconnected"),
        );
        assert_eq!(found, [(1400, GapState::Refilled)], "{late_us}");
    }
}

#[test]
fn the_closest_gap_explains_a_hole() {
    let gops = || vec![second(1, 0, 0..0), second(1, 5, 0..0)];
    let stale = noted(-9000, None, "Disconnected");
    let near = noted(1000, Some(5000), "RecorderRestart");
    let wide = noted(-9000, Some(9000), "Watchdog");
    let cause = |noted: &[Gap]| {
        let found = gaps(&choose(gops()), noted, Uuid::nil(), &Compared::default());
        let hole = found.into_iter().find(|g| g.end_us == Some(5_000_000));
        hole.map(|g| g.cause).unwrap()
    };
    assert_eq!(cause(&[stale.clone(), wide, near]), "RecorderRestart");
    assert_eq!(cause(&[stale]), "Disconnected");
    assert_eq!(cause(&[]), "Unknown");
}

#[test]
fn of_a_hole_that_was_refilled_in_part_the_rest_counts() {
    // A member noted that 100 frames did not come: from 1 s to 5 s.
    let gap = Gap {
        frames: Some(100),
        ..noted(1000, Some(5000), "Takeover")
    };
    let frames = |others: &[Gop]| {
        let own = [second(1, 0, 0..0), second(1, 5, 0..0)];
        let gops = own.into_iter().chain(others.iter().cloned()).collect();
        let found = gaps(
            &choose(gops),
            std::slice::from_ref(&gap),
            Uuid::from_u128(1),
            &Compared::default(),
        );
        let lacks = found.iter().filter(|g| g.state != GapState::Refilled);
        lacks.map(|g| g.frames).collect::<Vec<_>>()
    };
    let mut part = second(2, 1, 14..25);
    (part.duration, part.complete) = (14 * 3600, false);
    assert_eq!(frames(&[]), [Some(100)]);
    assert_eq!(frames(&[second(2, 4, 0..0)]), [Some(75)]);
    assert_eq!(frames(&[part.clone()]), [Some(86)], "a part of a group");
    assert_eq!(
        frames(&[part, second(2, 3, 0..0)]),
        [Some(36), Some(25)],
        "two holes"
    );
}

#[test]
fn a_gap_that_lasts_is_listed_without_an_end() {
    let own = || (0..3).map(|s| second(1, s, 0..0));
    let found = |gops: Vec<Gop>| {
        gaps(
            &choose(gops),
            &[noted(3000, None, "Watchdog")],
            Uuid::from_u128(1),
            &Compared::default(),
        )
    };
    let silent = found(own().collect());
    assert_eq!(
        (silent.len(), silent[0].end_us, silent[0].state),
        (1, None, GapState::Open)
    );
    let peer = found(own().chain((3..6).map(|s| second(2, s, 0..0))).collect());
    assert_eq!(
        (peer.len(), peer[0].end_us, peer[0].state),
        (1, None, GapState::Refilled)
    );
}

#[test]
fn the_seam_of_two_writers_is_no_hole_where_one_has_both_sides() {
    let mut gops: Vec<Gop> = (0..3).map(|s| second(1, s, 0..0)).collect();
    let late = |mut g: Gop| {
        (g.start_us, g.pair_epoch) = (g.start_us + 300_000, 0);
        g
    };
    gops.extend((2..5).map(|s| late(second(2, s, 0..0))));
    let chosen = choose(gops.clone());
    assert_eq!(chosen[2].gop.id.store, Uuid::from_u128(1), "the seam is after it");
    assert_eq!(gaps(&chosen, &[], Uuid::nil(), &Compared::default()), []);
    // Where nobody has both sides, the clocks decide.
    gops.retain(|g| g.id.sequence != 2);
    assert_eq!(
        gaps(&choose(gops), &[], Uuid::nil(), &Compared::default()).len(),
        1
    );
}
