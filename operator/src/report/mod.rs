//! Status, conditions and events: a pure function from what was seen and what became of the effects.

mod conditions;
mod events;
mod failovers;
mod problems;
#[cfg(test)]
mod tests;

use crds::member::{MemberReport, ReplicationReport, StreamState};
use crds::pair::{
    FailingStream, MAX_FAILING, MemberStatus, MovedStream, Phase, RecorderPairStatus, RefillStatus, Role,
    StreamGaps, StreamsStatus,
};
use failover::StoreId;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

pub use events::{Note, RECONCILE, notes};
pub use failovers::reached;

use crate::apply::Progress;
use crate::build::Built;
use crate::coarse;
use crate::lag;
use crate::problem::Problem;
use crate::world::World;

/// So many characters of a word that a member says are shown.
const MAX_WORD: usize = 64;

/// What is known at the end of a reconcile.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What exists.
    pub world: &'a World,
    /// What was built.
    pub built: &'a Built,
    /// What is wrong with the request, or was refused by the API server.
    pub problems: &'a [Problem],
    /// How far the effects came.
    pub progress: Progress,
}

/// The status that says all this. What did not change keeps its times, so that it is written only when it differs.
pub fn status(known: Known<'_>, now: Timestamp) -> RecorderPairStatus {
    let world = known.world;
    let before = world.pair.status.clone().unwrap_or_default();
    let members: Vec<MemberStatus> = world
        .members()
        .into_iter()
        .map(|name| member(world, &before, name))
        .collect();
    let streams = streams(world, before.streams.as_ref());
    let mut problems = known.problems.to_vec();
    problems.extend(problems::observed(world, &members));
    problems.sort();
    problems.dedup();
    let epoch = world.view.lease.as_ref().map(|lease| signed(lease.epoch.0));
    RecorderPairStatus {
        observed_generation: world.pair.metadata.generation,
        conditions: conditions::conditions(known, &members, &problems, &before.conditions, now),
        epoch: epoch.or(before.epoch),
        highest_epoch: epoch.max(before.highest_epoch),
        streams: Some(streams),
        replication_lag: Some(lag_of(world).to_owned()),
        failovers: failovers::failovers(world, &members, before.failovers, now),
        members,
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn member(world: &World, before: &RecorderPairStatus, name: String) -> MemberStatus {
    let pod = world.pods.get(&name);
    let report = world.view.fresh(&name);
    let known = before.members.iter().find(|member| member.name == name);
    let store = report.and_then(|report| StoreId::new(&report.store).ok());
    MemberStatus {
        role: report.map_or(Role::None, |report| role(report.role)),
        pod: pod.and_then(|pod| pod.metadata.name.clone()),
        node: pod.and_then(|pod| pod.spec.as_ref()?.node_name.clone()),
        phase: phase(pod, report, world.view.replication_to(&name)),
        refill: world.view.replication_to(&name).and_then(refill),
        store: store.map_or_else(|| known?.store.clone(), |store| Some(store.to_string())),
        name,
    }
}

/// How far a member is, by the word of the one that sends.
fn refill(sending: &ReplicationReport) -> Option<RefillStatus> {
    let lacks = coarse::percent(sending.backfill_bytes, sending.backfill_of)?;
    Some(RefillStatus {
        percent: 100 - i32::try_from(lacks).unwrap_or(100),
        remaining_seconds: sending
            .backfill_seconds
            .map(|seconds| signed(coarse::remaining(seconds))),
    })
}

fn role(role: crds::member::Role) -> Role {
    match role {
        crds::member::Role::Primary => Role::Primary,
        crds::member::Role::Standby => Role::Standby,
        crds::member::Role::None => Role::None,
    }
}

fn phase(pod: Option<&Pod>, report: Option<&MemberReport>, sending: Option<&ReplicationReport>) -> Phase {
    let Some(pod) = pod else { return Phase::Pending };
    if pod.metadata.deletion_timestamp.is_some() {
        return Phase::Terminating;
    }
    let pod_phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let lacks = sending.is_some_and(|sending| sending.backfill_bytes > 0);
    match (pod_phase, report) {
        (_, Some(report)) if !report.fit => Phase::Unfit,
        (_, Some(report)) if lacks && report.role != crds::member::Role::Primary => Phase::CatchingUp,
        (_, Some(_)) => Phase::Running,
        (Some("Running"), None) => Phase::Unreachable,
        _ => Phase::Pending,
    }
}

/// A stream fails where no member receives it, and is listed where any member cannot.
fn streams(world: &World, before: Option<&StreamsStatus>) -> StreamsStatus {
    let mut status = StreamsStatus {
        total: i32::try_from(world.pair.spec.streams.len()).unwrap_or(i32::MAX),
        ..StreamsStatus::default()
    };
    for stream in &world.pair.spec.streams {
        let receives = problems::stream_reports(world, &stream.name)
            .any(|(_, report)| report.state == StreamState::Receiving);
        let failing = problems::stream(world, &stream.name);
        status.receiving += i32::from(receives);
        status.failed += i32::from(!receives && failing.is_some());
        status
            .failing
            .extend(failing.map(|(code, problem)| FailingStream {
                name: stream.name.clone(),
                reason: code,
                message: problem.message,
            }));
    }
    status.failing.truncate(MAX_FAILING);
    match (world.view.primary(), before) {
        (Some(primary), _) => {
            moved(world, primary, &mut status);
            gaps(world, primary, &mut status);
        }
        (None, Some(before)) => as_told(world, before, &mut status),
        (None, None) => {}
    }
    status.summary = format!("{}/{}", status.receiving, status.total);
    status
}

fn is_asked(world: &World, stream: &str) -> bool {
    world.pair.spec.streams.iter().any(|asked| asked.name == stream)
}

/// What a primary told last, while none answers: no stream has come back because of that.
fn as_told(world: &World, before: &StreamsStatus, status: &mut StreamsStatus) {
    let moved = before.moved.iter().filter(|moved| is_asked(world, &moved.name));
    status.moved = moved.cloned().collect();
    let gone = before.moved.len() - status.moved.len();
    status.away = before
        .away
        .saturating_sub(i32::try_from(gone).unwrap_or(i32::MAX));
    let gaps = before.gaps.iter().filter(|gaps| is_asked(world, &gaps.name));
    status.gaps = gaps.cloned().collect();
    (status.open_gap_seconds, status.lost_gap_seconds) = (before.open_gap_seconds, before.lost_gap_seconds);
}

/// Which streams the standby owns, by the word of the primary.
fn moved(world: &World, primary: &MemberReport, status: &mut StreamsStatus) {
    let sane = |told: &&crds::member::MovedStream| {
        is_asked(world, &told.name) && world.members().contains(&told.member)
    };
    let moved: Vec<_> = primary.moved.iter().filter(sane).collect();
    status.away = i32::try_from(moved.len()).unwrap_or(i32::MAX);
    status.moved = moved.into_iter().take(MAX_FAILING).map(moved_stream).collect();
}

/// What the streams lack, by the word of the primary.
fn gaps(world: &World, primary: &MemberReport, status: &mut StreamsStatus) {
    for told in primary.streams.iter().filter(|told| is_asked(world, &told.name)) {
        let gaps = StreamGaps {
            name: told.name.clone(),
            open_seconds: signed(coarse::seconds(told.open_gap_ms)),
            lost_seconds: signed(coarse::seconds(told.lost_gap_ms)),
        };
        status.open_gap_seconds = status.open_gap_seconds.saturating_add(gaps.open_seconds);
        status.lost_gap_seconds = status.lost_gap_seconds.saturating_add(gaps.lost_seconds);
        let some = gaps.open_seconds + gaps.lost_seconds > 0;
        status.gaps.extend(some.then_some(gaps));
    }
    status.gaps.truncate(MAX_FAILING);
}

fn moved_stream(told: &crds::member::MovedStream) -> MovedStream {
    MovedStream {
        name: told.name.clone(),
        member: told.member.clone(),
        reason: word(&told.reason),
    }
}

/// A word of a member, which may be of another version, or captured: whatever it says, a status must not grow with it.
fn word(told: &str) -> String {
    told.chars().take(MAX_WORD).collect()
}

/// How far the standby is behind, by the word of the one that sends.
fn lag_of(world: &World) -> &'static str {
    let sending = world.view.primary().map(|primary| &primary.replication);
    let connected = sending.filter(|sending| sending.connected);
    connected.map_or("unknown", |sending| lag::words(sending.lag_ms))
}
