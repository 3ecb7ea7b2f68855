//! Members that do not hear each other both record everything. When they hear each other again, each gets what the other wrote, at
//! once, and live media does not wait for it. What they then have twice is reclaimed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crds::member::MemberReport;
use e2e::api::Segment;
use e2e::cluster::{MemberView, RETURN, Scene};
use e2e::wait::{now_ms, until};

use crate::STREAMS;

/// From the moment at which they can hear each other until the refill begins.
const PROMISE: Duration = Duration::from_secs(10);
/// So many segments of 3 s cannot have been sealed since then.
const NOT_LIVE: usize = 5;
/// Segments of 3 s this far from both ends are of the time in which both recorded, ms.
const EDGE: u64 = 6_000;
/// Until what both have too often is gone, of ten minutes of all streams.
const RECLAIMED: Duration = Duration::from_mins(3);
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
    let (cut, cut_ms) = (Instant::now(), now_ms());
    for member in &members {
        both_record(&scene, member).await.unwrap();
    }
    tokio::time::sleep(span.saturating_sub(cut.elapsed())).await;
    let mut had = Vec::new();
    for member in &members {
        had.push(received(&scene, member).await.unwrap());
    }
    scene.bed.mend_link(node, &link).await.unwrap();
    let (healed, healed_ms) = (Instant::now(), now_ms());
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
            // On a busy machine a question may find no answer in time.
            let Ok(told) = report(&scene, member).await else {
                refilled = false;
                continue;
            };
            let told = told.replication;
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

    let apart = Apart {
        from_ms: cut_ms + EDGE,
        to_ms: healed_ms - EDGE,
    };
    apart.is_reclaimed(&scene, &members).await.unwrap();
    let verdict = scene.judge(before.start, &settled).await.unwrap();
    verdict.ensure_perfect().unwrap();
    scene.ready(RETURN).await.unwrap();
}

/// A time in which both recorded everything.
struct Apart {
    from_ms: u64,
    to_ms: u64,
}

impl Apart {
    /// Waits until little more than one copy is left of what both wrote, and both say how much they let go of.
    async fn is_reclaimed(&self, scene: &Scene, members: &[MemberView; 2]) -> Result<()> {
        let (mut written, streams) = (BTreeMap::new(), scene.streams());
        for member in members {
            let own = member
                .api
                .written_between(&streams, self.from_ms, self.to_ms)
                .await?;
            ensure!(own.len() >= 2 * STREAMS, "{} wrote {own:?}", member.name);
            written.extend(own);
        }
        for member in members {
            scene.settle_after(member, 2).await?;
        }
        let (began, all) = (Instant::now(), written.values().sum::<u64>());
        let left = until("duplicates are reclaimed", RECLAIMED, async || {
            let mut left = BTreeMap::new();
            for member in members {
                let own = member.api.written_between(&streams, self.from_ms, self.to_ms);
                left.extend(own.await?);
            }
            let bytes = left.values().sum::<u64>();
            ensure!(bytes * 10 <= all * 6, "{bytes} of {all} bytes are left");
            Ok(Some(bytes))
        })
        .await?;
        let gone = all - left;
        println!(
            "  {gone} of {all} bytes are reclaimed after {:.1?}",
            began.elapsed()
        );
        for member in members {
            until("a member let go of its copies", RECLAIMED, async || {
                let told = member.api.metric("gapless_reclaimed_bytes_total").await?;
                ensure!(
                    told.is_some_and(|told| told >= gone as f64),
                    "{}: {told:?} of {gone} bytes",
                    member.name
                );
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    }
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
