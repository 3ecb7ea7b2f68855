//! Members that do not hear each other both record everything. When they hear each other again, each gets what the other wrote, at
//! once, and live media does not wait for it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crds::member::MemberReport;
use e2e::api::Segment;
use e2e::cluster::{MemberView, RETURN, Scene};
use e2e::wait::until;

use crate::STREAMS;

/// From the moment at which they can hear each other until the refill begins.
const PROMISE: Duration = Duration::from_secs(10);
/// So many segments of 3 s cannot have been sealed since then.
const NOT_LIVE: usize = 5;
/// How old a frame may be until it is durable on the peer, while older ones are refilled.
const LAG: u64 = 1_000;

async fn report(scene: &Scene, member: &MemberView) -> Result<MemberReport> {
    let view = scene.pair.view(&member.name).await?;
    view.report
        .with_context(|| format!("{} does not answer", member.name))
}

async fn both_record(scene: &Scene, member: &MemberView) -> Result<()> {
    until("both members write every stream", RETURN, async || {
        let told = report(scene, member).await?;
        let writes = told.streams.iter().filter(|stream| stream.writing).count();
        ensure!(writes == STREAMS, "{} writes {writes}", member.name);
        Ok(Some(()))
    })
    .await
}

/// Sealed segments of all streams that a member got from its peer.
async fn received(scene: &Scene, member: &MemberView) -> Result<usize> {
    let mut count = 0;
    for stream in scene.streams() {
        let segments = member.api.segments(&stream, 0).await?;
        let got = |segment: &&Segment| segment.origin == "peer" && segment.state == "sealed";
        count += segments.iter().filter(got).count();
    }
    Ok(count)
}

async fn apart_for(span: Duration) {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    let members = [before.primary.clone(), before.standby.clone()];
    let (node, link) = (&before.primary.node, format!("peer:{}", before.standby.node));
    scene.bed.cut(node, &link).await.unwrap();
    let cut = Instant::now();
    for member in &members {
        both_record(&scene, member).await.unwrap();
    }
    tokio::time::sleep(span.saturating_sub(cut.elapsed())).await;
    let mut had = Vec::new();
    for member in &members {
        had.push(received(&scene, member).await.unwrap());
    }
    scene.bed.mend_link(node, &link).await.unwrap();
    let healed = Instant::now();
    for (member, had) in members.iter().zip(had) {
        until("the refill begins", RETURN, async || {
            let got = received(&scene, member).await? - had;
            ensure!(got >= NOT_LIVE * STREAMS, "{} got {got} segments", member.name);
            Ok(Some(()))
        })
        .await
        .unwrap();
        let after = healed.elapsed();
        println!(
            "  {} is refilled {after:.1?} after the link was mended",
            member.name
        );
        assert!(after <= PROMISE, "the refill began after {after:?}");
    }
    // Live media does not wait for the rest of the refill.
    let (mut lags, mut refilled) = (Vec::new(), false);
    while !refilled {
        refilled = true;
        for member in &members {
            let told = report(&scene, member).await.unwrap().replication;
            lags.push(told.lag_ms);
            refilled &= told.connected && told.backfill_bytes == 0;
        }
        assert!(healed.elapsed() < RETURN, "the refill does not end");
    }
    println!("  both have everything {:.1?} after it", healed.elapsed());
    lags.sort_unstable();
    let slow = lags[(lags.len() - 1) * 9 / 10];
    println!("  live lag meanwhile: p90 {slow} ms of {} looks", lags.len());
    assert!(slow <= LAG, "{lags:?}");
    let settled = scene.settled(RETURN).await.unwrap();
    let verdict = scene.judge(before.start, &settled).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    scene.ensure_well(&before, &settled).await.unwrap();
}

#[tokio::test]
async fn members_apart_both_record_and_give_each_other_everything() {
    apart_for(Duration::from_secs(20)).await;
}

#[tokio::test]
#[ignore = "ten minutes: make test-long"]
async fn members_apart_for_ten_minutes_both_record_and_give_each_other_everything() {
    apart_for(Duration::from_mins(10)).await;
}
