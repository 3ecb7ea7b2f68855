//! How long to wait before the next attempt: pure, the random number is passed in.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(5);
/// Panics in a row after which a stream is held off.
const POISONED: u32 = 3;
const HOLD_OFF: Duration = Duration::from_secs(30);
/// A session that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(5);

/// Waits where another member lets go of the camera.
const QUICK: Duration = Duration::from_millis(250);

/// How long to wait for a camera that gives its only session to another member yet: between 100 and 250 ms, by `jitter` (0 to 1).
pub fn quick(jitter: f64) -> Duration {
    QUICK.mul_f64(0.4 + 0.6 * jitter.clamp(0.0, 1.0))
}

/// The state of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    panics: u32,
    /// Since the last good session a wait was cut short.
    heeded: bool,
}

impl Backoff {
    /// A session ended after delivering frames for `lasted`. Returns how long to wait: 0.2 s, doubling to 5 s, spread
    /// by `jitter` (0 to 1) over the upper half; 30 s for a stream whose task panics again and again.
    pub fn ended(&mut self, lasted: Duration, panicked: bool, jitter: f64) -> Duration {
        if lasted >= GOOD {
            (self.failures, self.heeded) = (0, false);
        }
        self.panics = if panicked { self.panics + 1 } else { 0 };
        let wait = (FIRST * 2u32.pow(self.failures.min(5))).min(MOST);
        self.failures += 1;
        if self.panics >= POISONED {
            return HOLD_OFF;
        }
        wait.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }

    /// Whether a hint that the camera answers may cut the wait short: once until a good session, or two members would take a camera
    /// with a single session from each other again and again; and never where it is the own task that fails.
    pub fn heeds_hint(&self) -> bool {
        !self.heeded && self.panics == 0
    }

    /// A hint cut the wait short.
    pub fn heed_hint(&mut self) {
        self.heeded = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_seconds_and_start_again_after_a_good_session() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..7)
            .map(|_| backoff.ended(Duration::ZERO, false, 1.0).as_millis())
            .collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.ended(Duration::from_secs(6), false, 0.0).as_millis(), 100);
    }

    #[test]
    fn what_another_lets_go_of_is_asked_for_often() {
        assert_eq!([0.0, 1.0, 9.0].map(|j| quick(j).as_millis()), [100, 250, 250]);
    }

    #[test]
    fn one_hint_is_heeded_until_a_good_session() {
        let mut backoff = Backoff::default();
        backoff.ended(Duration::ZERO, false, 1.0);
        assert!(backoff.heeds_hint());
        backoff.heed_hint();
        backoff.ended(Duration::from_secs(4), false, 1.0);
        assert!(!backoff.heeds_hint());
        backoff.ended(Duration::from_secs(5), false, 1.0);
        assert!(backoff.heeds_hint());
        backoff.ended(Duration::ZERO, true, 1.0);
        assert!(!backoff.heeds_hint(), "the task panics");
    }

    #[test]
    fn a_poisonous_stream_is_held_off() {
        let mut backoff = Backoff::default();
        backoff.ended(Duration::ZERO, true, 1.0);
        backoff.ended(Duration::ZERO, true, 1.0);
        assert_eq!(backoff.ended(Duration::ZERO, true, 1.0), HOLD_OFF);
        assert!(backoff.ended(Duration::ZERO, false, 1.0) < HOLD_OFF);
    }
}
