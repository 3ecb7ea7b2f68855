//! The Lease in the API server: a quorum GET, a PATCH that is conditional on the version, each with its own deadline and
//! never retried.

use std::time::Duration;

use failover::{Lease, LeaseRecord, ReadResult, SwapResult, Version};
use k8s_openapi::api::coordination::v1::Lease as Object;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};

use super::driver::{Call, LeaseApi};

/// See the module.
#[derive(Clone)]
pub struct KubeLease {
    api: Api<Object>,
    name: String,
    duration_s: u32,
    timeout: Duration,
}

impl std::fmt::Debug for KubeLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeLease")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

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
    Ok(Client::try_from(config)?)
}

impl KubeLease {
    /// The Lease `name` in `namespace`.
    pub fn new(client: Client, namespace: &str, name: &str, duration_s: u32, timeout: Duration) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            duration_s,
            timeout,
        }
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

fn parse(object: &Object) -> Option<Lease> {
    let version = Version::new(object.metadata.resource_version.as_deref()?);
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let holder = object.spec.as_ref().and_then(|s| s.holder_identity.as_deref());
    match LeaseRecord::parse(&annotations, holder) {
        Ok(record) => Some(Lease { version, record }),
        Err(e) => {
            tracing::error!("the Lease cannot be understood: {e}");
            None
        }
    }
}

impl LeaseApi for KubeLease {
    fn read(&self) -> Call<ReadResult> {
        let this = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(this.timeout, this.api.get_opt(&this.name)).await {
                Ok(Ok(Some(object))) => parse(&object).map_or(ReadResult::Unreadable, ReadResult::Found),
                Ok(Ok(None)) => ReadResult::Missing,
                Ok(Err(e)) => {
                    tracing::debug!("reading the Lease: {e}");
                    ReadResult::Unavailable
                }
                Err(_) => ReadResult::Unavailable,
            }
        })
    }

    fn swap(&self, expected: Version, record: LeaseRecord) -> Call<SwapResult> {
        let this = self.clone();
        Box::pin(async move {
            let patch = Patch::Merge(this.patch_of(&expected, &record));
            let params = PatchParams::default();
            let call = this.api.patch(&this.name, &params, &patch);
            match tokio::time::timeout(this.timeout, call).await {
                Ok(Ok(object)) => match parse(&object) {
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
