//! The clocks. Whoever wants to know the time asks here, so that a test can give a member clocks that are wrong.

use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock.
pub fn wall() -> jiff::Timestamp {
    let now_us = wall_at(SystemTime::now());
    jiff::Timestamp::from_microsecond(now_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// What the wall clock said at a moment, microseconds since the Unix epoch.
pub fn wall_at(moment: SystemTime) -> i64 {
    let real = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(real.as_micros())
        .unwrap_or(i64::MAX)
        .saturating_add(skew::now().ahead_us)
}

/// The wall clock, seconds since the Unix epoch.
pub fn wall_s() -> i64 {
    wall().as_second()
}

/// The wall clock, milliseconds since the Unix epoch.
pub fn wall_ms() -> u64 {
    u64::try_from(wall().as_millisecond()).unwrap_or(0)
}

/// The wall clock, microseconds since the Unix epoch.
pub fn wall_us() -> i64 {
    wall().as_microsecond()
}

/// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`): the one clock that both processes of a pod share for deadlines of
/// authority.
pub fn boottime_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let real = (t.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(t.tv_nsec as u64);
    skew::now().boot(real)
}

/// By how much the wall clock is ahead of the time since boot, microseconds: it changes when the wall clock is set.
pub fn ahead_us() -> i64 {
    wall_us() - (boottime_ns() / 1_000).cast_signed()
}

/// Time since boot, seconds.
pub fn boot_s() -> u64 {
    boottime_ns() / 1_000_000_000
}

pub use skew::obey;

/// Clocks that are wrong on purpose. A release build has none of this.
#[cfg_attr(
    not(debug_assertions),
    allow(dead_code, reason = "a release build's clocks are right")
)]
mod skew {
    use std::path::Path;

    use crate::trial;

    /// How wrong the clocks are.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(super) struct Skew {
        /// How far the wall clock is ahead, microseconds.
        pub(super) ahead_us: i64,
        /// How many seconds of this member's boot clock a true second has, from `since_ns` on.
        rate: f64,
        /// True nanoseconds since boot.
        since_ns: u64,
    }

    impl Skew {
        const NONE: Self = Self {
            ahead_us: 0,
            rate: 1.0,
            since_ns: 0,
        };

        /// `AHEAD_US RATE SINCE_NS`
        fn parse(text: &str) -> Option<Self> {
            let mut words = text.split_whitespace();
            Some(Self {
                ahead_us: words.next()?.parse().ok()?,
                rate: words.next()?.parse().ok()?,
                since_ns: words.next()?.parse().ok()?,
            })
        }

        /// What this member's boot clock says.
        pub(super) fn boot(self, real_ns: u64) -> u64 {
            let wrong = real_ns.saturating_sub(self.since_ns);
            (real_ns - wrong).saturating_add((wrong as f64 * self.rate) as u64)
        }
    }

    #[cfg(not(debug_assertions))]
    pub(super) fn now() -> Skew {
        Skew::NONE
    }

    #[cfg(debug_assertions)]
    static NOW: std::sync::RwLock<Skew> = std::sync::RwLock::new(Skew::NONE);

    #[cfg(debug_assertions)]
    pub(super) fn now() -> Skew {
        *NOW.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// In a debug build: the clocks of this process are as wrong as the file `test-clock` on the volume says from now on.
    pub fn obey(media: &Path) {
        trial::follow(media, "test-clock", |told| set(Skew::parse(told)));
    }

    #[cfg(debug_assertions)]
    fn set(skew: Option<Skew>) {
        if let Some(skew) = skew {
            *NOW.write().unwrap_or_else(std::sync::PoisonError::into_inner) = skew;
        }
    }

    #[cfg(not(debug_assertions))]
    fn set(_skew: Option<Skew>) {}

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_boot_clock_goes_wrong_from_a_moment_on() {
            assert_eq!(Skew::parse("torn"), None);
            let skew = Skew::parse("-3600000000 1.2 1000\n").unwrap();
            assert_eq!(skew.ahead_us, -3_600_000_000);
            assert_eq!([500, 1000, 2000].map(|at| skew.boot(at)), [500, 1000, 2200]);
            assert_eq!(Skew::NONE.boot(77), 77);
        }
    }
}
