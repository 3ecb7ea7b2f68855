//! What should exist, situation by situation.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role as RbacRole, RoleBinding};
use kube::Resource;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{
    IMAGE, PASSWORD, ask, at_rest, built, change, change_pod, data, merge, new_pair, pass, said, silence,
    streams, with_password,
};
use crate::mint::mint;
use crate::problem::{Problem, Reason};
use crate::world::Doubt;

/// Everything that is created or applied.
fn objects(built: &Built) -> impl Iterator<Item = &Object> {
    built.effects.iter().filter_map(|effect| match effect {
        Effect::Create(object) | Effect::Apply(object) => Some(object),
        Effect::Annotate { .. } | Effect::Delete { .. } => None,
    })
}

fn find<'a, K: Resource<DynamicType = ()>>(built: &'a Built, name: &str) -> Option<&'a Value> {
    let object = objects(built).find(|object| object.is::<K>() && object.name() == name)?;
    Some(&object.value)
}

/// An object of a pair that is built for the first time.
fn first<K: Resource<DynamicType = ()>>(spec: &Value, name: &str) -> Value {
    let mut world = new_pair(spec);
    let mut passes = [pass(&mut world), pass(&mut world)].into_iter();
    let found = passes.find_map(|built| find::<K>(&built, name).cloned());
    found.unwrap_or_else(|| panic!("no {name}"))
}

fn container(pod: &Value, name: &str) -> Value {
    let mut containers = pod["spec"]["containers"].as_array().unwrap().iter();
    containers
        .find(|container| container["name"] == name)
        .unwrap()
        .clone()
}

/// What happens to pods.
fn on_pods(built: &Built) -> Vec<String> {
    let told = built.effects.iter().filter_map(|effect| match effect {
        Effect::Create(object) => object.is::<Pod>().then(|| format!("create {}", object.name())),
        Effect::Apply(object) => object.is::<Pod>().then(|| format!("apply {}", object.name())),
        Effect::Annotate { pod, uid, .. } => Some(format!("annotate {pod} {uid}")),
        Effect::Delete { pod, uid } => Some(format!("delete {pod} {uid}")),
    });
    told.collect()
}

/// The rendered configuration, if it is applied.
fn config(built: &Built) -> Option<Value> {
    let secret = find::<Secret>(built, "front-config")?;
    Some(serde_json::from_str(&data(secret, "config.json")).unwrap())
}

fn stream_names(config: &Value) -> Vec<&str> {
    let streams = config["streams"].as_array().unwrap().iter();
    streams.map(|stream| stream["name"].as_str().unwrap()).collect()
}

#[test]
fn i5_the_first_lease_comes_before_everything_else() {
    let mut world = new_pair(&json!({}));
    world.addresses = at_rest(&json!({})).addresses;
    let built = built(&world);
    let Effect::Create(lease) = &built.effects[0] else {
        panic!("{:?}", built.effects)
    };
    assert!(lease.is::<Lease>());
    assert_eq!(
        lease.value["metadata"]["annotations"][names::ANNOTATION_EPOCH],
        "0"
    );
    assert_eq!(
        lease.value["metadata"]["annotations"][names::ANNOTATION_LEASH_MS],
        "600"
    );
    assert_eq!(lease.value["spec"], json!({ "leaseDurationSeconds": 4 }));
    assert_eq!(
        objects(&built)
            .filter(|o| o.is::<PersistentVolumeClaim>())
            .count(),
        2
    );
}

#[test]
fn i5_no_lease_is_made_where_there_was_one_ever() {
    let mut with_lease = new_pair(&json!({}));
    with_lease.lease = true;
    let mut with_epoch = new_pair(&json!({}));
    change(
        Arc::make_mut(&mut with_epoch.pair),
        &json!({ "status": { "highestEpoch": 0 } }),
    );
    let mut adopting = at_rest(&json!({}));
    adopting.lease = false;
    adopting.claims.remove("front-1");
    for (what, world) in [
        ("there is one", with_lease),
        ("status knows of one", with_epoch),
        ("a volume was used", adopting),
    ] {
        assert!(!objects(&built(&world)).any(Object::is::<Lease>), "{what}");
    }
}

#[test]
fn at_rest_nothing_is_created_deleted_or_annotated() {
    let built = built(&at_rest(&with_password()));
    let applies = |effect: &Effect| matches!(effect, Effect::Apply(_));
    assert!(built.effects.iter().all(applies), "{:?}", built.effects);
    assert_eq!((built.outdated.len(), built.waiting), (0, None));
}

#[test]
fn every_field_is_one_that_kubernetes_knows() {
    let spec = json!({
        "storage": { "className": "local" },
        "nodeSelector": { "zone": "a" },
        "tolerations": [{ "key": "video", "operator": "Exists" }],
        "imagePullSecrets": ["registry"],
        "resources": { "recorder": { "limits": { "memory": "1Gi" } } },
    });
    let mut world = new_pair(&spec);
    let passes = [pass(&mut world), pass(&mut world), built(&at_rest(&spec))];
    for object in passes.iter().flat_map(objects) {
        let known = typed(object);
        let mut value = object.value.clone();
        drop_nulls(&mut value);
        assert_eq!(known, value, "{object:?}");
    }
}

/// An object as its type reads and writes it.
fn typed(object: &Object) -> Value {
    fn through<K: serde::de::DeserializeOwned + serde::Serialize>(value: &Value) -> Value {
        let typed: K = serde_json::from_value(value.clone()).unwrap();
        serde_json::to_value(typed).unwrap()
    }
    let value = &object.value;
    match object.resource.kind.as_str() {
        "Lease" => through::<Lease>(value),
        "ServiceAccount" => through::<ServiceAccount>(value),
        "Role" => through::<RbacRole>(value),
        "RoleBinding" => through::<RoleBinding>(value),
        "PodDisruptionBudget" => through::<PodDisruptionBudget>(value),
        "Secret" => through::<Secret>(value),
        "Service" => through::<Service>(value),
        "EndpointSlice" => through::<EndpointSlice>(value),
        "PersistentVolumeClaim" => through::<PersistentVolumeClaim>(value),
        "Pod" => through::<Pod>(value),
        other => panic!("{other} is not expected"),
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => (),
    }
}

#[test]
fn everything_is_found_again_by_its_label_and_goes_with_its_pair() {
    let mut world = new_pair(&json!({}));
    let passes = [pass(&mut world), pass(&mut world)];
    for object in passes.iter().flat_map(objects) {
        let metadata = &object.value["metadata"];
        assert_eq!(metadata["namespace"], "cctv", "{object:?}");
        assert_eq!(metadata["labels"][names::LABEL_PAIR], "front", "{object:?}");
        assert_eq!(
            metadata["labels"][names::LABEL_MANAGED_BY],
            names::MANAGER,
            "{object:?}"
        );
        if !object.is::<PersistentVolumeClaim>() {
            assert_eq!(metadata["ownerReferences"][0]["uid"], "uid-front", "{object:?}");
            assert_eq!(metadata["ownerReferences"][0]["controller"], true, "{object:?}");
        }
    }
}

#[test]
fn only_the_replicator_has_a_token_and_a_key() {
    let pod = first::<Pod>(&json!({}), "front-0");
    let mounts = |name: &str| {
        let container = container(&pod, name);
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        let mounts = mounts.map(|mount| mount["name"].as_str().unwrap().to_owned());
        mounts.collect::<Vec<_>>()
    };
    assert_eq!(mounts("recorder"), ["media", "run", "config", "viewer"]);
    let expected = ["media", "run", "replicator-config", "tls", "api"];
    assert_eq!(mounts("replicator"), expected);
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    let account = first::<ServiceAccount>(&json!({}), "front-replicator");
    assert_eq!(account["automountServiceAccountToken"], false);
}

#[test]
fn a_pod_mounts_its_own_certificate_and_never_the_authority() {
    for (member, own) in [("front-0", "front-tls-0"), ("front-1", "front-tls-1")] {
        let pod = first::<Pod>(&json!({}), member);
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let secrets: Vec<&Value> = volumes
            .iter()
            .map(|volume| &volume["secret"]["secretName"])
            .filter(|name| !name.is_null())
            .collect();
        assert_eq!(secrets, ["front-config", "front-config", "front-viewer", own]);
        assert_eq!(
            volumes[0]["persistentVolumeClaim"]["claimName"],
            format!("media-{member}")
        );
    }
}

#[test]
fn containers_may_do_nothing_that_they_need_not() {
    let pod = first::<Pod>(&json!({}), "front-0");
    let context = &pod["spec"]["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["runAsUser"], names::UID);
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    for name in ["recorder", "replicator"] {
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(container(&pod, name)["securityContext"], expected, "{name}");
    }
}

#[test]
fn members_never_share_a_node_and_stay_on_one_that_is_silent() {
    let pod = first::<Pod>(&json!({}), "front-0");
    let terms = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let expected = json!([{
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": { "matchLabels": { names::LABEL_PAIR: "front" } },
    }]);
    assert_eq!(*terms, expected);
    assert_eq!(pod["metadata"]["labels"][names::LABEL_PAIR], "front");
    let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
    let for_ever = |taint: &&Value| taint["effect"] == "NoExecute" && taint["tolerationSeconds"].is_null();
    assert_eq!(tolerations.iter().filter(for_ever).count(), 2);
}

#[test]
fn a_volume_is_for_one_pod_and_stays_unless_its_user_says_otherwise() {
    let cases = [("Retain", None), ("Delete", Some("uid-front"))];
    for (when_deleted, owner) in cases {
        let spec = json!({ "storage": { "whenDeleted": when_deleted, "className": "local" } });
        let claim = first::<PersistentVolumeClaim>(&spec, "media-front-1");
        assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteOncePod"]));
        assert_eq!(claim["spec"]["storageClassName"], "local");
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "10Gi");
        let owned = claim["metadata"]["ownerReferences"][0]["uid"].as_str();
        assert_eq!(owned, owner, "{when_deleted}");
    }
}

#[test]
fn viewers_are_led_by_slices_and_peers_by_selectors() {
    for name in ["front", "front-primary"] {
        let service = first::<Service>(&json!({}), name);
        assert_eq!(service["spec"]["selector"], Value::Null, "{name}");
        let slice = first::<EndpointSlice>(&json!({}), name);
        assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], name);
        assert_eq!(slice["endpoints"], json!([]), "{name}");
    }
    let service = first::<Service>(&json!({}), "front-1");
    assert_eq!(service["spec"]["selector"][names::LABEL_MEMBER], "front-1");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
}

#[test]
fn i5_the_slice_of_the_primary_is_made_once_in_epoch_0_and_then_left_to_who_takes() {
    let slice = first::<EndpointSlice>(&json!({}), "front-primary");
    assert_eq!(slice["metadata"]["annotations"][names::ANNOTATION_EPOCH], "0");
    let built = built(&at_rest(&json!({})));
    assert!(find::<EndpointSlice>(&built, "front-primary").is_none());
}

#[test]
fn any_member_that_answers_can_be_read_from() {
    let led_to = |world: &World| {
        let built = built(world);
        let slice = find::<EndpointSlice>(&built, "front").unwrap().clone();
        let endpoints = slice["endpoints"].as_array().unwrap().iter();
        let addresses = endpoints.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned());
        addresses.collect::<Vec<_>>()
    };
    let mut world = at_rest(&json!({}));
    assert_eq!(led_to(&world), ["198.18.1.1", "198.18.2.1"]);
    let both = led_to(&world);
    silence(&mut world, "front-0");
    assert_eq!(led_to(&world), ["198.18.2.1"]);
    silence(&mut world, "front-1");
    let slice = |world: &World| find::<EndpointSlice>(&built(world), "front").is_some();
    assert!(!slice(&world), "nobody answers: viewers are led as they were");
    world.read_slice = false;
    assert!(slice(&world), "a new one leads to nobody");

    let with = |out: Option<&str>, doubts: [Doubt; 2]| {
        let mut world = at_rest(&json!({}));
        world.taken_out = out.map(str::to_owned);
        let view = Arc::make_mut(&mut world.view);
        for (seen, doubt) in view.reports.values_mut().zip(doubts) {
            seen.doubt = doubt;
        }
        world
    };
    let table = [
        (
            None,
            [Doubt::Confirmed, Doubt::None],
            false,
            "its peer suspects it, and it is silent",
        ),
        (
            Some("front-0"),
            [Doubt::None; 2],
            false,
            "the view is older than the suspicion",
        ),
        (Some("front-0"), [Doubt::Refuted, Doubt::None], true, "it answers"),
        (None, [Doubt::Refuted; 2], true, "they do not hear each other"),
        (Some("gate-9"), [Doubt::None; 2], true, "nobody of this pair"),
        (None, [Doubt::Confirmed; 2], true, "somebody has to be led to"),
    ];
    for (out, doubts, led, why) in table {
        let found = led_to(&with(out, doubts));
        assert_eq!(found, both[usize::from(!led)..], "{why}");
    }
    let mut alone = with(Some("front-0"), [Doubt::None; 2]);
    silence(&mut alone, "front-1");
    assert_eq!(led_to(&alone), ["198.18.1.1"], "whoever took it out is gone");
}

#[test]
fn one_member_stays_whatever_is_drained() {
    let budget = first::<PodDisruptionBudget>(&json!({}), "front");
    assert_eq!(budget["spec"]["minAvailable"], 1);
    assert_eq!(
        budget["spec"]["selector"]["matchLabels"],
        json!({ names::LABEL_PAIR: "front" })
    );
}

#[test]
fn replicators_may_swap_their_lease_and_lead_viewers_and_no_more() {
    let role = first::<RbacRole>(&json!({}), "front-replicator");
    let rules = role["rules"].as_array().unwrap().iter();
    let rules: Vec<_> = rules
        .map(|rule| (&rule["resources"][0], &rule["resourceNames"], &rule["verbs"]))
        .collect();
    let verbs = json!(["get", "patch"]);
    let expected = [
        (&json!("leases"), &json!(["front"]), &verbs),
        (
            &json!("endpointslices"),
            &json!(["front-primary", "front"]),
            &verbs,
        ),
    ];
    assert_eq!(rules, expected);
}

#[test]
fn a_changed_configuration_restarts_no_pod() {
    let changes = [
        ("another stream", streams(&["door", "yard"])),
        (
            "another address",
            json!({ "streams": [{ "name": "door", "url": "rtsp://new/stream" }] }),
        ),
        (
            "retention",
            json!({ "storage": { "retention": { "minAge": "3h" } } }),
        ),
        ("times", json!({ "failover": { "leash": "1s" } })),
    ];
    for (what, spec) in changes {
        let mut world = at_rest(&json!({}));
        ask(&mut world, &spec);
        let built = pass(&mut world);
        let expected = ["annotate front-0 uid-front-0", "annotate front-1 uid-front-1"];
        assert_eq!(on_pods(&built), expected, "{what}");
        assert!(built.outdated.is_empty(), "{what}");
        assert!(on_pods(&pass(&mut world)).is_empty(), "{what}: once is enough");
    }
}

#[test]
fn what_becomes_of_a_pod() {
    const OTHER: &str = "registry/gapless:2";
    let waits = json!([{ "name": "recorder", "state": { "waiting": { "reason": "ErrImagePull" } } }]);
    let crashes = json!([{ "name": "recorder", "restartCount": 3, "state": { "waiting": {} } }]);
    let status =
        |statuses: &Value| json!({ "status": { "phase": "Pending", "containerStatuses": statuses } });
    let ended = json!({ "status": { "phase": "Failed" } });
    let deleting = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    let mut deleted_end = ended.clone();
    merge(&mut deleted_end, &deleting);
    let delete = ["delete front-0 uid-front-0"].as_slice();
    let cases = [
        ("it runs", json!({}), IMAGE, [].as_slice(), false),
        ("it runs an old template", json!({}), OTHER, &[], true),
        ("it waits for its image", status(&waits), IMAGE, &[], false),
        ("it waits for an old image", status(&waits), OTHER, delete, false),
        (
            "it was just made of an old template",
            status(&json!(null)),
            OTHER,
            delete,
            false,
        ),
        (
            "it ran before, from an old template",
            status(&crashes),
            OTHER,
            &[],
            true,
        ),
        ("it ended", ended.clone(), IMAGE, delete, false),
        ("it is being deleted", deleting.clone(), OTHER, &[], false),
        ("it is being deleted and ended", deleted_end, IMAGE, &[], false),
    ];
    for (what, patch, image, expected, outdated) in cases {
        let mut world = at_rest(&json!({}));
        change_pod(&mut world, "front-0", &patch);
        let built = build(&world, &mint(&world).unwrap(), Some(image));
        assert_eq!(on_pods(&built), expected, "{what}");
        assert_eq!(built.outdated.contains(&"front-0".to_owned()), outdated, "{what}");
    }
}

#[test]
fn without_an_image_what_runs_goes_on() {
    let mut world = at_rest(&json!({}));
    ask(&mut world, &streams(&["door", "yard"]));
    let built = build(&world, &mint(&world).unwrap(), None);
    assert!(on_pods(&built).is_empty());
    assert_eq!(stream_names(&config(&built).unwrap()), ["door", "yard"]);
}

#[test]
fn pods_wait_for_the_addresses_of_both_members() {
    let mut world = new_pair(&json!({}));
    let first = pass(&mut world);
    assert!(
        first.waiting.unwrap().contains("no addresses"),
        "{:?}",
        first.waiting
    );
    assert!(on_pods(&first).is_empty() && config(&first).is_none());
    assert_eq!(on_pods(&pass(&mut world)), ["create front-0", "create front-1"]);
}

#[test]
fn members_know_each_other_by_address() {
    let mut world = at_rest(&json!({}));
    world.addresses.insert("front-1".to_owned(), "fd00::1".to_owned());
    let config = config(&built(&world)).unwrap();
    let expected = json!([
        { "name": "front-0", "peer": "198.18.0.10:7443" },
        { "name": "front-1", "peer": "[fd00::1]:7443" },
    ]);
    assert_eq!(config["members"], expected);
}

#[test]
fn media_may_fill_nine_tenths_of_a_volume_unless_its_user_says_otherwise() {
    let max_bytes = |spec: &Value| config(&built(&at_rest(spec))).unwrap()["retention"]["maxBytes"].clone();
    assert_eq!(max_bytes(&json!({ "storage": { "size": "10Ki" } })), 9216);
    let retention = json!({ "storage": { "retention": { "maxSize": "1Ki" } } });
    assert_eq!(max_bytes(&retention), 1024);
}

/// Whether a text is in an object as it is written, plainly or in Base64, under any offset.
fn holds(object: &Object, text: &str) -> bool {
    let decoded = |value: &Value| match serde_json::from_value::<ByteString>(value.clone()) {
        Ok(ByteString(bytes)) => String::from_utf8_lossy(&bytes).contains(text),
        Err(_) => false,
    };
    let data = object.value["data"].as_object();
    let encoded = data.is_some_and(|data| data.values().any(decoded));
    encoded || object.value.to_string().contains(text)
}

#[test]
fn a_secret_is_in_one_object_only() {
    let world = at_rest(&with_password());
    let mut fresh = new_pair(&with_password());
    fresh.keys = world.keys.clone();
    let passes = [pass(&mut fresh), pass(&mut fresh)];
    let keys = &world.keys;
    let secrets = [
        ("a camera's password", PASSWORD, "Secret front-config"),
        (
            "the viewers' token",
            keys.token.as_ref().unwrap().expose(),
            "Secret front-viewer",
        ),
        (
            "the authority's key",
            keys.authority.as_ref().unwrap().0.key.expose(),
            "Secret front-ca",
        ),
        (
            "the operator's key",
            keys.operator.as_ref().unwrap().key.expose(),
            "Secret front-ca",
        ),
        (
            "a member's key",
            keys.members["front-1"].key.expose(),
            "Secret front-tls-1",
        ),
    ];
    for (what, secret, place) in secrets {
        let holding = passes
            .iter()
            .flat_map(objects)
            .filter(|object| holds(object, secret));
        let mut names: Vec<String> = holding.map(|object| format!("{object:?}")).collect();
        names.dedup();
        assert_eq!(names, [place], "{what}");
    }
}

#[test]
fn the_process_that_talks_to_strangers_knows_no_password() {
    let built = built(&at_rest(&with_password()));
    let secret = find::<Secret>(&built, "front-config").unwrap();
    assert!(data(secret, names::KEY_CONFIG).contains(PASSWORD));
    let text = data(secret, names::KEY_REPLICATOR_CONFIG);
    assert!(!text.contains(PASSWORD) && !text.contains("admin"));
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["members"][1]["name"], "front-1");
    let pod = first::<Pod>(&json!({}), "front-0");
    let mut volumes = pod["spec"]["volumes"].as_array().unwrap().iter();
    let volume = volumes
        .find(|volume| volume["name"] == "replicator-config")
        .unwrap();
    let items = json!([{ "key": names::KEY_REPLICATOR_CONFIG, "path": "config.json" }]);
    assert_eq!(volume["secret"]["items"], items);
}

#[test]
fn debug_shows_no_secret() {
    let world = at_rest(&with_password());
    let minted = mint(&world).unwrap();
    let text = format!("{world:?} {minted:?} {:?}", built(&world));
    let token = minted.token.expose().to_owned();
    assert!(text.contains("front-config") && text.contains("admin"));
    for secret in [PASSWORD, &token, "PRIVATE KEY"] {
        assert!(!text.contains(secret), "{secret} is shown");
    }
}

#[test]
fn the_hash_of_a_configuration_changes_with_a_password_and_does_not_tell_it() {
    let hash = |password: &str| {
        let mut world = at_rest(&with_password());
        let found = world.credentials.get_mut("door").unwrap().as_mut().unwrap();
        found.password = crds::Secret::new(password);
        let built = built(&world);
        let plain =
            blake3::hash(data(find::<Secret>(&built, "front-config").unwrap(), "config.json").as_bytes());
        let annotation = built.effects.iter().find_map(|effect| match effect {
            Effect::Annotate { annotation, .. } => Some(annotation.1.clone()),
            _ => None,
        });
        assert!(
            annotation
                .as_ref()
                .is_none_or(|hash| !plain.to_hex().contains(hash))
        );
        annotation
    };
    assert_eq!(hash(PASSWORD), None);
    assert!(hash("another").is_some());
}

fn lost() -> Result<crate::world::Credentials, Problem> {
    let message = "Secret \"cameras\" does not exist".to_owned();
    Err(Problem::new(Reason::CredentialsMissing, "door", message))
}

#[test]
fn a_stream_that_lost_its_secret_keeps_the_password_that_was_rendered() {
    let mut world = at_rest(&with_password());
    world.credentials.insert("door".to_owned(), lost());
    let config = config(&built(&world)).unwrap();
    assert_eq!(config["streams"][0]["username"], "admin");
    assert_eq!(config["streams"][0]["password"], PASSWORD);
}

#[test]
fn a_password_that_was_rendered_goes_to_no_other_host() {
    let mut world = at_rest(&with_password());
    let mut elsewhere = with_password();
    elsewhere["streams"][0]["url"] = json!("rtsp://another/stream");
    ask(&mut world, &elsewhere);
    world.credentials.insert("door".to_owned(), lost());
    assert!(stream_names(&config(&built(&world)).unwrap()).is_empty());
}

#[test]
fn a_stream_that_never_had_a_password_is_left_out_and_the_others_go_on() {
    let mut world = at_rest(&streams(&["yard"]));
    let credentials = json!({ "secretName": "cameras" });
    let mut spec = streams(&["yard", "door"]);
    spec["streams"][1]["credentials"] = credentials;
    ask(&mut world, &spec);
    world.credentials.insert("door".to_owned(), lost());
    assert_eq!(stream_names(&config(&built(&world)).unwrap()), ["yard"]);
}

#[test]
fn a_new_pair_records_as_soon_as_its_members_have_addresses() {
    let mut world = new_pair(&streams(&["door", "yard"]));
    pass(&mut world);
    let second = pass(&mut world);
    assert_eq!(second.waiting, None);
    assert_eq!(stream_names(&config(&second).unwrap()), ["door", "yard"]);
}

#[test]
fn no_volume_is_made_before_the_uids_of_its_streams_are_kept() {
    let mut world = new_pair(&json!({}));
    let is_claim = |object: &&Object| object.is::<PersistentVolumeClaim>();
    assert_eq!(objects(&pass(&mut world)).filter(is_claim).count(), 0);
    let second = pass(&mut world);
    let order: Vec<String> = objects(&second).map(|object| format!("{object:?}")).collect();
    let place = |name: &str| order.iter().position(|object| object == name).unwrap();
    assert!(place("Secret front-config") < place("PersistentVolumeClaim media-front-0"));
    assert!(place("PersistentVolumeClaim media-front-1") < place("Pod front-0"));
}

/// Volumes that were used before, by members that run or not, in a pair whose Secrets are gone.
fn adopting(running: bool) -> World {
    let mut world = at_rest(&json!({}));
    world.rendered = None;
    world.view = Arc::default();
    if !running {
        world.pods.clear();
    }
    world
}

#[test]
fn used_volumes_are_asked_for_their_streams_before_any_is_rendered() {
    let told = at_rest(&json!({})).rendered.unwrap().minted["door"];
    let mut world = adopting(false);
    let built = pass(&mut world);
    assert!(built.waiting.is_some());
    assert_eq!(on_pods(&built), ["create front-0", "create front-1"]);
    assert!(stream_names(&config(&built).unwrap()).is_empty());
    assert!(world.rendered.as_ref().unwrap().recovering);

    let again = pass(&mut world);
    assert!(again.waiting.is_some(), "nobody has told yet");
    assert!(on_pods(&again).is_empty(), "{:?}", again.effects);

    world.view = at_rest(&json!({})).view;
    for member in ["front-0", "front-1"] {
        said(&mut world, member).streams[0].uid = told;
    }
    let built = pass(&mut world);
    let config = config(&built).unwrap();
    assert_eq!(config["streams"][0]["uid"], json!(told));
    assert_eq!(built.waiting, None);
    assert!(!world.rendered.as_ref().unwrap().recovering);
}

#[test]
fn members_that_run_go_on_with_what_they_have_until_they_tell_their_streams() {
    let mut world = adopting(true);
    let built = pass(&mut world);
    assert!(built.waiting.is_some());
    assert!(config(&built).is_none());
    assert!(on_pods(&built).is_empty());
}

#[test]
fn every_uid_is_kept_beside_the_configuration() {
    let mut world = at_rest(&streams(&["door", "yard"]));
    let before = world.rendered.clone().unwrap().minted;
    ask(&mut world, &streams(&["yard"]));
    let built = pass(&mut world);
    assert_eq!(stream_names(&config(&built).unwrap()), ["yard"]);
    assert_eq!(world.rendered.unwrap().minted, before);
}
