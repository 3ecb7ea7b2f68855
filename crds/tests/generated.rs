//! The committed files are what the code generates, and the samples are what the code reads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crds::RecorderPair;
use serde::Deserialize as _;

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

fn sample(name: &str) -> Vec<serde_yaml::Value> {
    let path = crds::generate::repository().join("crds/samples").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| serde_yaml::Value::deserialize(document).unwrap())
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
    let documents = sample("full.yaml");
    let written = documents.last().unwrap().get("spec").unwrap().clone();
    let read = serde_yaml::to_value(&pair("full.yaml").spec).unwrap();
    let mut unknown = Vec::new();
    compare("spec", &written, &read, &mut unknown);
    assert!(unknown.is_empty(), "not understood: {unknown:?}");
}

/// Fields that were written and were not read.
fn compare(path: &str, written: &serde_yaml::Value, read: &serde_yaml::Value, unknown: &mut Vec<String>) {
    let Some(map) = written.as_mapping() else { return };
    for (key, value) in map {
        let key = key.as_str().unwrap();
        match read.get(key) {
            Some(read) => compare(&format!("{path}.{key}"), value, read, unknown),
            None => unknown.push(format!("{path}.{key}")),
        }
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
