//! A member's pod.

use crds::pair::Requirements;
use crds::{Secret, names};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::labels;
use super::object::Object;
use crate::world::World;

/// The pod of a member, with the hash of its template and of the configuration it starts with.
pub(super) fn pod(world: &World, ordinal: u8, image: &str, config_hash: &str) -> Object {
    let spec = spec(world, ordinal, image);
    let hash = template_hash(&spec);
    let member = names::member(&world.id.name, ordinal);
    let fields = json!({
        "metadata": { "annotations": {
            names::ANNOTATION_POD_HASH: hash,
            names::ANNOTATION_CONFIG_HASH: config_hash,
        } },
        "spec": spec,
    });
    Object::new::<Pod>(&world.id, &member, &labels::member(&world.id, &member), fields).owned_by(&world.id)
}

fn template_hash(spec: &Value) -> String {
    short(blake3::hash(spec.to_string().as_bytes()))
}

/// A hash of secrets that tells nothing of them: it is keyed with one.
pub(super) fn keyed_hash(key: &Secret, texts: &[&str]) -> String {
    let key = blake3::hash(key.expose().as_bytes());
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    short(hasher.finalize())
}

fn short(hash: blake3::Hash) -> String {
    hash.to_hex()[..16].to_owned()
}

fn spec(world: &World, ordinal: u8, image: &str) -> Value {
    let id = &world.id;
    let wanted = &world.pair.spec;
    let member = names::member(&id.name, ordinal);
    let mut spec = json!({
        "serviceAccountName": names::replicator_account(&id.name),
        // The recorder must hold no token; the replicator gets one by its own volume.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 10,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": names::UID,
            "runAsGroup": names::UID,
            "fsGroup": names::UID,
            // A volume of millions of files would take long to be relabelled at each start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": { "matchLabels": { names::LABEL_PAIR: id.name } },
        }] } },
        "tolerations": tolerations(world),
        "containers": [
            recorder(&member, image, wanted.resources.recorder.as_ref()),
            replicator(&member, image, wanted.resources.replicator.as_ref()),
        ],
        "volumes": volumes(world, &member, ordinal),
    });
    if !wanted.node_selector.is_empty() {
        spec["nodeSelector"] = json!(wanted.node_selector);
    }
    if let Some(class) = &wanted.priority_class_name {
        spec["priorityClassName"] = json!(class);
    }
    if !wanted.image_pull_secrets.is_empty() {
        let named = wanted
            .image_pull_secrets
            .iter()
            .map(|name| json!({ "name": name }));
        spec["imagePullSecrets"] = named.collect();
    }
    spec
}

/// A member stays on a node that cannot be reached: its volume is there, and it may well be recording.
fn tolerations(world: &World) -> Value {
    let stay = |taint: &str| json!({ "key": taint, "operator": "Exists", "effect": "NoExecute" });
    let ours = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(stay);
    let theirs = world.pair.spec.tolerations.iter().map(|taint| json!(taint));
    ours.into_iter().chain(theirs).collect()
}

fn recorder(member: &str, image: &str, resources: Option<&Requirements>) -> Value {
    let args = [
        format!("--member={member}"),
        format!("--media={}", names::PATH_MEDIA),
        format!("--run={}", names::PATH_RUN),
        format!("--config={}/{}", names::PATH_CONFIG, names::KEY_CONFIG),
        format!("--viewer-token={}/{}", names::PATH_VIEWER, names::KEY_TOKEN),
        format!("--listen=0.0.0.0:{}", names::PORT_HTTP),
    ];
    let mut container = container(names::CONTAINER_RECORDER, image, &args, resources);
    container["ports"] = json!([port(names::PORT_NAME_HTTP, names::PORT_HTTP)]);
    add_probes(&mut container, names::PORT_NAME_HTTP);
    container["volumeMounts"] = json!([
        { "name": "media", "mountPath": names::PATH_MEDIA },
        { "name": "run", "mountPath": names::PATH_RUN },
        { "name": "config", "mountPath": names::PATH_CONFIG, "readOnly": true },
        { "name": "viewer", "mountPath": names::PATH_VIEWER, "readOnly": true },
    ]);
    container
}

fn replicator(member: &str, image: &str, resources: Option<&Requirements>) -> Value {
    let args = [
        format!("--member={member}"),
        format!("--media={}", names::PATH_MEDIA),
        format!("--run={}", names::PATH_RUN),
        format!("--config={}/{}", names::PATH_CONFIG, names::KEY_CONFIG),
        format!("--tls={}", names::PATH_TLS),
        format!("--listen-peer=0.0.0.0:{}", names::PORT_PEER),
        format!("--listen-control=0.0.0.0:{}", names::PORT_CONTROL),
        format!("--listen-status=0.0.0.0:{}", names::PORT_STATUS),
    ];
    let mut container = container(names::CONTAINER_REPLICATOR, image, &args, resources);
    container["ports"] = json!([
        port(names::PORT_NAME_PEER, names::PORT_PEER),
        port(names::PORT_NAME_CONTROL, names::PORT_CONTROL),
        port(names::PORT_NAME_STATUS, names::PORT_STATUS),
    ]);
    add_probes(&mut container, names::PORT_NAME_STATUS);
    container["volumeMounts"] = json!([
        { "name": "media", "mountPath": names::PATH_MEDIA },
        { "name": "run", "mountPath": names::PATH_RUN },
        { "name": "replicator-config", "mountPath": names::PATH_CONFIG, "readOnly": true },
        { "name": "tls", "mountPath": names::PATH_TLS, "readOnly": true },
        { "name": "api", "mountPath": names::PATH_SERVICE_ACCOUNT, "readOnly": true },
    ]);
    container
}

fn container(name: &str, image: &str, args: &[String], resources: Option<&Requirements>) -> Value {
    let resources = resources.map_or_else(
        || json!({ "requests": { "cpu": "50m", "memory": "64Mi" } }),
        |resources| json!(resources),
    );
    let env = |name: &str, field: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": field } } });
    json!({
        "name": name,
        "image": image,
        "command": [format!("/{name}")],
        "args": args,
        "env": [env("POD_IP", "status.podIP"), env("NODE_NAME", "spec.nodeName")],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
    })
}

fn add_probes(container: &mut Value, port: &str) {
    let get = |path: &str| json!({ "path": path, "port": port });
    container["livenessProbe"] = json!({
        "httpGet": get("/healthz"), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3,
    });
    container["readinessProbe"] = json!({
        "httpGet": get("/readyz"), "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 5,
    });
}

fn port(name: &str, port: u16) -> Value {
    json!({ "name": name, "containerPort": port, "protocol": "TCP" })
}

fn volumes(world: &World, member: &str, ordinal: u8) -> Value {
    let pair = &world.id.name;
    // Readable by the group, which is the pod's, and by nobody else.
    let secret = |name: &str, secret: String| json!({ "name": name, "secret": { "secretName": secret, "defaultMode": 0o440 } });
    let config = |name: &str, key: &str| {
        json!({ "name": name, "secret": {
        "secretName": names::config_secret(pair),
        "defaultMode": 0o440,
        "items": [{ "key": key, "path": names::KEY_CONFIG }],
    } })
    };
    json!([
        { "name": "media", "persistentVolumeClaim": { "claimName": names::claim(member) } },
        { "name": "run", "emptyDir": { "medium": "Memory", "sizeLimit": "16Mi" } },
        config("config", names::KEY_CONFIG),
        config("replicator-config", names::KEY_REPLICATOR_CONFIG),
        secret("viewer", names::viewer_secret(pair)),
        secret("tls", names::tls_secret(pair, ordinal)),
        { "name": "api", "projected": { "defaultMode": 0o440, "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } }] } },
        ] } },
    ])
}
