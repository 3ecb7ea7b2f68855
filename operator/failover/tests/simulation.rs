//! The simulation finds nothing in the rules as they are, and every rule that is broken on purpose.
#![cfg(all(feature = "sim", feature = "sabotage"))]

use std::time::{Duration, Instant};

use failover::Sabotage;
use failover::sim::{Cause, Options, Violation, quiet, run, takeover};

/// A broken rule has to be found within so many schedules.
const SCHEDULES: u64 = 20_000;

/// The first schedule in which a broken rule shows.
fn found(rule: Sabotage) -> (u64, Violation) {
    let broken = |seed| {
        run(Options {
            seed,
            trace: false,
            sabotage: Some(rule),
        })
        .violation
    };
    let first = (1..=SCHEDULES).find_map(|seed| broken(seed).map(|violation| (seed, violation)));
    let (seed, violation) =
        first.unwrap_or_else(|| panic!("{rule:?} was not found in {SCHEDULES} schedules"));
    println!("{rule:?}: {violation}, in schedule {seed}");
    (seed, violation)
}

fn finds_two_holders(rule: Sabotage) {
    let (seed, violation) = found(rule);
    assert!(
        matches!(violation, Violation::I6 { .. }),
        "{rule:?} in seed {seed}: {violation}"
    );
}

#[test]
fn i6_waiting_half_a_leash_is_found() {
    finds_two_holders(Sabotage::HalfWait);
}

#[test]
fn i6_counting_from_the_receipt_of_the_answer_is_found() {
    finds_two_holders(Sabotage::CountFromReceipt);
}

#[test]
fn i6_keeping_a_longer_deadline_after_a_shorter_leash_is_found() {
    finds_two_holders(Sabotage::KeepLongerDeadline);
}

#[test]
fn i6_a_restarted_holder_that_resumes_is_found() {
    finds_two_holders(Sabotage::HolderResumes);
}

#[test]
fn i5_acting_before_the_epoch_is_synced_is_found() {
    let (seed, violation) = found(Sabotage::ActBeforeSync);
    assert!(
        matches!(violation, Violation::I5 { .. }),
        "seed {seed}: {violation}"
    );
}

#[test]
fn i6_answering_while_taking_is_found() {
    finds_two_holders(Sabotage::AnswerWhileTaking);
}

#[test]
fn i6_a_wait_without_a_margin_for_clocks_is_found() {
    finds_two_holders(Sabotage::NoMargin);
}

#[test]
fn i6_a_released_member_that_resumes_is_found() {
    finds_two_holders(Sabotage::ReleasedResumes);
}

#[test]
fn i6_a_recorder_with_a_longer_deadline_than_its_replicator_is_found() {
    finds_two_holders(Sabotage::GrantTooLong);
}

#[test]
fn i6_a_swap_without_a_version_is_found() {
    let (seed, violation) = found(Sabotage::SwapUnconditionally);
    let broken = matches!(violation, Violation::I5 { .. } | Violation::I6 { .. });
    assert!(broken, "seed {seed}: {violation}");
}

#[allow(clippy::disallowed_methods, reason = "how long to search is set from outside")]
fn search_time() -> Duration {
    let seconds = std::env::var("GAPLESS_SIM_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("GAPLESS_SIM_SECONDS is a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(20))
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the search is bounded by real time")]
fn i5_i6_hold_in_every_schedule() {
    let (begun, limit) = (Instant::now(), search_time());
    // Another stretch of seeds than the sabotages use, and than an earlier version of the rules was tried on.
    let mut seed = 1_000_000;
    while begun.elapsed() < limit {
        let outcome = run(Options::of(seed));
        if let Some(violation) = outcome.violation {
            panic!(
                "{violation}\nreplay: cargo run -p failover --features sim --example sim -- --replay {seed}"
            );
        }
        seed += 1;
    }
    println!("{} schedules, nothing found", seed - 1_000_000);
}

/// The median and the 99th percentile of the time until the other member serves. A reply of the API that is lost leaves
/// the one that takes in doubt; then the other may take again before it.
fn serving_times(cause: Cause) -> (Duration, Duration) {
    let takeovers = (0..500).filter_map(|seed| takeover(seed, cause).expect("I5 and I6 hold"));
    let mut times: Vec<Duration> = takeovers.map(|takeover| takeover.serving).collect();
    assert!(
        times.len() >= 490,
        "{cause:?} moved authority in {} of 500",
        times.len()
    );
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{cause:?}: serving p50 {p50:?}, p99 {p99:?}");
    (p50, p99)
}

#[test]
fn a_power_cut_moves_authority_in_about_a_second() {
    let (p50, p99) = serving_times(Cause::PowerOff);
    assert!(p50 < Duration::from_millis(1100), "p50 {p50:?}");
    assert!(p99 < Duration::from_millis(1500), "p99 {p99:?}");
}

#[test]
fn a_recorder_that_dies_moves_authority_without_a_wait() {
    let (p50, _) = serving_times(Cause::RecorderCrash);
    assert!(p50 < Duration::from_millis(150), "p50 {p50:?}");
}

#[test]
fn a_switchover_moves_authority_without_a_wait() {
    let (p50, _) = serving_times(Cause::Switchover);
    assert!(p50 < Duration::from_millis(150), "p50 {p50:?}");
}

#[test]
fn i7_an_api_outage_changes_nothing_while_the_peers_hear_each_other() {
    for (seed, api_fails) in (0..40).map(|seed| (seed, seed % 2 == 1)) {
        let outcome = quiet(seed, api_fails).expect("I5 and I6 hold");
        assert_eq!(outcome.takeovers, 0, "seed {seed}: authority moved");
        let lost = outcome.length.saturating_sub(outcome.held);
        assert!(
            lost < Duration::from_millis(100),
            "seed {seed}: nobody held authority for {lost:?}"
        );
    }
}

#[test]
fn a_schedule_is_decided_by_its_seed() {
    let options = Options {
        seed: 7,
        trace: true,
        sabotage: None,
    };
    assert_eq!(run(options).trace, run(options).trace);
}
