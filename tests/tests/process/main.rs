//! Two members as plain processes: what holds without a cluster, whatever dies.
#![allow(clippy::unwrap_used, reason = "a test")]

mod bad_input;
mod cameras;
mod disks;
mod kills;
mod live;
mod poison;
mod reclaim;
mod record;
mod reload;
mod standby;
mod volumes;

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::cameras::{Cameras, Options};
use e2e::judge::{Start, Verdict, judge};
use e2e::members::Pair;
use e2e::wait::until;

/// How long it may take until members do what is asked of them.
const SOON: Duration = Duration::from_secs(30);

/// Cameras and a pair that records them.
async fn recording(streams: usize) -> Result<(Cameras, Pair)> {
    let cameras = Cameras::start(Options::loopback(streams)?).await?;
    let pair = Pair::start(&cameras).await?;
    Ok((cameras, pair))
}

/// Judges both members' union and the playlist of the first one.
async fn verdict(cameras: &Cameras, pair: &Pair, start: Start) -> Result<Verdict> {
    let apis = pair.apis();
    let verdict = judge(cameras, &pair.watched(), start, &apis, &apis[0]).await?;
    println!("{verdict}");
    Ok(verdict)
}

/// Waits until one member holds authority and writes every stream, and the other one none.
async fn primary(pair: &Pair) -> Result<usize> {
    let streams = pair.stream_names().len() as f64;
    until(
        "one member writes every stream, the other none",
        SOON,
        async || {
            let mut found = Vec::new();
            for api in pair.apis() {
                let holds = api.metric("gapless_authority").await?;
                found.push((holds, api.metric("gapless_stream_writing").await?));
            }
            let (one, none) = ((Some(1.0), Some(streams)), (Some(0.0), Some(0.0)));
            let at = found.iter().position(|member| *member == one);
            let alone = found.contains(&none);
            at.filter(|_| alone)
                .map(Some)
                .with_context(|| format!("{found:?}"))
        },
    )
    .await
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}
