//! The account of a recording: which frames are there, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Consecutive frame numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First number.
    pub first: u64,
    /// Last number.
    pub last: u64,
}

impl Span {
    /// How many frames that is.
    pub fn frames(&self) -> u64 {
        self.last - self.first + 1
    }

    /// What both have in common.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    /// What it has beside another one: nothing, one piece or two.
    pub fn without(&self, other: &Self) -> Vec<Self> {
        let Some(common) = self.intersect(other) else {
            return vec![*self];
        };
        let before = (self.first < common.first).then(|| Self {
            first: self.first,
            last: common.first - 1,
        });
        let after = (common.last < self.last).then(|| Self {
            first: common.last + 1,
            last: self.last,
        });
        before.into_iter().chain(after).collect()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

/// Joins ascending numbers into spans.
pub fn spans(numbers: impl IntoIterator<Item = u64>) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    for n in numbers {
        match out.last_mut() {
            Some(span) if span.last + 1 == n => span.last = n,
            _ => out.push(Span { first: n, last: n }),
        }
    }
    out
}

/// What was found in one recording of one camera.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    seen: BTreeMap<u64, u32>,
    last: Option<u64>,
    /// Pairs of neighbours of which the second is the older one.
    pub out_of_order: Vec<(u64, u64)>,
    /// Frames without a number, or with more than one, or without a picture, by the number that came next; those at the
    /// end under `u64::MAX`.
    unreadable: BTreeMap<u64, u64>,
}

impl Account {
    /// Counts frame numbers in the order of the recording.
    pub fn of(counters: impl IntoIterator<Item = u64>) -> Self {
        let mut account = Self::default();
        account.extend(counters);
        account
    }

    /// The first number, if there is any.
    pub fn first(&self) -> Option<u64> {
        self.seen.keys().next().copied()
    }

    /// The highest number, if there is any.
    pub fn last(&self) -> Option<u64> {
        self.seen.keys().next_back().copied()
    }

    /// How many different frames there are.
    pub fn frames(&self) -> u64 {
        self.seen.len() as u64
    }

    /// The numbers that are there.
    pub fn held(&self) -> Vec<Span> {
        spans(self.seen.keys().copied())
    }

    /// The numbers that occur more than once.
    pub fn doubled(&self) -> Vec<Span> {
        spans(self.seen.iter().filter(|(_, times)| **times > 1).map(|(n, _)| *n))
    }

    /// How many frames there are beyond the first of each number.
    pub fn surplus(&self) -> u64 {
        self.seen.values().map(|times| u64::from(*times) - 1).sum()
    }

    /// Counts frames in the order of the recording; `None` is one whose number cannot be read.
    pub fn frames_in_order(&mut self, counters: impl IntoIterator<Item = Option<u64>>) {
        let mut unreadable = 0;
        for counter in counters {
            let Some(n) = counter else {
                unreadable += 1;
                continue;
            };
            self.unreadable(n, std::mem::take(&mut unreadable));
            self.extend([n]);
        }
        self.unreadable(u64::MAX, unreadable);
    }

    fn unreadable(&mut self, before: u64, frames: u64) {
        if frames > 0 {
            *self.unreadable.entry(before).or_insert(0) += frames;
        }
    }

    /// How many frames after number `first` have no number that can be read. One in the place of `first` or before it is
    /// not counted: a session that joins a camera between two packets of a frame gets its picture without the number.
    pub fn unreadable_after(&self, first: u64) -> u64 {
        self.unreadable_beside(first, &[])
    }

    /// The same, without those in the place of one of these frames: sessions may join a camera again there.
    pub fn unreadable_beside(&self, first: u64, joins: &[Span]) -> u64 {
        let joins = |next: u64| {
            joins
                .iter()
                .any(|span| span.first < next && next <= span.last + 1)
        };
        let counts = |next: u64| next > first && !joins(next);
        let counted = self.unreadable.iter().filter(|(next, _)| counts(**next));
        counted.map(|(_, frames)| frames).sum()
    }

    /// What lacks between the first and the last frame found.
    pub fn missing(&self) -> Vec<Span> {
        let held = self.held();
        held.windows(2)
            .map(|pair| Span {
                first: pair[0].last + 1,
                last: pair[1].first - 1,
            })
            .collect()
    }

    /// What lacks of what a camera pushed.
    pub fn missing_of(&self, pushed: &[Span]) -> Vec<Span> {
        spans(
            pushed
                .iter()
                .flat_map(|span| span.first..=span.last)
                .filter(|n| !self.seen.contains_key(n)),
        )
    }

    /// Adds another recording of the same camera: the union has a frame if either has it, and says nothing of order.
    pub fn union(&mut self, other: &Self) {
        for n in other.seen.keys() {
            self.seen.entry(*n).or_insert(1);
        }
        for (next, frames) in &other.unreadable {
            self.unreadable(*next, *frames);
        }
    }
}

impl Extend<u64> for Account {
    fn extend<T: IntoIterator<Item = u64>>(&mut self, counters: T) {
        for n in counters {
            *self.seen.entry(n).or_insert(0) += 1;
            if let Some(before) = self.last.filter(|before| *before > n) {
                self.out_of_order.push((before, n));
            }
            self.last = Some(n);
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |spans: Vec<Span>| spans.iter().map(Span::to_string).collect::<Vec<_>>().join(" ");
        write!(f, "{} frames", self.frames())?;
        if let (Some(first), Some(last)) = (self.first(), self.last()) {
            write!(f, " of {first}..={last}")?;
        }
        write!(f, "; missing [{}]", list(self.missing()))?;
        write!(f, "; doubled [{}]", list(self.doubled()))?;
        write!(
            f,
            "; out of order {:?}; unreadable {}",
            self.out_of_order,
            self.unreadable.values().sum::<u64>()
        )
    }
}
