//! What is told of a takeover: who took, why, and when each of its phases was.

use anyhow::{Context, Result, ensure};
use crds::member::FailoverReport;
use crds::names;
use crds::pair::FailoverStatus;
use jiff::Timestamp;

use super::pair::NAMESPACE;
use super::scene::Scene;

/// Whoever takes what was not released to it waits for so long after it read the Lease, milliseconds: 1.25 of the leash.
const WAIT_MS: i64 = 750;
/// A primary hands over within this time after it was asked to, or not at all, milliseconds; and a look.
const HANDOVER_MS: u64 = 4_000;

/// A takeover, by whatever report tells of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// Who took.
    pub member: String,
    /// Why, in one word.
    pub why: String,
    /// From the read of the Lease until it was swapped in, milliseconds.
    waited_ms: Option<i64>,
    /// When it served at the latest, Unix milliseconds.
    served_by_ms: u64,
}

impl Told {
    /// By the words of the member that took.
    pub fn by_member(member: &str, told: &FailoverReport) -> Self {
        let waited = told.taken.zip(told.read);
        Self {
            member: member.to_owned(),
            why: told.why.clone(),
            waited_ms: waited.map(|(taken, read)| taken.cast_signed() - read.cast_signed()),
            served_by_ms: told.serving.unwrap_or_default(),
        }
    }

    /// By the status of the pair.
    pub fn by_status(told: &FailoverStatus) -> Self {
        Self {
            member: told.member.clone(),
            why: told.why.clone(),
            waited_ms: told.taken.zip(told.read).map(|(taken, read)| taken - read),
            // A status has whole seconds.
            served_by_ms: u64::try_from(told.when.0.as_millisecond()).unwrap_or_default() + 999,
        }
    }

    /// The word where the old primary was suspected between the order and its release: the suspicion wipes out what was ordered. One
    /// that had read the Lease before it heard of the release says that it suspected; that it was released shows in that it did not
    /// wait.
    fn says_released(&self) -> bool {
        let waited_not = self.waited_ms.is_some_and(|waited| waited < WAIT_MS);
        self.why == "HandedOver" || self.why == "PeerSuspected" && waited_not
    }
}

impl Scene {
    /// Fails unless the old primary handed over, for this reason.
    ///
    /// # Errors
    /// When another one is told, but for the one that is right where the primary was suspected just then.
    pub async fn ensure_handed_over(&self, told: &Told, why: &str) -> Result<()> {
        if told.why == why {
            return Ok(());
        }
        ensure!(told.says_released(), "it did not hand over ({why}): {told:?}");
        let (from, to) = (told.served_by_ms.saturating_sub(HANDOVER_MS), told.served_by_ms);
        let suspicions = self.suspicions(&told.member).await?;
        let one = suspicions
            .iter()
            .find(|(at, suspected)| *suspected && (from..=to).contains(at));
        one.with_context(|| format!("not {why}, and nobody was suspected then: {told:?}, {suspicions:?}"))?;
        println!("  {} suspected its primary while it handed over", told.member);
        Ok(())
    }

    /// When a member began to suspect its peer, and when it ceased to, by its log: Unix milliseconds.
    ///
    /// # Errors
    /// When there is no log, or it cannot be read.
    pub async fn suspicions(&self, member: &str) -> Result<Vec<(u64, bool)>> {
        let log = self
            .kube
            .logs(NAMESPACE, member, names::CONTAINER_REPLICATOR)
            .await?;
        let lines = log.lines().filter(|line| line.contains("suspicion"));
        lines.map(suspicion).collect()
    }
}

fn suspicion(line: &str) -> Result<(u64, bool)> {
    let time = line.split_whitespace().next().context("an empty line")?;
    let at = u64::try_from(time.parse::<Timestamp>()?.as_millisecond())?;
    Ok((at, line.contains("suspected=true")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(why: &str, read: u64, taken: u64) -> Told {
        let told =
            serde_json::json!({"epoch": 2, "why": why, "read": read, "taken": taken, "serving": taken + 1});
        Told::by_member("front-1", &serde_json::from_value(told).unwrap())
    }

    #[test]
    fn a_release_shows_in_its_word_or_in_that_nobody_waited() {
        assert!(told("HandedOver", 1_000, 1_020).says_released());
        assert!(told("PeerSuspected", 1_000, 1_100).says_released());
        assert!(
            !told("PeerSuspected", 1_000, 1_750).says_released(),
            "a leash ran out"
        );
        assert!(!told("ContainerTerminated", 1_000, 1_020).says_released());
        let unknown = serde_json::json!({"epoch": 2, "why": "PeerSuspected"});
        let unknown = Told::by_member("front-1", &serde_json::from_value(unknown).unwrap());
        assert!(!unknown.says_released());
    }

    #[test]
    fn a_suspicion_is_read_from_a_line() {
        let line = r"2026-11-30T08:29:58.250000Z  WARN recorder::replicator::driver: suspicion peer=front-0 suspected=true";
        let (at, suspected) = suspicion(line).unwrap();
        assert!(suspected && at % 1_000 == 250, "{at}");
        assert!(!suspicion(&line.replace("true", "false")).unwrap().1);
    }
}
