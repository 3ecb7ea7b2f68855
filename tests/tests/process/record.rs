//! Both members record, and each gets the other's media.

use std::time::Duration;

use e2e::judge::{Start, ffmpeg_agrees, judge};
use e2e::oracle::Span;
use e2e::wait::{now_ms, until};

use crate::{recording, seconds, verdict};

#[tokio::test]
async fn both_record_and_replicate_every_frame() {
    let (cameras, pair) = recording(4).await.unwrap();
    seconds(1).await;
    let start = Start::now(&cameras).await.unwrap();
    seconds(12).await;
    verdict(&cameras, &pair, start)
        .await
        .unwrap()
        .ensure_perfect()
        .unwrap();

    // Each alone has all of it too, and serves the same to an outside player.
    let state = cameras.state().await.unwrap();
    for api in pair.apis() {
        let only = std::slice::from_ref(&api);
        let alone = judge(&cameras, &pair.watched(), start, only, &api).await.unwrap();
        alone.ensure_perfect().unwrap();
        let window = Span {
            first: start.counter,
            last: state.counter - 1,
        };
        let times = (start.at_ms - 2_000, now_ms());
        ffmpeg_agrees(&api, &pair.watched()[0], &state, window, times)
            .await
            .unwrap();
    }

    // What one sealed, the other has with the same hash.
    let names = pair.stream_names();
    pair.caught_up(Duration::from_secs(20)).await.unwrap();
    let [first, second] = pair.apis();
    let (of_first, of_second) = (
        first.sealed_hashes(&names, 0).await.unwrap(),
        second.sealed_hashes(&names, 0).await.unwrap(),
    );
    assert!(of_first.len() >= 16, "{}", of_first.len());
    for (api, hashes) in [(&second, &of_first), (&first, &of_second)] {
        until(
            "sealed segments are replicated",
            Duration::from_secs(10),
            async || {
                let wrong = api.changed(hashes).await?;
                anyhow::ensure!(wrong.is_empty(), "{wrong:?}");
                Ok(Some(()))
            },
        )
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn what_the_camera_did_not_send_is_a_gap_with_a_cause() {
    let (cameras, pair) = recording(2).await.unwrap();
    let start = Start::now(&cameras).await.unwrap();
    seconds(4).await;
    cameras.off(1).await.unwrap();
    seconds(4).await;
    cameras.on(1).await.unwrap();
    pair.receiving().await.unwrap();
    seconds(4).await;
    // Whole frames that the camera pushed just before or after its absence, but to nobody, are not the pair's loss.
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    assert!(verdict.streams[0].missing.is_empty());
    let gaps = pair.members[0]
        .api()
        .timeline("cam-1", start.at_ms)
        .await
        .unwrap()
        .gaps;
    assert!(
        !gaps.is_empty() && gaps.iter().all(|gap| !gap.cause.is_empty()),
        "{gaps:?}"
    );
    let none = pair.members[0]
        .api()
        .timeline("cam-0", start.at_ms)
        .await
        .unwrap()
        .gaps;
    assert!(none.is_empty(), "{none:?}");
}
