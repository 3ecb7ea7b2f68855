//! The rhythm of a stream: how far apart its frames are, and which of them never came.

/// How many intervals are remembered.
const WINDOW: usize = 32;
/// Intervals needed before anything is said.
const ENOUGH: usize = 8;

/// The rhythm, learned from the intervals between frames, in 1/90000 s.
#[derive(Clone, Debug, Default)]
pub struct Cadence {
    recent: Vec<i64>,
    next: usize,
}

impl Cadence {
    /// Learns one interval. Returns how many frames are missing within it: only for a stream with a steady
    /// rhythm (all recent intervals within a quarter of their median), and only where at least one whole frame
    /// fits in.
    pub fn interval(&mut self, ticks: i64) -> u64 {
        let missing = self.missing(ticks);
        if missing == 0 && ticks > 0 {
            self.learn(ticks);
        }
        missing
    }

    fn missing(&self, ticks: i64) -> u64 {
        let Some(median) = self.median() else { return 0 };
        let steady = self.recent.iter().all(|i| (i - median).abs() * 4 <= median);
        if !steady || ticks * 4 < median * 7 {
            return 0;
        }
        ((ticks + median / 2) / median - 1) as u64
    }

    fn learn(&mut self, ticks: i64) {
        if self.recent.len() < WINDOW {
            self.recent.push(ticks);
        } else {
            self.recent[self.next % WINDOW] = ticks;
        }
        self.next = (self.next + 1) % WINDOW;
    }

    /// The median interval, 1/90000 s, once enough frames came.
    pub fn median(&self) -> Option<i64> {
        if self.recent.len() < ENOUGH {
            return None;
        }
        let mut sorted = self.recent.clone();
        sorted.sort_unstable();
        Some(sorted[sorted.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(intervals: &[i64]) -> Cadence {
        let mut cadence = Cadence::default();
        for i in intervals.iter().cycle().take(40) {
            assert_eq!(cadence.interval(*i), 0);
        }
        cadence
    }

    #[test]
    fn one_missing_frame_is_seen() {
        let mut cadence = learned(&[3600, 3600, 3500, 3700]);
        assert_eq!(cadence.median(), Some(3600));
        assert_eq!(cadence.interval(7200), 1);
        assert_eq!(cadence.interval(3600), 0);
        assert_eq!(cadence.interval(36_000), 9);
    }

    #[test]
    fn an_unsteady_stream_raises_no_false_alarm() {
        let mut cadence = learned(&[3600, 7200, 3600]);
        assert_eq!(cadence.interval(9000), 0);
    }

    #[test]
    fn nothing_is_said_at_the_beginning() {
        assert_eq!(Cadence::default().interval(900_000), 0);
    }

    #[test]
    fn another_frame_rate_is_learned_through_its_steps() {
        let mut cadence = learned(&[3600]);
        assert_eq!(cadence.interval(6000), 0, "less than one and three quarters");
    }
}
