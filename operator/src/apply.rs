//! Carries effects out.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Error};
use serde_json::json;
use tokio::time::timeout;

use crate::build::{Effect, Object};
use crate::problem::{Problem, Reason};
use crate::world::PairId;

/// Nothing is waited for longer.
const DEADLINE: Duration = Duration::from_secs(15);

/// What became of the effects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// What was refused.
    pub problems: Vec<Problem>,
    /// Whether it is worth trying again soon.
    pub retry: bool,
}

/// Carries effects out in their order. One that fails does not stop the others, except that nothing is made without
/// a Lease.
pub async fn apply(client: &Client, id: &PairId, effects: &[Effect]) -> Applied {
    let mut applied = Applied::default();
    for effect in effects {
        let done = timeout(DEADLINE, one(client, id, effect)).await;
        let Some(message) = failure(done) else { continue };
        tracing::warn!(pair = %id.name, namespace = %id.namespace, ?effect, %message, "an effect failed");
        applied.retry = true;
        applied.problems.push(problem(effect, &message));
        if matches!(effect, Effect::Create(object) if object.is::<Lease>()) {
            break;
        }
    }
    applied
}

fn failure(done: Result<Result<(), Error>, tokio::time::error::Elapsed>) -> Option<String> {
    match done {
        Ok(Ok(())) => None,
        Ok(Err(Error::Api(status))) => Some(status.message.clone()),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer in {} s", DEADLINE.as_secs())),
    }
}

fn problem(effect: &Effect, message: &str) -> Problem {
    let subject = subject(effect);
    let message = match effect {
        // A refused Secret may be quoted by the refusal.
        Effect::Create(object) | Effect::Apply(object) if object.resource.kind == "Secret" => {
            format!("the API server refused {subject}")
        }
        _ => format!("the API server refused {subject}: {message}"),
    };
    Problem::new(Reason::ApplyFailed, &subject, message)
}

fn subject(effect: &Effect) -> String {
    match effect {
        Effect::Create(object) | Effect::Apply(object) => format!("{object:?}"),
        Effect::Annotate { pod, .. } | Effect::Delete { pod, .. } => format!("Pod {pod}"),
    }
}

async fn one(client: &Client, id: &PairId, effect: &Effect) -> Result<(), Error> {
    match effect {
        Effect::Create(object) => create(client, id, object).await,
        Effect::Apply(object) => {
            let params = PatchParams::apply(crds::names::MANAGER).force();
            let patch = Patch::Apply(&object.value);
            api(client, id, object)
                .patch(object.name(), &params, &patch)
                .await?;
            Ok(())
        }
        Effect::Annotate { pod, uid, annotation } => annotate(client, id, pod, uid, annotation).await,
        Effect::Delete { pod, uid } => delete_pod(client, &id.namespace, pod, uid).await,
    }
}

/// An API for a kind that is known by data only.
fn api(client: &Client, id: &PairId, object: &Object) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), &id.namespace, &object.resource)
}

async fn create(client: &Client, id: &PairId, object: &Object) -> Result<(), Error> {
    let typed = serde_json::from_value(object.value.clone()).map_err(Error::SerdeError)?;
    let params = PostParams {
        field_manager: Some(crds::names::MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api(client, id, object).create(&params, &typed).await {
        Err(Error::Api(status)) if status.is_already_exists() => Ok(()),
        done => done.map(drop),
    }
}

async fn annotate(
    client: &Client,
    id: &PairId,
    pod: &str,
    uid: &str,
    (key, value): &(&'static str, String),
) -> Result<(), Error> {
    let patch = json!({ "metadata": { "uid": uid, "annotations": { *key: value } } });
    let pods: Api<Pod> = Api::namespaced(client.clone(), &id.namespace);
    let done = pods
        .patch(pod, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    gone_is_fine(done.map(drop))
}

/// Deletes this very pod, with its grace: on a node that is off it stays until the node is back.
pub async fn delete_pod(client: &Client, namespace: &str, pod: &str, uid: &str) -> Result<(), Error> {
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    gone_is_fine(pods.delete(pod, &params).await.map(drop))
}

/// Another pod of that name, or none: what was to be done is done.
fn gone_is_fine(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        done => done,
    }
}
