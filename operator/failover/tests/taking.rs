//! A member that follows and takes: each state, and what it does there.
#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use failover::{
    Effect, Epoch, Event, Lease, Note, OrderOutcome, Role, Settings, SwapResult, TakeOrder, TakeReason,
    Version,
};
use rig::{MS, Rig, lease, member};

fn outcome(rig: &mut Rig) -> OrderOutcome {
    let effects = rig.take_effects();
    effects
        .iter()
        .find_map(|effect| {
            if let Effect::OrderAnswered(outcome) = effect {
                Some(*outcome)
            } else {
                None
            }
        })
        .expect("an order is answered in its step")
}

#[test]
fn i6_who_may_take_and_after_what_wait() {
    // The Lease as it is read, and whether this member swaps 1.25 leashes after the read.
    let cases = [
        (
            "the named follower",
            lease(7, 7, Some("right"), Some("left")),
            true,
        ),
        (
            "the holder, restarted",
            lease(7, 7, Some("left"), Some("right")),
            true,
        ),
        ("anyone where there is no holder", lease(7, 7, None, None), true),
        (
            "neither holder nor follower",
            lease(7, 7, Some("right"), Some("other")),
            false,
        ),
    ];
    for (what, read, takes) in cases {
        let mut rig = Rig::new(0);
        rig.pass(MS * 149);
        assert_eq!(rig.read(), None, "{what}: not yet suspected");
        rig.pass(MS);
        rig.answer_read(read);
        rig.pass(MS * 749);
        assert_eq!(rig.swap(), None, "{what}: the wait is not over");
        rig.pass(MS);
        let swap = rig.swap();
        assert_eq!(swap.is_some(), takes, "{what}");
        let Some((_, expected, record)) = swap else {
            continue;
        };
        assert_eq!((expected, record.epoch), (Version::new("7"), Epoch(8)), "{what}");
        assert_eq!(record.holder, Some(member("left")), "{what}");
    }
}

#[test]
fn i6_the_wait_follows_the_leash_that_was_read() {
    let mut rig = Rig::new(0);
    rig.pass(MS * 150);
    let mut long = lease(7, 7, Some("right"), Some("left"));
    long.record.leash_ms = 10_000;
    rig.answer_read(long);
    rig.pass(MS * 12_499);
    assert_eq!(rig.swap(), None);
    rig.pass(MS);
    assert!(rig.swap().is_some());
}

#[test]
fn i6_an_absurd_leash_makes_nobody_wait_for_ever() {
    let mut rig = Rig::new(0);
    rig.pass(MS * 150);
    let mut absurd = lease(7, 7, Some("right"), Some("left"));
    absurd.record.leash_ms = u64::MAX;
    rig.answer_read(absurd);
    rig.pass(MS * 12_500);
    assert!(rig.swap().is_some());
}

#[test]
fn i5_authority_begins_when_its_epoch_is_synced() {
    let mut rig = Rig::new(7);
    rig.pass(MS * 150);
    rig.answer_read(lease(7, 7, Some("right"), Some("left")));
    rig.pass(MS * 750);
    rig.store_swap();
    assert_eq!(rig.member.authority(rig.now), None);
    rig.pass(MS * 20);
    rig.sync();
    let held = rig.member.authority(rig.now).unwrap();
    assert_eq!(held.epoch, Epoch(8));
    assert_eq!(rig.remaining(), MS * 580, "from the sending of the swap");
}

#[test]
fn i5_an_epoch_that_is_synced_after_its_leash_begins_nothing() {
    let mut rig = Rig::new(7);
    rig.pass(MS * 150);
    rig.answer_read(lease(7, 7, Some("right"), Some("left")));
    rig.pass(MS * 750);
    rig.store_swap();
    rig.pass(MS * 600);
    rig.sync();
    assert_eq!(rig.member.authority(rig.now), None);
}

#[test]
fn i6_only_a_claim_counts_as_hearing_the_primary() {
    for claims in [true, false] {
        let mut rig = Rig::new(7);
        for _ in 0..20 {
            rig.request(7, claims);
            rig.pass(MS * 50);
        }
        assert_eq!(rig.read().is_none(), claims);
    }
}

#[test]
fn i6_a_member_that_takes_answers_nobody_and_stands_down_for_a_claim() {
    let mut rig = Rig::new(7);
    rig.pass(MS * 150);
    rig.answer_read(lease(7, 7, Some("right"), Some("left")));
    rig.request(7, false);
    assert_eq!(rig.answers(), 0);
    rig.request(7, true);
    assert_eq!((rig.answers(), rig.member.role()), (1, Role::Standby));
    rig.pass(MS * 140);
    assert_eq!(rig.swap(), None);
}

#[test]
fn i5_nobody_below_the_synced_epoch_is_answered_or_heard() {
    let mut rig = Rig::new(7);
    rig.request(6, true);
    assert_eq!(rig.answers(), 0);
    rig.request(7, true);
    assert_eq!(rig.answers(), 1);
    rig.request(9, true);
    assert_eq!(
        rig.answers(),
        2,
        "without a running deadline a higher one is answered"
    );
}

#[test]
fn i5_a_peers_word_about_an_epoch_is_synced_only_after_a_read() {
    let mut rig = Rig::new(7);
    rig.request(9, true);
    let synced = |rig: &Rig| {
        rig.effects
            .iter()
            .any(|e| matches!(e, Effect::PersistEpoch { .. }))
    };
    assert!(!synced(&rig));
    rig.answer_read(lease(7, 8, Some("right"), Some("left")));
    rig.sync();
    assert_eq!(
        rig.member.synced_epoch(),
        Epoch(8),
        "what was read, not what was said"
    );
}

#[test]
fn i6_a_taker_in_doubt_that_finds_itself_the_holder_takes_again() {
    let mut rig = Rig::new(7);
    rig.pass(MS * 150);
    rig.answer_read(lease(7, 7, Some("right"), Some("left")));
    rig.pass(MS * 750);
    let (op, _, asked) = rig.swap().unwrap();
    rig.step(Event::LeaseSwapped {
        op,
        result: SwapResult::InDoubt,
    });
    rig.answer_read(Lease {
        version: Version::new("8"),
        record: asked,
    });
    assert_eq!(rig.member.authority(rig.now), None);
    let is_told = |effect: &Effect| matches!(effect, Effect::Note(Note::Read { mine: true, .. }));
    assert!(rig.effects.iter().any(is_told));
    rig.pass(MS * 749);
    assert_eq!(rig.swap(), None);
    rig.pass(MS);
    assert_eq!(rig.swap().unwrap().2.epoch, Epoch(9));
}

#[test]
fn a_conflict_starts_the_wait_again() {
    let mut rig = Rig::new(7);
    rig.pass(MS * 150);
    rig.answer_read(lease(7, 7, Some("right"), Some("left")));
    rig.pass(MS * 750);
    rig.end_swap(SwapResult::Conflict);
    rig.answer_read(lease(8, 7, Some("right"), Some("left")));
    rig.pass(MS * 749);
    assert_eq!(rig.swap(), None);
    rig.pass(MS);
    assert_eq!(rig.swap().unwrap().1, Version::new("8"));
}

#[test]
fn a_released_lease_is_taken_without_a_wait() {
    let mut rig = Rig::new(7);
    rig.request(7, true);
    rig.release(7, 42);
    rig.answer_read(lease(42, 7, Some("right"), Some("left")));
    let (_, expected, record) = rig.swap().expect("at once");
    assert_eq!((expected, record.epoch), (Version::new("42"), Epoch(8)));
}

#[test]
fn a_release_that_is_heard_during_the_wait_ends_it_and_is_told() {
    // The version that was read, and whether the wait is over with the release of version 42.
    for (read, ends) in [(42, true), (43, false)] {
        let mut rig = Rig::new(7);
        rig.pass(MS * 150);
        rig.answer_read(lease(read, 7, Some("right"), Some("left")));
        rig.pass(MS * 100);
        rig.take_effects();
        rig.release(7, 42);
        let told = Effect::Note(Note::Released { epoch: Epoch(7) });
        assert_eq!(rig.effects.contains(&told), ends, "{read}");
        assert_eq!(rig.swap().is_some(), ends, "{read}");
    }
}

#[test]
fn i6_only_the_version_that_was_released_is_taken_without_a_wait_after_a_swap_that_failed() {
    for (during_the_wait, result) in [
        (true, SwapResult::NotSent),
        (true, SwapResult::InDoubt),
        (false, SwapResult::NotSent),
        (false, SwapResult::InDoubt),
    ] {
        // The version that is read then, and whether it is the one that was released.
        for (version, is_released) in [(42, true), (43, false)] {
            let mut rig = Rig::new(7);
            let released = lease(42, 7, Some("right"), Some("left"));
            if during_the_wait {
                rig.pass(MS * 150);
                rig.answer_read(released.clone());
            } else {
                rig.request(7, true);
            }
            rig.release(7, 42);
            if !during_the_wait {
                rig.answer_read(released);
            }
            rig.end_swap(result.clone());
            rig.pass(MS * 200);
            rig.answer_read(lease(version, 7, Some("right"), Some("left")));
            assert_eq!(rig.swap().is_some(), is_released, "{result:?}, {version}");
        }
    }
}

#[test]
fn i6_a_release_of_another_version_needs_the_wait() {
    let mut rig = Rig::new(7);
    rig.request(7, true);
    rig.release(7, 42);
    rig.answer_read(lease(43, 7, Some("right"), Some("left")));
    assert_eq!(rig.swap(), None);
    rig.pass(MS * 750);
    assert!(rig.swap().is_some());
}

#[test]
fn an_older_claim_that_arrives_after_the_release_is_not_heard() {
    let mut rig = Rig::new(7);
    let late = rig.make_request(7, true);
    rig.release(7, 42);
    rig.step(Event::RequestReceived(late));
    assert_eq!(rig.member.role(), Role::Taking);
}

#[test]
fn orders_and_their_answers() {
    let expired = |epoch| {
        Event::TakeOrder(TakeOrder {
            epoch: Epoch(epoch),
            reason: TakeReason::Expired,
        })
    };
    let switchover = Event::TakeOrder(TakeOrder {
        epoch: Epoch(7),
        reason: TakeReason::Switchover,
    });
    // The order, whether the primary is heard, whether the recorder makes progress.
    let cases = [
        ("expired", expired(7), false, true, OrderOutcome::Accepted),
        (
            "expired, but it is alive",
            expired(7),
            true,
            true,
            OrderOutcome::Alive,
        ),
        ("a stale epoch", expired(6), false, true, OrderOutcome::Stale),
        ("unfit", expired(7), false, false, OrderOutcome::Unfit),
        (
            "switchover while it is heard",
            switchover,
            true,
            true,
            OrderOutcome::Accepted,
        ),
        (
            "nothing to hand over",
            Event::SwitchoverOrder { epoch: Epoch(7) },
            true,
            true,
            OrderOutcome::NotApplicable,
        ),
    ];
    for (what, order, heard, fit, expected) in cases {
        let mut rig = Rig::new(7);
        if !fit {
            rig.step(Event::RecorderDied);
        }
        if heard {
            rig.request(7, true);
        }
        rig.take_effects();
        rig.step(order);
        assert_eq!(outcome(&mut rig), expected, "{what}");
    }
}

#[test]
fn a_standby_that_is_told_of_a_planned_move_asks_its_primary() {
    for reason in [TakeReason::Switchover, TakeReason::Failback] {
        let mut rig = Rig::new(7);
        rig.request(7, true);
        rig.take_effects();
        rig.step(Event::TakeOrder(TakeOrder {
            epoch: Epoch(7),
            reason,
        }));
        let asks = rig.effects.iter().any(|effect| match effect {
            Effect::SendRequest { request, .. } => request.wants == Some(Epoch(7)),
            _ => false,
        });
        assert!(asks, "{reason:?}");
    }
}

#[test]
fn a_silent_or_unfit_peer_is_suspected_at_once_and_cleared_when_it_is_back() {
    let suspects = |rig: &mut Rig| {
        let said: Vec<bool> = rig
            .take_effects()
            .iter()
            .filter_map(|e| {
                if let Effect::Suspect { suspected, .. } = e {
                    Some(*suspected)
                } else {
                    None
                }
            })
            .collect();
        said
    };
    let mut rig = Rig::new(7);
    rig.request(7, true);
    rig.pass(MS * 149);
    assert!(suspects(&mut rig).is_empty());
    rig.pass(MS);
    assert_eq!(suspects(&mut rig), vec![true]);
    rig.request(7, true);
    assert_eq!(suspects(&mut rig), vec![false]);
    let mut unfit = rig.make_request(7, true);
    unfit.health = failover::Health::Unfit;
    rig.step(Event::RequestReceived(unfit));
    assert_eq!(suspects(&mut rig), vec![true]);
}

#[test]
fn a_member_that_is_to_wait_for_the_operator_takes_only_when_it_is_told() {
    let settings = Settings {
        takes_unasked: false,
        ..Settings::default()
    };
    let mut rig = Rig::with(0, settings);
    rig.pass(MS * 10_000);
    assert_eq!(rig.read(), None, "it suspects, and waits");
    rig.step(Event::TakeOrder(TakeOrder {
        epoch: Epoch(7),
        reason: TakeReason::Expired,
    }));
    assert!(rig.read().is_some());
    assert_eq!(outcome(&mut rig), OrderOutcome::Accepted);
}
