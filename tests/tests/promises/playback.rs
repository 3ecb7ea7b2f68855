//! What a viewer of the new primary sees over the seam: ffmpeg plays each frame once, and a browser plays without a break.

use std::time::Duration;

use e2e::cluster::Scene;
use e2e::judge::{Start, ffmpeg_agrees};
use e2e::oracle::Span;
use e2e::{browser, wait};

use crate::{STREAMS, seconds};

/// How often the browser may decode late while it plays at four times the speed, beside a cluster on the same two cores.
const SLOW: u32 = 5;

#[tokio::test]
async fn players_play_over_the_seam() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let kill =
        async |scene: &Scene, before: &e2e::cluster::Before| scene.bed.kill_pod(&before.primary.pod()).await;
    let report = scene.fail_over(kill, async |_, _| Ok(())).await.unwrap();
    let Start { counter, at_ms, .. } = report.before.start;
    let window = Span {
        first: counter,
        last: report.verdict.last_expected().unwrap(),
    };
    let to_ms = wait::now_ms();
    seconds(2).await;
    let viewer = &report.members[0].api;
    let watched = &scene.watched[0];
    let state = scene.cameras.state().await.unwrap();
    ffmpeg_agrees(viewer, watched, &state, window, (at_ms - 5_000, to_ms + 2_000))
        .await
        .unwrap();

    // What is live now, on the standby too.
    for member in &report.members {
        let page = member.api.watch_url(&watched.stream).unwrap();
        let live = browser::watch(&page, Duration::from_secs(4)).await.unwrap();
        println!("  browser, live: {live:?}");
        assert!(live.state == "live" && live.errors.is_empty(), "{live:?}");
        assert!(live.to_s - live.from_s > 3.0, "{live:?}");
    }

    let url = viewer.playlist_url(&watched.stream, at_ms, Some(to_ms)).unwrap();
    let screenshot = std::env::temp_dir().join("gapless-seam.png");
    let shown = browser::play(&url, &screenshot).await.unwrap();
    println!("  browser: {shown:?}, picture in {}", screenshot.display());
    assert!(shown.ended && shown.errors.is_empty(), "{:?}", shown.errors);
    assert!(shown.slow <= SLOW, "the picture stood still {} times", shown.slow);
    assert_eq!(
        shown.buffered.len(),
        1,
        "one piece, without a break: {:?}",
        shown.buffered
    );
    let (from, to) = shown.buffered[0];
    let expected = window.frames() as f64 / 25.0;
    assert!(
        to - from >= expected - 1.0,
        "{} s of {expected} s can be played",
        to - from
    );
}
