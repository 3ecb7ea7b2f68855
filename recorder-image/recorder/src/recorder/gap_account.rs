//! How long the gaps of each stream are together, by what became of them: kept up to date with little work, whatever was
//! recorded. A gap is looked at when it has ended, and again only while it may still change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use segment::StreamUid;
use segment::timeline::{GapState, TimelineGap};

use super::merged::Unreadable;
use super::state::Shared;
use crate::clock::boottime_ns;
use crate::local::GapLengths;

/// How often it is brought up to date.
const PERIOD: Duration = Duration::from_secs(2);
/// How long one round may take; what was not reached comes first in the next one.
const BUDGET: Duration = Duration::from_millis(200);

/// A gap that was found lost is looked at again for so long: the peer may have been slower than was thought.
const DOUBT: Duration = Duration::from_mins(5);
/// How often.
const DOUBT_PERIOD: Duration = Duration::from_secs(20);

/// A gap that ended: when, microseconds since the Unix epoch.
type Ended = (i64, i64);

/// What became of one gap. Times are since any fixed moment.
#[derive(Clone, Copy, Debug)]
struct Known {
    lengths: GapLengths,
    /// Since when any of it is lost, and when it was looked at last.
    lost: Option<(Duration, Duration)>,
}

impl Known {
    fn begun(gap: Ended) -> Self {
        Self {
            lengths: all_open(gap),
            lost: None,
        }
    }

    /// It was looked at.
    fn looked(self, lengths: GapLengths, now: Duration) -> Self {
        let since = self.lost.map_or(now, |(since, _)| since);
        Self {
            lengths,
            lost: (lengths.lost_ms > 0).then_some((since, now)),
        }
    }

    /// Whether it may be another one by now; `comes` says that the peer will send something of its time.
    fn may_change(&self, comes: impl Fn() -> bool, now: Duration) -> bool {
        let doubted = |(since, looked): (Duration, Duration)| {
            now.saturating_sub(since) < DOUBT && now.saturating_sub(looked) >= DOUBT_PERIOD
        };
        let lost = self.lost.is_some_and(|lost| doubted(lost) || comes());
        self.lengths.open_ms > 0 || lost
    }
}

/// What became of each gap of one stream.
#[derive(Debug, Default)]
struct Account {
    known: BTreeMap<Ended, Known>,
    /// The one that was looked at last.
    turn: Option<Ended>,
}

impl Account {
    /// Takes in which gaps there are now.
    fn keep(&mut self, gaps: &[Ended]) {
        let known = |gap: &Ended| self.known.get(gap).copied();
        let now = gaps
            .iter()
            .map(|gap| (*gap, known(gap).unwrap_or_else(|| Known::begun(*gap))));
        self.known = now.collect();
    }

    /// A gap was looked at.
    fn looked(&mut self, gap: Ended, lengths: GapLengths, now: Duration) {
        if let Some(known) = self.known.get_mut(&gap) {
            *known = known.looked(lengths, now);
        }
    }

    /// The next gap that may have changed, round and round; `turned` counts those of this round. What the peer will send is
    /// told in `lacking`: a lost gap may be refilled after all.
    fn next(&mut self, lacking: &[(i64, i64)], turned: &mut usize, now: Duration) -> Option<Ended> {
        let may_change = |(gap, known): (&Ended, &Known)| {
            let comes = || lacking.iter().any(|(from, to)| *from < gap.1 && *to > gap.0);
            known.may_change(comes, now).then_some(*gap)
        };
        if *turned >= self.known.len() {
            return None;
        }
        let after = self.turn.unwrap_or((i64::MIN, i64::MIN));
        let later = self
            .known
            .range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let all = later.chain(self.known.range(..=after));
        let found = all
            .enumerate()
            .find_map(|(i, gap)| may_change(gap).map(|gap| (i, gap)));
        let (passed, gap) = found?;
        *turned += passed + 1;
        (*turned <= self.known.len()).then(|| {
            self.turn = Some(gap);
            gap
        })
    }

    fn sum(&self) -> GapLengths {
        let add = |sum: GapLengths, next: GapLengths| GapLengths {
            open_ms: sum.open_ms + next.open_ms,
            refilled_ms: sum.refilled_ms + next.refilled_ms,
            lost_ms: sum.lost_ms + next.lost_ms,
        };
        let lengths = self.known.values().map(|known| known.lengths);
        lengths.fold(GapLengths::default(), add)
    }
}

fn all_open((start_us, end_us): Ended) -> GapLengths {
    GapLengths {
        open_ms: millis(end_us - start_us),
        ..GapLengths::default()
    }
}

/// Milliseconds, of a gap of less than one too: it has a frame.
fn millis(us: i64) -> u64 {
    us.max(1).cast_unsigned().div_ceil(1000)
}

/// The gaps of a list that ended, without what two of them have in common, and without what retention reached.
fn ended(gaps: &[segment::Gap], floor_us: i64) -> Vec<Ended> {
    let mut spans: Vec<Ended> = gaps
        .iter()
        .filter_map(|gap| Some((gap.start_us, gap.end_us?)))
        .filter(|(start, end)| start < end && *start >= floor_us)
        .collect();
    spans.sort_unstable();
    let mut until = i64::MIN;
    for (start, end) in &mut spans {
        *start = until.clamp(*start, (*end).max(*start));
        until = until.max(*end);
    }
    spans.retain(|(start, end)| start < end);
    spans
}

/// How long the parts of a gap are by their state. Before anything is recorded after it, nothing is found of it.
fn lengths(gap: Ended, found: &[TimelineGap]) -> GapLengths {
    if found.is_empty() {
        return all_open(gap);
    }
    let mut parts: Vec<(i64, i64, GapState)> = found
        .iter()
        .filter_map(|part| Some((part.start_us, part.end_us?, part.state)))
        .collect();
    // Where two say something of one time, the worse counts.
    parts.sort_by_key(|(start, _, state)| (std::cmp::Reverse(order(*state)), *start));
    let (mut sum, mut left) = ([0_i64; 3], vec![gap]);
    for (start, end, state) in parts {
        let taken = |(from, to): &Ended| (end.min(*to) - start.max(*from)).max(0);
        sum[order(state)] += left.iter().map(taken).sum::<i64>();
        left = left
            .into_iter()
            .flat_map(|span| cut(span, (start, end)))
            .collect();
    }
    let ms = |us: i64| if us > 0 { millis(us) } else { 0 };
    GapLengths {
        refilled_ms: ms(sum[0]),
        open_ms: ms(sum[1]),
        lost_ms: ms(sum[2]),
    }
}

fn order(state: GapState) -> usize {
    match state {
        GapState::Refilled => 0,
        GapState::Open => 1,
        GapState::Lost => 2,
    }
}

fn cut((from, to): Ended, (start, end): Ended) -> Vec<Ended> {
    let parts = [(from, to.min(start)), (from.max(end), to)];
    parts.into_iter().filter(|(from, to)| from < to).collect()
}

/// Keeps the accounts of the configured streams. Never returns.
pub async fn follow(shared: Arc<Shared>) {
    let mut accounts = BTreeMap::new();
    for n in 0_usize.. {
        tokio::time::sleep(PERIOD).await;
        let shared = Arc::clone(&shared);
        let round = tokio::task::spawn_blocking(move || {
            round(&shared, &mut accounts, n);
            accounts
        });
        match round.await {
            Ok(kept) => accounts = kept,
            Err(e) => {
                tracing::error!("the account of gaps begins anew: {e}");
                accounts = BTreeMap::new();
            }
        }
    }
}

/// Another stream is the first in each round `n`, so that none is always left out.
fn round(shared: &Shared, accounts: &mut BTreeMap<StreamUid, Account>, n: usize) {
    let (mut streams, begun) = (shared.registry.streams(), Instant::now());
    let first = n.checked_rem(streams.len()).unwrap_or(0);
    streams.rotate_left(first);
    accounts.retain(|uid, _| streams.iter().any(|stream| stream.uid == *uid));
    for stream in streams {
        let account = accounts.entry(stream.uid).or_default();
        {
            let catalogue = shared.catalogue();
            let found = catalogue.stream(stream.uid);
            let floor = found.and_then(|s| s.floor_us).unwrap_or(i64::MIN);
            account.keep(&found.map_or_else(Vec::new, |s| ended(&s.gaps, floor)));
        }
        let compared = shared.compared_of(stream.uid);
        let (mut turned, now) = (0, Duration::from_nanos(boottime_ns()));
        while begun.elapsed() < BUDGET
            && let Some(gap) = account.next(&compared.lacking, &mut turned, now)
        {
            match shared.gaps(stream.uid, gap, Unreadable::Fails) {
                Ok(found) => account.looked(gap, lengths(gap, &found), now),
                Err(e) => {
                    tracing::debug!(stream = %stream.uid, "a gap is not looked at: {e}");
                    break;
                }
            }
        }
        stream.lock().set_gap_lengths(account.sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    fn noted(start_s: i64, end_s: Option<i64>) -> segment::Gap {
        segment::Gap {
            start_us: start_s * S,
            end_us: end_s.map(|s| s * S),
            cause: "Watchdog".into(),
            evidence: String::new(),
            frames: None,
        }
    }

    fn part(start_s: i64, end_s: i64, state: GapState) -> TimelineGap {
        TimelineGap {
            start_us: start_s * S,
            end_us: Some(end_s * S),
            cause: "Watchdog".into(),
            state,
            evidence: String::new(),
            frames: None,
        }
    }

    fn ms(open_ms: u64, refilled_ms: u64, lost_ms: u64) -> GapLengths {
        GapLengths {
            open_ms,
            refilled_ms,
            lost_ms,
        }
    }

    #[test]
    fn no_moment_counts_twice_and_none_that_retention_reached() {
        let gaps = [
            noted(10, Some(20)),
            noted(15, Some(25)),
            noted(12, Some(13)),
            noted(30, None),
            noted(1, Some(2)),
        ];
        let spans = ended(&gaps, 5 * S);
        assert_eq!(spans, [(10 * S, 20 * S), (20 * S, 25 * S)]);
    }

    #[test]
    fn the_parts_of_a_gap_count_by_their_state() {
        use GapState::{Lost, Open, Refilled};
        let gap = (10 * S, 20 * S);
        let table = [
            (vec![part(10, 20, Refilled)], ms(0, 10_000, 0)),
            (vec![part(5, 30, Lost)], ms(0, 0, 10_000)),
            (
                vec![part(10, 12, Open), part(12, 15, Refilled), part(15, 20, Lost)],
                ms(2000, 3000, 5000),
            ),
            (
                vec![part(10, 20, Refilled), part(14, 15, Lost)],
                ms(0, 9000, 1000),
            ),
            (vec![], ms(10_000, 0, 0)),
        ];
        for (found, want) in table {
            assert_eq!(lengths(gap, &found), want, "{found:?}");
        }
    }

    #[test]
    fn what_was_found_lost_is_looked_at_again_for_a_while_and_taken_back() {
        let (gap, s) = ((0, S), Duration::from_secs);
        let mut account = Account::default();
        account.keep(&[gap]);
        let looks = |account: &mut Account, now| account.next(&[], &mut 0, now).is_some();
        account.looked(gap, ms(0, 0, 1000), s(100));
        assert!(!looks(&mut account, s(119)) && looks(&mut account, s(120)));
        account.looked(gap, ms(0, 0, 1000), s(120));
        assert!(!looks(&mut account, s(139)) && looks(&mut account, s(140)));
        assert!(!looks(&mut account, s(400)), "it is lost");
        account.looked(gap, ms(0, 1000, 0), s(140));
        assert_eq!(account.sum(), ms(0, 1000, 0));
        assert!(!looks(&mut account, s(160)), "nothing is lost any more");
    }

    #[test]
    fn only_what_may_change_is_looked_at_again() {
        let gaps: Vec<Ended> = (0..4).map(|n| (n * 10 * S, n * 10 * S + S)).collect();
        let mut account = Account::default();
        account.keep(&gaps);
        assert_eq!(account.sum(), ms(4000, 0, 0));
        account.looked(gaps[0], ms(0, 1000, 0), Duration::ZERO);
        account.looked(gaps[1], ms(0, 0, 1000), Duration::ZERO);
        let round = |account: &mut Account, lacking: &[(i64, i64)]| {
            let (mut turned, mut seen) = (0, Vec::new());
            while let Some(gap) = account.next(lacking, &mut turned, DOUBT) {
                seen.push(gap);
            }
            seen.sort_unstable();
            seen
        };
        for _ in 0..3 {
            assert_eq!(round(&mut account, &[]), gaps[2..]);
            assert_eq!(round(&mut account, &[(0, 11 * S)]), gaps[1..]);
        }
        account.keep(&gaps[..2]);
        assert_eq!(account.sum(), ms(0, 1000, 1000));
        assert_eq!(round(&mut account, &[]), []);
    }
}
