//! What a status says, situation by situation.

mod bounds;
mod conditions;
mod failovers;
mod members;
mod problems;
mod refill;
mod updates;

use std::sync::Arc;

use crds::member::{
    FailoverReport, LastRefusal, RecorderState, Role as MemberRole, StreamError, StreamErrorCode,
};
use crds::pair::Condition;
use serde_json::json;

use super::*;
use crate::fixtures::{
    IMAGE, PASSWORD, PRIMARY, STANDBY, at_rest, built, change, change_pod, lacks_api, said, silence,
    streams as asked, with_password,
};
use crate::problem::Reason;
use crate::validate::validate;
use crate::world::Held;

type Change = fn(&mut World);

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// The status of a world in which these problems came up.
fn with_problems(world: &World, problems: &[Problem], progress: Progress) -> RecorderPairStatus {
    at(world, problems, progress, moment(0))
}

fn at(world: &World, problems: &[Problem], progress: Progress, now: Timestamp) -> RecorderPairStatus {
    let built = built(world);
    let known = Known {
        world,
        built: &built,
        problems,
        progress,
    };
    status(known, now)
}

fn told(world: &World) -> RecorderPairStatus {
    with_problems(world, &validate(world, Some(IMAGE)), Progress::Done)
}

/// As it comes back from the API server.
fn written(world: &mut World, status: &RecorderPairStatus) {
    let text = serde_json::to_string(status).unwrap();
    Arc::make_mut(&mut world.pair).status = Some(serde_json::from_str(&text).unwrap());
}

fn changed(change: Change) -> RecorderPairStatus {
    let mut world = at_rest(&with_password());
    change(&mut world);
    told(&world)
}

fn condition<'a>(status: &'a RecorderPairStatus, kind: &str) -> &'a Condition {
    let mut conditions = status.conditions.iter();
    conditions.find(|condition| condition.type_ == kind).unwrap()
}

/// Status and reason of a condition.
fn verdict(status: &RecorderPairStatus, kind: &str) -> String {
    let condition = condition(status, kind);
    format!("{} {}", condition.status, condition.reason)
}

fn says(kind: &str, cases: &[(&str, Change, &str)]) {
    for (what, change, expected) in cases {
        let status = changed(*change);
        assert_eq!(verdict(&status, kind), *expected, "{what}: {status:?}");
        assert!(!condition(&status, kind).message.is_empty(), "{what}");
    }
}

fn forget_in_silence(world: &mut World) {
    said(world, STANDBY).streams.clear();
    silence(world, STANDBY);
}

/// A stream without credentials that was never recorded is left out.
fn never_rendered(world: &mut World) {
    let credentials = json!({ "secretName": "nowhere" });
    let yard = json!({ "name": "yard", "url": "rtsp://camera-2/stream", "credentials": credentials });
    let mut spec = with_password();
    spec["streams"].as_array_mut().unwrap().push(yard);
    crate::fixtures::ask(world, &spec);
    let problem = Problem::new(Reason::CredentialsMissing, "yard", "no Secret".to_owned());
    world.credentials.insert("yard".to_owned(), Err(problem));
}

/// The standby is outdated, and its pod stays for this.
fn hold(world: &mut World, held: Held) {
    age(world, STANDBY);
    Arc::make_mut(&mut world.view).held = [(STANDBY.to_owned(), held)].into();
}

fn stand_by(world: &mut World, member: &str) {
    said(world, member).role = MemberRole::Standby;
}

fn no_pod(world: &mut World, member: &str) {
    world.pods.remove(member);
}

fn end(world: &mut World, member: &str) {
    let patch = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    change_pod(world, member, &patch);
}

fn age(world: &mut World, member: &str) {
    let patch = json!({ "metadata": { "annotations": { "gapless.video/pod-hash": "old" } } });
    change_pod(world, member, &patch);
}

/// The peer takes no media from this member.
fn cut_off(world: &mut World, member: &str) {
    said(world, member).replication.connected = false;
}

/// The peer lacks older media of this member.
fn owes(world: &mut World, member: &str) {
    said(world, member).replication.backfill_bytes = 1;
}

/// Members answer, and none of them has been primary for long.
fn lead_nowhere(world: &mut World) {
    stand_by(world, PRIMARY);
    Arc::make_mut(&mut world.view).leaderless = true;
}

fn fill_both(world: &mut World) {
    lead_nowhere(world);
    for member in [PRIMARY, STANDBY] {
        fill(world, member);
    }
}

fn fill(world: &mut World, member: &str) {
    said(world, member).disk.full = true;
}

fn lose_media(world: &mut World) {
    said(world, PRIMARY).replication.unreadable = 2;
}

fn refuse(world: &mut World) {
    said(world, STANDBY).replication.last_refusal = Some(LastRefusal {
        stream: "door".to_owned(),
        segment: "front-0-17".to_owned(),
        reason: "the hash differs".to_owned(),
    });
}

fn fail(world: &mut World, member: &str, stream: &str) {
    let streams = &mut said(world, member).streams;
    let report = streams.iter_mut().find(|report| report.name == stream).unwrap();
    report.state = StreamState::Failed;
    report.error = Some(StreamError {
        code: StreamErrorCode::Unauthorized,
        message: "the camera refuses the password".to_owned(),
    });
}

fn leave_out(world: &mut World) {
    said(world, PRIMARY).streams[0].error = Some(StreamError {
        code: StreamErrorCode::UnsupportedCodec,
        message: "only video is recorded, not audio".to_owned(),
    });
}

fn no_node(world: &mut World, member: &str) {
    silence(world, member);
    let scheduled = json!({ "type": "PodScheduled", "status": "False", "message": "0/3 nodes are good" });
    let status = json!({ "phase": "Pending", "conditions": [scheduled], "containerStatuses": null });
    change_pod(world, member, &json!({ "status": status }));
}

fn hang(world: &mut World, member: &str) {
    let report = said(world, member);
    (report.fit, report.recorder) = (false, RecorderState::Stalled);
}

/// A failover into an epoch, in milliseconds of a clock of its own.
fn took(epoch: u64, why: &str) -> FailoverReport {
    let start = 1_800_000_000_123 + epoch * 1_000_000;
    FailoverReport {
        epoch,
        why: why.to_owned(),
        last_frame: Some(start - 40),
        last_heard: Some(start),
        suspected: Some(start + 150),
        recording: Some(start + 160),
        read: Some(start + 200),
        taken: Some(start + 950),
        serving: Some(start + 1050),
    }
}

fn miss_secret(world: &mut World) {
    let message = "Secret \"cameras\" does not exist".to_owned();
    let problem = Problem::new(Reason::CredentialsMissing, "door", message);
    world.credentials.insert("door".to_owned(), Err(problem));
}
