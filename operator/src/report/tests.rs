//! What a status says, situation by situation.

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

#[test]
fn all_is_well() {
    let status = changed(|_| ());
    let expected = [
        ("Ready", "True Serving"),
        ("Reconciling", "False Done"),
        ("Stalled", "False NotStalled"),
        ("Replicating", "True InSync"),
        ("Degraded", "False AsExpected"),
    ];
    assert_eq!(status.conditions.len(), expected.len());
    for (kind, expected) in expected {
        assert_eq!(verdict(&status, kind), expected, "{kind}");
    }
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!((status.epoch, status.highest_epoch), (Some(7), Some(7)));
    let streams = status.streams.unwrap();
    assert_eq!((streams.summary.as_str(), streams.failed), ("1/1", 0));
    assert_eq!(streams.failing, []);
    let member = |name: &str, role| MemberStatus {
        name: name.to_owned(),
        role,
        pod: Some(name.to_owned()),
        node: Some(format!("node-of-{name}")),
        phase: Phase::Running,
        store: Some(format!("store-{name}")),
        refill: None,
    };
    let expected = [member(PRIMARY, Role::Primary), member(STANDBY, Role::Standby)];
    assert_eq!(status.members, expected);
}

#[test]
fn a_silent_primary_brings_no_stream_back() {
    let mut world = at_rest(&with_password());
    let stream = world.pair.spec.streams[0].name.clone();
    let report = said(&mut world, PRIMARY);
    report.moved = vec![crds::member::MovedStream {
        name: stream,
        member: STANDBY.to_owned(),
        reason: "Silent".to_owned(),
        since_ms: 1,
    }];
    report.streams[0].lost_gap_ms = 2_000;
    let before = told(&world);
    written(&mut world, &before);
    silence(&mut world, PRIMARY);
    let after = told(&world);
    let kept = |status: &RecorderPairStatus| {
        let streams = status.streams.clone().unwrap();
        (
            streams.away,
            streams.moved,
            streams.gaps,
            streams.lost_gap_seconds,
        )
    };
    assert_eq!((kept(&before).0, kept(&before).3), (1, 2));
    assert_eq!(kept(&after), kept(&before));
    let returned = |note: &events::Note| note.reason == "StreamReturned";
    assert!(!events::notes(&before, &after).iter().any(returned));
    Arc::make_mut(&mut world.pair).spec.streams.clear();
    assert_eq!(kept(&told(&world)), (0, vec![], vec![], 2), "it was removed");
}

#[test]
fn ready_is_that_a_primary_serves() {
    let cases: &[(&str, Change, &str)] = &[
        ("nobody serves", |w| stand_by(w, PRIMARY), "False NoPrimary"),
        ("it is silent", |w| silence(w, PRIMARY), "False NoPrimary"),
        ("its peer is silent", |w| silence(w, STANDBY), "True Serving"),
    ];
    says("Ready", cases);
}

#[test]
fn of_two_that_say_they_serve_the_one_in_the_higher_epoch_does() {
    let status = changed(|world| {
        let other = said(world, STANDBY);
        (other.role, other.serving_epoch) = (MemberRole::Primary, Some(8));
    });
    assert!(condition(&status, "Ready").message.contains("front-1"));
}

#[test]
fn reconciling_is_that_something_is_still_to_come() {
    let cases: &[(&str, Change, &str)] = &[
        ("no pod", |w| no_pod(w, STANDBY), "True MemberStarting"),
        ("its end", |w| end(w, STANDBY), "True MemberStarting"),
        ("no addresses", |w| w.addresses.clear(), "True Waiting"),
        ("an old pod", |w| age(w, STANDBY), "True RollingUpdate"),
    ];
    says("Reconciling", cases);
    let waits = changed(|world| {
        age(world, STANDBY);
        said(world, PRIMARY).streams[0].state = StreamState::Failed;
    });
    let why = "member \"front-0\" does not receive stream \"door\", which member \"front-1\" does";
    let message = &condition(&waits, "Reconciling").message;
    assert!(message.contains(why), "{message}");
    let world = at_rest(&json!({}));
    let status = with_problems(&world, &[], Progress::Retrying);
    assert_eq!(verdict(&status, "Reconciling"), "True Retrying");
}

#[test]
fn reconciling_tells_all_that_is_still_to_come() {
    const UPDATE: &str = "members to be replaced, one at a time: front-1";
    const RETRY: &str = "an object could not be written and is tried again";
    const BUDGET: &str =
        "; it waits: the old pod \"front-1\" stays, it may not be evicted yet: front needs 1";
    const STOPPED: &str = "; it waits: nothing is changed before that is mended";
    type Case = (&'static str, Change, Progress, &'static str, String);
    let budget = |w: &mut World| {
        hold(
            w,
            Held::NotYet("it may not be evicted yet: front needs 1".to_owned()),
        );
    };
    let waits = "waiting: the members' Services have no addresses yet";
    let cases: [Case; 5] = [
        (
            "an update goes on while something else is refused",
            |w| age(w, STANDBY),
            Progress::Retrying,
            "Retrying",
            format!("{RETRY}; {UPDATE}"),
        ),
        (
            "an update that waits for its own reason",
            budget,
            Progress::Retrying,
            "Retrying",
            format!("{RETRY}; {UPDATE}{BUDGET}"),
        ),
        (
            "an update that waits for what is refused",
            |w| age(w, STANDBY),
            Progress::Stopped,
            "Retrying",
            format!("{RETRY}; {UPDATE}{STOPPED}"),
        ),
        (
            "the new pod starts",
            |w| {
                age(w, PRIMARY);
                no_pod(w, STANDBY);
            },
            Progress::Done,
            "RollingUpdate",
            "members to be replaced, one at a time: front-0; member \"front-1\" is starting".to_owned(),
        ),
        (
            "addresses, and what is refused",
            |w| w.addresses.clear(),
            Progress::Retrying,
            "Waiting",
            format!("{waits}; {RETRY}"),
        ),
    ];
    for (what, change, progress, reason, message) in cases {
        let mut world = at_rest(&json!({}));
        change(&mut world);
        let status = with_problems(&world, &[], progress);
        assert_eq!(
            verdict(&status, "Reconciling"),
            format!("True {reason}"),
            "{what}"
        );
        assert_eq!(condition(&status, "Reconciling").message, message, "{what}");
    }
}

#[test]
fn reconciling_is_that_a_member_has_not_loaded_a_stream() {
    for member in [PRIMARY, STANDBY] {
        let mut world = at_rest(&asked(&["door", "yard"]));
        said(&mut world, member)
            .streams
            .retain(|stream| stream.name != "yard");
        let status = told(&world);
        assert_eq!(verdict(&status, "Reconciling"), "True Waiting", "{member}");
        let message = &condition(&status, "Reconciling").message;
        let expected = format!("waiting: member {member:?} has not loaded stream \"yard\" yet");
        assert_eq!(*message, expected);
    }
    let cases: &[(&str, Change, &str)] = &[
        (
            "another UID is another stream",
            |w| swap_uid(w, STANDBY),
            "True Waiting",
        ),
        (
            "a silent member says nothing of it",
            forget_in_silence,
            "False Done",
        ),
        (
            "what is not rendered cannot be loaded",
            never_rendered,
            "False Done",
        ),
    ];
    says("Reconciling", cases);
}

#[test]
fn an_update_tells_whom_it_waits_for() {
    let cases: [(&str, Change, &str); 8] = [
        ("nothing", |w| age(w, STANDBY), ""),
        (
            "the primary lacks media",
            |w| {
                age(w, STANDBY);
                owes(w, STANDBY);
            },
            "member \"front-0\" does not have all media yet",
        ),
        (
            "the primary is silent",
            |w| {
                age(w, STANDBY);
                silence(w, PRIMARY);
            },
            "member \"front-0\" does not answer",
        ),
        (
            "the primary is unfit",
            |w| {
                age(w, STANDBY);
                said(w, PRIMARY).fit = false;
            },
            "member \"front-0\" is not fit",
        ),
        (
            "the new one lacks media",
            |w| {
                age(w, PRIMARY);
                owes(w, PRIMARY);
            },
            "member \"front-1\" does not have all media yet",
        ),
        (
            "the new one takes none",
            |w| {
                age(w, PRIMARY);
                cut_off(w, PRIMARY);
            },
            "member \"front-1\" does not have all media yet",
        ),
        (
            "it takes, and nobody serves",
            |w| {
                age(w, STANDBY);
                (said(w, PRIMARY).role, said(w, STANDBY).role) = (MemberRole::Standby, MemberRole::None);
            },
            "no member serves",
        ),
        (
            "the standby is silent itself",
            |w| {
                age(w, STANDBY);
                silence(w, STANDBY);
            },
            "",
        ),
    ];
    for (what, change, why) in cases {
        let status = changed(change);
        let message = &condition(&status, "Reconciling").message;
        assert!(message.starts_with("members to be replaced"), "{what}: {message}");
        let told = message.split_once("; it waits: ").map_or("", |(_, why)| why);
        assert_eq!(told, why, "{what}");
    }
}

fn swap_uid(world: &mut World, member: &str) {
    said(world, member).streams[0].uid = uuid::Uuid::nil();
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

#[test]
fn an_update_that_the_budget_holds_waits_and_is_no_fault() {
    let status = changed(|world| {
        hold(
            world,
            Held::NotYet("it may not be evicted yet: front needs 1".to_owned()),
        );
    });
    assert_eq!(verdict(&status, "Reconciling"), "True RollingUpdate");
    assert_eq!(verdict(&status, "Stalled"), "False NotStalled");
    assert_eq!(verdict(&status, "Degraded"), "False AsExpected");
    let message = &condition(&status, "Reconciling").message;
    let why = "it waits: the old pod \"front-1\" stays, it may not be evicted yet: front needs 1";
    assert!(message.ends_with(why), "{message}");
}

#[test]
fn an_update_whose_pod_is_refused_is_stalled_with_what_the_api_server_says() {
    let status = changed(|world| hold(world, Held::Refused("exceeded quota: video".to_owned())));
    for (kind, expected) in [
        ("Reconciling", "True RollingUpdate"),
        ("Stalled", "True ApplyFailed"),
        ("Degraded", "True ApplyFailed"),
    ] {
        assert_eq!(verdict(&status, kind), expected, "{kind}");
        let message = &condition(&status, kind).message;
        assert!(
            message.contains("front-1") && message.contains("exceeded quota: video"),
            "{message}"
        );
    }
}

#[test]
fn a_lease_that_cannot_be_read_is_told_with_what_to_do_and_as_an_event() {
    let why = "annotation gapless.video/epoch is missing";
    let mut world = at_rest(&json!({}));
    let before = told(&world);
    Arc::make_mut(&mut world.view).lease_unreadable = Some(why.to_owned());
    let status = told(&world);
    for kind in ["Stalled", "Degraded"] {
        assert_eq!(verdict(&status, kind), "True LeaseUnreadable");
        let message = &condition(&status, kind).message;
        for word in ["Lease \"front\"", why, "delete it", "another name"] {
            assert!(message.contains(word), "{message} does not say {word:?}");
        }
    }
    let notes = notes(&before, &status);
    assert!(
        notes
            .iter()
            .all(|note| note.warning && note.reason == "LeaseUnreadable"),
        "{notes:?}"
    );
    assert_eq!(notes.len(), 2);
}

#[test]
fn a_lost_lease_that_does_not_come_back_is_told_with_what_to_do() {
    type Told<'a> = (&'a str, Change, [&'a str; 2], [&'a str; 2]);
    let cases: [Told<'_>; 2] = [
        (
            "nobody tells an epoch",
            |w| Arc::make_mut(&mut w.view).lease_missing = true,
            ["False NotStalled", "True LeaseMissing"],
            ["no Lease \"front\"", "See that one runs"],
        ),
        (
            "it is refused",
            |w| Arc::make_mut(&mut w.view).lease_refused = Some("exceeded quota: leases".to_owned()),
            ["True ApplyFailed", "True ApplyFailed"],
            ["no Lease \"front\"", "exceeded quota: leases"],
        ),
    ];
    for (what, change, [stalled, degraded], words) in cases {
        let status = changed(change);
        assert_eq!(verdict(&status, "Stalled"), stalled, "{what}");
        assert_eq!(verdict(&status, "Degraded"), degraded, "{what}");
        let message = &condition(&status, "Degraded").message;
        for word in words {
            assert!(message.contains(word), "{message} does not say {word:?}");
        }
    }
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

#[test]
fn stalled_is_that_it_goes_on_only_when_somebody_acts() {
    let world = at_rest(&json!({}));
    let cases = [
        (Reason::InvalidSpec, "True InvalidSpec"),
        (Reason::ApplyFailed, "True ApplyFailed"),
        (Reason::NameTaken, "True NameTaken"),
        (Reason::DiskFull, "False NotStalled"),
    ];
    for (reason, expected) in cases {
        let problem = Problem::new(reason, "front", "something".to_owned());
        let status = with_problems(&world, &[problem], Progress::Done);
        assert_eq!(verdict(&status, "Stalled"), expected);
        assert_eq!(verdict(&status, "Degraded"), format!("True {}", reason.as_str()));
    }
}

#[test]
fn replicating_is_that_each_takes_media_from_the_other() {
    let cases: &[(&str, Change, &str)] = &[
        ("one is silent", |w| silence(w, STANDBY), "False NoStandby"),
        ("cut off", |w| cut_off(w, PRIMARY), "False NotConnected"),
        ("the other way", |w| cut_off(w, STANDBY), "False NotConnected"),
        ("more to come", |w| owes(w, PRIMARY), "True CatchingUp"),
        ("the other way", |w| owes(w, STANDBY), "True CatchingUp"),
    ];
    says("Replicating", cases);
}

/// The peer takes no media from this member.
fn cut_off(world: &mut World, member: &str) {
    said(world, member).replication.connected = false;
}

/// The peer lacks older media of this member.
fn owes(world: &mut World, member: &str) {
    said(world, member).replication.backfill_bytes = 1;
}

#[test]
fn degraded_names_the_gravest_that_is_wrong() {
    let cases: &[(&str, Change, &str)] = &[
        ("a lost volume", |w| lose_volume(w, STANDBY), "True VolumeLost"),
        ("a full one", |w| fill(w, STANDBY), "True DiskFull"),
        ("a refused copy", refuse, "True ReplicaRefused"),
        ("a stream", |w| fail(w, STANDBY, "door"), "True StreamFailed"),
        ("a missing Secret", miss_secret, "True CredentialsMissing"),
        ("a track", leave_out, "True TrackNotRecorded"),
        ("a recorder", |w| hang(w, PRIMARY), "True MemberNotReady"),
        ("silence", |w| silence(w, STANDBY), "True MemberNotReady"),
        ("no API", |w| lacks_api(w, STANDBY, 15), "True MemberNotReady"),
        ("no API", |w| lacks_api(w, PRIMARY, 15), "True MemberNotReady"),
        (
            "a hiccup",
            |w| said(w, STANDBY).lease.reachable = false,
            "False AsExpected",
        ),
        ("a cut ledger", |w| cut_ledger(w, STANDBY), "True LedgerTruncated"),
        ("no pod", |w| no_pod(w, STANDBY), "True MemberNotReady"),
        ("a failover", |w| stand_by(w, PRIMARY), "False AsExpected"),
        ("nobody leads", lead_nowhere, "True NoPrimary"),
        ("full disks", fill_both, "True DiskFull"),
    ];
    says("Degraded", cases);
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

fn cut_from_api(world: &mut World, members: &[&str]) {
    lead_nowhere(world);
    for member in members {
        said(world, member).lease.reachable = false;
    }
}

fn lose_volume(world: &mut World, member: &str) {
    change(
        world.claims.get_mut(member).unwrap(),
        &json!({ "status": { "phase": "Lost" } }),
    );
}

fn fill(world: &mut World, member: &str) {
    said(world, member).disk.full = true;
}

fn cut_ledger(world: &mut World, member: &str) {
    said(world, member).ledger_truncations = 2;
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

fn miss_secret(world: &mut World) {
    let message = "Secret \"cameras\" does not exist".to_owned();
    let problem = Problem::new(Reason::CredentialsMissing, "door", message);
    world.credentials.insert("door".to_owned(), Err(problem));
}

#[test]
fn a_standby_at_rest_is_as_expected() {
    let rest = |world: &mut World| {
        for stream in &mut said(world, STANDBY).streams {
            (stream.state, stream.writing, stream.fps) = (StreamState::Idle, false, 0.0);
        }
    };
    says("Degraded", &[("idle", rest, "False AsExpected")]);
    says("Ready", &[("idle", rest, "True Serving")]);
    let streams = changed(rest).streams.unwrap();
    assert_eq!(
        (streams.receiving, streams.failed, streams.failing),
        (streams.total, 0, vec![])
    );
}

#[test]
fn what_is_wrong_is_said_with_whom_it_is_about() {
    let cases: [(Change, &[&str]); 9] = [
        (
            lead_nowhere,
            &[
                "no member that answers is primary",
                "waits to take over",
                "logs of container",
            ],
        ),
        (|w| cut_from_api(w, &[STANDBY]), &["waits to take over"]),
        (
            |w| cut_from_api(w, &[PRIMARY, STANDBY]),
            &["the API server", "egress policies"],
        ),
        (
            |w| {
                cut_from_api(w, &[PRIMARY]);
                silence(w, STANDBY);
            },
            &["the API server", "7444"],
        ),
        (|w| lose_volume(w, STANDBY), &[STANDBY, "media-front-1", "delete"]),
        (refuse, &[STANDBY, "front-0-17", "door", "the hash differs"]),
        (|w| fail(w, STANDBY, "door"), &["door", STANDBY, "the password"]),
        (|w| silence(w, STANDBY), &[STANDBY, "7444", "take over from"]),
        (|w| no_node(w, STANDBY), &[STANDBY, "0/3 nodes"]),
    ];
    for (change, words) in cases {
        let message = condition(&changed(change), "Degraded").message.clone();
        for word in words {
            assert!(message.contains(word), "{message} does not say {word:?}");
        }
    }
}

fn no_node(world: &mut World, member: &str) {
    silence(world, member);
    let scheduled = json!({ "type": "PodScheduled", "status": "False", "message": "0/3 nodes are good" });
    let status = json!({ "phase": "Pending", "conditions": [scheduled], "containerStatuses": null });
    change_pod(world, member, &json!({ "status": status }));
}

#[test]
fn a_member_without_the_api_server_is_named_with_what_to_do() {
    let cases: [(Change, &[&str]); 4] = [
        (
            |w| lacks_api(w, STANDBY, 20),
            &[
                "member \"front-1\" answers",
                "for more than 15 s",
                "cannot take over",
                "network from its node",
            ],
        ),
        (
            |w| lacks_api(w, STANDBY, 700),
            &[STANDBY, "for more than 10 minutes"],
        ),
        (
            |w| lacks_api(w, PRIMARY, 20),
            &[
                "member \"front-0\" answers",
                "only while its standby answers",
                "replicator",
            ],
        ),
        (
            |w| {
                lacks_api(w, STANDBY, 20);
                silence(w, STANDBY);
            },
            &["does not answer"],
        ),
    ];
    for (change, words) in cases {
        let status = changed(change);
        let message = &condition(&status, "Degraded").message;
        for word in words {
            assert!(message.contains(word), "{message} does not say {word:?}");
        }
        assert_eq!(
            message.matches("has not reached").count(),
            usize::from(words.len() > 1)
        );
    }
}

#[test]
fn a_member_without_the_api_server_is_as_ready_and_in_sync_as_before() {
    let (rest, without) = (changed(|_| ()), changed(|w| lacks_api(w, STANDBY, 86_400)));
    for kind in ["Ready", "Reconciling", "Stalled", "Replicating"] {
        assert_eq!(condition(&without, kind), condition(&rest, kind));
    }
    assert_eq!(without.members, rest.members);
}

#[test]
fn many_problems_are_counted_and_long_messages_cut() {
    let world = at_rest(&json!({}));
    let problem = |n: usize| Problem::new(Reason::ApplyFailed, &n.to_string(), format!("no. {n}"));
    let problems: Vec<Problem> = (0..9).rev().chain(0..9).map(problem).collect();
    let status = with_problems(&world, &problems, Progress::Done);
    let expected = "no. 0; no. 1; no. 2; no. 3; and 5 more";
    assert_eq!(
        condition(&status, "Stalled").message,
        expected,
        "sorted, each once"
    );

    let long = |n: usize| {
        Problem::new(
            Reason::ApplyFailed,
            &n.to_string(),
            format!("{n}{}", "é".repeat(100_000)),
        )
    };
    let status = with_problems(&world, &[1, 2, 3].map(long), Progress::Done);
    for kind in ["Stalled", "Degraded"] {
        let message = &condition(&status, kind).message;
        assert!((2000..=2048).contains(&message.len()), "{} bytes", message.len());
    }
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let mut world = at_rest(&json!({}));
    let before = told(&world);
    written(&mut world, &before);
    silence(&mut world, STANDBY);
    let built = built(&world);
    let known = Known {
        world: &world,
        built: &built,
        problems: &[],
        progress: Progress::Done,
    };
    let after = status(known, moment(60));
    let since = |kind: &str| condition(&after, kind).last_transition_time.0;
    assert_eq!(since("Ready"), moment(0));
    assert_eq!(since("Replicating"), moment(60));
    assert_eq!(since("Degraded"), moment(60));
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let mut world = at_rest(&with_password());
    said(&mut world, STANDBY).failovers = vec![took(6, "Expired")];
    fail(&mut world, STANDBY, "door");
    let first = told(&world);
    written(&mut world, &first);
    let built = built(&world);
    let known = Known {
        world: &world,
        built: &built,
        problems: &[],
        progress: Progress::Done,
    };
    let second = status(known, moment(3600));
    assert_eq!(Some(&second), world.pair.status.as_ref());
    assert!(notes(world.pair.status.as_ref().unwrap(), &second).is_empty());
}

#[test]
fn no_message_holds_a_password() {
    let mut world = at_rest(&with_password());
    fail(&mut world, PRIMARY, "door");
    miss_secret(&mut world);
    lose_volume(&mut world, STANDBY);
    let problem = Problem::new(Reason::ApplyFailed, "Secret front-config", "refused".to_owned());
    let status = with_problems(&world, &[problem], Progress::Retrying);
    let notes = notes(&RecorderPairStatus::default(), &status);
    let token = world.keys.token.as_ref().unwrap().expose();
    for secret in [PASSWORD, token] {
        assert!(!serde_json::to_string(&status).unwrap().contains(secret));
        assert!(!format!("{notes:?}").contains(secret));
    }
}

#[test]
fn streams_are_counted_and_the_first_that_fail_are_listed() {
    let names: Vec<String> = (0..40).map(|n| format!("camera-{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = at_rest(&asked(&names));
    for name in &names[..30] {
        fail(&mut world, PRIMARY, name);
    }
    for name in &names[10..25] {
        fail(&mut world, STANDBY, name);
    }
    let streams = told(&world).streams.unwrap();
    assert_eq!((streams.total, streams.receiving, streams.failed), (40, 25, 15));
    assert_eq!(streams.summary, "25/40");
    assert_eq!(streams.failing.len(), MAX_FAILING);
    assert_eq!(streams.failing[0].reason, "Unauthorized");
    assert!(streams.failing[0].message.contains("front-0"));
    assert!(streams.failing[15].message.contains("both members"));
}

#[test]
fn a_status_stays_small_whatever_members_say() {
    let mut world = at_rest(&json!({}));
    fail(&mut world, PRIMARY, "door");
    let error = said(&mut world, PRIMARY).streams[0].error.as_mut().unwrap();
    error.message = "é".repeat(1 << 20);
    let text = serde_json::to_string(&told(&world)).unwrap();
    assert!(text.len() < 16 << 10, "{} bytes", text.len());
}

#[test]
fn a_stream_that_goes_on_without_its_secret_is_received_and_listed() {
    let status = changed(miss_secret);
    let streams = status.streams.unwrap();
    assert_eq!((streams.receiving, streams.failed), (1, 0));
    assert_eq!(streams.failing[0].reason, "CredentialsMissing");
}

#[test]
fn how_far_the_standby_is_behind_is_what_the_primary_says() {
    let cases = [
        (0, "<1s"),
        (999, "<1s"),
        (1_000, "<5s"),
        (29_999, "<30s"),
        (30_000, "<5m"),
        (300_000, ">5m"),
    ];
    for (lag_ms, expected) in cases {
        let mut world = at_rest(&json!({}));
        said(&mut world, PRIMARY).replication.lag_ms = lag_ms;
        said(&mut world, STANDBY).replication.lag_ms = 400_000;
        assert_eq!(
            told(&world).replication_lag.as_deref(),
            Some(expected),
            "{lag_ms} ms"
        );
    }
    let unknown: [(&str, Change); 2] = [
        ("nobody serves", |w| silence(w, PRIMARY)),
        ("nothing is taken", |w| cut_off(w, PRIMARY)),
    ];
    for (what, change) in unknown {
        assert_eq!(
            changed(change).replication_lag.as_deref(),
            Some("unknown"),
            "{what}"
        );
    }
}

#[test]
fn the_phase_of_a_member() {
    let cases: [(&str, Change, Phase); 8] = [
        ("no pod", |w| no_pod(w, STANDBY), Phase::Pending),
        ("being deleted", |w| end(w, STANDBY), Phase::Terminating),
        ("silent", |w| silence(w, STANDBY), Phase::Unreachable),
        ("not started", |w| no_node(w, STANDBY), Phase::Pending),
        ("hung", |w| hang(w, STANDBY), Phase::Unfit),
        ("it lacks media", |w| owes(w, PRIMARY), Phase::CatchingUp),
        ("its peer lacks media", |w| owes(w, STANDBY), Phase::Running),
        ("well", |_| (), Phase::Running),
    ];
    for (what, change, expected) in cases {
        assert_eq!(changed(change).members[1].phase, expected, "{what}");
    }
}

fn hang(world: &mut World, member: &str) {
    let report = said(world, member);
    (report.fit, report.recorder) = (false, RecorderState::Stalled);
}

#[test]
fn a_silent_member_has_no_role_and_keeps_its_store() {
    let mut world = at_rest(&json!({}));
    let before = told(&world);
    written(&mut world, &before);
    Arc::make_mut(&mut world.view).reports.clear();
    let member = &told(&world).members[0];
    assert_eq!(
        (member.role, member.store.as_deref()),
        (Role::None, Some("store-front-0"))
    );
}

#[test]
fn i5_the_highest_epoch_never_falls() {
    let mut world = at_rest(&json!({}));
    change(
        Arc::make_mut(&mut world.pair),
        &json!({ "status": { "epoch": 7, "highestEpoch": 1007 } }),
    );
    let epochs = |world: &World| {
        let status = told(world);
        (status.epoch, status.highest_epoch)
    };
    assert_eq!(epochs(&world), (Some(7), Some(1007)));
    Arc::make_mut(&mut world.view).lease = None;
    assert_eq!(epochs(&world), (Some(7), Some(1007)));
    Arc::make_mut(&mut world.view).lease = Some(failover::recreate_lease([failover::Epoch(1007)]));
    assert_eq!(epochs(&world), (Some(2007), Some(2007)));
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

/// A pair at rest, whose Lease is of this epoch.
fn in_epoch(epoch: u64) -> World {
    let mut world = at_rest(&json!({}));
    Arc::make_mut(&mut world.view).lease.as_mut().unwrap().epoch = failover::Epoch(epoch);
    world
}

#[test]
fn the_newest_failovers_are_listed_with_their_phases() {
    let mut world = in_epoch(8);
    said(&mut world, STANDBY).failovers = vec![took(2, "Expired"), took(4, "Expired"), took(6, "Switchover")];
    let before = told(&world);
    written(&mut world, &before);
    said(&mut world, STANDBY).failovers = vec![took(6, "Switchover"), took(8, "Expired")];
    said(&mut world, PRIMARY).failovers = vec![took(5, "Expired"), took(7, "Expired")];
    let failovers = told(&world).failovers;
    let listed: Vec<_> = failovers
        .iter()
        .map(|failover| (failover.epoch, failover.member.as_str()))
        .collect();
    let expected = [
        (8, "front-1"),
        (7, "front-0"),
        (6, "front-1"),
        (5, "front-0"),
        (4, "front-1"),
    ];
    assert_eq!(listed, expected);
    let newest = &failovers[0];
    let phases = [
        newest.last_frame,
        newest.suspected,
        newest.recording,
        newest.read,
        newest.taken,
        newest.serving,
    ];
    assert_eq!(phases, [-40, 150, 160, 200, 950, 1050].map(Some));
    assert_eq!(newest.when.0.as_second(), 1_800_008_001);
}

#[test]
fn a_failover_that_cannot_have_been_hides_none() {
    let mut world = in_epoch(8);
    let mut forged = took(6, "Expired");
    forged.epoch = u64::MAX;
    said(&mut world, STANDBY).failovers = vec![forged, took(7, "Expired")];
    let before = told(&world);
    assert_eq!(before.failovers.len(), 1);
    // One that an older operator believed goes again.
    let mut believed = before.failovers[0].clone();
    believed.epoch = i64::MAX;
    Arc::make_mut(&mut world.pair)
        .status
        .get_or_insert_default()
        .failovers = vec![believed];
    said(&mut world, STANDBY).failovers = vec![took(8, "Expired")];
    let epochs: Vec<_> = told(&world)
        .failovers
        .iter()
        .map(|failover| failover.epoch)
        .collect();
    assert_eq!(epochs, [8]);
}

#[test]
fn the_first_take_and_one_that_is_not_done_are_no_failovers() {
    let mut unfinished = took(9, "Expired");
    unfinished.serving = None;
    let mut unknown_start = took(10, "Expired");
    (
        unknown_start.last_heard,
        unknown_start.suspected,
        unknown_start.read,
    ) = (None, None, None);
    let mut world = at_rest(&json!({}));
    said(&mut world, PRIMARY).failovers = vec![took(1, "NoHolder"), unfinished, unknown_start];
    assert_eq!(told(&world).failovers, []);
}

#[test]
fn a_failover_ends_when_both_have_everything_in_its_epoch() {
    let mut world = in_epoch(8);
    said(&mut world, PRIMARY).failovers = vec![took(8, "Expired")];
    // It served in second 8001 of the tests' clock.
    let told = |world: &World, second: i64| at(world, &[], Progress::Done, moment(8001 + second));
    let converged = |world: &World, second: i64| told(world, second).failovers[0].converged;
    for member in [PRIMARY, STANDBY] {
        said(&mut world, member).epoch = 8;
    }
    assert_eq!(converged(&world, 3), Some(4050));
    let lacks: [Change; 5] = [
        |world: &mut World| said(world, STANDBY).epoch = 7,
        |world: &mut World| said(world, STANDBY).replication.backfill_bytes = 1,
        |world: &mut World| said(world, PRIMARY).replication.connected = false,
        |world: &mut World| said(world, STANDBY).role = crds::member::Role::None,
        |world: &mut World| said(world, STANDBY).fit = false,
    ];
    for lacking in lacks {
        let mut world = world.clone();
        lacking(&mut world);
        assert_eq!(converged(&world, 3), None);
    }
    let before = told(&world, 3);
    written(&mut world, &before);
    assert_eq!(converged(&world, 9), Some(4050), "once said it stays");
}

#[test]
fn a_phase_is_counted_once() {
    let mut world = in_epoch(8);
    let before = told(&world);
    said(&mut world, PRIMARY).failovers = vec![took(8, "Expired")];
    let mut after = told(&world);
    let expected = [
        ("lastFrame", 0.04),
        ("suspected", 0.15),
        ("recording", 0.16),
        ("read", 0.2),
        ("taken", 0.95),
        ("serving", 1.05),
    ];
    assert_eq!(reached(&before, &after), expected);
    let told = after.clone();
    after.failovers[0].converged = Some(4050);
    assert_eq!(reached(&told, &after), [("converged", 4.05)]);
    assert_eq!(reached(&after, &after), []);
}

#[test]
fn the_last_frame_is_told_as_before_or_after_and_counted_as_how_far_the_copy_was_behind() {
    let cases = [
        (-40, "last frame 40 ms before", 0.04),
        (-1_500, "last frame 1500 ms before", 1.5),
        (0, "last frame after 0 ms", 0.0),
        (12, "last frame after 12 ms", 0.0),
    ];
    for (at, words, behind) in cases {
        let mut world = in_epoch(8);
        let before = told(&world);
        let mut failover = took(8, "Expired");
        failover.last_frame = failover.last_heard.and_then(|heard| heard.checked_add_signed(at));
        said(&mut world, PRIMARY).failovers = vec![failover];
        let after = told(&world);
        let [note] = &notes(&before, &after)[..] else {
            panic!("one event")
        };
        let expected = format!("{words}, suspected after 150 ms, recording after 160 ms");
        assert!(note.message.contains(&expected), "{}", note.message);
        assert_eq!(reached(&before, &after)[0], ("lastFrame", behind), "{at} ms");
    }
}
