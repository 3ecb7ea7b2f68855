//! How much media a peer may send (I4): so many bytes for each stream and hour of media, from the rate at which this member
//! receives the stream itself. Without it a captured peer could fill a volume with well-formed garbage, and retention by size would let go
//! of what is true.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::id::StreamUid;
use crate::inventory::Held;
use crate::sabotage::{Invariant::I4, breaks};

/// An hour, microseconds.
const HOUR_US: i64 = 3_600_000_000;
/// How many times the highest rate that was measured here a stream may come with: both members' recordings of it, a camera that sends more
/// by day than by night, and a member that was started by night.
const TIMES: u64 = 8;
/// What a stream may have that was measured here, however little it was, bits a second.
const LEAST: u64 = 16_000_000;
/// What a stream may have that this member never received, bits a second.
const UNMEASURED: u64 = 64_000_000;

/// What was sent of each stream and hour. Every moment is passed in, microseconds since the Unix epoch.
///
/// An hour is that of the media, so that a lost volume is filled as fast as the network allows. It is held between the newest media that
/// retention let go of (of the stream, else of the one that goes back furthest; older media share the budget of that hour) and the
/// hour that comes, so that hours cannot be made up. Streams that this member is not told to record share one budget, which is
/// as large as that of all the others together: a stream that was removed is still replicated.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// The highest rate at which each stream of this member was received here, bits a second.
    measured: BTreeMap<StreamUid, u64>,
    /// The end of the newest media of each stream that retention removed.
    floors: BTreeMap<StreamUid, i64>,
    /// The lowest of them of a stream that this member records.
    lowest: Option<i64>,
    /// Bytes by stream and hour; the streams that are not known here together.
    spent: BTreeMap<(Option<StreamUid>, i64), u64>,
    now_us: i64,
}

/// What a peer sent is more than a stream can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The budget of the hour, bytes.
    pub of: u64,
}

impl Budget {
    /// It is now so late, and retention came so far.
    pub fn advance(&mut self, now_us: i64, floors: impl IntoIterator<Item = (StreamUid, i64)>) {
        let is_another_hour = hour(now_us) != hour(self.now_us);
        self.now_us = now_us;
        self.floors = floors.into_iter().collect();
        self.lowest = self
            .measured
            .keys()
            .filter_map(|uid| self.floors.get(uid))
            .min()
            .copied();
        if is_another_hour {
            // Nothing is booked on these hours any more.
            let mut spent = std::mem::take(&mut self.spent);
            spent.retain(|(stream, booked), _| *booked >= hour(self.floor(*stream)));
            self.spent = spent;
        }
    }

    /// The streams that this member records, with the rate of each now, bits a second; 0 where it receives none.
    pub fn measured(&mut self, rates: impl IntoIterator<Item = (StreamUid, u64)>) {
        let before = std::mem::take(&mut self.measured);
        let highest = |(uid, rate): (StreamUid, u64)| (uid, before.get(&uid).copied().unwrap_or(0).max(rate));
        self.measured = rates.into_iter().map(highest).collect();
    }

    /// At least what is sealed here of other writers than `own` was sent.
    pub fn load(&mut self, own: Uuid, held: &[Held]) {
        let mut here: BTreeMap<_, u64> = BTreeMap::new();
        let theirs = held.iter().filter(|held| held.id.store != own && !held.reclaimed);
        for (held, span) in theirs.filter_map(|held| Some((held, held.span_us?))) {
            *here.entry(self.account(held.id.stream, span.0)).or_default() += held.length;
        }
        for (account, bytes) in here {
            let spent = self.spent.entry(account).or_default();
            *spent = bytes.max(*spent);
        }
    }

    /// Counts bytes of media of this time.
    ///
    /// # Errors
    /// [`Exceeded`]; then they are not counted, and not to be kept.
    pub fn spend(&mut self, stream: StreamUid, at_us: i64, bytes: u64) -> Result<(), Exceeded> {
        let account = self.account(stream, at_us);
        let of = self.limit(account.0);
        let spent = self.spent.entry(account).or_default();
        let sum = spent.saturating_add(bytes);
        // A member that does not know its streams yet has nothing to measure by.
        if sum > of && !self.measured.is_empty() && !breaks(I4) {
            return Err(Exceeded { of });
        }
        *spent = sum;
        Ok(())
    }

    fn account(&self, stream: StreamUid, at_us: i64) -> (Option<StreamUid>, i64) {
        let latest = self.now_us.saturating_add(HOUR_US);
        let earliest = self.floor(Some(stream)).min(latest);
        let known = self.measured.contains_key(&stream).then_some(stream);
        (known, hour(at_us.clamp(earliest, latest)))
    }

    fn floor(&self, stream: Option<StreamUid>) -> i64 {
        let own = stream.and_then(|uid| self.floors.get(&uid).copied());
        own.max(self.lowest).unwrap_or(i64::MIN)
    }

    /// Bytes an hour.
    fn limit(&self, stream: Option<StreamUid>) -> u64 {
        let rate = |measured: u64| match measured {
            0 => UNMEASURED,
            rate => rate.saturating_mul(TIMES).max(LEAST),
        };
        let bits = match stream.and_then(|uid| self.measured.get(&uid)) {
            Some(measured) => rate(*measured),
            None => self
                .measured
                .values()
                .map(|m| rate(*m))
                .fold(0, u64::saturating_add),
        };
        bits.saturating_mul(3600 / 8)
    }
}

fn hour(at_us: i64) -> i64 {
    at_us.div_euclid(HOUR_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SegmentId;

    const STREAM: StreamUid = Uuid::from_u128(1);
    const REMOVED: StreamUid = Uuid::from_u128(2);
    const OTHER: StreamUid = Uuid::from_u128(3);
    /// The beginning of an hour.
    const NOW: i64 = 500_000 * HOUR_US;
    const OF_LEAST: u64 = LEAST * 450;

    fn budget() -> Budget {
        let mut budget = Budget::default();
        budget.measured([(STREAM, 1_000_000)]);
        budget.advance(NOW, []);
        budget
    }

    #[test]
    fn i4_a_stream_has_a_budget_for_each_hour_of_its_media() {
        let mut budget = budget();
        assert_eq!(budget.spend(STREAM, NOW, OF_LEAST), Ok(()));
        let refused = Err(Exceeded { of: OF_LEAST });
        for at in [NOW, NOW + HOUR_US - 1] {
            assert_eq!(budget.spend(STREAM, at, 1), refused, "the same hour");
        }
        assert_eq!(budget.spend(STREAM, NOW - 1, OF_LEAST), Ok(()), "the hour before");
        assert_eq!(budget.spend(STREAM, NOW - 1, 1), refused);
    }

    #[test]
    fn i4_hours_cannot_be_made_up() {
        let mut budget = budget();
        assert_eq!(budget.spend(STREAM, i64::MAX, OF_LEAST), Ok(()));
        for ahead in [1, 2, 1000] {
            assert!(
                budget.spend(STREAM, NOW + ahead * HOUR_US, 1).is_err(),
                "{ahead} hours ahead"
            );
        }
        budget.advance(NOW, [(STREAM, NOW - 5 * HOUR_US), (REMOVED, 0)]);
        assert_eq!(budget.spend(STREAM, i64::MIN, OF_LEAST), Ok(()));
        for before in [5, 6, 1000] {
            assert!(
                budget.spend(STREAM, NOW - before * HOUR_US, 1).is_err(),
                "{before} hours before"
            );
        }
        assert_eq!(
            budget.spend(STREAM, NOW - 4 * HOUR_US, 1),
            Ok(()),
            "not removed yet"
        );
        assert_eq!(budget.spend(REMOVED, 0, OF_LEAST), Ok(()));
        for before in [5, 6, 1000] {
            let spent = budget.spend(REMOVED, NOW - before * HOUR_US, 1);
            assert!(
                spent.is_err(),
                "{before} hours before, of a stream that is not recorded here"
            );
        }
    }

    #[test]
    fn hours_that_retention_let_go_of_are_forgotten() {
        let mut budget = budget();
        for stream in [STREAM, REMOVED] {
            (0..5).for_each(|n| budget.spend(stream, NOW - n * HOUR_US, 1).unwrap());
        }
        budget.advance(NOW + HOUR_US, [(STREAM, NOW - 2 * HOUR_US)]);
        let hours: Vec<i64> = budget
            .spent
            .keys()
            .map(|(_, booked)| booked - hour(NOW))
            .collect();
        assert_eq!(hours, [-2, -1, 0, -2, -1, 0]);
    }

    #[test]
    fn the_budget_follows_the_highest_rate_that_was_measured() {
        let mut budget = budget();
        let limits: Vec<u64> = [0, 9_000_000, 500, 0]
            .into_iter()
            .map(|rate| {
                budget.measured([(STREAM, rate)]);
                budget.limit(Some(STREAM)) / 450
            })
            .collect();
        assert_eq!(limits, [LEAST, 72_000_000, 72_000_000, 72_000_000]);
        budget.measured([(OTHER, 0)]);
        assert_eq!(budget.limit(Some(OTHER)) / 450, UNMEASURED, "never received here");
    }

    #[test]
    fn streams_that_are_not_recorded_here_share_what_the_others_have() {
        let mut budget = budget();
        budget.measured([(STREAM, 1), (OTHER, 1)]);
        assert_eq!(budget.spend(REMOVED, NOW, 2 * OF_LEAST), Ok(()));
        for uid in 10..20 {
            assert!(budget.spend(Uuid::from_u128(uid), NOW, 1).is_err());
        }
        assert_eq!(
            budget.spend(STREAM, NOW, OF_LEAST),
            Ok(()),
            "nothing is taken from these"
        );
    }

    #[test]
    fn nothing_is_refused_before_this_member_knows_its_streams() {
        let mut budget = Budget::default();
        assert_eq!(budget.spend(STREAM, NOW, u64::MAX), Ok(()));
    }

    #[test]
    fn what_is_here_counts_and_own_media_does_not() {
        let own = Uuid::from_u128(7);
        let held = |store, reclaimed| Held {
            id: SegmentId {
                stream: STREAM,
                store,
                member: "a-1".into(),
                incarnation: 1,
                sequence: 0,
            },
            length: OF_LEAST,
            root: None,
            span_us: Some((NOW, NOW + 1)),
            reclaimed,
        };
        let mut budget = budget();
        budget.load(own, &[held(own, false), held(Uuid::nil(), true)]);
        assert_eq!(budget.spend(STREAM, NOW, 1), Ok(()));
        budget.load(own, &[held(Uuid::nil(), false)]);
        assert!(budget.spend(STREAM, NOW, 1).is_err());
        budget.load(own, &[]);
        assert!(budget.spend(STREAM, NOW, 1).is_err());
    }
}
