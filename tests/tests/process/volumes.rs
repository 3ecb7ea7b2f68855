//! A volume is lost; a byte on a volume goes bad.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::api::MemberApi;
use e2e::judge::{Start, judge};
use e2e::members::{Pair, Program};
use e2e::volume::flip_a_bit;
use e2e::wait::{now_ms, until};

use crate::{recording, seconds, verdict};

#[tokio::test]
async fn a_lost_volume_is_filled_again() {
    let (cameras, mut pair) = recording(4).await.unwrap();
    let start = Start::now(&cameras).await.unwrap();
    seconds(10).await;
    let lost = &mut pair.members[1];
    lost.kill(Program::Recorder).await.unwrap();
    lost.kill(Program::Replicator).await.unwrap();
    fs::remove_dir_all(lost.media()).unwrap();
    fs::create_dir(lost.media()).unwrap();
    seconds(2).await;
    let names = pair.stream_names();
    let before = pair.members[0].api().sealed_hashes(&names, 0).await.unwrap();

    pair.start_all().unwrap();
    pair.receiving().await.unwrap();
    // A frame from before its own session may still be in the other one's memory.
    acknowledged_until(&pair.members[0].api(), &names, now_ms())
        .await
        .unwrap();
    pair.caught_up(Duration::from_mins(1)).await.unwrap();
    let api = pair.members[1].api();
    let kept = until("what was sealed is there", Duration::from_secs(10), async || {
        let wrong = api.changed(&before).await?;
        ensure!(wrong.is_empty(), "{wrong:?}");
        Ok(Some(()))
    });
    kept.await.unwrap();

    // The refilled member alone has every frame, from the time of the lost volume too.
    pair.members[0].kill(Program::Recorder).await.unwrap();
    seconds(2).await;
    let alone = judge(&cameras, &pair.watched(), start, std::slice::from_ref(&api), &api)
        .await
        .unwrap();
    println!("{alone}");
    alone.ensure_perfect().unwrap();
}

/// What the sender of a refill said at a moment.
struct Said {
    at: Instant,
    lacks: u64,
    lag_ms: u64,
    remaining: Option<u64>,
}

/// Asks the first member until its peer lacks nothing more. Begins when the peer is connected.
async fn refilled(pair: &Pair) -> anyhow::Result<Vec<Said>> {
    let mut said = Vec::new();
    until("the refill is over", Duration::from_mins(2), async || {
        let told = pair.report(0).await?.replication;
        if !told.connected || said.is_empty() && told.backfill_bytes == 0 {
            return Ok(None);
        }
        said.push(Said {
            at: Instant::now(),
            lacks: told.backfill_bytes,
            lag_ms: told.lag_ms,
            remaining: told.backfill_seconds,
        });
        Ok((told.backfill_bytes == 0).then_some(()))
    })
    .await?;
    Ok(said)
}

#[tokio::test]
async fn a_refill_uses_what_it_is_allowed_and_leaves_live_media_alone() {
    const SECONDS: u64 = 12;
    let (_cameras, mut pair) = recording(4).await.unwrap();
    seconds(20).await;
    let lost = &mut pair.members[1];
    lost.kill(Program::Recorder).await.unwrap();
    lost.kill(Program::Replicator).await.unwrap();
    fs::remove_dir_all(lost.media()).unwrap();
    fs::create_dir(lost.media()).unwrap();
    let size = sealed_bytes(&pair.members[0].media()).unwrap();
    assert!(size > 1 << 20, "{size} bytes");
    let limit = size / SECONDS;
    pair.config.replication.backfill_bytes_per_second = Some(limit);
    pair.write_config().unwrap();
    // The file is read once a second.
    seconds(3).await;

    pair.start_all().unwrap();
    let said = refilled(&pair).await.unwrap();
    let (first, last) = (&said[0], &said[said.len() - 1]);
    let began = said.iter().find(|next| next.lacks < first.lacks).unwrap();
    assert!(began.at - first.at < Duration::from_secs(10));
    let share = (first.lacks - last.lacks) as f64 / (last.at - first.at).as_secs_f64() / limit as f64;
    let mut lags: Vec<u64> = said.iter().map(|said| said.lag_ms).collect();
    lags.sort_unstable();
    let (median, most) = (lags[lags.len() / 2], lags[lags.len() - 1]);
    println!(
        "{} of {size} bytes in {:?}, {share:.2} of the limit; live lag {median} ms, at most {most} ms",
        first.lacks,
        last.at - first.at
    );
    assert!((0.8..1.1).contains(&share), "{share}");
    assert!(median < 500, "{lags:?}");
    let told: Vec<u64> = said.iter().filter_map(|said| said.remaining).collect();
    assert!(told.iter().all(|left| *left <= 2 * SECONDS), "{told:?}");
    assert!(told.first() > told.last(), "{told:?}");
}

/// Bytes of all sealed segments of a volume.
fn sealed_bytes(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            bytes += sealed_bytes(&entry.path())?;
        } else if entry.path().extension().is_some_and(|kind| kind == "mp4") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// Waits until the peer of `writer` has acknowledged what was written of each stream up to a moment, Unix milliseconds.
async fn acknowledged_until(writer: &MemberApi, streams: &[String], ms: u64) -> anyhow::Result<()> {
    let what = "all that was written is acknowledged";
    until(what, Duration::from_mins(1), async || {
        for stream in streams {
            let end = writer.timeline(stream, ms).await?.acknowledged_end;
            let end: jiff::Timestamp = end.context("nothing is acknowledged")?.parse()?;
            ensure!(
                end.as_millisecond() >= i64::try_from(ms)?,
                "{stream}: only until {end}"
            );
        }
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn a_corrupted_segment_is_refused() {
    let (cameras, mut pair) = recording(2).await.unwrap();
    let start = Start::now(&cameras).await.unwrap();
    seconds(4).await;
    // With no replicator the first member begins segments of which the second one cannot have a byte. Of one that was begun
    // before, the second one keeps its own good beginning, and there is nothing to refuse.
    pair.members[0].kill(Program::Replicator).await.unwrap();
    let first = pair.members[0].api();
    let begun = begun_segments(&first, &pair.stream_names()).await.unwrap();
    let (stream, id) = until(
        "a segment that only one member has",
        Duration::from_secs(20),
        async || {
            let sealed = first.sealed_hashes(&pair.stream_names(), 0).await?;
            Ok(sealed.into_keys().find(|key| !begun.contains(key)))
        },
    )
    .await
    .unwrap();
    flip_a_bit(&pair.members[0].media(), &id).unwrap();
    pair.start_all().unwrap();

    until("it is refused", Duration::from_secs(20), async || {
        let refusal = pair
            .report(1)
            .await?
            .replication
            .last_refusal
            .context("nothing is refused")?;
        ensure!(
            refusal.segment.contains(&id) && refusal.stream == stream,
            "{refusal:?}"
        );
        Ok(Some(()))
    })
    .await
    .unwrap();
    let second = pair.members[1].api();
    let served = second.segments(&stream, 0).await.unwrap();
    assert!(
        served
            .iter()
            .all(|segment| segment.id != id || segment.state != "sealed")
    );
    seconds(4).await;
    let apis = std::slice::from_ref(&second);
    judge(&cameras, &pair.watched(), start, apis, &second)
        .await
        .unwrap()
        .ensure_perfect()
        .unwrap();
    refusal_goes_no_further(&cameras, &pair).await;
}

/// Each segment that a member has, sealed or not, by stream and identity.
async fn begun_segments(
    member: &MemberApi,
    streams: &[String],
) -> anyhow::Result<BTreeSet<(String, String)>> {
    let mut begun = BTreeSet::new();
    for stream in streams {
        let segments = member.segments(stream, 0).await?;
        begun.extend(segments.into_iter().map(|segment| (stream.clone(), segment.id)));
    }
    Ok(begun)
}

/// The rest of the media goes on being replicated.
async fn refusal_goes_no_further(cameras: &e2e::cameras::Cameras, pair: &Pair) {
    let start = Start::now(cameras).await.unwrap();
    seconds(5).await;
    verdict(cameras, pair, start)
        .await
        .unwrap()
        .ensure_perfect()
        .unwrap();
}
