//! Clocks that are wrong, and set right.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Trouble;
use crate::cluster::clocks::Skew;
use crate::cluster::pair::MemberView;
use crate::cluster::scene::Scene;

/// An hour, microseconds.
const HOUR: i64 = 3_600_000_000;
/// The rates of two clocks may be 1.2 apart. A fast one is not here: it could only be set right by a step back, and a boot clock makes
/// none. A slow one steps ahead, as after a machine that slept.
const SLOW: f64 = 0.85;
/// A camera tells its time each 6.2 s at the latest (RFC 3550, 6.2). Where it was not told, times are by the member's own clock alone,
/// and jump with it.
const TOLD: Duration = Duration::from_secs(10);

/// Where a clock is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// An hour ahead.
    Ahead,
    /// An hour back.
    Back,
}

impl Trouble {
    /// How wrong the clocks of a member are.
    fn skew(self) -> Option<Skew> {
        let right = Skew::default();
        Some(match self {
            Self::SetClock(_, Jump::Ahead) => Skew {
                ahead_us: HOUR,
                ..right
            },
            Self::SetClock(_, Jump::Back) => Skew {
                ahead_us: -HOUR,
                ..right
            },
            Self::SlowClock(_) => Skew { rate: SLOW, ..right },
            _ => return None,
        })
    }

    /// How long is recorded before it at least.
    pub(super) fn begins_after(self) -> Duration {
        match self {
            Self::SetClock(..) => TOLD,
            _ => Duration::ZERO,
        }
    }

    pub(super) async fn strike_clock(self, scene: &Scene, member: &MemberView) -> Result<()> {
        let skew = self.skew().context("no fault of a clock")?;
        scene.make_clocks_wrong(member, skew).await
    }
}
