//! The promises of the README, one file each, on a real cluster. They take the cluster for themselves, so they run one
//! after the other: `make promises`, or `make promises PROMISE=failover`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod adoption;
mod alarms;
mod api_gone;
mod bad_input;
mod cameras;
mod clocks;
mod corruption;
mod disks;
mod drain;
mod failback;
mod failover;
mod faults;
mod helm;
mod leader;
mod live;
mod many_streams;
mod partition;
mod playback;
mod reload;
mod replication;
mod rest;
mod standby;
mod streams;
mod update;

use std::time::Duration;

use e2e::cluster::MemberView;

/// As many streams as the promises speak of.
const STREAMS: usize = 4;

/// Pods of both members, and how often their containers were started again.
fn pods(members: &[MemberView; 2]) -> Vec<(String, String, i32)> {
    let pod = |view: &MemberView| (view.name.clone(), view.pod_uid.clone(), view.restarts);
    let mut pods: Vec<_> = members.iter().map(pod).collect();
    pods.sort();
    pods
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}
