//! Services and EndpointSlices.
//!
//! A dead node's pods stay Ready for most of a minute, so the two Services that viewers use have no selector: the
//! operator, and the member that took, write their slices.

use crds::member::PairIdentity;
use crds::names;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::labels;
use super::object::Object;
use crate::world::{Doubt, World};

/// A member's own Service: an address for its peer that outlives pods and needs no DNS.
pub(super) fn member_service(id: &PairIdentity, member: &str) -> Object {
    let port =
        |name: &str, port: u16| json!({ "name": name, "port": port, "targetPort": name, "protocol": "TCP" });
    let spec = json!({
        "selector": { names::LABEL_MEMBER: member, names::LABEL_PAIR: id.name },
        // A member must reach its peer before either is ready.
        "publishNotReadyAddresses": true,
        "ports": [
            port(names::PORT_NAME_PEER, names::PORT_PEER),
            port(names::PORT_NAME_HTTP, names::PORT_HTTP),
        ],
    });
    Object::new::<Service>(id, member, &labels::member(id, member), json!({ "spec": spec })).owned_by(id)
}

/// A Service without selector, for viewers.
pub(super) fn viewer_service(id: &PairIdentity, name: &str) -> Object {
    let spec = json!({
        "ports": [{
            "name": names::PORT_NAME_HTTP,
            "port": names::PORT_HTTP,
            "targetPort": names::PORT_HTTP,
            "protocol": "TCP",
        }],
    });
    Object::new::<Service>(id, name, &labels::pair(id), json!({ "spec": spec })).owned_by(id)
}

/// The slice that leads to every member that answers and that its peer does not know to be dead; where that is nobody, to
/// every one that answers. Where none answers, it stays as it is: an operator that has just begun, or is cut off from both, knows
/// nothing better than what the members wrote.
pub(super) fn read_slice(world: &World) -> Option<Object> {
    let answer = |member: &String| world.view.fresh(member).is_some();
    let [all, alive] = [false, true].map(|alive| {
        let members = world.members().into_iter().filter(answer);
        let members = members.filter(|member| !alive || is_alive(world, member));
        members
            .filter_map(|member| endpoint(world, &member))
            .collect::<Vec<Value>>()
    });
    let endpoints = if alive.is_empty() { all } else { alive };
    let known = !endpoints.is_empty() || !world.read_slice;
    known.then(|| slice(&world.id, &names::read_service(&world.id.name), &endpoints, None))
}

/// Whether viewers may be led to a member that answers. What a replicator wrote into the slice may be newer than the view:
/// a member that it took out stays out until it answers after that, is heard by its peer, or its peer is silent.
fn is_alive(world: &World, member: &str) -> bool {
    let doubt = world.view.reports.get(member).map(|seen| seen.doubt);
    let taken_out = world.taken_out.as_deref() == Some(member);
    let mut peers = world.members().into_iter().filter(|other| other != member);
    match doubt.unwrap_or_default() {
        Doubt::Confirmed => false,
        Doubt::Refuted => true,
        Doubt::None => !(taken_out && peers.any(|peer| world.view.fresh(&peer).is_some())),
    }
}

/// The slice that leads to the primary, as it is first: to nobody, in no epoch. Whoever takes writes itself in.
pub(super) fn first_primary_slice(id: &PairIdentity) -> Object {
    slice(id, &names::primary_service(&id.name), &[], Some(0))
}

fn slice(id: &PairIdentity, service: &str, endpoints: &[Value], epoch: Option<u64>) -> Object {
    let mut labels = labels::pair(id);
    labels["kubernetes.io/service-name"] = json!(service);
    labels["endpointslice.kubernetes.io/managed-by"] = json!(names::MANAGER);
    let mut fields = json!({
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": names::PORT_NAME_HTTP, "port": names::PORT_HTTP, "protocol": "TCP" }],
    });
    if let Some(epoch) = epoch {
        fields["metadata"]["annotations"][names::ANNOTATION_EPOCH] = json!(epoch.to_string());
    }
    Object::new::<EndpointSlice>(id, service, &labels, fields).owned_by(id)
}

fn endpoint(world: &World, member: &str) -> Option<Value> {
    let pod = world.pods.get(member)?;
    let status = pod.status.as_ref()?;
    Some(endpoint_of(
        status.pod_ip.as_deref()?,
        member,
        pod.metadata.namespace.as_deref(),
        pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()),
    ))
}

/// An endpoint that leads to a member's pod.
pub fn endpoint_of(address: &str, pod: &str, namespace: Option<&str>, node: Option<&str>) -> Value {
    json!({
        "addresses": [address],
        "conditions": { "ready": true, "serving": true, "terminating": false },
        "nodeName": node,
        "targetRef": { "kind": "Pod", "name": pod, "namespace": namespace },
    })
}
