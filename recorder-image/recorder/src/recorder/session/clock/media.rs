//! The clock of one run.

use std::collections::VecDeque;

use super::{Arrival, CameraClock, JUMP_US, Report, TICKS_PER_S, US_PER_S, scale, ticks, us};

/// Own clock and camera drift apart by at most this: 500 ppm.
const DRIFT_PPM: i64 = 500;

/// Over how many frames the mean step of a stream with B-frames is taken: whole groups of 2, 3, 4, 6 and 8.
const PACE: usize = 48;

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
    /// RTP time jumped: back, or forward by more than passed since the frame before could have come.
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
        let wall_us = by_camera.unwrap_or(first.own_us.saturating_sub(first.late_us));
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
        // What was late can be followed by what came in time, if the camera threw away what lay between.
        let passed = (a.mono_us - self.last.mono_us).max(0) + self.last.late_us;
        if a.rate != self.first.rate || media < -JUMP_US || media > passed.saturating_add(10 * JUMP_US) {
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
