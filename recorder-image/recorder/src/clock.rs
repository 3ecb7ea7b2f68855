//! The clocks that retention needs, in seconds.

use crate::local::boottime_ns;

/// The wall clock, seconds since the Unix epoch.
pub fn wall_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Time since boot.
pub fn boot_s() -> u64 {
    boottime_ns() / 1_000_000_000
}
