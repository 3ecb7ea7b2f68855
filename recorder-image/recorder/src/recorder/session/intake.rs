//! From depacketized video frames to frames in the ring: runs, times, gaps. Synchronous, without a network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::cadence::Cadence;
use super::clock::{Arrival, Break, MediaClock, Report, Source};
use crate::recorder::frame::{Frame, Run};
use crate::recorder::stream::{GapNotice, Inner, Notice};
use segment::nal;

/// The codec parameters of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The sample entry box.
    pub sample_entry: Bytes,
    /// Displayed width, pixels.
    pub width: u16,
    /// Displayed height, pixels.
    pub height: u16,
}

/// An access unit from the depacketizer.
#[derive(Clone, Debug)]
pub struct Unit {
    /// NAL units with 4-byte lengths.
    pub data: Bytes,
    /// Its times.
    pub arrival: Arrival,
    /// Packets that were lost before it.
    pub lost: u16,
    /// When it came, on `CLOCK_BOOTTIME`.
    pub received: Duration,
}

/// The state of one session.
#[derive(Debug)]
pub struct Intake {
    hevc: bool,
    parameters: Option<Parameters>,
    /// The parameters are others than those of the run.
    changed: bool,
    run: Option<(Arc<Run>, MediaClock)>,
    report: Option<Report>,
    pending: Option<Break>,
    cadence: Cadence,
    last_us: i64,
    waiting: u64,
}

impl Intake {
    /// A session that begins.
    pub fn new(hevc: bool) -> Self {
        Self {
            hevc,
            parameters: None,
            changed: false,
            run: None,
            report: None,
            pending: None,
            cadence: Cadence::default(),
            last_us: 0,
            waiting: 0,
        }
    }

    /// The parameters now in force; a change begins a new run at the next key frame.
    pub fn parameters(&mut self, parameters: Parameters) {
        self.changed = self.run.is_some() && self.parameters.as_ref() != Some(&parameters);
        self.parameters = Some(parameters);
    }

    /// Whether parameters are known.
    pub fn has_parameters(&self) -> bool {
        self.parameters.is_some()
    }

    /// A sender report came.
    pub fn report(&mut self, report: Report, now: Arrival) {
        self.report = Some(report);
        if let Some((_, clock)) = &mut self.run {
            self.pending = clock.report(report, now).or(self.pending);
        }
    }

    /// The typical time between two frames.
    pub fn interval(&self) -> Option<Duration> {
        self.cadence
            .median()
            .map(|t| Duration::from_micros((t * 100 / 9).max(0).cast_unsigned()))
    }

    /// Frames that came before the first key frame.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Takes one access unit. Returns whether it went into the ring.
    ///
    /// One without picture data is no frame, and one that is not a chain of whole NAL units cannot be written: neither may
    /// reach the writer, which does the work of all streams. Where a frame is missing then, the next one shows it.
    pub fn unit(&mut self, unit: Unit, inner: &mut Inner) -> bool {
        if nal::check(&unit.data, self.hevc).is_err() {
            return false;
        }
        let key = nal::is_key(&unit.data, self.hevc);
        if let Some((_, clock)) = &mut self.run
            && let Some(broken) = clock.breaks(&unit.arrival)
        {
            clock.rebase(&unit.arrival, broken, self.cadence.median().unwrap_or(3000));
            self.pending = Some(broken);
        }
        if key && !self.begin_run(&unit.arrival, inner) {
            return false;
        }
        let Some((run, clock)) = &mut self.run else {
            self.waiting += 1;
            return false;
        };
        let first = self.last_us == 0;
        let times = clock.frame(unit.arrival);
        let run = Arc::clone(run);
        let missing = self.cadence.interval(times.step);
        let interval_us = self.cadence.median().map_or(40_000, |t| t * 100 / 9);
        if !first && (unit.lost > 0 || missing > 0) {
            note_loss(
                inner,
                self.last_us + interval_us,
                times.wallclock_us,
                unit.lost,
                missing,
            );
        }
        self.last_us = times.wallclock_us;
        let frame = Frame {
            hash: nal::frame_hash(&unit.data, self.hevc),
            data: unit.data,
            key,
            dts: times.dts,
            cts: times.cts,
            wallclock_us: times.wallclock_us,
            received: unit.received,
            run,
        };
        inner.push(frame, interval_us);
        true
    }

    /// With a key frame: begins a run where there is none, or where the present one cannot go on. Returns false while
    /// the parameters are unknown.
    fn begin_run(&mut self, arrival: &Arrival, inner: &mut Inner) -> bool {
        let why = match (&self.run, self.pending, self.changed) {
            (None, ..) => "a session began".to_owned(),
            (Some(_), Some(broken), _) => words(broken).to_owned(),
            (Some(_), None, true) => "the camera changed its parameter sets".to_owned(),
            (Some(_), None, false) => return true,
        };
        let Some(p) = self.parameters.clone() else {
            return false;
        };
        let run = Run {
            id: uuid::Uuid::new_v4(),
            sample_entry: p.sample_entry,
            width: p.width,
            height: p.height,
            hevc: self.hevc,
        };
        let clock = MediaClock::new(*arrival, self.report);
        let source = match clock.source() {
            Source::Own => "this member's clock",
            Source::Camera => "the camera's sender reports",
        };
        inner.ring.close_gop();
        inner.notice(Notice::Note(format!(
            "new run {}: {why}; wall clock from {source}",
            run.id
        )));
        (self.pending, self.changed) = (None, false);
        self.run = Some((Arc::new(run), clock));
        true
    }
}

fn words(broken: Break) -> &'static str {
    match broken {
        Break::RtpJump => "the camera's RTP time jumped",
        Break::CameraClock => "the camera's clock jumped by more than 1 s",
        Break::OwnClock => "this member's clock jumped by more than 1 s",
        Break::Source(Source::Camera) => "the camera's sender reports became plausible",
        Break::Source(Source::Own) => "the camera's sender reports are more than 60 s off",
    }
}

fn note_loss(inner: &mut Inner, start_us: i64, end_us: i64, lost: u16, missing: u64) {
    let cause = if lost > 0 { "PacketLoss" } else { "FramesMissing" };
    let evidence = format!("{lost} packets lost, {missing} frames missing by the stream's rhythm");
    inner.notice(Notice::Gap(GapNotice {
        start_us: start_us.min(end_us),
        end_us: Some(end_us),
        cause: cause.into(),
        evidence,
        frames: (missing > 0).then_some(missing),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::StreamUid;
    use crate::recorder::metrics::Metrics;
    use crate::recorder::ring::Limits;
    use crate::recorder::stream::Stream;

    const T0: i64 = 1_800_000_000_000_000;

    fn stream() -> Stream {
        let limits = Limits {
            max_bytes: 1 << 20,
            preroll: Duration::from_mins(1),
        };
        Stream::new(
            "door".into(),
            StreamUid::default(),
            limits,
            &Arc::new(Metrics::new("front-0")),
        )
    }

    fn unit(n: i64) -> Unit {
        let nal_type = if n % 25 == 0 { 0x65 } else { 0x41 };
        let arrival = Arrival {
            rtp: n * 3600,
            rate: 90_000,
            own_us: T0 + n * 40_000,
            mono_us: n * 40_000,
        };
        let data = Bytes::from(vec![0, 0, 0, 3, nal_type, n as u8, (n >> 8) as u8]);
        Unit {
            data,
            arrival,
            lost: 0,
            received: Duration::from_millis(n as u64 * 40),
        }
    }

    fn parameters(width: u16) -> Parameters {
        Parameters {
            sample_entry: Bytes::new(),
            width,
            height: 90,
        }
    }

    fn fed(numbers: impl Iterator<Item = i64>) -> (Stream, Intake) {
        let (stream, mut intake) = (stream(), Intake::new(false));
        intake.parameters(parameters(160));
        for n in numbers {
            intake.unit(unit(n), &mut stream.lock());
        }
        (stream, intake)
    }

    fn notes(stream: &Stream) -> Vec<Notice> {
        stream.lock().take_notices()
    }

    fn runs(stream: &Stream) -> usize {
        let inner = stream.lock();
        let ids: std::collections::HashSet<_> = inner.ring.frames().map(|f| f.run.id).collect();
        ids.len()
    }

    #[test]
    fn units_that_are_no_frames_do_not_reach_the_ring() {
        let (stream, mut intake) = fed(0..60);
        notes(&stream);
        let delimiter = Bytes::from_static(&[0, 0, 0, 2, 0x09, 0xf0]);
        let cut = Bytes::from_static(&[0, 0, 0, 9, 0x41, 1]);
        for data in [delimiter, cut] {
            assert!(!intake.unit(Unit { data, ..unit(60) }, &mut stream.lock()));
        }
        assert!(intake.unit(unit(61), &mut stream.lock()));
        let gaps = notes(&stream);
        assert!(
            matches!(&gaps[..], [Notice::Gap(gap)] if gap.frames == Some(1)),
            "{gaps:?}"
        );
        assert_eq!(runs(&stream), 1);
    }

    #[test]
    fn loss_before_the_first_key_frame_is_no_gap() {
        let (stream, mut intake) = (stream(), Intake::new(false));
        intake.parameters(parameters(160));
        intake.unit(Unit { lost: 7, ..unit(20) }, &mut stream.lock());
        intake.unit(Unit { lost: 7, ..unit(25) }, &mut stream.lock());
        assert_eq!(intake.waiting(), 1);
        assert!(notes(&stream).iter().all(|n| matches!(n, Notice::Note(_))));
    }

    #[test]
    fn lost_packets_and_missing_frames_are_gaps() {
        let (stream, mut intake) = fed(0..60);
        notes(&stream);
        intake.unit(Unit { lost: 2, ..unit(60) }, &mut stream.lock());
        intake.unit(unit(64), &mut stream.lock());
        let gaps = notes(&stream);
        let [Notice::Gap(lost), Notice::Gap(missing)] = &gaps[..] else {
            panic!("{gaps:?}")
        };
        assert_eq!((lost.cause.as_str(), lost.frames), ("PacketLoss", None));
        assert_eq!(
            (missing.cause.as_str(), missing.frames),
            ("FramesMissing", Some(3))
        );
        assert_eq!(
            (missing.start_us, missing.end_us),
            (T0 + 61 * 40_000, Some(T0 + 64 * 40_000))
        );
    }

    #[test]
    fn an_rtp_jump_inside_a_group_loses_no_frame_and_begins_a_run_at_the_next_key_frame() {
        let (stream, mut intake) = fed(0..60);
        for n in 60..100 {
            let mut u = unit(n);
            u.arrival.rtp += 90_000 * 3600;
            assert!(intake.unit(u, &mut stream.lock()));
        }
        let inner = stream.lock();
        assert_eq!(inner.ring.frames().count(), 100);
        let dts: Vec<_> = inner.ring.frames().map(|f| f.dts).collect();
        assert!(
            dts.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] < 9000),
            "{dts:?}"
        );
        drop(inner);
        assert_eq!(runs(&stream), 2);
        assert!(
            notes(&stream).iter().all(|n| matches!(n, Notice::Note(_))),
            "a jump is not a gap"
        );
    }

    #[test]
    fn an_own_clock_step_keeps_the_wall_clock_until_the_next_run() {
        let (stream, mut intake) = fed(0..60);
        for n in 60..80 {
            let mut u = unit(n);
            u.arrival.own_us -= 3_600_000_000;
            intake.unit(u, &mut stream.lock());
        }
        let walls: Vec<_> = stream.lock().ring.frames().map(|f| f.wallclock_us).collect();
        assert_eq!(walls[74], T0 + 74 * 40_000, "same run");
        assert_eq!(walls[75], T0 + 75 * 40_000 - 3_600_000_000, "new run");
    }

    #[test]
    fn new_parameters_begin_a_run_at_the_key_frame() {
        let (stream, mut intake) = fed(0..25);
        intake.parameters(parameters(320));
        intake.unit(unit(25), &mut stream.lock());
        assert_eq!(runs(&stream), 2);
        intake.parameters(parameters(320));
        intake.unit(unit(50), &mut stream.lock());
        assert_eq!(runs(&stream), 2);
    }
}
