//! What a pair that is struck goes through, and what must be true after it.

use std::time::Duration;

use anyhow::{Result, anyhow};

use super::Trouble;
use crate::cluster::scene::{RETURN, Scene};
use crate::judge::Verdict;

/// When what happens to a pair that is struck.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long is recorded before.
    pub before: Duration,
    /// From one fault to the next.
    pub apart: Duration,
    /// How much longer the faults last than it takes for them to show.
    pub longer: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            before: Duration::from_secs(5),
            apart: Duration::ZERO,
            longer: Duration::ZERO,
        }
    }
}

/// What was found after a fault.
pub struct Endured {
    /// Of every frame.
    pub verdict: Verdict,
    /// What does not hold that was promised, in words.
    pub broken: Vec<String>,
}

impl Scene {
    /// The whole scenario of a fault: record, strike, bear it, mend it, and wait until both members have everything. Then every
    /// frame has to be there once, what was sealed to be as it was, never two to have held authority, no epoch to have fallen,
    /// and the pair to be Ready.
    ///
    /// # Errors
    /// When it does not come so far.
    pub async fn endure(&self, troubles: &[Trouble], times: Times) -> Result<Endured> {
        let before = self.record(times.before).await?;
        for (n, trouble) in troubles.iter().enumerate() {
            if n > 0 {
                tokio::time::sleep(times.apart).await;
            }
            trouble.strike(self, &before).await?;
        }
        let lasts = troubles
            .iter()
            .map(|trouble| trouble.lasts())
            .max()
            .unwrap_or_default();
        tokio::time::sleep(lasts + times.longer).await;
        for trouble in troubles.iter().rev() {
            trouble.mend(self, &before).await?;
        }
        let members = self.settled(RETURN).await?;
        let verdict = self.judge(before.start, &members).await?;
        let mut held = vec![verdict.ensure_perfect()];
        for member in &members {
            held.push(self.ensure_kept(&before, &member.api).await);
        }
        let epoch = self.pair.epoch().await?;
        if epoch < before.epoch {
            held.push(Err(anyhow!("epoch {epoch} after {}", before.epoch)));
        }
        held.push(self.ready(RETURN).await);
        let broken = held.into_iter().filter_map(Result::err);
        Ok(Endured {
            verdict,
            broken: broken.map(|error| format!("{error:#}")).collect(),
        })
    }
}
