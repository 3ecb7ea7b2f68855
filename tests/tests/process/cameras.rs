//! Every kind of camera: recorded, spliced where a member died, and judged.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::api::Timeline;
use e2e::cameras::{Cameras, Kind, Options};
use e2e::judge::{Start, StreamVerdict};
use e2e::members::{Pair, Program};
use e2e::wait::until;
use tokio::process::Command;

use crate::{seconds, verdict};

/// Frames of a group of pictures of the camera whose sessions have encodes of their own.
const OWN_GROUP: u64 = 25;

#[tokio::test]
async fn every_kind_is_spliced_without_a_hole() {
    let options = Options::loopback(Kind::ALL.len()).unwrap().of_kinds(&Kind::ALL);
    let cameras = Cameras::start(options).await.unwrap();
    let mut pair = Pair::start(&cameras).await.unwrap();
    // Both have begun with a key frame of each: one comes after 12 s at most.
    seconds(13).await;
    let start = Start::now(&cameras).await.unwrap();
    seconds(5).await;
    for target in [0, 1] {
        pair.members[target].kill(Program::Recorder).await.unwrap();
        pair.members[target].kill(Program::Replicator).await.unwrap();
        seconds(3).await;
        pair.start_all().unwrap();
        pair.receiving().await.unwrap();
        seconds(13).await;
    }
    pair.caught_up(Duration::from_secs(30)).await.unwrap();
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    for (kind, found) in Kind::ALL.into_iter().zip(&verdict.streams) {
        let timeline = pair.members[0]
            .api()
            .timeline(&found.stream, start.at_ms)
            .await
            .unwrap();
        println!("{}: {:?}", kind.name(), timeline.gaps);
        let judged = recorded(kind, found, &timeline);
        judged.with_context(|| kind.name().to_owned()).unwrap();
        in_order(&pair, &found.stream)
            .await
            .with_context(|| kind.name().to_owned())
            .unwrap();
    }
}

/// Nothing is missing, what is doubled is marked, and there is no gap that was none.
fn recorded(kind: Kind, found: &StreamVerdict, timeline: &Timeline) -> Result<()> {
    ensure!(found.missing.is_empty(), "missing {:?}", found.missing);
    let unplayed = &found.canonical_missing;
    ensure!(unplayed.is_empty(), "not in the playlist {unplayed:?}");
    ensure!(found.unreadable == 0, "{} without a number", found.unreadable);
    let marked: Vec<u64> = timeline.spans.iter().filter_map(marked_us).collect();
    if kind == Kind::OwnEncodes {
        let limit = (OWN_GROUP + 1) * 40_000;
        ensure!(
            marked.len() <= 2 && marked.iter().all(|us| *us <= limit),
            "doubled for {marked:?} us"
        );
        let most = marked.iter().sum::<u64>() / 40_000 + marked.len() as u64;
        ensure!(
            found.doubled <= most,
            "{} doubled, marked {marked:?} us",
            found.doubled
        );
        ensure!(
            found.out_of_order <= marked.len(),
            "{} out of order",
            found.out_of_order
        );
    } else {
        ensure!((found.doubled, found.out_of_order) == (0, 0), "{found:?}");
        ensure!(marked.is_empty(), "marked as doubled for {marked:?} us");
    }
    // Nothing is missing, so what is listed is what this member alone did not receive: while it was dead.
    let real = |gap: &e2e::api::Gap| gap.state == "refilled" && gap.cause == "RecorderRestart";
    let phantoms: Vec<_> = timeline.gaps.iter().filter(|gap| !real(gap)).collect();
    ensure!(phantoms.is_empty(), "phantom gaps {phantoms:?}");
    Ok(())
}

/// For how long a span of the timeline says that it shows what the one before shows, microseconds.
fn marked_us(span: &serde_json::Value) -> Option<u64> {
    span["overlaps"].as_bool().filter(|overlaps| *overlaps)?;
    span["overlapUs"].as_u64()
}

/// Asks ffprobe, which decodes: each sealed segment has decoding times that rise, and pictures whose times rise in the order
/// in which they are shown.
async fn in_order(pair: &Pair, stream: &str) -> Result<()> {
    let api = pair.members[0].api();
    let sealed = api
        .segments(stream, 0)
        .await?
        .into_iter()
        .filter(|s| s.state == "sealed");
    let mut judged = 0;
    for segment in sealed.take(4) {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), api.download(stream, &segment).await?)?;
        for entry in ["packet=dts", "frame=pts"] {
            let times = probe(file.path(), entry).await?;
            let wrong = times.windows(2).position(|pair| pair[0] >= pair[1]);
            ensure!(
                wrong.is_none(),
                "{}: {entry} does not rise: {times:?}",
                segment.id
            );
            judged += times.len();
        }
    }
    ensure!(judged > 50, "{judged} times to judge");
    Ok(())
}

async fn probe(file: &std::path::Path, entry: &str) -> Result<Vec<i64>> {
    let args = [
        "-loglevel",
        "quiet",
        "-select_streams",
        "v",
        "-show_entries",
        entry,
        "-of",
        "csv=p=0",
    ];
    let output = Command::new("ffprobe").args(args).arg(file).output().await?;
    ensure!(output.status.success(), "ffprobe: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let first = |line: &str| line.split(',').next().map(|time| time.trim().parse());
    Ok(text
        .lines()
        .filter(|line| !line.is_empty())
        .filter_map(first)
        .collect::<Result<_, _>>()?)
}

#[tokio::test]
async fn lost_packets_are_gaps_of_exactly_the_frames_that_lack_them() {
    let cameras = Cameras::start(Options::loopback(1).unwrap()).await.unwrap();
    let pair = Pair::start(&cameras).await.unwrap();
    seconds(3).await;
    let start = Start::now(&cameras).await.unwrap();
    seconds(2).await;
    cameras.lose(0, 5).await.unwrap();
    let all_lost = async || Ok((cameras.state().await?.dropped(0).len() == 5).then_some(()));
    until("five packets are lost", Duration::from_secs(20), all_lost)
        .await
        .unwrap();
    seconds(3).await;
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    let state = cameras.trusted_state().await.unwrap();
    let missing: Vec<u64> = verdict.streams[0]
        .missing
        .iter()
        .flat_map(|s| s.first..=s.last)
        .collect();
    assert_eq!(missing, state.dropped(0));
    for api in pair.apis() {
        let gaps = api.timeline("cam-0", start.at_ms).await.unwrap().gaps;
        assert!(
            gaps.iter()
                .all(|gap| gap.cause == "PacketLoss" && gap.state != "refilled"),
            "{gaps:?}"
        );
        let frames: Option<u64> = gaps.iter().map(|gap| gap.frames).sum();
        assert_eq!(frames, Some(5), "{gaps:?}");
    }
    assert_eq!(state.transports(0).len(), 2, "nobody connected again");
    // When neither member can still have them in memory, they are lost.
    for api in pair.apis() {
        until("the frames are lost", Duration::from_secs(60), async || {
            let gaps = api.timeline("cam-0", start.at_ms).await?.gaps;
            ensure!(gaps.iter().all(|gap| gap.state == "lost"), "{gaps:?}");
            Ok(Some(()))
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_camera_that_is_silent_now_is_a_gap_without_an_end() {
    let cameras = Cameras::start(Options::loopback(1).unwrap()).await.unwrap();
    let pair = Pair::start(&cameras).await.unwrap();
    seconds(3).await;
    let start = Start::now(&cameras).await.unwrap();
    seconds(2).await;
    cameras.freeze(0).await.unwrap();
    for api in pair.apis() {
        until("the gap is listed", Duration::from_secs(5), async || {
            let gaps = api.timeline("cam-0", start.at_ms).await?.gaps;
            ensure!(
                gaps.len() == 1 && gaps[0].end.is_none() && gaps[0].state == "open",
                "{gaps:?}"
            );
            Ok(Some(()))
        })
        .await
        .unwrap();
    }
    cameras.thaw(0).await.unwrap();
    pair.receiving().await.unwrap();
    for api in pair.apis() {
        until("the gap has an end", Duration::from_secs(20), async || {
            let gaps = api.timeline("cam-0", start.at_ms).await?.gaps;
            ensure!(
                !gaps.is_empty() && gaps.iter().all(|gap| gap.end.is_some()),
                "{gaps:?}"
            );
            Ok(Some(()))
        })
        .await
        .unwrap();
    }
}
