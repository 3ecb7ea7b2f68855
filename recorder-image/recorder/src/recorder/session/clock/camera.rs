//! Whether a camera's clock is believed, and what it says.

use super::{Arrival, JUMP_US, Report};

/// A camera whose clock is further away from the own one than this is not believed.
const PLAUSIBLE_US: i64 = 1_000_000;
/// One that is believed stays so up to this.
pub(super) const STILL_PLAUSIBLE_US: i64 = 1_500_000;

/// A camera's clock by its sender reports. It is kept over sessions, so that a reconnect finds the same wall clock
/// before the first report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CameraClock {
    /// How much it is ahead of the own clock while it is believed, microseconds.
    ahead_us: Option<i64>,
    /// What was said of one that is not believed.
    told_us: Option<i64>,
    /// How far the own clock was ahead of the monotonic one when the camera was last believed, microseconds. Two clocks that
    /// agreed are right against one that jumps alone, so from a jump on the own clock is reckoned from here.
    own_base_us: Option<i64>,
    /// Whether such a jump was told.
    told_jump: bool,
}

impl CameraClock {
    /// Takes a sender report. `Some` says how far ahead the camera's clock is, once, when it is not believed.
    pub fn heard(&mut self, report: Report, now: Arrival) -> Option<i64> {
        let most = if self.is_believed() {
            STILL_PLAUSIBLE_US
        } else {
            PLAUSIBLE_US
        };
        // The own clock as it was, and as it is: the camera may have followed a jump.
        for own_us in [self.own_us(&now), now.own_us] {
            for late_us in self.late_us(&now) {
                let ahead = report
                    .wall_at(&now)
                    .saturating_sub(own_us.saturating_sub(late_us));
                if ahead.saturating_abs() <= most {
                    (self.ahead_us, self.told_us) = (Some(ahead), None);
                    self.own_base_us = Some(own_us.saturating_sub(now.mono_us));
                    return None;
                }
            }
        }
        let ahead = report
            .wall_at(&now)
            .saturating_sub(now.own_us.saturating_sub(now.late_us));
        (self.ahead_us, self.own_base_us, self.told_jump) = (None, None, false);
        let told = self.told_us.is_some_and(|t| t.abs_diff(ahead) <= JUMP_US as u64);
        (!told).then(|| *self.told_us.insert(ahead))
    }

    /// Whether wall clocks come from it.
    pub fn is_believed(&self) -> bool {
        self.ahead_us.is_some()
    }

    /// By how much the own clock jumped while the camera was believed, microseconds; once for each jump.
    pub fn own_jump(&mut self, now: &Arrival) -> Option<i64> {
        let jump = now.own_us.saturating_sub(self.own_us(now));
        let told = std::mem::replace(&mut self.told_jump, jump != 0);
        (jump != 0 && !told).then_some(jump)
    }

    /// The own clock, without a jump since the camera was last believed.
    fn own_us(&self, a: &Arrival) -> i64 {
        let base = a.own_us.saturating_sub(a.mono_us);
        match self.own_base_us {
            Some(known) if base.saturating_sub(known).saturating_abs() > JUMP_US => {
                a.mono_us.saturating_add(known)
            }
            _ => a.own_us,
        }
    }

    /// The wall clock of a frame by the camera, if it is believed: by the newest `report` of this session, else by how
    /// much the camera's clock was ahead of the own one.
    pub(super) fn wall_us(&self, frame: &Arrival, report: Option<Report>) -> Option<i64> {
        let own_us = self.own_us(frame);
        let by_own = own_us
            .saturating_sub(frame.late_us)
            .saturating_add(self.ahead_us?);
        let wall = report.map_or(by_own, |r| r.wall_at(frame));
        let late = self.late_us(frame);
        let mut ahead = late.map(|late| wall.saturating_sub(own_us.saturating_sub(late)));
        ahead
            .any(|ahead| ahead.saturating_abs() <= STILL_PLAUSIBLE_US)
            .then_some(wall)
    }

    /// By how much what came may be late. A camera that was believed may only seem late: its RTP time may have stood still.
    fn late_us(&self, a: &Arrival) -> impl Iterator<Item = i64> + use<> {
        [Some(a.late_us), self.is_believed().then_some(0)]
            .into_iter()
            .flatten()
    }
}
