//! What a stream has to say to its ledger, until the writer takes it. Bounded: when the disk hangs for long, gaps are
//! joined, and none is forgotten.

use std::collections::VecDeque;
use std::time::Duration;

use super::{GapNotice, Notice};

/// The most notices that wait.
const MAX: usize = 256;
/// Drops that are no further apart than this are one gap, microseconds.
const NEAR_US: i64 = 2_000_000;
/// Drops are one gap until there was none for this long ...
const QUIET: Duration = Duration::from_secs(5);
/// ... or until it has lasted this long: on a full disk groups of pictures leave the ring for days, and the reserve must
/// not be eaten up by records of it.
const LONGEST: Duration = Duration::from_mins(1);

/// Frames that leave the ring, group after group.
#[derive(Debug)]
struct Drops {
    gap: GapNotice,
    /// The first and the newest drop, on `CLOCK_BOOTTIME`.
    began: Duration,
    grew: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Notices {
    waiting: VecDeque<Notice>,
    drops: Option<Drops>,
}

impl Notices {
    /// Keeps a notice.
    pub(super) fn push(&mut self, notice: Notice) {
        self.waiting.push_back(notice);
        self.bound();
    }

    /// Frames left the ring at `now`. Returns whether this is another gap than that of the last ones.
    pub(super) fn dropped(&mut self, gap: GapNotice, now: Duration) -> bool {
        if let Some(drops) = self.drops.as_mut().filter(|d| d.takes(&gap)) {
            drops.gap = joined(&drops.gap, &gap);
            drops.grew = now;
            return false;
        }
        self.flush();
        self.drops = Some(Drops {
            gap,
            began: now,
            grew: now,
        });
        true
    }

    /// The notices for the ledger, oldest first. Drops that go on at `now` wait; at the end (`Duration::MAX`) nothing does.
    pub(super) fn take(&mut self, now: Duration) -> Vec<Notice> {
        if self.drops.as_ref().is_some_and(|d| d.is_over(now)) {
            self.flush();
        }
        self.waiting.drain(..).collect()
    }

    /// Notices that could not be written go back.
    pub(super) fn put_back(&mut self, notices: Vec<Notice>) {
        for notice in notices.into_iter().rev() {
            self.waiting.push_front(notice);
        }
        self.bound();
    }

    fn flush(&mut self) {
        if let Some(drops) = self.drops.take() {
            self.push(Notice::Gap(drops.gap));
        }
    }

    fn bound(&mut self) {
        while self.waiting.len() > MAX {
            let _ = self.forget_begun() || self.join_nearest() || self.forget_remark();
        }
    }

    /// The beginning of a gap says nothing more than the record of its end.
    fn forget_begun(&mut self) -> bool {
        let ends: Vec<i64> = self
            .gaps()
            .filter(|g| g.1.end_us.is_some())
            .map(|g| g.1.start_us)
            .collect();
        let begun = self
            .gaps()
            .find(|g| g.1.end_us.is_none() && ends.contains(&g.1.start_us));
        let Some(at) = begun.map(|g| g.0) else {
            return false;
        };
        self.waiting.remove(at).is_some()
    }

    /// Joins the two ended gaps, one after the other, with the least time between them.
    fn join_nearest(&mut self) -> bool {
        let ended: Vec<_> = self.gaps().filter(|g| g.1.end_us.is_some()).collect();
        let between = |pair: &[(usize, &GapNotice)]| {
            let end_us = pair[0].1.end_us.unwrap_or_default();
            (pair[1].1.start_us - end_us).abs()
        };
        let nearest = ended.windows(2).min_by_key(|pair| between(pair));
        let Some((at, next, gap)) = nearest.map(|p| (p[0].0, p[1].0, joined(p[0].1, p[1].1))) else {
            return false;
        };
        self.waiting.remove(next);
        self.waiting[at] = Notice::Gap(gap);
        true
    }

    fn forget_remark(&mut self) -> bool {
        let remark = self.waiting.iter().position(|n| matches!(n, Notice::Note(_)));
        self.waiting.remove(remark.unwrap_or(0)).is_some()
    }

    fn gaps(&self) -> impl Iterator<Item = (usize, &GapNotice)> {
        self.waiting.iter().enumerate().filter_map(|(i, n)| match n {
            Notice::Gap(gap) => Some((i, gap)),
            Notice::Note(_) => None,
        })
    }
}

impl Drops {
    fn takes(&self, next: &GapNotice) -> bool {
        let near = |end: i64| (next.start_us - end).abs() < NEAR_US;
        next.evidence == self.gap.evidence && self.gap.end_us.is_some_and(near)
    }

    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.grew) > QUIET || now.saturating_sub(self.began) > LONGEST
    }
}

/// One gap of two that ended.
fn joined(one: &GapNotice, other: &GapNotice) -> GapNotice {
    const JOINED: &str =
        "several gaps, joined while the volume took no notes: some frames between them may be held; ";
    let evidence = if one.evidence == other.evidence || one.evidence.starts_with(JOINED) {
        one.evidence.clone()
    } else {
        format!("{JOINED}the first: {}", one.evidence)
    };
    GapNotice {
        start_us: one.start_us.min(other.start_us),
        end_us: one.end_us.max(other.end_us),
        cause: one.cause.clone(),
        evidence,
        frames: one.frames.zip(other.frames).map(|(a, b)| a + b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn gap(start_s: i64, end_s: Option<i64>) -> GapNotice {
        GapNotice {
            start_us: start_s * 1_000_000,
            end_us: end_s.map(|s| s * 1_000_000),
            cause: "PacketLoss".into(),
            evidence: format!("at {start_s}"),
            frames: end_s.map(|_| 1),
        }
    }

    fn dropped(start_s: i64) -> GapNotice {
        GapNotice {
            evidence: "full".into(),
            ..gap(start_s, Some(start_s + 1))
        }
    }

    fn gaps(notices: &[Notice]) -> Vec<&GapNotice> {
        let mut gaps = Vec::new();
        for notice in notices {
            if let Notice::Gap(gap) = notice {
                gaps.push(gap);
            }
        }
        gaps
    }

    #[test]
    fn no_gap_is_forgotten_when_too_many_wait() {
        let mut notices = Notices::default();
        notices.push(Notice::Gap(gap(0, None)));
        notices.push(Notice::Note("a run".into()));
        for n in 0..5000 {
            notices.push(Notice::Gap(gap(n * 10, Some(n * 10 + 1))));
        }
        let taken = notices.take(S);
        assert_eq!(taken.len(), MAX);
        let gaps = gaps(&taken);
        assert_eq!(gaps.iter().filter_map(|g| g.frames).sum::<u64>(), 5000);
        assert_eq!(gaps.iter().map(|g| g.start_us).min(), Some(0));
        assert_eq!(gaps.iter().filter_map(|g| g.end_us).max(), Some(49_991_000_000));
        assert!(gaps.windows(2).all(|w| w[0].end_us.unwrap() <= w[1].start_us));
        let longest = gaps.iter().map(|g| g.evidence.len()).max();
        assert!(longest < Some(200), "{longest:?}");
    }

    #[test]
    fn what_could_not_be_written_comes_first_again() {
        let mut notices = Notices::default();
        notices.push(Notice::Gap(gap(0, Some(1))));
        let taken = notices.take(S);
        notices.push(Notice::Gap(gap(50, Some(51))));
        notices.put_back(taken);
        let starts: Vec<_> = notices
            .take(S)
            .iter()
            .map(|n| gaps(std::slice::from_ref(n))[0].start_us)
            .collect();
        assert_eq!(starts, [0, 50_000_000]);
        notices.put_back(vec![Notice::Note("x".into()); MAX + 9]);
        notices.push(Notice::Gap(gap(70, Some(71))));
        assert_eq!(gaps(&notices.take(S)).len(), 1, "remarks leave before gaps");
    }

    #[test]
    fn drops_that_go_on_are_one_gap() {
        let mut notices = Notices::default();
        let mut taken = Vec::new();
        for n in 0..150 {
            notices.dropped(dropped(n), S * (n as u32));
            taken.extend(notices.take(S * (n as u32)));
        }
        assert_eq!(taken.len(), 2, "one a minute: {taken:?}");
        taken.extend(notices.take(S * 160));
        let frames: u64 = gaps(&taken).iter().filter_map(|g| g.frames).sum();
        assert_eq!((taken.len(), frames), (3, 150));
    }

    #[test]
    fn drops_far_apart_are_gaps_of_their_own_and_nothing_waits_at_the_end() {
        let mut notices = Notices::default();
        assert!(notices.dropped(dropped(0), S));
        assert!(!notices.dropped(dropped(1), S));
        assert!(notices.dropped(dropped(9), S));
        assert_eq!(gaps(&notices.take(S)).len(), 1);
        assert_eq!(gaps(&notices.take(Duration::MAX)).len(), 1);
    }
}
