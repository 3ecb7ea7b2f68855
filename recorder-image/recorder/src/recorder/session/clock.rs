//! From the camera's RTP time to media time and wall clock. Pure: all clocks are passed in.
//!
//! Media time (`dts`, 1/90000 s) is continuous over a run and offset to the Unix epoch at the run's start. Wall clock
//! comes from the camera's RTCP sender reports while [`CameraClock`] believes them, else from this member's own clock.
//! One member may believe a camera that the other one does not, so a believed camera must be clearly nearer to the own
//! clock than `segment::canonical::WINDOW_US`, within which the same pictures of two members are found.

use std::collections::VecDeque;

/// A camera whose clock is further away from the own one than this is not believed.
pub const PLAUSIBLE_US: i64 = 1_000_000;
/// One that is believed stays so up to this.
pub const STILL_PLAUSIBLE_US: i64 = 1_500_000;
/// A jump of a clock, or of media time against the time of arrival, that begins a new run.
pub const JUMP_US: i64 = 1_000_000;
/// Own clock and camera drift apart by at most this: 500 ppm.
const DRIFT_PPM: i64 = 500;

/// Over how many frames the mean step of a stream with B-frames is taken: whole groups of 2, 3, 4, 6 and 8.
const PACE: usize = 48;

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

/// A camera's clock by its sender reports. It is kept over sessions, so that a reconnect finds the same wall clock
/// before the first report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CameraClock {
    /// How much it is ahead of the own clock while it is believed, microseconds.
    ahead_us: Option<i64>,
    /// What was said of one that is not believed.
    told_us: Option<i64>,
    /// How far the own clock was ahead of the monotonic one when the camera was last believed, microseconds. Two clocks that
    /// agreed are right against one that jumps alone, so from a jump on the own clock is reckoned from here.
    own_base_us: Option<i64>,
    /// Whether such a jump was told.
    told_jump: bool,
}

impl CameraClock {
    /// Takes a sender report. `Some` says how far ahead the camera's clock is, once, when it is not believed.
    pub fn heard(&mut self, report: Report, now: Arrival) -> Option<i64> {
        let most = if self.is_believed() {
            STILL_PLAUSIBLE_US
        } else {
            PLAUSIBLE_US
        };
        // The own clock as it was, and as it is: the camera may have followed a jump.
        for own_us in [self.own_us(&now), now.own_us] {
            let ahead = report.wall_at(&now).saturating_sub(own_us);
            if ahead.saturating_abs() <= most {
                (self.ahead_us, self.told_us) = (Some(ahead), None);
                self.own_base_us = Some(own_us.saturating_sub(now.mono_us));
                return None;
            }
        }
        let ahead = report.wall_at(&now).saturating_sub(now.own_us);
        (self.ahead_us, self.own_base_us, self.told_jump) = (None, None, false);
        let told = self.told_us.is_some_and(|t| t.abs_diff(ahead) <= JUMP_US as u64);
        (!told).then(|| *self.told_us.insert(ahead))
    }

    /// Whether wall clocks come from it.
    pub fn is_believed(&self) -> bool {
        self.ahead_us.is_some()
    }

    /// By how much the own clock jumped while the camera was believed, microseconds; once for each jump.
    pub fn own_jump(&mut self, now: &Arrival) -> Option<i64> {
        let jump = now.own_us.saturating_sub(self.own_us(now));
        let told = std::mem::replace(&mut self.told_jump, jump != 0);
        (jump != 0 && !told).then_some(jump)
    }

    /// The own clock, without a jump since the camera was last believed.
    fn own_us(&self, a: &Arrival) -> i64 {
        let base = a.own_us.saturating_sub(a.mono_us);
        match self.own_base_us {
            Some(known) if base.saturating_sub(known).saturating_abs() > JUMP_US => {
                a.mono_us.saturating_add(known)
            }
            _ => a.own_us,
        }
    }

    /// The wall clock of a frame by the camera, if it is believed: by the newest `report` of this session, else by how
    /// much the camera's clock was ahead of the own one.
    fn wall_us(&self, frame: &Arrival, report: Option<Report>) -> Option<i64> {
        let own_us = self.own_us(frame);
        let by_own = own_us.saturating_add(self.ahead_us?);
        let wall = report.map_or(by_own, |r| r.wall_at(frame));
        (wall.saturating_sub(own_us).saturating_abs() <= STILL_PLAUSIBLE_US).then_some(wall)
    }
}

impl Report {
    /// The camera's time of what has the RTP timestamp of `a`.
    fn wall_at(&self, a: &Arrival) -> i64 {
        self.wall_us
            .saturating_add(us(a.rtp.saturating_sub(self.rtp), a.rate))
    }
}

/// Why a new run has to begin with this frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// RTP time jumped, forward against the time of arrival or back.
    RtpJump,
    /// The camera's clock jumped by more than [`JUMP_US`].
    CameraClock,
    /// This member's clock, on which the wall clock rests, jumped by more than [`JUMP_US`].
    OwnClock,
    /// The camera's clock began, or ceased, to be believed.
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
    /// Ticks of presentation time since the frame before, 1/90000 s; 0 for the first. With B-frames the mean of many.
    pub step: i64,
    /// Whether the stream has B-frames, so that `step` says nothing of missing frames.
    pub reordered: bool,
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
    /// The highest RTP timestamp after each of the newest frames.
    pace: VecDeque<i64>,
    highest_rtp: i64,
    reordered: bool,
    /// What is added to the own clock since it jumped in this run, microseconds.
    own_shift_us: i64,
    /// What is added to RTP times since they jumped in this run.
    rtp_shift: i64,
}

impl MediaClock {
    /// Begins a run with the frame `first`. `report` is the newest of this session since its RTP time jumped last.
    pub fn new(first: Arrival, camera: &CameraClock, report: Option<Report>) -> Self {
        let by_camera = camera.wall_us(&first, report);
        let wall_us = by_camera.unwrap_or(first.own_us);
        let base_ticks = wall_us * (TICKS_PER_S / 10_000) / (US_PER_S / 10_000);
        Self {
            source: if by_camera.is_some() {
                Source::Camera
            } else {
                Source::Own
            },
            first,
            base_ticks,
            offset_us: wall_us,
            last: first,
            last_dts: base_ticks - 1,
            pace: VecDeque::with_capacity(PACE + 1),
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

    /// Takes a new sender report of a camera that is `believed` or not. `Some` when the next key frame has to begin a new
    /// run; this one then keeps its mapping.
    pub fn report(&mut self, report: Report, believed: bool) -> Option<Break> {
        match (self.source, believed) {
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
                if report.wall_us.saturating_sub(expected).saturating_abs() > JUMP_US {
                    return Some(Break::CameraClock);
                }
                self.offset_us = report.wall_us - media;
                None
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
        (self.source == Source::Own && own.abs() > JUMP_US).then_some(Break::OwnClock)
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
        self.highest_rtp = self.highest_rtp.max(a.rtp);
        let mean = self.mean_step(a.rate);
        let dts = self.decoding_time(pts, mean);
        self.last = a;
        self.last_dts = dts;
        Times {
            dts,
            cts: (pts - dts) as i32,
            wallclock_us: self.wall_of(a.rtp),
            step: if self.reordered { mean } else { step },
            reordered: self.reordered,
        }
    }

    /// How far the newest frames are apart on average, in whatever order they came; 0 for the first.
    fn mean_step(&mut self, rate: u32) -> i64 {
        self.pace.push_back(self.highest_rtp);
        if self.pace.len() > PACE + 1 {
            self.pace.pop_front();
        }
        let intervals = self.pace.len() as i64 - 1;
        let oldest = self.pace.front().copied().unwrap_or(self.highest_rtp);
        ticks(self.highest_rtp.saturating_sub(oldest), rate) / intervals.max(1)
    }

    /// Without B-frames the presentation time itself. With them frames come in decoding order, so their decoding
    /// times follow each other by the mean step, or a little less until none is later than the newest picture; where
    /// that strays by more than 1 s it begins again at the presentation time.
    fn decoding_time(&self, pts: i64, mean: i64) -> i64 {
        if !self.reordered {
            return pts.max(self.last_dts + 1);
        }
        let newest = self.base_ticks + ticks(self.highest_rtp - self.first.rtp, self.first.rate);
        let step = if self.last_dts >= newest {
            mean * 3 / 4
        } else {
            mean
        };
        let even = self.last_dts + step.max(1);
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

    fn own(first: Arrival) -> MediaClock {
        MediaClock::new(first, &CameraClock::default(), None)
    }

    fn report(n: i64, ahead_us: i64) -> Report {
        Report {
            rtp: at(n).rtp,
            wall_us: at(n).own_us + ahead_us,
        }
    }

    fn run(n: i64) -> MediaClock {
        let mut clock = own(at(0));
        for i in 0..n {
            assert_eq!(clock.breaks(&at(i)), None);
            clock.frame(at(i));
        }
        clock
    }

    #[test]
    fn media_time_starts_at_the_unix_time_and_follows_rtp() {
        let mut clock = own(at(0));
        let first = clock.frame(at(0));
        assert_eq!(
            first,
            Times {
                dts: T0 / 100 * 9,
                cts: 0,
                wallclock_us: T0,
                step: 0,
                reordered: false
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
    fn a_believed_camera_carries_the_wall_clock_and_its_jumps_are_seen() {
        let mut camera = CameraClock::default();
        assert_eq!(camera.heard(report(0, 900_000), at(0)), None);
        let mut clock = MediaClock::new(at(0), &camera, Some(report(0, 900_000)));
        assert_eq!(clock.source(), Source::Camera);
        assert_eq!(clock.frame(at(0)).wallclock_us, T0 + 900_000);
        assert_eq!(clock.report(report(5, 910_000), true), None);
        assert_eq!(clock.report(report(9, -200_000), true), Some(Break::CameraClock));
        assert_eq!(
            clock.frame(at(10)).wallclock_us,
            at(10).own_us + 910_000,
            "this run goes on"
        );
        assert_eq!(
            clock.report(report(9, 0), false),
            Some(Break::Source(Source::Own))
        );
        let mut other = own(at(0));
        assert_eq!(other.report(report(1, 0), false), None);
        assert_eq!(
            other.report(report(1, 0), true),
            Some(Break::Source(Source::Camera))
        );
    }

    #[test]
    fn a_camera_far_from_the_own_clock_is_told_once_and_not_believed() {
        // By how much it is ahead, what is said, and whether it is believed.
        let table = [
            (1_100_000, Some(1_100_000), false),
            (1_300_000, None, false),
            (-40_000_000, Some(-40_000_000), false),
            (-40_500_000, None, false),
            (900_000, None, true),
            (1_400_000, None, true),
            (1_600_000, Some(1_600_000), false),
            (1_400_000, None, false),
        ];
        let mut camera = CameraClock::default();
        for (n, (ahead, said, believed)) in table.into_iter().enumerate() {
            let n = n as i64;
            assert_eq!(camera.heard(report(n, ahead), at(n)), said, "{n}");
            assert_eq!(camera.is_believed(), believed, "{n}");
            let source = MediaClock::new(at(n), &camera, Some(report(n, ahead))).source();
            assert_eq!(source == Source::Camera, believed, "{n}");
        }
        const { assert!(STILL_PLAUSIBLE_US < segment::canonical::WINDOW_US) };
    }

    #[test]
    fn a_new_session_keeps_the_clock_of_the_one_before() {
        let mut camera = CameraClock::default();
        camera.heard(report(0, 700_000), at(0));
        let again = Arrival { rtp: 77, ..at(500) };
        let mut clock = MediaClock::new(again, &camera, None);
        assert_eq!(clock.source(), Source::Camera);
        assert_eq!(clock.frame(again).wallclock_us, again.own_us + 700_000);
        let stepped = Arrival {
            own_us: at(500).own_us + 3_600_000_000,
            ..at(500)
        };
        let mut clock = MediaClock::new(stepped, &camera, Some(report(400, 700_000)));
        assert_eq!(clock.source(), Source::Camera, "the own clock jumped alone");
        assert_eq!(clock.frame(stepped).wallclock_us, at(500).own_us + 700_000);
    }

    /// A frame after the own clock jumped by an hour.
    fn after_a_jump(n: i64) -> Arrival {
        Arrival {
            own_us: at(n).own_us + 3_600_000_000,
            ..at(n)
        }
    }

    #[test]
    fn an_own_clock_that_jumps_alone_moves_nothing_while_the_camera_is_believed() {
        let mut camera = CameraClock::default();
        camera.heard(report(0, 200_000), at(0));
        let mut clock = MediaClock::new(at(0), &camera, Some(report(0, 200_000)));
        clock.frame(at(0));
        assert_eq!(camera.own_jump(&at(1)), None);
        assert_eq!(clock.breaks(&after_a_jump(1)), None);
        let wall = clock.frame(after_a_jump(1)).wallclock_us;
        assert_eq!(wall, at(1).own_us + 200_000);
        assert_eq!(camera.heard(report(2, 200_000), after_a_jump(2)), None);
        assert!(camera.is_believed());
        assert_eq!(camera.own_jump(&after_a_jump(2)), Some(3_600_000_000));
        assert_eq!(camera.own_jump(&after_a_jump(3)), None, "told once");
        assert_eq!(camera.heard(report(4, 200_000), at(4)), None, "it came back");
        assert_eq!(camera.own_jump(&at(4)), None);
        assert_eq!(
            camera.own_jump(&after_a_jump(5)),
            Some(3_600_000_000),
            "another jump"
        );
    }

    #[test]
    fn a_camera_that_follows_the_jump_is_believed() {
        let mut camera = CameraClock::default();
        camera.heard(report(0, 0), at(0));
        let hour = 3_600_000_000;
        assert_eq!(camera.heard(report(1, hour), after_a_jump(1)), None);
        assert!(camera.is_believed(), "both clocks agree again");
        assert_eq!(camera.own_jump(&after_a_jump(2)), None);
        assert_eq!(
            camera.heard(report(3, 0), after_a_jump(3)),
            Some(-hour),
            "it alone went back"
        );
        assert!(!camera.is_believed());
    }

    #[test]
    fn b_frames_keep_decoding_times_rising_and_presentation_times_right() {
        let order = [0i64, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11];
        let mut clock = own(at(0));
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
    fn b_frames_do_not_run_away_from_their_presentation_times() {
        // In groups of pictures as encoders send them: how far each frame is shown after the first of its group.
        for group in [
            &[3i64, 1, 2][..],
            &[2, 1],
            &[4, 2, 1, 3],
            &[8, 4, 2, 1, 3, 6, 5, 7],
        ] {
            let mut clock = own(at(0));
            clock.frame(at(0));
            let mut steps = Vec::new();
            for n in 0..1000 {
                let (of, in_group) = (n / group.len(), n % group.len());
                let shown = (of * group.len()) as i64 + group[in_group];
                let a = Arrival {
                    rtp: at(shown).rtp,
                    ..at(n as i64 + 1)
                };
                let t = clock.frame(a);
                let most = 3600 * (2 * group.len() as i32 + 1);
                assert!(t.cts.abs() <= most, "{group:?}: {} at {n}", t.cts);
                steps.push(t.step);
            }
            assert!(steps[60..].iter().all(|s| (s - 3600).abs() < 700), "{group:?}");
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
            let mut clock = own(at(0));
            let mut last = clock.frame(at(0)).dts;
            let mut mono = at(0).mono_us;
            for (rtp, passed) in steps {
                mono += passed;
                let a = Arrival { rtp: rtp / 8, rate: 90_000, own_us: T0 + mono, mono_us: mono };
                if clock.breaks(&a).is_some() {
                    clock = own(a);
                    last = i64::MIN;
                }
                let t = clock.frame(a);
                proptest::prop_assert!(t.dts > last);
                last = t.dts;
            }
        }
    }
}
