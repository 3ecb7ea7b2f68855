//! Replication alone, without the second session: the standby hears no camera, and then the primary and its volume are gone. And
//! a standby whose volume is lost gets everything from the primary.

use std::time::Duration;

use anyhow::{Context, ensure};
use crds::member::Role;
use e2e::cameras::Options;
use e2e::cluster::{RETURN, Scene};
use e2e::judge::ensure_acknowledged;
use e2e::wait::until;
use serde_json::json;

use crate::{STREAMS, seconds};

#[tokio::test]
async fn what_was_acknowledged_survives_the_primary_and_its_volume() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let [primary, standby] = scene.settled(RETURN).await.unwrap();
    scene.bed.cut(&standby.node, "cameras").await.unwrap();
    // The standby's sessions have ended, and what it received itself is durable somewhere.
    seconds(10).await;
    let start = e2e::judge::Start::now(&scene.cameras).await.unwrap();
    seconds(60).await;
    let mut acknowledged = Vec::new();
    for watched in &scene.watched {
        let timeline = primary.api.timeline(&watched.stream, start.at_ms).await.unwrap();
        let end = timeline.acknowledged_end.expect("something is acknowledged");
        acknowledged.push((watched.clone(), end));
    }
    let (holder, epoch) = (
        scene.pair.view(&primary.name).await.unwrap(),
        scene.pair.epoch().await.unwrap(),
    );
    scene.bed.destroy(&primary.node).await.unwrap();

    // On a busy machine the survivor may have had authority before.
    if holder.role() == Some(Role::Primary) {
        scene.watcher.served(epoch, RETURN).await.unwrap();
    }
    let survivor = until("the survivor serves", RETURN, async || {
        let view = scene.pair.view(&standby.name).await?;
        ensure!(view.role() == Some(Role::Primary), "it is {:?}", view.role());
        Ok(Some(view))
    });
    let survivor = survivor.await.unwrap();
    for (watched, end) in &acknowledged {
        let played = ensure_acknowledged(&scene.cameras, watched, start, end, &survivor.api)
            .await
            .unwrap();
        println!(
            "  {}: {played} acknowledged frames play from {}",
            watched.stream, survivor.name
        );
        assert!(played >= 25 * 50, "a minute was recorded");
    }

    // The node is replaced by an empty one; deleting the lost member's claim and pod gives it a new volume.
    scene.bed.mend_link(&standby.node, "cameras").await.unwrap();
    scene.bed.create(&primary.node).await.unwrap();
    scene.pair.forget(&primary.name).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    let new = members.iter().find(|member| member.name == primary.name).unwrap();
    for (watched, end) in &acknowledged {
        ensure_acknowledged(&scene.cameras, watched, start, end, &new.api)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_lost_volume_of_the_standby_is_filled_while_recording_goes_on() {
    // Slowly, so that the status has something to tell.
    let scene = Scene::with(Options::test_bed(STREAMS), |spec| {
        spec.other["replication"] = json!({"maxBackfillBandwidth": "512Ki"});
    })
    .await
    .unwrap();
    let before = scene.record(Duration::from_secs(20)).await.unwrap();
    let lost = &before.standby;
    scene.bed.destroy(&lost.node).await.unwrap();
    seconds(5).await;
    scene.bed.create(&lost.node).await.unwrap();
    scene.pair.forget(&lost.name).await.unwrap();
    let told = until("the status tells of the refill", RETURN, async || {
        let status = scene.pair.status().await?;
        let member = status.members.into_iter().find(|member| member.name == lost.name);
        let refill = member.and_then(|member| member.refill).context("no refill")?;
        ensure!(refill.remaining_seconds.is_some(), "{refill:?}");
        Ok(Some(refill))
    })
    .await
    .unwrap();
    println!("  {told:?}");
    assert!((0..100).contains(&told.percent), "{told:?}");
    // Whoever is primary: on a busy machine it may be the new one.
    let members = scene.settled(RETURN).await.unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    // What was sealed before is on the new volume too, byte for byte.
    let new = members.iter().find(|member| member.name == lost.name).unwrap();
    scene.ensure_kept(&before, &new.api).await.unwrap();
    scene.ready(RETURN).await.unwrap();
}
