//! What an observer remembers. Synchronous: it takes what was seen and gives decisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::member::MemberReport;
use failover::plan::{LeaseWatch, MemberState, Observed, Policy, Running, ServeTarget};
use failover::{BootTime, Decision, MemberName, ReadResult, StoreId, plan};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::{Setup, translate};
use crate::world::{Doubt, SeenReport, View};

/// What is known of the primary's slice is read again after so long: somebody may have deleted it.
const SERVING_AGE: Duration = Duration::from_secs(30);
/// A lost Lease is made again at once where every member told its epoch, else after so long.
const RECREATE_PATIENCE: Duration = Duration::from_secs(15);

/// One round of looking.
pub(super) struct Seen {
    /// When it ended.
    pub(super) at: Instant,
    /// The Lease.
    pub(super) lease: ReadResult,
    /// What each member said, in their order.
    pub(super) reports: [Option<MemberReport>; 2],
    /// Each member's pod, in their order.
    pub(super) pods: [Option<Arc<Pod>>; 2],
}

/// What an observer remembers.
pub(super) struct State {
    started: Instant,
    now: BootTime,
    lease: LeaseWatch,
    missing_since: Option<BootTime>,
    members: [Memory; 2],
    serving: Option<(BootTime, ServeTarget)>,
}

struct Memory {
    name: String,
    report: Option<(BootTime, MemberReport)>,
    pod: Option<Arc<Pod>>,
    was_running: Option<Running>,
}

impl State {
    pub(super) fn new(members: [String; 2], started: Instant) -> Self {
        let members = members.map(|name| Memory {
            name,
            report: None,
            pod: None,
            was_running: None,
        });
        Self {
            started,
            now: BootTime::default(),
            lease: LeaseWatch::default(),
            missing_since: None,
            members,
            serving: None,
        }
    }

    /// Takes note of what was seen and says what to do.
    pub(super) fn take(&mut self, seen: Seen, setup: &Setup) -> Vec<Decision> {
        self.now = BootTime::default() + seen.at.duration_since(self.started);
        self.lease.read(self.now, &seen.lease, setup.policy.longest_gap);
        let missing = self.lease.is_missing();
        self.missing_since = missing.then(|| self.missing_since.unwrap_or(self.now));
        for (memory, (report, pod)) in self
            .members
            .iter_mut()
            .zip(seen.reports.into_iter().zip(seen.pods))
        {
            memory.take(self.now, report, pod);
        }
        let now = self.now;
        self.serving = self.serving.take().filter(|(at, _)| now.since(*at) < SERVING_AGE);
        let observed = self.observed(setup);
        let mut decisions = plan(&observed, now);
        decisions
            .retain(|decision| !matches!(decision, Decision::RecreateLease { .. }) || self.may_recreate());
        decisions
    }

    /// A Lease is not made again below an epoch that only a silent member knows, if waiting a little can help it.
    fn may_recreate(&self) -> bool {
        let told = self
            .members
            .iter()
            .filter(|memory| memory.report.is_some())
            .count();
        let missing = self
            .missing_since
            .map_or(Duration::ZERO, |since| self.now.since(since));
        told == self.members.len() || (told > 0 && missing >= RECREATE_PATIENCE)
    }

    fn observed(&self, setup: &Setup) -> Observed {
        let mut lost = setup.lost.clone();
        lost.extend(self.replaced_store());
        Observed {
            policy: setup.policy.clone(),
            lease: self.lease.clone(),
            members: self.members(setup),
            lost,
            known_epoch: setup.known_epoch,
            switchover: setup.switchover.clone(),
            serving: self.serving.as_ref().map(|(_, target)| target.clone()),
        }
    }

    fn members(&self, setup: &Setup) -> Vec<MemberState> {
        let [first, second] = &self.members;
        let told = [(first, second), (second, first)];
        told.into_iter()
            .filter_map(|(memory, peer)| memory.state(setup, peer.fresh(self.now, &setup.policy)))
            .collect()
    }

    /// The holder's store, where its member has another one now: its volume was replaced.
    fn replaced_store(&self) -> Option<StoreId> {
        let holder = self.lease.lease()?.record.holder.as_ref()?;
        let memory = self
            .members
            .iter()
            .find(|memory| memory.name == holder.member.as_str())?;
        let (_, report) = memory.report.as_ref()?;
        (report.store != holder.store.as_str()).then(|| holder.store.clone())
    }

    /// Remembers whom the primary's slice leads to.
    pub(super) fn serves(&mut self, target: Option<ServeTarget>) {
        self.serving = target.map(|target| (self.now, target));
    }

    /// What there is to show.
    pub(super) fn view(&self, policy: &Policy) -> View {
        let seen = |(memory, peer): (&Memory, &Memory)| {
            let (at, report) = memory.report.clone()?;
            let fresh = self.now.since(at) <= policy.report_age;
            let answer = (at == self.now).then_some(&report);
            let doubt = Doubt::of(answer, peer.fresh(self.now, policy));
            Some((memory.name.clone(), SeenReport { report, fresh, doubt }))
        };
        let [first, second] = &self.members;
        let pairs = [(first, second), (second, first)];
        let reports: BTreeMap<_, _> = pairs.into_iter().filter_map(seen).collect();
        View {
            lease: self.lease.lease().map(|lease| lease.record.clone()),
            lease_missing: self.lease.is_missing(),
            reports,
        }
    }
}

impl Memory {
    fn take(&mut self, now: BootTime, report: Option<MemberReport>, pod: Option<Arc<Pod>>) {
        if let Some(report) = report {
            self.report = Some((now, report));
        }
        if let Some(running) = pod.as_deref().and_then(translate::running) {
            self.was_running = Some(running);
        }
        self.pod = pod;
    }

    fn fresh(&self, now: BootTime, policy: &Policy) -> Option<&MemberReport> {
        let (at, report) = self.report.as_ref()?;
        (now.since(*at) <= policy.report_age).then_some(report)
    }

    fn state(&self, setup: &Setup, peer: Option<&MemberReport>) -> Option<MemberState> {
        let outdated = setup.outdated.contains(&self.name);
        let report = self.report.as_ref();
        Some(MemberState {
            name: MemberName::new(&self.name).ok()?,
            pod: self.pod.as_deref().map(|pod| translate::pod(pod, outdated)),
            was_running: self.was_running.clone(),
            report: report.and_then(|(at, report)| Some((*at, translate::report(report)?))),
            in_sync: report.is_some_and(|(_, report)| translate::in_sync(report, peer)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crds::Secret;
    use crds::member::Role;
    use failover::plan::{RestartReason, Switchover};
    use failover::{Epoch, Lease, TakeReason, Version};
    use serde_json::json;

    use super::*;
    use crate::fixtures::{at_rest, change, id, record, report};
    use crate::pki::Identity;

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
        let identity = Identity {
            cert: String::new(),
            key: Secret::new(""),
        };
        let mut scene = Scene {
            state: State::new(crds::names::members("front"), start),
            start,
            setup: Setup {
                id: id(),
                authority: String::new(),
                identity,
                policy: Policy::default(),
                outdated: BTreeSet::new(),
                known_epoch: Epoch(7),
                switchover: None,
                lost: BTreeSet::new(),
            },
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
    fn the_lease_that_is_shown_is_the_one_that_was_read_last() {
        let mut scene = scene();
        scene.lease = ReadResult::Unavailable;
        scene.at(1);
        let view = scene.state.view(&scene.setup.policy);
        assert_eq!((view.lease, view.lease_missing), (Some(record()), false));
        scene.lease = ReadResult::Missing;
        scene.at(2);
        let view = scene.state.view(&scene.setup.policy);
        assert_eq!((view.lease, view.lease_missing), (None, true));
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
            scene.setup.outdated = BTreeSet::from(["front-0".to_owned(), "front-1".to_owned()]);
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
}
