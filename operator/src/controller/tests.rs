//! Whole reconciles, at an API server that remembers.

use futures::StreamExt as _;
use futures::channel::mpsc;
use kube::runtime::reflector::store;
use serde_json::Value;

use super::*;
use crate::fixtures::cluster::{CORE, Cluster, LEASE, PAIR, paths};
use crate::fixtures::{IMAGE, asked, at_rest, built, change, data, streams};
use crate::observer::Shared;

fn context(cluster: &Cluster) -> Arc<Context> {
    let client = cluster.client();
    let (pods, _) = store();
    let (triggers, wishes) = mpsc::channel(1);
    tokio::spawn(wishes.for_each(|_| std::future::ready(())));
    let metrics = Arc::<Metrics>::default();
    let shared = Shared {
        client: client.clone(),
        trials: client.clone(),
        pods,
        triggers,
        metrics: metrics.clone(),
    };
    Arc::new(Context {
        observers: Observers::new(shared),
        recorder: Recorder::new(client.clone(), names::MANAGER.into()),
        client,
        image: Some(IMAGE.to_owned()),
        backoff: Backoff::default(),
        metrics,
    })
}

/// A cluster where such a pair was asked for, and an operator.
fn scene(pair: Value) -> (Cluster, Arc<Context>) {
    let cluster = Cluster::default();
    cluster.put(PAIR, pair);
    let context = context(&cluster);
    (cluster, context)
}

async fn reconciled(cluster: &Cluster, context: &Arc<Context>) -> Result<Action, ReconcileError> {
    let pair = cluster.get(PAIR).unwrap_or_else(|| asked(&json!({})));
    let guarded = serde_json::from_value(pair).unwrap();
    reconcile(Arc::new(guarded), context.clone()).await
}

async fn settle(cluster: &Cluster, context: &Arc<Context>) {
    for _ in 0..4 {
        reconciled(cluster, context).await.unwrap();
    }
}

fn uids(cluster: &Cluster) -> std::collections::BTreeMap<String, uuid::Uuid> {
    let secret = cluster.get(&format!("{CORE}/secrets/front-config")).unwrap();
    serde_json::from_str(&data(&secret, "streams.json")).unwrap()
}

fn change_pair(cluster: &Cluster, patch: &Value) {
    let mut pair = cluster.get(PAIR).unwrap();
    crate::fixtures::merge(&mut pair, patch);
    cluster.put(PAIR, pair);
}

#[tokio::test]
async fn a_pair_is_built_and_then_left_alone() {
    let (cluster, context) = scene(asked(&json!({})));
    settle(&cluster, &context).await;
    let before = cluster.everything();
    for path in [
        LEASE,
        &format!("{CORE}/pods/front-0"),
        &format!("{CORE}/pods/front-1"),
    ] {
        assert!(before.contains_key(path), "{path} is missing");
    }
    for method in ["POST", "PATCH", "DELETE"] {
        cluster.asked(method);
    }
    let action = reconciled(&cluster, &context).await.unwrap();
    assert_eq!(action, Action::requeue(AT_REST));
    assert_eq!(cluster.everything(), before);
    assert_eq!(paths(&cluster.asked("POST")), [""; 0]);
    assert_eq!(paths(&cluster.asked("DELETE")), [""; 0]);
    let patched = cluster.asked("PATCH");
    assert!(
        !paths(&patched).iter().any(|path| path.starts_with(PAIR)),
        "{patched:?}"
    );
}

#[tokio::test]
async fn a_uid_survives_that_its_stream_is_renamed_removed_and_added_again() {
    let (cluster, context) = scene(asked(&streams(&["door", "yard"])));
    settle(&cluster, &context).await;
    let before = uids(&cluster);
    for names in [["gate", "yard"].as_slice(), &["yard"], &["yard", "door"]] {
        change_pair(&cluster, &json!({ "spec": streams(names) }));
        settle(&cluster, &context).await;
        let now = uids(&cluster);
        assert!(before.iter().all(|(name, uid)| now[name] == *uid), "{names:?}");
    }
}

#[tokio::test]
async fn a_pair_that_goes_or_is_gone_is_left_alone() {
    let mut going = asked(&json!({}));
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for pair in [Some(going), None] {
        let cluster = Cluster::default();
        if let Some(pair) = pair {
            cluster.put(PAIR, pair);
        }
        let context = context(&cluster);
        assert_eq!(
            reconciled(&cluster, &context).await.unwrap(),
            Action::await_change()
        );
        assert_eq!(paths(&cluster.asked("GET")), [PAIR]);
        assert_eq!(cluster.asked("PATCH").len() + cluster.asked("POST").len(), 0);
    }
}

#[tokio::test]
async fn a_pair_that_cannot_be_read_is_told_so_and_left_alone() {
    let (cluster, context) = scene(asked(&json!({ "storage": { "size": "5Gb" } })));
    assert_eq!(
        reconciled(&cluster, &context).await.unwrap(),
        Action::await_change()
    );
    let events = cluster.asked("POST");
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0].body["reason"], &events[0].body["type"]),
        (&json!("InvalidSpec"), &json!("Warning"))
    );
    assert!(events[0].body["note"].as_str().unwrap().contains("5Gb"));
    assert_eq!(cluster.asked("PATCH").len(), 0);
}

#[tokio::test]
async fn what_fails_is_tried_again_later_each_time() {
    let (cluster, context) = scene(asked(&json!({})));
    cluster.refuse("PATCH", "poddisruptionbudgets", 403, "forbidden");
    let seconds = |seconds| Action::requeue(Duration::from_secs(seconds));
    for expected in [1, 2, 4] {
        assert_eq!(reconciled(&cluster, &context).await.unwrap(), seconds(expected));
    }
    let pair = cluster.get(PAIR).unwrap();
    let reasons = pair["status"]["conditions"].as_array().unwrap().iter();
    let reasons: Vec<_> = reasons
        .map(|condition| condition["reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons,
        ["NoPrimary", "Retrying", "ApplyFailed", "NoStandby", "ApplyFailed"]
    );
    cluster.refuse("GET", "pods", 500, "no quorum");
    let error = reconciled(&cluster, &context).await.unwrap_err();
    let guarded = serde_json::from_value(pair).unwrap();
    assert_eq!(on_error(Arc::new(guarded), &error, context), seconds(8));
}

#[tokio::test]
async fn an_operator_that_has_not_looked_yet_leaves_what_the_last_one_told() {
    let ready = json!({ "type": "Ready", "status": "True", "reason": "Ready", "message": "member \"front-0\" serves",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let mut pair = asked(&json!({}));
    pair["status"] = json!({ "conditions": [ready] });
    let (cluster, context) = scene(pair.clone());
    reconciled(&cluster, &context).await.unwrap();
    assert_eq!(cluster.get(PAIR).unwrap()["status"], pair["status"]);
    let events = cluster.asked("POST");
    assert!(
        !events.iter().any(|event| event.body["reason"] == "NoPrimary"),
        "{events:?}"
    );
    settle(&cluster, &context).await;
    assert_eq!(
        cluster.get(PAIR).unwrap()["status"]["conditions"][0]["reason"],
        "NoPrimary"
    );
}

#[tokio::test]
async fn i5_an_epoch_that_was_written_meanwhile_is_not_undone() {
    let (cluster, context) = scene(asked(&json!({})));
    let mut world = at_rest(&json!({}));
    world.pair = Arc::new(serde_json::from_value(cluster.get(PAIR).unwrap()).unwrap());
    change_pair(&cluster, &json!({ "status": { "highestEpoch": 1007 } }));
    let after = RecorderPairStatus {
        highest_epoch: Some(7),
        ..RecorderPairStatus::default()
    };
    assert!(report(&context, &world, after).await.is_err());
    assert_eq!(cluster.get(PAIR).unwrap()["status"]["highestEpoch"], 1007);
}

#[tokio::test]
async fn a_switchover_that_is_done_is_cleared() {
    for (to, stays) in [("front-0", false), ("front-1", true)] {
        let mut pair = asked(&json!({}));
        pair["metadata"]["annotations"] = json!({ names::ANNOTATION_SWITCHOVER: to });
        let (cluster, context) = scene(pair);
        let mut world = at_rest(&json!({}));
        world.pair = Arc::new(serde_json::from_value(cluster.get(PAIR).unwrap()).unwrap());
        report(&context, &world, RecorderPairStatus::default())
            .await
            .unwrap();
        let annotations = &cluster.get(PAIR).unwrap()["metadata"]["annotations"];
        assert_eq!(
            annotations.get(names::ANNOTATION_SWITCHOVER).is_some(),
            stays,
            "{to}"
        );
    }
}

#[tokio::test]
async fn a_switchover_that_is_asked_for_meanwhile_is_not_cleared() {
    let mut pair = asked(&json!({}));
    pair["metadata"]["annotations"] = json!({ names::ANNOTATION_SWITCHOVER: "front-0" });
    pair["status"] = json!({});
    let (cluster, context) = scene(pair);
    let mut world = at_rest(&json!({}));
    world.pair = Arc::new(serde_json::from_value(cluster.get(PAIR).unwrap()).unwrap());
    let wish = json!({ "metadata": { "annotations": { names::ANNOTATION_SWITCHOVER: "front-1" } } });
    change_pair(&cluster, &wish);
    let after = world.pair.status.clone().unwrap();
    assert!(report(&context, &world, after).await.is_err());
    let annotations = &cluster.get(PAIR).unwrap()["metadata"]["annotations"];
    assert_eq!(annotations[names::ANNOTATION_SWITCHOVER], "front-1");
}

#[tokio::test]
async fn a_note_is_as_long_as_an_event_can_be() {
    let (cluster, context) = scene(asked(&json!({})));
    let note = Note {
        warning: true,
        reason: "DiskFull".to_owned(),
        action: RECONCILE.to_owned(),
        message: format!("x{}", "é".repeat(1000)),
    };
    publish(&context, &reference("front", "cctv", None), note).await;
    let events = cluster.asked("POST");
    let length = events[0].body["note"].as_str().unwrap().len();
    assert!((990..=1024).contains(&length), "{length} bytes");
}

#[test]
fn an_observer_is_told_what_its_pair_needs() {
    let mut world = at_rest(&json!({
        "preferredPrimary": "front-1",
        "failover": { "leaseDuration": "9s", "failbackAfter": "5m" },
    }));
    let members = json!([
        { "name": "front-0", "role": "Primary", "phase": "Running", "store": "store-0" },
        { "name": "front-1", "role": "None", "phase": "Pending", "store": "store-1" },
    ]);
    let pair = json!({
        "metadata": { "annotations": { names::ANNOTATION_SWITCHOVER: "front-1" } },
        "status": { "highestEpoch": 1007, "members": members },
    });
    change(Arc::make_mut(&mut world.pair), &pair);
    change(
        world.claims.get_mut("front-1").unwrap(),
        &json!({ "status": { "phase": "Lost" } }),
    );
    crate::fixtures::change_pod(
        &mut world,
        "front-0",
        &json!({ "metadata": { "annotations": { names::ANNOTATION_POD_HASH: "old" } } }),
    );
    let minted = mint(&world).unwrap();
    let setup = setup(&world, &minted, &built(&world), Progress::Retrying);
    assert_eq!(setup.policy.lease_duration, Duration::from_secs(9));
    assert_eq!(setup.known_epoch, Epoch(1007));
    assert_eq!(setup.outdated.into_keys().collect::<Vec<_>>(), ["front-0"]);
    assert_eq!(
        setup.lost.into_iter().collect::<Vec<_>>(),
        [StoreId::new("store-1").unwrap()]
    );
    let to = setup.switchover.and_then(|asked| asked.to);
    assert_eq!(to, MemberName::new("front-1").ok());
    assert_eq!(setup.preferred, MemberName::new("front-1").ok());
    assert_eq!(setup.failback_after, Some(Duration::from_mins(5)));
    assert_eq!(
        setup.access.map(|access| access.authority),
        Some(minted.authority.0.cert)
    );
}

#[test]
fn i5_an_observer_is_told_of_an_epoch_that_status_does_not_tell_yet() {
    for (status, expected) in [(json!(null), 7), (json!(6), 7), (json!(8), 8)] {
        let mut world = at_rest(&json!({}));
        let pair = json!({ "status": { "highestEpoch": status } });
        change(Arc::make_mut(&mut world.pair), &pair);
        let minted = mint(&world).unwrap();
        let setup = setup(&world, &minted, &built(&world), Progress::Done);
        assert_eq!(setup.known_epoch, Epoch(expected), "{status}");
    }
}

#[test]
fn an_observer_is_told_of_keys_that_are_there_and_of_pods_that_would_be_made() {
    let mut world = at_rest(&json!({}));
    let there = world.keys.clone();
    crate::fixtures::change_pod(
        &mut world,
        "front-0",
        &json!({ "metadata": { "annotations": { names::ANNOTATION_POD_HASH: "old" } } }),
    );
    world.now += crate::pki::LEAF_LIFE;
    let minted = mint(&world).unwrap();
    let told = |world: &World, progress| {
        let setup = setup(world, &minted, &built(world), progress);
        (
            setup.access.map(|access| access.identity),
            setup.outdated.into_keys().collect::<Vec<_>>(),
        )
    };
    let outdated = vec!["front-0".to_owned()];
    assert_ne!(there.operator.as_ref(), Some(&minted.operator));
    for progress in [Progress::Done, Progress::Retrying] {
        let new = (Some(minted.operator.clone()), outdated.clone());
        assert_eq!(told(&world, progress), new, "{progress:?}: they were written");
    }
    assert_eq!(
        told(&world, Progress::Stopped),
        (there.operator, vec![]),
        "the new ones were not written"
    );
    world.keys = crate::world::Keys::default();
    assert_eq!(told(&world, Progress::Stopped), (None, vec![]));
}

#[tokio::test]
async fn an_authority_that_cannot_be_written_changes_nothing_for_the_members() {
    let (cluster, context) = scene(asked(&json!({})));
    settle(&cluster, &context).await;
    let path = |name: &str| format!("{CORE}/{name}");
    let mut lost = cluster.get(&path("secrets/front-ca")).unwrap();
    lost["data"] = json!({});
    cluster.put(&path("secrets/front-ca"), lost);
    cluster.refuse("PATCH", "/secrets/front-ca", 403, "a policy");
    let before = cluster.everything();
    settle(&cluster, &context).await;
    let followers = [
        "secrets/front-tls-0",
        "secrets/front-tls-1",
        "pods/front-0",
        "pods/front-1",
    ];
    for name in followers.map(path) {
        assert_eq!(cluster.get(&name).as_ref(), before.get(&name), "{name}");
    }
    let conditions = &cluster.get(PAIR).unwrap()["status"]["conditions"];
    assert_eq!(conditions[2]["reason"], "ApplyFailed", "{conditions}");
    cluster.relent();
    settle(&cluster, &context).await;
    for name in followers.map(path) {
        assert_ne!(cluster.get(&name).as_ref(), before.get(&name), "{name}");
    }
}

#[tokio::test]
async fn a_lease_of_somebody_else_is_told_and_kept_volumes_wait() {
    let (cluster, context) = scene(asked(&json!({})));
    for member in names::members("front") {
        let claim = json!({ "metadata": { "name": names::claim(&member) } });
        let path = format!("{CORE}/persistentvolumeclaims/{}", names::claim(&member));
        cluster.put(&path, claim);
    }
    let theirs =
        json!({ "metadata": { "name": "front", "annotations": crate::fixtures::record().annotations() } });
    cluster.put(LEASE, theirs);
    let before = cluster.everything();
    settle(&cluster, &context).await;
    let mut after = cluster.everything();
    let conditions = after.remove(PAIR).unwrap()["status"]["conditions"].clone();
    let stalled = &conditions[2];
    assert_eq!(stalled["reason"], "NameTaken", "{conditions}");
    let message = stalled["message"].as_str().unwrap();
    for word in ["Lease front is somebody else's", "another name", "cannot be read"] {
        assert!(message.contains(word), "{message} does not say {word:?}");
    }
    let events = cluster.asked("POST");
    assert!(
        events.iter().any(|event| event.body["reason"] == "NameTaken"),
        "{events:?}"
    );
    after.retain(|path, _| !path.contains("/events"));
    assert!(
        after.iter().all(|(path, object)| before[path] == *object),
        "{after:?}"
    );
    assert_eq!(after.len(), before.len() - 1);
}

#[tokio::test]
async fn one_refused_write_of_a_new_pair_holds_it_only_so_long() {
    for secret in ["front-viewer", "front-ca", "front-config"] {
        let (cluster, context) = scene(asked(&streams(&["door"])));
        cluster.refuse("PATCH", &format!("/secrets/{secret}"), 403, "a policy");
        settle(&cluster, &context).await;
        cluster.relent();
        settle(&cluster, &context).await;
        assert!(uids(&cluster).contains_key("door"), "{secret}");
        let pod = cluster.get(&format!("{CORE}/pods/front-0"));
        assert!(pod.is_some(), "{secret}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_holds_no_reconcile_for_ever() {
    let pods = format!("{CORE}/pods");
    let status = format!("{PAIR}/status");
    for (method, path, what) in [
        ("GET", PAIR, "were read"),
        ("GET", &pods, "were read"),
        ("PATCH", &status, "was written"),
    ] {
        let (cluster, context) = scene(asked(&json!({})));
        settle(&cluster, &context).await;
        // Another generation, which the status is to tell.
        change_pair(&cluster, &json!({ "metadata": { "generation": 4 } }));
        cluster.delay(method, path, Duration::from_hours(1));
        let before = tokio::time::Instant::now();
        let error = reconciled(&cluster, &context).await.unwrap_err();
        assert_eq!(before.elapsed().as_secs(), 20, "{path}");
        let words = error.to_string();
        let told = words.starts_with("the API server did not answer in 20 s");
        assert!(told && words.contains(what), "{path}: {words}");
    }
}
