//! What is said of an update of the members, and of what holds it.

use super::*;

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
        update_waits(&changed(change), what, why);
    }
}

#[test]
fn an_update_tells_why_the_primary_could_not_go_on_alone() {
    let cases: [(&str, Change, &str); 2] = [
        (
            "the primary does not reach the API server",
            |w| lacks_api(w, PRIMARY, 60),
            "member \"front-0\", which serves, does not reach the API server",
        ),
        (
            "the Lease makes no sense",
            |w| Arc::make_mut(&mut w.view).lease_unreadable = Some("it has no epoch".to_owned()),
            "the Lease cannot be renewed",
        ),
    ];
    for (what, change, why) in cases {
        let mut world = at_rest(&with_password());
        change(&mut world);
        age(&mut world, STANDBY);
        update_waits(&told(&world), what, why);
    }
}

fn update_waits(status: &RecorderPairStatus, what: &str, why: &str) {
    let message = &condition(status, "Reconciling").message;
    assert!(message.starts_with("members to be replaced"), "{what}: {message}");
    let told = message.split_once("; it waits: ").map_or("", |(_, why)| why);
    assert_eq!(told, why, "{what}");
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
