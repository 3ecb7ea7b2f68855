//! The ring's rules one by one.

use super::*;
use crate::recorder::frame::Run;

const SECOND_US: i64 = 1_000_000;

pub(super) fn run() -> Arc<Run> {
    Arc::new(Run {
        id: uuid::Uuid::nil(),
        sample_entry: bytes::Bytes::new(),
        width: 16,
        height: 16,
        hevc: false,
        audio: None,
        clock: segment::ClockSource::Own,
    })
}

pub(super) fn frame(run: &Arc<Run>, n: u64, key: bool, len: usize) -> Frame {
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&n.to_le_bytes());
    Frame {
        data: vec![0; len].into(),
        key,
        hash,
        dts: n as i64 * 3600,
        cts: 0,
        wallclock_us: n as i64 * 40_000,
        received: Duration::from_millis(n * 40),
        follows: false,
        audio: Vec::new(),
        run: Arc::clone(run),
    }
}

fn limits(max_bytes: usize) -> Limits {
    Limits {
        max_bytes,
        preroll: Duration::from_secs(2),
    }
}

/// A ring that got frames `0..n`, a key frame at each multiple of 25.
fn filled(n: u64) -> Ring {
    let run = run();
    let mut ring = Ring::new(limits(10 << 20));
    for i in 0..n {
        assert_eq!(ring.push(frame(&run, i, i % 25 == 0, 1000)), None);
    }
    ring
}

fn gop_of(first: u64, shift_us: i64) -> WholeGop {
    let run = run();
    let hashes = (first..first + 25)
        .map(|i| frame(&run, i, false, 0).hash)
        .collect();
    WholeGop {
        start_us: first as i64 * 40_000 + shift_us,
        hashes,
    }
}

#[test]
fn frames_before_the_first_key_frame_are_not_taken() {
    let mut ring = Ring::new(limits(1 << 20));
    let dropped = ring.push(frame(&run(), 3, false, 10));
    assert_eq!(dropped.map(|d| d.frames), Some(1));
    assert_eq!(ring.frames().count(), 0);
}

#[test]
fn i12_frames_stay_until_they_are_durable() {
    let mut ring = filled(250);
    ring.trim(Duration::from_hours(1));
    assert_eq!(ring.frames().count(), 250);
    assert_eq!(ring.start(), None);
    assert_eq!(ring.take(usize::MAX).len(), 250);
    ring.durable(0, 110);
    ring.trim(Duration::from_hours(1));
    assert_eq!(
        ring.frames().count(),
        150,
        "whole durable groups leave, the half durable one stays"
    );
}

#[test]
fn durable_groups_stay_for_the_preroll() {
    let mut ring = filled(100);
    assert_eq!(ring.start(), None);
    ring.take(usize::MAX);
    ring.durable(0, 100);
    ring.trim(Duration::from_millis(99 * 40));
    assert_eq!(
        ring.frames().count(),
        75,
        "the oldest group ended 3 s ago, the second 2 s ago"
    );
}

#[test]
fn what_shows_nothing_new_is_not_waited_for() {
    let mut ring = filled(100);
    // The last new picture was one of the second group: the third is the first that has none.
    ring.forgo(Duration::from_millis(30 * 40));
    let backlog = ring.backlog();
    assert_eq!(
        backlog.oldest,
        Some(Duration::ZERO),
        "the first two have to be durable"
    );
    assert_eq!(ring.start(), None);
    let taken: Vec<u64> = ring.take(usize::MAX).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(taken.len(), 100);
    ring.durable(0, 50);
    let open = ring.backlog();
    assert_eq!(
        open.oldest,
        Some(Duration::from_secs(3)),
        "so has a group that may still get one"
    );
}

#[test]
fn at_rest_nothing_stays_but_what_is_not_durable() {
    let mut ring = filled(100);
    ring.close_gop();
    assert_eq!(ring.start(), None);
    ring.take(usize::MAX);
    ring.durable(0, 75);
    ring.rest(true);
    ring.trim(Duration::from_millis(99 * 40));
    assert_eq!(ring.frames().count(), 25);
    ring.durable(75, 100);
    ring.trim(Duration::from_millis(99 * 40));
    assert_eq!((ring.frames().count(), ring.bytes()), (0, 0));
}

#[test]
fn writing_starts_with_the_oldest_group_that_is_not_durable() {
    let mut ring = filled(100);
    ring.received(gop_of(0, 0));
    assert_eq!(ring.start(), None);
    let taken = ring.take(usize::MAX);
    assert_eq!(taken.first().map(|t| t.0), Some(25));
    assert_eq!(taken.len(), 75);
}

#[test]
fn writing_stops_at_a_border_only() {
    let mut ring = filled(60);
    assert_eq!(ring.start(), None);
    ring.take(usize::MAX);
    assert!(!ring.stop(), "inside the third group");
    let run = run();
    for i in 60..75 {
        ring.push(frame(&run, i, false, 10));
    }
    ring.take(usize::MAX);
    assert!(
        !ring.stop(),
        "all frames so far are taken, but the group is not closed"
    );
    ring.push(frame(&run, 75, true, 10));
    assert!(ring.stop());
    assert!(!ring.is_writing());
}

#[test]
fn a_received_group_counts_only_whole_and_near() {
    let mut ring = filled(51);
    ring.received(gop_of(0, 3 * SECOND_US));
    assert_eq!(ring.backlog().oldest, Some(Duration::ZERO), "three seconds away");
    let mut short = gop_of(0, 0);
    short.hashes.pop();
    ring.received(short);
    assert_eq!(ring.backlog().oldest, Some(Duration::ZERO), "one frame missing");
    ring.received(gop_of(0, SECOND_US));
    assert_eq!(ring.backlog().oldest, Some(Duration::from_secs(1)));
}

#[test]
fn a_received_group_may_come_before_its_twin_is_closed() {
    let mut ring = filled(10);
    ring.received(gop_of(0, 0));
    let run = run();
    for i in 10..26 {
        ring.push(frame(&run, i, i == 25, 10));
    }
    assert_eq!(ring.backlog().oldest, Some(Duration::from_secs(1)));
}

#[test]
fn repeated_content_is_ambiguous_and_matches_nothing() {
    let run = run();
    let mut ring = Ring::new(limits(1 << 20));
    for i in 0..76 {
        let mut f = frame(&run, i, i % 25 == 0, 10);
        f.hash = [9; 16];
        ring.push(f);
    }
    let still = WholeGop {
        start_us: SECOND_US,
        hashes: vec![[9; 16]; 25],
    };
    ring.received(still);
    assert_eq!(ring.backlog().oldest, Some(Duration::ZERO));
}

#[test]
fn at_the_cap_durable_groups_leave_first_then_the_oldest_whole_one() {
    let run = run();
    let cost = frame(&run, 0, true, 1000).cost();
    let mut ring = Ring::new(limits(cost * 60));
    let push = |ring: &mut Ring, i: u64| ring.push(frame(&run, i, i.is_multiple_of(25), 1000));
    for i in 0..50 {
        assert_eq!(push(&mut ring, i), None);
    }
    ring.received(gop_of(25, 0));
    for i in 50..75 {
        push(&mut ring, i);
    }
    ring.received(gop_of(25, 0));
    let dropped: Vec<_> = (75..90).filter_map(|i| push(&mut ring, i)).collect();
    assert_eq!(
        dropped,
        vec![Dropped {
            frames: 25,
            start_us: 0,
            end_us: 24 * 40_000
        }]
    );
}

#[test]
fn a_group_larger_than_the_cap_is_dropped_and_counted_to_its_last_frame() {
    let run = run();
    let cost = frame(&run, 0, true, 1000).cost();
    let mut ring = Ring::new(limits(cost * 10));
    let lost: u64 = (0..40)
        .filter_map(|i| ring.push(frame(&run, i, i == 0, 1000)))
        .map(|d| d.frames)
        .sum();
    assert_eq!(lost, 40);
    assert_eq!(ring.bytes(), 0);
}

#[test]
fn the_durable_head_of_an_endless_group_is_released() {
    let run = run();
    let cost = frame(&run, 0, true, 1000).cost();
    let mut ring = Ring::new(limits(cost * 10));
    assert_eq!(ring.start(), None);
    for i in 0..1000 {
        assert_eq!(ring.push(frame(&run, i, i == 0, 1000)), None);
        for (seq, _) in ring.take(usize::MAX) {
            ring.durable(seq, seq + 1);
        }
    }
    assert!(ring.bytes() <= cost * 10);
}

#[test]
fn after_a_refusal_writing_begins_again_with_the_whole_group() {
    let mut ring = filled(40);
    assert_eq!(ring.start(), None);
    ring.take(usize::MAX);
    ring.durable(0, 30);
    assert_eq!(ring.rewind(), None);
    assert_eq!(ring.take(usize::MAX).first().map(|t| t.0), Some(25));
}

#[test]
fn i12_the_rest_of_a_group_whose_head_left_is_told_when_it_cannot_be_written() {
    let run = run();
    let cost = frame(&run, 0, true, 1000).cost();
    let mut ring = Ring::new(limits(cost * 10));
    assert_eq!(ring.start(), None);
    for i in 0..12 {
        if i == 8 {
            ring.take(usize::MAX);
            ring.durable(0, 6);
        }
        assert_eq!(ring.push(frame(&run, i, i == 0, 1000)), None);
    }
    assert!(
        ring.frames().next().is_some_and(|f| !f.key),
        "its head was released"
    );
    let dropped = ring.rewind();
    assert_eq!(dropped.map(|d| (d.frames, d.start_us)), Some((6, 6 * 40_000)));
    assert_eq!(ring.push(frame(&run, 12, false, 1000)).map(|d| d.frames), Some(1));
    ring.push(frame(&run, 13, true, 1000));
    assert_eq!(ring.take(usize::MAX).len(), 1, "it goes on with the next group");
    assert_eq!(ring.backlog().bytes, cost);
}

#[test]
fn a_writer_that_is_to_stop_takes_the_rest_of_its_group_only() {
    let mut ring = filled(60);
    assert_eq!(ring.start(), None);
    assert_eq!(ring.take(usize::MAX).len(), 60);
    let run = run();
    for i in 60..80 {
        ring.push(frame(&run, i, i % 25 == 0, 10));
    }
    let rest: Vec<_> = ring.take_rest(usize::MAX).iter().map(|t| t.0).collect();
    assert_eq!(rest, (60..75).collect::<Vec<_>>());
    assert!(ring.stop());
    assert_eq!(ring.start(), None);
    assert!(ring.take_rest(usize::MAX).is_empty(), "no group is begun");
    assert!(ring.stop());
}

#[test]
fn a_group_that_cannot_be_written_leaves_alone() {
    let mut ring = filled(60);
    assert_eq!(ring.start(), None);
    ring.take(usize::MAX);
    let lost = Dropped {
        frames: 15,
        start_us: 35 * 40_000,
        end_us: 49 * 40_000,
    };
    assert_eq!(ring.discard(35), Some(lost), "10 frames of it were written");
    let next = ring.take(usize::MAX).first().map(|t| t.0);
    assert_eq!(next, Some(50), "the writer goes on after it");
    assert_eq!(ring.discard(35), None);
    let next = ring.take(usize::MAX).first().map(|t| t.0);
    assert_eq!(next, Some(0), "unknown: from the beginning");
    let sum: usize = ring.frames().map(|f| f.cost()).sum();
    assert_eq!((ring.bytes(), ring.frames().count()), (sum, 35));
    ring.discard(50);
    let dropped = ring.push(frame(&run(), 60, false, 10));
    assert_eq!(
        dropped.map(|d| d.frames),
        Some(1),
        "the rest of an open group is of no use"
    );
    assert_eq!(ring.push(frame(&run(), 61, true, 10)), None);
}

#[test]
fn received_groups_from_long_ago_push_nothing_out() {
    let run = run();
    let mut ring = Ring::new(limits(10 << 20));
    let first = 100_000;
    for i in first..first + 24 {
        ring.push(frame(&run, i, i == first, 10));
    }
    ring.received(gop_of(first, 0));
    for old in 0..1000 {
        ring.received(gop_of(old * 25, 0));
    }
    for i in first + 24..first + 26 {
        ring.push(frame(&run, i, i == first + 25, 10));
    }
    let oldest = ring.backlog().oldest;
    assert_eq!(
        oldest,
        Some(Duration::from_millis((first + 25) * 40)),
        "the first is matched"
    );
}
