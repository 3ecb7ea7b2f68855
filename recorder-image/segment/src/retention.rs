//! What a member evicts, by its own policy alone (I11), and the clock it does it by.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::SegmentId;
use crate::ledger::{LedgerReader, Record};
use crate::sabotage::{Invariant::I11, breaks};
use crate::volume::{Role, Volume};

/// How long media is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Nothing younger than this leaves, whatever else is asked for.
    pub min_age: Duration,
    /// What is older leaves.
    pub max_age: Option<Duration>,
    /// Above this many bytes the oldest leave, down to `min_age`.
    pub max_bytes: Option<u64>,
    /// Besides, so many bytes leave, since the volume has no room for what is recorded next.
    pub short: u64,
}

impl Policy {
    /// How much may stay of so many bytes.
    fn limit(&self, held: u64) -> Option<u64> {
        let room = (self.short > 0).then(|| held.saturating_sub(self.short));
        match (self.max_bytes, room) {
            (Some(max), Some(room)) => Some(max.min(room)),
            (max, room) => max.or(room),
        }
    }
}

/// What is asked of a sealed (or closed partial) copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The segment.
    pub id: &'a SegmentId,
    /// When this member received it, on the retention clock, seconds since the Unix epoch.
    pub received_s: i64,
    /// Wall clock of its end as it was stamped, microseconds since the Unix epoch.
    pub end_us: i64,
    /// Its length, bytes.
    pub length: u64,
    /// Whether it cannot leave now, whatever the policy says.
    pub stuck: bool,
}

impl Candidate<'_> {
    /// How old it is.
    fn age(&self, now_s: i64) -> Duration {
        let since_s = if breaks(I11) {
            self.end_us / 1_000_000
        } else {
            self.received_s
        };
        Duration::from_secs(u64::try_from(now_s - since_s).unwrap_or(0))
    }

    /// When it ended, as far as that is believed, microseconds since the Unix epoch: not later than it was received. What a clock that
    /// was ahead stamped would stay, and all that is recorded after it leave in its place.
    fn ended_us(&self, now: Now) -> i64 {
        let age_s = i64::try_from(self.age(now.retention_s).as_secs()).unwrap_or(i64::MAX);
        // The second of its receipt had begun.
        let received_s = now.latest_s.saturating_sub(age_s.saturating_sub(1));
        floor_us(self.end_us, received_s)
    }
}

/// The time, by the clocks that retention goes by, seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// By the clock of retention.
    pub retention_s: i64,
    /// By the wall clock if that is ahead, see [`RetentionClock::latest_s`].
    pub latest_s: i64,
}

/// What leaves now, and when it ended, microseconds since the Unix epoch: oldest media first, and at most so many. Ages count from the
/// receipt; for size the oldest media leave, whenever they were received. Pure. It looks at all that is held, and puts in order only what
/// leaves.
pub fn evictions<'a>(
    held: impl Iterator<Item = Candidate<'a>>,
    now: Now,
    policy: &Policy,
    most: usize,
) -> Vec<(SegmentId, i64)> {
    let (mut all, mut stays, mut old) = (0_u64, 0_u64, 0_usize);
    let is_limited = policy.limit(0).is_some();
    // With whether it is too old; the oldest media on top.
    let mut free = Vec::new();
    for candidate in held {
        let age = candidate.age(now.retention_s);
        let too_old = policy.max_age.is_some_and(|max| age > max);
        all += candidate.length;
        stays += candidate.length;
        // I11: minAge is undercut by nothing.
        if age >= policy.min_age && !candidate.stuck {
            stays -= candidate.length * u64::from(too_old);
            old += usize::from(too_old);
            if too_old || is_limited {
                let order = (candidate.ended_us(now), candidate.id);
                free.push(Reverse((order, candidate.length, too_old)));
            }
        }
    }
    let mut out = Vec::new();
    let mut free = BinaryHeap::from(free);
    let limit = policy.limit(all);
    while out.len() < most
        && (old > 0 || limit.is_some_and(|limit| stays > limit))
        && let Some(Reverse(((ended_us, id), length, too_old))) = free.pop()
    {
        if too_old {
            old -= 1;
            out.push((id.clone(), ended_us));
        } else if limit.is_some_and(|limit| stays > limit) {
            stays -= length;
            out.push((id.clone(), ended_us));
        }
    }
    out
}

/// An end that is no later than `latest_s`: of what left, so that media that were stamped in the future keep nothing out for ever, and of
/// the floor below which nothing is wanted back. That is now by the wall clock, which media are stamped by, or by the clock of retention if
/// it is ahead: alone it is behind by all the time that the machine was off, and what left would be wanted back.
pub fn floor_us(end_us: i64, latest_s: i64) -> i64 {
    end_us.min(latest_s.saturating_mul(1_000_000))
}

/// A clock that advances no faster than time since boot, so that a wall clock that jumps ahead expires nothing (I11). While
/// the machine is off it stands still: media is then kept longer, never shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionClock {
    /// Seconds since the Unix epoch.
    now_s: i64,
    /// `CLOCK_BOOTTIME` when `now_s` was right, seconds.
    #[serde(skip)]
    boot_s: u64,
}

impl RetentionClock {
    /// The clock as it was persisted on the volume (or the wall clock, on a new one). One that was damaged begins again
    /// with the newest receipt that is known: it may be behind then, and media stays longer.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn load(volume: &Volume, wall_s: i64, boot_s: u64) -> Result<Self> {
        let path = volume.root().join("retention-clock");
        let found = match std::fs::read(&path) {
            Ok(text) => match serde_json::from_slice::<Self>(&text) {
                Ok(clock) => clock.now_s,
                Err(e) => {
                    let now_s = newest_receipt(volume)?.unwrap_or(wall_s);
                    tracing::warn!(path = %path.display(), now_s, "the retention clock is damaged and begins again: {e}");
                    now_s
                }
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => wall_s,
            Err(e) => return Err(Error::io(path, e)),
        };
        Ok(Self { now_s: found, boot_s })
    }

    /// The time now: never back, and at most as much later as time since boot advanced. Where it is later than the wall clock, because
    /// that was ahead once or is behind now, it goes on at half the speed until they meet: standing still it would make nothing older, and
    /// the volume would fill.
    pub fn advance(&mut self, wall_s: i64, boot_s: u64) -> i64 {
        let passed = boot_s.saturating_sub(self.boot_s) as i64;
        let slow = self.now_s.saturating_add(passed / 2);
        let fast = if breaks(I11) {
            i64::MAX
        } else {
            self.now_s.saturating_add(passed)
        };
        self.now_s = wall_s.clamp(slow, fast);
        // Half a second that did not count yet counts the next time.
        let rest = if self.now_s > wall_s { passed % 2 } else { 0 };
        self.boot_s = boot_s.max(self.boot_s).saturating_sub(rest as u64);
        self.now_s
    }

    /// The time now, or the wall clock if that is ahead: no floor is later, see [`floor_us`].
    pub fn latest_s(&mut self, wall_s: i64, boot_s: u64) -> i64 {
        self.advance(wall_s, boot_s).max(wall_s)
    }

    /// Writes it to the volume; durable after the next `Volume::sync`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn store(&self, volume: &Volume) -> Result<()> {
        let path = volume.root().join("retention-clock");
        let draft = volume.root().join(".retention-clock");
        let text = serde_json::to_vec(self).map_err(|e| Error::damaged(&path, e))?;
        // Synced before it is renamed, or a power cut could leave the new name without the bytes.
        File::create(&draft)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_data()))
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(|e| Error::io(&path, e))
    }
}

/// The newest time of receipt in the ledgers, seconds since the Unix epoch.
fn newest_receipt(volume: &Volume) -> Result<Option<i64>> {
    let received_s = |record: &Record| match record {
        Record::Sealed { received_s, .. } | Record::Received { received_s, .. } => Some(*received_s),
        _ => None,
    };
    let mut newest = None;
    for stream in volume.streams()? {
        for role in [Role::Recorder, Role::Replicator] {
            // What of one stream cannot be read keeps no other one out.
            let records = LedgerReader::new(volume, stream, role).poll().unwrap_or_default();
            newest = newest.max(records.iter().filter_map(received_s).max());
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::entry::{Extent, SealedEntry};
    use crate::header::{ClockSource, Header};
    use crate::ledger::Ledger;
    use uuid::Uuid;

    const NOW: Now = Now {
        retention_s: 1000,
        latest_s: 1000,
    };

    fn id(sequence: u64) -> SegmentId {
        SegmentId {
            stream: Uuid::nil(),
            store: Uuid::nil(),
            member: "m".into(),
            incarnation: 1,
            sequence,
        }
    }

    /// Number, receipt and end of a segment of ten bytes, seconds.
    type Held = (u64, i64, i64);

    fn entry(id: SegmentId) -> SealedEntry {
        let header = Header {
            id,
            stream_name: "door".into(),
            pair_epoch: 0,
            stream_epoch: 0,
            owner: true,
            run: Uuid::nil(),
            opened_us: 0,
            clock: ClockSource::Own,
            hevc: false,
            audio: None,
        };
        SealedEntry {
            header,
            length: 0,
            root: [0; 32],
            head_len: 0,
            extent: Extent::begun(0),
            signature: None,
        }
    }

    fn leaving(held: &[Held], min: u64, max: Option<u64>, max_bytes: Option<u64>) -> Vec<u64> {
        let policy = Policy {
            min_age: Duration::from_secs(min),
            max_age: max.map(Duration::from_secs),
            max_bytes,
            short: 0,
        };
        let ids: Vec<SegmentId> = held.iter().map(|(sequence, ..)| id(*sequence)).collect();
        let candidates = held
            .iter()
            .zip(&ids)
            .map(|((_, received_s, end_s), id)| Candidate {
                id,
                received_s: *received_s,
                end_us: end_s * 1_000_000,
                length: 10,
                stuck: false,
            });
        let all = evictions(candidates.clone(), NOW, &policy, usize::MAX);
        for most in 0..all.len() {
            let some = evictions(candidates.clone(), NOW, &policy, most);
            assert_eq!(some, all[..most], "the oldest first");
        }
        all.into_iter().map(|(id, _)| id.sequence).collect()
    }

    #[test]
    fn instead_of_what_is_stuck_other_media_leaves() {
        let (ids, policy) = (
            [0, 1, 2].map(id),
            Policy {
                min_age: Duration::ZERO,
                max_age: None,
                max_bytes: Some(20),
                short: 0,
            },
        );
        let candidate = |sequence: usize| Candidate {
            id: &ids[sequence],
            received_s: 0,
            end_us: sequence as i64,
            length: 10,
            stuck: sequence == 0,
        };
        let out = evictions((0..3).map(candidate), NOW, &policy, 9);
        assert_eq!(out, [(id(1), 1)]);
    }

    #[test]
    fn for_size_the_oldest_media_leave_whenever_they_came() {
        // 2 is old media that came last, from the peer.
        let all = [(0, 100, 100), (1, 200, 200), (2, 900, 50)];
        assert_eq!(leaving(&all, 0, None, Some(20)), [2]);
        assert_eq!(leaving(&all, 0, None, Some(10)), [2, 0]);
        assert_eq!(leaving(&all, 0, None, Some(30)), [0; 0]);
    }

    #[test]
    fn a_volume_without_room_loses_its_oldest_media_whatever_its_limit_is() {
        let ids = [0, 1, 2].map(id);
        let leaves = |min_age: u64, max_age: Option<u64>, max_bytes: Option<u64>, short: u64| {
            let candidate = |sequence: usize| Candidate {
                id: &ids[sequence],
                received_s: 100 * sequence as i64,
                end_us: sequence as i64,
                length: 10,
                stuck: false,
            };
            let policy = Policy {
                min_age: Duration::from_secs(min_age),
                max_age: max_age.map(Duration::from_secs),
                max_bytes,
                short,
            };
            let out = evictions((0..3).map(candidate), NOW, &policy, 9);
            out.into_iter().map(|(id, _)| id.sequence).collect::<Vec<_>>()
        };
        for max_bytes in [None, Some(30), Some(1 << 40)] {
            assert_eq!(leaves(0, None, max_bytes, 0), [0; 0], "there is room");
            assert_eq!(leaves(0, None, max_bytes, 1), [0]);
            assert_eq!(leaves(0, None, max_bytes, 11), [0, 1]);
            assert_eq!(leaves(0, None, max_bytes, 1 << 40), [0, 1, 2]);
        }
        assert_eq!(leaves(0, None, Some(10), 1), [0, 1], "the lower limit counts");
        assert_eq!(leaves(850, None, None, 1 << 40), [0, 1], "I11: down to minAge");
        assert_eq!(
            leaves(0, Some(950), None, 10),
            [0],
            "what is too old makes room as well"
        );
    }

    #[test]
    fn media_that_came_back_after_an_absence_leaves_oldest_first() {
        // The member was off for ten days: its retention clock is that far behind what the peer recorded meanwhile, newest first.
        let away = 10 * 86_400;
        let back = |day: i64, received_s: i64| (day as u64, received_s, 900 + day * 86_400 - away);
        let all = [back(9, 901), back(5, 902), back(1, 903)];
        assert_eq!(leaving(&all, 0, None, Some(20)), [1]);
        assert_eq!(leaving(&all, 0, None, Some(10)), [1, 5]);
    }

    #[test]
    fn i11_min_age_is_undercut_by_nothing_and_max_age_counts_from_the_receipt() {
        let all = [(0, 100, 100), (1, 200, 200), (2, 900, 50)];
        assert_eq!(leaving(&all, 150, None, Some(0)), [0, 1], "2 came 100 s ago");
        assert_eq!(leaving(&all, 0, Some(850), None), [0]);
        // What leaves by age does not count for size.
        assert_eq!(leaving(&all, 0, Some(850), Some(20)), [0]);
        assert_eq!(leaving(&all, 950, Some(10), Some(0)), [0; 0]);
    }

    #[test]
    fn i11_what_a_clock_that_was_ahead_stamped_is_as_old_as_its_receipt() {
        // 0 and 1 are of a clock a year ahead, which was put right; 2 and 3 were recorded after that.
        let year = 365 * 86_400;
        let all = [
            (0, 100, year + 100),
            (1, 200, year + 200),
            (2, 300, 300),
            (3, 400, 400),
        ];
        assert_eq!(leaving(&all, 0, None, Some(20)), [0, 1]);
        let ids: Vec<SegmentId> = (0..2).map(id).collect();
        let candidate = |n: usize| Candidate {
            id: &ids[n],
            received_s: 100 + n as i64,
            end_us: year * 1_000_000,
            length: 10,
            stuck: false,
        };
        let policy = Policy {
            min_age: Duration::ZERO,
            max_age: None,
            max_bytes: Some(0),
            short: 0,
        };
        // The clock of retention stood still for 500 s.
        let now = Now {
            latest_s: 1500,
            ..NOW
        };
        let out = evictions((0..2).map(candidate), now, &policy, 9);
        let ends: Vec<i64> = out.iter().map(|(_, end_us)| end_us / 1_000_000).collect();
        assert_eq!(ends, [601, 602], "what left keeps out nothing that came later");
    }

    #[test]
    fn i11_the_clock_is_never_faster_than_time_since_boot() {
        let mut clock = RetentionClock {
            now_s: 1000,
            boot_s: 50,
        };
        assert_eq!(clock.advance(1010, 60), 1010);
        let jumped = clock.advance(1010 + 3600, 65);
        assert_eq!(jumped, 1015, "a wall clock that jumps ahead expires nothing");
        assert_eq!(
            clock.advance(5, 75),
            1020,
            "and one that is set back brings nothing back"
        );
        assert_eq!(clock.advance(1020, 20), 1020, "time since boot never falls");
        assert_eq!(
            clock.advance(1040, 85),
            1030,
            "what passed before the highest was counted"
        );
    }

    #[test]
    fn i11_a_clock_that_is_ahead_goes_on_at_half_the_speed_until_the_wall_clock_is_there() {
        let mut clock = RetentionClock {
            now_s: 1_086_400,
            boot_s: 0,
        };
        let wall_s = |boot_s: u64| 1_000_000 + boot_s as i64;
        // Asked each second, as it is.
        let mut at = |boot_s: u64| (1..=boot_s).map(|s| clock.advance(wall_s(s), s)).last();
        assert_eq!(at(7200), Some(1_086_400 + 3600));
        let mut clock = RetentionClock {
            now_s: 1_000_100,
            boot_s: 0,
        };
        let shown: Vec<i64> = (0..=400).map(|s| clock.advance(wall_s(s), s)).collect();
        let steps = |from: usize| shown[from + 100] - shown[from];
        assert_eq!((steps(0), steps(50), steps(200), steps(300)), (50, 50, 100, 100));
        assert_eq!(shown[200], wall_s(200), "they meet after twice the time");
    }

    #[test]
    fn a_damaged_clock_begins_again_with_the_newest_receipt() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::open(dir.path(), Role::Recorder).unwrap();
        let now_s = |wall_s| RetentionClock::load(&volume, wall_s, 0).unwrap().now_s;
        assert_eq!(now_s(5000), 5000, "a new volume");
        RetentionClock {
            now_s: 700,
            boot_s: 0,
        }
        .store(&volume)
        .unwrap();
        assert_eq!(now_s(5000), 700);
        let path = dir.path().join("retention-clock");
        for damaged in ["", "{\"now_", "null"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(now_s(5000), 5000, "nothing was ever received");
        }
        for (stream, received_s) in [(1, 4000), (2, 3000)] {
            let mut id = id(0);
            id.stream = Uuid::from_u128(stream);
            let (mut ledger, _) = Ledger::open(&volume, id.stream, Role::Recorder).unwrap();
            let entry = Box::new(entry(id));
            ledger.append(&Record::Sealed { entry, received_s }).unwrap();
        }
        assert_eq!(now_s(1 << 40), 4000);
    }

    #[test]
    fn the_floor_is_never_in_the_future() {
        assert_eq!(floor_us(5_000_000, 10), 5_000_000);
        assert_eq!(floor_us(i64::MAX, 10), 10_000_000);
        assert_eq!(floor_us(5, i64::MAX), 5);
    }
}
