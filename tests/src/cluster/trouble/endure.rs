//! What a pair that is struck goes through, and what must be true after it.

use std::time::Duration;

use anyhow::{Result, anyhow};

use super::Trouble;
use crate::cluster::scene::{Before, RETURN, Scene};
use crate::judge::{Absence, Verdict};

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
        let begins_after = troubles.iter().map(|trouble| trouble.begins_after()).max();
        let recorded = times.before.max(begins_after.unwrap_or_default());
        let before = self.record(recorded).await?;
        let absences = self.bear(troubles, times, &before).await?;
        let members = self.settled(RETURN).await?;
        let mut verdict = self.judge_beside(before.start, &absences, &members).await?;
        for trouble in troubles {
            trouble.forgive(self, &mut verdict)?;
        }
        let told = self.ensure_absences_told(&before, &absences, &verdict, &members);
        let mut held = vec![verdict.ensure_perfect(), told.await];
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

    /// Strikes, and mends what was struck last first. Returns which cameras were absent, and when.
    async fn bear(&self, troubles: &[Trouble], times: Times, before: &Before) -> Result<Vec<Absence>> {
        let mut struck = Vec::new();
        for trouble in troubles {
            if !struck.is_empty() {
                tokio::time::sleep(times.apart).await;
            }
            struck.push((trouble, self.cameras.state().await?.counter));
            trouble.strike(self, before).await?;
        }
        let lasts = troubles.iter().map(|trouble| trouble.lasts()).max();
        tokio::time::sleep(lasts.unwrap_or_default() + times.longer).await;
        let mut absences = Vec::new();
        for (trouble, since) in struck.into_iter().rev() {
            trouble.mend(self, before).await?;
            absences.extend(trouble.absence(self, before, since).await?);
        }
        for trouble in troubles {
            trouble.done(self).await?;
        }
        Ok(absences)
    }
}
