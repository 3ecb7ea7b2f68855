//! What is told of a takeover: who took, and why; and when a member suspected its peer.

use anyhow::{Context, Result};
use crds::names;
use jiff::Timestamp;

use super::pair::NAMESPACE;
use super::scene::Scene;

/// A takeover, by the words of the member that took.
#[derive(Clone, Debug)]
pub struct Told {
    /// Who took.
    pub member: String,
    /// Why, in one word.
    pub why: String,
}

impl Scene {
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

    #[test]
    fn a_suspicion_is_read_from_a_line() {
        let line = r"2026-11-30T08:29:58.250000Z  WARN recorder::replicator::driver: suspicion peer=front-0 suspected=true";
        let (at, suspected) = suspicion(line).unwrap();
        assert!(suspected && at % 1_000 == 250, "{at}");
        assert!(!suspicion(&line.replace("true", "false")).unwrap().1);
    }
}
