//! Links that lose, delay, double, reorder and cut.

use crate::sim::rng::Rng;

/// One direction of a link. Times in nanoseconds of true time.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// Messages lost, in a thousand.
    pub(super) loss: u64,
    /// Messages doubled, in a thousand.
    pub(super) doubled: u64,
    /// The least delay, and how much more it may be.
    pub(super) delay: (u64, u64),
    /// Nothing arrives that is sent before then.
    pub(super) cut_until: u64,
    /// What is sent before then takes so much longer.
    pub(super) slow: (u64, u64),
}

impl Link {
    pub(super) fn new(loss: u64, doubled: u64, delay: (u64, u64)) -> Self {
        Self {
            loss,
            doubled,
            delay,
            cut_until: 0,
            slow: (0, 0),
        }
    }

    /// When what is sent `now` arrives: never, once, or twice.
    pub(super) fn arrivals(&self, now: u64, rng: &mut Rng) -> [Option<u64>; 2] {
        if now < self.cut_until || rng.chance(self.loss) {
            return [None, None];
        }
        let first = Some(now + self.one_delay(now, rng));
        let second = rng.chance(self.doubled).then(|| now + self.one_delay(now, rng));
        [first, second]
    }

    fn one_delay(&self, now: u64, rng: &mut Rng) -> u64 {
        let (least, more) = self.delay;
        // Squared, so that most are quick and a few are slow.
        let part = rng.range(0, 1000);
        let slow = if now < self.slow.0 {
            rng.range(0, self.slow.1)
        } else {
            0
        };
        least + more * part / 1000 * part / 1000 + slow
    }
}
