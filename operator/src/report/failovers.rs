//! The newest failovers, each with the moments of its phases.

use std::collections::BTreeMap;

use crds::RecorderPairStatus;
use crds::member::FailoverReport;
use crds::pair::{FailoverStatus, MAX_FAILOVERS, MemberStatus, Phase, Role};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{signed, word};
use crate::world::World;

/// The last media of the old primary that became durable on the member that took: mostly before its last word, where all other
/// phases are after it.
const LAST_FRAME: &str = "lastFrame";

/// The phases of a failover, in the order in which they are told.
const PHASES: [&str; 7] = [
    LAST_FRAME,
    "suspected",
    "recording",
    "read",
    "taken",
    "serving",
    "converged",
];

/// When each of [`PHASES`] was, in milliseconds from the last word of the old primary.
fn moments(failover: &FailoverStatus) -> [Option<i64>; PHASES.len()] {
    [
        failover.last_frame,
        failover.suspected,
        failover.recording,
        failover.read,
        failover.taken,
        failover.serving,
        failover.converged,
    ]
}

/// The phases of a failover in words: `last frame 40 ms before, suspected after 150 ms, serving after 1050 ms`.
pub(super) fn words(failover: &FailoverStatus) -> String {
    let phases = PHASES.into_iter().zip(moments(failover));
    let words = phases.filter_map(|(phase, at)| Some(phase_in_words(phase, at?)));
    words.collect::<Vec<_>>().join(", ")
}

fn phase_in_words(phase: &str, at: i64) -> String {
    match (phase, at) {
        (LAST_FRAME, ..0) => format!("last frame {} ms before", at.unsigned_abs()),
        (LAST_FRAME, _) => format!("last frame after {at} ms"),
        _ => format!("{phase} after {at} ms"),
    }
}

/// What the histogram counts of a phase: how long after the last word of the old primary it was. Of [`LAST_FRAME`] it is how long
/// before that word, and so how far the copy was behind: 0 where media came after it, as in a switchover. What was
/// observed must not be negative, or the histogram's sum falls.
fn seconds(phase: &str, at: i64) -> f64 {
    let ms = match phase {
        LAST_FRAME => at.saturating_neg().max(0),
        _ => at,
    };
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of a failover")]
    let seconds = ms as f64 / 1000.0;
    seconds
}

/// The phases that are known after and were not before, of all failovers, in seconds after the last word of the old primary; of its
/// last frame, before it.
pub fn reached(before: &RecorderPairStatus, after: &RecorderPairStatus) -> Vec<(&'static str, f64)> {
    let mut reached = Vec::new();
    for failover in &after.failovers {
        let known = before
            .failovers
            .iter()
            .find(|known| known.epoch == failover.epoch);
        let known = known.map_or([None; PHASES.len()], moments);
        let pairs = PHASES.into_iter().zip(moments(failover)).zip(known);
        for ((phase, at), known) in pairs {
            if let (Some(at), None) = (at, known) {
                reached.push((phase, seconds(phase, at)));
            }
        }
    }
    reached
}

/// The newest failovers, of what the members tell and what was told before.
pub(super) fn failovers(
    world: &World,
    members: &[MemberStatus],
    before: Vec<FailoverStatus>,
    now: Timestamp,
) -> Vec<FailoverStatus> {
    // Nobody takes above the Lease: whoever says so errs, and would hide all that come.
    let highest = world
        .view
        .lease
        .as_ref()
        .map_or(i64::MAX, |lease| signed(lease.epoch.0));
    let mut known: BTreeMap<i64, FailoverStatus> = before
        .into_iter()
        .map(|failover| (failover.epoch, failover))
        .filter(|(epoch, _)| *epoch <= highest)
        .collect();
    for (member, seen) in &world.view.reports {
        let told = seen.report.failovers.iter();
        let told = told.filter_map(|told| failover(member, told));
        for failover in told.filter(|failover| failover.epoch <= highest) {
            let converged = known.get(&failover.epoch).and_then(|known| known.converged);
            known.insert(
                failover.epoch,
                FailoverStatus {
                    converged,
                    ..failover
                },
            );
        }
    }
    if let Some(mut newest) = known.last_entry() {
        let newest = newest.get_mut();
        if newest.converged.is_none() && is_converged(world, members, newest.epoch) {
            newest.converged = newest.serving.map(|serving| {
                let since = now.duration_since(newest.when.0).as_secs().max(0);
                serving + since * 1000
            });
        }
    }
    known.into_values().rev().take(MAX_FAILOVERS).collect()
}

/// Both members know the epoch, do their part in it, and have all that the other recorded.
fn is_converged(world: &World, members: &[MemberStatus], epoch: i64) -> bool {
    let whole = members.iter().all(|member| {
        let report = world.view.fresh(&member.name);
        member.phase == Phase::Running
            && report.is_some_and(|report| {
                let replication = &report.replication;
                signed(report.epoch) >= epoch && replication.connected && replication.backfill_bytes == 0
            })
    });
    let has = |role| members.iter().any(|member| member.role == role);
    whole && has(Role::Primary) && has(Role::Standby)
}

/// One failover, in milliseconds from the old primary's last word. The first take of a new pair is none.
fn failover(member: &str, told: &FailoverReport) -> Option<FailoverStatus> {
    let serving = told.serving?;
    if told.why.eq_ignore_ascii_case("noHolder") {
        return None;
    }
    let start = told.last_heard.or(told.suspected).or(told.read)?;
    let since = |moment: Option<u64>| moment.map(|moment| signed(moment) - signed(start));
    Some(FailoverStatus {
        epoch: signed(told.epoch),
        member: member.to_owned(),
        // In whole seconds, as it is written: else it would differ from what is read, each time.
        when: Time(Timestamp::from_second(signed(serving / 1000)).ok()?),
        why: word(&told.why),
        last_frame: since(told.last_frame),
        suspected: since(told.suspected),
        recording: since(told.recording),
        read: since(told.read),
        taken: since(told.taken),
        serving: since(Some(serving)),
        converged: None,
    })
}
