//! When authority goes back to the preferred member.

use proptest::prelude::*;

use super::tests::{NOW, healthy, name};
use super::*;
use crate::event::ReadResult;
use crate::name::Incarnation;
use std::collections::BTreeSet;
use std::time::Duration;

const AFTER: u64 = 5;
const SECOND: Duration = Duration::from_secs(1);

/// One thing that is as it should not be, or that differs from before.
type Fault = fn(&mut Observed);

const FAULTS: [(&str, Fault); 13] = [
    ("the primary is silent", |o| o.members[0].report = None),
    ("the preferred one is silent", |o| o.members[1].report = None),
    ("the primary is unfit", |o| report(o, 0).health = Health::Unfit),
    ("the preferred one is unfit", |o| {
        report(o, 1).health = Health::Unfit;
    }),
    ("it does not hear the primary", |o| {
        report(o, 1).hears_primary = false;
    }),
    ("it takes", |o| report(o, 1).role = Role::Taking),
    ("it lacks media", |o| o.members[1].in_sync = false),
    ("its pod is gone", |o| o.members[1].pod = None),
    ("its pod is being deleted", |o| pod(o, 1).deleting = true),
    ("a pod is outdated", |o| pod(o, 0).outdated = true),
    ("nobody serves in this epoch", |o| {
        report(o, 0).serving_epoch = Some(Epoch(6));
    }),
    ("a volume is lost", |o| {
        o.lost = BTreeSet::from([report(o, 1).me.store.clone()]);
    }),
    ("the Lease is gone", |o| {
        o.lease.read(NOW, &ReadResult::Missing, SECOND);
    }),
];

/// One thing that is well, but not what it was.
const CHANGES: [(&str, Fault); 4] = [
    ("another epoch", |o| {
        let mut lease = o.lease.lease().cloned().unwrap();
        lease.record.epoch = Epoch(8);
        o.lease.read(NOW, &ReadResult::Found(lease), SECOND);
        report(o, 0).serving_epoch = Some(Epoch(8));
    }),
    ("another start of the primary", |o| {
        report(o, 0).me.incarnation = Incarnation(2);
    }),
    ("another pod", |o| "uid-new".clone_into(&mut pod(o, 1).uid)),
    ("another start of a container", |o| {
        "right-2".clone_into(&mut pod(o, 1).containers[0].id);
    }),
];

fn report(observed: &mut Observed, index: usize) -> &mut crate::report::Report {
    &mut observed.members[index].report.as_mut().unwrap().1
}

fn pod(observed: &mut Observed, index: usize) -> &mut Pod {
    observed.members[index].pod.as_mut().unwrap()
}

/// Left is primary, all is well, and right is to have it back.
fn away() -> Observed {
    let mut observed = healthy();
    observed.failback = Some(Failback {
        to: name("right"),
        after: SECOND * AFTER as u32,
    });
    observed
}

fn with(change: Fault) -> Observed {
    let mut observed = away();
    change(&mut observed);
    observed
}

/// Whether a failback is decided at the second at which this is observed.
fn fails_back(calm: &mut Calm, second: u64, observed: &Observed) -> bool {
    let now = NOW + SECOND * second as u32;
    let mut observed = observed.clone();
    for (at, _) in observed
        .members
        .iter_mut()
        .filter_map(|member| member.report.as_mut())
    {
        *at = now;
    }
    observed.calm = calm.look(now, &observed);
    plan(&observed, now).iter().any(|decision| {
        matches!(decision, Decision::TakeIt { member, order }
            if order.reason == TakeReason::Failback && *member == name("right"))
    })
}

/// The second of the first failback, of what is observed in each second.
fn first(observed: impl IntoIterator<Item = Observed>) -> Option<usize> {
    let mut calm = Calm::default();
    let mut seconds = observed.into_iter().enumerate();
    seconds.find_map(|(second, observed)| fails_back(&mut calm, second as u64, &observed).then_some(second))
}

#[test]
fn authority_goes_back_after_calm() {
    assert_eq!(first(vec![away(); 10]), Some(5));
    let here = |o: &mut Observed| o.failback.as_mut().unwrap().to = name("left");
    let no_wish = |o: &mut Observed| o.failback = None;
    let at_once = |o: &mut Observed| o.failback.as_mut().unwrap().after = Duration::ZERO;
    let asked = |o: &mut Observed| {
        o.switchover = Some(Switchover {
            to: Some(name("left")),
            unclean: false,
        });
    };
    assert_eq!(first(vec![with(here); 10]), None, "it is there already");
    assert_eq!(first(vec![with(no_wish); 10]), None, "it is not wanted");
    assert_eq!(first(vec![with(asked); 10]), None, "a user wants otherwise");
    assert_eq!(first(vec![with(at_once); 10]), Some(0));
}

#[test]
fn never_while_anything_is_wrong() {
    for (what, fault) in FAULTS {
        let at_once = |mut observed: Observed| {
            observed.failback.as_mut().unwrap().after = Duration::ZERO;
            observed
        };
        assert_eq!(first(vec![at_once(with(fault)); 10]), None, "{what}");
    }
}

#[test]
fn whatever_happens_starts_the_clock_anew() {
    for (what, fault) in FAULTS {
        let seen = [vec![away(); 5], vec![with(fault)], vec![away(); 10]].concat();
        assert_eq!(first(seen), Some(11), "{what}");
    }
    for (what, change) in CHANGES {
        let seen = [vec![away(); 5], vec![with(change); 10]].concat();
        assert_eq!(first(seen), Some(10), "{what}");
    }
}

#[test]
fn what_could_not_be_seen_is_no_calm() {
    let unread = || with(|o| o.lease.read(NOW, &ReadResult::Unavailable, SECOND));
    assert_eq!(
        first([vec![away(); 5], vec![unread()], vec![away(); 9]].concat()),
        Some(6),
        "one read"
    );
    assert_eq!(
        first([vec![away(); 5], vec![unread(); 3], vec![away(); 9]].concat()),
        Some(13),
        "many"
    );
    let mut calm = Calm::default();
    assert!(!fails_back(&mut calm, 0, &away()));
    assert!(!fails_back(&mut calm, 60, &away()), "the operator slept");
}

proptest! {
    #[test]
    fn a_failback_follows_calm_and_nothing_else(happens in proptest::collection::vec(0..60_usize, 1..60)) {
        let mut calm = Calm::default();
        let (mut epoch, mut well) = (7, 0);
        for (second, what) in happens.into_iter().enumerate() {
            let fault = FAULTS.get(what);
            // A failover: all is well at once, in another epoch.
            epoch += u64::from(what == 20);
            let mut observed = away();
            let mut lease = observed.lease.lease().cloned().unwrap();
            lease.record.epoch = Epoch(epoch);
            observed.lease.read(NOW, &ReadResult::Found(lease), SECOND);
            report(&mut observed, 0).serving_epoch = Some(Epoch(epoch));
            if let Some((_, fault)) = fault {
                fault(&mut observed);
            }
            well = match (fault, what) {
                (Some(_), _) => 0,
                (None, 20) => 1,
                (None, _) => well + 1,
            };
            prop_assert_eq!(fails_back(&mut calm, second as u64, &observed), well > AFTER);
        }
    }
}
