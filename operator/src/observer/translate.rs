//! From what members and the API say to what `failover` reasons about.

use std::sync::Arc;

use crds::member::{MemberReport, RecorderState, Role};
use failover::plan::{Container, Pod as PlanPod, Running};
use failover::{Epoch, Health, Incarnation, MemberName, MemberRef, Report, StoreId};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::runtime::reflector::{ObjectRef, Store};

use crds::member::PairIdentity;

use crate::world::containers;

/// No pair gets to a higher epoch. A member that tells one is wrong, or captured: a Lease that is made again above it, or one of the next,
/// could not be read.
const HIGHEST_BELIEVED: Epoch = Epoch(Epoch::MAX.0 / 2);

/// A member's pod, as last seen.
pub(super) fn find(pods: &Store<Pod>, id: &PairIdentity, member: &str) -> Option<Arc<Pod>> {
    pods.get(&ObjectRef::new(member).within(&id.namespace))
}

/// A pod with the states of its containers: the newest start of each, and the one before.
pub(super) fn pod(pod: &Pod, outdated: bool) -> PlanPod {
    PlanPod {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        containers: containers(pod).flat_map(starts).collect(),
        outdated,
        deleting: pod.metadata.deletion_timestamp.is_some(),
    }
}

/// The newest start of a container, and the one before.
fn starts(status: &ContainerStatus) -> Vec<Container> {
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
    let ids = containers(pod).map(|status| {
        let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
        status.container_id.clone().filter(|_| runs)
    });
    let containers = ids.collect::<Option<std::collections::BTreeSet<_>>>()?;
    let pod_uid = pod.metadata.uid.clone().unwrap_or_default();
    (!containers.is_empty()).then_some(Running { pod_uid, containers })
}

/// An epoch that a member tells, where a pair can have reached it.
pub(super) fn believed(epoch: u64) -> Option<Epoch> {
    Some(Epoch(epoch)).filter(|epoch| *epoch <= HIGHEST_BELIEVED)
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
        synced_epoch: believed(report.epoch).unwrap_or_default(),
        serving_epoch: believed(serving).filter(|_| primary),
        remaining_ms: report.authority_until_ms.unwrap_or_default(),
        leash_ms: 0,
        health: if fit { Health::Fit } else { Health::Unfit },
        hears_primary: primary || report.peer.hears_primary,
        primary: None,
        lease_version: None,
        lease_epoch: report.lease.epoch.and_then(believed),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::report as words;

    fn with_containers(statuses: &Value) -> Pod {
        let pod = json!({
            "metadata": { "name": "front-0", "uid": "uid-front-0" },
            "status": { "containerStatuses": statuses },
        });
        serde_json::from_value(pod).unwrap()
    }

    fn status(id: &Value, state: &Value, last: &Value) -> Value {
        json!({ "name": "recorder", "containerID": id, "state": state, "lastState": last })
    }

    #[test]
    fn the_newest_start_of_a_container_and_the_one_before() {
        let runs = json!({ "running": {} });
        let waits = json!({ "waiting": {} });
        let ended = |id: &str| json!({ "terminated": { "containerID": id, "exitCode": 1 } });
        let none = json!(null);
        let cases = [
            ("it runs", status(&json!("a"), &runs, &none), vec![("a", false)]),
            (
                "it ended",
                status(&json!("a"), &ended("a"), &none),
                vec![("a", true)],
            ),
            (
                "it was started again",
                status(&json!("b"), &runs, &ended("a")),
                vec![("b", false), ("a", true)],
            ),
            (
                "it waits to be started again",
                status(&json!("a"), &waits, &ended("a")),
                vec![("a", true)],
            ),
            ("it never ran", status(&none, &waits, &none), vec![]),
        ];
        for (what, status, expected) in cases {
            let seen = pod(&with_containers(&json!([status])), false);
            let seen = seen
                .containers
                .iter()
                .map(|seen| (seen.id.as_str(), seen.terminated));
            assert_eq!(seen.collect::<Vec<_>>(), expected, "{what}");
        }
    }

    #[test]
    fn a_member_runs_where_every_container_does() {
        let runs = status(&json!("a"), &json!({ "running": {} }), &json!(null));
        let waits = status(&json!("b"), &json!({ "waiting": {} }), &json!(null));
        let all = running(&with_containers(&json!([runs]))).unwrap();
        assert_eq!((all.pod_uid.as_str(), all.containers.len()), ("uid-front-0", 1));
        assert_eq!(running(&with_containers(&json!([runs, waits]))), None);
        assert_eq!(running(&with_containers(&json!([]))), None);
    }

    #[test]
    fn a_pod_is_told_with_its_node_and_its_end() {
        let mut found = with_containers(&json!([]));
        let patch = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" }, "spec": { "nodeName": "n" } });
        crate::fixtures::change(&mut found, &patch);
        let seen = pod(&found, true);
        assert_eq!(
            (seen.node.as_deref(), seen.deleting, seen.outdated),
            (Some("n"), true, true)
        );
    }

    #[test]
    fn what_a_member_says() {
        let primary = report(&words("front-0", Role::Primary)).unwrap();
        assert_eq!(primary.me.to_string(), "front-0/store-front-0/0000000000000001");
        assert_eq!(
            (primary.serving_epoch, primary.hears_primary),
            (Some(Epoch(7)), true)
        );
        let standby = report(&words("front-1", Role::Standby)).unwrap();
        assert_eq!(
            (standby.role, standby.serving_epoch),
            (failover::Role::Standby, None)
        );
        assert_eq!(
            (standby.synced_epoch, standby.lease_epoch),
            (Epoch(7), Some(Epoch(7)))
        );
    }

    #[test]
    fn the_epoch_in_which_a_member_serves() {
        let mut said = words("front-0", Role::Primary);
        said.serving_epoch = None;
        assert_eq!(
            report(&said).unwrap().serving_epoch,
            Some(Epoch(7)),
            "it does not say"
        );
        said.role = Role::Standby;
        said.serving_epoch = Some(7);
        assert_eq!(report(&said).unwrap().serving_epoch, None, "it is no primary");
    }

    #[test]
    fn i5_an_epoch_that_no_pair_reaches_is_told_by_nobody() {
        let near_the_end = Epoch::MAX.0 - 2 * failover::lease::RECREATE_STEP;
        for epoch in [HIGHEST_BELIEVED.0 + 1, near_the_end + 1, u64::MAX] {
            let mut said = words("front-0", Role::Primary);
            (said.epoch, said.serving_epoch) = (epoch, Some(epoch));
            said.lease.epoch = Some(epoch);
            let heard = report(&said).unwrap();
            let epochs = (heard.synced_epoch, heard.serving_epoch, heard.lease_epoch);
            assert_eq!(epochs, (Epoch(0), None, None), "{epoch}");
            let next = failover::recreate_lease([heard.synced_epoch, Epoch(7)]);
            assert_eq!(next.epoch, Epoch(1007), "{epoch}");
        }
        assert_eq!(believed(HIGHEST_BELIEVED.0), Some(HIGHEST_BELIEVED));
    }

    #[test]
    fn a_member_is_fit_where_it_says_so_and_its_recorder_runs() {
        let cases = [
            (true, RecorderState::Running, Health::Fit),
            (false, RecorderState::Running, Health::Unfit),
            (true, RecorderState::Dead, Health::Unfit),
            (true, RecorderState::Stalled, Health::Unfit),
        ];
        for (fit, recorder, expected) in cases {
            let mut said = words("front-1", Role::Standby);
            (said.fit, said.recorder) = (fit, recorder);
            assert_eq!(report(&said).unwrap().health, expected, "{fit} {recorder:?}");
        }
    }

    #[test]
    fn only_who_takes_or_hands_over_is_neither() {
        let neither = report(&words("front-1", Role::None)).unwrap();
        assert_eq!(neither.role, failover::Role::Taking);
    }

    #[test]
    fn names_that_make_no_sense_are_no_report() {
        let spoilt: [fn(&mut MemberReport); 3] = [
            |said| said.member.clear(),
            |said| said.store.push('/'),
            |said| said.incarnation.push('0'),
        ];
        for spoil in spoilt {
            let mut said = words("front-0", Role::Primary);
            spoil(&mut said);
            assert_eq!(report(&said), None, "{said:?}");
        }
    }
}
