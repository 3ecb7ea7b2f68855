//! What exists, as one reconcile saw it. Everything after it is decided from this alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::member::{MemberReport, PairIdentity, RenderedConfig, ReplicationReport};
use crds::{RecorderPair, Secret};
use failover::LeaseRecord;
use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use uuid::Uuid;

use crate::pki::{Authority, Identity};
use crate::problem::Problem;

/// What exists of a pair.
#[derive(Debug, Clone)]
pub struct World {
    /// What its user asked for.
    pub pair: Arc<RecorderPair>,
    /// Name, namespace and UID, which every object has in the cluster.
    pub id: PairIdentity,
    /// Whether there is a Lease of the pair's own.
    pub lease: bool,
    /// Address of each member's Service, by member.
    pub addresses: BTreeMap<String, String>,
    /// Volumes, by member.
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    /// Pods, by member.
    pub pods: BTreeMap<String, Pod>,
    /// What was rendered before.
    pub rendered: Option<Rendered>,
    /// Keys and tokens that were made before.
    pub keys: Keys,
    /// Whether the slice of the primary is there.
    pub primary_slice: bool,
    /// Whether the slice for reading is there.
    pub read_slice: bool,
    /// The member that its peer took out of the slice for reading.
    pub taken_out: Option<String>,
    /// User name and password of each stream that wants them, or why there are none.
    pub credentials: BTreeMap<String, Result<Credentials, Problem>>,
    /// What the pair's observer saw.
    pub view: Arc<View>,
    /// Unix time.
    pub now: Duration,
}

/// What was rendered before.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The configuration.
    pub config: RenderedConfig,
    /// The UID of every stream that this pair ever had, by name.
    pub minted: BTreeMap<String, Uuid>,
    /// Whether it is held without streams until the members said which ones their volumes know.
    pub recovering: bool,
}

/// Keys and tokens, as far as they are there.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// The pair's authority.
    pub authority: Option<Authority>,
    /// The operator's identity.
    pub operator: Option<Identity>,
    /// The members' identities, by member.
    pub members: BTreeMap<String, Identity>,
    /// The viewers' token.
    pub token: Option<Secret>,
}

/// A camera's user name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// What the observer of a pair saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// The Lease at the newest successful read.
    pub lease: Option<LeaseRecord>,
    /// Whether there has been none for long: longer than making a lost one again takes.
    pub lease_missing: bool,
    /// Why a lost one could not be made again, where it could not.
    pub lease_refused: Option<String>,
    /// Why the Lease cannot be understood, where it cannot.
    pub lease_unreadable: Option<String>,
    /// Whether members have answered for long, and none of them was primary: longer than any failover takes.
    pub leaderless: bool,
    /// The newest report of each member, by member.
    pub reports: BTreeMap<String, SeenReport>,
    /// What keeps a member from being restarted whose turn it is, by member.
    pub held: BTreeMap<String, Held>,
}

/// Why a pod stays that was to be replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// It is tried again, and nothing is known to be wrong: a disruption budget keeps it for as long as its peer is not ready, or the trial
    /// or the eviction failed.
    #[error("{0}")]
    NotYet(String),
    /// Something is in the way that waiting will not mend.
    #[error("{0}")]
    Refused(String),
}

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenReport {
    /// What the member said.
    pub report: MemberReport,
    /// Whether it is fresh.
    pub fresh: bool,
    /// What its peer thinks of it.
    pub doubt: Doubt,
    /// For how long it has said that it cannot reach the API server, where that is long, and the operator can.
    pub without_api: Option<Duration>,
}

/// What becomes of a suspicion against a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doubt {
    /// Its peer has none, or says nothing.
    #[default]
    None,
    /// Its peer suspects it, and it does not answer, or is unfit by its own word.
    Confirmed,
    /// Its peer suspects it, but it answers.
    Refuted,
}

impl Doubt {
    /// From what a member answered in the newest round, and what its peer said.
    pub fn of(answer: Option<&MemberReport>, peer: Option<&MemberReport>) -> Self {
        match (peer.is_some_and(|peer| peer.peer.suspected), answer) {
            (false, _) => Self::None,
            (true, Some(answer)) if answer.fit => Self::Refuted,
            (true, _) => Self::Confirmed,
        }
    }
}

impl View {
    /// What a member says now.
    pub fn fresh(&self, member: &str) -> Option<&MemberReport> {
        let seen = self.reports.get(member)?;
        seen.fresh.then_some(&seen.report)
    }

    /// Replication to a member, as its peer says now: only the sender knows what is still to come.
    pub fn replication_to(&self, member: &str) -> Option<&ReplicationReport> {
        let mut others = self.reports.iter().filter(|(name, _)| *name != member);
        others
            .find(|(_, seen)| seen.fresh)
            .map(|(_, seen)| &seen.report.replication)
    }

    /// The member that serves, by its own word; the one of the highest epoch where two say so.
    pub fn primary(&self) -> Option<&MemberReport> {
        let fresh = self.reports.values().filter(|seen| seen.fresh);
        fresh
            .map(|seen| &seen.report)
            .filter(|report| report.role == crds::member::Role::Primary)
            .max_by_key(|report| report.serving_epoch.unwrap_or(report.epoch))
    }
}

/// What the kubelet says of the containers of a pod; nothing before it said anything.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    containers.into_iter().flatten()
}

/// Whether no container of a pod ever started: it records nothing that could be missed.
pub fn never_ran(pod: &Pod) -> bool {
    containers(pod).all(|container| {
        let started = container.state.as_ref();
        container.restart_count == 0
            && started.is_none_or(|state| state.running.is_none() && state.terminated.is_none())
    })
}

/// Whether its recorder ended again and again and waits for the next start: it records nothing either, until its template is mended.
pub fn crash_loops(pod: &Pod) -> bool {
    containers(pod).any(|container| {
        let waits = container
            .state
            .as_ref()
            .is_some_and(|state| state.waiting.is_some());
        container.name == crds::names::CONTAINER_RECORDER && container.restart_count > 0 && waits
    })
}

impl World {
    /// Both members' names, in the order in which they are preferred.
    pub fn members(&self) -> [String; 2] {
        crds::names::members(&self.id.name)
    }

    /// Whether this pair, or one of the same name before it, ever had a Lease: then it must not begin at epoch 0.
    pub fn had_lease(&self) -> bool {
        let known = self.pair.status.as_ref().and_then(|status| status.highest_epoch);
        known.is_some() || !self.claims.is_empty()
    }
}
