//! What a status says of very many streams: owner and reason of a few, numbers of all, and never more than fits.

use crds::RecorderPair;
use crds::member;
use kube::CustomResourceExt;
use serde_json::Value;

use super::*;
use crate::fixtures::told;

/// A write of status stays far below the megabyte and a half that etcd takes, whatever the pair has.
const MOST_BYTES: usize = 32 << 10;

/// A pair whose streams all have the longest names, fail on both members with more words than anybody reads, are with the standby,
/// and have gaps of both kinds.
fn all_bad(streams: usize) -> World {
    let names: Vec<String> = (0..streams).map(|n| format!("{n:0>63}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = at_rest(&asked(&names));
    for member in [PRIMARY, STANDBY] {
        for report in &mut said(&mut world, member).streams {
            report.state = StreamState::Failed;
            report.error = Some(StreamError {
                code: StreamErrorCode::Unauthorized,
                message: "the camera refuses the password; ".repeat(200),
            });
            (report.open_gap_ms, report.lost_gap_ms) = (1_000, 2_000);
        }
    }
    said(&mut world, PRIMARY).moved = names.iter().map(|name| moved(name)).collect();
    world
}

fn moved(name: &str) -> member::MovedStream {
    member::MovedStream {
        name: name.to_owned(),
        member: STANDBY.to_owned(),
        reason: "Silent".to_owned(),
        since_ms: 1,
    }
}

/// How many items the CRD lets a list of `status.streams` have.
fn most(list: &str) -> usize {
    let crd = serde_json::to_value(RecorderPair::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let streams = &schema["properties"]["status"]["properties"]["streams"];
    let most: Option<u64> = streams["properties"][list]["maxItems"].as_u64();
    usize::try_from(most.unwrap()).unwrap()
}

#[test]
fn five_hundred_streams_have_owners_and_reasons_within_bounds() {
    let found = told(&all_bad(500)).streams.unwrap();
    assert_eq!((found.total, found.failed, found.away), (500, 500, 500));
    assert_eq!((found.open_gap_seconds, found.lost_gap_seconds), (500, 1_000));
    let value: Value = serde_json::to_value(&found).unwrap();
    for list in ["failing", "moved", "gaps"] {
        let listed = value[list].as_array().unwrap();
        assert_eq!(listed.len(), most(list), "{list}: as many as the CRD takes");
    }
    for (n, moved) in value["moved"].as_array().unwrap().iter().enumerate() {
        let expected = json!({ "name": format!("{n:0>63}"), "member": STANDBY, "reason": "Silent" });
        assert_eq!(*moved, expected);
    }
    for (n, failing) in found.failing.iter().enumerate() {
        let expected = (format!("{n:0>63}"), "Unauthorized");
        assert_eq!((failing.name.clone(), failing.reason.as_str()), expected);
        assert!(
            failing.message.contains("both members: the camera refuses"),
            "{failing:?}"
        );
    }
}

#[test]
fn a_status_does_not_grow_with_streams() {
    let bytes = |streams| serde_json::to_string(&told(&all_bad(streams))).unwrap().len();
    let (some, many) = (bytes(100), bytes(500));
    assert!(many <= MOST_BYTES, "{many} bytes");
    // The numbers have a digit more.
    assert!(
        many.abs_diff(some) <= 16,
        "{some} bytes of 100 streams, {many} of 500"
    );
}

#[test]
fn a_status_does_not_grow_with_the_words_of_a_captured_member() {
    let mut world = all_bad(500);
    let long = "x".repeat(1 << 20);
    let report = said(&mut world, PRIMARY);
    report.store.clone_from(&long);
    report.moved = (0..1_000).map(|_| moved(&long)).collect();
    for (n, told) in all_bad(500).view.primary().unwrap().moved.iter().enumerate() {
        let mut told = told.clone();
        *(if n % 2 == 0 {
            &mut told.reason
        } else {
            &mut told.member
        }) = long.clone();
        report.moved.push(told);
    }
    let failover = json!({ "epoch": 7, "why": long, "lastHeard": 1_000, "serving": 2_000 });
    report.failovers = vec![serde_json::from_value(failover).unwrap()];
    let found = told(&world);
    assert_eq!(
        found.streams.as_ref().unwrap().away,
        250,
        "those with a member of the pair"
    );
    assert_eq!(found.failovers[0].why.len(), MAX_WORD);
    assert_eq!(found.members[0].store, None);
    let bytes = serde_json::to_string(&found).unwrap().len();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}
