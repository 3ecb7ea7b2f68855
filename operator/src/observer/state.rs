//! What an observer remembers. Synchronous: it takes what was seen and gives decisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::member::{MemberReport, Role};
use failover::plan::{Calm, Failback, LeaseWatch, MemberState, Observed, Policy, Running, ServeTarget};
use failover::{BootTime, Decision, Epoch, MemberName, ReadResult, StoreId, TakeReason, plan};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::{Setup, translate};
use crate::coverage;
use crate::world::{Doubt, Held, SeenReport, View};

/// What is known of the primary's slice is read again after so long: somebody may have deleted it.
const SERVING_AGE: Duration = Duration::from_secs(30);
/// A lost Lease is made again at once where every member told its epoch, else after so long.
const RECREATE_PATIENCE: Duration = Duration::from_secs(15);

/// A restart or a new Lease that was refused is tried again after so long.
const REFUSED_PATIENCE: Duration = Duration::from_secs(10);

/// That there is no Lease is a fault after so long.
const MISSING_PATIENCE: Duration = Duration::from_secs(15);

/// A failover takes about a second. That members answer and none is primary is a fault after so long.
const LEADERLESS_PATIENCE: Duration = Duration::from_secs(15);

/// A member looks again each 5 s whether it can reach the API server. That it cannot is a fault after so long.
const API_PATIENCE: Duration = Duration::from_secs(15);

/// One round of looking.
pub(super) struct Seen {
    /// When it ended.
    pub(super) at: Instant,
    /// The Lease.
    pub(super) lease: ReadResult,
    /// Why it cannot be understood, where it cannot.
    pub(super) unreadable: Option<String>,
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
    unreadable: Option<String>,
    missing_since: Option<BootTime>,
    leaderless_since: Option<BootTime>,
    members: [Memory; 2],
    serving: Option<(BootTime, ServeTarget)>,
    calm: Calm,
    held: BTreeMap<String, (BootTime, Held)>,
    refused: Option<Refused>,
}

/// A new Lease that was not made.
struct Refused {
    at: BootTime,
    /// Its epoch, which may be in status, or even in a Lease: the next one is above it.
    epoch: Epoch,
    why: String,
}

struct Memory {
    name: String,
    report: Option<(BootTime, MemberReport)>,
    pod: Option<Arc<Pod>>,
    was_running: Option<Running>,
    /// For how long it has said that it cannot reach the API server.
    without_api: Option<Duration>,
}

impl State {
    pub(super) fn new(members: [String; 2], started: Instant) -> Self {
        let members = members.map(|name| Memory {
            name,
            report: None,
            pod: None,
            was_running: None,
            without_api: None,
        });
        Self {
            started,
            now: BootTime::default(),
            lease: LeaseWatch::default(),
            unreadable: None,
            missing_since: None,
            leaderless_since: None,
            members,
            serving: None,
            calm: Calm::default(),
            held: BTreeMap::new(),
            refused: None,
        }
    }

    /// Takes note of what was seen and says what to do.
    pub(super) fn take(&mut self, seen: Seen, setup: &Setup) -> Vec<Decision> {
        let now = BootTime::default() + seen.at.duration_since(self.started);
        let passed = now.since(self.now).min(setup.policy.longest_gap);
        self.now = now;
        self.lease.read(self.now, &seen.lease, setup.policy.longest_gap);
        let reached = !matches!(seen.lease, ReadResult::Unavailable);
        if reached {
            self.unreadable = seen.unreadable;
        }
        let missing = self.lease.is_missing();
        self.missing_since = missing.then(|| self.missing_since.unwrap_or(self.now));
        if self.lease.lease().is_some() || self.unreadable.is_some() {
            self.refused = None;
        }
        for (memory, (report, pod)) in self
            .members
            .iter_mut()
            .zip(seen.reports.into_iter().zip(seen.pods))
        {
            memory.take(self.now, report, pod);
            memory.reckon(now, passed, reached, &setup.policy);
        }
        let leaderless = self.is_leaderless(&setup.policy);
        self.leaderless_since = leaderless.then(|| self.leaderless_since.unwrap_or(self.now));
        self.serving = self.serving.take().filter(|(at, _)| now.since(*at) < SERVING_AGE);
        let mut observed = self.observed(setup);
        observed.calm = self.calm.look(now, &observed);
        let mut decisions = plan(&observed, now);
        if decisions.iter().any(is_failback) {
            // One that does not come about is not tried again before there was as much calm again.
            self.calm = Calm::default();
        }
        // What it is nobody's turn for any more is held by nothing. A round in which somebody did not answer says nothing of that.
        let all_told = self.members.iter().all(|memory| memory.told(now));
        self.held.retain(|member, _| {
            let is_its_turn = decisions.iter().any(|decision| restarts(decision, member));
            is_its_turn || !all_told && setup.outdated.contains_key(member)
        });
        decisions.retain(|decision| match decision {
            Decision::RecreateLease { .. } => self.may_recreate(),
            Decision::RestartMember { member, .. } => self.may_restart(member),
            _ => true,
        });
        decisions
    }

    /// Whether a restart was not refused just now.
    fn may_restart(&self, member: &MemberName) -> bool {
        let held = self.held.get(member.as_str());
        held.is_none_or(|(at, _)| self.now.since(*at) >= REFUSED_PATIENCE)
    }

    /// A Lease is not made again below an epoch that only a silent member knows, if waiting a little can help it, nor where that was
    /// refused just now: each try raises the epoch.
    fn may_recreate(&self) -> bool {
        let refused = self.refused.as_ref();
        if refused.is_some_and(|refused| self.now.since(refused.at) < REFUSED_PATIENCE) {
            return false;
        }
        let told = self
            .members
            .iter()
            .filter(|memory| memory.report.is_some())
            .count();
        told == self.members.len() || (told > 0 && self.missing() >= RECREATE_PATIENCE)
    }

    /// For how long there has been no Lease.
    fn missing(&self) -> Duration {
        self.missing_since
            .map_or(Duration::ZERO, |since| self.now.since(since))
    }

    /// Whether any member told something: before, there may be none that could have had authority.
    fn was_told(&self) -> bool {
        self.members.iter().any(|memory| memory.report.is_some())
    }

    /// Whether members answer, and none of them is primary.
    fn is_leaderless(&self, policy: &Policy) -> bool {
        let answers = self
            .members
            .iter()
            .filter_map(|memory| memory.fresh(self.now, policy));
        let roles: Vec<Role> = answers.map(|report| report.role).collect();
        !roles.is_empty() && !roles.contains(&Role::Primary)
    }

    fn observed(&self, setup: &Setup) -> Observed {
        let mut lost = setup.lost.clone();
        lost.extend(self.replaced_store());
        lost.extend(self.nobodys_store(&setup.policy));
        let refused = self.refused.as_ref();
        let tried = refused.map_or(Epoch::default(), |refused| refused.epoch);
        Observed {
            policy: setup.policy.clone(),
            lease: self.lease.clone(),
            members: self.members(setup),
            lost,
            known_epoch: setup.known_epoch.max(tried),
            switchover: setup.switchover.clone(),
            failback: failback(setup),
            calm: None,
            serving: self.serving.as_ref().map(|(_, target)| target.clone()),
        }
    }

    fn members(&self, setup: &Setup) -> Vec<MemberState> {
        let [first, second] = &self.members;
        let mut told = [(first, second), (second, first)];
        let preferred = setup.preferred.as_ref().map(MemberName::as_str);
        told.sort_by_key(|(memory, _)| preferred != Some(&memory.name));
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

    /// The named follower's store, where every member answers and none has it: its volume was replaced, too.
    fn nobodys_store(&self, policy: &Policy) -> Option<StoreId> {
        let follower = self.lease.lease()?.record.follower.as_ref()?;
        let others = |memory: &Memory| {
            let report = memory.fresh(self.now, policy);
            report.is_some_and(|report| report.store != follower.as_str())
        };
        self.members.iter().all(others).then(|| follower.clone())
    }

    /// Whether there is something to show: every member that has a pod told something, or had time to. One answer that is late in the
    /// first round says nothing of a member.
    pub(super) fn knows_enough(&self, policy: &Policy) -> bool {
        let told = |memory: &Memory| memory.report.is_some() || memory.pod.is_none();
        self.members.iter().all(told) || self.now.since(BootTime::default()) >= policy.report_age
    }

    /// Remembers whom the primary's slice leads to.
    pub(super) fn serves(&mut self, target: Option<ServeTarget>) {
        self.serving = target.map(|target| (self.now, target));
    }

    /// Remembers what keeps a member from being restarted; nothing, where it was.
    pub(super) fn holds(&mut self, member: &MemberName, held: Option<Held>) {
        let member = member.to_string();
        match held {
            Some(held) => drop(self.held.insert(member, (self.now, held))),
            None => drop(self.held.remove(&member)),
        }
    }

    /// Remembers that a lost Lease of this epoch was not made again, and why; nothing, where it was.
    pub(super) fn lacks_lease(&mut self, epoch: Epoch, why: Option<String>) {
        let at = self.now;
        self.refused = why.map(|why| Refused { at, epoch, why });
    }

    /// What there is to show.
    pub(super) fn view(&self, policy: &Policy) -> View {
        let seen = |(memory, peer): (&Memory, &Memory)| {
            let (at, report) = memory.report.clone()?;
            let fresh = self.now.since(at) <= policy.report_age;
            let answer = memory.told(self.now).then_some(&report);
            let seen = SeenReport {
                doubt: Doubt::of(answer, peer.fresh(self.now, policy)),
                report,
                fresh,
                without_api: memory.without_api.filter(|lasted| *lasted >= API_PATIENCE),
            };
            Some((memory.name.clone(), seen))
        };
        let [first, second] = &self.members;
        let pairs = [(first, second), (second, first)];
        let reports: BTreeMap<_, _> = pairs.into_iter().filter_map(seen).collect();
        View {
            lease: self.lease.lease().map(|lease| lease.record.clone()),
            lease_missing: self.missing() >= MISSING_PATIENCE && self.was_told(),
            lease_refused: self.refused.as_ref().map(|refused| refused.why.clone()),
            lease_unreadable: self.unreadable.clone(),
            leaderless: self
                .leaderless_since
                .is_some_and(|since| self.now.since(since) >= LEADERLESS_PATIENCE),
            reports,
            held: self
                .held
                .iter()
                .map(|(member, (_, held))| (member.clone(), held.clone()))
                .collect(),
        }
    }
}

fn restarts(decision: &Decision, member: &str) -> bool {
    matches!(decision, Decision::RestartMember { member: this, .. } if this.as_str() == member)
}

fn failback(setup: &Setup) -> Option<Failback> {
    let (to, after) = (setup.preferred.clone()?, setup.failback_after?);
    Some(Failback { to, after })
}

fn is_failback(decision: &Decision) -> bool {
    matches!(decision, Decision::TakeIt { order, .. } if order.reason == TakeReason::Failback)
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

    /// Reckons for how long it has said that it cannot reach the API server. Only time in which the operator reached it counts: while
    /// nobody does, that is no member's fault; and a round in which only the operator did not forgets nothing.
    fn reckon(&mut self, now: BootTime, passed: Duration, reached: bool, policy: &Policy) {
        let says_so = |report: &MemberReport| !report.lease.reachable;
        let before = self.without_api.filter(|_| reached);
        let lasted = before.map(|before| before + passed).or(self.without_api);
        let lacks = self.fresh(now, policy).is_some_and(says_so);
        self.without_api = lacks.then(|| lasted.unwrap_or_default());
    }

    /// Whether it answered in the round that ended at `now`.
    fn told(&self, now: BootTime) -> bool {
        self.report.as_ref().is_some_and(|(at, _)| *at == now)
    }

    fn fresh(&self, now: BootTime, policy: &Policy) -> Option<&MemberReport> {
        let (at, report) = self.report.as_ref()?;
        (now.since(*at) <= policy.report_age).then_some(report)
    }

    fn state(&self, setup: &Setup, peer: Option<&MemberReport>) -> Option<MemberState> {
        let outdated = setup.outdated.contains_key(&self.name);
        let report = self.report.as_ref();
        Some(MemberState {
            name: MemberName::new(&self.name).ok()?,
            pod: self.pod.as_deref().map(|pod| translate::pod(pod, outdated)),
            was_running: self.was_running.clone(),
            report: report.and_then(|(at, report)| Some((*at, translate::report(report)?))),
            in_sync: report.is_some_and(|(_, report)| translate::in_sync(report, peer)),
            reaches_api: report.is_some_and(|(_, report)| report.lease.reachable),
            covers: report.is_some_and(|(_, report)| {
                peer.is_none_or(|peer| coverage::lacks(report, peer).next().is_none())
            }),
        })
    }
}

#[cfg(test)]
mod tests;
