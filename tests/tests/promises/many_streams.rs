//! Five hundred streams in one pair, most of which no camera answers: both members tell of each, the status has owners and reasons
//! within its bounds, the cameras that are there lose no frame, and the pair can be deleted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::member::{MemberReport, StreamState};
use crds::pair::{MAX_FAILING, StreamsStatus, Transport};
use e2e::cameras::Options;
use e2e::cluster::{Before, NAMESPACE, PAIR, RETURN, Scene, StreamSpec};
use e2e::wait::until;
use k8s_openapi::api::core::v1::Secret;

const STREAMS: usize = 500;
/// Two more than a status lists.
const CAMERAS: usize = 18;
/// What a status may have, in JSON: far from the megabyte and a half that etcd takes.
const MOST_STATUS: usize = 32 << 10;
/// The same of the whole pair: the streams of its spec, and who set which field of each.
const MOST_OBJECT: usize = 512 << 10;
/// Until all streams have moved, and the status says so.
const MOVED: Duration = Duration::from_secs(20);

/// A stream with the longest name, at an address where nobody listens.
fn dead(number: usize) -> StreamSpec {
    StreamSpec {
        name: dead_name(number),
        url: format!("rtsp://198.18.0.2:9/{number}"),
        secret: None,
        detect_frozen: false,
        transport: Transport::default(),
    }
}

fn dead_name(number: usize) -> String {
    format!("{number:0>63}")
}

/// Waits until both members tell of each stream: what they receive, and why not what they do not receive.
async fn both_tell_of_all(scene: &Scene) -> Result<()> {
    until("both members tell of all streams", RETURN, async || {
        for report in scene.pair.reports(RETURN).await? {
            tells_of_all(&report).with_context(|| report.member.clone())?;
        }
        Ok(Some(()))
    })
    .await
}

fn tells_of_all(report: &MemberReport) -> Result<()> {
    let streams = &report.streams;
    let receiving = streams
        .iter()
        .filter(|stream| stream.state == StreamState::Receiving);
    let explained = streams.iter().filter(|stream| {
        let failed = stream.state == StreamState::Failed;
        failed
            && stream
                .error
                .as_ref()
                .is_some_and(|error| error.message.contains(&stream.name))
    });
    let found = (streams.len(), receiving.count(), explained.count());
    let all = (STREAMS, CAMERAS, STREAMS - CAMERAS);
    ensure!(found == all, "tells of, receives, explains: {found:?}");
    Ok(())
}

/// The streams in the status, once it is as it should be. Fails where it is larger than it may be.
async fn told(scene: &Scene, limit: Duration, is: impl Fn(&StreamsStatus) -> Result<()>) -> Result<()> {
    until("the status tells of the streams", limit, async || {
        let status = scene.pair.status().await?;
        is(&status.streams.context("no streams")?).map(Some)
    })
    .await?;
    ensure_bounded(scene).await
}

async fn ensure_bounded(scene: &Scene) -> Result<()> {
    let pair = scene.kube.pair(NAMESPACE, PAIR).await?;
    let (whole, status) = (serde_json::to_vec(&pair)?, serde_json::to_vec(&pair.status)?);
    println!(
        "  the pair has {} bytes, its status {}",
        whole.len(),
        status.len()
    );
    ensure!(status.len() <= MOST_STATUS, "a status of {} bytes", status.len());
    ensure!(whole.len() <= MOST_OBJECT, "a pair of {} bytes", whole.len());
    Ok(())
}

/// Each number counts all streams, and of those that fail the first ones have a reason.
fn has_reasons(streams: &StreamsStatus) -> Result<()> {
    let numbers = [streams.total, streams.receiving, streams.failed];
    let all = [STREAMS, CAMERAS, STREAMS - CAMERAS].map(|count| count as i32);
    ensure!(numbers == all, "all, received, failed: {numbers:?}");
    ensure!(
        streams.summary == format!("{CAMERAS}/{STREAMS}"),
        "{}",
        streams.summary
    );
    let failing = streams.failing.iter();
    let failing: Vec<_> = failing
        .map(|failing| (failing.name.clone(), failing.reason.as_str()))
        .collect();
    let first = (CAMERAS..CAMERAS + MAX_FAILING).map(|number| (dead_name(number), "Unreachable"));
    ensure!(failing == first.collect::<Vec<_>>(), "{failing:?}");
    for failing in &streams.failing {
        let told =
            failing.message.contains("fails on both members") && failing.message.contains(&failing.name);
        ensure!(told, "{failing:?}");
    }
    Ok(())
}

/// Each stream that has a camera is with the standby, and the first ones have owner and reason.
fn has_owners(streams: &StreamsStatus, before: &Before) -> Result<()> {
    let (away, cameras) = (streams.away, i32::try_from(CAMERAS)?);
    ensure!(
        away == cameras,
        "{away} are with the standby: {:?}",
        streams.moved
    );
    ensure!(streams.moved.len() == MAX_FAILING, "{:?}", streams.moved);
    for moved in &streams.moved {
        let told = (moved.member.as_str(), moved.reason.as_str());
        let is = told == (before.standby.name.as_str(), "Silent") && moved.name.starts_with("cam-");
        ensure!(is, "{moved:?}");
    }
    ensure!(streams.failing.len() == MAX_FAILING, "{:?}", streams.failing);
    Ok(())
}

#[tokio::test]
async fn five_hundred_streams_are_told_of_within_bounds_and_the_good_ones_lose_no_frame() {
    let scene = Scene::with(Options::test_bed(CAMERAS), |spec| {
        spec.streams.extend((CAMERAS..STREAMS).map(dead));
    })
    .await
    .unwrap();
    both_tell_of_all(&scene).await.unwrap();
    told(&scene, RETURN, has_reasons).await.unwrap();
    let before = scene.record(Duration::from_secs(4)).await.unwrap();

    scene.bed.cut(&before.primary.node, "cameras").await.unwrap();
    told(&scene, MOVED, |streams| has_owners(streams, &before))
        .await
        .unwrap();
    scene
        .bed
        .mend_link(&before.primary.node, "cameras")
        .await
        .unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    both_tell_of_all(&scene).await.unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    for member in &members {
        scene.ensure_kept(&before, &member.api).await.unwrap();
    }
    // With pods and volumes; what was rendered of the streams goes with it.
    scene.pair.delete(&scene.bed).await.unwrap();
    let rendered = crds::names::config_secret(PAIR);
    let gone = scene.kube.gone::<Secret>(NAMESPACE, &rendered, RETURN);
    gone.await.unwrap();
}
