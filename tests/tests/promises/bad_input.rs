//! Bad input: each gets an answer that names it and says what to do, and nothing else suffers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::pair::Transport;
use e2e::cameras::{Cameras, Options};
use e2e::cluster::{MemberView, NAMESPACE, PAIR, RETURN, Scene, StreamSpec, stage};
use e2e::wait::until;
use serde_json::{Value, json};

use crate::{STREAMS, seconds};

const SOON: Duration = Duration::from_secs(45);
const PASSWORD: &str = "c0rrect-h0rse";
const WRONG: &str = "wr0ng-battery";

/// The API server itself refuses a manifest that breaks a rule, in words of ours. Each rule has a unit test, too; here it is
/// the real server that says it.
#[tokio::test]
async fn the_api_server_refuses_what_breaks_a_rule() {
    let (_, kube, _) = stage().await.unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    kube.apply(&namespace).await.unwrap();
    let streams = |list: Value| json!({"streams": list, "storage": {"size": "2Gi"}});
    let one = |url: &str| streams(json!([{"name": "door", "url": url}]));
    let with = |field: &str, value: Value| {
        let mut spec = one("rtsp://camera/stream");
        spec[field] = value;
        spec
    };
    let cases = [
        (
            "front-primary",
            one("rtsp://camera/a"),
            "must not end in -0, -1 or -primary",
        ),
        ("1st", one("rtsp://camera/a"), "must start with a letter"),
        ("front", one("http://camera/a"), "must start with rtsp://"),
        (
            "front",
            one("rtsp://user:s3cret@camera/a"),
            "put them in a Secret",
        ),
        ("front", one("rtsp:///a"), "rtsp://host[:port]/path"),
        (
            "front",
            streams(json!([{"name": "a", "url": "rtsp://x/1"}, {"name": "a", "url": "rtsp://x/2"}])),
            // Its own words: streams are a map by name.
            "Duplicate value: {\"name\":\"a\"}",
        ),
        ("front", with("storage", json!({"size": "1Mi"})), "64Mi at least"),
        (
            "front",
            with("storage", json!({"size": "2Gi", "retention": {"maxSize": "3Gi"}})),
            "does not fit on the volume",
        ),
        (
            "front",
            with(
                "storage",
                json!({"size": "2Gi", "retention": {"minAge": "2h", "maxAge": "1h"}}),
            ),
            "minAge must not be longer than",
        ),
        (
            "front",
            with("failover", json!({"leash": "50ms"})),
            "failover.leash must be from 200ms to 10s",
        ),
        (
            "front",
            with("failover", json!({"leash": "300ms", "suspectAfter": "400ms"})),
            "must be shorter than failover.leash",
        ),
        (
            "front",
            with("failover", json!({"leaseDuration": "1s"})),
            "failover.leaseDuration must be from 3s to 5m",
        ),
        (
            "front",
            with("segment", json!({"target": "1s"})),
            "segment.target must be from 2s to 10m",
        ),
        (
            "front",
            with("standby", json!({"preroll": "1s"})),
            "standby.preroll must be from 2s to 60s",
        ),
    ];
    for (name, spec, message) in cases {
        let pair = json!({
            "apiVersion": "gapless.video/v1alpha1",
            "kind": "RecorderPair",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        });
        let refusal = kube.refusal(&pair).await.unwrap();
        assert!(refusal.contains(message), "{refusal:?} does not say {message:?}");
        assert!(!refusal.contains("s3cret"), "{refusal:?} repeats a password");
    }
}

#[tokio::test]
async fn each_bad_stream_is_told_in_the_status_and_the_others_lose_nothing() {
    let mut scene = Scene::start(STREAMS).await.unwrap();
    let locked = Options::test_bed(1)
        .on_port(555)
        .login(&format!("viewer:{PASSWORD}"));
    let locked = Cameras::start(locked).await.unwrap();
    let before = scene.record(Duration::from_secs(4)).await.unwrap();
    scene
        .pair
        .set_login("wrong-login", "viewer", WRONG)
        .await
        .unwrap();
    let url = locked.url(0);
    let bad = [
        (
            "host",
            "rtsp://no-such-host.invalid/live".to_owned(),
            None,
            "UnknownHost",
        ),
        ("port", "rtsp://198.18.0.2:9/live".to_owned(), None, "Unreachable"),
        ("password", url.clone(), Some("wrong-login"), "Unauthorized"),
        ("secret", url, Some("no-such-secret"), "CredentialsMissing"),
        ("audio", scene.cameras.url_of("audio-only"), None, "NoVideoTrack"),
        ("codec", scene.cameras.url_of("mjpeg"), None, "UnsupportedCodec"),
        (
            "nonsense",
            "rtsp://front-0.cams.svc.cluster.local:8080/live".to_owned(),
            None,
            "NotRtsp",
        ),
    ];
    for (name, url, secret, _) in &bad {
        scene.spec.streams.push(StreamSpec {
            name: (*name).to_owned(),
            url: url.clone(),
            secret: secret.map(str::to_owned),
            detect_frozen: false,
            transport: Transport::default(),
        });
    }
    scene.pair.apply(&scene.spec).await.unwrap();
    for (name, _, _, reason) in &bad {
        until(&format!("{name} fails with {reason}"), SOON, async || {
            let status = scene.pair.status().await?;
            let failing = status.streams.context("no streams in the status")?.failing;
            let found = failing.iter().find(|failing| failing.name == *name);
            let found = found.with_context(|| format!("{failing:?}"))?;
            ensure!(found.reason == *reason, "{found:?}");
            ensure!(found.message.contains(name), "{found:?} does not name it");
            Ok(Some(()))
        })
        .await
        .unwrap();
    }
    let (status, _, message) = scene.pair.condition("Degraded").await.unwrap();
    assert_eq!(status, "True", "{message}");
    // An event is written after the status that it tells of.
    until("an event names the Secret", SOON, async || {
        let events = scene.kube.events(NAMESPACE, PAIR).await?;
        let named = events.iter().any(|event| event.contains("no-such-secret"));
        ensure!(named, "{events:?}");
        Ok(Some(()))
    })
    .await
    .unwrap();
    seconds(2).await;
    // The good streams are judged; both members receive them, whatever the others do.
    let views = scene.settled(RETURN).await.unwrap();
    scene
        .judge(before.start, &views)
        .await
        .unwrap()
        .ensure_perfect()
        .unwrap();
    let told = scene.everything_told().await.unwrap();
    for secret in [PASSWORD, WRONG] {
        assert!(!told.contains(secret), "a password is in a log, status or event");
    }
}

#[tokio::test]
async fn a_full_disk_on_either_member_costs_no_frame() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(4)).await.unwrap();
    fill(&scene, &before.standby).await.unwrap();
    let [primary, standby] = scene.settled(RETURN).await.unwrap();
    assert_eq!(
        primary.name, before.primary.name,
        "the standby's disk is no reason to move"
    );

    fill(&scene, &primary).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    assert_eq!(
        members[0].name, standby.name,
        "a primary that cannot write hands over"
    );
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    for member in &members {
        scene.ensure_kept(&before, &member.api).await.unwrap();
    }
}

/// Fills a member's volume, records for a while, and gives the space back.
async fn fill(scene: &Scene, member: &MemberView) -> Result<()> {
    let volume = scene
        .kube
        .volume_of(NAMESPACE, &crds::names::claim(&member.name))
        .await?;
    scene.bed.fill(&member.node, &volume).await?;
    until(
        &format!("the status says that {}'s disk is full", member.name),
        SOON,
        async || {
            let (status, _, message) = scene.pair.condition("Degraded").await?;
            let said = status == "True" && message.contains(&member.name) && message.contains("is full");
            ensure!(said, "Degraded is {status}: {message}");
            Ok(Some(()))
        },
    )
    .await?;
    seconds(8).await;
    scene.bed.free(&member.node, &volume).await?;
    until("the status is well again", SOON, async || {
        let (status, _, message) = scene.pair.condition("Degraded").await?;
        ensure!(status == "False", "{message}");
        Ok(Some(()))
    })
    .await
}
