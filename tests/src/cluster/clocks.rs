//! What debug builds of recorder and replicator obey: files on the volume of a member. Clocks that are wrong, and a standby that waits.

use std::time::Duration;

use anyhow::Result;

use super::faults::Testbed;
use super::pair::MemberView;
use super::scene::Scene;
use crate::trial;

/// Longer than the programs look for the file apart.
const SEEN: Duration = Duration::from_millis(200);

/// How wrong the clocks of a member are from now on.
#[derive(Clone, Copy, Debug)]
pub struct Skew {
    /// How far its wall clock is ahead, microseconds.
    pub ahead_us: i64,
    /// How many seconds its boot clock has for a true one.
    pub rate: f64,
}

impl Default for Skew {
    fn default() -> Self {
        Self {
            ahead_us: 0,
            rate: 1.0,
        }
    }
}

impl Scene {
    /// Makes both clocks of a member wrong, or right again. Its boot clock may be changed once: it must not go back.
    ///
    /// # Errors
    /// Where the volume's folder cannot be written.
    pub async fn make_clocks_wrong(&self, member: &MemberView, skew: Skew) -> Result<()> {
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let since_ns = since.tv_sec * 1_000_000_000 + since.tv_nsec;
        let text = format!("{} {} {since_ns}\n", skew.ahead_us, skew.rate);
        self.tell(member, "test-clock", &text).await
    }

    /// Makes a member wait for the operator before it takes, or not.
    ///
    /// # Errors
    /// Where the volume's folder cannot be written.
    pub async fn make_patient(&self, member: &MemberView, patient: bool) -> Result<()> {
        let text = if patient { "yes" } else { "" };
        self.tell(member, "test-waits-for-order", text).await
    }

    /// A member takes a segment that is here for so many seconds for settled, and looks whether it is a duplicate.
    ///
    /// # Errors
    /// Where the volume's folder cannot be written.
    pub async fn settle_after(&self, member: &MemberView, seconds: u64) -> Result<()> {
        self.tell(member, "test-reclaim", &seconds.to_string()).await
    }

    async fn tell(&self, member: &MemberView, name: &str, text: &str) -> Result<()> {
        let folder = Testbed::volume_folder(&member.node, &self.volume_of(member).await?);
        trial::tell(&folder, name, text)?;
        tokio::time::sleep(SEEN).await;
        Ok(())
    }
}
