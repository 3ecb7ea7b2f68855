//! What an observer decides, round by round.

use std::collections::BTreeSet;

use crds::member::{StreamReport, StreamState};
use failover::plan::{RestartReason, Switchover};
use failover::{Epoch, Lease, Version};
use serde_json::json;

use super::*;
use crate::fixtures::{at_rest, change, outdated, receiving, record, report};
use crate::observer::lease::tests::setup;

/// An observer of a pair at rest, and what there is to see.
struct Scene {
    state: State,
    start: Instant,
    setup: Setup,
    lease: ReadResult,
    reports: [Option<MemberReport>; 2],
    pods: [Option<Arc<Pod>>; 2],
}

fn found() -> ReadResult {
    ReadResult::Found(Lease {
        version: Version::new("42"),
        record: record(),
    })
}

fn scene() -> Scene {
    let start = Instant::now();
    let pods = at_rest(&json!({})).pods;
    let mut scene = Scene {
        state: State::new(crds::names::members("front"), start),
        start,
        setup: setup(),
        lease: found(),
        reports: [
            Some(report("front-0", Role::Primary)),
            Some(report("front-1", Role::Standby)),
        ],
        pods: ["front-0", "front-1"].map(|member| Some(Arc::new(pods[member].clone()))),
    };
    assert_eq!(scene.at(0), [Decision::Serve(led_to("front-0"))]);
    scene.state.serves(Some(led_to("front-0")));
    scene
}

impl Scene {
    /// A round, so many seconds after the first.
    fn at(&mut self, second: u64) -> Vec<Decision> {
        let seen = Seen {
            at: self.start + Duration::from_secs(second),
            lease: self.lease.clone(),
            unreadable: (self.lease == ReadResult::Unreadable).then(|| "no epoch".to_owned()),
            reports: self.reports.clone(),
            pods: self.pods.clone(),
        };
        self.state.take(seen, &self.setup)
    }

    /// A round each second, and what the last one decides.
    fn until(&mut self, seconds: std::ops::RangeInclusive<u64>) -> Vec<Decision> {
        let rounds = seconds.map(|second| self.at(second));
        rounds.last().unwrap_or_default()
    }

    fn report(&mut self, member: usize) -> &mut MemberReport {
        self.reports[member].as_mut().unwrap()
    }

    fn fresh(&self, member: &str) -> bool {
        self.state.view(&self.setup.policy).fresh(member).is_some()
    }
}

fn led_to(member: &str) -> ServeTarget {
    ServeTarget {
        epoch: Epoch(7),
        member: MemberName::new(member).unwrap(),
    }
}

/// The epoch of a Lease that is made again.
fn recreated(decisions: &[Decision]) -> Option<u64> {
    decisions.iter().find_map(|decision| match decision {
        Decision::RecreateLease { record } => Some(record.epoch.0),
        _ => None,
    })
}

fn taken(decisions: &[Decision]) -> Option<(&str, TakeReason)> {
    decisions.iter().find_map(|decision| match decision {
        Decision::TakeIt { member, order } => Some((member.as_str(), order.reason)),
        _ => None,
    })
}

#[test]
fn at_rest_there_is_nothing_to_do() {
    assert_eq!(scene().until(1..=20), []);
}

#[test]
fn i5_a_lost_lease_comes_back_at_once_where_every_member_told_its_epoch() {
    let mut scene = scene();
    scene.lease = ReadResult::Missing;
    scene.report(1).epoch = 9;
    assert_eq!(recreated(&scene.at(1)), Some(1009));
    scene.setup.known_epoch = Epoch(2000);
    assert_eq!(
        recreated(&scene.at(2)),
        Some(3000),
        "status knows of a higher one"
    );
}

/// An observer that has just started, of a pair whose Lease is lost and of whose members so many answer.
fn lost_lease(told: usize) -> Scene {
    let mut scene = scene();
    scene.state = State::new(crds::names::members("front"), scene.start);
    scene.lease = ReadResult::Missing;
    for silent in told..2 {
        scene.reports[silent] = None;
    }
    scene
}

#[test]
fn i5_a_lost_lease_waits_for_a_silent_member_and_not_for_ever() {
    let mut scene = lost_lease(1);
    assert_eq!(recreated(&scene.until(0..=14)), None);
    assert_eq!(recreated(&scene.at(15)), Some(1007));
}

#[test]
fn i5_a_lost_lease_stays_lost_while_nobody_tells_an_epoch() {
    let mut scene = lost_lease(0);
    assert_eq!(recreated(&scene.until(0..=3600)), None);
}

#[test]
fn i5_only_reads_that_say_so_count_as_missing() {
    let mut scene = lost_lease(1);
    scene.until(0..=14);
    scene.lease = ReadResult::Unavailable;
    assert_eq!(recreated(&scene.at(15)), None);
    scene.lease = ReadResult::Missing;
    assert_eq!(recreated(&scene.until(16..=30)), None, "the patience starts anew");
    assert_eq!(recreated(&scene.at(31)), Some(1007));
}

#[test]
fn a_member_that_told_once_need_not_tell_again() {
    let mut scene = scene();
    scene.reports = [None, None];
    scene.until(1..=60);
    scene.lease = ReadResult::Missing;
    assert_eq!(recreated(&scene.at(61)), Some(1007));
}

fn named(scene: &mut Scene) -> Option<Decision> {
    let decisions = scene.until(1..=14);
    let mut named = decisions.into_iter();
    named.find(|decision| matches!(decision, Decision::NameFollower { .. }))
}

/// The follower's volume is lost, and it is silent.
fn lost_follower() -> Scene {
    let mut scene = scene();
    scene.reports[1] = None;
    scene.setup.lost = BTreeSet::from([StoreId::new("store-front-1").unwrap()]);
    scene.report(0).role = Role::Standby;
    scene
}

#[test]
fn a_store_that_was_replaced_is_lost() {
    let mut scene = lost_follower();
    "store-new".clone_into(&mut scene.report(0).store);
    let Some(Decision::NameFollower { record, expected, .. }) = named(&mut scene) else {
        panic!("nobody is named")
    };
    assert_eq!(record.follower, Some(StoreId::new("store-new").unwrap()));
    assert_eq!(expected, Version::new("42"));
}

#[test]
fn a_store_that_came_back_is_not_lost() {
    assert_eq!(named(&mut lost_follower()), None);
}

#[test]
fn a_follower_is_named_where_both_volumes_were_replaced() {
    type Change = fn(&mut Scene);
    let cases: [(&str, Change, bool); 4] = [
        ("both answer", |_| (), true),
        (
            "one is silent: its volume may be the follower's",
            |s| s.reports[1] = None,
            false,
        ),
        (
            "the follower has its volume",
            |s| "store-front-1".clone_into(&mut s.report(1).store),
            false,
        ),
        (
            "the holder has its volume",
            |s| "store-front-0".clone_into(&mut s.report(0).store),
            false,
        ),
    ];
    for (what, change, expected) in cases {
        let mut scene = scene();
        scene.report(0).role = Role::Standby;
        for member in [0, 1] {
            scene.report(member).store = format!("store-new-{member}");
        }
        change(&mut scene);
        let record = named(&mut scene).map(|named| match named {
            Decision::NameFollower { record, .. } => record,
            other => panic!("{other:?}"),
        });
        let follower = record.and_then(|record| record.follower);
        let new = StoreId::new("store-new-0").ok();
        assert_eq!(follower, new.filter(|_| expected), "{what}");
    }
}

#[test]
fn a_report_is_fresh_for_three_seconds_and_kept_for_ever() {
    let mut scene = scene();
    scene.reports[0] = None;
    scene.until(1..=3);
    assert!(scene.fresh("front-0"));
    scene.at(4);
    assert!(!scene.fresh("front-0"));
    assert!(scene.fresh("front-1"));
    let view = scene.state.view(&scene.setup.policy);
    assert_eq!(view.reports["front-0"].report.store, "store-front-0");
}

#[test]
fn nobody_leads_only_after_longer_than_a_failover_takes() {
    let mut scene = scene();
    let leaderless = |scene: &Scene| scene.state.view(&scene.setup.policy).leaderless;
    scene.report(0).role = Role::None;
    scene.until(1..=15);
    assert!(!leaderless(&scene), "for 14 s");
    scene.at(16);
    assert!(leaderless(&scene), "for 15 s");
    scene.report(1).role = Role::Primary;
    scene.at(17);
    assert!(!leaderless(&scene), "one took");
    scene.report(1).role = Role::Standby;
    scene.until(18..=32);
    assert!(!leaderless(&scene), "the time starts anew");
    scene.reports[0] = None;
    scene.until(33..=40);
    assert!(leaderless(&scene), "one that answers is enough");
    scene.reports[1] = None;
    scene.until(41..=60);
    assert!(!leaderless(&scene), "of silent members nothing is known");
}

/// Rounds of a pair whose standby says that it does not reach the API server, each with what changes in it.
type Rounds = &'static [(std::ops::RangeInclusive<u64>, fn(&mut Scene))];

#[test]
fn a_member_without_the_api_server_is_told_of_after_a_while_in_which_the_operator_has_it() {
    let cases: [(&str, Rounds, Option<u64>); 9] = [
        ("14 s", &[(2..=15, |_| ())], None),
        ("15 s", &[(2..=16, |_| ())], Some(15)),
        ("a minute", &[(2..=61, |_| ())], Some(60)),
        ("it is back", &[(2..=60, |_| ()), (61..=61, reaches)], None),
        (
            "it was back for a moment",
            &[(2..=10, |_| ()), (11..=11, reaches), (12..=26, lacks)],
            None,
        ),
        ("nobody has it", &[(2..=600, loses_api)], None),
        (
            "the operator has it again, and the member looks within 5 s",
            &[(2..=60, loses_api), (61..=66, has_api), (67..=67, reaches)],
            None,
        ),
        (
            "the operator lost it for a moment",
            &[(2..=10, |_| ()), (11..=12, loses_api), (13..=18, has_api)],
            Some(15),
        ),
        (
            "it does not answer",
            &[(2..=60, |_| ()), (61..=65, is_silent)],
            None,
        ),
    ];
    for (what, rounds, expected) in cases {
        let mut scene = scene();
        lacks(&mut scene);
        scene.at(1);
        for (seconds, change) in rounds {
            change(&mut scene);
            let decisions = scene.until(seconds.clone());
            let is_usual = |decision: &Decision| matches!(decision, Decision::Serve(_));
            assert!(decisions.iter().all(is_usual), "{what}: {decisions:?}");
        }
        let reports = scene.state.view(&scene.setup.policy).reports;
        assert_eq!(reports["front-0"].without_api, None, "{what}");
        let told = reports["front-1"].without_api;
        assert_eq!(told.map(|lasted| lasted.as_secs()), expected, "{what}");
    }
}

fn lacks(scene: &mut Scene) {
    scene.report(1).lease.reachable = false;
}

fn reaches(scene: &mut Scene) {
    scene.report(1).lease.reachable = true;
}

fn is_silent(scene: &mut Scene) {
    scene.reports[1] = None;
}

fn loses_api(scene: &mut Scene) {
    scene.lease = ReadResult::Unavailable;
}

fn has_api(scene: &mut Scene) {
    scene.lease = found();
}

#[test]
fn whom_its_peer_suspects_is_dead_unless_it_answers_in_the_same_round() {
    let mut scene = scene();
    let doubt = |scene: &Scene| scene.state.view(&scene.setup.policy).reports["front-0"].doubt;
    scene.report(1).peer.suspected = true;
    scene.at(1);
    assert_eq!(doubt(&scene), Doubt::Refuted);
    scene.report(0).fit = false;
    scene.at(2);
    assert_eq!(doubt(&scene), Doubt::Confirmed);
    let report = scene.reports[0].take();
    scene.at(3);
    assert_eq!(doubt(&scene), Doubt::Confirmed, "its report is fresh, but old");
    assert!(scene.fresh("front-0"));
    (scene.reports[0], scene.report(1).peer.suspected) = (report, false);
    scene.at(4);
    assert_eq!(doubt(&scene), Doubt::None);
}

#[test]
fn i5_a_lease_that_was_refused_is_tried_again_after_a_while_and_above_it() {
    let mut scene = scene();
    scene.lease = ReadResult::Missing;
    let refused = |scene: &Scene| scene.state.view(&scene.setup.policy).lease_refused;
    assert_eq!(recreated(&scene.at(1)), Some(1007));
    let why = Some("no quorum".to_owned());
    scene.state.lacks_lease(Epoch(1007), why.clone());
    for second in 2..=10 {
        assert_eq!(recreated(&scene.at(second)), None, "after {second} s");
        assert_eq!(refused(&scene), why);
    }
    assert_eq!(recreated(&scene.at(11)), Some(2007), "after ten seconds");
    scene.state.lacks_lease(Epoch(2007), why);
    for there in [found(), ReadResult::Unreadable] {
        scene.lease = there;
        scene.at(12);
        assert_eq!(refused(&scene), None, "it is there: {:?}", scene.lease);
        scene
            .state
            .lacks_lease(Epoch(2007), Some("the quota is used up".to_owned()));
    }
}

#[test]
fn the_lease_that_is_shown_is_the_one_that_was_read_last() {
    let mut scene = scene();
    scene.lease = ReadResult::Unavailable;
    scene.at(1);
    let view = scene.state.view(&scene.setup.policy);
    assert_eq!((view.lease, view.lease_missing), (Some(record()), false));
    scene.lease = ReadResult::Missing;
    scene.at(2);
    let view = scene.state.view(&scene.setup.policy);
    assert_eq!((view.lease, view.lease_missing), (None, false));
    scene.until(3..=16);
    assert!(!scene.state.view(&scene.setup.policy).lease_missing, "for 14 s");
    scene.at(17);
    assert!(scene.state.view(&scene.setup.policy).lease_missing, "for 15 s");
}

#[test]
fn no_lease_is_missed_before_any_member_ran() {
    let mut scene = scene();
    scene.state = State::new(crds::names::members("front"), scene.start);
    (scene.lease, scene.reports) = (ReadResult::Missing, [None, None]);
    scene.until(0..=60);
    assert!(!scene.state.view(&scene.setup.policy).lease_missing);
}

#[test]
fn a_lease_that_cannot_be_understood_is_shown_until_another_is_read() {
    let unreadable = |scene: &Scene| scene.state.view(&scene.setup.policy).lease_unreadable;
    let mut scene = scene();
    let why = Some("no epoch".to_owned());
    let rounds = [
        (found(), None),
        (ReadResult::Unreadable, why.clone()),
        (ReadResult::Unavailable, why),
        (ReadResult::Missing, None),
    ];
    for (second, (read, expected)) in (1..).zip(rounds) {
        scene.lease = read;
        scene.at(second);
        assert_eq!(unreadable(&scene), expected, "{:?}", scene.lease);
    }
}

#[test]
fn whom_the_slice_leads_to_is_looked_at_again_after_a_while() {
    let again = [Decision::Serve(led_to("front-0"))];
    let mut scene = scene();
    assert_eq!(scene.until(1..=29), []);
    assert_eq!(scene.at(30), again);
    scene.state.serves(Some(led_to("front-0")));
    assert_eq!(scene.at(31), []);
    scene.state.serves(None);
    assert_eq!(scene.at(32), again, "it was gone");
}

#[test]
fn a_member_is_in_sync_when_its_peer_says_so() {
    type Change = fn(&mut Scene);
    let cases: [(&str, Change, bool); 5] = [
        ("it has everything", |_| (), true),
        (
            "it lacks media",
            |s| s.report(0).replication.backfill_bytes = 1,
            false,
        ),
        (
            "it takes nothing",
            |s| s.report(0).replication.connected = false,
            false,
        ),
        (
            "the peer lacks media",
            |s| s.report(1).replication.backfill_bytes = 1,
            true,
        ),
        (
            "the peer takes nothing",
            |s| s.report(1).replication.connected = false,
            true,
        ),
    ];
    for (what, change, moves) in cases {
        let mut scene = scene();
        scene.setup.switchover = Some(Switchover {
            to: Some(MemberName::new("front-1").unwrap()),
            unclean: false,
        });
        change(&mut scene);
        let expected = moves.then_some(("front-1", TakeReason::Switchover));
        assert_eq!(taken(&scene.at(1)), expected, "{what}");
    }
}

#[test]
fn an_outdated_standby_is_replaced_even_if_it_never_answers() {
    for answers in [true, false] {
        let mut scene = scene();
        scene.setup.outdated = outdated(&["front-0", "front-1"]);
        if !answers {
            scene.state = State::new(crds::names::members("front"), scene.start);
            scene.state.serves(Some(led_to("front-0")));
            scene.reports[1] = None;
        }
        let restart = Decision::RestartMember {
            member: MemberName::new("front-1").unwrap(),
            pod_uid: "uid-front-1".to_owned(),
            why: RestartReason::Outdated,
        };
        assert!(scene.at(1).contains(&restart), "answers: {answers}");
    }
}

#[test]
fn a_restart_that_was_refused_is_tried_again_after_a_while() {
    let mut scene = scene();
    scene.setup.outdated = outdated(&["front-1"]);
    let restarts = |decisions: Vec<Decision>| decisions.iter().any(|what| restarts(what, "front-1"));
    let held = |scene: &Scene| scene.state.view(&scene.setup.policy).held;
    let (member, budget) = (
        MemberName::new("front-1").unwrap(),
        Held::NotYet("1 of 1".to_owned()),
    );
    assert!(restarts(scene.at(1)));
    scene.state.holds(&member, Some(budget.clone()));
    let primary = scene.reports[0].clone();
    for second in 2..=10 {
        // One answer that is late ends nobody's turn.
        scene.reports[0] = primary.clone().filter(|_| second != 5);
        assert!(!restarts(scene.at(second)), "after {second} s");
        assert_eq!(
            held(&scene),
            BTreeMap::from([("front-1".to_owned(), budget.clone())])
        );
    }
    assert!(restarts(scene.at(11)), "after ten seconds");
    scene.state.holds(&member, None);
    assert!(held(&scene).is_empty(), "it was restarted");
}

#[test]
fn what_kept_a_member_is_forgotten_when_it_is_its_turn_no_more() {
    type Change = fn(&mut Scene);
    let cases: [(&str, Change); 2] = [
        ("it is not outdated any more", |s| s.setup.outdated.clear()),
        ("its peer is not fit", |s| s.report(0).fit = false),
    ];
    for (what, change) in cases {
        let mut scene = scene();
        scene.setup.outdated = outdated(&["front-1"]);
        scene.at(1);
        let refused = Held::Refused("no such field".to_owned());
        scene
            .state
            .holds(&MemberName::new("front-1").unwrap(), Some(refused));
        change(&mut scene);
        scene.at(2);
        assert!(scene.state.view(&scene.setup.policy).held.is_empty(), "{what}");
    }
}

#[test]
fn i1_nobody_is_replaced_who_alone_receives_a_stream() {
    let restarts = |state| {
        let mut scene = scene();
        scene.setup.outdated = outdated(&["front-1"]);
        for (index, state) in [(0, state), (1, StreamState::Receiving)] {
            let door = receiving("door", uuid::Uuid::from_u128(7));
            scene.report(index).streams = vec![StreamReport { state, ..door }];
        }
        let decided = scene.at(1);
        decided
            .iter()
            .any(|what| matches!(what, Decision::RestartMember { .. }))
    };
    assert!(restarts(StreamState::Receiving) && restarts(StreamState::Idle));
    assert!(!restarts(StreamState::Connecting) && !restarts(StreamState::Failed));
}

/// The pair is at rest with front-0 as primary, and front-1 is to have it back.
fn away(after: u64) -> Scene {
    let mut scene = scene();
    scene.setup.preferred = MemberName::new("front-1").ok();
    scene.setup.failback_after = Some(Duration::from_secs(after));
    scene
}

#[test]
fn authority_goes_back_after_calm_and_is_not_asked_for_each_second() {
    let back = Some(("front-1", TakeReason::Failback));
    let mut scene = away(10);
    assert_eq!(taken(&scene.until(1..=10)), None);
    assert_eq!(taken(&scene.at(11)), back);
    assert_eq!(taken(&scene.until(12..=21)), None, "it did not come about");
    assert_eq!(taken(&scene.at(22)), back);
}

#[test]
fn without_a_time_or_a_preference_authority_stays() {
    let mut scene = away(10);
    scene.setup.failback_after = None;
    assert_eq!(scene.until(1..=29), []);
    let mut scene = away(10);
    scene.setup.preferred = None;
    assert_eq!(scene.until(1..=29), []);
}

#[test]
fn calm_begins_when_the_member_has_caught_up() {
    let mut scene = away(0);
    scene.report(0).replication.backfill_bytes = 1;
    assert_eq!(taken(&scene.until(1..=9)), None);
    scene.report(0).replication.backfill_bytes = 0;
    assert_eq!(taken(&scene.at(10)), Some(("front-1", TakeReason::Failback)));
}

/// The primary is silent, and the standby does not hear it.
fn silent_primary() -> Scene {
    let mut scene = scene();
    scene.reports[0] = None;
    scene.report(1).peer.hears_primary = false;
    scene
}

fn with_recorder(pod: &mut Option<Arc<Pod>>, id: &str, state: &serde_json::Value) {
    let recorder = json!({ "name": "recorder", "containerID": id, "state": state });
    let pod = Arc::make_mut(pod.as_mut().unwrap());
    change(pod, &json!({ "status": { "containerStatuses": [recorder] } }));
}

#[test]
fn a_container_that_ran_and_ended_proves_the_end_of_its_primary() {
    let mut scene = silent_primary();
    with_recorder(
        &mut scene.pods[0],
        "front-0-recorder-1",
        &json!({ "terminated": { "exitCode": 137 } }),
    );
    assert_eq!(
        taken(&scene.at(1)),
        Some(("front-1", TakeReason::ContainerTerminated))
    );
}

#[test]
fn a_missing_pod_proves_nothing_until_the_lease_expires() {
    let mut scene = silent_primary();
    scene.pods[0] = None;
    assert_eq!(taken(&scene.until(1..=3)), None);
    assert_eq!(taken(&scene.at(4)), Some(("front-1", TakeReason::Expired)));
}

#[test]
fn an_observer_that_has_just_begun_shows_nothing_of_a_member_that_is_late() {
    let mut scene = scene();
    scene.state = State::new(crds::names::members("front"), scene.start);
    let late = scene.reports[1].take();
    let knows = |scene: &Scene| scene.state.knows_enough(&scene.setup.policy);
    scene.at(0);
    assert!(!knows(&scene));
    scene.pods[1] = None;
    scene.at(1);
    assert!(knows(&scene), "without a pod nobody can answer");
    scene.pods[1] = scene.pods[0].clone();
    scene.at(2);
    assert!(!knows(&scene));
    scene.at(3);
    assert!(knows(&scene), "it had time");
    scene.state = State::new(crds::names::members("front"), scene.start);
    scene.reports[1] = late;
    scene.at(0);
    assert!(knows(&scene));
}
