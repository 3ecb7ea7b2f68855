//! The Lease, read and written directly.

use std::time::Duration;

use crds::names;
use failover::{LeaseRecord, ReadResult, Version};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;
use tokio::time::timeout;

use super::Shared;
use crate::world::PairId;

/// A read that takes longer counts as none.
const DEADLINE: Duration = Duration::from_millis(800);

/// A quorum read: a GET without a version is never answered from a cache.
pub(super) async fn read(shared: &Shared, id: &PairId) -> ReadResult {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), &id.namespace);
    let result = match timeout(DEADLINE, api.get_opt(&names::lease(&id.name))).await {
        Ok(Ok(Some(lease))) => parse(&lease),
        Ok(Ok(None)) => ReadResult::Missing,
        Ok(Err(_)) | Err(_) => ReadResult::Unavailable,
    };
    shared.metrics.lease_read(&result);
    result
}

fn parse(lease: &Lease) -> ReadResult {
    let holder = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref());
    match (
        LeaseRecord::parse(lease.annotations(), holder),
        lease.resource_version(),
    ) {
        (Ok(record), Some(version)) => ReadResult::Found(failover::Lease {
            version: Version::new(&version),
            record,
        }),
        _ => ReadResult::Unreadable,
    }
}

/// Writes another record over the version that it was decided on.
pub(super) async fn swap(
    shared: &Shared,
    id: &PairId,
    expected: &Version,
    record: &LeaseRecord,
) -> Result<(), Error> {
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), &id.namespace);
    let patch = json!({ "metadata": {
        "resourceVersion": expected.as_str(),
        "annotations": record.annotations(),
    } });
    api.patch(
        &names::lease(&id.name),
        &PatchParams::default(),
        &Patch::Merge(&patch),
    )
    .await
    .map(drop)
}

/// Creates it; it must not exist.
pub(super) async fn create(
    shared: &Shared,
    id: &PairId,
    seconds: u64,
    record: &LeaseRecord,
) -> Result<(), Error> {
    let object = crate::build::lease(id, seconds, record);
    let lease: Lease = serde_json::from_value(object.value).map_err(Error::SerdeError)?;
    let api: Api<Lease> = Api::namespaced(shared.client.clone(), &id.namespace);
    let params = PostParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PostParams::default()
    };
    api.create(&params, &lease).await.map(drop)
}
