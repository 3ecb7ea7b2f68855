//! What is said to be wrong: with whom, what to do, and the gravest first.

use super::*;

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

#[test]
fn degraded_names_the_gravest_that_is_wrong() {
    let cases: &[(&str, Change, &str)] = &[
        ("a lost volume", |w| lose_volume(w, STANDBY), "True VolumeLost"),
        ("a full one", |w| fill(w, STANDBY), "True DiskFull"),
        ("media that cannot be read", lose_media, "True MediaUnreadable"),
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

fn cut_ledger(world: &mut World, member: &str) {
    said(world, member).ledger_truncations = 2;
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
