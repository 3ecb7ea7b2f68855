//! What is said of the members and of their streams.

use super::*;

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
