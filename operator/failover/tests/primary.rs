//! A member that holds authority: each state, and what it does there.
#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use std::time::Duration;

use failover::{
    Effect, Epoch, Event, Lease, LeaseRecord, LossReason, Note, ReadResult, Role, Settings, SwapResult,
    Version, recreate_lease,
};
use rig::{MS, Rig, answer_to, lease, member, store};

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

/// Whoever takes waits for the leash that is written, and a quarter.
#[test]
fn i6_a_shorter_leash_is_not_written_while_streams_are_delegated_for_longer() {
    let mut rig = Rig::new(7);
    rig.become_primary();
    let delegated = rig.now + MS * 2000;
    rig.member.delegates_until(delegated);
    let settings = Settings {
        leash: MS * 400,
        ..Settings::default()
    };
    rig.step(Event::SettingsChanged(settings));
    while rig.now < delegated {
        rig.pass(MS * 200);
        if rig.store_swap().record.leash_ms == 400 {
            assert!(delegated <= rig.now + MS * 500, "{:?}", rig.now);
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
            rig.pass(MS * 50);
        } else {
            rig.pass_answered(MS * 50);
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
