//! Carries effects out.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crds::member::PairIdentity;
use crds::names;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Client, Error};
use serde_json::json;
use tokio::time::timeout;

use crate::build::{Effect, Object};
use crate::problem::{Problem, Reason};

/// Nothing is waited for longer, but for a pod.
const DEADLINE: Duration = Duration::from_secs(15);
/// A pod may take so long to be made, and to be tried before: the API server ends a request after 34 s, whatever its webhooks do, which have
/// 30 s each at most.
pub(crate) const POD_DEADLINE: Duration = Duration::from_secs(35);

/// What became of the effects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// What was refused.
    pub problems: Vec<Problem>,
    /// How far they came.
    pub progress: Progress,
}

/// How far effects came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// All were carried out.
    #[default]
    Done,
    /// Some were refused, and are tried again soon. The Lease and what was made at random are there: nothing goes on without them.
    Retrying,
    /// Some were refused, and nothing after the last of them was tried: it is somebody else's object, or there may be no Lease, or what all
    /// that follows needs is not there.
    Stopped,
}

/// Why an effect was not carried out.
#[derive(Debug)]
enum Failure {
    /// Somebody else has an object of that name.
    Taken,
    /// Whose it is could not be read.
    Unread(Error),
    /// The API server did not do it.
    Api(Error),
    /// Nobody answered for so long.
    Late(Duration),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Api(error)
    }
}

/// Carries effects out in their order. One that fails does not stop the others, except that nothing is made without a Lease or without
/// what is required, and that nothing is written after an object that is somebody else's: the rest would use it, lead to it, or follow
/// from what it should hold. No kubelet is hurried to a Secret that was not written: it would look once, and find the old one.
pub async fn apply(client: &Client, id: &PairIdentity, effects: &[Effect]) -> Applied {
    let mut applied = Applied::default();
    let mut lacks_secret = false;
    for effect in effects {
        if lacks_secret && matches!(effect, Effect::Annotate { .. }) {
            continue;
        }
        let deadline = deadline(effect);
        let done = timeout(deadline, one(client, id, effect)).await;
        let Err(failure) = done.unwrap_or(Err(Failure::Late(deadline))) else {
            continue;
        };
        let problem = problem(effect, &failure);
        tracing::warn!(pair = %id.name, namespace = %id.namespace, ?effect, %problem, "an effect failed");
        applied.problems.push(problem);
        lacks_secret |= object(effect).is_some_and(Object::is::<Secret>);
        if stops(effect, &failure) {
            applied.progress = Progress::Stopped;
            break;
        }
        applied.progress = Progress::Retrying;
    }
    applied
}

/// A pod gets as long as its trial. Nothing else does: the effects after it wait meanwhile.
fn deadline(effect: &Effect) -> Duration {
    match effect {
        Effect::Create(object) if object.is::<Pod>() => POD_DEADLINE,
        _ => DEADLINE,
    }
}

/// Whether nothing may be done that follows: it needs what this one was to make, or to find.
fn stops(effect: &Effect, failure: &Failure) -> bool {
    let is_required = matches!(effect, Effect::Require(_)) || object(effect).is_some_and(Object::is::<Lease>);
    is_required || matches!(failure, Failure::Taken)
}

fn problem(effect: &Effect, failure: &Failure) -> Problem {
    let subject = subject(effect);
    let message = match failure {
        Failure::Taken => format!(
            "{subject} is somebody else's: it has neither this pair as an owner nor the labels of one of that name. It is left as it \
             is, and nothing else of the pair is made or changed. Remove it if nobody needs it, or give the pair another name: volumes \
             that were kept, and their media, stay with this one"
        ),
        Failure::Late(deadline) => format!(
            "the API server did not answer about {subject} in {} s: it may be busy, or wait for an admission webhook. It is tried again",
            deadline.as_secs()
        ),
        Failure::Unread(error) => format!("{subject} could not be read{}", quoted(effect, error)),
        Failure::Api(error @ Error::Api(_)) => {
            format!("the API server refused {subject}{}", quoted(effect, error))
        }
        Failure::Api(error) => format!("the request about {subject} failed{}", quoted(effect, error)),
    };
    let reason = if matches!(failure, Failure::Taken) {
        Reason::NameTaken
    } else {
        Reason::ApplyFailed
    };
    Problem::new(reason, &subject, message)
}

/// What was answered; nothing where it is about a Secret, which it may quote.
fn quoted(effect: &Effect, error: &Error) -> String {
    if object(effect).is_some_and(Object::is::<Secret>) {
        return String::new();
    }
    match error {
        Error::Api(status) => format!(": {}", status.message),
        other => format!(": {other}"),
    }
}

fn subject(effect: &Effect) -> String {
    match effect {
        Effect::Check(object) | Effect::Create(object) | Effect::Apply(object) | Effect::Require(object) => {
            format!("{object:?}")
        }
        Effect::Annotate { pod, .. } | Effect::Delete { pod, .. } => format!("Pod {pod}"),
    }
}

/// What an effect makes, or looks for.
fn object(effect: &Effect) -> Option<&Object> {
    match effect {
        Effect::Check(object) | Effect::Create(object) | Effect::Apply(object) | Effect::Require(object) => {
            Some(object)
        }
        Effect::Annotate { .. } | Effect::Delete { .. } => None,
    }
}

async fn one(client: &Client, id: &PairIdentity, effect: &Effect) -> Result<(), Failure> {
    match effect {
        Effect::Check(object) => leave_what_is_others(client, id, object).await,
        Effect::Create(object) => create(client, id, object).await,
        Effect::Apply(object) | Effect::Require(object) => {
            // Server-side apply would take it over.
            leave_what_is_others(client, id, object).await?;
            let params = PatchParams::apply(names::MANAGER).force();
            let patch = Patch::Apply(&object.value);
            api(client, id, object)
                .patch(object.name(), &params, &patch)
                .await?;
            Ok(())
        }
        Effect::Annotate { pod, uid, annotation } => Ok(annotate(client, id, pod, uid, annotation).await?),
        Effect::Delete { pod, version } => Ok(delete(client, id, pod, version).await?),
    }
}

/// An API for a kind that is known by data only.
fn api(client: &Client, id: &PairIdentity, object: &Object) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), &id.namespace, &object.resource)
}

/// Fails where there is an object of that name that is not the pair's.
async fn leave_what_is_others(client: &Client, id: &PairIdentity, object: &Object) -> Result<(), Failure> {
    let found = api(client, id, object).get_metadata_opt(object.name()).await;
    match found.map_err(Failure::Unread)? {
        Some(found) if !id.owns(&object.resource.kind, &found.metadata) => Err(Failure::Taken),
        _ => Ok(()),
    }
}

async fn create(client: &Client, id: &PairIdentity, object: &Object) -> Result<(), Failure> {
    let typed = serde_json::from_value(object.value.clone()).map_err(Error::SerdeError)?;
    let params = PostParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api(client, id, object).create(&params, &typed).await {
        Err(Error::Api(status)) if status.is_already_exists() => {
            leave_what_is_others(client, id, object).await
        }
        done => Ok(done.map(drop)?),
    }
}

async fn annotate(
    client: &Client,
    id: &PairIdentity,
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

/// Deletes this very pod, with its grace: on a node that is off it stays until the node is back. It does nothing, so no disruption
/// budget counts it, and none is asked; one that runs is evicted instead. What is decided of a version counts for that version alone: a
/// container that waited for its next start may run by now, and be the only one that records.
async fn delete(client: &Client, id: &PairIdentity, pod: &str, version: &str) -> Result<(), Error> {
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: None,
        resource_version: Some(version.to_owned()),
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), &id.namespace);
    gone_is_fine(pods.delete(pod, &params).await.map(drop))
}

fn gone_is_fine(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::Api(status)) if is_gone(&status) => Ok(()),
        done => done,
    }
}

/// Another pod of that name, another version of it, or none: what was to be done is done, or decided anew.
pub(crate) fn is_gone(status: &Status) -> bool {
    status.is_not_found() || status.is_conflict()
}
