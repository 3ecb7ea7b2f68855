//! What is wrong with members and streams, as far as they and their pods tell.

use crds::member::{
    MemberReport, RecorderState, Role, StreamError, StreamErrorCode, StreamReport, StreamState,
};
use crds::names;
use crds::pair::{MemberStatus, Phase};
use k8s_openapi::api::core::v1::Pod;

use crate::coarse;
use crate::mint::is_lost;
use crate::problem::{Problem, Reason};
use crate::world::{Held, World, containers};

/// Everything that is wrong with members and streams.
pub(super) fn observed(world: &World, members: &[MemberStatus]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = unreadable(world).into_iter().collect();
    problems.extend(missing(world));
    problems.extend(world.view.held.iter().filter_map(refused));
    for status in members {
        let report = world.view.fresh(&status.name);
        problems.extend(volume(world, &status.name));
        problems.extend(report.into_iter().flat_map(of_report));
        problems.extend(not_ready(world, status, report));
        problems.extend(without_api(world, &status.name));
    }
    let streams = &world.pair.spec.streams;
    let failing = streams.iter().filter_map(|named| stream(world, &named.name));
    problems.extend(
        failing
            .map(|(_, problem)| problem)
            .filter(|problem| problem.reason == Reason::StreamFailed),
    );
    problems.extend(streams.iter().filter_map(|named| unrecorded(world, &named.name)));
    problems.extend(no_primary(world));
    problems.extend(no_standby(world));
    problems
}

/// A Lease that says nothing: whoever holds authority keeps it, and nobody can take it.
fn unreadable(world: &World) -> Option<Problem> {
    let why = world.view.lease_unreadable.as_ref()?;
    let lease = names::lease(&world.id.name);
    let message = format!(
        "Lease {lease:?} cannot be read: {why}. No member can take over meanwhile. If it is this pair's, delete it: it is made again, \
         above every epoch that is known. If another program has it, that one needs another name: volumes that were kept stay with the \
         pair's"
    );
    Some(Problem::new(Reason::LeaseUnreadable, &lease, message))
}

/// A Lease that is lost and does not come back: members go on as they are, and nobody can take over.
fn missing(world: &World) -> Option<Problem> {
    let lease = names::lease(&world.id.name);
    let told = |reason, why: String| {
        let message = format!("there is no Lease {lease:?}, and no member can take over meanwhile: {why}");
        Problem::new(reason, &lease, message)
    };
    if let Some(why) = &world.view.lease_refused {
        let why = format!(
            "it could not be made again: {why}. It is tried each 10 s; see what refuses it, or its epoch in status"
        );
        return Some(told(Reason::ApplyFailed, why));
    }
    let why = "it is made again above every epoch that is known, once a member has told the one on its volume. See that one runs, and \
               that the operator reaches it";
    world
        .view
        .lease_missing
        .then(|| told(Reason::LeaseMissing, why.to_owned()))
}

/// A member that cannot be made anew until somebody acts. That a budget keeps it is no fault.
fn refused((member, held): (&String, &Held)) -> Option<Problem> {
    let Held::Refused(why) = held else { return None };
    let message = format!(
        "Pod {member:?} is to be replaced, and goes on with its old template: {why}. Change what is asked for, or what refuses it; a \
         quota needs room for one pod more"
    );
    Some(Problem::new(
        Reason::ApplyFailed,
        &format!("Pod {member}"),
        message,
    ))
}

/// What each member that answers says of a stream.
pub(super) fn stream_reports<'a>(
    world: &'a World,
    stream: &'a str,
) -> impl Iterator<Item = (&'a str, &'a StreamReport)> + 'a {
    world
        .view
        .reports
        .iter()
        .filter(|(_, seen)| seen.fresh)
        .filter_map(move |(member, seen)| {
            let report = seen.report.streams.iter().find(|report| report.name == stream)?;
            Some((member.as_str(), report))
        })
}

/// Why a stream fails on any member: a code, and words.
pub(super) fn stream(world: &World, name: &str) -> Option<(String, Problem)> {
    if let Some(Err(problem)) = world.credentials.get(name) {
        return Some((Reason::CredentialsMissing.as_str().to_owned(), problem.clone()));
    }
    let failed: Vec<(&str, &StreamReport)> = stream_reports(world, name)
        .filter(|(_, report)| report.state == StreamState::Failed)
        .collect();
    let (first, report) = *failed.first()?;
    let error = report.error.as_ref()?;
    let whom = match failed.len() {
        1 => first.to_owned(),
        _ => "both members".to_owned(),
    };
    let message = format!("stream {name:?} fails on {whom}: {}", error.message);
    let problem = Problem::new(Reason::StreamFailed, name, message);
    Some((error.code.as_str().to_owned(), problem))
}

/// The tracks of a stream that is received that are not recorded.
fn unrecorded(world: &World, name: &str) -> Option<Problem> {
    let received = |report: &&StreamReport| report.state == StreamState::Receiving;
    let reports = stream_reports(world, name).map(|(_, report)| report);
    let errors = reports
        .filter(received)
        .filter_map(|report| report.error.as_ref());
    let unsupported = |error: &&StreamError| error.code == StreamErrorCode::UnsupportedCodec;
    let error = errors.into_iter().find(unsupported)?;
    Some(Problem::new(
        Reason::TrackNotRecorded,
        name,
        error.message.clone(),
    ))
}

fn of_report(report: &MemberReport) -> Vec<Problem> {
    let member = &report.member;
    let mut problems = Vec::new();
    if report.disk.failing {
        let message = format!(
            "the volume of member {member:?} ({}) fails: it records nothing, and its peer records all. Check the disk of its \
             node; if it lasts, replace the volume",
            names::claim(member)
        );
        problems.push(Problem::new(Reason::DiskFailing, member, message));
    }
    if report.disk.full {
        let message = format!(
            "the volume of member {member:?} ({}) is full: it records no more. Raise storage.size, lower \
             storage.retention.minAge or maxSize, or record fewer streams",
            names::claim(member)
        );
        problems.push(Problem::new(Reason::DiskFull, member, message));
    }
    if report.replication.unreadable > 0 {
        let message = format!(
            "member {member:?} cannot read media that its peer lacks: {} segments. It tries again and again; check the disk of its node, and \
             save what can be read of its volume ({}) before that is replaced",
            report.replication.unreadable,
            names::claim(member)
        );
        problems.push(Problem::new(Reason::MediaUnreadable, member, message));
    }
    if let Some(refusal) = &report.replication.last_refusal {
        let cure = if refusal.reason == "VolumeFailed" {
            "It cannot keep it: check the stream's folder on its own volume"
        } else {
            "Its own copy, or a good one that it fetched again, is what it serves; check the disk of the peer"
        };
        let message = format!(
            "member {member:?} refused segment {} of stream {:?} from its peer: {}. {cure}",
            refusal.segment, refusal.stream, refusal.reason
        );
        problems.push(Problem::new(Reason::ReplicaRefused, member, message));
    }
    if report.ledger_truncations > 0 {
        let message =
            format!("the end of a ledger of member {member:?} was damaged and cut off; check its disk");
        problems.push(Problem::new(Reason::LedgerTruncated, member, message));
    }
    problems
}

fn volume(world: &World, member: &str) -> Option<Problem> {
    is_lost(world.claims.get(member)?).then(|| {
        let claim = names::claim(member);
        let message = format!(
            "the volume of member {member:?} is lost. Its peer has the media; delete PersistentVolumeClaim {claim:?} and \
             Pod {member:?} to start it with an empty volume"
        );
        Problem::new(Reason::VolumeLost, member, message)
    })
}

fn not_ready(world: &World, status: &MemberStatus, report: Option<&MemberReport>) -> Option<Problem> {
    let member = &status.name;
    let message = match status.phase {
        Phase::Running | Phase::CatchingUp | Phase::Unknown => return None,
        Phase::Pending => pending(member, world.pods.get(member)),
        Phase::Terminating => format!("member {member:?} is being replaced"),
        Phase::Unreachable => format!(
            "the pod of member {member:?} does not answer; see its logs, and whether its node is up and port {} is open \
             to the operator",
            names::PORT_CONTROL
        ),
        Phase::Unfit => unfit(member, report),
    };
    Some(Problem::new(Reason::MemberNotReady, member, message))
}

/// A member that has not reached the API server for long, which the operator does: nothing is amiss before its peer is. It records as
/// ever (I7).
fn without_api(world: &World, member: &str) -> Option<Problem> {
    let seen = world.view.reports.get(member).filter(|seen| seen.fresh)?;
    let lasted = coarse::lasted_words(seen.without_api?);
    let so = match seen.report.role {
        Role::Primary => "it stays primary only while its standby answers it",
        Role::Standby | Role::None => "it cannot take over",
    };
    let message = format!(
        "member {member:?} answers, but has not reached the API server for more than {lasted}: {so}. Check the network from its node to \
         the API server, and egress policies; the log of its container {:?} says how it fails",
        names::CONTAINER_REPLICATOR
    );
    Some(Problem::new(Reason::MemberNotReady, member, message))
}

fn unfit(member: &str, report: Option<&MemberReport>) -> String {
    let what = match report.map(|report| report.recorder) {
        Some(RecorderState::Dead) => "does not run",
        _ => "makes no progress",
    };
    format!(
        "the recorder of member {member:?} {what}; see the logs of its container {:?}",
        names::CONTAINER_RECORDER
    )
}

/// Why a pod does not run: what the scheduler or the kubelet says.
fn pending(member: &str, pod: Option<&Pod>) -> String {
    let status = pod.and_then(|pod| pod.status.as_ref());
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let unscheduled = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(message) = unscheduled.and_then(|condition| condition.message.as_deref()) {
        return format!("the pod of member {member:?} finds no node: {message}");
    }
    let waiting = pod.into_iter().flat_map(containers).find_map(|container| {
        let reason = container.state.as_ref()?.waiting.as_ref()?.reason.as_deref()?;
        Some(format!("container {:?} waits: {reason}", container.name))
    });
    let why = waiting.unwrap_or_else(|| "it has not started yet".to_owned());
    format!("the pod of member {member:?} does not run: {why}")
}

/// That nobody leads for longer than a failover takes, and why.
fn no_primary(world: &World) -> Option<Problem> {
    if !world.view.leaderless {
        return None;
    }
    let mut answers = world.view.reports.values().filter(|seen| seen.fresh);
    let why = if answers.any(|seen| seen.report.lease.reachable) {
        format!(
            "each waits to take over, or follows one that does not answer. One that is not fit does not take; see the logs of \
             container {:?} of both",
            names::CONTAINER_REPLICATOR
        )
    } else {
        "none of them can read the Lease at the API server. See that egress policies let their pods through to it".to_owned()
    };
    let message = format!("no member that answers is primary: {why}");
    Some(Problem::new(Reason::NoPrimary, &world.id.name, message))
}

fn no_standby(world: &World) -> Option<Problem> {
    let primary = world.view.primary()?;
    let standby = world
        .members()
        .into_iter()
        .find(|member| *member != primary.member)?;
    let ready = world.view.fresh(&standby).is_some_and(|report| report.fit);
    (!ready).then(|| {
        let message = format!(
            "member {standby:?} is not ready to take over from {:?}: a second fault would lose frames",
            primary.member
        );
        Problem::new(Reason::NoStandby, &standby, message)
    })
}
