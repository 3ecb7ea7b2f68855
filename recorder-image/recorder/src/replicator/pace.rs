//! How fast older media is sent: a limit that may change with the time of day, and what keeps to it. Pure. Live media asks
//! nobody here.

use std::time::Duration;

use crds::member::{BackfillWindow, ReplicationConfig};

/// What was not sent for so long is made up for: a task does not wake up to the millisecond.
const CATCH_UP: Duration = Duration::from_millis(200);
/// The shortest wait that is worth it.
const SHORTEST: Duration = Duration::from_millis(1);
/// Minutes of a day.
const DAY: u32 = 24 * 60;

/// The limit at a time, seconds since the Unix epoch by this member's own clock, in bytes a second; `None` is no limit.
pub fn limit(config: &ReplicationConfig, unix_s: i64) -> Option<u64> {
    let minute = u32::try_from((unix_s.div_euclid(60)).rem_euclid(i64::from(DAY))).unwrap_or(0);
    let holds = |window: &&BackfillWindow| {
        let since = |from: u32| (minute + DAY - from % DAY) % DAY;
        since(window.from_minute) < (window.to_minute + DAY - window.from_minute % DAY) % DAY
    };
    let window = config.schedule.iter().find(holds);
    window.map_or(config.backfill_bytes_per_second, |window| {
        window.backfill_bytes_per_second
    })
}

/// A token bucket that may go into debt by what was sent last: a fragment is sent whole. Times are since any fixed moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pace {
    /// Bytes a second.
    limit: Option<u64>,
    /// What was sent too early, bytes; below 0 what may be made up for.
    debt: f64,
    at: Duration,
}

impl Pace {
    /// Another limit holds from now on. What was sent before it counts.
    pub fn set(&mut self, limit: Option<u64>, now: Duration) {
        self.settle(now);
        self.limit = limit.map(|limit| limit.max(1));
        if self.limit.is_none() {
            self.debt = 0.0;
        }
    }

    /// So many bytes were sent.
    pub fn sent(&mut self, bytes: u64, now: Duration) {
        self.settle(now);
        if self.limit.is_some() {
            self.debt += bytes as f64;
        }
    }

    /// What is sent at once of `most` bytes: a quarter of a second's worth.
    pub fn turn(&self, most: u64) -> u64 {
        self.limit.map_or(most, |limit| most.min(limit / 4))
    }

    /// For how long nothing may be sent.
    pub fn wait(&self, now: Duration) -> Duration {
        let Some(limit) = self.limit else {
            return Duration::ZERO;
        };
        let seconds = self.debt / limit as f64 - now.saturating_sub(self.at).as_secs_f64();
        if seconds <= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(seconds).map_or(Duration::MAX, |wait| wait.max(SHORTEST))
    }

    fn settle(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now.max(self.at);
        if let Some(limit) = self.limit {
            let limit = limit as f64;
            self.debt = (self.debt - passed * limit).max(-limit * CATCH_UP.as_secs_f64());
        }
    }
}

/// How fast the peer takes older media, in bytes a second, over the last half minute or so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rate {
    begun: Option<Duration>,
    bytes: u64,
    before: Option<f64>,
}

/// How long a rate is measured before it counts, and how often anew.
const MEASURED: Duration = Duration::from_secs(5);

impl Rate {
    /// So many bytes were taken.
    pub fn took(&mut self, bytes: u64, now: Duration) {
        let begun = *self.begun.get_or_insert(now);
        self.bytes += bytes;
        let passed = now.saturating_sub(begun);
        if passed >= MEASURED {
            let rate = self.bytes as f64 / passed.as_secs_f64();
            // A quarter of what was measured last, so that a pause does not upset it.
            self.before = Some(self.before.map_or(rate, |before| before + (rate - before) / 4.0));
            (self.begun, self.bytes) = (Some(now), 0);
        }
    }

    /// The rate; `None` before it was measured.
    pub fn get(&self) -> Option<u64> {
        self.before.map(|rate| rate as u64)
    }
}

/// How long the rest of a refill takes, in seconds, at the rate that was measured and the limit that holds; `None` where
/// neither is known.
pub fn remaining(left: u64, rate: Option<u64>, limit: Option<u64>) -> Option<u64> {
    let rate = rate.filter(|rate| *rate > 0);
    let fastest = match (rate, limit) {
        (Some(rate), Some(limit)) => rate.min(limit),
        (rate, limit) => rate.or(limit)?,
    };
    Some(left.div_ceil(fastest.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn another_limit_holds_in_a_window() {
        let window = |from: u32, to: u32, most| BackfillWindow {
            from_minute: from * 60,
            to_minute: to * 60,
            backfill_bytes_per_second: most,
        };
        let config = ReplicationConfig {
            backfill_bytes_per_second: Some(10),
            schedule: vec![
                window(22, 6, Some(100)),
                window(5, 7, Some(50)),
                window(12, 13, None),
            ],
        };
        let at = |hour: i64| limit(&config, 20_000 * 24 * HOUR + hour * HOUR);
        let hours = [0, 5, 6, 7, 12, 13, 21, 22, 23].map(at);
        let most = [100, 100, 50, 10, 0, 10, 10, 100, 100];
        assert_eq!(hours, most.map(|most| (most > 0).then_some(most)));
        assert_eq!(limit(&ReplicationConfig::default(), 0), None);
    }

    /// Sends fragments of `size` whenever it may, waking up `late` after it should. Returns bytes in ten seconds.
    fn send(pace: &mut Pace, size: u64, late: Duration) -> u64 {
        let (mut now, mut sent) = (Duration::ZERO, 0);
        while now < Duration::from_secs(10) {
            let wait = pace.wait(now);
            if wait > Duration::ZERO {
                now += wait + late;
                continue;
            }
            pace.sent(size, now);
            sent += size;
        }
        sent
    }

    #[test]
    fn nearly_all_of_what_is_allowed_is_used_and_no_more() {
        for limit in [64 << 10, 1 << 20, 100 << 20] {
            for size in [1000, 40_000, 256 << 10] {
                for late in [0, 1, 20, 150] {
                    let mut pace = Pace::default();
                    pace.set(Some(limit), Duration::ZERO);
                    let share = send(&mut pace, size, ms(late)) as f64 / (limit * 10) as f64;
                    let most = 1.03 + size as f64 / (limit * 10) as f64;
                    assert!(share <= most, "{limit} {size} {late}: {share}");
                    assert!(share >= 0.95, "{limit} {size} {late}: {share}");
                }
            }
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pace = Pace::default();
        pace.set(Some(1_000_000), Duration::ZERO);
        let now = Duration::from_hours(1);
        let mut burst = 0;
        while pace.wait(now).is_zero() {
            pace.sent(10_000, now);
            burst += 10_000;
        }
        assert!(burst <= 220_000, "{burst}");
    }

    #[test]
    fn limits_come_and_go_while_it_sends() {
        let mut pace = Pace::default();
        pace.sent(1 << 30, ms(0));
        assert!(pace.wait(ms(0)).is_zero(), "no limit");
        pace.set(Some(1000), ms(0));
        assert!(
            pace.wait(ms(0)).is_zero(),
            "what was sent without one is forgotten"
        );
        pace.sent(2000, ms(0));
        assert_eq!(pace.wait(ms(0)), ms(2000));
        pace.set(Some(4000), ms(1000));
        assert_eq!(pace.wait(ms(1000)), ms(250));
        pace.set(None, ms(1000));
        assert!(pace.wait(ms(1000)).is_zero());
    }

    #[test]
    fn a_rate_is_measured() {
        let mut rate = Rate::default();
        for n in 0..100 {
            assert_eq!(rate.get().is_some(), n > 50, "{n}");
            rate.took(10_000, ms(n * 100));
        }
        let measured = rate.get().unwrap_or(0);
        assert!((95_000..=105_000).contains(&measured), "{measured}");
    }

    #[test]
    fn the_rest_takes_what_the_slower_of_rate_and_limit_takes() {
        let table = [
            ((1000, None, None), None),
            ((1000, Some(0), None), None),
            ((1000, Some(100), None), Some(10)),
            ((1000, None, Some(10)), Some(100)),
            ((1000, Some(100), Some(10)), Some(100)),
            ((1000, Some(10), Some(100)), Some(100)),
            ((1001, Some(100), None), Some(11)),
            ((0, Some(100), None), Some(0)),
            ((u64::MAX, Some(1), None), Some(u64::MAX)),
        ];
        for ((left, rate, limit), want) in table {
            assert_eq!(remaining(left, rate, limit), want, "{left} {rate:?} {limit:?}");
        }
    }
}
