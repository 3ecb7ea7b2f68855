use std::collections::BTreeSet;

use super::*;

fn gop(store: u128, run: u128, second: i64, frames: std::ops::Range<u8>, complete: bool, epoch: u64) -> Gop {
    let id = SegmentId {
        stream: Uuid::nil(),
        store: Uuid::from_u128(store),
        member: format!("m-{store}"),
        incarnation: run as u64,
        sequence: second as u64,
    };
    Gop {
        id,
        run: Uuid::from_u128(run),
        offset: 0,
        len: 1,
        start_us: second * 1_000_000,
        dts: second * 90_000,
        duration: 3600 * frames.len() as u64,
        paused: 0,
        hashes: frames
            .map(|f| [f.wrapping_add((second * 25) as u8); 16])
            .collect(),
        unread: None,
        cuts: Vec::new(),
        complete,
        pair_epoch: epoch,
        stream_epoch: 0,
        owner: true,
    }
}

#[test]
fn the_writer_that_died_yields_to_the_whole_copy() {
    let (dead, whole) = (gop(1, 1, 0, 0..10, false, 1), gop(2, 2, 0, 0..25, true, 2));
    let chosen = choose(vec![dead, whole.clone()]);
    assert_eq!((chosen.len(), chosen[0].copies, &chosen[0].gop), (1, 2, &whole));
}

#[test]
fn of_whole_copies_the_highest_epoch_is_played_and_ties_go_by_store() {
    let (old, new) = (gop(1, 1, 0, 0..25, true, 1), gop(2, 2, 0, 0..25, true, 2));
    assert_eq!(choose(vec![old.clone(), new.clone()])[0].gop, new);
    let tie = gop(2, 2, 0, 0..25, true, 1);
    assert_eq!(choose(vec![tie, old.clone()])[0].gop, old);
}

#[test]
fn repeated_pictures_at_another_time_are_not_the_same() {
    let (one, mut other) = (gop(1, 1, 0, 0..25, true, 1), gop(1, 1, 60, 0..25, true, 1));
    other.hashes.clone_from(&one.hashes);
    assert_eq!(choose(vec![one, other]).len(), 2);
}

#[test]
fn unlike_sessions_are_both_kept_unless_one_covers_the_other() {
    let one = gop(1, 1, 0, 0..25, true, 1);
    let mut other = gop(2, 2, 0, 100..125, true, 1);
    assert_eq!(
        choose(vec![one.clone(), other.clone()]).len(),
        1,
        "the same second, encoded twice"
    );
    other.start_us += 400_000;
    let chosen = choose(vec![one, other]);
    assert_eq!((chosen.len(), chosen[1].overlaps()), (2, true));
}

proptest::proptest! {
    /// I1: whatever single frames two copies lack, by whatever clocks: each second is played once, by the copy with most
    /// frames, in order.
    #[test]
    fn i1_the_copy_with_most_frames_is_played_once(
        lacks in proptest::collection::vec((0usize..8, 0usize..8, 1usize..17), 1..10),
        late_us in -900_000i64..900_000,
    ) {
        let mut gops = Vec::new();
        let mut expected = Vec::new();
        for (second, (a, b, at)) in lacks.iter().enumerate() {
            for (store, n, late_us) in [(1, *a, 0), (2, *b, late_us)] {
                let mut g = gop(store, store, second as i64, 0..25, true, 1);
                g.hashes.drain(at + store as usize - 1..at + store as usize - 1 + n);
                g.start_us += late_us;
                gops.push(g);
            }
            expected.push((second as u64, 25 - a.min(b)));
        }
        let played: Vec<(u64, usize)> =
            choose(gops).into_iter().map(|c| (c.gop.id.sequence, c.gop.hashes.len())).collect();
        proptest::prop_assert_eq!(played, expected);
    }

    /// I1: whatever is cut from two copies of the same pictures, every frame that one of them has is played once.
    #[test]
    fn i1_nothing_is_lost_or_doubled(cuts in proptest::collection::vec((0u8..=25, 0u8..=25, 0u64..3, 0u64..3), 1..20)) {
        let mut gops = Vec::new();
        let mut expected = Vec::new();
        for (second, (a, b, ea, eb)) in cuts.iter().enumerate() {
            let second = second as i64;
            for (store, frames, epoch) in [(1, *a, *ea), (2, *b, *eb)] {
                if frames > 0 {
                    gops.push(gop(store, store, second, 0..frames, frames == 25, epoch));
                }
            }
            expected.extend((0..(*a).max(*b)).map(|f| [f.wrapping_add((second * 25) as u8); 16]));
        }
        let played: Vec<FrameHash> = choose(gops).into_iter().flat_map(|c| c.gop.hashes).collect();
        proptest::prop_assert_eq!(played, expected);
    }
}

/// The copy without frame `at`.
fn without(mut gop: Gop, at: usize) -> Gop {
    gop.hashes.remove(at);
    gop
}

/// A member stood still, and the camera threw away what it did not take: its session goes on within a later group.
#[test]
fn a_group_of_which_little_was_received_is_not_played_beside_the_whole_one() {
    for later in [25, 60] {
        let mut gops = Vec::new();
        for second in 0..6 {
            gops.push(gop(1, 1, second, 0..25, true, 1));
        }
        // The last of them is a long one.
        gops.push(gop(1, 1, 6, 0..later, true, 1));
        let mut few = gop(2, 2, 2, 0..3, false, 1);
        few.hashes.extend(gop(1, 1, 6, 8..later, true, 1).hashes);
        few.duration = 3_600 * few.hashes.len() as u64;
        gops.extend([gop(2, 2, 0, 0..25, true, 1), gop(2, 2, 1, 0..25, true, 1), few]);
        let played = choose(gops.clone());
        let whole: Vec<&Gop> = gops[..7].iter().collect();
        assert_eq!(played.iter().map(|c| &c.gop).collect::<Vec<_>>(), whole);
        assert_eq!(played[2].holdings[1].frames, 3, "{:?}", played[2].holdings);
        // Where no clock is known, what looks like another group is played too.
        let alone = choose([&gops[2..7], &gops[9..]].concat());
        assert_eq!(alone.len(), 6);
        // A copy of the same that was written again is no more than its beginning either.
        let mut again = gops[9].clone();
        again.id.sequence = 9;
        again.hashes.pop();
        let both = choose([gops.clone(), vec![again]].concat());
        assert_eq!(both.iter().map(|c| &c.gop).collect::<Vec<_>>(), whole);
        // I1: where the whole copies lack the later group, nothing of it is hidden.
        gops.remove(6);
        let played: BTreeSet<FrameHash> = choose(gops.clone())
            .into_iter()
            .flat_map(|c| c.gop.hashes)
            .collect();
        assert_eq!(played, gops.into_iter().flat_map(|g| g.hashes).collect());
    }
}

/// I1: the pictures repeat, so that a frame of a group is in later ones too; the copy with more frames is played, whoever owns.
#[test]
fn of_a_group_of_which_little_was_received_the_rest_is_never_hidden() {
    let still = [200; 16];
    let with_still = |mut gop: Gop| {
        gop.hashes[1] = still;
        gop
    };
    let mut gops = Vec::new();
    for second in 0..6 {
        gops.push(with_still(gop(1, 1, second, 0..25, true, 1)));
    }
    for second in [0, 1, 5] {
        gops.push(with_still(gop(2, 2, second, 0..25, true, 2)));
    }
    let mut few = with_still(gop(2, 2, 2, 0..3, false, 2));
    few.hashes.extend(gop(1, 1, 4, 8..25, true, 1).hashes);
    few.duration = 3_600 * few.hashes.len() as u64;
    gops.push(few);
    let all: BTreeSet<FrameHash> = gops.iter().flat_map(|g| g.hashes.clone()).collect();
    let played = choose(gops);
    assert_eq!(played.len(), 6, "{played:?}");
    assert_eq!(
        (played[2].gop.frames(), played[2].gop.id.store.as_u128()),
        (25, 1)
    );
    assert_eq!(
        played
            .into_iter()
            .flat_map(|c| c.gop.hashes)
            .collect::<BTreeSet<_>>(),
        all
    );
}

fn starts(chosen: &[Chosen]) -> Vec<(u128, i64)> {
    chosen
        .iter()
        .map(|c| (c.gop.id.store.as_u128(), c.gop.start_us / 1000))
        .collect()
}

/// Ten seconds of one writer whose every group has the same pictures, by a clock that is `late_us` late.
fn still(store: u128, seconds: std::ops::Range<i64>, late_us: i64) -> Vec<Gop> {
    let moment = |s: i64| {
        let mut g = gop(store, store, s, 0..25, true, 1);
        g.hashes = (0..25).map(|f| [f; 16]).collect();
        g.start_us += late_us;
        g
    };
    seconds.map(moment).collect()
}

#[test]
fn what_follows_a_lost_key_frame_is_played_once_from_the_copy_that_has_it() {
    let whole: Vec<Gop> = (0..3).map(|s| gop(1, 1, s, 0..25, true, 1)).collect();
    for store in [2, 0] {
        let mut lost = gop(store, 9, 0, 0..25, true, 1);
        // The key frame of the second group is lost, and another frame of it.
        lost.hashes.extend(&whole[1].hashes[1..7]);
        lost.hashes.extend(&whole[1].hashes[8..]);
        lost.duration = 2 * 25 * 3600;
        let after = gop(store, 9, 2, 0..25, true, 1);
        let gops = [whole.clone(), vec![lost.clone(), after.clone()]].concat();
        let played: Vec<FrameHash> = choose(gops).into_iter().flat_map(|c| c.gop.hashes).collect();
        let expected: Vec<FrameHash> = whole.iter().flat_map(|g| g.hashes.clone()).collect();
        assert_eq!(played, expected, "store {store}");
        // Where nobody else has it, what follows is better than nothing.
        let alone = choose(vec![lost.clone(), after]);
        assert_eq!(alone[0].gop, lost);
    }
}

#[test]
fn a_frame_that_one_member_missed_does_not_part_the_copies() {
    let whole = gop(1, 1, 0, 0..25, true, 1);
    for at in [1, 12, 24] {
        let torn = without(gop(2, 2, 0, 0..25, true, 9), at);
        for both in [[torn.clone(), whole.clone()], [whole.clone(), torn.clone()]] {
            let chosen = choose(both.to_vec());
            assert_eq!((chosen.len(), chosen[0].copies, &chosen[0].gop), (1, 2, &whole));
            assert!(!chosen[0].overlaps());
        }
    }
}

#[test]
fn the_same_key_frame_before_other_pictures_is_another_group() {
    let (a, mut b) = (gop(1, 1, 0, 0..25, true, 1), gop(2, 2, 1, 0..25, true, 1));
    b.hashes[0] = a.hashes[0];
    assert_eq!(choose(vec![a, b]).len(), 2);
}

#[test]
fn two_groups_of_one_store_are_never_the_same_by_their_hashes() {
    // A still picture, two segments within the window.
    assert_eq!(choose(still(1, 0..10, 0)).len(), 10);
    // But a writer that had to write again wrote the same group.
    let (one, mut again) = (gop(1, 1, 0, 0..10, false, 1), gop(1, 1, 0, 0..25, true, 1));
    again.id.sequence = 1;
    let chosen = choose(vec![one, again.clone()]);
    assert_eq!((chosen.len(), chosen[0].copies, &chosen[0].gop), (1, 2, &again));
}

#[test]
fn a_still_scene_is_matched_by_time() {
    for late_us in [-400_000, 0, 400_000] {
        let mut gops = still(1, 0..8, 0);
        gops.extend(still(2, 4..12, late_us));
        let chosen = choose(gops);
        assert_eq!(chosen.len(), 12, "{:?}", starts(&chosen));
        assert_eq!(chosen.iter().filter(|c| c.copies == 2).count(), 4);
        assert!(chosen.iter().all(|c| !c.overlaps()));
    }
}

#[test]
fn a_still_scene_is_matched_by_the_clocks_that_moving_pictures_show() {
    for late_us in [-900_000, -600_000, 600_000, 900_000] {
        let mut gops = still(1, 0..8, 0);
        gops.extend(still(2, 4..12, late_us));
        for (store, late_us) in [(1, 0), (2, late_us)] {
            // Pictures that move, in the same runs.
            gops.extend((30..32).map(|s| {
                let mut g = gop(store, store, s, 0..25, true, 1);
                g.hashes = (0..25).map(|f| [100 + f + 25 * (s - 30) as u8; 16]).collect();
                g.start_us += late_us;
                g
            }));
        }
        let chosen = choose(gops);
        assert_eq!(chosen.len(), 14, "{late_us}: {:?}", starts(&chosen));
        assert_eq!(chosen.iter().filter(|c| c.copies == 2).count(), 6);
    }
}

#[test]
fn a_wall_clock_that_steps_back_disturbs_no_writers_order() {
    let step = |mut g: Gop, us: i64| {
        (g.run, g.start_us) = (Uuid::from_u128(7), g.start_us - us);
        g
    };
    for back_us in [500_000, 5_000_000, 60_000_000] {
        let mut gops: Vec<Gop> = (0..10).map(|s| gop(1, 1, s, 0..25, true, 1)).collect();
        gops.extend((10..20).map(|s| step(gop(1, 1, s, 0..25, true, 1), back_us)));
        let chosen = choose(gops);
        let order: Vec<u64> = chosen.iter().map(|c| c.gop.id.sequence).collect();
        assert_eq!(
            order,
            (0..20).collect::<Vec<_>>(),
            "all are played, in the order of their writer"
        );
        assert!(chosen.iter().all(|c| !c.overlaps()));
    }
}

#[test]
fn a_short_group_within_a_longer_one_of_its_own_store_stays() {
    let long = gop(1, 1, 0, 0..100, true, 1);
    let mut inside = gop(1, 2, 1, 150..160, true, 1);
    inside.id.incarnation = 1;
    let chosen = choose(vec![long, inside]);
    assert_eq!((chosen.len(), chosen[1].overlaps()), (2, false));
}

#[test]
fn of_unlike_encodes_of_one_time_the_higher_rank_is_played() {
    let (low, mut high) = (gop(1, 1, 0, 0..20, true, 1), gop(2, 2, 0, 100..125, true, 1));
    high.start_us += 10_000;
    let mut wide = low.clone();
    wide.duration = high.duration;
    let chosen = choose(vec![wide, high.clone()]);
    assert_eq!((chosen.len(), &chosen[0].gop), (1, &high));
    // One that has more pictures, but of a part of the time only, is played too.
    let mut longest = low;
    longest.duration = 90_000 * 5;
    let chosen = choose(vec![longest, high]);
    assert_eq!((chosen.len(), chosen[1].overlaps()), (2, true));
}

#[test]
fn the_clocks_of_two_members_part_no_neighbours() {
    for late_us in [-300_000, 300_000] {
        let late = |mut g: Gop| {
            g.start_us += late_us;
            g
        };
        let mut gops: Vec<Gop> = (0..4).map(|s| gop(1, 1, s, 0..25, true, 9)).collect();
        gops.extend((3..6).map(|s| late(gop(2, 2, s, 0..25, true, 1))));
        let chosen = choose(gops);
        assert_eq!(chosen.len(), 6);
        assert!(
            chosen.iter().skip(1).all(|c| c.follows && !c.overlaps()),
            "{chosen:?}"
        );
    }
}

#[test]
fn stores_that_contradict_each_other_lose_nothing() {
    // By their hashes, second 1 of the one is second 2 of the other, and the other way round.
    let a: Vec<Gop> = (0..4).map(|s| gop(1, 1, s, 0..25, true, 1)).collect();
    let mut b: Vec<Gop> = (0..4).map(|s| gop(2, 2, s, 0..25, true, 1)).collect();
    b[1].hashes.clone_from(&a[2].hashes);
    b[2].hashes.clone_from(&a[1].hashes);
    let chosen = choose(a.into_iter().chain(b).collect());
    assert_eq!(chosen.len(), 4);
    assert!(chosen.iter().all(|c| c.copies == 2));
}

#[test]
fn a_camera_that_pauses_leaves_no_hole_of_its_run() {
    // How long it is, how long its writer knows it to be, and whether nothing is missing.
    for (pause, paused, follows) in [
        (0, 0, true),
        (43_200, 0, true),
        (89_999, 0, true),
        (90_000, 0, false),
        (-1, 0, false),
        (90_000, 90_000, true),
        (900_000, 900_000, true),
        (900_001, 900_000, false),
        (899_999, 900_000, false),
    ] {
        let (before, mut after) = (gop(1, 1, 0, 0..25, true, 1), gop(1, 1, 1, 0..25, true, 1));
        (after.dts, after.start_us) = (after.dts + pause, after.start_us + pause * 100 / 9);
        after.paused = paused;
        assert_eq!(
            choose(vec![before, after])[1].follows,
            follows,
            "{pause} {paused}"
        );
    }
}

#[test]
fn a_group_lasts_as_long_as_its_pictures_do() {
    let fragment = |dts: i64, duration: u64, paused: u32| Fragment {
        offset: 0,
        len: 1,
        key: dts == 0,
        start_us: dts * 100 / 9,
        dts,
        duration,
        frames: 1,
        paused,
    };
    let mut paused = gop(1, 1, 0, 0..1, false, 1);
    // The first one is shown for 43,200, which its writer did not know.
    paused.extend(&fragment(43_200, 43_200, 0), vec![[1; 16]]);
    assert_eq!(paused.duration, 86_400);
    // Nor that of the second one, but that nothing came after it for so long.
    paused.extend(&fragment(286_400, 3600, 200_000), vec![[2; 16]]);
    assert_eq!(paused.duration, 290_000);
    let cut = |cut: &Cut| (cut.at, cut.pause);
    assert_eq!(
        paused.cuts.iter().map(cut).collect::<Vec<_>>(),
        [(86_400, 200_000)]
    );
    let before = paused.duration;
    paused.extend(&fragment(490_000, 3600, 0), vec![[3; 16]]);
    assert_eq!(paused.duration, before + 3600, "of that nobody knows");
}
