//! Gaps of one stream: where frames lack here, and why.

use std::time::Duration;

use super::{Inner, Notice};
use crate::recorder::ring::Dropped;

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

    /// The same, over. `interval_us` is the usual time between two frames.
    fn ended(mut self, end_us: i64, interval_us: Option<i64>) -> Self {
        self.end_us = Some(end_us.max(self.start_us));
        self.frames = interval_us
            .filter(|interval| *interval > 0)
            .map(|interval| ((end_us - self.start_us + interval / 2).max(0) / interval).cast_unsigned());
        self
    }
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

    pub(super) fn end_gap(&mut self, end_us: i64) {
        if let Some(gap) = self.open_gap.take() {
            self.notice(Notice::Gap(gap.ended(end_us, self.interval_us)));
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
            let gap = GapNotice::new(end_us, cause, evidence).ended(first_us, self.interval_us);
            self.notice(Notice::Gap(gap));
        }
    }
}
