//! Reads what exists.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crds::pair::{CredentialsRef, Stream};
use crds::{RecorderPair, Secret, names};
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret as SecretObject, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use kube::{Client, Error, ResourceExt as _};

use crate::build::secrets::{ANNOTATION_RECOVERING, KEY_OPERATOR_CERT, KEY_OPERATOR_KEY, KEY_STREAMS};
use crate::pki::{Authority, Identity};
use crate::problem::{Problem, Reason};
use crate::world::{Credentials, Keys, PairId, Rendered, View, World};

/// Reads everything that belongs to a pair. Reconciles are rare, so it asks the API server, not a cache.
pub async fn observe(
    client: &Client,
    pair: Arc<RecorderPair>,
    id: PairId,
    view: Arc<View>,
) -> Result<World, Error> {
    let of_pair = ListParams::default().labels(&format!("{}={}", names::LABEL_PAIR, id.name));
    let namespace = id.namespace.as_str();
    let secrets = Api::<SecretObject>::namespaced(client.clone(), namespace);
    let services = Api::<Service>::namespaced(client.clone(), namespace)
        .list(&of_pair)
        .await?;
    let pods = Api::<Pod>::namespaced(client.clone(), namespace)
        .list(&of_pair)
        .await?;
    let lease = Api::<Lease>::namespaced(client.clone(), namespace)
        .get_opt(&names::lease(&id.name))
        .await?;
    let slice = Api::<EndpointSlice>::namespaced(client.clone(), namespace)
        .get_opt(&names::primary_service(&id.name))
        .await?;
    let mut world = World {
        lease: lease.is_some(),
        addresses: services.items.into_iter().filter_map(address).collect(),
        claims: claims(client, &id).await?,
        pods: pods.items.into_iter().map(|pod| (pod.name_any(), pod)).collect(),
        rendered: None,
        keys: Keys::default(),
        primary_slice: slice.is_some(),
        credentials: credentials(&secrets, &pair.spec.streams).await?,
        view,
        now: now(),
        pair,
        id,
    };
    let ours = secrets.list(&of_pair).await?;
    for secret in ours.items {
        take_secret(&mut world, &secret);
    }
    Ok(world)
}

/// Unix time.
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

fn address(service: Service) -> Option<(String, String)> {
    let name = service.name_any();
    let address = service
        .spec?
        .cluster_ip
        .filter(|ip| !ip.is_empty() && ip != "None")?;
    Some((name, address))
}

async fn claims(client: &Client, id: &PairId) -> Result<BTreeMap<String, PersistentVolumeClaim>, Error> {
    let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &id.namespace);
    let mut claims = BTreeMap::new();
    for member in names::members(&id.name) {
        let claim = api.get_opt(&names::claim(&member)).await?;
        claims.extend(claim.map(|claim| (member, claim)));
    }
    Ok(claims)
}

/// Sorts one of the pair's own Secrets in. What cannot be understood counts as missing and is made again.
fn take_secret(world: &mut World, secret: &SecretObject) {
    let pair = world.id.name.clone();
    let name = secret.name_any();
    if name == names::config_secret(&pair) {
        world.rendered = rendered(secret);
    } else if name == names::ca_secret(&pair) {
        world.keys.authority = identity(secret, names::KEY_CA, names::KEY_CA_KEY).map(Authority);
        world.keys.operator = identity(secret, KEY_OPERATOR_CERT, KEY_OPERATOR_KEY);
    } else if name == names::viewer_secret(&pair) {
        world.keys.token = text(secret, names::KEY_TOKEN).map(Secret::new);
    }
    for ordinal in names::ORDINALS {
        if name == names::tls_secret(&pair, ordinal) {
            let identity = identity(secret, names::KEY_CERT, names::KEY_KEY);
            let member = names::member(&pair, ordinal);
            world
                .keys
                .members
                .extend(identity.map(|identity| (member, identity)));
        }
    }
}

fn rendered(secret: &SecretObject) -> Option<Rendered> {
    let recovering = secret.annotations().contains_key(ANNOTATION_RECOVERING);
    let config = serde_json::from_str(&text(secret, names::KEY_CONFIG)?).ok()?;
    let minted: Option<BTreeMap<_, _>> = serde_json::from_str(&text(secret, KEY_STREAMS)?).ok()?;
    Some(Rendered {
        config,
        minted: minted.unwrap_or_default(),
        recovering,
    })
}

fn identity(secret: &SecretObject, cert: &str, key: &str) -> Option<Identity> {
    Some(Identity {
        cert: text(secret, cert)?,
        key: Secret::new(text(secret, key)?),
    })
}

fn text(secret: &SecretObject, key: &str) -> Option<String> {
    let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.clone())
        .ok()
        .filter(|text| !text.is_empty())
}

/// The credentials of every stream that wants some.
async fn credentials(
    secrets: &Api<SecretObject>,
    streams: &[Stream],
) -> Result<BTreeMap<String, Result<Credentials, Problem>>, Error> {
    let mut read: BTreeMap<&str, Option<SecretObject>> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for stream in streams {
        let Some(wanted) = &stream.credentials else {
            continue;
        };
        let name = wanted.secret_name.as_str();
        if !read.contains_key(name) {
            read.insert(name, secrets.get_opt(name).await?);
        }
        let secret = read.get(name).and_then(Option::as_ref);
        found.insert(stream.name.clone(), credentials_of(&stream.name, wanted, secret));
    }
    Ok(found)
}

fn credentials_of(
    stream: &str,
    wanted: &CredentialsRef,
    secret: Option<&SecretObject>,
) -> Result<Credentials, Problem> {
    let name = &wanted.secret_name;
    let missing = |what: String| {
        let message = format!("stream {stream:?} is not recorded with credentials: {what}");
        Problem::new(Reason::CredentialsMissing, stream, message)
    };
    let secret = secret.ok_or_else(|| {
        missing(format!(
            "Secret {name:?} does not exist in this namespace; create it or name another one"
        ))
    })?;
    let get = |key: &str| {
        text(secret, key).ok_or_else(|| {
            missing(format!(
                "Secret {name:?} has no key {key:?}; add it or name another key"
            ))
        })
    };
    Ok(Credentials {
        username: get(&wanted.username_key)?,
        password: Secret::new(get(&wanted.password_key)?),
    })
}
