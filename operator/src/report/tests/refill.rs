//! What a status says of media that is missing: on one member, or on both.

use super::*;
use crate::fixtures::told;

fn after(change: Change) -> RecorderPairStatus {
    let mut world = at_rest(&json!({}));
    change(&mut world);
    told(&world)
}

fn owes(world: &mut World, sender: &str, bytes: u64, seconds: Option<u64>) {
    let replication = &mut said(world, sender).replication;
    (replication.backfill_bytes, replication.backfill_of) = (bytes, 1 << 30);
    replication.backfill_seconds = seconds;
}

#[test]
fn a_refill_shows_how_far_it_is_and_how_long_it_takes() {
    let refill = |percent, remaining_seconds| {
        Some(RefillStatus {
            percent,
            remaining_seconds,
        })
    };
    let table: [(&str, Change, _, _); 7] = [
        ("nothing is lacking", |_| (), None, None),
        (
            "a new volume",
            |w| owes(w, PRIMARY, 1 << 30, None),
            None,
            refill(0, None),
        ),
        (
            "half of it",
            |w| owes(w, PRIMARY, 1 << 29, Some(1_790)),
            None,
            refill(50, Some(1_800)),
        ),
        (
            "the last byte",
            |w| owes(w, PRIMARY, 1, Some(1)),
            None,
            refill(99, Some(10)),
        ),
        (
            "the primary lacks it",
            |w| owes(w, STANDBY, 1 << 28, Some(4_000)),
            refill(75, Some(4_200)),
            None,
        ),
        (
            "its source is silent",
            |w| {
                owes(w, PRIMARY, 1 << 29, Some(9));
                silence(w, PRIMARY);
            },
            None,
            None,
        ),
        (
            "its source is of an earlier version",
            |w| said(w, PRIMARY).replication.backfill_bytes = 5,
            None,
            None,
        ),
    ];
    for (what, change, primary, standby) in table {
        let found = after(change).members;
        assert_eq!((found[0].refill, found[1].refill), (primary, standby), "{what}");
    }
}

fn lacks(world: &mut World, member: &str, open_gap_ms: u64, lost_gap_ms: u64) {
    let door = &mut said(world, member).streams[0];
    (door.open_gap_ms, door.lost_gap_ms) = (open_gap_ms, lost_gap_ms);
}

#[test]
fn gaps_are_those_that_the_primary_tells_of() {
    let table: [(&str, Change, (i64, i64)); 4] = [
        ("none", |_| (), (0, 0)),
        ("one frame", |w| lacks(w, PRIMARY, 0, 40), (0, 1)),
        (
            "both kinds",
            |w| lacks(w, PRIMARY, 61_000, 3_601_000),
            (61, 3_700),
        ),
        ("only the standby's", |w| lacks(w, STANDBY, 61_000, 40), (0, 0)),
    ];
    for (what, change, seconds) in table {
        let streams = after(change).streams.unwrap();
        let totals = (streams.open_gap_seconds, streams.lost_gap_seconds);
        assert_eq!(totals, seconds, "{what}");
        let listed: Vec<_> = streams
            .gaps
            .iter()
            .map(|gaps| (gaps.open_seconds, gaps.lost_seconds))
            .collect();
        let expected: Vec<_> = [seconds].into_iter().filter(|s| *s != (0, 0)).collect();
        assert_eq!(listed, expected, "{what}");
    }
}

#[test]
fn gaps_of_many_streams_are_summed_and_a_few_are_listed() {
    let names: Vec<String> = (0..256).map(|n| format!("cam-{n}")).collect();
    let streams: Vec<_> = names
        .iter()
        .map(|name| json!({ "name": name, "url": "rtsp://camera/x" }))
        .collect();
    let mut world = at_rest(&json!({ "streams": streams }));
    let door = said(&mut world, PRIMARY).streams[0].clone();
    let streams = names.iter().map(|name| crds::member::StreamReport {
        name: name.clone(),
        lost_gap_ms: 40,
        ..door.clone()
    });
    said(&mut world, PRIMARY).streams = streams.collect();
    Arc::make_mut(&mut world.pair).status = None;
    let found = told(&world).streams.unwrap();
    assert_eq!((found.gaps.len(), found.lost_gap_seconds), (MAX_FAILING, 256));
}
