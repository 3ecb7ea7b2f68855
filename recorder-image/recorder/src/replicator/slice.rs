//! The EndpointSlice behind the `-primary` Service: the holder points it at itself as soon as it serves. Conditional on the
//! version read before the check, and never to a lower epoch. Nothing waits for it (I9).

use std::time::Duration;

use crds::member::PairIdentity;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How often it is tried for one epoch.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Where this member is.
#[derive(Clone, Debug)]
pub struct Me {
    /// Its name, and its pod's.
    pub member: String,
    /// Its pair.
    pub pair: PairIdentity,
    /// The pod's address.
    pub ip: String,
    /// The pod's node, where it is known.
    pub node: Option<String>,
}

impl Me {
    /// The endpoint that leads here.
    pub fn endpoint(&self) -> Value {
        json!({
            "addresses": [self.ip],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": self.node,
            "targetRef": {"kind": "Pod", "name": self.member, "namespace": self.pair.namespace},
        })
    }
}

/// Points the slice here for each epoch that comes.
pub async fn follow(client: Client, name: String, me: Me, mut epochs: mpsc::UnboundedReceiver<u64>) {
    let api: Api<EndpointSlice> = Api::namespaced(client, &me.pair.namespace);
    while let Some(epoch) = epochs.recv().await {
        for _ in 0..TRIES {
            match tokio::time::timeout(TIMEOUT, point(&api, &name, &me, epoch)).await {
                Ok(Ok(())) => break,
                Ok(Err(e)) => tracing::warn!(slice = name, epoch, "cannot point the slice here yet: {e}"),
                Err(_) => tracing::warn!(slice = name, epoch, "the API server does not answer"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The slice, unless it is somebody else's: that one is left alone, and the operator says so where a user looks.
pub fn ours(slice: EndpointSlice, me: &Me) -> Option<EndpointSlice> {
    let ours = me.pair.owns("EndpointSlice", &slice.metadata);
    if !ours {
        let name = slice.metadata.name.as_deref();
        tracing::warn!(
            slice = name,
            "the EndpointSlice is somebody else's and is left alone"
        );
    }
    ours.then_some(slice)
}

async fn point(api: &Api<EndpointSlice>, name: &str, me: &Me, epoch: u64) -> kube::Result<()> {
    let Some(now) = ours(api.get(name).await?, me) else {
        return Ok(());
    };
    let annotations = now.metadata.annotations.unwrap_or_default();
    let written = annotations
        .get(crds::names::ANNOTATION_EPOCH)
        .and_then(|e| e.parse::<u64>().ok());
    if written.is_some_and(|w| w > epoch) {
        return Ok(());
    }
    let patch = json!({
        "metadata": {
            "resourceVersion": now.metadata.resource_version,
            "annotations": {crds::names::ANNOTATION_EPOCH: epoch.to_string()},
        },
        "endpoints": [me.endpoint()],
    });
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(drop)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use crds::names;

    use super::*;

    /// The pair `front`.
    pub(in super::super) fn pair() -> PairIdentity {
        PairIdentity {
            namespace: "cctv".into(),
            name: "front".into(),
            uid: "uid-front".into(),
        }
    }

    /// A member of it.
    pub(in super::super) fn me(member: &str, ip: &str) -> Me {
        Me {
            member: member.into(),
            pair: pair(),
            ip: ip.into(),
            node: None,
        }
    }

    #[test]
    fn a_slice_of_somebody_else_is_left_alone() {
        let me = me("front-1", "198.18.2.1");
        let owned = |uid: &str| json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Any", "name": "any", "uid": uid}]});
        let labelled = |pair: &str| json!({"labels": {names::LABEL_MANAGED_BY: names::MANAGER, names::LABEL_PAIR: pair}});
        let cases = [
            (owned("uid-front"), true),
            (labelled("front"), true),
            (owned("uid-back"), false),
            (labelled("back"), false),
            (json!({}), false),
        ];
        for (metadata, expected) in cases {
            let slice = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": []});
            let slice = serde_json::from_value(slice).unwrap();
            assert_eq!(ours(slice, &me).is_some(), expected, "{metadata}");
        }
    }
}
