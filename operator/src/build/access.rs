//! The Lease as it is first, what replicators may do, and the disruption budget.

use crds::member::PairIdentity;
use crds::names;
use failover::LeaseRecord;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde_json::json;

use super::labels;
use super::object::Object;
use crate::world::World;

/// A Lease that says this.
pub fn lease(id: &PairIdentity, duration_seconds: u64, record: &LeaseRecord) -> Object {
    let fields = json!({
        "metadata": { "annotations": record.annotations() },
        "spec": { "leaseDurationSeconds": duration_seconds },
    });
    Object::new::<Lease>(id, &names::lease(&id.name), &labels::pair(id), fields).owned_by(id)
}

/// The Lease of a pair that never had one: epoch 0, no holder (I5).
pub(super) fn first_lease(world: &World) -> Object {
    let failover = &world.pair.spec.failover;
    let record = LeaseRecord::first(failover.leash.get());
    lease(&world.id, failover.lease_duration.get().as_secs(), &record)
}

/// Who replicators are.
pub(super) fn account(id: &PairIdentity) -> Object {
    let fields = json!({ "automountServiceAccountToken": false });
    named::<ServiceAccount>(id, fields)
}

/// What they may do: read and swap their Lease, point the primary's slice at themselves, and take a dead peer out of the
/// slice for reading. Nothing else.
pub(super) fn role(id: &PairIdentity) -> Object {
    let rules = json!([
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [names::lease(&id.name)],
            "verbs": ["get", "patch"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "resourceNames": [names::primary_service(&id.name), names::read_service(&id.name)],
            "verbs": ["get", "patch"],
        },
    ]);
    named::<Role>(id, json!({ "rules": rules }))
}

/// Gives the role to the account.
pub(super) fn binding(id: &PairIdentity) -> Object {
    let name = names::replicator_account(&id.name);
    let fields = json!({
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": id.namespace }],
    });
    named::<RoleBinding>(id, fields)
}

fn named<K: kube::Resource<DynamicType = ()>>(id: &PairIdentity, fields: serde_json::Value) -> Object {
    let name = names::replicator_account(&id.name);
    Object::new::<K>(id, &name, &labels::pair(id), fields).owned_by(id)
}

/// One member stays, whatever is drained or updated. One that is not ready may leave while the other is, so that it can be replaced; of
/// two that are not ready each may be recording all the same.
pub(super) fn disruption_budget(id: &PairIdentity) -> Object {
    let spec = json!({
        "minAvailable": 1,
        "unhealthyPodEvictionPolicy": "IfHealthyBudget",
        "selector": { "matchLabels": { names::LABEL_PAIR: id.name } },
    });
    let name = names::read_service(&id.name);
    Object::new::<PodDisruptionBudget>(id, &name, &labels::pair(id), json!({ "spec": spec })).owned_by(id)
}
