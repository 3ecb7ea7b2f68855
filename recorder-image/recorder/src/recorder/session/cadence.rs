//! The rhythm of a stream: how far apart its frames are, and which of them never came.

use std::collections::VecDeque;

/// How many intervals are remembered.
const WINDOW: usize = 32;
/// Intervals needed before anything is said.
const ENOUGH: usize = 8;

/// What an interval between two frames says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rhythm {
    /// Nothing is missing, or nothing can be said.
    Usual,
    /// This many frames never came within it.
    Missing(u64),
    /// Nothing is missing: the camera sends frames at another rate. Median intervals before and now, 1/90000 s.
    Changed {
        /// Before.
        from: i64,
        /// Now.
        to: i64,
    },
}

/// The rhythm, learned from the intervals between frames, in 1/90000 s.
#[derive(Clone, Debug, Default)]
pub struct Cadence {
    /// The usual ones.
    recent: VecDeque<i64>,
    /// The newest ones, usual or not.
    all: VecDeque<i64>,
    /// How many intervals in a row were too long.
    streak: usize,
}

impl Cadence {
    /// Takes one interval in. Frames are missing only in a stream with a steady rhythm (all usual intervals within a
    /// quarter of their median), and only where at least one whole frame fits in. What was too long `ENOUGH` times
    /// in a row and always alike, or half of the time, is the new rhythm: many cameras halve their rate at night.
    pub fn interval(&mut self, ticks: i64) -> Rhythm {
        if ticks <= 0 {
            return Rhythm::Usual;
        }
        keep(&mut self.all, ticks);
        let missing = self.missing(ticks);
        if missing == 0 {
            self.streak = 0;
            keep(&mut self.recent, ticks);
            return Rhythm::Usual;
        }
        self.streak += 1;
        self.relearned().unwrap_or(Rhythm::Missing(missing))
    }

    /// Takes in an interval of which nothing else is to be said.
    pub fn learn(&mut self, ticks: i64) {
        if ticks > 0 {
            keep(&mut self.recent, ticks);
        }
    }

    fn missing(&self, ticks: i64) -> u64 {
        let Some(median) = self.median() else { return 0 };
        if !steady(&self.recent, median) || ticks * 4 < median * 7 {
            return 0;
        }
        ((ticks + median / 2) / median - 1) as u64
    }

    /// Learns the newest intervals instead of the usual ones, if they are the rhythm now.
    fn relearned(&mut self) -> Option<Rhythm> {
        let from = self.median()?;
        let newest: VecDeque<i64> = self.all.iter().rev().take(ENOUGH).rev().copied().collect();
        let alike = self.streak >= ENOUGH && median(&newest).is_some_and(|m| steady(&newest, m));
        let often = || self.all.iter().filter(|i| self.missing(**i) > 0).count() * 2 >= WINDOW;
        if alike {
            self.recent = newest;
        } else if self.all.len() == WINDOW && often() {
            self.recent.clone_from(&self.all);
        } else {
            return None;
        }
        self.streak = 0;
        let to = self.median()?;
        Some(Rhythm::Changed { from, to })
    }

    /// The median interval, 1/90000 s, once enough frames came.
    pub fn median(&self) -> Option<i64> {
        median(&self.recent).filter(|_| self.recent.len() >= ENOUGH)
    }
}

fn keep(list: &mut VecDeque<i64>, ticks: i64) {
    if list.len() == WINDOW {
        list.pop_front();
    }
    list.push_back(ticks);
}

fn median(list: &VecDeque<i64>) -> Option<i64> {
    let mut sorted: Vec<i64> = list.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

fn steady(list: &VecDeque<i64>, median: i64) -> bool {
    list.iter().all(|i| (i - median).abs() * 4 <= median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(intervals: &[i64]) -> Cadence {
        let mut cadence = Cadence::default();
        for i in intervals.iter().cycle().take(40) {
            assert_eq!(cadence.interval(*i), Rhythm::Usual);
        }
        cadence
    }

    fn said(cadence: &mut Cadence, intervals: &[i64]) -> Vec<Rhythm> {
        intervals.iter().map(|i| cadence.interval(*i)).collect()
    }

    fn missing(said: &[Rhythm]) -> usize {
        said.iter().filter(|r| matches!(r, Rhythm::Missing(_))).count()
    }

    #[test]
    fn one_missing_frame_is_seen() {
        let mut cadence = learned(&[3600, 3600, 3500, 3700]);
        assert_eq!(cadence.median(), Some(3600));
        assert_eq!(cadence.interval(7200), Rhythm::Missing(1));
        assert_eq!(cadence.interval(3600), Rhythm::Usual);
        assert_eq!(cadence.interval(36_000), Rhythm::Missing(9));
    }

    #[test]
    fn an_unsteady_stream_raises_no_false_alarm() {
        let mut cadence = learned(&[3600, 7200, 3600]);
        assert_eq!(cadence.interval(9000), Rhythm::Usual);
    }

    #[test]
    fn nothing_is_said_at_the_beginning() {
        assert_eq!(Cadence::default().interval(900_000), Rhythm::Usual);
    }

    #[test]
    fn another_frame_rate_is_learned_through_its_steps() {
        let mut cadence = learned(&[3600]);
        assert_eq!(
            cadence.interval(6000),
            Rhythm::Usual,
            "less than one and three quarters"
        );
    }

    #[test]
    fn a_camera_that_halves_its_rate_is_believed_after_eight_frames() {
        let mut cadence = learned(&[3600]);
        let night = said(&mut cadence, &[7200; 500]);
        assert_eq!(missing(&night), 7);
        assert_eq!(night[7], Rhythm::Changed { from: 3600, to: 7200 });
        assert_eq!(cadence.interval(14_400), Rhythm::Missing(1), "in the new rhythm");
        assert_eq!(missing(&said(&mut cadence, &[3600; 500])), 0, "and back");
    }

    #[test]
    fn a_rate_that_became_unsteady_raises_no_alarm_for_ever() {
        for pattern in [[3600, 9000], [9000, 20_000], [7200, 3600]] {
            let mut cadence = learned(&[3600]);
            let all: Vec<i64> = pattern.iter().cycle().take(2000).copied().collect();
            let said = said(&mut cadence, &all);
            assert!(missing(&said) <= WINDOW, "{pattern:?}: {}", missing(&said));
            assert_eq!(missing(&said[64..]), 0, "{pattern:?}");
        }
    }

    #[test]
    fn losses_now_and_then_stay_losses() {
        let mut cadence = learned(&[3600]);
        let all: Vec<i64> = [3600, 3600, 3600, 7200]
            .iter()
            .cycle()
            .take(400)
            .copied()
            .collect();
        assert_eq!(missing(&said(&mut cadence, &all)), 100);
    }
}
