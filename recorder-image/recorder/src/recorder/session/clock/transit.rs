//! How late what comes is.

use super::{Arrival, us};

/// The earliest arrival of this and of the one before counts, microseconds.
const TERM_US: i64 = 30_000_000;

/// How long frames of one session take, against the fastest of the last 30 to 60 s. RTP time passes at the camera, so a frame that
/// comes later by it than others did was held up on its way: the camera took it earlier by as much. A camera whose RTP time
/// itself is slow, or stood still, looks late for no longer than that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transit {
    this: Option<Term>,
    before: Option<Term>,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    /// When it began, by the monotonic clock, microseconds.
    since_us: i64,
    /// The least difference of the monotonic clock and RTP time in it, microseconds.
    least_us: i64,
}

fn apart_us(a: &Arrival) -> i64 {
    a.mono_us.saturating_sub(us(a.rtp, a.rate))
}

impl Transit {
    /// A frame came.
    pub fn learn(&mut self, a: &Arrival) {
        let apart_us = apart_us(a);
        match &mut self.this {
            Some(term) if a.mono_us.saturating_sub(term.since_us) < TERM_US => {
                term.least_us = term.least_us.min(apart_us);
            }
            this => {
                let next = Term {
                    since_us: a.mono_us,
                    least_us: apart_us,
                };
                self.before = this.replace(next);
            }
        }
    }

    /// How much later this came than it could have, microseconds; 0 while nothing is known.
    pub fn late_us(&self, a: &Arrival) -> i64 {
        let terms = [self.this, self.before].into_iter().flatten();
        let least_us = terms.map(|term| term.least_us).min();
        least_us.map_or(0, |least| apart_us(a).saturating_sub(least).max(0))
    }
}
