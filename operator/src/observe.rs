//! Reads what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crds::member::PairIdentity;
use crds::pair::{CredentialsRef, Stream};
use crds::{RecorderPair, Secret, names};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret as SecretObject, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::{ByteString, NamespaceResourceScope};
use kube::api::{Api, ListParams};
use kube::{Client, Error, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::build::secrets::{ANNOTATION_RECOVERING, KEY_OPERATOR_CERT, KEY_OPERATOR_KEY, KEY_STREAMS};
use crate::pki::{Authority, Identity};
use crate::problem::{Problem, Reason};
use crate::world::{Credentials, Keys, Rendered, View, World};

/// How many Secrets of cameras are read at once.
const AT_ONCE: usize = 16;

/// Reads everything that belongs to a pair. Reconciles are rare, so it asks the API server, not a cache.
pub async fn observe(
    client: &Client,
    pair: Arc<RecorderPair>,
    id: PairIdentity,
    view: Arc<View>,
) -> Result<World, Error> {
    let namespace = id.namespace.as_str();
    let secrets = Api::<SecretObject>::namespaced(client.clone(), namespace);
    let services = list::<Service>(client, &id).await?;
    let pods = list::<Pod>(client, &id).await?;
    let lease = Api::<Lease>::namespaced(client.clone(), namespace)
        .get_opt(&names::lease(&id.name))
        .await?;
    let lease = lease.filter(|lease| id.owns("Lease", &lease.metadata));
    let ours = |slice: &EndpointSlice| id.owns("EndpointSlice", &slice.metadata);
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
    let primary_slice = slices
        .get_opt(&names::primary_service(&id.name))
        .await?
        .filter(ours);
    let read_slice = slices.get_opt(&names::read_service(&id.name)).await?.filter(ours);
    let taken_out = |slice: EndpointSlice| slice.annotations().get(names::ANNOTATION_SUSPECTED).cloned();
    let mut world = World {
        lease: lease.is_some(),
        addresses: services.into_iter().filter_map(address).collect(),
        claims: claims(client, &id).await?,
        pods: pods.into_iter().map(|pod| (pod.name_any(), pod)).collect(),
        rendered: None,
        keys: Keys::default(),
        primary_slice: primary_slice.is_some(),
        read_slice: read_slice.is_some(),
        taken_out: read_slice.and_then(taken_out),
        credentials: credentials(&secrets, &pair.spec.streams).await?,
        view,
        now: now(),
        pair,
        id,
    };
    let own = list::<SecretObject>(client, &world.id).await?;
    for secret in &own {
        take_secret(&mut world, secret);
    }
    Ok(world)
}

/// The pair's own objects of a kind. That one has the label says little: anybody may have set it.
async fn list<K>(client: &Client, id: &PairIdentity) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + DeserializeOwned + Debug,
{
    let of_pair = ListParams::default().labels(&format!("{}={}", names::LABEL_PAIR, id.name));
    let api = Api::<K>::namespaced(client.clone(), &id.namespace);
    let mut found = api.list(&of_pair).await?.items;
    found.retain(|object| id.owns(&K::kind(&()), object.meta()));
    Ok(found)
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

async fn claims(
    client: &Client,
    id: &PairIdentity,
) -> Result<BTreeMap<String, PersistentVolumeClaim>, Error> {
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
    let wanted = streams
        .iter()
        .filter_map(|stream| Some((&stream.name, stream.credentials.as_ref()?)));
    let names: BTreeSet<String> = wanted
        .clone()
        .map(|(_, wanted)| wanted.secret_name.clone())
        .filter(|name| names::is_subdomain(name))
        .collect();
    // Each camera may have one of its own.
    let reads = names.into_iter().map(|name| read(secrets.clone(), name));
    let read: BTreeMap<String, Option<SecretObject>> = futures::stream::iter(reads)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let found = wanted.map(|(stream, wanted)| {
        let secret = read.get(&wanted.secret_name).and_then(Option::as_ref);
        (stream.clone(), credentials_of(stream, wanted, secret))
    });
    Ok(found.collect())
}

async fn read(secrets: Api<SecretObject>, name: String) -> Result<(String, Option<SecretObject>), Error> {
    let found = secrets.get_opt(&name).await?;
    Ok((name, found))
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
    if !names::is_subdomain(name) {
        return Err(missing(format!(
            "no Secret can have the name {name:?}; name one in credentials.secretName"
        )));
    }
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret as SecretObject;
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::cluster::{CORE, Cluster, LEASE};
    use crate::fixtures::{PASSWORD, asked, at_rest, built, id, new_pair, with_password};
    use crate::{apply, mint};

    async fn look(cluster: &Cluster, spec: &Value) -> World {
        let pair = serde_json::from_value(asked(spec)).unwrap();
        let client = cluster.client();
        observe(&client, Arc::new(pair), id(), Arc::default())
            .await
            .unwrap()
    }

    fn secret(data: &[(&str, &str)]) -> Value {
        let data = data
            .iter()
            .map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())));
        let secret = SecretObject {
            data: Some(data.collect()),
            ..SecretObject::default()
        };
        serde_json::to_value(secret).unwrap()
    }

    fn cameras(cluster: &Cluster, data: &[(&str, &str)]) {
        cluster.put(&format!("{CORE}/secrets/cameras"), secret(data));
    }

    #[tokio::test]
    async fn of_a_new_pair_there_is_nothing() {
        let world = look(&Cluster::default(), &json!({})).await;
        assert!(!world.lease && !world.primary_slice && !world.had_lease());
        assert!(world.addresses.is_empty() && world.claims.is_empty() && world.pods.is_empty());
        assert!(world.rendered.is_none() && world.keys.authority.is_none());
    }

    #[tokio::test]
    async fn what_was_made_is_seen_again() {
        let cluster = Cluster::default();
        let rest = at_rest(&with_password());
        let mut fresh = new_pair(&with_password());
        fresh.addresses = rest.addresses.clone();
        let minted = mint::mint(&fresh).unwrap();
        let effects = crate::build::build(&fresh, &minted, Some("image")).effects;
        apply::apply(&cluster.client(), &id(), &effects).await;
        let world = look(&cluster, &json!({})).await;
        assert!(world.lease && world.primary_slice && world.had_lease());
        let both = ["front-0", "front-1"];
        assert!(both.iter().all(|member| world.addresses.contains_key(*member)));
        assert!(both.iter().all(|member| world.claims.contains_key(*member)));
        assert!(both.iter().all(|member| world.pods.contains_key(*member)));
        assert_eq!(world.keys.authority, Some(minted.authority));
        assert_eq!(world.keys.operator, Some(minted.operator));
        assert_eq!(world.keys.members.into_iter().collect::<Vec<_>>(), minted.members);
        assert_eq!(world.keys.token, Some(minted.token));
        let rendered = world.rendered.unwrap();
        assert_eq!(mint::Streams::Known(rendered.minted), minted.streams);
        assert_eq!(rendered.config.streams[0].name, "door");
        assert!(!rendered.recovering);
    }

    #[tokio::test]
    async fn that_a_pair_recovers_is_seen_again() {
        let mut world = at_rest(&json!({}));
        (world.rendered, world.view) = (None, Arc::default());
        world.pods.clear();
        let cluster = Cluster::default();
        apply::apply(&cluster.client(), &id(), &built(&world).effects).await;
        let rendered = look(&cluster, &json!({})).await.rendered.unwrap();
        assert!(rendered.recovering);
        assert!(rendered.minted.is_empty());
    }

    #[tokio::test]
    async fn objects_of_another_pair_are_not_ours() {
        let cluster = Cluster::default();
        apply::apply(&cluster.client(), &id(), &built(&new_pair(&json!({}))).effects).await;
        let mut other = id();
        other.name = "back".to_owned();
        let pair = serde_json::from_value(asked(&json!({}))).unwrap();
        let seen = observe(&cluster.client(), Arc::new(pair), other, Arc::default()).await;
        let world = seen.unwrap();
        assert!(!world.lease && world.addresses.is_empty() && world.keys.token.is_none());
    }

    #[tokio::test]
    async fn what_somebody_else_has_under_our_names_is_not_ours() {
        let cluster = Cluster::default();
        let slices = "/apis/discovery.k8s.io/v1/namespaces/cctv/endpointslices";
        for path in [
            LEASE,
            &format!("{slices}/front"),
            &format!("{slices}/front-primary"),
        ] {
            cluster.put(
                path,
                json!({ "metadata": { "name": "any" }, "addressType": "IPv4", "endpoints": [] }),
            );
        }
        let world = look(&cluster, &json!({})).await;
        assert!(!world.lease && !world.primary_slice && !world.read_slice);
    }

    #[tokio::test]
    async fn what_somebody_else_gave_our_label_is_not_ours() {
        for (manager, ours) in [("Helm", false), (names::MANAGER, true)] {
            let cluster = Cluster::default();
            let labels = json!({ names::LABEL_MANAGED_BY: manager, names::LABEL_PAIR: "front" });
            for (kind, name, mut object) in [
                (
                    "services",
                    "front-0",
                    json!({ "spec": { "clusterIP": "198.18.0.1" } }),
                ),
                ("pods", "front-0", json!({})),
                ("secrets", "front-viewer", secret(&[("token", "any")])),
            ] {
                object["metadata"] = json!({ "name": name, "labels": labels });
                cluster.put(&format!("{CORE}/{kind}/{name}"), object);
            }
            let world = look(&cluster, &json!({})).await;
            let found = (
                world.addresses.len(),
                world.pods.len(),
                world.keys.token.is_some(),
            );
            assert_eq!(found, (usize::from(ours), usize::from(ours), ours), "{manager}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_understood_counts_as_missing() {
        let mut world = at_rest(&json!({}));
        let mut taken = |name: &str, data: &[(&str, &str)]| {
            let mut secret: SecretObject = serde_json::from_value(secret(data)).unwrap();
            secret.metadata.name = Some(name.to_owned());
            take_secret(&mut world, &secret);
        };
        taken("front-config", &[("config.json", "{"), ("streams.json", "{}")]);
        taken("front-ca", &[("ca.crt", "certificate")]);
        taken("front-viewer", &[("token", "")]);
        assert!(world.rendered.is_none());
        assert!(world.keys.authority.is_none() && world.keys.operator.is_none());
        assert!(world.keys.token.is_none());
    }

    #[test]
    fn a_service_without_an_address_has_none() {
        for (ip, expected) in [
            (json!("198.18.0.1"), true),
            (json!("None"), false),
            (json!(null), false),
        ] {
            let service = json!({ "metadata": { "name": "front-0" }, "spec": { "clusterIP": ip } });
            let service = serde_json::from_value(service).unwrap();
            assert_eq!(address(service).is_some(), expected, "{ip}");
        }
    }

    #[tokio::test]
    async fn why_a_camera_has_no_password() {
        let cases = [
            ("no Secret", None, "Secret \"cameras\" does not exist"),
            (
                "no user name",
                Some([("password", PASSWORD)].as_slice()),
                "no key \"username\"",
            ),
            (
                "no password",
                Some(&[("username", "admin")]),
                "no key \"password\"",
            ),
            (
                "an empty one",
                Some(&[("username", "admin"), ("password", "")]),
                "no key \"password\"",
            ),
        ];
        for (what, data, words) in cases {
            let cluster = Cluster::default();
            if let Some(data) = data {
                cameras(&cluster, data);
            }
            let world = look(&cluster, &with_password()).await;
            let problem = world.credentials["door"].as_ref().unwrap_err();
            assert_eq!(
                (problem.reason, problem.subject.as_str()),
                (Reason::CredentialsMissing, "door")
            );
            assert!(problem.message.contains(words), "{what}: {problem}");
            assert!(!problem.message.contains(PASSWORD), "{what}: {problem}");
        }
    }

    #[tokio::test]
    async fn a_name_that_no_secret_can_have_is_asked_for_nowhere() {
        for name in [
            "",
            " ",
            "Cameras",
            "cameras/door",
            "..",
            "cameras?watch=1",
            "cameras-",
        ] {
            let cluster = Cluster::default();
            let credentials = json!({ "secretName": name });
            let stream =
                json!({ "name": "door", "url": "rtsp://camera-1/stream", "credentials": credentials });
            let world = look(&cluster, &json!({ "streams": [stream] })).await;
            let problem = world.credentials["door"].as_ref().unwrap_err();
            assert_eq!(
                (problem.reason, problem.subject.as_str()),
                (Reason::CredentialsMissing, "door")
            );
            assert!(problem.message.contains("credentials.secretName"), "{problem}");
            let asked = cluster.asked("GET");
            let reads = asked.iter().filter(|asked| asked.path.contains("/secrets/"));
            assert_eq!(reads.count(), 0, "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_secret_of_many_cameras_is_read_once() {
        let cluster = Cluster::default();
        cameras(&cluster, &[("user", "admin"), ("password", PASSWORD)]);
        let credentials = json!({ "secretName": "cameras", "usernameKey": "user" });
        let stream = |n: usize| {
            let name = format!("camera-{n}");
            json!({ "name": name, "url": "rtsp://camera/stream", "credentials": credentials })
        };
        let spec = json!({ "streams": (0..9).map(stream).collect::<Vec<_>>() });
        let world = look(&cluster, &spec).await;
        assert_eq!(
            world.credentials.values().filter(|found| found.is_ok()).count(),
            9
        );
        let asked = cluster.asked("GET");
        let reads = asked
            .iter()
            .filter(|asked| asked.path.ends_with("/secrets/cameras"));
        assert_eq!(reads.count(), 1);
    }

    #[tokio::test]
    async fn a_read_that_fails_is_no_empty_world() {
        for part in [
            "pods",
            "services",
            "secrets",
            "leases",
            "endpointslices",
            "persistentvolumeclaims",
        ] {
            let cluster = Cluster::default();
            cluster.put(LEASE, json!({}));
            cluster.refuse("GET", part, 500, "no quorum");
            let pair = serde_json::from_value(asked(&json!({}))).unwrap();
            let seen = observe(&cluster.client(), Arc::new(pair), id(), Arc::default()).await;
            assert!(seen.is_err(), "{part}");
        }
    }
}
