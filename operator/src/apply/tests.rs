//! Effects at an API server that keeps, refuses and delays what it is told to.

use std::io::Write;
use std::sync::{Arc, Mutex};

use failover::LeaseRecord;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};

use super::*;
use crate::fixtures::cluster::{CORE, Cluster, LEASE, paths};
use crate::fixtures::{at_rest, built, id, new_pair};

fn lease() -> Effect {
    let record = LeaseRecord::first(Duration::from_millis(600));
    Effect::Create(crate::build::lease(&id(), 4, &record))
}

fn service(name: &str) -> Effect {
    Effect::Apply(Object::new::<Service>(&id(), name, &json!({}), json!({})))
}

fn secret(value: &str) -> Effect {
    let fields = json!({ "data": { "token": value } });
    Effect::Apply(Object::new::<Secret>(&id(), "front-viewer", &json!({}), fields))
}

fn pod(uid: &str) -> (String, serde_json::Value) {
    let pod = json!({ "kind": "Pod", "metadata": { "name": "front-0", "uid": uid } });
    (format!("{CORE}/pods/front-0"), pod)
}

fn delete(version: &str) -> Effect {
    Effect::Delete {
        pod: "front-0".to_owned(),
        version: version.to_owned(),
    }
}

fn annotate() -> Effect {
    Effect::Annotate {
        pod: "front-0".to_owned(),
        uid: "uid-front-0".to_owned(),
        annotation: ("gapless.video/config-hash", "new".to_owned()),
    }
}

/// The labels of everything of the pair's, or of one of its name before.
fn ours() -> serde_json::Value {
    json!({ names::LABEL_MANAGED_BY: names::MANAGER, names::LABEL_PAIR: "front" })
}

async fn done(cluster: &Cluster, effects: &[Effect]) -> Applied {
    apply(&cluster.client(), &id(), effects).await
}

#[tokio::test]
async fn everything_that_is_built_is_made() {
    let cluster = Cluster::default();
    let effects = built(&new_pair(&json!({}))).effects;
    assert_eq!(done(&cluster, &effects).await, Applied::default());
    assert_eq!(cluster.everything().len(), effects.len());
    let created = cluster.asked("POST");
    let of_leases = LEASE.trim_end_matches("/front");
    assert_eq!(paths(&created)[0], of_leases, "the Lease is the first");
}

#[tokio::test]
async fn fields_are_taken_from_whoever_had_them() {
    let cluster = Cluster::default();
    done(&cluster, &[service("front")]).await;
    let query = &cluster.asked("PATCH")[0].query;
    assert!(
        query.contains("fieldManager=gapless-operator") && query.contains("force=true"),
        "{query}"
    );
}

#[tokio::test]
async fn an_effect_that_fails_does_not_stop_the_others() {
    let cluster = Cluster::default();
    cluster.refuse("PATCH", "services/front-0", 403, "the quota is used up");
    let effects = ["front", "front-0", "front-1"].map(service);
    let applied = done(&cluster, &effects).await;
    assert_eq!(cluster.everything().len(), 2);
    let message = "the API server refused Service front-0: the quota is used up".to_owned();
    let problem = Problem::new(Reason::ApplyFailed, "Service front-0", message);
    assert_eq!(
        (applied.problems, applied.progress),
        (vec![problem], Progress::Retrying)
    );
}

#[tokio::test]
async fn what_could_not_be_read_was_not_refused() {
    let cases = [
        (service("front"), "Service front could not be read: no quorum"),
        // An answer about a Secret is not quoted.
        (secret("any"), "Secret front-viewer could not be read"),
    ];
    for (effect, message) in cases {
        let cluster = Cluster::default();
        cluster.refuse("GET", "/front", 500, "no quorum");
        let applied = done(&cluster, &[effect]).await;
        assert_eq!(applied.problems[0].message, message);
        assert_eq!(cluster.everything().len(), 0, "it may be somebody else's");
    }
}

/// What becomes of a pair at rest without one of its pods, where this takes so long.
async fn slow(method: &'static str, end: &str, seconds: u64) -> (Cluster, Applied) {
    let mut world = at_rest(&json!({}));
    world.pods.remove("front-1");
    let cluster = Cluster::default();
    cluster.delay(method, end, Duration::from_secs(seconds));
    let applied = done(&cluster, &built(&world).effects).await;
    (cluster, applied)
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_waited_for_as_long_as_its_trial() {
    let (cluster, applied) = slow("POST", "/pods", 30).await;
    assert_eq!(applied, Applied::default());
    assert!(cluster.get(&format!("{CORE}/pods/front-1")).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_no_refusal() {
    let cases = [
        ("POST", "/pods", 36, "Pod front-1 in 35 s"),
        ("PATCH", "/services/front-0", 16, "Service front-0 in 15 s"),
        (
            "PATCH",
            "/secrets/front-viewer",
            16,
            "Secret front-viewer in 15 s",
        ),
    ];
    for (method, end, seconds, words) in cases {
        let (_, applied) = slow(method, end, seconds).await;
        let message = &applied.problems[0].message;
        let told = format!("the API server did not answer about {words}");
        assert!(message.starts_with(&told), "{message}");
        assert_eq!(
            (applied.problems.len(), applied.progress),
            (1, Progress::Retrying)
        );
    }
}

#[tokio::test]
async fn nothing_is_signed_by_an_authority_that_is_not_written() {
    let mut world = new_pair(&json!({}));
    world.addresses = at_rest(&json!({})).addresses;
    let cluster = Cluster::default();
    cluster.refuse("PATCH", "/secrets/front-ca", 403, "a policy");
    let applied = done(&cluster, &built(&world).effects).await;
    let told: Vec<_> = applied
        .problems
        .iter()
        .map(|told| told.subject.as_str())
        .collect();
    assert_eq!(
        (told, applied.progress),
        (vec!["Secret front-ca"], Progress::Stopped)
    );
    let there = cluster.everything();
    let secrets: Vec<_> = there.keys().filter(|path| path.contains("/secrets/")).collect();
    assert_eq!(secrets, [&format!("{CORE}/secrets/front-viewer")]);
    assert!(!there.keys().any(|path| path.contains("/pods/")), "{there:?}");
    assert!(
        there.contains_key(&format!("{CORE}/services/front-1")),
        "{there:?}"
    );
}

#[tokio::test]
async fn nothing_uses_what_was_made_at_random_and_is_not_written() {
    let secrets = ["front-viewer", "front-ca", "front-config"];
    for (at, name) in secrets.into_iter().enumerate() {
        let mut world = new_pair(&json!({}));
        world.addresses = at_rest(&json!({})).addresses;
        let cluster = Cluster::default();
        cluster.refuse("PATCH", &format!("/secrets/{name}"), 403, "a policy");
        let applied = done(&cluster, &built(&world).effects).await;
        assert_eq!(
            (applied.problems.len(), applied.progress),
            (1, Progress::Stopped),
            "{name}"
        );
        let there = cluster.everything();
        let is_made = |part: &str| there.keys().any(|path| path.contains(part));
        for part in ["/persistentvolumeclaims/", "/pods/"] {
            assert!(!is_made(part), "{name}: {there:?}");
        }
        for later in &secrets[at..] {
            assert!(!is_made(later), "{name}: {there:?}");
        }
        assert!(is_made("/services/front-1"), "{name}: {there:?}");
    }
}

#[tokio::test]
async fn a_policy_that_refuses_a_secret_that_is_there_keeps_no_pod_from_being_made() {
    for name in ["front-viewer", "front-ca", "front-config"] {
        let mut world = at_rest(&json!({}));
        world.pods.remove("front-1");
        let cluster = Cluster::default();
        cluster.refuse("PATCH", &format!("/secrets/{name}"), 403, "a policy");
        let applied = done(&cluster, &built(&world).effects).await;
        assert_eq!(applied.progress, Progress::Retrying, "{name}");
        assert!(cluster.get(&format!("{CORE}/pods/front-1")).is_some(), "{name}");
    }
}

#[tokio::test]
async fn no_kubelet_is_hurried_to_a_secret_that_was_not_written() {
    for (refused, expected) in [
        ("/secrets/front-viewer", json!(null)),
        ("/services/front", json!("new")),
    ] {
        let cluster = Cluster::default();
        let (path, pod) = pod("uid-front-0");
        cluster.put(&path, pod);
        cluster.refuse("PATCH", refused, 403, "a policy");
        let applied = done(&cluster, &[secret("any"), service("front"), annotate()]).await;
        assert_eq!(applied.progress, Progress::Retrying, "it is tried again");
        let annotations = &cluster.get(&path).unwrap()["metadata"]["annotations"];
        assert_eq!(annotations["gapless.video/config-hash"], expected, "{refused}");
    }
}

#[tokio::test]
async fn i5_without_a_lease_nothing_else_is_made() {
    let cluster = Cluster::default();
    cluster.refuse("POST", "leases", 500, "no quorum");
    let applied = done(&cluster, &built(&new_pair(&json!({}))).effects).await;
    assert_eq!(cluster.everything().len(), 0);
    assert_eq!(cluster.asked("PATCH").len(), 0);
    assert_eq!((applied.problems.len(), applied.progress), (1, Progress::Stopped));
}

#[tokio::test]
async fn i5_a_lease_that_is_there_is_left_as_it_is() {
    let cluster = Cluster::default();
    let mut there = json!({ "metadata": { "name": "front", "annotations": { "gapless.video/epoch": "9" } } });
    there["metadata"]["labels"] = ours();
    cluster.put(LEASE, there);
    let before = cluster.get(LEASE);
    let applied = done(&cluster, &[lease(), service("front")]).await;
    assert_eq!(applied, Applied::default());
    assert_eq!(cluster.get(LEASE), before);
    assert_eq!(cluster.everything().len(), 2);
}

#[tokio::test]
async fn what_is_somebody_elses_is_left_alone_and_named() {
    const OTHERS: [(&str, &str); 10] = [
        ("Service front-0", "/api/v1/namespaces/cctv/services/front-0"),
        ("Service front", "/api/v1/namespaces/cctv/services/front"),
        ("Secret front-ca", "/api/v1/namespaces/cctv/secrets/front-ca"),
        (
            "Secret front-config",
            "/api/v1/namespaces/cctv/secrets/front-config",
        ),
        (
            "ServiceAccount front-replicator",
            "/api/v1/namespaces/cctv/serviceaccounts/front-replicator",
        ),
        (
            "PersistentVolumeClaim media-front-1",
            "/api/v1/namespaces/cctv/persistentvolumeclaims/media-front-1",
        ),
        (
            "PodDisruptionBudget front",
            "/apis/policy/v1/namespaces/cctv/poddisruptionbudgets/front",
        ),
        (
            "EndpointSlice front",
            "/apis/discovery.k8s.io/v1/namespaces/cctv/endpointslices/front",
        ),
        (
            "EndpointSlice front-primary",
            "/apis/discovery.k8s.io/v1/namespaces/cctv/endpointslices/front-primary",
        ),
        ("Pod front-0", "/api/v1/namespaces/cctv/pods/front-0"),
    ];
    let mut world = new_pair(&json!({}));
    world.addresses = at_rest(&json!({})).addresses;
    let effects = built(&world).effects;
    for (subject, path) in OTHERS {
        let cluster = Cluster::default();
        let owner = json!([{ "apiVersion": "v1", "kind": "Shop", "name": "front", "uid": "uid-shop" }]);
        let theirs =
            json!({ "metadata": { "name": "it", "labels": { "app": "shop" }, "ownerReferences": owner } });
        cluster.put(path, theirs);
        let before = cluster.get(path);
        let applied = done(&cluster, &effects).await;
        assert_eq!(cluster.get(path), before, "{subject}");
        let told: Vec<_> = applied
            .problems
            .iter()
            .map(|told| (told.reason, told.subject.as_str()))
            .collect();
        assert_eq!(told, [(Reason::NameTaken, subject)]);
        let message = &applied.problems[0].message;
        for word in [subject, "another name", "media, stay with this one"] {
            assert!(message.contains(word), "{message} does not say {word:?}");
        }
        assert_eq!(applied.progress, Progress::Stopped, "it may be removed");
        let makes =
            |effect: &Effect| matches!(effect, Effect::Create(_) | Effect::Apply(_) | Effect::Require(_));
        let is_theirs = |effect: &Effect| makes(effect) && super::subject(effect) == subject;
        let at = effects.iter().position(is_theirs).unwrap();
        assert_eq!(
            cluster.everything().len(),
            at + 1,
            "{subject}: nothing follows it"
        );
    }
}

#[tokio::test]
async fn i5_nothing_is_made_where_somebody_else_has_the_lease() {
    let cluster = Cluster::default();
    cluster.put(
        LEASE,
        json!({ "metadata": { "name": "front" }, "spec": { "holderIdentity": "shop" } }),
    );
    let applied = done(&cluster, &built(&new_pair(&json!({}))).effects).await;
    let told = &applied.problems[0];
    assert_eq!(
        (told.reason, told.subject.as_str()),
        (Reason::NameTaken, "Lease front")
    );
    assert_eq!(cluster.everything().len(), 1);
}

/// A pair that adopts kept volumes, and what may be there by the name of its Lease.
async fn adopted(lease: Option<serde_json::Value>, spoil: fn(&Cluster)) -> (Cluster, Applied) {
    let mut world = at_rest(&json!({}));
    world.lease = false;
    let cluster = Cluster::default();
    if let Some(lease) = lease {
        cluster.put(LEASE, lease);
    }
    spoil(&cluster);
    let applied = done(&cluster, &built(&world).effects).await;
    (cluster, applied)
}

#[tokio::test]
async fn i5_kept_volumes_are_not_used_where_somebody_else_has_the_lease() {
    let theirs = json!({ "metadata": { "name": "front" }, "spec": { "holderIdentity": "shop" } });
    let (cluster, applied) = adopted(Some(theirs), |_| ()).await;
    let told = &applied.problems[0];
    assert_eq!(
        (told.reason, told.subject.as_str()),
        (Reason::NameTaken, "Lease front")
    );
    assert!(told.message.contains("another name"), "{told}");
    assert_eq!((applied.problems.len(), applied.progress), (1, Progress::Stopped));
    assert_eq!(cluster.asked("PATCH").len() + cluster.asked("POST").len(), 0);
    let unknown = adopted(None, |cluster| {
        cluster.refuse("GET", "leases", 500, "no quorum");
    });
    let (cluster, applied) = unknown.await;
    assert_eq!(
        (applied.problems[0].reason, applied.progress),
        (Reason::ApplyFailed, Progress::Stopped),
        "whose it is is not known"
    );
    assert_eq!(
        applied.problems[0].message,
        "Lease front could not be read: no quorum"
    );
    assert_eq!(cluster.asked("PATCH").len() + cluster.asked("POST").len(), 0);
}

#[tokio::test]
async fn i5_kept_volumes_are_adopted_without_a_lease_of_epoch_0() {
    let (cluster, applied) = adopted(None, |_| ()).await;
    assert_eq!(applied, Applied::default());
    assert_eq!(
        cluster.get(LEASE),
        None,
        "the observer makes it, above every epoch"
    );
    assert!(!cluster.asked("PATCH").is_empty());
}

#[tokio::test]
async fn a_volume_that_was_kept_or_brought_along_is_adopted() {
    for labels in [ours(), json!({}), json!({ "app": "shop" })] {
        let cluster = Cluster::default();
        let path = format!("{CORE}/persistentvolumeclaims/media-front-1");
        cluster.put(
            &path,
            json!({ "metadata": { "name": "media-front-1", "labels": labels } }),
        );
        let claim =
            crate::build::Object::new::<PersistentVolumeClaim>(&id(), "media-front-1", &ours(), json!({}));
        assert_eq!(done(&cluster, &[Effect::Apply(claim)]).await, Applied::default());
        let adopted = cluster.get(&path).unwrap();
        assert_eq!(
            adopted["metadata"]["labels"][names::LABEL_PAIR],
            "front",
            "{labels}"
        );
    }
}

#[tokio::test]
async fn a_pod_is_deleted_as_it_was_seen_only_and_never_by_force() {
    for (comes_back, name) in [(false, "it still does nothing"), (true, "it runs again")] {
        let cluster = Cluster::default();
        let (path, mut pod) = pod("uid-front-0");
        cluster.put(&path, pod.clone());
        let seen = cluster.get(&path).unwrap()["metadata"]["resourceVersion"].clone();
        if comes_back {
            pod["status"] = json!({ "phase": "Running" });
            cluster.put(&path, pod);
        }
        let seen = seen.as_str().unwrap();
        assert_eq!(done(&cluster, &[delete(seen)]).await, Applied::default());
        assert_eq!(cluster.get(&path).is_some(), comes_back, "{name}");
        let options = &cluster.asked("DELETE")[0].body;
        assert_eq!(options["preconditions"], json!({ "resourceVersion": seen }));
        assert!(options["gracePeriodSeconds"].is_null());
    }
}

#[tokio::test]
async fn only_this_very_pod_is_annotated() {
    for (uid, expected) in [("uid-front-0", json!("new")), ("uid-of-the-next", json!(null))] {
        let cluster = Cluster::default();
        let (path, pod) = pod(uid);
        cluster.put(&path, pod);
        assert_eq!(done(&cluster, &[annotate()]).await, Applied::default());
        let annotations = &cluster.get(&path).unwrap()["metadata"]["annotations"];
        assert_eq!(annotations["gapless.video/config-hash"], expected, "{uid}");
    }
}

#[tokio::test]
async fn a_pod_that_is_gone_needs_nothing() {
    let cluster = Cluster::default();
    assert_eq!(
        done(&cluster, &[delete("7"), annotate()]).await,
        Applied::default()
    );
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_refused_secret_is_quoted_neither_in_a_problem_nor_in_the_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
    // For all threads: a subscriber of one thread misses what another thread's tests met first.
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let cluster = Cluster::default();
    let quoted = "Secret is invalid: data[token]: Invalid value: hunter2";
    cluster.refuse("PATCH", "secrets", 422, quoted);
    let applied = done(&cluster, &[secret("aHVudGVyMg==")]).await;
    let message = "the API server refused Secret front-viewer".to_owned();
    let problem = Problem::new(Reason::ApplyFailed, "Secret front-viewer", message);
    assert_eq!(applied.problems, [problem]);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("front-viewer"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}
