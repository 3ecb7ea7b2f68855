//! The gaps that a member noted of one stream, in memory. The ledger has each of them as it was noted.

use std::ops::Deref;

use crate::ledger::Gap;

/// The cause of a hole that no record of this member explains.
pub const UNKNOWN: &str = "Unknown";
/// Every cause that this version or one before it wrote.
pub const CAUSES: [&str; 10] = [
    "Disconnected",
    "Watchdog",
    "PacketLoss",
    "Malformed",
    "FramesMissing",
    "RecorderRestart",
    "Reconfigured",
    "TaskFailed",
    "NotHeldHere",
    "Takeover",
];

/// A cause as a label: one of [`CAUSES`], whatever a ledger says.
pub fn label(cause: &str) -> &'static str {
    CAUSES
        .into_iter()
        .find(|known| *known == cause)
        .unwrap_or(UNKNOWN)
}

/// Gaps of one cause that are no further apart than this are shown as one, microseconds.
const JOIN_US: i64 = 1_000_000;
/// The most gaps that are kept; the oldest leave.
const MAX: usize = 16_384;

/// See the module. A list, in the order in which they were noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    list: Vec<Gap>,
    /// The one that has no end yet: a session has at most one, so the next to begin ends it.
    open: Option<usize>,
}

impl Deref for Gaps {
    type Target = [Gap];

    fn deref(&self) -> &[Gap] {
        &self.list
    }
}

impl Gaps {
    /// Notes a gap, or the end of the one that lasts.
    pub fn push(&mut self, gap: Gap) {
        let same = |known: &Gap| known.start_us == gap.start_us;
        if let Some(open) = self.open.and_then(|at| self.list.get_mut(at)).filter(|g| same(g)) {
            let ends = gap.end_us.is_some();
            *open = gap;
            if ends {
                self.ended();
            }
            return;
        }
        if gap.end_us.is_none() || self.open_since().is_some_and(|since| since < gap.start_us) {
            self.end_at(gap.start_us);
        }
        if gap.end_us.is_none() {
            self.open = Some(self.list.len());
        }
        self.list.push(gap);
        self.join_last();
        self.bound();
    }

    /// Where the gap began that has no end yet.
    pub fn open_since(&self) -> Option<i64> {
        self.open.and_then(|at| self.list.get(at)).map(|g| g.start_us)
    }

    /// The gap without an end ended here.
    pub fn end_at(&mut self, end_us: i64) {
        if let Some(gap) = self.open.and_then(|at| self.list.get_mut(at)) {
            gap.end_us = Some(end_us.max(gap.start_us));
            self.ended();
        }
    }

    fn ended(&mut self) {
        if self.open.take() == self.list.len().checked_sub(1) {
            self.join_last();
        }
    }

    /// Joins the last gap with the one before, where that ended just before for the same reason.
    fn join_last(&mut self) {
        let [.., before, last] = &mut self.list[..] else {
            return;
        };
        let near = |end: i64| (0..=JOIN_US).contains(&(last.start_us - end));
        if before.cause != last.cause || last.end_us.is_none() || !before.end_us.is_some_and(near) {
            return;
        }
        before.end_us = last.end_us;
        before.frames = before.frames.zip(last.frames).map(|(a, b)| a + b);
        self.list.pop();
    }

    fn bound(&mut self) {
        if self.list.len() > MAX {
            self.list.drain(..MAX / 4);
            self.open = self.open.and_then(|at| at.checked_sub(MAX / 4));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(start_us: i64, end_us: Option<i64>, cause: &str) -> Gap {
        Gap {
            start_us,
            end_us,
            cause: cause.into(),
            evidence: String::new(),
            frames: end_us.map(|_| 1),
        }
    }

    fn noted(gaps: &[Gap]) -> Gaps {
        let mut list = Gaps::default();
        for gap in gaps {
            list.push(gap.clone());
        }
        list
    }

    #[test]
    fn the_end_of_a_gap_replaces_its_beginning() {
        let list = noted(&[gap(5, None, "Watchdog"), gap(5, Some(9), "Watchdog")]);
        assert_eq!(&list[..], [gap(5, Some(9), "Watchdog")]);
        assert_eq!(list.open_since(), None);
    }

    #[test]
    fn a_gap_whose_end_nobody_wrote_down_ends_with_the_next_one() {
        for next in [gap(70, None, "RecorderRestart"), gap(70, Some(90), "PacketLoss")] {
            let list = noted(&[gap(5, None, "Disconnected"), next.clone()]);
            assert_eq!(list[0].end_us, Some(70));
            assert_eq!(list[1], next);
        }
        // What is noted of the time before it does not end it.
        let list = noted(&[gap(50, None, "Disconnected"), gap(5, Some(20), "NotHeldHere")]);
        assert_eq!((list.open_since(), list[1].end_us), (Some(50), Some(20)));
    }

    #[test]
    fn neighbours_of_one_cause_are_joined() {
        let list = noted(&[
            gap(0, Some(10), "PacketLoss"),
            gap(1_000_000, Some(1_000_010), "PacketLoss"),
            gap(3_000_000, Some(3_000_010), "PacketLoss"),
            gap(3_000_020, Some(3_000_030), "FramesMissing"),
        ]);
        let spans: Vec<_> = list.iter().map(|g| (g.start_us, g.end_us, g.frames)).collect();
        assert_eq!(
            spans,
            [
                (0, Some(1_000_010), Some(2)),
                (3_000_000, Some(3_000_010), Some(1)),
                (3_000_020, Some(3_000_030), Some(1))
            ]
        );
    }

    #[test]
    fn the_list_is_bounded() {
        let mut list = Gaps::default();
        for i in 0..i64::from(u16::MAX) {
            list.push(gap(i * 5_000_000, Some(i * 5_000_000 + 1), "PacketLoss"));
        }
        list.push(gap(i64::MAX / 2, None, "Disconnected"));
        assert!(list.len() <= MAX);
        assert_eq!(list.open_since(), Some(i64::MAX / 2));
    }
}
