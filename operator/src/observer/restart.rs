//! Takes a member's pod, so that it is made anew.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::Error;
use kube::api::{Api, PostParams};
use kube::core::Status;

use super::{Setup, Shared};
use crate::apply::is_gone;
use crate::world::Held;

/// Evicts this very pod. By the budget, so that a race never takes both members, and within the round in which it was decided: what was
/// seen then must still be so. Never forced: on a node that is off the old one stays until the node is back. `Api::evict` of kube 5 would send the precondition under a name that
/// the API server does not know.
pub(super) async fn evict(shared: &Shared, setup: &Setup, member: &str, pod_uid: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &setup.id.namespace);
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(member.to_owned()),
            ..ObjectMeta::default()
        },
        delete_options: Some(DeleteOptions {
            preconditions: Some(Preconditions {
                uid: Some(pod_uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteOptions::default()
        }),
    };
    let params = PostParams::default();
    let done: Result<Status, Error> = pods
        .create_subresource("eviction", member, &params, &eviction)
        .await;
    match done {
        // Two budgets that count one pod are told in an answer of success.
        Ok(status) if status.is_failure() => Err(refused(&status))?,
        Err(Error::Api(status)) if status.code == 429 => Err(Held::NotYet(format!(
            "it may not be evicted yet: {}",
            words(&status)
        )))?,
        Err(Error::Api(status)) if is_gone(&status) => Ok(()),
        Err(Error::Api(status)) if is_refusal(&status) => Err(refused(&status))?,
        done => Ok(done.map(drop)?),
    }
}

/// Whether the API server will say the same the next time: not where it is busy, or others were quicker.
pub(super) fn is_refusal(status: &Status) -> bool {
    (400..500).contains(&status.code) && ![408, 409, 429].contains(&status.code)
}

fn refused(status: &Status) -> Held {
    Held::Refused(format!("the API server refuses to evict it: {}", words(status)))
}

/// The refusal, with the budget that it names.
fn words(status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.fold(status.message.clone(), |told, cause| {
        format!("{told} {}", cause.message)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use failover::plan::RestartReason;
    use failover::{Decision, MemberName};
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;
    use crate::fixtures::cluster::{CORE, Cluster, paths};
    use crate::fixtures::outdated;
    use crate::observer::act;
    use crate::observer::lease::tests::{setup, shared};
    use crate::observer::member::MemberClient;
    use crate::observer::rehearsal::Rehearsal;
    use crate::observer::state::State;

    pub(in crate::observer) const PODS: &str = "/api/v1/namespaces/cctv/pods";
    pub(in crate::observer) const EVICTION: &str = "/api/v1/namespaces/cctv/pods/front-1/eviction";

    pub(in crate::observer) fn cluster(uid: &str) -> Cluster {
        let cluster = Cluster::default();
        let pod = json!({ "kind": "Pod", "metadata": { "name": "front-1", "uid": uid } });
        cluster.put(&format!("{CORE}/pods/front-1"), pod);
        cluster
    }

    /// An observer of a pair whose pods are outdated.
    pub(in crate::observer) struct Scene {
        pub(in crate::observer) setup: Setup,
        shared: Shared,
        state: State,
        clients: [MemberClient; 2],
        rehearsal: Rehearsal,
    }

    impl Scene {
        pub(in crate::observer) fn new(cluster: &Cluster) -> Self {
            let members = crds::names::members("front");
            Self {
                setup: Setup {
                    outdated: outdated(&["front-0", "front-1"]),
                    ..setup()
                },
                shared: shared(cluster),
                state: State::new(members.clone(), Instant::now()),
                clients: members.map(MemberClient::new),
                rehearsal: Rehearsal::default(),
            }
        }

        /// A round in which it is decided to restart front-1, or is not.
        pub(in crate::observer) async fn round(&mut self, restarts: bool) {
            let restart = || Decision::RestartMember {
                member: MemberName::new("front-1").unwrap(),
                pod_uid: "uid-front-1".to_owned(),
                why: RestartReason::Outdated,
            };
            let decisions = restarts.then(restart).into_iter().collect();
            let Self {
                setup,
                shared,
                state,
                clients,
                rehearsal,
            } = self;
            act::carry_out(shared, setup, state, clients, rehearsal, decisions).await;
        }

        pub(in crate::observer) fn held(&self) -> BTreeMap<String, Held> {
            self.state.view(&self.setup.policy).held
        }

        /// How often a restart ended how: `ok 1`.
        pub(in crate::observer) fn told(&self) -> String {
            let counted = "gapless_operator_decisions_total{decision=\"restart_member\",outcome=\"";
            let text = self.shared.metrics.text();
            let ends = text.lines().filter_map(|line| line.strip_prefix(counted));
            ends.map(|end| end.replace("\"}", "")).collect()
        }
    }

    /// What keeps front-1 after it was decided to restart it, and what was counted.
    async fn restarted(cluster: &Cluster) -> (Option<Held>, String) {
        let mut scene = Scene::new(cluster);
        scene.round(true).await;
        // The trial, which needs no time.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        scene.round(true).await;
        (scene.held().remove("front-1"), scene.told())
    }

    fn pod(cluster: &Cluster) -> Option<Value> {
        cluster.get(&format!("{PODS}/front-1"))
    }

    #[tokio::test]
    async fn the_new_pod_is_tried_before_the_old_one_is_evicted() {
        let cluster = cluster("uid-front-1");
        assert_eq!(restarted(&cluster).await, (None, "ok 1".to_owned()));
        assert_eq!(
            cluster.everything().len(),
            0,
            "neither the old one is there nor the trial"
        );
        let asked = cluster.asked("POST");
        assert_eq!(paths(&asked), [PODS, EVICTION]);
        assert!(asked[0].query.contains("dryRun=All"), "{}", asked[0].query);
        let mut wanted = outdated(&["front-1"])["front-1"].value.clone();
        wanted["metadata"]["name"] = json!("front-1-rehearsal");
        let ours = |pod: &Value| (pod["metadata"]["labels"].clone(), pod["spec"].clone());
        assert_eq!(asked[0].body["metadata"]["name"], wanted["metadata"]["name"]);
        assert_eq!(ours(&asked[0].body), ours(&wanted));
        let options = &asked[1].body["deleteOptions"];
        assert_eq!(options["preconditions"], json!({ "uid": "uid-front-1" }));
        assert!(options["gracePeriodSeconds"].is_null(), "never forced");
        assert_eq!(cluster.asked("DELETE").len(), 0);
    }

    #[tokio::test]
    async fn a_pod_that_is_refused_does_not_cost_the_one_that_runs() {
        let refusals = [
            (
                403,
                "pods \"front-1-rehearsal\" is forbidden: exceeded quota: video",
            ),
            (400, "admission webhook \"images.example\" denied the request"),
            (422, "spec.priorityClassName: Invalid value"),
        ];
        for (code, message) in refusals {
            let cluster = cluster("uid-front-1");
            cluster.refuse("POST", "/pods", code, message);
            let (Some(Held::Refused(told)), counted) = restarted(&cluster).await else {
                panic!("{message}: it is refused")
            };
            assert!(told.ends_with(message), "{told}");
            assert_eq!(counted, "error 1", "{message}");
            assert_eq!(paths(&cluster.asked("POST")), [PODS], "{message}");
            assert!(pod(&cluster).is_some(), "{message}");
        }
    }

    #[tokio::test]
    async fn an_api_server_that_is_busy_refuses_nothing() {
        for (path, code) in [("/pods", 500), ("/pods", 429), ("/pods", 503), ("/eviction", 504)] {
            let cluster = cluster("uid-front-1");
            cluster.refuse("POST", path, code, "no quorum");
            let (Some(Held::NotYet(told)), counted) = restarted(&cluster).await else {
                panic!("{code}: it is tried again")
            };
            assert!(told.starts_with("it could not be replaced yet: "), "{told}");
            assert_eq!(counted, "error 1", "{code}");
            assert!(pod(&cluster).is_some(), "{code}");
        }
    }

    #[tokio::test]
    async fn the_disruption_budget_keeps_a_pod_and_that_is_no_error() {
        let refused = Held::Refused("the API server refuses to evict it: the budget".to_owned());
        let refusals = [
            (
                429,
                Held::NotYet("it may not be evicted yet: the budget".to_owned()),
                "waits 1",
            ),
            (403, refused.clone(), "error 1"),
            // So two budgets that count one pod are told: an answer of success that says 500.
            (201, refused, "error 1"),
        ];
        for (code, expected, counted) in refusals {
            let cluster = cluster("uid-front-1");
            cluster.refuse("POST", "/eviction", code, "the budget");
            let ended = (Some(expected), counted.to_owned());
            assert_eq!(restarted(&cluster).await, ended, "{code}");
            assert!(pod(&cluster).is_some(), "{code}");
        }
    }

    #[tokio::test]
    async fn another_pod_of_that_name_is_left_alone() {
        let cluster = cluster("uid-of-the-next");
        assert_eq!(restarted(&cluster).await.0, None);
        assert!(pod(&cluster).is_some());
        let none = Cluster::default();
        assert_eq!(restarted(&none).await.0, None, "it is gone");
    }

    #[test]
    fn a_refusal_names_the_budget() {
        let cause = json!({ "reason": "DisruptionBudget", "message": "The disruption budget front needs 1 healthy pods." });
        let status = json!({ "message": "Cannot evict pod.", "details": { "causes": [cause] } });
        let status: Status = serde_json::from_value(status).unwrap();
        assert_eq!(
            words(&status),
            "Cannot evict pod. The disruption budget front needs 1 healthy pods."
        );
    }
}
