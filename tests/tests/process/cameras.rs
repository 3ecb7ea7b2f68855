//! Every kind of camera: recorded, spliced where a member died, and judged.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::pair::{Audio, Transport};
use e2e::cameras::{Cameras, Kind, Options, State};
use e2e::judge::{Start, StreamVerdict};
use e2e::members::{Pair, Program};
use e2e::oracle::Heard;
use e2e::wait::{now_ms, until};
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
    let ended_ms = now_ms() - OWN_GROUP * 40;
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    pair.caught_up(Duration::from_secs(30)).await.unwrap();
    for (kind, found) in Kind::ALL.into_iter().zip(&verdict.streams) {
        let judged = match kind {
            Kind::OwnEncodes => spliced(&pair, found, start, ended_ms).await,
            _ => once(&pair, found, start).await,
        };
        judged.with_context(|| kind.name().to_owned()).unwrap();
        no_phantoms(&pair, &found.stream, start)
            .await
            .with_context(|| kind.name().to_owned())
            .unwrap();
        in_order(&pair, &found.stream)
            .await
            .with_context(|| kind.name().to_owned())
            .unwrap();
    }
}

/// Nothing is missing.
fn whole(found: &StreamVerdict) -> Result<()> {
    ensure!(found.missing.is_empty(), "missing {:?}", found.missing);
    let unplayed = &found.canonical_missing;
    ensure!(unplayed.is_empty(), "not in the playlist {unplayed:?}");
    ensure!(found.unreadable == 0, "{} without a number", found.unreadable);
    Ok(())
}

/// Every frame is there once, and nothing says otherwise.
async fn once(pair: &Pair, found: &StreamVerdict, start: Start) -> Result<()> {
    whole(found)?;
    ensure!((found.doubled, found.out_of_order) == (0, 0), "{found:?}");
    let timeline = pair.members[0].api().timeline(&found.stream, start.at_ms).await?;
    let marked: Vec<u64> = timeline.spans.iter().filter_map(marked_us).collect();
    ensure!(marked.is_empty(), "marked as doubled for {marked:?} us");
    Ok(())
}

/// Of encodes that begin their groups at other frames, nothing is missing, and what is doubled where one goes on for the other is
/// marked. Both still write, and the newest group is of whoever was a moment ahead when it was asked for: what is doubled and what is
/// marked are compared up to a time at which both have every group.
async fn spliced(pair: &Pair, found: &StreamVerdict, start: Start, ended_ms: u64) -> Result<()> {
    whole(found)?;
    let api = pair.members[0].api();
    let timeline = api.timeline_between(&found.stream, start.at_ms, ended_ms).await?;
    let (_, played) = api.canonical(&found.stream, start.at_ms, ended_ms).await?;
    let marked: Vec<u64> = timeline.spans.iter().filter_map(marked_us).collect();
    let limit = (OWN_GROUP + 1) * 40_000;
    ensure!(
        marked.len() <= 2 && marked.iter().all(|us| *us <= limit),
        "doubled for {marked:?} us"
    );
    // How long is by the clocks of two sessions: what arrives is looked at each 20 ms, so they may be more than a frame apart.
    let most = marked.iter().sum::<u64>() / 40_000 + 2 * marked.len() as u64;
    ensure!(
        played.surplus() <= most,
        "{} doubled, marked {marked:?} us",
        played.surplus()
    );
    ensure!(
        played.out_of_order.len() <= marked.len(),
        "out of order: {:?}, marked {marked:?} us",
        played.out_of_order
    );
    Ok(())
}

/// There is no gap that was none. Nothing is missing, so what is listed is what this member alone did not receive, while it was dead;
/// and it is refilled, as soon as the two have told each other so.
async fn no_phantoms(pair: &Pair, stream: &str, start: Start) -> Result<()> {
    let api = pair.members[0].api();
    until("no gap is a phantom", Duration::from_secs(20), async || {
        let gaps = api.timeline(stream, start.at_ms).await?.gaps;
        let real = |gap: &e2e::api::Gap| gap.state == "refilled" && gap.cause == "RecorderRestart";
        let phantoms: Vec<_> = gaps.iter().filter(|gap| !real(gap)).collect();
        ensure!(phantoms.is_empty(), "phantom gaps {phantoms:?}");
        Ok(Some(()))
    })
    .await
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
async fn sound_is_beside_the_video_whatever_member_dies() {
    let kinds = [
        (Kind::Aac, "aac"),
        (Kind::Pcmu, "pcm_mulaw"),
        (Kind::Pcma, "pcm_alaw"),
    ];
    let options = Options::loopback(kinds.len())
        .unwrap()
        .of_kinds(&kinds.map(|(kind, _)| kind));
    let cameras = Cameras::start(options).await.unwrap();
    let mut pair = Pair::start(&cameras).await.unwrap();
    seconds(3).await;
    let start = Start::now(&cameras).await.unwrap();
    seconds(5).await;
    for target in [0, 1] {
        pair.members[target].kill(Program::Recorder).await.unwrap();
        pair.members[target].kill(Program::Replicator).await.unwrap();
        seconds(3).await;
        pair.start_all().unwrap();
        pair.receiving().await.unwrap();
        seconds(5).await;
    }
    pair.caught_up(Duration::from_secs(30)).await.unwrap();
    let end_s = now_ms() as f64 / 1000.0;
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    verdict.ensure_perfect().unwrap();
    let window = (start.at_ms as f64 / 1000.0, end_s - 2.0);
    // What one member serves, now the first and now the other, whoever wrote it.
    let apis = pair.apis();
    for (camera, ((kind, codec), api)) in kinds.into_iter().zip(apis.iter().cycle()).enumerate() {
        let stream = format!("cam-{camera}");
        let mut heard = Heard::default();
        for segment in api.segments(&stream, start.at_ms).await.unwrap() {
            heard
                .add(&api.download(&stream, &segment).await.unwrap())
                .await
                .unwrap();
        }
        let found = heard.within(window);
        println!("{}: {found:?}", kind.name());
        assert_eq!(found.codecs, [codec]);
        assert!(found.pictures > 15.0, "{}: {found:?}", kind.name());
        assert!(
            found.silent < 0.5 && found.longest < 0.3,
            "{}: {found:?}",
            kind.name()
        );
        plays_with_and_without(&pair, &stream, start).await.unwrap();
    }
}

/// A playlist has sound where it is asked for, and none else: a browser would refuse G.711.
async fn plays_with_and_without(pair: &Pair, stream: &str, start: Start) -> Result<()> {
    let mut url = pair.members[0]
        .api()
        .playlist_url(stream, start.at_ms, Some(now_ms()))?;
    for (audio, kinds) in [(None, "video"), (Some("true"), "audio,video")] {
        if let Some(audio) = audio {
            url.query_pairs_mut().append_pair("audio", audio);
        }
        let args = [
            "-loglevel",
            "error",
            "-show_entries",
            "stream=codec_type",
            "-of",
            "csv=p=0",
        ];
        let output = Command::new("ffprobe")
            .args(args)
            .arg(url.as_str())
            .output()
            .await?;
        let text = String::from_utf8(output.stdout)?;
        let mut found: Vec<&str> = text
            .split_whitespace()
            .map(|line| line.trim_end_matches(','))
            .collect();
        found.sort_unstable();
        found.dedup();
        ensure!(found.join(",") == kinds, "{stream} with {audio:?}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_whose_sound_is_ignored_has_none() {
    let options = Options::loopback(1).unwrap().of_kinds(&[Kind::Pcmu]);
    let cameras = Cameras::start(options).await.unwrap();
    let pair = Pair::start_with(&cameras, |stream| stream.audio = Audio::Ignore)
        .await
        .unwrap();
    let start = Start::now(&cameras).await.unwrap();
    seconds(5).await;
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    verdict.ensure_perfect().unwrap();
    let api = pair.members[0].api();
    let info = api.stream("cam-0").await.unwrap();
    assert!(info.error.is_none(), "nobody is warned of it: {info:?}");
    let mut heard = Heard::default();
    for segment in api.segments("cam-0", 0).await.unwrap() {
        heard
            .add(&api.download("cam-0", &segment).await.unwrap())
            .await
            .unwrap();
    }
    let found = heard.within((0.0, f64::MAX));
    assert!(found.codecs.is_empty() && found.pictures > 4.0, "{found:?}");
    assert_eq!(
        cameras.state().await.unwrap().transports(0).len(),
        2,
        "one SETUP each"
    );
}

#[tokio::test]
async fn sound_that_nobody_can_read_is_given_up_and_the_video_is_not() {
    let options = Options::loopback(1).unwrap().of_kinds(&[Kind::BrokenAac]);
    let cameras = Cameras::start(options).await.unwrap();
    let pair = Pair::start(&cameras).await.unwrap();
    // Each tried it once, before it had a frame or soon after, and never again.
    let given_up = async || Ok((cameras.state().await?.transports(0).len() >= 6).then_some(()));
    until("both go without sound", Duration::from_secs(20), given_up)
        .await
        .unwrap();
    pair.receiving().await.unwrap();
    seconds(2).await;
    let start = Start::now(&cameras).await.unwrap();
    seconds(6).await;
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    verdict.ensure_perfect().unwrap();
    let transports = cameras.state().await.unwrap().transports(0).len();
    assert_eq!(transports, 6, "two tracks, then one, of each member");
}

#[tokio::test]
async fn lost_packets_are_gaps_of_exactly_the_frames_that_lack_them() {
    five_lost_packets(Transport::Tcp).await.unwrap();
}

#[tokio::test]
async fn lost_datagrams_are_gaps_of_exactly_the_frames_that_lack_them() {
    let state = five_lost_packets(Transport::Udp).await.unwrap();
    let transports = state.transports(0);
    let datagrams =
        |transport: &String| transport.contains("client_port") && !transport.contains("interleaved");
    assert!(transports.iter().all(datagrams), "{transports:?}");
}

/// Five packets are sent to neither member.
async fn five_lost_packets(transport: Transport) -> Result<State> {
    let cameras = Cameras::start(Options::loopback(1)?).await?;
    let pair = Pair::start_with(&cameras, |stream| stream.transport = transport).await?;
    seconds(3).await;
    let start = Start::now(&cameras).await?;
    seconds(2).await;
    let sessions = cameras.state().await?.transports(0).len();
    cameras.lose(0, 5).await?;
    until_lost(&cameras, 5).await?;
    seconds(3).await;
    let verdict = verdict(&cameras, &pair, start).await?;
    let state = cameras.state().await?;
    let missing: Vec<u64> = verdict.streams[0]
        .missing
        .iter()
        .flat_map(|s| s.first..=s.last)
        .collect();
    ensure!(
        missing == state.dropped(0),
        "missing {missing:?}, lost {:?}",
        state.dropped(0)
    );
    ensure!(state.transports(0).len() == sessions, "somebody connected again");
    for api in pair.apis() {
        let gaps = api.timeline("cam-0", start.at_ms).await?.gaps;
        let real = |gap: &e2e::api::Gap| gap.cause == "PacketLoss" && gap.state != "refilled";
        let frames: Option<u64> = gaps.iter().map(|gap| gap.frames).sum();
        ensure!(gaps.iter().all(real) && frames == Some(5), "{gaps:?}");
    }
    // When neither member can still have them in memory, they are lost.
    for api in pair.apis() {
        until("the frames are lost", Duration::from_mins(1), async || {
            let gaps = api.timeline("cam-0", start.at_ms).await?.gaps;
            ensure!(gaps.iter().all(|gap| gap.state == "lost"), "{gaps:?}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(state)
}

async fn until_lost(cameras: &Cameras, packets: usize) -> Result<()> {
    until("the packets are lost", Duration::from_secs(20), async || {
        Ok((cameras.state().await?.dropped(0).len() == packets).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_datagram_that_one_member_missed_is_filled_from_the_other() {
    let options = Options::loopback(1).unwrap().of_kinds(&[Kind::Apart]);
    let cameras = Cameras::start(options).await.unwrap();
    let pair = Pair::start_with(&cameras, |stream| stream.transport = Transport::Udp)
        .await
        .unwrap();
    seconds(3).await;
    let start = Start::now(&cameras).await.unwrap();
    seconds(2).await;
    for session in [0, 1] {
        let lost = cameras.state().await.unwrap().dropped(0).len();
        cameras.lose_in(0, session, 3).await.unwrap();
        until_lost(&cameras, lost + 3).await.unwrap();
        // A playlist takes one member's copy of a group of pictures: no group lacks frames on both.
        seconds(3).await;
    }
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    verdict.ensure_perfect().unwrap();
    // Each says what it missed itself, and that it has it now.
    let mut frames = 0;
    for api in pair.apis() {
        let gaps = until("its gaps are refilled", Duration::from_secs(20), async || {
            let gaps = api.timeline("cam-0", start.at_ms).await?.gaps;
            let refilled = |gap: &e2e::api::Gap| gap.cause == "PacketLoss" && gap.state == "refilled";
            ensure!(!gaps.is_empty() && gaps.iter().all(refilled), "{gaps:?}");
            Ok(Some(gaps))
        });
        let missed: Option<u64> = gaps.await.unwrap().iter().map(|gap| gap.frames).sum();
        frames += missed.unwrap_or_default();
    }
    assert_eq!(frames, 6, "no phantom");
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
