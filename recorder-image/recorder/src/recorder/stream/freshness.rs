//! Whether the frames of a stream are good ones: they come in time and, where that is asked for, show something new.

use std::collections::VecDeque;
use std::time::Duration;

use failover::streams::Fault;

/// Without a good frame for so long a stream is not received well. The peer writes it meanwhile.
pub(super) const SILENT: Duration = Duration::from_millis(700);
/// Slow cameras are given so many intervals.
const INTERVALS: u32 = 3;
/// The hashes of so many frames are compared: a camera that repeats pictures over a longer time shows something new.
const COMPARED: usize = 64;

/// See the module. Times are on `CLOCK_BOOTTIME`.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    detect_frozen: bool,
    newest: Option<Duration>,
    /// When a frame came whose picture was not among those before.
    fresh: Option<Duration>,
    seen: VecDeque<[u8; 16]>,
    refused: Option<Duration>,
}

impl Freshness {
    /// Whether pictures that do not change are a fault.
    pub(super) fn detect_frozen(&mut self, yes: bool) {
        if self.detect_frozen != yes {
            // What was seen before is too old to say anything.
            self.seen.clear();
            self.fresh = None;
        }
        self.detect_frozen = yes;
    }

    /// A frame was taken in.
    pub(super) fn frame(&mut self, at: Duration, hash: [u8; 16]) {
        self.newest = Some(at);
        if !self.detect_frozen {
            return;
        }
        if !self.seen.contains(&hash) {
            self.fresh = Some(at);
        }
        if self.seen.len() == COMPARED {
            self.seen.pop_front();
        }
        self.seen.push_back(hash);
    }

    /// Something came that cannot be recorded.
    pub(super) fn refused(&mut self, at: Duration) {
        self.refused = Some(at);
    }

    /// When a frame came whose picture was new, last.
    pub(super) fn fresh(&self) -> Option<Duration> {
        self.fresh
    }

    /// What is wrong now. `interval` is the usual time between two frames.
    pub(super) fn fault(&self, now: Duration, interval: Duration) -> Option<Fault> {
        let limit = SILENT.max(interval * INTERVALS);
        let over = |at: Duration| now.saturating_sub(at) >= limit;
        let newest = self.newest?;
        if over(newest) {
            // Units that cannot be recorded prove that the camera is there, and nothing else.
            let broken = self.refused.is_some_and(|at| at > newest && !over(at));
            return Some(if broken { Fault::Broken } else { Fault::Silent });
        }
        let frozen = self.detect_frozen && self.fresh.is_some_and(over);
        frozen.then_some(Fault::Frozen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(40);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn hash(n: u64) -> [u8; 16] {
        u128::from(n).to_be_bytes()
    }

    /// 25 frames a second until `end`, where frame `n` shows picture `picture(n)`.
    fn after(end: u64, frozen: bool, picture: fn(u64) -> u64) -> Freshness {
        let mut freshness = Freshness::default();
        freshness.detect_frozen(frozen);
        for n in 0..=end / 40 {
            freshness.frame(ms(n * 40), hash(picture(n)));
        }
        freshness
    }

    #[test]
    fn the_table_of_faults() {
        let moving = after(10_000, true, |n| n);
        assert_eq!(moving.fault(ms(10_699), INTERVAL), None);
        assert_eq!(moving.fault(ms(10_700), INTERVAL), Some(Fault::Silent));
        assert_eq!(moving.fault(ms(10_700), ms(500)), None, "two frames a second");
        let still = |n: u64| n.min(200);
        assert_eq!(after(8_680, true, still).fault(ms(8_680), INTERVAL), None);
        assert_eq!(
            after(8_720, true, still).fault(ms(8_720), INTERVAL),
            Some(Fault::Frozen)
        );
        assert_eq!(
            after(8_720, false, still).fault(ms(8_720), INTERVAL),
            None,
            "not asked for"
        );
        let looped = after(10_000, true, |n| if n < 125 { n } else { 100 + n % 25 });
        assert_eq!(
            looped.fault(ms(10_000), INTERVAL),
            Some(Fault::Frozen),
            "one group again and again"
        );
        let long = after(10_000, true, |n| n % 125);
        assert_eq!(
            long.fault(ms(10_000), INTERVAL),
            None,
            "five seconds again and again"
        );
        assert_eq!(
            Freshness::default().fault(ms(9_000), INTERVAL),
            None,
            "nothing came yet: the session says why"
        );
    }

    #[test]
    fn a_detection_that_is_switched_on_again_begins_anew() {
        let mut freshness = after(2_000, true, |n| n);
        freshness.detect_frozen(false);
        for n in 51..100 {
            freshness.frame(ms(n * 40), hash(n));
        }
        freshness.detect_frozen(true);
        assert_eq!(freshness.fault(ms(3_980), INTERVAL), None, "the picture moves");
        (100..119).for_each(|n| freshness.frame(ms(n * 40), hash(7)));
        assert_eq!(freshness.fault(ms(4_720), INTERVAL), Some(Fault::Frozen));
        freshness.detect_frozen(true);
        assert_eq!(
            freshness.fault(ms(4_720), INTERVAL),
            Some(Fault::Frozen),
            "nothing changed"
        );
    }

    #[test]
    fn what_cannot_be_recorded_is_no_frame() {
        let mut freshness = after(1_000, false, |n| n);
        for n in 26..60 {
            freshness.refused(ms(n * 40));
        }
        assert_eq!(freshness.fault(ms(2_360), INTERVAL), Some(Fault::Broken));
        assert_eq!(freshness.fault(ms(4_000), INTERVAL), Some(Fault::Silent));
    }
}
