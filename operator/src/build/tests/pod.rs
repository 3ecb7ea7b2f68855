//! Members' pods: what is in them, and when one is made, told or deleted.

use super::*;

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
fn a_pod_has_the_priority_that_was_asked_for() {
    let class = |spec: &Value| first::<Pod>(spec, "front-1")["spec"]["priorityClassName"].clone();
    assert!(class(&json!({})).is_null());
    assert_eq!(class(&json!({ "priorityClassName": "recorders" })), "recorders");
}

#[test]
fn another_template_makes_both_pods_outdated() {
    let changes = [
        json!({ "priorityClassName": "recorders" }),
        json!({ "nodeSelector": { "zone": "a" } }),
        json!({ "tolerations": [{ "key": "video", "operator": "Exists" }] }),
        json!({ "imagePullSecrets": ["registry"] }),
        json!({ "resources": { "recorder": { "limits": { "memory": "1Gi" } } } }),
    ];
    for spec in changes {
        let mut world = at_rest(&json!({}));
        ask(&mut world, &spec);
        let built = pass(&mut world);
        assert!(built.outdated.keys().eq(["front-0", "front-1"]), "{spec}");
        assert!(on_pods(&built).is_empty(), "{spec}");
    }
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
    let crashed = json!([{ "name": "recorder", "restartCount": 3, "state": { "running": {} } }]);
    let status =
        |statuses: &Value| json!({ "status": { "phase": "Pending", "containerStatuses": statuses } });
    let ended = json!({ "status": { "phase": "Failed" } });
    let deleting = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    let made = |ago: u64| {
        let now = crate::fixtures::NOW;
        let at = jiff::Timestamp::from_second((now.as_secs() - ago) as i64).unwrap();
        let mut pod = ended.clone();
        merge(
            &mut pod,
            &json!({ "metadata": { "creationTimestamp": at.to_string() } }),
        );
        pod
    };
    let mut deleted_end = ended.clone();
    merge(&mut deleted_end, &deleting);
    let delete = ["delete front-0 version-front-0"].as_slice();
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
        ("it crashes again and again", status(&crashes), IMAGE, &[], false),
        (
            "it crashes again and again, from an old template",
            status(&crashes),
            OTHER,
            delete,
            false,
        ),
        (
            "it crashed, and runs again, from an old template",
            status(&crashed),
            OTHER,
            &[],
            true,
        ),
        ("it ended", ended.clone(), IMAGE, delete, false),
        ("it ended at once", made(9), IMAGE, &[], false),
        ("it ended at once, a while ago", made(10), IMAGE, delete, false),
        ("it is being deleted", deleting.clone(), OTHER, &[], false),
        ("it is being deleted and ended", deleted_end, IMAGE, &[], false),
    ];
    for (what, patch, image, expected, outdated) in cases {
        let mut world = at_rest(&json!({}));
        change_pod(&mut world, "front-0", &patch);
        let built = build(&world, &mint(&world).unwrap(), Some(image));
        assert_eq!(on_pods(&built), expected, "{what}");
        assert_eq!(built.outdated.contains_key("front-0"), outdated, "{what}");
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
