//! What this member knows of what its peer holds of a stream. Pure.
//!
//! When a connection is made the peer says what it holds; what it gets from then on comes over that connection as it is
//! written. So while the connection stands its whole catalogue is known here up to a little while ago, and what is not
//! listed as lacking is not there.

use serde::{Deserialize, Serialize};

use crate::canonical::WINDOW_US;

/// The most spans that are listed for a stream; more are joined, the nearest first.
const MAX_SPANS: usize = 16;

/// See the module. By default nothing is known, so the peer may hold anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// What the peer holds of the time before this is here or in `lacking`, microseconds since the Unix epoch by this
    /// member's clock; `None` where the peer was never heard.
    pub until_us: Option<i64>,
    /// From when to when the peer holds media that is not here yet, microseconds since the Unix epoch by its clock.
    pub lacking: Vec<(i64, i64)>,
}

impl Compared {
    /// Whether the peer may hold frames of a span that are not here.
    pub fn may_hold(&self, (start_us, end_us): (i64, i64)) -> bool {
        let lacks = |(from, to): &(i64, i64)| {
            from.saturating_sub(WINDOW_US) < end_us && to.saturating_add(WINDOW_US) > start_us
        };
        self.until_us.is_none_or(|until| end_us > until) || self.lacking.iter().any(lacks)
    }
}

/// Spans in the order of time, those that touch joined, and no more than a bound: nothing of them is left out.
pub fn joined(mut spans: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    spans.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::new();
    for (from, to) in spans {
        match out.last_mut() {
            Some(last) if from <= last.1.saturating_add(WINDOW_US) => last.1 = last.1.max(to),
            _ => out.push((from, to)),
        }
    }
    if out.len() <= MAX_SPANS {
        return out;
    }
    // Only the widest pauses stay.
    let pause = |at: &usize| out[*at].0.saturating_sub(out[*at - 1].1);
    let mut pauses: Vec<usize> = (1..out.len()).collect();
    pauses.sort_unstable_by_key(|at| std::cmp::Reverse(pause(at)));
    pauses.truncate(MAX_SPANS - 1);
    pauses.sort_unstable();
    let begins = std::iter::once(0).chain(pauses.iter().copied());
    let ends = pauses.iter().copied().chain([out.len()]);
    begins
        .zip(ends)
        .map(|(begin, end)| (out[begin].0, out[end - 1].1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    #[test]
    fn what_the_peer_may_hold() {
        let known = |until_us, lacking: &[(i64, i64)]| Compared {
            until_us,
            lacking: lacking.to_vec(),
        };
        let span = (100 * S, 110 * S);
        let table = [
            ("never heard", known(None, &[]), true),
            ("heard before it ended", known(Some(109 * S), &[]), true),
            ("heard since", known(Some(110 * S), &[]), false),
            (
                "something else comes",
                known(Some(200 * S), &[(0, 90 * S)]),
                false,
            ),
            ("some of it comes", known(Some(200 * S), &[(0, 101 * S)]), true),
            ("just before it", known(Some(200 * S), &[(0, 99 * S)]), true),
            (
                "all may come",
                known(Some(200 * S), &[(i64::MIN, i64::MAX)]),
                true,
            ),
        ];
        for (what, compared, may) in table {
            assert_eq!(compared.may_hold(span), may, "{what}");
        }
    }

    #[test]
    fn many_spans_are_joined_and_none_is_left_out() {
        assert_eq!(joined(vec![(9 * S, 12 * S), (0, 8 * S)]), [(0, 12 * S)]);
        let spans: Vec<_> = (0..999).map(|n| (n * n * S, n * n * S + S)).collect();
        let few = joined(spans.clone());
        assert_eq!(few.len(), MAX_SPANS);
        for (from, to) in spans {
            assert!(few.iter().any(|f| f.0 <= from && to <= f.1), "{from}");
        }
    }

    #[test]
    fn the_widest_pauses_stay() {
        // After each tenth span the pause is longer.
        let begin = |n: i64| (n * 10 + n / 10 * 60) * S;
        let few = joined((0..200).map(|n| (begin(n), begin(n) + S)).collect());
        assert_eq!(few.len(), MAX_SPANS);
        let pauses = few.windows(2).map(|pair| pair[1].0 - pair[0].1);
        assert!(pauses.into_iter().all(|pause| pause == 69 * S), "{few:?}");
        assert_eq!((few[0].0, few[MAX_SPANS - 1].1), (0, begin(199) + S));
    }
}
