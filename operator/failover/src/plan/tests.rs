//! What the operator decides, state by state.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::event::ReadResult;
use crate::lease::RECREATE_STEP;
use crate::name::{Incarnation, MemberRef, StoreId, Version};
use crate::report::Report;

pub(super) const NOW: BootTime = BootTime(100_000_000_000);

pub(super) fn name(text: &str) -> MemberName {
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
        reaches_api: true,
        covers: true,
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
pub(super) fn healthy() -> Observed {
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
        failback: None,
        calm: None,
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

/// A primary that is gone, seen unchanged for so many seconds.
fn gone_for(seconds: u64) -> Observed {
    let mut observed = healthy();
    primary_gone(&mut observed);
    expired(&mut observed, seconds);
    observed
}

/// A primary that is gone, and a container as its pod's status says.
fn container(pod_uid: &str, id: &str, terminated: bool) -> Observed {
    let mut observed = gone_for(1);
    let pod = observed.members[0].pod.as_mut().unwrap();
    pod.uid = pod_uid.to_owned();
    pod.containers[0] = Container {
        id: id.to_owned(),
        terminated,
    };
    observed
}

fn switchover(to: Option<&str>, in_sync: bool, unclean: bool) -> Observed {
    let mut observed = healthy();
    observed.members[1].in_sync = in_sync;
    observed.switchover = Some(Switchover {
        to: to.map(name),
        unclean,
    });
    observed
}

/// All is well, but for pods that are outdated and one more change.
fn rolling(old: &[usize], change: fn(&mut Observed)) -> Observed {
    let mut observed = healthy();
    for index in old {
        outdated(&mut observed, *index);
    }
    change(&mut observed);
    observed
}

fn decides(cases: Vec<(&str, Observed, Vec<Decision>)>) {
    for (what, observed, expected) in cases {
        assert_eq!(plan(&observed, NOW), expected, "{what}");
    }
}

#[test]
fn who_is_told_to_take() {
    let mut alive = healthy();
    expired(&mut alive, 5);
    let mut taking = gone_for(5);
    taking.members[1].report.as_mut().unwrap().1.role = Role::Taking;
    let mut missing = gone_for(1);
    missing.members[0].pod = None;
    decides(vec![
        ("all is well", healthy(), vec![]),
        (
            "expired, nobody is heard",
            gone_for(5),
            take("right", TakeReason::Expired),
        ),
        ("expired, but the primary is heard", alive, vec![]),
        ("unchanged for less than its duration", gone_for(3), vec![]),
        ("the standby takes already", taking, vec![]),
        ("a missing pod proves nothing", missing, vec![]),
    ]);
}

#[test]
fn only_the_container_that_ran_proves_its_end() {
    let taken = take("right", TakeReason::ContainerTerminated);
    decides(vec![
        ("terminated", container("uid-left", "left-1", true), taken),
        ("still running", container("uid-left", "left-1", false), vec![]),
        ("another container", container("uid-left", "left-0", true), vec![]),
        ("another pod", container("uid-other", "left-1", true), vec![]),
    ]);
}

#[test]
fn a_switchover_goes_to_who_is_in_sync() {
    let moved = || take("right", TakeReason::Switchover);
    decides(vec![
        ("to whoever can", switchover(None, true, false), moved()),
        ("to the follower", switchover(Some("right"), true, false), moved()),
        ("to the holder", switchover(Some("left"), true, false), vec![]),
        ("not in sync", switchover(None, false, false), vec![]),
        (
            "not in sync, and that will do",
            switchover(None, false, true),
            moved(),
        ),
    ]);
}

#[test]
fn a_planned_move_waits_for_a_lease_that_can_be_read_and_taken() {
    let mut failback = healthy();
    failback.failback = Some(Failback {
        to: name("right"),
        after: Duration::ZERO,
    });
    failback.calm = Some(Duration::ZERO);
    let planned = [
        (
            "a switchover",
            switchover(None, true, false),
            TakeReason::Switchover,
        ),
        ("an update", rolling(&[0], |_| {}), TakeReason::Switchover),
        ("a failback", failback, TakeReason::Failback),
    ];
    for (what, observed, reason) in planned {
        assert_eq!(plan(&observed, NOW), take("right", reason), "{what}");
        for result in [ReadResult::Unreadable, ReadResult::Unavailable] {
            let mut unread = observed.clone();
            unread.lease.read(NOW, &result, Duration::from_secs(2));
            assert_eq!(plan(&unread, NOW), vec![], "{what}: {result:?}");
        }
        let mut cut_off = observed.clone();
        cut_off.members[1].reaches_api = false;
        assert_eq!(plan(&cut_off, NOW), vec![], "{what}: its follower could not take");
    }
}

#[test]
fn a_rolling_update_never_takes_both_down() {
    let unfit = |o: &mut Observed| o.members[0].report.as_mut().unwrap().1.health = Health::Unfit;
    let deleting = |o: &mut Observed| o.members[1].pod.as_mut().unwrap().deleting = true;
    let cut_off = |o: &mut Observed| o.members[0].reaches_api = false;
    let nobody_serves = |o: &mut Observed| {
        o.members[0].reaches_api = false;
        let told = &mut o.members[0].report.as_mut().unwrap().1;
        (told.role, told.serving_epoch) = (Role::Standby, None);
    };
    let blind: [fn(&mut Observed); 2] = [|o| o.members[0].covers = false, |o| o.members[1].covers = false];
    decides(vec![
        ("the standby", rolling(&[1], |_| {}), restart("right")),
        (
            "both: the standby first",
            rolling(&[0, 1], |_| {}),
            restart("right"),
        ),
        (
            "the primary moves first",
            rolling(&[0], |_| {}),
            take("right", TakeReason::Switchover),
        ),
        ("the other is unfit", rolling(&[1], unfit), vec![]),
        ("the other is down", rolling(&[0], |o| silence(o, 1)), vec![]),
        ("it is being deleted", rolling(&[1], deleting), vec![]),
        (
            "the primary could not go on alone",
            rolling(&[1], cut_off),
            vec![],
        ),
        ("nobody serves", rolling(&[1], nobody_serves), restart("right")),
        (
            "a stream would be received by nobody",
            rolling(&[1], blind[0]),
            vec![],
        ),
        (
            "the standby does not receive all yet",
            rolling(&[0], blind[1]),
            vec![],
        ),
        (
            "what the standby lacks does not matter",
            rolling(&[1], blind[1]),
            restart("right"),
        ),
    ]);
}

#[test]
fn no_follower_is_restarted_while_the_lease_cannot_be_read_and_authority_lives_by_its_answers() {
    for result in [ReadResult::Unreadable, ReadResult::Unavailable] {
        let mut observed = rolling(&[1], |_| {});
        observed.lease.read(NOW, &result, Duration::from_secs(2));
        assert_eq!(plan(&observed, NOW), vec![], "{result:?}");
    }
}

#[test]
fn i1_nobody_is_restarted_on_the_word_of_a_primary_that_may_be_dead() {
    let late = |o: &mut Observed| o.members[0].report.as_mut().unwrap().0 = NOW - Duration::from_secs(1);
    let silent = |o: &mut Observed| silence(o, 1);
    decides(vec![
        ("it did not answer in this round", rolling(&[1], late), vec![]),
        (
            "the other one need not answer",
            rolling(&[1], silent),
            restart("right"),
        ),
    ]);
}

#[test]
fn a_member_that_takes_in_vain_is_restarted() {
    fn takes(observed: &mut Observed) {
        let report = &mut observed.members[1].report.as_mut().unwrap().1;
        (report.role, report.hears_primary) = (Role::Taking, false);
    }
    type Change = fn(&mut Observed);
    let cases: [(&str, Change, bool); 6] = [
        ("the holder serves", |_| {}, true),
        (
            "it did not answer in this round",
            |o| o.members[0].report.as_mut().unwrap().0 = NOW - Duration::from_secs(1),
            false,
        ),
        (
            "it serves no more",
            |o| {
                let report = &mut o.members[0].report.as_mut().unwrap().1;
                (report.role, report.serving_epoch) = (Role::HandingOver, None);
            },
            false,
        ),
        (
            "it serves in another epoch",
            |o| o.members[0].report.as_mut().unwrap().1.serving_epoch = Some(Epoch(6)),
            false,
        ),
        (
            "the Lease cannot be read",
            |o| {
                o.lease
                    .read(NOW, &ReadResult::Unavailable, Duration::from_secs(2));
            },
            false,
        ),
        (
            "it holds the Lease itself",
            |o| o.lease = seen(&ReadResult::Found(lease(Some("right"), Some("left"))), 1),
            false,
        ),
    ];
    for (what, change, restarts) in cases {
        let mut observed = rolling(&[1], takes);
        change(&mut observed);
        let expected = if restarts { restart("right") } else { vec![] };
        assert_eq!(plan(&observed, NOW), expected, "{what}");
    }
    assert_eq!(plan(&rolling(&[], takes), NOW), vec![], "it is not outdated");
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
    watch.read(NOW + Duration::from_mins(1), &found, Duration::from_secs(2));
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
