//! False alarms are free: a standby that suspects a primary which only stood still for a moment records at once, and stops. Authority stays
//! where it is, and what both wrote then is reclaimed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crds::names;
use e2e::cluster::{MemberView, RETURN, Scene};
use e2e::wait::{now_ms, until};

use crate::STREAMS;

/// So many alarms.
const ALARMS: usize = 10;
/// For how long the primary's replicator stands still: twice what makes it suspect.
const STILL: Duration = Duration::from_millis(300);
/// Who stands still for longer, because the machine is busy, may lose authority rightly.
const TOO_LONG: Duration = Duration::from_millis(500);
/// After so much silence a primary is suspected.
const SUSPECTED: Duration = Duration::from_millis(150);
/// Attempts at an alarm that is none too long.
const ATTEMPTS: usize = 5 * ALARMS;
/// A standby that heard an alarm is more patient for a while; it is no longer than this, in milliseconds, before the next one.
const PATIENCE: u64 = 200;
/// Until what both wrote is there once.
const RECLAIMED: Duration = Duration::from_mins(3);

/// The replicator of a member stands still for a moment. Returns for how long, at most.
async fn stand_still(scene: &Scene, member: &MemberView) -> Result<Duration> {
    let (began, replicator) = (Instant::now(), names::CONTAINER_REPLICATOR);
    scene.bed.freeze_container(member.pod(), replicator).await?;
    tokio::time::sleep(STILL).await;
    scene.bed.thaw_container(member.pod(), replicator).await?;
    Ok(began.elapsed())
}

/// For how long a standby did not hear the primary, the longest time since a moment (Unix milliseconds), by its own log.
async fn silence(scene: &Scene, standby: &str, since_ms: u64) -> Result<Duration> {
    let (mut longest, mut began) = (0, None);
    for (at, suspected) in scene.suspicions(standby).await? {
        if suspected {
            began = (at >= since_ms).then_some(at);
        } else if let Some(began) = began.take() {
            longest = at.saturating_sub(began).max(longest);
        }
    }
    Ok(SUSPECTED + Duration::from_millis(longest))
}

/// Waits until the standby writes nothing again, and would suspect a primary that stands still.
async fn at_rest(scene: &Scene) -> Result<[MemberView; 2]> {
    until("the standby is at rest", RETURN, async || {
        let [primary, standby] = scene.settled(RETURN).await?;
        let told = standby.report.as_ref().context("no report of the standby")?;
        let writes = told.streams.iter().filter(|stream| stream.writing).count();
        ensure!(writes == 0, "{} writes {writes} streams", standby.name);
        ensure!(told.peer.heard, "{} does not hear the primary", standby.name);
        let patience = told.peer.suspected_after_ms;
        ensure!(patience <= PATIENCE, "it suspects after {patience} ms of silence");
        Ok(Some([primary, standby]))
    })
    .await
}

#[tokio::test]
async fn false_alarms_cost_no_frame_move_no_authority_and_leave_nothing_twice() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    let ([mut primary, mut standby], mut epoch) = (at_rest(&scene).await.unwrap(), before.epoch);
    let streams = scene.streams();
    let (mut alarms, mut from_ms, mut wrote) = (0, now_ms(), 0);
    for _ in 0..ATTEMPTS {
        let (follower, began_ms) = (standby.name, now_ms());
        let mut still = stand_still(&scene, &primary).await.unwrap();
        [primary, standby] = at_rest(&scene).await.unwrap();
        let now = scene.pair.epoch().await.unwrap();
        if now != epoch {
            // A machine that is busy may have kept it still for longer.
            still = still.max(silence(&scene, &follower, began_ms).await.unwrap());
        }
        if still > TOO_LONG {
            (alarms, wrote) = (0, 0);
            (epoch, from_ms) = (now, now_ms());
            continue;
        }
        assert_eq!(
            now, epoch,
            "authority moved though nobody was silent for {still:?}"
        );
        let written = standby.api.written_between(&streams, from_ms, now_ms());
        let written = written.await.unwrap().len();
        alarms += usize::from(written > wrote);
        wrote = written;
        if alarms == ALARMS {
            break;
        }
    }
    assert_eq!(
        alarms, ALARMS,
        "the standby did not record, or the machine is too busy"
    );
    assert_eq!(scene.pair.epoch().await.unwrap(), epoch);

    let to_ms = now_ms();
    let doubled = || standby.api.written_between(&streams, from_ms, to_ms);
    let written = doubled().await.unwrap();
    println!(
        "  {} segments, {} bytes, were written twice in {alarms} alarms",
        written.len(),
        written.values().sum::<u64>()
    );
    let members = [primary, standby.clone()];
    scene.ensure_well(&before, &members).await.unwrap();
    for member in &members {
        scene.settle_after(member, 2).await.unwrap();
    }
    until("what is twice is reclaimed", RECLAIMED, async || {
        let left = doubled().await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(Some(()))
    })
    .await
    .unwrap();
    let settled = scene.settled(RETURN).await.unwrap();
    let verdict = scene.judge(before.start, &settled).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    scene.ready(RETURN).await.unwrap();
}
