//! Makes a member's pod anew, without a moment in which the API server could refuse: first it is tried whether it takes the new pod, then
//! the old one is evicted.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::Error;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::Status;

use super::{Setup, Shared};
use crate::apply::is_gone;
use crate::build::Object;
use crate::world::Held;

/// Evicts this very pod, if the API server takes the one that is wanted in its place. Never forced: on a node that is off the old one stays
/// until the node is back.
pub(super) async fn restart(
    shared: &Shared,
    setup: &Setup,
    member: &str,
    pod_uid: &str,
) -> anyhow::Result<()> {
    if let Some(wanted) = setup.outdated.get(member) {
        rehearse(shared, setup, wanted).await?;
    }
    evict(shared, setup, member, pod_uid).await
}

/// Tries to create the pod without making it. It needs a name of its own as long as the old pod has the right one, and always the same, so that
/// a refusal reads the same each time.
async fn rehearse(shared: &Shared, setup: &Setup, wanted: &Object) -> anyhow::Result<()> {
    let pods: Api<DynamicObject> =
        Api::namespaced_with(shared.client.clone(), &setup.id.namespace, &wanted.resource);
    let trial = wanted.clone().named(&format!("{}-rehearsal", wanted.name()));
    let params = PostParams {
        dry_run: true,
        field_manager: Some(crds::names::MANAGER.to_owned()),
    };
    match pods.create(&params, &serde_json::from_value(trial.value)?).await {
        Err(Error::Api(status)) if is_refusal(&status) => Err(Held::Refused(format!(
            "the API server refuses the new one, which was tried without making it: {}",
            status.message
        )))?,
        done => Ok(done.map(drop)?),
    }
}

/// By the budget, so that a race never takes both members. `Api::evict` of kube 5 would send the precondition under a name that
/// the API server does not know.
async fn evict(shared: &Shared, setup: &Setup, member: &str, pod_uid: &str) -> anyhow::Result<()> {
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
fn is_refusal(status: &Status) -> bool {
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
mod tests {
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
    use crate::observer::state::State;
    use crate::world::View;

    const PODS: &str = "/api/v1/namespaces/cctv/pods";
    const EVICTION: &str = "/api/v1/namespaces/cctv/pods/front-1/eviction";

    fn cluster(uid: &str) -> Cluster {
        let cluster = Cluster::default();
        let pod = json!({ "kind": "Pod", "metadata": { "name": "front-1", "uid": uid } });
        cluster.put(&format!("{CORE}/pods/front-1"), pod);
        cluster
    }

    /// What is shown after it was decided to restart front-1.
    async fn restarted(cluster: &Cluster) -> View {
        let setup = Setup {
            outdated: outdated(&["front-0", "front-1"]),
            ..setup()
        };
        let members = crds::names::members("front");
        let mut state = State::new(members.clone(), Instant::now());
        let mut clients = members.map(MemberClient::new);
        let decision = Decision::RestartMember {
            member: MemberName::new("front-1").unwrap(),
            pod_uid: "uid-front-1".to_owned(),
            why: RestartReason::Outdated,
        };
        act::carry_out(&shared(cluster), &setup, &mut state, &mut clients, vec![decision]).await;
        state.view(&setup.policy)
    }

    fn pod(cluster: &Cluster) -> Option<Value> {
        cluster.get(&format!("{PODS}/front-1"))
    }

    #[tokio::test]
    async fn the_new_pod_is_tried_before_the_old_one_is_evicted() {
        let cluster = cluster("uid-front-1");
        assert!(restarted(&cluster).await.held.is_empty());
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
            let Held::Refused(told) = &restarted(&cluster).await.held["front-1"] else {
                panic!("{message}: it is refused")
            };
            assert!(told.ends_with(message), "{told}");
            assert_eq!(paths(&cluster.asked("POST")), [PODS], "{message}");
            assert!(pod(&cluster).is_some(), "{message}");
        }
    }

    #[tokio::test]
    async fn an_api_server_that_is_busy_refuses_nothing() {
        for (path, code) in [("/pods", 500), ("/pods", 429), ("/pods", 503), ("/eviction", 504)] {
            let cluster = cluster("uid-front-1");
            cluster.refuse("POST", path, code, "no quorum");
            let Held::NotYet(told) = &restarted(&cluster).await.held["front-1"] else {
                panic!("{code}: it is tried again")
            };
            assert!(told.contains("did not answer"), "{told}");
            assert!(pod(&cluster).is_some(), "{code}");
        }
    }

    #[tokio::test]
    async fn the_disruption_budget_keeps_a_pod() {
        let refused = Held::Refused("the API server refuses to evict it: the budget".to_owned());
        let refusals = [
            (
                429,
                Held::NotYet("it may not be evicted yet: the budget".to_owned()),
            ),
            (403, refused.clone()),
            // So two budgets that count one pod are told: an answer of success that says 500.
            (201, refused),
        ];
        for (code, expected) in refusals {
            let cluster = cluster("uid-front-1");
            cluster.refuse("POST", "/eviction", code, "the budget");
            assert_eq!(restarted(&cluster).await.held["front-1"], expected, "{code}");
            assert!(pod(&cluster).is_some(), "{code}");
        }
    }

    #[tokio::test]
    async fn another_pod_of_that_name_is_left_alone() {
        let cluster = cluster("uid-of-the-next");
        assert!(restarted(&cluster).await.held.is_empty());
        assert!(pod(&cluster).is_some());
        let none = Cluster::default();
        assert!(restarted(&none).await.held.is_empty(), "it is gone");
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
