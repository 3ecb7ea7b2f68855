//! The conditions of a pair that works, one that comes about, and one that stands.

use super::*;

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

fn swap_uid(world: &mut World, member: &str) {
    said(world, member).streams[0].uid = uuid::Uuid::nil();
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
        ("only there", lose_media, "False MediaUnreadable"),
        ("more to come", |w| owes(w, PRIMARY), "True CatchingUp"),
        ("the other way", |w| owes(w, STANDBY), "True CatchingUp"),
    ];
    says("Replicating", cases);
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let mut world = at_rest(&json!({}));
    let before = told(&world);
    written(&mut world, &before);
    silence(&mut world, STANDBY);
    let after = at(&world, &[], Progress::Done, moment(60));
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
    let second = at(&world, &[], Progress::Done, moment(3600));
    assert_eq!(Some(&second), world.pair.status.as_ref());
    assert!(notes(world.pair.status.as_ref().unwrap(), &second).is_empty());
}
