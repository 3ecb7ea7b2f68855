//! What the operator decides, state by state.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::event::ReadResult;
use crate::lease::RECREATE_STEP;
use crate::name::{Incarnation, MemberRef, StoreId, Version};
use crate::report::Report;

const NOW: BootTime = BootTime(100_000_000_000);

fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

fn store(text: &str) -> StoreId {
    StoreId::new(text).unwrap()
}

fn me(member: &str) -> MemberRef {
    let store = store(&format!("store-{member}"));
    MemberRef {
        member: name(member),
        store,
        incarnation: Incarnation(1),
    }
}

fn report(member: &str, role: Role, epoch: u64) -> Report {
    let serves = role == Role::Primary;
    Report {
        me: me(member),
        role,
        synced_epoch: Epoch(epoch),
        serving_epoch: serves.then_some(Epoch(epoch)),
        remaining_ms: 0,
        leash_ms: 600,
        health: Health::Fit,
        hears_primary: true,
        primary: None,
        lease_version: None,
        lease_epoch: None,
        follower: None,
        peers: Vec::new(),
    }
}

fn member(text: &str, role: Role, epoch: u64) -> MemberState {
    let container = Container {
        id: format!("{text}-1"),
        terminated: false,
    };
    let ran = BTreeSet::from([container.id.clone()]);
    MemberState {
        name: name(text),
        pod: Some(Pod {
            uid: format!("uid-{text}"),
            node: Some("node".to_owned()),
            containers: vec![container],
            outdated: false,
            deleting: false,
        }),
        was_running: Some(Running {
            pod_uid: format!("uid-{text}"),
            containers: ran,
        }),
        report: Some((NOW, report(text, role, epoch))),
        in_sync: true,
    }
}

fn lease(holder: Option<&str>, follower: Option<&str>) -> Lease {
    let record = LeaseRecord {
        epoch: Epoch(7),
        leash_ms: 600,
        counter: 3,
        holder: holder.map(me),
        follower: follower.map(|text| store(&format!("store-{text}"))),
    };
    Lease {
        version: Version::new("42"),
        record,
    }
}

/// A Lease that was seen unchanged for so many seconds.
fn seen(result: &ReadResult, seconds: u64) -> LeaseWatch {
    let mut watch = LeaseWatch::default();
    let start = NOW - Duration::from_secs(seconds);
    for second in 0..=seconds {
        watch.read(
            start + Duration::from_secs(second),
            result,
            Duration::from_secs(2),
        );
    }
    watch
}

/// Left holds epoch 7, right follows, all is well.
fn healthy() -> Observed {
    Observed {
        policy: Policy::default(),
        lease: seen(&ReadResult::Found(lease(Some("left"), Some("right"))), 1),
        members: vec![
            member("left", Role::Primary, 7),
            member("right", Role::Standby, 7),
        ],
        lost: BTreeSet::new(),
        known_epoch: Epoch(7),
        switchover: None,
        serving: Some(ServeTarget {
            epoch: Epoch(7),
            member: name("left"),
        }),
    }
}

fn take(member: &str, reason: TakeReason) -> Vec<Decision> {
    vec![take_it(&name(member), Epoch(7), reason)]
}

fn restart(member: &str) -> Vec<Decision> {
    let why = RestartReason::Outdated;
    vec![Decision::RestartMember {
        member: name(member),
        pod_uid: format!("uid-{member}"),
        why,
    }]
}

fn outdated(observed: &mut Observed, index: usize) {
    observed.members[index].pod.as_mut().unwrap().outdated = true;
}

fn silence(observed: &mut Observed, index: usize) {
    observed.members[index].report = None;
}

/// The primary's node is gone, and the standby does not hear it.
fn primary_gone(observed: &mut Observed) {
    silence(observed, 0);
    observed.members[1].report.as_mut().unwrap().1.hears_primary = false;
}

fn expired(observed: &mut Observed, seconds: u64) {
    observed.lease = seen(&ReadResult::Found(lease(Some("left"), Some("right"))), seconds);
}

type Case = (&'static str, fn(&mut Observed), Vec<Decision>);

#[test]
fn each_state_has_its_decision() {
    let cases: Vec<Case> = vec![
        ("all is well", |_| {}, vec![]),
        (
            "expired, and the standby hears nobody",
            |o| {
                primary_gone(o);
                expired(o, 5);
            },
            take("right", TakeReason::Expired),
        ),
        (
            "expired, but the standby hears the primary",
            |o| expired(o, 5),
            vec![],
        ),
        (
            "unchanged for less than its duration",
            |o| {
                primary_gone(o);
                expired(o, 3);
            },
            vec![],
        ),
        (
            "expired, but the standby takes already",
            |o| {
                primary_gone(o);
                expired(o, 5);
                o.members[1].report.as_mut().unwrap().1.role = Role::Taking;
            },
            vec![],
        ),
        (
            "a container of the primary is terminated",
            |o| {
                primary_gone(o);
                o.members[0].pod.as_mut().unwrap().containers[0].terminated = true;
            },
            take("right", TakeReason::ContainerTerminated),
        ),
        (
            "another container is terminated",
            |o| {
                primary_gone(o);
                o.members[0].pod.as_mut().unwrap().containers[0] = Container {
                    id: "older".to_owned(),
                    terminated: true,
                };
            },
            vec![],
        ),
        (
            "the container of another pod is terminated",
            |o| {
                primary_gone(o);
                let pod = o.members[0].pod.as_mut().unwrap();
                pod.containers[0].terminated = true;
                pod.uid = "another".to_owned();
            },
            vec![],
        ),
        (
            "a missing pod proves nothing",
            |o| {
                primary_gone(o);
                o.members[0].pod = None;
            },
            vec![],
        ),
        (
            "a switchover",
            |o| {
                o.switchover = Some(Switchover {
                    to: None,
                    unclean: false,
                })
            },
            take("right", TakeReason::Switchover),
        ),
        (
            "a switchover to the holder",
            |o| {
                o.switchover = Some(Switchover {
                    to: Some(name("left")),
                    unclean: false,
                })
            },
            vec![],
        ),
        (
            "a switchover to who is not in sync",
            |o| {
                o.members[1].in_sync = false;
                o.switchover = Some(Switchover {
                    to: None,
                    unclean: false,
                });
            },
            vec![],
        ),
        (
            "an unclean switchover",
            |o| {
                o.members[1].in_sync = false;
                o.switchover = Some(Switchover {
                    to: None,
                    unclean: true,
                });
            },
            take("right", TakeReason::Switchover),
        ),
        ("the standby is outdated", |o| outdated(o, 1), restart("right")),
        (
            "both are outdated: the standby first",
            |o| {
                outdated(o, 0);
                outdated(o, 1);
            },
            restart("right"),
        ),
        (
            "only the primary is outdated",
            |o| outdated(o, 0),
            take("right", TakeReason::Switchover),
        ),
        (
            "the standby is outdated, the primary unfit",
            |o| {
                outdated(o, 1);
                o.members[0].report.as_mut().unwrap().1.health = Health::Unfit;
            },
            vec![],
        ),
        (
            "the primary is outdated, the standby down",
            |o| {
                outdated(o, 0);
                silence(o, 1);
            },
            vec![],
        ),
        (
            "the standby is outdated and being deleted",
            |o| {
                outdated(o, 1);
                o.members[1].pod.as_mut().unwrap().deleting = true;
            },
            vec![],
        ),
    ];
    for (what, change, expected) in cases {
        let mut observed = healthy();
        change(&mut observed);
        assert_eq!(plan(&observed, NOW), expected, "{what}");
    }
}

#[test]
fn i5_the_service_never_goes_back_to_a_lower_epoch() {
    let mut observed = healthy();
    observed.serving = Some(ServeTarget {
        epoch: Epoch(8),
        member: name("right"),
    });
    assert_eq!(plan(&observed, NOW), vec![]);
    observed.members[1] = member("right", Role::Primary, 9);
    let target = ServeTarget {
        epoch: Epoch(9),
        member: name("right"),
    };
    assert_eq!(plan(&observed, NOW), vec![Decision::Serve(target)]);
}

#[test]
fn i5_a_lost_lease_is_recreated_above_everything_that_is_known() {
    let mut observed = healthy();
    observed.lease = seen(&ReadResult::Missing, 1);
    observed.members[1].report.as_mut().unwrap().1.synced_epoch = Epoch(11);
    let decisions = plan(&observed, NOW);
    let [Decision::RecreateLease { record }] = &decisions[..] else {
        panic!("{decisions:?}")
    };
    assert_eq!(record.epoch, Epoch(11 + RECREATE_STEP));
    assert_eq!((record.leash(), &record.holder), (LONGEST_LEASH, &None));
}

#[test]
fn a_lease_that_cannot_be_read_is_not_recreated() {
    let mut observed = healthy();
    observed.lease = seen(&ReadResult::Missing, 1);
    observed
        .lease
        .read(NOW, &ReadResult::Unavailable, Duration::from_secs(2));
    assert_eq!(plan(&observed, NOW), vec![]);
}

#[test]
fn only_time_with_successful_reads_counts_towards_expiry() {
    let found = ReadResult::Found(lease(Some("left"), Some("right")));
    let mut watch = seen(&found, 2);
    watch.read(
        NOW + Duration::from_secs(1),
        &ReadResult::Unavailable,
        Duration::from_secs(2),
    );
    watch.read(NOW + Duration::from_secs(60), &found, Duration::from_secs(2));
    assert_eq!(watch.unchanged(), Duration::from_secs(2));
    // An operator that slept saw nothing either.
    watch.read(NOW + Duration::from_secs(90), &found, Duration::from_secs(2));
    assert_eq!(watch.unchanged(), Duration::from_secs(4));
}

#[test]
fn another_follower_is_named_only_where_nobody_else_can_act() {
    let stores = |names: &[&str]| names.iter().map(|text| store(text)).collect::<BTreeSet<_>>();
    let old = lease(Some("left"), Some("other"));
    let cases = [
        (
            "both volumes are lost",
            stores(&["store-left", "store-other"]),
            13,
            true,
        ),
        (
            "the holder's volume is there",
            stores(&["store-other"]),
            13,
            false,
        ),
        (
            "the follower's volume is there",
            stores(&["store-left"]),
            13,
            false,
        ),
        (
            "it is too early",
            stores(&["store-left", "store-other"]),
            12,
            false,
        ),
    ];
    for (what, lost, seconds, named) in cases {
        let mut observed = healthy();
        primary_gone(&mut observed);
        observed.lease = seen(&ReadResult::Found(old.clone()), seconds);
        observed.lost = lost;
        let record = LeaseRecord {
            follower: Some(store("store-right")),
            counter: 4,
            ..old.record.clone()
        };
        let expected = Decision::NameFollower {
            member: name("right"),
            expected: old.version.clone(),
            record,
        };
        let decisions = plan(&observed, NOW);
        assert_eq!(decisions.contains(&expected), named, "{what}: {decisions:?}");
    }
}

#[test]
fn an_old_report_is_none() {
    let mut observed = healthy();
    outdated(&mut observed, 1);
    observed.members[0].report.as_mut().unwrap().0 = NOW - Duration::from_secs(4);
    assert_eq!(plan(&observed, NOW), vec![]);
}

#[test]
fn a_rolling_update_of_three_goes_from_the_last_to_the_first() {
    let mut observed = healthy();
    observed.members.push(member("third", Role::Standby, 7));
    for index in 0..3 {
        outdated(&mut observed, index);
    }
    assert_eq!(plan(&observed, NOW), restart("third"));
    observed.members[2] = member("third", Role::Standby, 7);
    assert_eq!(plan(&observed, NOW), restart("right"));
    observed.members[1] = member("right", Role::Standby, 7);
    assert_eq!(plan(&observed, NOW), take("right", TakeReason::Switchover));
}
