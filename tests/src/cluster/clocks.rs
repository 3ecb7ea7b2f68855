//! What debug builds of recorder and replicator obey: files on the volume of a member. Clocks that are wrong, and a standby that waits.

use std::time::Duration;

use anyhow::{Result, ensure};
use crds::names;

use super::faults::Testbed;
use super::pair::{MemberView, NAMESPACE};
use super::scene::{RETURN, Scene};
use crate::trial;
use crate::wait::until;

/// Longer than the programs look for the file apart.
const SEEN: Duration = Duration::from_millis(200);
/// After so long a clock begins to have another rate: both processes have seen it by then, also where a busy machine is late. A rate
/// that counted from earlier would be a step.
const BEGINS: Duration = Duration::from_secs(1);

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
    /// Makes both clocks of a member wrong, or right again, and returns when both processes say so. Its boot clock must not go back: one
    /// that was slow can be set right, a fast one cannot.
    ///
    /// # Errors
    /// Where the volume's folder cannot be written, or nobody obeys.
    pub async fn make_clocks_wrong(&self, member: &MemberView, skew: Skew) -> Result<()> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let now_ns = now.tv_sec * 1_000_000_000 + now.tv_nsec;
        let since_ns = now_ns + i64::try_from(BEGINS.as_nanos())?;
        let text = format!("{} {} {since_ns}", skew.ahead_us, skew.rate);
        self.tell(member, "test-clock", &text).await?;
        for container in [names::CONTAINER_RECORDER, names::CONTAINER_REPLICATOR] {
            self.obeys(member, container, &text).await?;
        }
        Ok(())
    }

    /// Waits until a program says in its log what it was told.
    async fn obeys(&self, member: &MemberView, container: &str, text: &str) -> Result<()> {
        let what = format!("the {container} of {} obeys", member.name);
        until(&what, RETURN, async || {
            let log = self.kube.logs(NAMESPACE, &member.name, container).await?;
            ensure!(log.contains(text), "its log has no {text:?}");
            Ok(Some(()))
        })
        .await
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
