//! What should exist, situation by situation: what the tests share, and of the objects that have no file of their own.

mod config;
mod network;
mod pod;
mod secrets;

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
        Effect::Create(object) | Effect::Apply(object) | Effect::Require(object) => Some(object),
        Effect::Check(_) | Effect::Annotate { .. } | Effect::Delete { .. } => None,
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
        Effect::Check(_) => None,
        Effect::Create(object) => object.is::<Pod>().then(|| format!("create {}", object.name())),
        Effect::Apply(object) | Effect::Require(object) => {
            object.is::<Pod>().then(|| format!("apply {}", object.name()))
        }
        Effect::Annotate { pod, uid, .. } => Some(format!("annotate {pod} {uid}")),
        Effect::Delete { pod, version } => Some(format!("delete {pod} {version}")),
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
        let built = built(&world);
        assert!(!objects(&built).any(Object::is::<Lease>), "{what}");
        let checked = matches!(&built.effects[0], Effect::Check(object) if object.is::<Lease>());
        assert_eq!(
            checked, !world.lease,
            "{what}: what is not the pair's may be somebody else's"
        );
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
        "priorityClassName": "recorders",
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
fn a_volume_that_is_there_keeps_its_class() {
    let cases = [
        (json!(null), json!(null)),
        (json!("brought"), json!("brought")),
        (json!(""), json!("")),
    ];
    for asked in [json!({}), json!({ "storage": { "className": "local" } })] {
        for (there, expected) in &cases {
            let mut world = at_rest(&asked);
            let claim = world.claims.get_mut("front-1").unwrap();
            change(claim, &json!({ "spec": { "storageClassName": there } }));
            let built = built(&world);
            let claim = find::<PersistentVolumeClaim>(&built, "media-front-1").unwrap();
            assert_eq!(claim["spec"]["storageClassName"], *expected, "{asked}: {there}");
        }
    }
}

#[test]
fn a_tool_that_removes_what_was_not_asked_for_leaves_volumes_alone() {
    let claim = first::<PersistentVolumeClaim>(&json!({}), "media-front-1");
    let metadata = &claim["metadata"];
    assert!(
        metadata["labels"][names::LABEL_INSTANCE].is_null(),
        "Argo CD tracks by it"
    );
    assert_eq!(metadata["labels"][names::LABEL_NAME], names::APP);
    assert_eq!(metadata["labels"][names::LABEL_MEMBER], "front-1");
    assert_eq!(
        metadata["annotations"]["argocd.argoproj.io/sync-options"],
        "Prune=false,Delete=false"
    );
    let pod = first::<Pod>(&json!({}), "front-1");
    assert_eq!(pod["metadata"]["labels"][names::LABEL_INSTANCE], "front");
}

#[test]
fn one_member_stays_whatever_is_drained() {
    let budget = first::<PodDisruptionBudget>(&json!({}), "front");
    assert_eq!(budget["spec"]["minAvailable"], 1);
    assert_eq!(budget["spec"]["unhealthyPodEvictionPolicy"], "IfHealthyBudget");
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
