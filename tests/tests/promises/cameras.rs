//! Every kind of camera at once: the primary's pod is killed, and every frame of every kind is there. (No power cut: the simulator's RTSP
//! server ends itself where a client with B-frames is gone without a word.)

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cameras::{Kind, Options};
use e2e::cluster::{MemberView, RETURN, Scene};
use e2e::judge::StreamVerdict;
use e2e::oracle::Heard;
use e2e::wait::now_ms;

/// Frames of two groups of pictures of the camera whose sessions have encodes of their own: one at each seam.
const TWO_GROUPS: u64 = 52;

#[tokio::test]
async fn every_kind_of_camera_loses_no_frame() {
    let options = Options::test_bed(Kind::ALL.len()).of_kinds(&Kind::ALL);
    let scene = Scene::with(options, |_| {}).await.unwrap();
    // Longer than the longest group of pictures.
    let before = scene.record(Duration::from_secs(15)).await.unwrap();
    let fault = scene.bed.kill_pod(&before.primary.pod()).await.unwrap();
    let outcome = scene.failed_over(fault, &before).await.unwrap();
    println!("another epoch is served after {} ms", outcome.serving_after_ms());
    tokio::time::sleep(Duration::from_secs(12)).await;
    let members = scene.settled(RETURN).await.unwrap();
    let end_ms = now_ms();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    for (kind, found) in Kind::ALL.into_iter().zip(&verdict.streams) {
        let whole = recorded(kind, found);
        whole.with_context(|| kind.name().to_owned()).unwrap();
    }
    let window = (before.start.at_ms as f64 / 1000.0, end_ms as f64 / 1000.0 - 2.0);
    for kind in [Kind::Aac, Kind::Pcmu, Kind::Pcma] {
        let heard = heard(&scene, kind, &members[0], before.start.at_ms, window).await;
        heard.with_context(|| kind.name().to_owned()).unwrap();
    }
}

fn recorded(kind: Kind, found: &StreamVerdict) -> Result<()> {
    ensure!(found.missing.is_empty(), "missing {:?}", found.missing);
    let unplayed = &found.canonical_missing;
    ensure!(unplayed.is_empty(), "not in the playlist {unplayed:?}");
    ensure!(found.unreadable == 0, "{} without a number", found.unreadable);
    let (doubled, disorder) = match kind {
        Kind::OwnEncodes => (TWO_GROUPS, 2),
        _ => (0, 0),
    };
    ensure!(
        found.doubled <= doubled && found.out_of_order <= disorder,
        "{} doubled, {} out of order",
        found.doubled,
        found.out_of_order
    );
    Ok(())
}

/// The sound of a stream is beside its video, on whatever one member serves.
async fn heard(
    scene: &Scene,
    kind: Kind,
    member: &MemberView,
    from_ms: u64,
    window: (f64, f64),
) -> Result<()> {
    let camera = Kind::ALL
        .iter()
        .position(|k| *k == kind)
        .context("no such camera")?;
    let stream = &scene.watched[camera].stream;
    let mut heard = Heard::default();
    for segment in member.api.segments(stream, from_ms).await? {
        heard.add(&member.api.download(stream, &segment).await?).await?;
    }
    let found = heard.within(window);
    println!("{}: {found:?}", kind.name());
    ensure!(found.silent < 0.5 && found.longest < 0.3, "{found:?}");
    Ok(())
}
