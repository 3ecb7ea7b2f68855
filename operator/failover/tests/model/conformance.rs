//! The real members keep to the model: in random walks each of their acts is a step that the model allows. So what the model can
//! never reach, they cannot reach either, as far as the walks go. A broken rule shows as an act that is not allowed.

use failover::Sabotage;

use crate::pair::{Forbidden, Pair};

/// Steps of one walk.
const STEPS: usize = 500;
/// Walks of the rules as they are.
const WALKS: u64 = 10_000;
/// A broken rule has to show within so many.
const PATIENCE: u64 = 20_000;

/// One walk; how often authority began in it, or what was not allowed.
fn walk(pair: &mut Pair) -> Result<u64, Forbidden> {
    for _ in 0..STEPS {
        pair.walk()?;
    }
    Ok(pair.served)
}

/// All that led to what was not allowed in a walk.
fn trace(seed: u64) -> String {
    let mut pair = Pair::new(seed, None);
    pair.trace = Some(Vec::new());
    let outcome = walk(&mut pair);
    format!("{}\n{outcome:?}", pair.trace.unwrap_or_default().join("\n"))
}

#[test]
fn real_members_do_nothing_that_the_model_forbids() {
    let mut served = 0;
    for seed in 0..WALKS {
        served +=
            walk(&mut Pair::new(seed, None)).unwrap_or_else(|_| panic!("walk {seed}:\n{}", trace(seed)));
    }
    println!("{WALKS} walks, authority began {served} times");
    assert!(served > WALKS / 2, "the walks reach too little");
}

fn shows(broken: Sabotage) {
    let found = (0..PATIENCE).find_map(|seed| Some((seed, walk(&mut Pair::new(seed, Some(broken))).err()?)));
    let (seed, what) = found.unwrap_or_else(|| panic!("{broken:?} did not show in {PATIENCE} walks"));
    println!("{broken:?} shows in walk {seed}: {what}");
}

#[test]
fn waiting_half_a_leash_is_forbidden() {
    shows(Sabotage::HalfWait);
}

#[test]
fn counting_from_the_receipt_of_the_answer_is_forbidden() {
    shows(Sabotage::CountFromReceipt);
}

#[test]
fn keeping_a_longer_deadline_after_a_shorter_leash_is_forbidden() {
    shows(Sabotage::KeepLongerDeadline);
}

#[test]
fn resuming_without_taking_again_is_forbidden() {
    shows(Sabotage::HolderResumes);
}

#[test]
fn answering_while_taking_is_forbidden() {
    shows(Sabotage::AnswerWhileTaking);
}

#[test]
fn acknowledging_a_lower_epoch_is_forbidden() {
    shows(Sabotage::AnswerOlder);
}

#[test]
fn acting_before_the_epoch_is_synced_is_forbidden() {
    shows(Sabotage::ActBeforeSync);
}

#[test]
fn going_on_after_a_release_is_forbidden() {
    shows(Sabotage::ReleasedResumes);
}

#[test]
fn granting_the_recorder_too_long_is_forbidden() {
    shows(Sabotage::GrantTooLong);
}
