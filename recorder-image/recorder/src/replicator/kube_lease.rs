//! The Lease in the API server: a quorum GET, a PATCH that is conditional on the version, each with its own deadline and
//! never retried.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
use crds::member::PairIdentity;
use failover::{Lease, LeaseRecord, ReadResult, SwapResult, Version};
use k8s_openapi::api::coordination::v1::Lease as Object;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};

use super::driver::{Call, LeaseApi};

/// See the module.
#[derive(Clone)]
pub struct KubeLease {
    api: Api<Object>,
    pair: PairIdentity,
    name: String,
    duration_s: u32,
    /// What was wrong with it, or with the way to it, when it was read last.
    wrong: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for KubeLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeLease")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Who asks, in audit logs and in the managed fields of the Lease and the EndpointSlices.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("gapless-replicator/", env!("CARGO_PKG_VERSION")));

/// A client for calls that must not wait: it does not retry. Each call has a deadline of its own; a time-out of reading would end
/// connections that are idle too, and a renewal each second that finds one ended is in doubt.
///
/// # Errors
/// When neither a cluster nor a kubeconfig is found.
pub async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer().await?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_millis(500));
    config.read_timeout = None;
    config.headers.push((USER_AGENT, AGENT));
    Ok(Client::try_from(config)?)
}

impl KubeLease {
    /// The Lease `name` of a pair.
    pub fn new(client: Client, pair: PairIdentity, name: &str, duration_s: u32) -> Self {
        Self {
            api: Api::namespaced(client, &pair.namespace),
            pair,
            name: name.to_owned(),
            duration_s,
            wrong: Arc::default(),
        }
    }

    /// What the Lease says; that it says nothing is told once.
    fn understand(&self, object: &Object) -> Option<Lease> {
        let said = parse(object, &self.pair);
        let why = said.as_ref().err();
        if let Some(why) = self.news(why) {
            tracing::error!(lease = self.name, "the Lease cannot be understood: {why}");
        }
        said.ok()
    }

    /// Why it was not read; that is told once, too. It may be the network, or a role that lacks a verb.
    fn was_not_read(&self, why: &String) {
        if let Some(why) = self.news(Some(why)) {
            tracing::info!(lease = self.name, "the Lease cannot be read: {why}");
        }
    }

    /// Takes note of what is wrong now, and gives it where it was not known.
    fn news<'a>(&self, now: Option<&'a String>) -> Option<&'a String> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.as_ref() == now {
            return None;
        }
        *wrong = now.cloned();
        now
    }

    fn patch_of(&self, expected: &Version, record: &LeaseRecord) -> serde_json::Value {
        serde_json::json!({
            "metadata": {"resourceVersion": expected.as_str(), "annotations": record.annotations()},
            "spec": {
                "holderIdentity": record.holder_identity().unwrap_or_default(),
                "leaseDurationSeconds": self.duration_s,
                "renewTime": format!("{:.6}", crate::clock::wall()),
            },
        })
    }
}

/// What the Lease says, or what is wrong with it. One that is somebody else's says nothing of this pair.
fn parse(object: &Object, pair: &PairIdentity) -> Result<Lease, String> {
    if !pair.owns("Lease", &object.metadata) {
        return Err("it is somebody else's".into());
    }
    let version = object
        .metadata
        .resource_version
        .as_deref()
        .ok_or("it has no version")?;
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let holder = object.spec.as_ref().and_then(|s| s.holder_identity.as_deref());
    let record = LeaseRecord::parse(&annotations, holder).map_err(|e| e.to_string())?;
    Ok(Lease {
        version: Version::new(version),
        record,
    })
}

impl LeaseApi for KubeLease {
    fn read(&self, patience: Duration) -> Call<ReadResult> {
        let this = self.clone();
        Box::pin(async move {
            let answer = tokio::time::timeout(patience, this.api.get_opt(&this.name)).await;
            let answer = answer.map_err(anyhow::Error::from);
            match answer.and_then(|answer| answer.map_err(anyhow::Error::from)) {
                Ok(Some(object)) => this
                    .understand(&object)
                    .map_or(ReadResult::Unreadable, ReadResult::Found),
                Ok(None) => ReadResult::Missing,
                Err(why) => {
                    this.was_not_read(&format!("{why:#}"));
                    ReadResult::Unavailable
                }
            }
        })
    }

    fn swap(&self, expected: Version, record: LeaseRecord, patience: Duration) -> Call<SwapResult> {
        let this = self.clone();
        Box::pin(async move {
            let patch = Patch::Merge(this.patch_of(&expected, &record));
            let params = PatchParams::default();
            let call = this.api.patch(&this.name, &params, &patch);
            match tokio::time::timeout(patience, call).await {
                Ok(Ok(object)) => match this.understand(&object) {
                    // A version that did not change was no swap.
                    Some(lease) if lease.version != expected => SwapResult::Swapped(lease),
                    _ => SwapResult::InDoubt,
                },
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => SwapResult::Conflict,
                Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => {
                    tracing::error!("the API server refuses to swap the Lease: {}", status.message);
                    SwapResult::NotSent
                }
                Ok(Err(_)) | Err(_) => SwapResult::InDoubt,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crds::names;
    use failover::Epoch;
    use serde_json::{Value, json};

    use super::super::slice::tests::pair;
    use super::*;

    #[test]
    fn a_lease_of_somebody_else_says_nothing_whatever_it_says() {
        let pair = pair();
        let owned = |uid: &str| json!([{"apiVersion": "v1", "kind": "Any", "name": "any", "uid": uid}]);
        let annotations = json!({
            names::ANNOTATION_EPOCH: "7", names::ANNOTATION_LEASH_MS: "600",
            names::ANNOTATION_COUNTER: "3", names::ANNOTATION_FOLLOWER_STORE: "",
        });
        let labels = json!({names::LABEL_MANAGED_BY: names::MANAGER, names::LABEL_PAIR: "front"});
        let cases = [
            ("the pair's", owned("uid-front"), json!({}), Some(Epoch(7))),
            ("kept from a pair of that name", json!([]), labels, Some(Epoch(7))),
            ("another pair's", owned("uid-back"), json!({}), None),
            ("nobody's", json!([]), json!({}), None),
        ];
        let epoch = |owners: &Value, labels: &Value| {
            let object = json!({"metadata": {
                "name": "front", "resourceVersion": "42",
                "annotations": annotations, "ownerReferences": owners, "labels": labels,
            }});
            let lease = parse(&serde_json::from_value(object).unwrap(), &pair);
            lease.ok().map(|lease| lease.record.epoch)
        };
        for (whose, owners, labels, expected) in cases {
            assert_eq!(epoch(&owners, &labels), expected, "{whose}");
        }
    }
}
