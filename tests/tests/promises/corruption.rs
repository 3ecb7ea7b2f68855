//! A byte of a sealed segment goes bad on the primary before the standby has it: the standby refuses it, says so, and serves its
//! own copy.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::cluster::{MemberView, NAMESPACE, PAIR, RETURN, Scene, Testbed};
use e2e::judge::Start;
use e2e::volume::flip_a_bit;
use e2e::wait::until;

use crate::{STREAMS, seconds};

const SOON: Duration = Duration::from_secs(45);

#[tokio::test]
async fn a_changed_byte_does_not_reach_the_standby() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let [primary, standby] = scene.settled(RETURN).await.unwrap();
    let start = Start::now(&scene.cameras).await.unwrap();
    let link = format!("peer:{}", standby.node);
    scene.bed.cut(&primary.node, &link).await.unwrap();
    // Both record now. What the primary seals from here on, the standby cannot have.
    seconds(2).await;
    let since = e2e::wait::now_ms();
    seconds(8).await;
    let sealed = until("the primary seals a segment", SOON, async || {
        sealed_since(&primary, &scene.streams(), since).await.map(Some)
    });
    let (stream, id) = sealed.await.unwrap();
    let volume = scene
        .kube
        .volume_of(NAMESPACE, &crds::names::claim(&primary.name))
        .await
        .unwrap();
    flip_a_bit(&Testbed::volume_folder(&primary.node, &volume), &id).unwrap();
    scene.bed.mend_link(&primary.node, &link).await.unwrap();

    until("the standby refuses it", SOON, async || {
        let (status, _, message) = scene.pair.condition("Degraded").await?;
        let said = status == "True" && message.contains(&id) && message.contains(&stream);
        ensure!(said, "Degraded is {status}: {message}");
        Ok(Some(()))
    })
    .await
    .unwrap();
    // An event is written after the status that it tells of.
    until("an event tells of it", SOON, async || {
        let events = scene.kube.events(NAMESPACE, PAIR).await?;
        let told = |event: &String| event.starts_with("ReplicaRefused: ") && event.contains(&id);
        ensure!(events.iter().any(told), "{events:?}");
        Ok(Some(()))
    })
    .await
    .unwrap();
    let reports = scene.pair.reports(SOON).await.unwrap();
    let report = reports.iter().find(|report| report.member == standby.name);
    let refusal = report.unwrap().replication.last_refusal.as_ref();
    assert_eq!(refusal.unwrap().segment, id);
    let metric = standby.api.metric("gapless_refused_total").await.unwrap();
    assert!(metric.is_some_and(|count| count >= 1.0), "{metric:?}");

    // It is not served as sealed there, and every frame plays, from the standby alone.
    let served = standby.api.segments(&stream, 0).await.unwrap();
    assert!(
        served
            .iter()
            .all(|segment| segment.id != id || segment.state != "sealed")
    );
    let verdict = scene.judge(start, std::slice::from_ref(&standby)).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    // All else is replicated as before.
    scene.settled(RETURN).await.unwrap();
}

/// A segment that this member sealed after a moment, of what it recorded itself.
async fn sealed_since(member: &MemberView, streams: &[String], since_ms: u64) -> Result<(String, String)> {
    for stream in streams {
        let segments = member.api.segments(stream, since_ms + 1_000).await?;
        let mut own = segments
            .iter()
            .filter(|segment| segment.origin == "live" && segment.state == "sealed");
        if let Some(last) = own.next_back() {
            return Ok((stream.clone(), last.id.clone()));
        }
    }
    anyhow::bail!("{} sealed nothing", member.name)
}
