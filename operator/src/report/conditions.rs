//! Conditions.

use crds::member::{MemberReport, Role};
use crds::pair::{Condition, MemberStatus, Phase};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Known;
use crate::apply::Progress;
use crate::coverage;
use crate::problem::Problem;
use crate::world::World;

/// At most so many problems are spelt out.
const MAX_SPELT: usize = 4;
/// The API server takes 32768; a condition that long helps nobody.
const MAX_MESSAGE: usize = 2048;

struct Verdict {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

fn verdict(kind: &'static str, holds: bool, reason: &'static str, message: impl Into<String>) -> Verdict {
    let message = message.into();
    Verdict {
        kind,
        holds,
        reason,
        message,
    }
}

/// All conditions. One that did not change keeps its time.
pub(super) fn conditions(
    known: Known<'_>,
    members: &[MemberStatus],
    problems: &[Problem],
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let verdicts = [
        ready(known.world),
        reconciling(known, members),
        stalled(problems),
        replicating(known.world),
        degraded(problems),
    ];
    let generation = known.world.pair.metadata.generation;
    verdicts
        .into_iter()
        .map(|verdict| condition(verdict, generation, before, now))
        .collect()
}

fn condition(verdict: Verdict, generation: Option<i64>, before: &[Condition], now: Timestamp) -> Condition {
    let status = if verdict.holds { "True" } else { "False" };
    let same = before
        .iter()
        .find(|old| old.type_ == verdict.kind && old.status == status);
    let mut message = verdict.message;
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or_default());
    }
    Condition {
        type_: verdict.kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message,
        last_transition_time: same.map_or(Time(now), |old| old.last_transition_time.clone()),
        observed_generation: generation,
    }
}

fn ready(world: &World) -> Verdict {
    match world.view.primary() {
        Some(primary) => verdict(
            "Ready",
            true,
            "Serving",
            format!("member {:?} serves", primary.member),
        ),
        None => verdict(
            "Ready",
            false,
            "NoPrimary",
            "no member says that it holds authority; members that run record all the same",
        ),
    }
}

/// Everything that is still to come; the reason is that of the first.
fn reconciling(known: Known<'_>, members: &[MemberStatus]) -> Verdict {
    let open = [
        known
            .built
            .waiting
            .map(|what| ("Waiting", format!("waiting: {what}"))),
        retried(known.progress).map(|what| ("Retrying", what)),
        update(known).map(|what| ("RollingUpdate", what)),
        starting(members).map(|what| ("MemberStarting", what)),
        not_loaded(known).map(|what| ("Waiting", format!("waiting: {what}"))),
    ];
    let (reasons, messages): (Vec<&'static str>, Vec<String>) = open.into_iter().flatten().unzip();
    match reasons.first() {
        Some(first) => verdict("Reconciling", true, first, messages.join("; ")),
        None => verdict("Reconciling", false, "Done", "everything is as it was asked for"),
    }
}

fn retried(progress: Progress) -> Option<String> {
    (progress != Progress::Done).then(|| "an object could not be written and is tried again".to_owned())
}

/// The members that are to be replaced, and what that waits for.
fn update(known: Known<'_>) -> Option<String> {
    let names: Vec<&str> = known.built.outdated.keys().map(String::as_str).collect();
    let why = stopped(known.progress)
        .or_else(|| held(known.world))
        .or_else(|| needs_answers(known.world))
        .or_else(|| only_one_receives(known.world))
        .or_else(|| not_up(known));
    let why = why.map_or_else(String::new, |why| format!("; it waits: {why}"));
    let message = || format!("members to be replaced, one at a time: {}{why}", names.join(", "));
    (!names.is_empty()).then(message)
}

fn stopped(progress: Progress) -> Option<String> {
    (progress == Progress::Stopped).then(|| "nothing is changed before that is mended".to_owned())
}

fn starting(members: &[MemberStatus]) -> Option<String> {
    let mut members = members.iter();
    let member = members.find(|member| matches!(member.phase, Phase::Pending | Phase::Terminating))?;
    Some(format!("member {:?} is starting", member.name))
}

/// What keeps the member whose turn it is from being replaced.
fn held(world: &World) -> Option<String> {
    let (member, held) = world.view.held.first_key_value()?;
    Some(format!("the old pod {member:?} stays, {held}"))
}

/// Why a primary needs the answers of its standby: without them it goes on only while it renews the Lease.
fn needs_answers(world: &World) -> Option<String> {
    let (view, primary) = (&world.view, world.view.primary()?);
    if view.lease_missing || view.lease_unreadable.is_some() {
        return Some("the Lease cannot be renewed".to_owned());
    }
    let seen = view.reports.get(&primary.member)?;
    seen.without_api?;
    let member = &primary.member;
    Some(format!(
        "member {member:?}, which serves, does not reach the API server"
    ))
}

/// Why the member whose turn it is has to wait for the other one. The primary's is the last.
fn not_up(known: Known<'_>) -> Option<String> {
    let (world, outdated) = (known.world, &known.built.outdated);
    let primary = world.view.primary().map(|primary| &primary.member);
    let members = world.members();
    let follows = |member: &&String| outdated.contains_key(*member) && Some(*member) != primary;
    let turn = members.iter().rev().find(follows).or(primary)?;
    let other = members.iter().find(|member| *member != turn)?;
    let Some(report) = world.view.fresh(other) else {
        return Some(format!("member {other:?} does not answer"));
    };
    let serves = Some(other) == primary;
    let has_all = match world.view.replication_to(other) {
        Some(sending) if sending.connected => sending.backfill_bytes == 0,
        _ => serves,
    };
    let takes = |report: &MemberReport| report.role == Role::None;
    if !report.fit {
        Some(format!("member {other:?} is not fit"))
    } else if !has_all {
        Some(format!("member {other:?} does not have all media yet"))
    } else if world.view.fresh(turn).is_some_and(takes) && !serves {
        Some("no member serves".to_owned())
    } else {
        None
    }
}

/// A member that answers without a stream that is rendered.
fn not_loaded(known: Known<'_>) -> Option<String> {
    known.world.members().iter().find_map(|member| {
        let report = known.world.view.fresh(member)?;
        let stream = coverage::not_loaded(report, &known.built.streams).next()?;
        Some(format!("member {member:?} has not loaded stream {stream:?} yet"))
    })
}

/// A stream that keeps the member that alone receives it from being replaced.
fn only_one_receives(world: &World) -> Option<String> {
    let [first, second] = world.members();
    [(&first, &second), (&second, &first)]
        .into_iter()
        .find_map(|(without, with)| {
            let (report, peer) = (world.view.fresh(without)?, world.view.fresh(with)?);
            let stream = &coverage::lacks(report, peer).next()?.name;
            Some(format!(
                "member {without:?} does not receive stream {stream:?}, which member {with:?} does"
            ))
        })
}

fn stalled(problems: &[Problem]) -> Verdict {
    let blocking = |problem: &&Problem| problem.reason.is_blocking();
    let blocking: Vec<&Problem> = problems.iter().filter(blocking).collect();
    match blocking.first() {
        Some(first) => verdict("Stalled", true, first.reason.as_str(), spell(&blocking)),
        None => verdict("Stalled", false, "NotStalled", "nothing is in the way"),
    }
}

fn replicating(world: &World) -> Verdict {
    let reports: Vec<_> = world
        .members()
        .iter()
        .filter_map(|member| world.view.fresh(member))
        .collect();
    if reports.len() < 2 {
        return verdict("Replicating", false, "NoStandby", "fewer than two members answer");
    }
    if let Some(report) = reports.iter().find(|report| !report.replication.connected) {
        let message = format!("the peer of member {:?} takes no media from it", report.member);
        return verdict("Replicating", false, "NotConnected", message);
    }
    if let Some(report) = reports.iter().find(|report| report.replication.unreadable > 0) {
        let message = format!("member {:?} cannot read media that its peer lacks", report.member);
        return verdict("Replicating", false, "MediaUnreadable", message);
    }
    match reports
        .iter()
        .find(|report| report.replication.backfill_bytes > 0)
    {
        Some(report) => {
            let message = format!(
                "the peer of member {:?} fetches older media that it lacks",
                report.member
            );
            verdict("Replicating", true, "CatchingUp", message)
        }
        None => verdict(
            "Replicating",
            true,
            "InSync",
            "each member has what the other recorded",
        ),
    }
}

fn degraded(problems: &[Problem]) -> Verdict {
    let all: Vec<&Problem> = problems.iter().collect();
    match problems.first() {
        Some(gravest) => verdict("Degraded", true, gravest.reason.as_str(), spell(&all)),
        None => verdict("Degraded", false, "AsExpected", "nothing is known to be wrong"),
    }
}

fn spell(problems: &[&Problem]) -> String {
    let mut messages: Vec<String> = problems.iter().take(MAX_SPELT).map(ToString::to_string).collect();
    if problems.len() > MAX_SPELT {
        messages.push(format!("and {} more", problems.len() - MAX_SPELT));
    }
    messages.join("; ")
}
