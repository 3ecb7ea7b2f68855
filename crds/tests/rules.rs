//! Each rule refuses what it must, with a message that says what to do.
#![cfg(feature = "cel")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crds::{RecorderPair, names};
use serde_json::{Value, json};

fn good() -> Value {
    json!({
        "apiVersion": "gapless.video/v1alpha1",
        "kind": "RecorderPair",
        "metadata": { "name": "front" },
        "spec": {
            "streams": [{ "name": "door", "url": "rtsp://camera-1/stream" }],
            "storage": { "size": "10Gi" },
        },
    })
}

/// A good pair with one field replaced.
fn with(pointer: &str, value: Value) -> RecorderPair {
    let mut pair = good();
    let mut at = &mut pair;
    for step in pointer.split('/').skip(1) {
        at = match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[step],
        };
    }
    *at = value;
    serde_json::from_value(pair).unwrap()
}

#[track_caller]
fn refused(pointer: &str, value: Value, message: &str) {
    let told = format!("{:?}", with(pointer, value).validate_cel().unwrap_err());
    assert!(told.contains(message), "{told} does not say {message:?}");
}

#[track_caller]
fn accepted(pointer: &str, value: Value) {
    let pair = with(pointer, value);
    assert!(pair.validate_cel().is_ok(), "{:?}", pair.validate_cel());
}

#[test]
fn names_of_pairs() {
    accepted("/metadata/name", json!("front-door"));
    refused("/metadata/name", json!("a".repeat(51)), "50 characters at most");
    refused("/metadata/name", json!("1st"), "must start with a letter");
    refused("/metadata/name", json!("front.door"), "must start with a letter");
    refused(
        "/metadata/name",
        json!("front-0"),
        "must not end in -0, -1 or -primary",
    );
    refused(
        "/metadata/name",
        json!("front-primary"),
        "must not end in -0, -1 or -primary",
    );
}

#[test]
fn names_of_streams() {
    refused(
        "/spec/streams/0/name",
        json!("Front Door"),
        "must have only a-z, 0-9 and -",
    );
}

#[test]
fn addresses_of_streams() {
    let url = "/spec/streams/0/url";
    accepted(url, json!("rtsp://camera:8554/a/b@c?x=1@2"));
    accepted(url, json!("rtsp://[2001:db8::1]:554/a"));
    accepted(url, json!("rtsp://10.0.0.1"));
    refused(url, json!("http://camera/stream"), "must start with rtsp://");
    refused(url, json!("rtsp://user:secret@camera/a"), "put them in a Secret");
    refused(url, json!("rtsp://user@camera/a"), "put them in a Secret");
    refused(url, json!("rtsp:///a"), "rtsp://host[:port]/path");
    refused(url, json!("rtsp://"), "rtsp://host[:port]/path");
}

/// A field's value with this name in it.
type Named = fn(&str) -> Value;

#[test]
fn names_of_secrets_and_priority_classes() {
    let fields: [(&str, Named, &str); 2] = [
        (
            "/spec/streams/0/credentials",
            |name| json!({ "secretName": name }),
            "must be the name of a Secret",
        ),
        (
            "/spec/priorityClassName",
            |name| json!(name),
            "must be the name of a PriorityClass",
        ),
    ];
    for (field, value, message) in fields {
        for name in ["cameras", "0", "front-door.cameras-1", "a--b"] {
            accepted(field, value(name));
            assert!(names::is_subdomain(name), "{name:?}");
        }
        for name in [
            "", " ", "Cameras", "a/b", "..", "a..b", "-a", "a-", "a.", "a\n", "\u{e9}",
        ] {
            refused(field, value(name), message);
            assert!(!names::is_subdomain(name), "{name:?}");
        }
    }
}

#[test]
fn tolerations_are_such_as_a_pod_can_have() {
    let field = "/spec/tolerations";
    let good = [
        json!({ "key": "video" }),
        json!({ "operator": "Exists" }),
        json!({ "key": "video", "operator": "Exists", "effect": "NoSchedule" }),
        json!({ "key": "video", "operator": "Equal", "value": "only", "effect": "PreferNoSchedule" }),
        json!({ "key": "video", "operator": "", "value": "only", "effect": "" }),
        json!({ "key": "", "operator": "Exists", "value": "", "effect": "NoExecute" }),
    ];
    for toleration in good {
        accepted(field, json!([toleration]));
    }
    let bad = [
        (
            json!({ "key": "video", "operator": "exists" }),
            "must be Exists or Equal",
        ),
        (
            json!({ "key": "video", "effect": "NoRun" }),
            "must be NoSchedule, PreferNoSchedule or NoExecute",
        ),
        (json!({}), "needs a key"),
        (json!({ "key": "", "value": "only" }), "needs a key"),
        (json!({ "operator": "Equal", "value": "only" }), "needs a key"),
        (
            json!({ "key": "video", "operator": "Exists", "value": "only" }),
            "must have no value",
        ),
    ];
    for (toleration, message) in bad {
        refused(field, json!([toleration]), message);
    }
}

#[test]
fn retention_fits() {
    let retention = "/spec/storage/retention";
    accepted(
        retention,
        json!({ "minAge": "24h", "maxAge": "24h", "maxSize": "10Gi" }),
    );
    refused(
        retention,
        json!({ "minAge": "25h", "maxAge": "24h" }),
        "minAge must not be longer than",
    );
    refused(
        retention,
        json!({ "maxSize": "11Gi" }),
        "does not fit on the volume",
    );
    refused(
        retention,
        json!({ "minAge": "1h", "maxAge": "87601h" }),
        "ten years",
    );
    refused(retention, json!({ "minAge": "87601h" }), "ten years");
}

#[test]
fn volumes_stay_what_they_are() {
    refused("/spec/storage/size", json!("1Mi"), "64Mi at least");
    let change =
        |old: Value, new: Value| with("/spec/storage", new).validate_cel_update(&with("/spec/storage", old));
    let class = |name: &str| json!({ "size": "10Gi", "className": name });
    let size = |size: &str| json!({ "size": size });
    assert!(change(class("a"), class("a")).is_ok());
    assert!(change(size("10Gi"), size("11Gi")).is_ok());
    for (old, new, message) in [
        (class("a"), class("b"), "storage.className cannot be changed"),
        (size("10Gi"), class("b"), "storage.className cannot be changed"),
        (class("a"), size("10Gi"), "storage.className cannot be changed"),
        (size("10Gi"), size("10000Mi"), "storage.size cannot shrink"),
    ] {
        let told = format!("{:?}", change(old, new).unwrap_err());
        assert!(told.contains(message), "{told} does not say {message:?}");
    }
}

#[test]
fn times_of_failover() {
    let failover = "/spec/failover";
    accepted(
        failover,
        json!({ "leash": "10s", "suspectAfter": "5s", "leaseDuration": "3s" }),
    );
    refused(
        failover,
        json!({ "leash": "100ms" }),
        "failover.leash must be from 200ms to 10s",
    );
    refused(
        failover,
        json!({ "leash": "11s" }),
        "failover.leash must be from 200ms to 10s",
    );
    refused(
        failover,
        json!({ "suspectAfter": "50ms" }),
        "failover.suspectAfter must be from 100ms to 5s",
    );
    refused(
        failover,
        json!({ "leash": "1s", "suspectAfter": "1s" }),
        "must be shorter than failover.leash",
    );
    refused(
        failover,
        json!({ "leaseDuration": "2s" }),
        "failover.leaseDuration must be from 3s to 5m",
    );
    refused(failover, json!({ "leaseDuration": "3500ms" }), "whole seconds");
}

#[test]
fn standby_ring_and_segments() {
    for mode in ["Hot", "Warm", "Cold"] {
        accepted("/spec/standby", json!({ "mode": mode }));
    }
    refused(
        "/spec/standby",
        json!({ "preroll": "1s" }),
        "standby.preroll must be from 2s to 60s",
    );
    refused(
        "/spec/standby",
        json!({ "maxBytesPerStream": "2Gi" }),
        "must be from 1Mi to 1Gi",
    );
    refused(
        "/spec/segment",
        json!({ "target": "1s" }),
        "segment.target must be from 2s to 10m",
    );
}

#[test]
fn authority_goes_back_to_a_member() {
    let preferred = "/spec/preferredPrimary";
    accepted(preferred, json!("front-0"));
    accepted(preferred, json!("front-1"));
    for wrong in ["front", "front-2", "back-0", "0"] {
        refused(preferred, json!(wrong), "must be the name of a member");
    }
    let spec = |after: &str| {
        json!({
            "streams": [{ "name": "door", "url": "rtsp://camera-1/stream" }],
            "storage": { "size": "10Gi" },
            "preferredPrimary": "front-1",
            "failover": { "failbackAfter": after },
        })
    };
    accepted("/spec", spec("0s"));
    accepted("/spec", spec("168h"));
    refused(
        "/spec",
        spec("169h"),
        "failover.failbackAfter must be 168h at most",
    );
    refused(
        "/spec/failover",
        json!({ "failbackAfter": "1m" }),
        "needs preferredPrimary",
    );
}

#[test]
fn refilling_keeps_to_a_limit() {
    let replication = "/spec/replication";
    let window = |from: &str, to: &str, most: &str| {
        let window = json!({ "from": from, "to": to, "utcOffset": "+01:00", "maxBackfillBandwidth": most });
        json!({ "maxBackfillBandwidth": "50Mi", "schedule": [window] })
    };
    accepted(replication, json!({}));
    accepted(replication, json!({ "maxBackfillBandwidth": "64Ki" }));
    accepted(replication, window("22:00", "06:00", "1Gi"));
    accepted(
        replication,
        json!({ "schedule": [{ "from": "00:00", "to": "23:59" }] }),
    );
    refused(
        replication,
        json!({ "maxBackfillBandwidth": "0" }),
        "64Ki a second at least",
    );
    refused(
        replication,
        window("22:00", "06:00", "1Ki"),
        "64Ki a second at least",
    );
    refused(replication, window("22:00", "22:00", "1Gi"), "must differ");
}
