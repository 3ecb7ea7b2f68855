//! What is said of failovers, and how long each of their phases took.

use super::*;

/// A pair at rest, whose Lease is of this epoch.
fn in_epoch(epoch: u64) -> World {
    let mut world = at_rest(&json!({}));
    Arc::make_mut(&mut world.view).lease.as_mut().unwrap().epoch = failover::Epoch(epoch);
    world
}

#[test]
fn the_newest_failovers_are_listed_with_their_phases() {
    let mut world = in_epoch(8);
    said(&mut world, STANDBY).failovers = vec![took(2, "Expired"), took(4, "Expired"), took(6, "Switchover")];
    let before = told(&world);
    written(&mut world, &before);
    said(&mut world, STANDBY).failovers = vec![took(6, "Switchover"), took(8, "Expired")];
    said(&mut world, PRIMARY).failovers = vec![took(5, "Expired"), took(7, "Expired")];
    let failovers = told(&world).failovers;
    let listed: Vec<_> = failovers
        .iter()
        .map(|failover| (failover.epoch, failover.member.as_str()))
        .collect();
    let expected = [
        (8, "front-1"),
        (7, "front-0"),
        (6, "front-1"),
        (5, "front-0"),
        (4, "front-1"),
    ];
    assert_eq!(listed, expected);
    let newest = &failovers[0];
    let phases = [
        newest.last_frame,
        newest.suspected,
        newest.recording,
        newest.read,
        newest.taken,
        newest.serving,
    ];
    assert_eq!(phases, [-40, 150, 160, 200, 950, 1050].map(Some));
    assert_eq!(newest.when.0.as_second(), 1_800_008_001);
}

#[test]
fn a_failover_that_cannot_have_been_hides_none() {
    let mut world = in_epoch(8);
    let mut forged = took(6, "Expired");
    forged.epoch = u64::MAX;
    said(&mut world, STANDBY).failovers = vec![forged, took(7, "Expired")];
    let before = told(&world);
    assert_eq!(before.failovers.len(), 1);
    // One that an older operator believed goes again.
    let mut believed = before.failovers[0].clone();
    believed.epoch = i64::MAX;
    Arc::make_mut(&mut world.pair)
        .status
        .get_or_insert_default()
        .failovers = vec![believed];
    said(&mut world, STANDBY).failovers = vec![took(8, "Expired")];
    let epochs: Vec<_> = told(&world)
        .failovers
        .iter()
        .map(|failover| failover.epoch)
        .collect();
    assert_eq!(epochs, [8]);
}

#[test]
fn the_first_take_and_one_that_is_not_done_are_no_failovers() {
    let mut unfinished = took(9, "Expired");
    unfinished.serving = None;
    let mut unknown_start = took(10, "Expired");
    (
        unknown_start.last_heard,
        unknown_start.suspected,
        unknown_start.read,
    ) = (None, None, None);
    let mut world = at_rest(&json!({}));
    said(&mut world, PRIMARY).failovers = vec![took(1, "NoHolder"), unfinished, unknown_start];
    assert_eq!(told(&world).failovers, []);
}

#[test]
fn a_failover_ends_when_both_have_everything_in_its_epoch() {
    let mut world = in_epoch(8);
    said(&mut world, PRIMARY).failovers = vec![took(8, "Expired")];
    // It served in second 8001 of the tests' clock.
    let told = |world: &World, second: i64| at(world, &[], Progress::Done, moment(8001 + second));
    let converged = |world: &World, second: i64| told(world, second).failovers[0].converged;
    for member in [PRIMARY, STANDBY] {
        said(&mut world, member).epoch = 8;
    }
    assert_eq!(converged(&world, 3), Some(4050));
    let lacks: [Change; 5] = [
        |world: &mut World| said(world, STANDBY).epoch = 7,
        |world: &mut World| said(world, STANDBY).replication.backfill_bytes = 1,
        |world: &mut World| said(world, PRIMARY).replication.connected = false,
        |world: &mut World| said(world, STANDBY).role = crds::member::Role::None,
        |world: &mut World| said(world, STANDBY).fit = false,
    ];
    for lacking in lacks {
        let mut world = world.clone();
        lacking(&mut world);
        assert_eq!(converged(&world, 3), None);
    }
    let before = told(&world, 3);
    written(&mut world, &before);
    assert_eq!(converged(&world, 9), Some(4050), "once said it stays");
}

#[test]
fn a_phase_is_counted_once() {
    let mut world = in_epoch(8);
    let before = told(&world);
    said(&mut world, PRIMARY).failovers = vec![took(8, "Expired")];
    let mut after = told(&world);
    let expected = [
        ("lastFrame", 0.04),
        ("suspected", 0.15),
        ("recording", 0.16),
        ("read", 0.2),
        ("taken", 0.95),
        ("serving", 1.05),
    ];
    assert_eq!(reached(&before, &after), expected);
    let told = after.clone();
    after.failovers[0].converged = Some(4050);
    assert_eq!(reached(&told, &after), [("converged", 4.05)]);
    assert_eq!(reached(&after, &after), []);
}

#[test]
fn the_last_frame_is_told_as_before_or_after_and_counted_as_how_far_the_copy_was_behind() {
    let cases = [
        (-40, "last frame 40 ms before", 0.04),
        (-1_500, "last frame 1500 ms before", 1.5),
        (0, "last frame after 0 ms", 0.0),
        (12, "last frame after 12 ms", 0.0),
    ];
    for (at, words, behind) in cases {
        let mut world = in_epoch(8);
        let before = told(&world);
        let mut failover = took(8, "Expired");
        failover.last_frame = failover.last_heard.and_then(|heard| heard.checked_add_signed(at));
        said(&mut world, PRIMARY).failovers = vec![failover];
        let after = told(&world);
        let [note] = &notes(&before, &after)[..] else {
            panic!("one event")
        };
        let expected = format!("{words}, suspected after 150 ms, recording after 160 ms");
        assert!(note.message.contains(&expected), "{}", note.message);
        assert_eq!(reached(&before, &after)[0], ("lastFrame", behind), "{at} ms");
    }
}
