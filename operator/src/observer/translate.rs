//! From what members and the API say to what `failover` reasons about.

use std::sync::Arc;

use crds::member::{MemberReport, RecorderState, Role};
use failover::plan::{Container, Pod as PlanPod, Running};
use failover::{Epoch, Health, Incarnation, MemberName, MemberRef, Report, StoreId};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::runtime::reflector::{ObjectRef, Store};

use crate::world::PairId;

/// A member's pod, as last seen.
pub(super) fn find(pods: &Store<Pod>, id: &PairId, member: &str) -> Option<Arc<Pod>> {
    pods.get(&ObjectRef::new(member).within(&id.namespace))
}

/// A pod with the states of its containers: the newest start of each, and the one before.
pub(super) fn pod(pod: &Pod, outdated: bool) -> PlanPod {
    PlanPod {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        containers: statuses(pod).flat_map(containers).collect(),
        outdated,
        deleting: pod.metadata.deletion_timestamp.is_some(),
    }
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    containers.into_iter().flatten()
}

fn containers(status: &ContainerStatus) -> Vec<Container> {
    let current = status.container_id.as_ref().map(|id| Container {
        id: id.clone(),
        terminated: status
            .state
            .as_ref()
            .is_some_and(|state| state.terminated.is_some()),
    });
    let last = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let before = last.and_then(|terminated| terminated.container_id.clone());
    let before = before.map(|id| Container { id, terminated: true });
    // A container that waits to be started again still shows the id of the start that ended.
    let current = current.filter(|current| before.as_ref().is_none_or(|before| before.id != current.id));
    current.into_iter().chain(before).collect()
}

/// What runs, where every container does.
pub(super) fn running(pod: &Pod) -> Option<Running> {
    let ids = statuses(pod).map(|status| {
        let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
        status.container_id.clone().filter(|_| runs)
    });
    let containers = ids.collect::<Option<std::collections::BTreeSet<_>>>()?;
    let pod_uid = pod.metadata.uid.clone().unwrap_or_default();
    (!containers.is_empty()).then_some(Running { pod_uid, containers })
}

/// A member's words. `None` where its names make no sense.
pub(super) fn report(report: &MemberReport) -> Option<Report> {
    let serving = report.serving_epoch.unwrap_or(report.epoch);
    let primary = report.role == Role::Primary;
    let fit = report.fit && report.recorder == RecorderState::Running;
    Some(Report {
        me: MemberRef {
            member: MemberName::new(&report.member).ok()?,
            store: StoreId::new(&report.store).ok()?,
            incarnation: report.incarnation.parse::<Incarnation>().ok()?,
        },
        role: match report.role {
            Role::Primary => failover::Role::Primary,
            Role::Standby => failover::Role::Standby,
            Role::None => failover::Role::Taking,
        },
        synced_epoch: Epoch(report.epoch),
        serving_epoch: primary.then_some(Epoch(serving)),
        remaining_ms: report.authority_until_ms.unwrap_or_default(),
        leash_ms: 0,
        health: if fit { Health::Fit } else { Health::Unfit },
        hears_primary: primary || report.peer.hears_primary,
        primary: None,
        lease_version: None,
        lease_epoch: report.lease.epoch.map(Epoch),
        follower: None,
        peers: Vec::new(),
    })
}

/// Whether it has all that its peer recorded, as its peer says: only the sender knows what is still to come. A primary
/// without a standby has, as far as anybody can know: else the standby could never be replaced.
pub(super) fn in_sync(report: &MemberReport, peer: Option<&MemberReport>) -> bool {
    match peer.map(|peer| &peer.replication) {
        Some(sending) if sending.connected => sending.backfill_bytes == 0,
        _ => report.role == Role::Primary,
    }
}
