//! How regularly a peer is heard, and so after how much silence it is suspected.
//!
//! The estimator is the one of RFC 6298 (Jacobson and Karels): a smoothed interval, a smoothed deviation from it, and a time-out
//! of the interval and four deviations. What it smooths is the time between two arrivals instead of a round trip.

use std::time::Duration;

use crate::time::BootTime;

/// The interval's gain is 1/8, the deviation's 1/4 (RFC 6298, section 2.3).
const GAIN: u32 = 8;
const DEVIATION_GAIN: u32 = 4;
/// So many deviations above the interval (RFC 6298, section 2.2).
const DEVIATIONS: u32 = 4;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Arrivals {
    last: Option<BootTime>,
    interval: Duration,
    deviation: Duration,
}

impl Arrivals {
    /// The peer was heard. Silence of more than `longest` is a fault and no jitter: nothing is learned of it.
    pub(super) fn heard(&mut self, now: BootTime, longest: Duration) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let passed = now.since(last);
        if passed > longest {
            return;
        }
        if self.interval.is_zero() {
            (self.interval, self.deviation) = (passed, passed / 2);
            return;
        }
        let off = self.interval.abs_diff(passed);
        self.deviation = (self.deviation * (DEVIATION_GAIN - 1) + off) / DEVIATION_GAIN;
        self.interval = (self.interval * (GAIN - 1) + passed) / GAIN;
    }

    /// The peer is another incarnation: what was learned of the one before counts no longer.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// After how much silence the peer is suspected: `least` while it is heard regularly, `most` at the most.
    pub(super) fn silent_after(&self, least: Duration, most: Duration) -> Duration {
        (self.interval + self.deviation * DEVIATIONS).clamp(least, most.max(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(150);
    const MOST: Duration = Duration::from_millis(600);

    /// After arrivals at these intervals, in milliseconds.
    fn after(intervals: impl IntoIterator<Item = u64>) -> Duration {
        let (mut arrivals, mut at) = (Arrivals::default(), 0);
        arrivals.heard(BootTime(0), MOST);
        for interval in intervals {
            at += interval * 1_000_000;
            arrivals.heard(BootTime(at), MOST);
        }
        arrivals.silent_after(LEAST, MOST)
    }

    #[test]
    fn a_regular_peer_is_suspected_as_soon_as_the_settings_ask() {
        assert_eq!(after([50; 100]), LEAST);
        assert_eq!(after([]), LEAST, "nothing is known");
    }

    #[test]
    fn jitter_is_borne_and_forgotten() {
        let noisy = [20, 130, 10, 120, 40, 140, 20, 110].repeat(8);
        let borne = after(noisy.clone());
        assert!(borne > Duration::from_millis(200), "{borne:?}");
        assert!(borne < Duration::from_millis(400), "{borne:?}");
        assert_eq!(after(noisy.into_iter().chain([50; 100])), LEAST);
    }

    #[test]
    fn an_outage_teaches_nothing_and_nobody_waits_longer_than_a_leash() {
        assert_eq!(after([50, 50, 50, 5_000, 50, 50]), LEAST);
        assert_eq!(after([600, 10].repeat(50)), MOST);
    }
}
