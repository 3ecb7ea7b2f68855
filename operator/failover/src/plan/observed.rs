//! What the operator saw.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::ReadResult;
use crate::lease::Lease;
use crate::message::Health;
use crate::name::{Epoch, MemberName, StoreId};
use crate::report::Report;
use crate::time::BootTime;

/// The operator's own times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Unchanged for so long, as the operator saw it, the Lease has expired: `leaseDurationSeconds`, at least three
    /// renewal periods. A longer leash in the Lease lengthens it.
    pub lease_duration: Duration,
    /// At most so much time between two successful reads counts as seen.
    pub longest_gap: Duration,
    /// A report older than this is none.
    pub report_age: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(4),
            longest_gap: Duration::from_secs(2),
            report_age: Duration::from_secs(3),
        }
    }
}

/// The Lease as the operator's own quorum reads saw it, and for how long it did not change.
///
/// Only the time between two successful reads counts, on the operator's own monotonic clock: an operator that could
/// not read saw nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaseWatch {
    lease: Option<Lease>,
    missing: bool,
    unchanged: Duration,
    read_at: Option<BootTime>,
}

impl LeaseWatch {
    /// Takes note of a quorum read that ended at `now`.
    pub fn read(&mut self, now: BootTime, result: &ReadResult, longest_gap: Duration) {
        let found = match result {
            ReadResult::Found(lease) => Some(lease),
            ReadResult::Missing => None,
            ReadResult::Unreadable | ReadResult::Unavailable => {
                self.read_at = None;
                return;
            }
        };
        self.missing = found.is_none();
        if self.lease.as_ref() == found {
            let seen = self.read_at.map_or(Duration::ZERO, |before| now.since(before));
            self.unchanged += seen.min(longest_gap);
        } else {
            self.lease = found.cloned();
            self.unchanged = Duration::ZERO;
        }
        self.read_at = Some(now);
    }

    /// The Lease at the newest successful read; `None` before the first and where there was none.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// For how long it was seen unchanged.
    pub fn unchanged(&self) -> Duration {
        self.unchanged
    }

    /// Whether the newest read succeeded.
    pub fn is_read(&self) -> bool {
        self.read_at.is_some()
    }

    /// Whether the newest read succeeded and said that there is no Lease.
    pub fn is_missing(&self) -> bool {
        self.missing && self.read_at.is_some()
    }
}

/// One container of a member's pod, as its status says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Container {
    /// The container id of this start.
    pub id: String,
    /// Whether it is terminated.
    pub terminated: bool,
}

/// A member's pod. A missing one proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// Where it runs.
    pub node: Option<String>,
    /// Its containers, each with the state of its newest start and of the one before.
    pub containers: Vec<Container>,
    /// Whether it was made from another template than the one that is wanted now.
    pub outdated: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// The containers of a member while it was last seen running.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Running {
    /// The pod they belonged to.
    pub pod_uid: String,
    /// Their ids.
    pub containers: BTreeSet<String>,
}

/// One member, as the operator saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// Its name.
    pub name: MemberName,
    /// Its pod, where there is one.
    pub pod: Option<Pod>,
    /// What ran when it was last seen running.
    pub was_running: Option<Running>,
    /// Its newest report, and when it came.
    pub report: Option<(BootTime, Report)>,
    /// Whether everything that others acknowledged to it is durable here: safe to promote.
    pub in_sync: bool,
    /// Whether it receives every stream that another member receives, or rests: that one can leave.
    pub covers: bool,
    /// Whether it reached the API server when it called last. Who does not can take no Lease.
    pub reaches_api: bool,
}

impl MemberState {
    /// Its report, where it is fresh.
    pub fn fresh_report(&self, now: BootTime, policy: &Policy) -> Option<&Report> {
        let fresh = |at: &BootTime| now.since(*at) <= policy.report_age;
        self.report
            .as_ref()
            .filter(|(at, _)| fresh(at))
            .map(|(_, report)| report)
    }

    /// What it answered in the round that ended at `now`.
    pub fn answered(&self, now: BootTime) -> Option<&Report> {
        let (at, report) = self.report.as_ref()?;
        (*at == now).then_some(report)
    }

    /// Whether it answers and its recorder makes progress.
    pub fn is_fit(&self, now: BootTime, policy: &Policy) -> bool {
        self.fresh_report(now, policy)
            .is_some_and(|report| report.health == Health::Fit)
    }

    /// Whether a container that ran is terminated: the same pod and the same container.
    pub fn is_terminated(&self) -> bool {
        let (Some(pod), Some(ran)) = (&self.pod, &self.was_running) else {
            return false;
        };
        let ended = |container: &Container| container.terminated && ran.containers.contains(&container.id);
        pod.uid == ran.pod_uid && pod.containers.iter().any(ended)
    }

    /// Whether it runs, is fit, in sync, receives what others receive, and stays.
    pub fn is_up(&self, now: BootTime, policy: &Policy) -> bool {
        let stays = self.pod.as_ref().is_some_and(|pod| !pod.deleting);
        stays && self.in_sync && self.covers && self.is_fit(now, policy)
    }
}

/// A switchover that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switchover {
    /// To whom; the first follower that can where it is not said.
    pub to: Option<MemberName>,
    /// Whether a member that is not in sync will do.
    pub unclean: bool,
}

/// Whom to give authority back to when all is well again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failback {
    /// To whom.
    pub to: MemberName,
    /// After so long without any change.
    pub after: Duration,
}

/// Whom the `-primary` Service points at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServeTarget {
    /// In which epoch. A write never lowers it.
    pub epoch: Epoch,
    /// Which member.
    pub member: MemberName,
}

/// Everything the operator saw of one set of members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The operator's times.
    pub policy: Policy,
    /// The Lease.
    pub lease: LeaseWatch,
    /// The members, in the order in which they are preferred.
    pub members: Vec<MemberState>,
    /// The stores whose volumes are lost for good. A node that is off has lost nothing.
    pub lost: BTreeSet<StoreId>,
    /// The highest epoch that status, or any volume that was reached, ever told. Status keeps the highest epoch that
    /// was ever read from the Lease, or was about to be written to it (I5).
    pub known_epoch: Epoch,
    /// The switchover that was asked for and is not done.
    pub switchover: Option<Switchover>,
    /// The failback that is wanted; authority stays where it is where there is none.
    pub failback: Option<Failback>,
    /// For how long nothing happened, as [`Calm`](super::Calm) tells; `None` while something is wrong.
    pub calm: Option<Duration>,
    /// Whom the `-primary` Service points at now.
    pub serving: Option<ServeTarget>,
}
