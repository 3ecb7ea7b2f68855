//! From the camera's RTP time to media time and wall clock. Pure: all clocks are passed in.
//!
//! Media time (`dts`, 1/90000 s) is continuous over a run and offset to the Unix epoch at the run's start. Wall clock
//! comes from the camera's RTCP sender reports while they are plausible (within [`PLAUSIBLE_US`] of this member's own
//! clock), else from this member's own clock.

/// A sender report further away from the own clock than this is not believed.
pub const PLAUSIBLE_US: i64 = 60_000_000;
/// A jump of a clock, or of media time against the time of arrival, that begins a new run.
pub const JUMP_US: i64 = 1_000_000;
/// Own clock and camera drift apart by at most this: 500 ppm.
const DRIFT_PPM: i64 = 500;

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
}

/// A sender report: at `rtp` it was `wall_us` by the camera's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Extended RTP timestamp.
    pub rtp: i64,
    /// Microseconds since the Unix epoch.
    pub wall_us: i64,
}

/// What the wall clock of a run rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This member's own clock.
    Own,
    /// The camera's sender reports.
    Camera,
}

/// Why a new run has to begin with this frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// RTP time jumped, forward against the time of arrival or back.
    RtpJump,
    /// The camera's clock jumped by more than [`JUMP_US`].
    CameraClock,
    /// This member's clock jumped by more than [`JUMP_US`].
    OwnClock,
    /// The camera began, or ceased, to send plausible sender reports.
    Source(Source),
}

/// The times of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Decoding time, 1/90000 s, offset to the Unix epoch.
    pub dts: i64,
    /// Presentation minus decoding time, 1/90000 s.
    pub cts: i32,
    /// Wall clock of the presentation, microseconds since the Unix epoch.
    pub wallclock_us: i64,
    /// Ticks of presentation time since the frame before, 1/90000 s; 0 for the first.
    pub step: i64,
}

/// The clock of one run.
#[derive(Clone, Debug)]
pub struct MediaClock {
    source: Source,
    first: Arrival,
    base_ticks: i64,
    /// Wall clock minus media time, microseconds.
    offset_us: i64,
    last: Arrival,
    last_dts: i64,
    last_step: i64,
    highest_rtp: i64,
    reordered: bool,
    /// What is added to the own clock since it jumped in this run, microseconds.
    own_shift_us: i64,
    /// What is added to RTP times since they jumped in this run.
    rtp_shift: i64,
}

impl MediaClock {
    /// Begins a run with the frame `first`, which came with the newest `report`, if any.
    pub fn new(first: Arrival, report: Option<Report>) -> Self {
        let plausible = report.filter(|r| plausible(*r, first));
        let wall_us = plausible.map_or(first.own_us, |r| r.wall_us + us(first.rtp - r.rtp, first.rate));
        let base_ticks = wall_us * (TICKS_PER_S / 10_000) / (US_PER_S / 10_000);
        Self {
            source: if plausible.is_some() {
                Source::Camera
            } else {
                Source::Own
            },
            first,
            base_ticks,
            offset_us: wall_us,
            last: first,
            last_dts: base_ticks - 1,
            last_step: 0,
            highest_rtp: first.rtp,
            reordered: false,
            own_shift_us: 0,
            rtp_shift: 0,
        }
    }

    /// The frame `a` does not continue this run, but it is no key frame either, so the run goes on until the next one
    /// as if nothing had jumped; `interval` (1/90000 s) stands for the unknown step.
    pub fn rebase(&mut self, a: &Arrival, broken: Break, interval: i64) {
        match broken {
            Break::RtpJump => {
                let step = scale(interval, i64::from(self.first.rate), TICKS_PER_S as u32);
                self.rtp_shift = self.highest_rtp + step - a.rtp;
                self.first.rate = a.rate;
            }
            Break::OwnClock => {
                let jump = (a.own_us - a.mono_us) - (self.last.own_us - self.last.mono_us);
                self.own_shift_us -= jump;
                self.last.own_us += jump;
            }
            Break::CameraClock | Break::Source(_) => {}
        }
    }

    /// What the wall clock rests on.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Takes a new sender report. `Some` when the next key frame has to begin a new run.
    pub fn report(&mut self, report: Report, now: Arrival) -> Option<Break> {
        match (self.source, plausible(report, now)) {
            (Source::Own, true) => Some(Break::Source(Source::Camera)),
            (Source::Own, false) => None,
            (Source::Camera, false) => Some(Break::Source(Source::Own)),
            (Source::Camera, true) => {
                let report = Report {
                    rtp: report.rtp.saturating_add(self.rtp_shift),
                    ..report
                };
                let expected = self.wall_of(report.rtp);
                let media = us(report.rtp - self.first.rtp, self.first.rate);
                let jumped = (report.wall_us - expected).abs() > JUMP_US;
                self.offset_us = report.wall_us - media;
                jumped.then_some(Break::CameraClock)
            }
        }
    }

    /// Whether the frame continues this run. Must be asked before [`Self::frame`].
    pub fn breaks(&self, a: &Arrival) -> Option<Break> {
        let media = us(a.rtp.saturating_add(self.rtp_shift) - self.highest_rtp, a.rate);
        let passed = a.mono_us - self.last.mono_us;
        if a.rate != self.first.rate || media < -JUMP_US || media > passed.max(0) + 10 * JUMP_US {
            return Some(Break::RtpJump);
        }
        let own = (a.own_us - a.mono_us) - (self.last.own_us - self.last.mono_us);
        (own.abs() > JUMP_US).then_some(Break::OwnClock)
    }

    /// The times of a frame of this run.
    pub fn frame(&mut self, mut a: Arrival) -> Times {
        a.rtp = a.rtp.saturating_add(self.rtp_shift);
        self.follow_own_clock(&a);
        let pts = self.base_ticks + ticks(a.rtp - self.first.rtp, a.rate);
        let step = ticks(a.rtp - self.last.rtp, a.rate);
        if a.rtp < self.highest_rtp {
            self.reordered = true;
        }
        let dts = self.decoding_time(pts, step);
        self.highest_rtp = self.highest_rtp.max(a.rtp);
        self.last = a;
        self.last_dts = dts;
        Times {
            dts,
            cts: (pts - dts) as i32,
            wallclock_us: self.wall_of(a.rtp),
            step,
        }
    }

    /// Without B-frames the presentation time itself. With them frames come in decoding order, so their decoding
    /// times follow each other by the average step, drawn towards the presentation time.
    fn decoding_time(&mut self, pts: i64, step: i64) -> i64 {
        if step > 0 && !self.reordered {
            self.last_step = step;
        }
        if !self.reordered {
            return pts.max(self.last_dts + 1);
        }
        let even = self.last_dts + self.last_step.max(1);
        let ahead = even - pts;
        let correction = if ahead.abs() > TICKS_PER_S { ahead } else { 0 };
        (even - correction).max(self.last_dts + 1)
    }

    fn wall_of(&self, rtp: i64) -> i64 {
        self.offset_us + us(rtp - self.first.rtp, self.first.rate)
    }

    /// A frame cannot arrive before it was taken, so the earliest arrivals carry the mapping; later ones move it
    /// no faster than clocks drift.
    fn follow_own_clock(&mut self, a: &Arrival) {
        if self.source == Source::Camera {
            return;
        }
        let candidate = a.own_us + self.own_shift_us - us(a.rtp - self.first.rtp, a.rate);
        if candidate < self.offset_us {
            self.offset_us = candidate;
        } else {
            let most = (a.mono_us - self.last.mono_us).max(0) * DRIFT_PPM / 1_000_000;
            self.offset_us += (candidate - self.offset_us).min(most);
        }
    }
}

fn plausible(report: Report, now: Arrival) -> bool {
    let wall = report.wall_us.saturating_add(us(now.rtp - report.rtp, now.rate));
    wall.saturating_sub(now.own_us).abs() <= PLAUSIBLE_US
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

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_800_000_000_000_000;

    fn at(n: i64) -> Arrival {
        Arrival {
            rtp: 5000 + n * 3600,
            rate: 90_000,
            own_us: T0 + n * 40_000,
            mono_us: 7_000_000 + n * 40_000,
        }
    }

    fn run(n: i64) -> MediaClock {
        let mut clock = MediaClock::new(at(0), None);
        for i in 0..n {
            assert_eq!(clock.breaks(&at(i)), None);
            clock.frame(at(i));
        }
        clock
    }

    #[test]
    fn media_time_starts_at_the_unix_time_and_follows_rtp() {
        let mut clock = MediaClock::new(at(0), None);
        let first = clock.frame(at(0));
        assert_eq!(
            first,
            Times {
                dts: T0 / 100 * 9,
                cts: 0,
                wallclock_us: T0,
                step: 0
            }
        );
        let second = clock.frame(at(1));
        assert_eq!(
            (second.dts, second.step, second.wallclock_us),
            (first.dts + 3600, 3600, T0 + 40_000)
        );
    }

    #[test]
    fn jitter_of_arrival_does_not_move_the_wall_clock() {
        let mut clock = run(100);
        let late = Arrival {
            own_us: at(100).own_us + 800_000,
            mono_us: at(100).mono_us + 800_000,
            ..at(100)
        };
        let wall = clock.frame(late).wallclock_us;
        assert!((wall - at(100).own_us).abs() < 1000, "{}", wall - at(100).own_us);
    }

    #[test]
    fn an_rtp_jump_breaks_the_run_but_a_stall_does_not() {
        let clock = run(10);
        assert_eq!(
            clock.breaks(&Arrival {
                rtp: at(10).rtp + 90_000 * 20,
                ..at(10)
            }),
            Some(Break::RtpJump)
        );
        assert_eq!(
            clock.breaks(&Arrival {
                rtp: at(10).rtp - 90_000 * 2,
                ..at(10)
            }),
            Some(Break::RtpJump)
        );
        let stalled = Arrival {
            own_us: T0 + 60_000_000,
            mono_us: 67_000_000,
            ..at(10)
        };
        assert_eq!(clock.breaks(&stalled), None);
    }

    #[test]
    fn an_own_clock_jump_breaks_the_run() {
        let clock = run(10);
        let stepped = Arrival {
            own_us: at(10).own_us - 3_600_000_000,
            ..at(10)
        };
        assert_eq!(clock.breaks(&stepped), Some(Break::OwnClock));
    }

    #[test]
    fn plausible_reports_carry_the_wall_clock_and_jumps_are_seen() {
        let report = |n: i64, shift: i64| Report {
            rtp: at(n).rtp,
            wall_us: at(n).own_us + shift,
        };
        let mut clock = MediaClock::new(at(0), Some(report(0, 5_000_000)));
        assert_eq!(clock.source(), Source::Camera);
        assert_eq!(clock.frame(at(0)).wallclock_us, T0 + 5_000_000);
        assert_eq!(clock.report(report(5, 5_010_000), at(5)), None);
        assert_eq!(
            clock.report(report(9, 8_000_000), at(9)),
            Some(Break::CameraClock)
        );
        assert_eq!(
            clock.report(report(9, 90_000_000), at(9)),
            Some(Break::Source(Source::Own))
        );
        let mut own = MediaClock::new(at(0), Some(report(0, 61_000_000)));
        assert_eq!(own.source(), Source::Own);
        assert_eq!(
            own.report(report(1, 0), at(1)),
            Some(Break::Source(Source::Camera))
        );
    }

    #[test]
    fn b_frames_keep_decoding_times_rising_and_presentation_times_right() {
        let order = [0i64, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11];
        let mut clock = MediaClock::new(at(0), None);
        let base = T0 / 100 * 9;
        let mut last = i64::MIN;
        for (n, shown) in order.iter().enumerate() {
            let a = Arrival {
                rtp: at(*shown).rtp,
                ..at(n as i64)
            };
            assert_eq!(clock.breaks(&a), None);
            let t = clock.frame(a);
            assert!(t.dts > last);
            assert_eq!(t.dts + i64::from(t.cts), base + shown * 3600);
            last = t.dts;
        }
    }

    #[test]
    fn ntp_times_before_and_after_2036() {
        assert_eq!(ntp_to_unix_us(2_208_988_800 << 32), 0);
        assert_eq!(ntp_to_unix_us((2_208_988_800 << 32) | (1 << 31)), 500_000);
        assert_eq!(
            ntp_to_unix_us(10 << 32),
            ((1 << 32) + 10 - 2_208_988_800_i64) * 1_000_000
        );
    }

    proptest::proptest! {
        #[test]
        fn no_input_overflows_or_repeats_a_decoding_time(steps in proptest::collection::vec((proptest::num::i64::ANY, 0i64..1_000_000), 1..50)) {
            let mut clock = MediaClock::new(at(0), None);
            let mut last = clock.frame(at(0)).dts;
            let mut mono = at(0).mono_us;
            for (rtp, passed) in steps {
                mono += passed;
                let a = Arrival { rtp: rtp / 8, rate: 90_000, own_us: T0 + mono, mono_us: mono };
                if clock.breaks(&a).is_some() {
                    clock = MediaClock::new(a, None);
                    last = i64::MIN;
                }
                let t = clock.frame(a);
                proptest::prop_assert!(t.dts > last);
                last = t.dts;
            }
        }
    }
}
