//! The parts behind the lock, each by itself.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use segment::SegmentId;
use segment::inventory::Held;
use uuid::Uuid;

use super::holdings::{ALWAYS, Holdings, Sealed, lacking};
use super::progress::Progress;
use super::refusals::Refusals;

const STREAM: Uuid = Uuid::from_u128(7);
const SECOND: i64 = 1_000_000;

fn id(sequence: u64) -> SegmentId {
    SegmentId {
        stream: STREAM,
        store: Uuid::from_u128(1),
        member: "front-0".into(),
        incarnation: 3,
        sequence,
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What is said of a segment of a hundred bytes that lasts for the second of its number.
fn held(sequence: u64, sealed: bool) -> Held {
    let start = sequence.cast_signed() * SECOND;
    Held {
        id: id(sequence),
        length: 100,
        root: sealed.then_some([1; 32]),
        span_us: sealed.then_some((start, start + SECOND)),
        reclaimed: false,
    }
}

fn seal(holdings: &mut Holdings, sequence: u64) -> bool {
    let Held {
        id,
        length,
        root,
        span_us,
        ..
    } = held(sequence, true);
    let sealed = Sealed {
        root: root.unwrap(),
        span_us: span_us.unwrap(),
    };
    holdings.sealed(&id, length, sealed)
}

/// What is here, by pages of two.
fn inventory(holdings: &Holdings) -> Vec<Held> {
    let mut all: Vec<Held> = Vec::new();
    loop {
        let page = holdings.held_after(all.last().map(|held| &held.id), 2);
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    all.extend(holdings.all_reclaimed());
    all
}

/// What is still to come, by pages of two.
fn still_lacking(holdings: &mut Holdings) -> BTreeMap<Uuid, Vec<(i64, i64)>> {
    let (mut spans, mut after) = (BTreeMap::<Uuid, Vec<(i64, i64)>>::new(), None);
    loop {
        let (page, last) = holdings.still_lacking(after.as_ref(), 2);
        for (stream, span) in page {
            spans.entry(stream).or_default().push(span);
        }
        if last.is_none() {
            return spans;
        }
        after = last;
    }
}

fn compare(holdings: &mut Holdings, theirs: &[Held]) {
    let lacking = lacking(&inventory(holdings), theirs);
    holdings.set_lacking(lacking);
}

#[test]
fn only_what_is_new_is_news() {
    let mut holdings = Holdings::default();
    assert!(holdings.grew(&id(0), 10, false));
    assert!(!holdings.grew(&id(0), 10, false) && !holdings.grew(&id(0), 9, false));
    assert!(holdings.grew(&id(0), 11, false));
    assert!(holdings.grew(&id(0), 11, true), "its writer is dead");
    assert_eq!(holdings.partials(Uuid::from_u128(1), 4), [(id(0), 11)]);
    assert!(holdings.partials(Uuid::from_u128(1), 3).is_empty(), "it lives");
    assert!(seal(&mut holdings, 0) && !seal(&mut holdings, 0));
    assert!(
        !holdings.grew(&id(0), 200, true),
        "nothing grows once it is sealed"
    );
    assert!(holdings.partials(Uuid::from_u128(1), 4).is_empty());
    assert_eq!(
        (holdings.get(&id(0)).map(|known| known.end), holdings.bytes()),
        (Some(100), 100)
    );
}

#[test]
fn what_is_to_come_is_told_until_it_is_here() {
    let mut holdings = Holdings::default();
    seal(&mut holdings, 0);
    let theirs: Vec<Held> = (0..4).map(|n| held(n, n < 3)).collect();
    compare(&mut holdings, &theirs);
    let spans = |holdings: &mut Holdings| still_lacking(holdings).remove(&STREAM).unwrap_or_default();
    let span = |n: i64| (n * SECOND, (n + 1) * SECOND);
    let forever = (i64::MIN, i64::MAX);
    assert_eq!(
        spans(&mut holdings),
        [span(1), span(2), forever],
        "the last one has no end yet"
    );
    holdings.grew(&id(3), 100, true);
    assert_eq!(spans(&mut holdings), [span(1), span(2)]);
    holdings.grew(&id(2), 100, true);
    assert_eq!(spans(&mut holdings), [span(1), span(2)], "it is not sealed here");
    seal(&mut holdings, 2);
    seal(&mut holdings, 1);
    assert!(spans(&mut holdings).is_empty());
}

#[test]
fn what_was_refused_is_at_the_peer_all_the_same() {
    let mut holdings = Holdings::default();
    compare(&mut holdings, &[held(1, true)]);
    let spans = |holdings: &mut Holdings| still_lacking(holdings).remove(&STREAM).unwrap_or_default();
    let (known, begun) = ((SECOND, 2 * SECOND), (7 * SECOND, i64::MAX));
    holdings.refused(&id(1), None);
    assert_eq!(spans(&mut holdings), [known], "its time is known");
    holdings.refused(&id(2), Some(7 * SECOND));
    assert_eq!(
        spans(&mut holdings),
        [known, begun],
        "this one came after the inventory"
    );
    holdings.grew(&id(2), 100, true);
    assert_eq!(spans(&mut holdings), [known, begun], "a part of it is here");
    seal(&mut holdings, 2);
    assert_eq!(spans(&mut holdings), [known]);
    holdings.refused(&id(3), None);
    assert_eq!(spans(&mut holdings), [known, ALWAYS], "nobody knows of what time");
}

#[test]
fn a_copy_that_ends_before_what_was_known_is_asked_for_from_there() {
    let mut holdings = Holdings::default();
    holdings.grew(&id(0), 100, true);
    holdings.shrank(&id(0), 120);
    assert_eq!(holdings.get(&id(0)).map(|known| known.end), Some(100));
    holdings.shrank(&id(0), 40);
    assert_eq!(inventory(&holdings)[0].length, 40);
    assert!(holdings.grew(&id(0), 60, true), "and it grows again");
    seal(&mut holdings, 1);
    holdings.shrank(&id(1), 40);
    assert_eq!(holdings.get(&id(1)).map(|known| known.end), Some(100), "sealed");
    holdings.shrank(&id(2), 40);
    assert_eq!(holdings.get(&id(2)), None);
}

#[test]
fn what_left_by_retention_or_as_a_duplicate_is_not_wanted_back() {
    let mut holdings = Holdings::default();
    for n in 0..200 {
        seal(&mut holdings, n);
    }
    holdings.reclaimed(held(5, true));
    holdings.reclaimed(held(199, true));
    let length = |holdings: &Holdings, n| holdings.reclaimed_length(&id(n));
    assert_eq!((length(&holdings, 5), length(&holdings, 4)), (Some(100), None));
    assert!(
        inventory(&holdings).iter().any(|held| held.id == id(5)),
        "it counts as held"
    );
    holdings.evicted(&id(150), 151 * SECOND);
    assert_eq!(holdings.floors().collect::<Vec<_>>(), [(STREAM, 151 * SECOND)]);
    assert_eq!(length(&holdings, 5), None, "nobody asks for it again");
    assert_eq!(length(&holdings, 199), Some(100));
    holdings.evicted(&id(10), 11 * SECOND);
    assert_eq!(
        holdings.floors().collect::<Vec<_>>(),
        [(STREAM, 151 * SECOND)],
        "floors only rise"
    );
    compare(&mut holdings, &[held(150, true), held(10, true)]);
    assert!(still_lacking(&mut holdings).is_empty());
}

#[test]
fn what_the_peer_records_after_a_clock_was_ahead_is_wanted() {
    let mut holdings = Holdings::default();
    holdings.evicted(&id(900), 901 * SECOND);
    compare(&mut holdings, &[held(150, true)]);
    assert!(still_lacking(&mut holdings).is_empty());
    assert!(holdings.bound_floors(150), "the peer has to hear of it");
    assert!(!holdings.bound_floors(150));
    assert_eq!(holdings.floors().collect::<Vec<_>>(), [(STREAM, 150 * SECOND)]);
    compare(&mut holdings, &[held(149, true), held(150, true)]);
    assert_eq!(
        still_lacking(&mut holdings)[&STREAM],
        [(150 * SECOND, 151 * SECOND)]
    );
}

#[test]
fn what_left_while_nobody_told_is_forgotten() {
    let mut holdings = Holdings::default();
    for n in 0..4 {
        seal(&mut holdings, n);
    }
    holdings.grew(&id(4), 10, true);
    let floors = BTreeMap::from([(STREAM, 2 * SECOND)]);
    let left = holdings.set_floors(floors, |known| *known == id(1));
    assert_eq!(
        left,
        [id(0)],
        "1 is there, 2 and 3 are above the floor, 4 is open"
    );
    assert_eq!(holdings.bytes(), 310);
}

#[test]
fn lag_is_the_age_of_the_oldest_live_bytes() {
    let mut progress = Progress::default();
    let at = |progress: &Progress, now| progress.at(ms(now), None);
    progress.connected();
    progress.grew(&id(0), 40, ms(0));
    progress.grew(&id(0), 70, ms(50));
    progress.grew(&id(1), 20, ms(60));
    let found = at(&progress, 100);
    assert_eq!(
        (found.lag, found.lag_bytes),
        (ms(100), 90),
        "70 of one and 20 of the other"
    );
    progress.acknowledge(&id(0), 40, 100, ms(110));
    let found = at(&progress, 120);
    assert_eq!((found.lag, found.lag_bytes), (ms(70), 50));
    progress.acknowledge(&id(0), 70, 100, ms(130));
    progress.acknowledge(&id(1), 20, 100, ms(140));
    let found = at(&progress, 1000);
    assert_eq!(
        (found.lag, found.lag_bytes),
        (ms(80), 0),
        "how long the newest took"
    );
    progress.grew(&id(1), 30, ms(1000));
    progress.forget(&id(1));
    assert_eq!(at(&progress, 2000).lag_bytes, 0, "nobody waits for it");
}

#[test]
fn a_connection_that_was_replaced_ends_without_consequence() {
    let mut progress = Progress::default();
    let (first, second) = (progress.connected(), progress.connected());
    progress.grew(&id(0), 10, ms(0));
    progress.disconnected(first);
    let at = |progress: &Progress| progress.at(ms(10), None);
    assert_eq!((at(&progress).connected, at(&progress).lag_bytes), (true, 10));
    progress.disconnected(second);
    assert_eq!((at(&progress).connected, at(&progress).lag_bytes), (false, 0));
}

#[test]
fn backfill_shrinks_with_what_the_peer_acknowledges() {
    let mut progress = Progress::default();
    progress.connected();
    progress.set_backfill(BTreeMap::from([(id(0), 0), (id(1), 60)]), 1000, |_| 100);
    let at = |progress: &Progress| {
        let found = progress.at(ms(0), Some(10));
        (found.backfill_bytes, found.backfill_of, found.backfill_seconds)
    };
    assert_eq!(at(&progress), (140, 1000, Some(14)));
    progress.acknowledge(&id(0), 30, 100, ms(0));
    assert_eq!(at(&progress), (110, 1000, Some(11)));
    progress.acknowledge(&id(0), 20, 100, ms(0));
    assert_eq!(at(&progress).0, 110, "an older word");
    progress.acknowledge(&id(1), 100, 100, ms(0));
    progress.forget(&id(0));
    assert_eq!(at(&progress), (0, 1000, Some(0)));
}

#[test]
fn a_refused_segment_is_declined_for_a_while_and_until_the_good_one_comes() {
    let mut refusals = Refusals::default();
    assert!(refusals.refuse(&id(0), "Malformed", ms(0)));
    refusals.refuse(&id(1), "Malformed", ms(1));
    assert_eq!(refusals.declined(ms(2)), [id(0), id(1)]);
    assert!(refusals.declines(&id(0), ms(599_999)) && !refusals.declines(&id(0), ms(600_000)));
    assert!(!refusals.forgive(ms(599_999)));
    assert_eq!(refusals.declined(ms(600_000)), [id(1)]);
    refusals.resolve(&id(0));
    assert_eq!(refusals.last().map(|last| &last.id), Some(&id(1)));
    refusals.resolve(&id(1));
    assert_eq!((refusals.last(), refusals.count()), (None, 2));
    assert!(refusals.declined(ms(2)).is_empty());
    refusals.refuse(&id(2), "Malformed", ms(0));
    refusals.refuse(&id(3), "Malformed", ms(599_999));
    assert!(refusals.forgive(ms(600_000)), "the first of them");
    assert!(refusals.declined(ms(600_000)).is_empty(), "all at once");
    assert!(!refusals.forgive(ms(u64::MAX)));
    for n in 0..5000 {
        refusals.refuse(&id(n), "Malformed", ms(0));
    }
    assert!(
        refusals.declined(ms(0)).len() < 5000,
        "a bounded number is remembered"
    );
}
