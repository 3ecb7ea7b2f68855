//! The clocks of this machine.

use crate::local::boottime_ns;

/// The wall clock, seconds since the Unix epoch.
pub fn wall_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The wall clock, microseconds since the Unix epoch.
pub fn wall_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// Time since boot, seconds.
pub fn boot_s() -> u64 {
    boottime_ns() / 1_000_000_000
}
