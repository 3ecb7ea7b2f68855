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

use anyhow::Result;
use e2e::cameras::{Cameras, Options};
use e2e::judge::{Start, Verdict, judge};
use e2e::members::Pair;

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

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}
