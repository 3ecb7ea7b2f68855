//! Objects and what is to be done with them, as data.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::ApiResource;
use serde_json::{Value, json};

use crds::member::PairIdentity;

/// An object as this operator wants it: only the fields that it cares for.
#[derive(Clone, PartialEq)]
pub struct Object {
    /// Its kind.
    pub resource: ApiResource,
    /// Its fields.
    pub value: Value,
}

impl Object {
    /// An object with this name, these labels, and all else from `fields`.
    pub fn new<K: Resource<DynamicType = ()>>(
        id: &PairIdentity,
        name: &str,
        labels: &Value,
        fields: Value,
    ) -> Self {
        let resource = ApiResource::erase::<K>(&());
        let mut value = fields;
        value["apiVersion"] = json!(resource.api_version);
        value["kind"] = json!(resource.kind);
        value["metadata"]["name"] = json!(name);
        value["metadata"]["namespace"] = json!(id.namespace);
        value["metadata"]["labels"] = labels.clone();
        Self { resource, value }
    }

    /// Makes the pair its owner: it is deleted with it.
    #[must_use]
    pub fn owned_by(mut self, id: &PairIdentity) -> Self {
        self.value["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "gapless.video/v1alpha1",
            "kind": "RecorderPair",
            "name": id.name,
            "uid": id.uid,
            "controller": true,
            // The operator may not be allowed to set finalizers of others, which blocking would need.
            "blockOwnerDeletion": false,
        }]);
        self
    }

    /// The same under another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.value["metadata"]["name"] = json!(name);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Whether it is of this kind.
    pub fn is<K: Resource<DynamicType = ()>>(&self) -> bool {
        self.resource.kind == K::kind(&())
    }
}

impl fmt::Debug for Object {
    /// Kind and name only: a Secret is among these.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource.kind, self.name())
    }
}

/// One thing to do to the cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Only see that no object of that name is somebody else's.
    Check(Object),
    /// Create it; it is fine if it exists.
    Create(Object),
    /// Server-side apply.
    Apply(Object),
    /// As [`Apply`](Self::Apply), and nothing that follows is done without it.
    Require(Object),
    /// Set annotations of a pod that runs.
    Annotate {
        /// The pod.
        pod: String,
        /// Its UID: another pod of that name is left alone.
        uid: String,
        /// Key and value.
        annotation: (&'static str, String),
    },
    /// Delete a pod that does nothing, yet or any more. Never forced.
    Delete {
        /// The pod.
        pod: String,
        /// The version of it that does nothing: it may have come back since.
        version: String,
    },
}

/// A pod's UID.
pub(super) fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}
