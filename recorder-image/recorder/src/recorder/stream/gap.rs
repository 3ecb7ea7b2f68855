//! Gaps of one stream: where frames lack here, and why.

use std::time::Duration;

use super::{Inner, Notice};
use crate::recorder::ring::Dropped;

/// A clock that gained or lost more than this against the time since boot was set, microseconds. What is slewed is less, and so is what
/// frames of two sessions overlap by.
const SET_US: i64 = 1_000_000;

/// Frames that this member does not hold, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapNotice {
    /// End of the last frame before, microseconds since the Unix epoch.
    pub start_us: i64,
    /// The first frame after; `None` while it lasts.
    pub end_us: Option<i64>,
    /// A short word: `Watchdog`, `PacketLoss`, `Disconnected`, `NotHeldHere`...
    pub cause: String,
    /// What was seen, for people.
    pub evidence: String,
    /// How many frames, where it can be told.
    pub frames: Option<u64>,
}

impl GapNotice {
    /// One that lasts.
    fn new(start_us: i64, cause: &str, evidence: &str) -> Self {
        Self {
            start_us,
            end_us: None,
            cause: cause.into(),
            evidence: evidence.into(),
            frames: None,
        }
    }

    /// The same, over. `interval_us` is the usual time between two frames, `lasted_us` how long frames lacked, where that is known.
    fn ended(mut self, end_us: i64, interval_us: Option<i64>, lasted_us: Option<i64>) -> Self {
        self.end_us = Some(end_us.max(self.start_us + lasted_us.unwrap_or_default()));
        self.frames = interval_us
            .filter(|interval| *interval > 0)
            .zip(lasted_us)
            .map(|(interval, lasted)| ((lasted + interval / 2) / interval).cast_unsigned());
        self
    }
}

/// What passed between a frame and the key frame after it, both received by this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between {
    /// From the end of the one to the other, by the time since boot, microseconds. Frames may have come late, so it is not exact.
    pub passed_us: i64,
    /// How far the wall clock was set forth, microseconds; less than zero if it was set back.
    pub set_us: i64,
}

/// How long frames lacked, microseconds: `wall_us` by their wall clock, or that less what the clock was set forth by. A camera's clock that is
/// believed follows this member's or does not, so what is nearer to the time that passed is true. `None` if the wall clock was set and
/// nothing else is known.
fn lasted_us(wall_us: i64, between: Option<Between>) -> Option<i64> {
    let Some(Between { passed_us, set_us }) = between else {
        return (wall_us >= -SET_US).then_some(wall_us.max(0));
    };
    let set_us = if set_us.abs() > SET_US { set_us } else { 0 };
    let times = [wall_us, wall_us - set_us].into_iter();
    let lasted = times.min_by_key(|lasted| lasted.abs_diff(passed_us));
    lasted.map(|lasted| lasted.max(0))
}

impl Inner {
    /// Frames left the ring at `now` without being durable here.
    pub fn not_held(&mut self, dropped: Dropped, evidence: &str, now: Duration) {
        let gap = GapNotice {
            start_us: dropped.start_us,
            end_us: Some(dropped.end_us),
            cause: "NotHeldHere".into(),
            evidence: evidence.into(),
            frames: Some(dropped.frames),
        };
        self.health.gaps += u64::from(self.notices.dropped(gap, now));
    }

    /// A gap begins where the last frame ended, unless one lasts already. Without a frame before there is none.
    pub fn begin_gap(&mut self, cause: &str, evidence: &str) {
        let Some(start_us) = self.health.last_end_us.filter(|_| self.open_gap.is_none()) else {
            return;
        };
        let gap = GapNotice::new(start_us, cause, evidence);
        self.open_gap = Some(gap.clone());
        self.notice(Notice::Gap(gap));
    }

    /// The gap that lasts is over.
    pub(super) fn end_gap(&mut self, end_us: i64, between: Option<Between>) {
        if let Some(gap) = self.open_gap.take() {
            let lasted_us = lasted_us(end_us - gap.start_us, between);
            self.notice(Notice::Gap(gap.ended(end_us, self.interval_us, lasted_us)));
        }
    }

    /// The recording went on elsewhere, or before, until `end_us`: a gap that began then lasts now.
    pub fn resume_after(&mut self, end_us: i64, cause: &str, evidence: &str) {
        self.health.last_end_us = Some(end_us);
        self.begin_gap(cause, evidence);
    }

    /// A gap that is over: from where the recording ended elsewhere until the first frame here. None where they overlap.
    pub fn resumed_after(&mut self, end_us: i64, first_us: i64, cause: &str, evidence: &str) {
        if end_us < first_us {
            let gap = GapNotice::new(end_us, cause, evidence).ended(
                first_us,
                self.interval_us,
                Some(first_us - end_us),
            );
            self.notice(Notice::Gap(gap));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i1_a_clock_that_was_set_hides_no_frame() {
        let between = |passed_ms: i64, set_ms: i64| {
            Some(Between {
                passed_us: passed_ms * 1000,
                set_us: set_ms * 1000,
            })
        };
        for (what, wall_ms, between, expected_ms) in [
            ("as it should be", 30_000, between(30_010, 0), Some(30_000)),
            ("slewed", 30_000, between(30_000, -15), Some(30_000)),
            ("a little early", -20, between(5, 0), Some(0)),
            (
                "the camera gives what it kept",
                -9_000,
                between(3_000, 0),
                Some(0),
            ),
            (
                "the frames before came late",
                30_000,
                between(400, 0),
                Some(30_000),
            ),
            (
                "set back by a minute",
                -30_000,
                between(30_000, -60_000),
                Some(30_000),
            ),
            (
                "set back by five seconds",
                25_000,
                between(30_000, -5_000),
                Some(30_000),
            ),
            (
                "set forth by an hour",
                3_630_000,
                between(30_000, 3_600_000),
                Some(30_000),
            ),
            (
                "the camera's clock was not",
                30_000,
                between(30_000, 3_600_000),
                Some(30_000),
            ),
            ("nor set back", 30_000, between(30_000, -60_000), Some(30_000)),
            ("of a process before", 30_000, None, Some(30_000)),
            ("of a process before, set back", -30_000, None, None),
        ] {
            let lasted = lasted_us(wall_ms * 1000, between);
            assert_eq!(lasted, expected_ms.map(|ms: i64| ms * 1000), "{what}");
        }
    }

    #[test]
    fn i1_a_gap_whose_end_seems_to_be_before_its_beginning_has_its_frames() {
        let gap =
            GapNotice::new(100_000_000, "Watchdog", "").ended(70_000_000, Some(40_000), Some(30_000_000));
        assert_eq!((gap.end_us, gap.frames), (Some(130_000_000), Some(750)));
        let gap = GapNotice::new(100_000_000, "RecorderRestart", "").ended(70_000_000, Some(40_000), None);
        assert_eq!((gap.end_us, gap.frames), (Some(100_000_000), None), "not none");
    }
}
