//! From the camera's RTP time to media time and wall clock. Pure: all clocks are passed in.
//!
//! Media time (`dts`, 1/90000 s) is continuous over a run and offset to the Unix epoch at the run's start. Wall clock
//! comes from the camera's RTCP sender reports while [`CameraClock`] believes them, else from this member's own clock.
//! One member may believe a camera that the other one does not, so a believed camera must be clearly nearer to the own
//! clock than `segment::canonical::WINDOW_US`, within which the same pictures of two members are found.
//! What comes late, because this member or the network stood still, has the time at which it would have come.

mod camera;
mod media;
#[cfg(test)]
mod tests;
mod transit;

pub use camera::CameraClock;
pub use media::{Break, MediaClock, Source, Times};
pub use transit::Transit;

/// A jump of a clock, or of media time against the time of arrival, that begins a new run.
pub const JUMP_US: i64 = 1_000_000;
const TICKS_PER_S: i64 = 90_000;
const US_PER_S: i64 = 1_000_000;

/// One frame as it comes from the depacketizer.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Extended RTP timestamp, in units of the clock rate.
    pub rtp: i64,
    /// The clock rate, Hz; at least 1.
    pub rate: u32,
    /// This member's wall clock at the last packet, microseconds since the Unix epoch.
    pub own_us: i64,
    /// A monotonic clock at the last packet, microseconds.
    pub mono_us: i64,
    /// How much later it came than it could have, by [`Transit`], microseconds.
    pub late_us: i64,
}

/// A sender report: at `rtp` it was `wall_us` by the camera's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Extended RTP timestamp.
    pub rtp: i64,
    /// Microseconds since the Unix epoch.
    pub wall_us: i64,
}

impl Report {
    /// The camera's time of what has the RTP timestamp of `a`.
    fn wall_at(&self, a: &Arrival) -> i64 {
        self.wall_us
            .saturating_add(us(a.rtp.saturating_sub(self.rtp), a.rate))
    }
}

fn us(units: i64, rate: u32) -> i64 {
    scale(units, US_PER_S, rate)
}

fn ticks(units: i64, rate: u32) -> i64 {
    scale(units, TICKS_PER_S, rate)
}

fn scale(units: i64, to: i64, rate: u32) -> i64 {
    let scaled = i128::from(units) * i128::from(to) / i128::from(rate.max(1));
    scaled.clamp(i128::from(i64::MIN / 4), i128::from(i64::MAX / 4)) as i64
}

/// Microseconds since the Unix epoch of a 64-bit NTP time (RFC 3550 section 4), which counts from 1900 and is taken
/// to be between 1968 and 2104.
pub fn ntp_to_unix_us(ntp: u64) -> i64 {
    const UNIX_EPOCH: u64 = 2_208_988_800;
    let seconds = ntp >> 32;
    let seconds = if seconds < UNIX_EPOCH / 2 {
        seconds + (1 << 32)
    } else {
        seconds
    };
    let fraction = ((ntp & 0xffff_ffff) * 1_000_000) >> 32;
    (seconds as i64 - UNIX_EPOCH as i64) * US_PER_S + fraction as i64
}
