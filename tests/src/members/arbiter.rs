//! What two members without a cluster ask of an API server: a few objects that are read, and patched under the version that
//! was read. So one of the two is primary, as on a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use crds::member::RenderedConfig;
use crds::names;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

type Objects = Arc<Mutex<BTreeMap<String, Value>>>;

/// It answers until it is dropped.
#[derive(Debug)]
pub(super) struct Arbiter {
    kubeconfig: PathBuf,
    task: JoinHandle<()>,
}

impl Arbiter {
    /// Listens on a free port of loopback, with the Lease and the EndpointSlices of a pair that nobody holds yet.
    pub(super) async fn start(folder: &Path, config: &RenderedConfig) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let kubeconfig = folder.join("kubeconfig");
        let server = format!("http://{}", listener.local_addr()?);
        std::fs::write(&kubeconfig, serde_json::to_vec(&kubeconfig_of(&server))?)?;
        let objects: Objects = Arc::new(Mutex::new(first_objects(config)));
        let router = Router::new().fallback(answer).with_state(objects);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the arbiter ended: {error}");
            }
        });
        Ok(Self { kubeconfig, task })
    }

    /// How a member finds it.
    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

impl Drop for Arbiter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn kubeconfig_of(server: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "arbiter", "cluster": {"server": server}}],
        "users": [{"name": "member", "user": {}}],
        "contexts": [{"name": "arbiter", "context": {"cluster": "arbiter", "user": "member"}}],
        "current-context": "arbiter",
    })
}

fn first_objects(config: &RenderedConfig) -> BTreeMap<String, Value> {
    let namespace = &config.pair.namespace;
    let metadata = |name: &str, annotations: Value| {
        json!({
            "name": name, "namespace": namespace, "annotations": annotations, "resourceVersion": "1",
            "ownerReferences": [{
                "apiVersion": "gapless.video/v1alpha1", "kind": "RecorderPair",
                "name": config.pair.name, "uid": config.pair.uid,
            }],
        })
    };
    let annotations = json!({
        names::ANNOTATION_EPOCH: "0",
        names::ANNOTATION_LEASH_MS: config.failover.leash_ms.to_string(),
        names::ANNOTATION_COUNTER: "0",
        names::ANNOTATION_FOLLOWER_STORE: "",
    });
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": metadata(&config.lease, annotations), "spec": {},
    });
    let slice = |name: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": metadata(name, json!({})), "addressType": "IPv4", "endpoints": [],
        })
    };
    let path =
        |group: &str, kind: &str, name: &str| format!("/apis/{group}/namespaces/{namespace}/{kind}/{name}");
    let slices = [
        config.primary_slice.clone(),
        names::read_service(&config.pair.name),
    ];
    let slices = slices
        .iter()
        .map(|name| (path("discovery.k8s.io/v1", "endpointslices", name), slice(name)));
    let lease = (path("coordination.k8s.io/v1", "leases", &config.lease), lease);
    slices.chain([lease]).collect()
}

async fn answer(State(objects): State<Objects>, method: Method, uri: Uri, body: String) -> Response {
    let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(object) = objects.get_mut(uri.path()) else {
        return refusal(StatusCode::NOT_FOUND, "NotFound");
    };
    match method {
        Method::GET => Json(object.clone()).into_response(),
        Method::PATCH => match serde_json::from_str(&body) {
            Ok(patch) => patched(object, &patch),
            Err(_) => refusal(StatusCode::BAD_REQUEST, "BadRequest"),
        },
        _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    }
}

/// A merge patch, if it names the present version or none.
fn patched(object: &mut Value, patch: &Value) -> Response {
    let version = object["metadata"]["resourceVersion"].clone();
    let expected = &patch["metadata"]["resourceVersion"];
    if !expected.is_null() && *expected != version {
        return refusal(StatusCode::CONFLICT, "Conflict");
    }
    merge(object, patch);
    let next = version
        .as_str()
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or_default()
        + 1;
    object["metadata"]["resourceVersion"] = next.to_string().into();
    Json(object.clone()).into_response()
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, change) in changes {
        match object.as_object_mut() {
            Some(fields) if change.is_null() => drop(fields.remove(key)),
            Some(fields) => merge(fields.entry(key.clone()).or_insert(Value::Null), change),
            None => {}
        }
    }
}

fn refusal(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_of_another_version_changes_nothing() {
        let mut object = json!({"metadata": {"resourceVersion": "4", "annotations": {"a": "1", "b": "2"}}});
        let stale = json!({"metadata": {"resourceVersion": "3", "annotations": {"a": "9"}}});
        assert_eq!(patched(&mut object, &stale).status(), StatusCode::CONFLICT);
        let now = json!({"metadata": {"resourceVersion": "4", "annotations": {"a": "3", "b": null}}});
        assert_eq!(patched(&mut object, &now).status(), StatusCode::OK);
        assert_eq!(
            object,
            json!({"metadata": {"resourceVersion": "5", "annotations": {"a": "3"}}})
        );
    }
}
