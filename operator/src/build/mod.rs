//! What should exist: a pure function from what does exist to effects.

mod access;
mod claim;
mod config;
mod labels;
mod network;
mod object;
mod pod;
pub(crate) mod secrets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use crds::names;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use uuid::Uuid;

pub use access::lease;
pub use network::endpoint_of;
pub use object::{Effect, Object};

use crate::mint::{Minted, Streams};
use crate::world::{World, crash_loops, never_ran};

/// What to do, in this order.
#[derive(Debug, Clone)]
pub struct Built {
    /// The effects.
    pub effects: Vec<Effect>,
    /// Members whose pod was made from another template than the one that is wanted now, and that run; each with the pod that is wanted.
    pub outdated: BTreeMap<String, Object>,
    /// The streams that are rendered, which every member is to load: UID and name.
    pub streams: Vec<(Uuid, String)>,
    /// Whether something waits for what other controllers or the members have to do first.
    pub waiting: Option<&'static str>,
}

/// A pod that ended within so long of when it was made was refused by its node, or started in vain.
const ENDED_AT_ONCE: Duration = Duration::from_secs(10);

/// What should exist. What needs an address that is not there yet is built in a later pass.
pub fn build(world: &World, minted: &Minted, image: Option<&str>) -> Built {
    let mut built = Built {
        effects: Vec::new(),
        outdated: BTreeMap::new(),
        streams: Vec::new(),
        waiting: None,
    };
    // First of all, so that no volume is ever used in a pair that has no Lease to count its epochs. One that was lost is made again by the
    // observer, above every epoch.
    if !world.lease {
        let lease = access::first_lease(world);
        built.effects.push(if world.had_lease() {
            Effect::Check(lease)
        } else {
            Effect::Create(lease)
        });
    }
    built.effects.extend(foundations(world, minted));
    if !world.primary_slice {
        let slice = network::first_primary_slice(&world.id);
        built.effects.push(Effect::Create(slice));
    }
    build_members(world, minted, image, &mut built);
    built
}

fn foundations(world: &World, minted: &Minted) -> Vec<Effect> {
    let id = &world.id;
    let member = |(ordinal, (_, identity)): (u8, &(String, _))| {
        secrets::member(id, ordinal, identity, &minted.authority.0)
    };
    let identities = names::ORDINALS.into_iter().zip(&minted.members).map(member);
    let services = world.members().map(|member| network::member_service(id, &member));
    let mut objects = vec![
        access::account(id),
        access::role(id),
        access::binding(id),
        access::disruption_budget(id),
        network::viewer_service(id, &names::read_service(&id.name)),
        network::viewer_service(id, &names::primary_service(&id.name)),
    ];
    objects.extend(network::read_slice(world));
    objects.extend(services);
    let mut effects: Vec<Effect> = objects.into_iter().map(Effect::Apply).collect();
    // Each pass makes another one as long as it is not written.
    let is_new = world.keys.token.is_none();
    effects.push(needed(is_new, secrets::viewer(id, &minted.token)));
    // It signs what follows, or that is for those who have what it signed.
    let is_new = world.keys.authority.as_ref() != Some(&minted.authority);
    effects.push(needed(is_new, secrets::authority(id, minted)));
    effects.extend(identities.map(Effect::Apply));
    effects
}

/// What was made at random just now is needed by all that follows. What is there already is only kept as it should be.
fn needed(is_new: bool, object: Object) -> Effect {
    if is_new {
        Effect::Require(object)
    } else {
        Effect::Apply(object)
    }
}

/// The configuration, the volumes and the pods, once the members' addresses and the streams' UIDs are known.
fn build_members(world: &World, minted: &Minted, image: Option<&str>, built: &mut Built) {
    let none = BTreeMap::new();
    let (uids, known) = match &minted.streams {
        Streams::Known(uids) => (uids, Some(uids)),
        Streams::Recovering => (&none, None),
        Streams::Wait => {
            built.waiting = Some("the members have not told yet which streams their volumes have");
            return;
        }
    };
    let Some(config) = config::render(world, uids) else {
        built.waiting = Some("the members' Services have no addresses yet");
        return;
    };
    if known.is_none() {
        built.waiting = Some("the members have not told yet which streams their volumes have");
    }
    let streams = config.streams.iter();
    built.streams = streams.map(|stream| (stream.uid, stream.name.clone())).collect();
    let certificates = minted.members.iter().map(|(_, identity)| identity.cert.as_str());
    let text = secrets::text(&config);
    let texts: Vec<&str> = certificates.chain([text.as_str()]).collect();
    let hash = pod::keyed_hash(&minted.token, &texts);
    // Before the volumes: one without these UIDs would be taken for one that was used before.
    let secret = secrets::config(&world.id, &config, known);
    built.effects.push(needed(world.rendered.is_none(), secret));
    let claims = world.members().map(|member| claim::claim(world, &member));
    built.effects.extend(claims.map(Effect::Apply));
    // Without an image there is nothing to run; what runs goes on.
    let Some(image) = image else { return };
    for ordinal in names::ORDINALS {
        let wanted = pod::pod(world, ordinal, image, &hash);
        member_pod(world, wanted, &hash, built);
    }
}

/// A pod is made once. A changed configuration changes an annotation, so that its kubelet looks at once; a changed
/// template is for the rolling update, except where the pod never ran, or runs no longer: an update waits for the other member to be well, and
/// that may never be if both have the same fault, which the new template mends.
fn member_pod(world: &World, wanted: Object, config_hash: &str, built: &mut Built) {
    let Some(pod) = world.pods.get(wanted.name()) else {
        built.effects.push(Effect::Create(wanted));
        return;
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return;
    }
    let template = &wanted.value["metadata"]["annotations"][names::ANNOTATION_POD_HASH];
    let outdated = annotation(pod, names::ANNOTATION_POD_HASH) != template.as_str();
    if has_ended(pod) && age(pod, world.now).is_some_and(|age| age < ENDED_AT_ONCE) {
        // Its node would refuse the next one, too: not as fast as the API server goes.
        built.waiting = Some("a pod ended as soon as it was made; another one is made after some seconds");
        return;
    }
    if has_ended(pod) || (outdated && (never_ran(pod) || crash_loops(pod))) {
        built.effects.push(Effect::Delete {
            pod: wanted.name().to_owned(),
            version: pod.resource_version().unwrap_or_default(),
        });
        return;
    }
    if annotation(pod, names::ANNOTATION_CONFIG_HASH) != Some(config_hash) {
        built.effects.push(Effect::Annotate {
            pod: wanted.name().to_owned(),
            uid: object::uid(pod),
            annotation: (names::ANNOTATION_CONFIG_HASH, config_hash.to_owned()),
        });
    }
    if outdated {
        built.outdated.insert(wanted.name().to_owned(), wanted);
    }
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// How long ago it was made.
fn age(pod: &Pod, now: Duration) -> Option<Duration> {
    let made = pod.metadata.creation_timestamp.as_ref()?.0.as_second();
    now.checked_sub(Duration::from_secs(u64::try_from(made).ok()?))
}

/// Whether all its containers ended for good: it was evicted, or its node shut down in order.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}
