//! Volumes.

use crds::names;
use crds::pair::WhenDeleted;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;

use super::labels;
use super::object::Object;
use crate::world::World;

/// A member's volume. It outlives the pair unless the user said otherwise; a pair of the same name adopts it.
pub(super) fn claim(world: &World, member: &str) -> Object {
    let storage = &world.pair.spec.storage;
    let mut spec = json!({
        // One pod only, wherever it runs: not even two pods on one node can write to it.
        "accessModes": ["ReadWriteOncePod"],
        "resources": { "requests": { "storage": storage.size.as_str() } },
    });
    if let Some(class) = class(world, member) {
        spec["storageClassName"] = json!(class);
    }
    let labels = labels::volume(&world.id, member);
    let fields = json!({
        "metadata": { "annotations": { names::ANNOTATION_ARGO_SYNC: names::ARGO_KEEP } },
        "spec": spec,
    });
    let claim = Object::new::<PersistentVolumeClaim>(&world.id, &names::claim(member), &labels, fields);
    match storage.when_deleted {
        WhenDeleted::Retain => claim,
        WhenDeleted::Delete => claim.owned_by(&world.id),
    }
}

/// A claim that is there, one that was brought along perhaps, keeps its class: it can never have another.
fn class<'a>(world: &'a World, member: &str) -> Option<&'a str> {
    match world.claims.get(member) {
        Some(there) => there.spec.as_ref()?.storage_class_name.as_deref(),
        None => world.pair.spec.storage.class_name.as_deref(),
    }
}
