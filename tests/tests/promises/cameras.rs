//! Every kind of camera at once, and one whose packets come by UDP: the primary's pod is killed, and every frame of every kind is
//! there. (No power cut: the simulator's RTSP server ends itself where a client with B-frames is gone without a word.)

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crds::pair::Transport;
use e2e::cameras::{Cameras, Kind, Options};
use e2e::cluster::{MemberView, PairSpec, RETURN, Scene, stage};
use e2e::judge::StreamVerdict;
use e2e::oracle::Heard;
use e2e::wait::{now_ms, until};
use tokio::process::Command;

/// Frames of two groups of pictures of the camera whose sessions have encodes of their own: one at each seam.
const TWO_GROUPS: u64 = 52;

#[tokio::test]
async fn every_kind_of_camera_loses_no_frame() {
    let mut kinds = Kind::ALL.to_vec();
    kinds.push(Kind::H264);
    let options = Options::test_bed(kinds.len()).of_kinds(&kinds);
    let (bed, kube, kubeconfig) = stage().await.unwrap();
    let cameras = Cameras::start(options).await.unwrap();
    let url = cameras.datagram_url(Kind::ALL.len());
    let by_udp = |spec: &mut PairSpec| {
        let last = &mut spec.streams[Kind::ALL.len()];
        (last.url, last.transport) = (url, Transport::Udp);
    };
    let scene = Scene::play(bed, kube, kubeconfig, cameras, by_udp).await.unwrap();
    let state = scene.cameras.state().await.unwrap();
    let asked = state.transports(Kind::ALL.len());
    assert!(
        !asked.is_empty() && asked.iter().all(|transport| !transport.contains("TCP")),
        "{asked:?}"
    );
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
    for (kind, found) in kinds.into_iter().zip(&verdict.streams) {
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

#[tokio::test]
async fn a_camera_that_restarts_with_other_parameter_sets_is_recorded_on() {
    let options = Options::test_bed(2).of_kinds(&[Kind::Sizes]);
    let scene = Scene::with(options, |_| {}).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    scene.cameras.off(0).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.cameras.on(0).await.unwrap();
    scene.settled(RETURN).await.unwrap();
    // Nobody is connected to a camera at the moment at which it comes back; from then on nothing is lost.
    let after = scene.record(Duration::from_secs(5)).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    let [changed, other] = &verdict.streams[..] else {
        panic!("two streams")
    };
    recorded(Kind::H264, other).unwrap();
    for span in changed.missing.iter().chain(&changed.canonical_missing) {
        assert!(
            span.last < after.start.counter,
            "{span} is missing after it came back"
        );
    }
    assert_eq!((changed.doubled, changed.unreadable), (0, 0), "{changed:?}");
    let stream = &scene.watched[0].stream;
    for member in &members {
        let sizes = sizes(member, stream).await.unwrap();
        assert_eq!(sizes, ["640,360", "320,180"], "{}", member.name);
        // It is lost when the peer cannot have any of it in memory any more.
        until("the gap is known as lost", RETURN, async || {
            let gaps = member.api.timeline(stream, before.start.at_ms).await?.gaps;
            // What one member alone missed, which was there a little later, is refilled.
            let lost: Vec<_> = gaps.iter().filter(|gap| gap.state != "refilled").collect();
            let [gap] = &lost[..] else {
                bail!("not one gap: {gaps:?}")
            };
            ensure!(gap.state == "lost" && gap.cause != "Unknown", "{gap:?}");
            Ok(Some(()))
        })
        .await
        .unwrap();
    }
    scene.ensure_well(&before, &members).await.unwrap();
}

/// The sizes of the pictures in the segments that a member serves, by time, each change once.
async fn sizes(member: &MemberView, stream: &str) -> Result<Vec<String>> {
    let mut sizes = Vec::new();
    for segment in member.api.segments(stream, 0).await? {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), member.api.download(stream, &segment).await?)?;
        let args = "-loglevel error -select_streams v -show_entries stream=width,height -of csv=p=0";
        let output = Command::new("ffprobe")
            .args(args.split(' '))
            .arg(file.path())
            .output()
            .await?;
        sizes.push(String::from_utf8(output.stdout)?.trim().to_owned());
    }
    sizes.dedup();
    Ok(sizes)
}
