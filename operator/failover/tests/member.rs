//! Each state of a member, and what it does there.

mod rig;

use std::time::Duration;

use failover::{
    Effect, Epoch, Event, Lease, LeaseRecord, LossReason, Note, OrderOutcome, ReadResult, Role, Settings,
    SwapResult, TakeOrder, TakeReason, Version, recreate_lease,
};
use rig::{MS, Rig, answer_to, lease, member, store};

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

fn lost(rig: &Rig) -> Option<LossReason> {
    rig.effects.iter().find_map(|effect| match effect {
        Effect::Note(Note::Lost { why, .. }) => Some(*why),
        _ => None,
    })
}

fn grants(rig: &Rig) -> Vec<failover::Authority> {
    let grant = |effect: &Effect| {
        if let Effect::GrantRecorder(grant) = effect {
            Some(*grant)
        } else {
            None
        }
    };
    rig.effects.iter().filter_map(grant).collect()
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
fn i6_the_deadline_counts_from_the_sending_of_the_answered_request() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    rig.pass(MS * 50);
    let request = rig
        .take_effects()
        .into_iter()
        .rev()
        .find_map(|effect| match effect {
            Effect::SendRequest { request, .. } => Some(request),
            _ => None,
        });
    rig.pass(MS * 100);
    rig.step(Event::AnswerReceived(answer_to(&request.unwrap())));
    assert_eq!(rig.remaining(), MS * 500);
}

#[test]
fn i6_answers_that_do_not_count() {
    type Change = fn(&mut failover::Answer);
    let cases: [(&str, Change); 5] = [
        ("another store", |a| a.from.store = store("other")),
        ("another incarnation asked", |a| a.to = failover::Incarnation(99)),
        ("another epoch", |a| a.epoch = Epoch(7)),
        ("the answerer synced a higher epoch", |a| a.synced = Epoch(9)),
        ("a request that was never sent", |a| a.sequence += 1000),
    ];
    for (what, change) in cases {
        let mut rig = Rig::new(7);
        rig.become_primary();
        rig.pass(MS * 100);
        let before = rig.remaining();
        let effects = rig.take_effects();
        let request = effects.iter().rev().find_map(|effect| match effect {
            Effect::SendRequest { request, .. } => Some(request.clone()),
            _ => None,
        });
        let mut answer = answer_to(&request.unwrap());
        change(&mut answer);
        rig.step(Event::AnswerReceived(answer));
        assert_eq!(rig.remaining(), before, "{what}");
    }
}

#[test]
fn i6_an_authority_that_ended_comes_back_only_by_taking() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    rig.pass(MS * 599);
    assert!(rig.remaining() > Duration::ZERO);
    rig.pass(MS);
    assert_eq!(lost(&rig), Some(LossReason::Deadline));
    assert_eq!(rig.member.role(), Role::Taking);
    rig.answer();
    assert_eq!(rig.remaining(), Duration::ZERO);
}

#[test]
fn a_primary_renews_every_second_while_the_follower_answers() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    rig.pass_answered(MS * 950);
    assert_eq!(rig.swap(), None);
    rig.pass_answered(MS * 100);
    rig.store_swap();
    assert!(rig.remaining() > MS * 500);
}

#[test]
fn a_primary_alone_swaps_every_200_ms_and_writes_the_long_leash_after_5_s() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    for _ in 0..24 {
        rig.pass(MS * 200);
        assert_eq!(rig.store_swap().record.leash_ms, 600);
    }
    rig.pass(MS * 200);
    assert_eq!(rig.store_swap().record.leash_ms, 10_000);
    assert_eq!(rig.remaining(), MS * 10_000);
    rig.pass(MS * 3300);
    assert_eq!(rig.swap(), None);
    rig.pass(MS * 50);
    assert_eq!(rig.store_swap().record.leash_ms, 10_000);
}

#[test]
fn i6_the_longer_deadline_is_given_up_before_a_shorter_leash_is_written() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    for _ in 0..25 {
        rig.pass(MS * 200);
        rig.store_swap();
    }
    assert_eq!(rig.remaining(), MS * 10_000);
    // The follower is back.
    let mut granted = rig.now;
    for _ in 0..20 {
        rig.pass_answered(MS * 50);
        granted = grants(&rig)
            .iter()
            .map(|grant| grant.until)
            .max()
            .unwrap_or(granted);
        if let Some((op, _, record)) = rig.swap() {
            assert_eq!(record.leash_ms, 600);
            assert!(
                rig.remaining() <= MS * 600,
                "given up before anything is known of the swap"
            );
            let held = rig.member.authority(rig.now).unwrap();
            assert!(granted <= held.until, "the recorder's too");
            rig.step(Event::LeaseSwapped {
                op,
                result: SwapResult::InDoubt,
            });
            assert!(rig.remaining() <= MS * 600, "and whatever becomes of it");
            return;
        }
    }
    panic!("the shorter leash was never written");
}

#[test]
fn i6_a_longer_leash_counts_once_it_is_confirmed() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    let settings = Settings {
        leash: MS * 1000,
        ..Settings::default()
    };
    rig.pass_answered(MS * 200);
    rig.step(Event::SettingsChanged(settings));
    rig.pass(MS * 5);
    assert!(rig.remaining() <= MS * 600);
    assert_eq!(rig.store_swap().record.leash_ms, 1000);
    assert!(rig.remaining() > MS * 900);
}

#[test]
fn a_swap_in_doubt_is_settled_by_a_quorum_read() {
    // What the read says, and what the primary is then.
    type Read = fn(&LeaseRecord) -> Lease;
    let cases: [(&str, Read, Role); 3] = [
        (
            "it was stored",
            |asked| Lease {
                version: Version::new("900"),
                record: asked.clone(),
            },
            Role::Primary,
        ),
        (
            "another took",
            |_| lease(901, 9, Some("right"), Some("left")),
            Role::Standby,
        ),
        (
            "it was not stored yet",
            |asked| {
                let record = LeaseRecord {
                    counter: asked.counter - 1,
                    ..asked.clone()
                };
                Lease {
                    version: Version::new("101"),
                    record,
                }
            },
            Role::Primary,
        ),
    ];
    for (what, read, role) in cases {
        let mut rig = Rig::new(7);
        rig.become_primary();
        rig.pass(MS * 200);
        let (op, _, asked) = rig.swap().expect("a swap");
        rig.step(Event::LeaseSwapped {
            op,
            result: SwapResult::InDoubt,
        });
        rig.answer_read(read(&asked));
        assert_eq!(rig.member.role(), role, "{what}");
    }
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
fn a_handover_settles_withdraws_drops_and_releases() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    rig.pass_answered(MS * 1000);
    let (op, _, record) = rig.swap().expect("a renewal is under way");
    rig.step(Event::SwitchoverOrder { epoch: Epoch(8) });
    assert!(
        !rig.effects
            .iter()
            .any(|e| matches!(e, Effect::RevokeRecorder { .. })),
        "a swap is in doubt"
    );
    let stored = Lease {
        version: Version::new("500"),
        record,
    };
    rig.take_effects();
    rig.step(Event::LeaseSwapped {
        op,
        result: SwapResult::Swapped(stored),
    });
    assert!(rig.effects.contains(&Effect::RevokeRecorder { epoch: Epoch(8) }));
    assert!(rig.remaining() > Duration::ZERO, "the recorder has not withdrawn");
    rig.step(Event::RecorderWithdrawn { epoch: Epoch(8) });
    assert_eq!(rig.remaining(), Duration::ZERO);
    let released = rig.effects.iter().find_map(|effect| match effect {
        Effect::SendRelease { release, .. } => Some(release.clone()),
        _ => None,
    });
    let released = released.expect("a release");
    assert_eq!(
        (released.epoch, released.version),
        (Epoch(8), Version::new("500"))
    );
    rig.answer();
    assert_eq!(rig.remaining(), Duration::ZERO, "later answers are ignored");
}

#[test]
fn a_hung_recorder_delays_a_handover_by_its_grant_at_most() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    rig.pass_answered(MS * 500);
    for _ in 0..40 {
        rig.pass_hung(MS * 50);
        rig.request(0, false);
        rig.answer();
        if lost(&rig) == Some(LossReason::Released) {
            return;
        }
    }
    panic!("it was never released");
}

#[test]
fn an_unfit_primary_stays_where_its_follower_is_not_known_fit() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    for _ in 0..40 {
        rig.pass_hung(MS * 50);
        let mut request = rig.make_request(0, false);
        request.health = failover::Health::Unfit;
        rig.step(Event::RequestReceived(request));
        rig.answer();
    }
    assert_eq!(rig.member.role(), Role::Primary);
    assert!(rig.remaining() > Duration::ZERO);
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
fn a_standby_that_is_told_to_switch_over_asks_its_primary() {
    let mut rig = Rig::new(7);
    rig.request(7, true);
    rig.take_effects();
    rig.step(Event::TakeOrder(TakeOrder {
        epoch: Epoch(7),
        reason: TakeReason::Switchover,
    }));
    let asks = rig.effects.iter().any(|effect| match effect {
        Effect::SendRequest { request, .. } => request.wants == Some(Epoch(7)),
        _ => false,
    });
    assert!(asks);
}

#[test]
fn a_primary_that_is_asked_by_its_follower_hands_over() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    rig.pass_answered(MS * 100);
    let mut wish = rig.make_request(8, false);
    wish.wants = Some(Epoch(8));
    rig.step(Event::RequestReceived(wish));
    assert_eq!(rig.member.role(), Role::HandingOver);
}

#[test]
fn i6_the_recorder_is_granted_at_most_a_short_leash_and_never_beyond_the_own_deadline() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    for round in 0..100 {
        rig.take_effects();
        if round < 30 {
            rig.pass(MS * 50)
        } else {
            rig.pass_answered(MS * 50)
        }
        if rig
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::SwapLease { .. }))
        {
            rig.store_swap();
        }
        for grant in grants(&rig) {
            assert!(grant.until <= rig.now + MS * 600);
            assert!(grant.until <= rig.member.authority(rig.now).unwrap().until);
        }
    }
}

#[test]
fn i7_a_primary_keeps_its_authority_without_the_api_while_the_peer_answers() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    for _ in 0..200 {
        rig.pass_answered(MS * 50);
        if rig
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::SwapLease { .. }))
        {
            rig.end_swap(SwapResult::InDoubt);
        }
        if let Some(op) = rig.read() {
            rig.step(Event::LeaseRead {
                op,
                result: ReadResult::Unavailable,
            });
        }
        assert!(rig.remaining() > Duration::ZERO);
    }
}

#[test]
fn i5_a_recreated_lease_is_entered_without_a_gap_in_authority() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    rig.pass_answered(MS * 1050);
    rig.end_swap(SwapResult::Conflict);
    let op = rig.read().unwrap();
    rig.step(Event::LeaseRead {
        op,
        result: ReadResult::Missing,
    });
    rig.pass_answered(MS * 1050);
    let record = recreate_lease([Epoch(8)]);
    rig.answer_read(Lease {
        version: Version::new("1"),
        record,
    });
    rig.pass_answered(MS * 250);
    let lease = rig.store_swap();
    assert_eq!((lease.record.epoch, lease.record.leash_ms), (Epoch(1009), 600));
    assert_eq!(
        rig.member.authority(rig.now).unwrap().epoch,
        Epoch(8),
        "not synced"
    );
    rig.step(Event::EpochPersisted(Epoch(1009)));
    assert_eq!(rig.member.authority(rig.now).unwrap().epoch, Epoch(1009));
    assert_eq!(lost(&rig), None);
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
fn a_follower_whose_volume_was_replaced_is_named_again() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    rig.pass(MS * 100);
    let mut request = rig.make_request(0, false);
    request.from.store = store("fresh");
    rig.step(Event::RequestReceived(request));
    rig.pass(MS * 100);
    assert_eq!(rig.store_swap().record.follower, Some(store("fresh")));
}

#[test]
fn a_report_says_what_a_member_is() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    let report = rig.member.report(rig.now);
    assert_eq!(
        (report.role, report.serving_epoch),
        (Role::Primary, Some(Epoch(8)))
    );
    assert_eq!(
        (report.leash_ms, report.primary.clone()),
        (600, Some(member("left").member))
    );
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<failover::Report>(&text).unwrap(), report);
}
