//! The committed files are what the code generates, and the samples are what the code reads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use crds::RecorderPair;
use kube::CustomResourceExt as _;
use serde::Deserialize as _;
use serde_yaml::Value;

#[test]
fn committed_files_are_up_to_date() {
    for file in crds::generate::all().unwrap() {
        let committed =
            std::fs::read_to_string(crds::generate::repository().join(&file.path)).unwrap_or_default();
        assert!(
            committed == file.text,
            "{} is stale: run `make gen`",
            file.path.display()
        );
    }
}

fn sample(name: &str) -> Vec<Value> {
    let path = crds::generate::repository().join("crds/samples").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

fn pair(name: &str) -> RecorderPair {
    let documents = sample(name);
    let pair = documents.last().unwrap().clone();
    serde_yaml::from_value(pair).unwrap()
}

#[test]
fn the_minimal_sample_is_ten_lines_and_complete() {
    let path = crds::generate::repository().join("crds/samples/minimal.yaml");
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 10);
    let pair = pair("minimal.yaml");
    assert_eq!(pair.spec.streams.len(), 1);
    assert_eq!(pair.spec.failover.leash.millis(), 600);
}

#[test]
fn the_full_sample_says_every_field() {
    let crd = serde_yaml::to_value(RecorderPair::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut known = BTreeSet::new();
    known_fields("spec", schema, &mut known);
    let documents = sample("full.yaml");
    let mut written = BTreeSet::new();
    written_fields("spec", &documents.last().unwrap()["spec"], &mut written);
    // What a map may have is the user's: labels of nodes, kinds of resources.
    written.retain(|field| !OPEN.iter().any(|map| field.starts_with(map)));
    // Of a toleration, those that go together.
    known.retain(|field| {
        !["value", "tolerationSeconds"]
            .map(|f| format!("spec.tolerations.{f}"))
            .contains(field)
    });
    assert_eq!(written, known);
}

/// Fields with keys of the user's own.
const OPEN: [&str; 5] = [
    "spec.nodeSelector.",
    "spec.resources.recorder.requests.",
    "spec.resources.recorder.limits.",
    "spec.resources.replicator.requests.",
    "spec.resources.replicator.limits.",
];

fn known_fields(path: &str, schema: &Value, fields: &mut BTreeSet<String>) {
    let items = schema.get("items").unwrap_or(schema);
    let Some(properties) = items.get("properties").and_then(Value::as_mapping) else {
        return;
    };
    for (name, schema) in properties {
        let path = format!("{path}.{}", name.as_str().unwrap());
        known_fields(&path, schema, fields);
        fields.insert(path);
    }
}

fn written_fields(path: &str, written: &Value, fields: &mut BTreeSet<String>) {
    for item in written.as_sequence().into_iter().flatten() {
        written_fields(path, item, fields);
    }
    for (name, value) in written.as_mapping().into_iter().flatten() {
        let path = format!("{path}.{}", name.as_str().unwrap());
        written_fields(&path, value, fields);
        fields.insert(path);
    }
}

#[cfg(feature = "cel")]
#[test]
fn the_samples_keep_every_rule() {
    for name in ["minimal.yaml", "full.yaml"] {
        assert!(
            pair(name).validate_cel().is_ok(),
            "{name}: {:?}",
            pair(name).validate_cel()
        );
    }
}
