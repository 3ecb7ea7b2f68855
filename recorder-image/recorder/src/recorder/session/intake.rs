//! From depacketized video frames to frames in the ring: runs, times, gaps. Synchronous, without a network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::cadence::{Cadence, Rhythm};
use super::clock::{Arrival, Break, MediaClock, Report, Source, Times};
use crate::recorder::frame::{Frame, Run};
use crate::recorder::stream::{GapNotice, Inner, Notice};
use segment::{ClockSource, nal};

/// An access unit larger than this fits into no fragment, bytes.
const MAX_UNIT: usize = segment::fmp4::MAX_FRAGMENT / 2;

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

/// Where an access unit went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Into the ring.
    Frame,
    /// Nowhere: no key frame with parameter sets came yet.
    TooEarly,
    /// Nowhere: it is not a frame that can be recorded.
    Refused,
}

/// What was refused since the last frame.
#[derive(Clone, Copy, Debug, Default)]
struct Refused {
    /// Units that had picture data, and what was wrong with the newest.
    broken: u64,
    why: &'static str,
    /// Packets that were lost before any of them.
    lost: u16,
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
    refused: Refused,
    /// Units that were refused in this session.
    refusals: u64,
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
            refused: Refused::default(),
            refusals: 0,
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
    pub fn report(&mut self, report: Report, now: Arrival, inner: &mut Inner) {
        self.report = Some(report);
        if let Some(ahead_us) = inner.camera.heard(report, now) {
            inner.notice(Notice::Note(format!(
                "the camera's clock is {:.1} s ahead of this member's, so its sender reports are not used",
                ahead_us as f64 / 1e6
            )));
        }
        if let Some((_, clock)) = &mut self.run {
            let broken = clock.report(report, inner.camera.is_believed());
            self.pending = broken.or(self.pending);
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

    /// Takes one access unit.
    pub fn unit(&mut self, mut unit: Unit, inner: &mut Inner) -> Taken {
        if let Err(why) = recordable(&unit.data, self.hevc) {
            self.refuse(&unit, why, inner);
            return Taken::Refused;
        }
        let refused = std::mem::take(&mut self.refused);
        unit.lost = unit.lost.saturating_add(refused.lost);
        self.follow_jumps(&unit.arrival, inner);
        let key = nal::is_key(&unit.data, self.hevc);
        if key && !self.begin_run(&unit.arrival, inner) {
            return Taken::TooEarly;
        }
        let Some((run, clock)) = &mut self.run else {
            self.waiting += 1;
            return Taken::TooEarly;
        };
        let times = clock.frame(unit.arrival);
        let run = Arc::clone(run);
        self.note_missing(&times, unit.lost, &refused, inner);
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
        inner.push(frame, self.cadence.median().map(|t| t * 100 / 9));
        Taken::Frame
    }

    /// One unit that nobody could play must not keep the others from the disk. Said of the first, and then ever more
    /// rarely: some cameras send such units for ever.
    fn refuse(&mut self, unit: &Unit, why: &'static str, inner: &mut Inner) {
        self.refusals += 1;
        self.refused.lost = self.refused.lost.saturating_add(unit.lost);
        if nal::frame_hash(&unit.data, self.hevc) != nal::frame_hash(&[], self.hevc) {
            (self.refused.broken, self.refused.why) = (self.refused.broken + 1, why);
        }
        if self.refusals.is_power_of_two() {
            inner.notice(Notice::Note(format!(
                "{} access units of this session were not recorded, the newest is {why}",
                self.refusals
            )));
        }
    }

    /// Where RTP time or this member's clock jumped, a new run is due.
    fn follow_jumps(&mut self, arrival: &Arrival, inner: &Inner) {
        let Some((_, clock)) = &mut self.run else { return };
        let Some(broken) = clock.breaks(arrival) else {
            return;
        };
        let interval = inner.interval_us().map_or(3000, |us| us * 9 / 100);
        clock.rebase(arrival, broken, interval);
        if broken == Break::RtpJump {
            // It speaks of RTP times before the jump.
            self.report = None;
        }
        self.pending = Some(broken);
    }

    /// Notes frames that never came, or could not be recorded, before this one.
    fn note_missing(&mut self, times: &Times, lost: u16, refused: &Refused, inner: &mut Inner) {
        let missing = match self.rhythm(times) {
            Rhythm::Missing(frames) => frames,
            Rhythm::Usual => 0,
            Rhythm::Changed { from, to } => {
                let fps = |ticks: i64| 90_000.0 / ticks.max(1) as f64;
                inner.notice(Notice::Note(format!(
                    "the camera's rate changed from {:.1} to {:.1} frames a second; frames noted as missing just \
                     before may be due to it",
                    fps(from),
                    fps(to)
                )));
                0
            }
        };
        let first = self.last_us == 0;
        if first || (lost == 0 && missing == 0 && refused.broken == 0) {
            return;
        }
        let start_us = self.last_us + inner.interval_us().unwrap_or(0);
        note_loss(inner, (start_us, times.wallclock_us), lost, missing, refused);
    }

    fn rhythm(&mut self, times: &Times) -> Rhythm {
        if times.reordered {
            self.cadence.learn(times.step);
            return Rhythm::Usual;
        }
        self.cadence.interval(times.step)
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
        let clock = MediaClock::new(*arrival, &inner.camera, self.report);
        let (source, words) = match clock.source() {
            Source::Own => (ClockSource::Own, "this member's clock"),
            Source::Camera => (ClockSource::Camera, "the camera's sender reports"),
        };
        let run = Run {
            id: uuid::Uuid::new_v4(),
            sample_entry: p.sample_entry,
            width: p.width,
            height: p.height,
            hevc: self.hevc,
            clock: source,
        };
        inner.ring.close_gop();
        inner.notice(Notice::Note(format!(
            "new run {}: {why}; wall clock from {words}",
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
        Break::Source(Source::Camera) => "the camera's clock is near this member's",
        Break::Source(Source::Own) => "the camera's clock is no longer near this member's",
    }
}

/// Whether an access unit can be written and played.
fn recordable(data: &[u8], hevc: bool) -> Result<(), &'static str> {
    if data.len() > MAX_UNIT {
        return Err("a frame that is too large");
    }
    nal::check(data, hevc)
}

fn note_loss(inner: &mut Inner, (start_us, end_us): (i64, i64), lost: u16, missing: u64, refused: &Refused) {
    let cause = match (lost, refused.broken) {
        (1.., _) => "PacketLoss",
        (0, 1..) => "Malformed",
        (0, 0) => "FramesMissing",
    };
    let not_recorded = match refused {
        Refused { broken: 0, .. } => String::new(),
        Refused { broken, why, .. } => format!(", {broken} not recorded, the last being {why}"),
    };
    let evidence =
        format!("{lost} packets lost, {missing} frames missing by the stream's rhythm{not_recorded}");
    let frames = missing.max(refused.broken);
    inner.notice(Notice::Gap(GapNotice {
        start_us: start_us.min(end_us),
        end_us: Some(end_us),
        cause: cause.into(),
        evidence,
        frames: (frames > 0).then_some(frames),
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
        stream.lock().take_notices(Duration::MAX)
    }

    fn runs(stream: &Stream) -> usize {
        let inner = stream.lock();
        let ids: std::collections::HashSet<_> = inner.ring.frames().map(|f| f.run.id).collect();
        ids.len()
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
            assert_eq!(intake.unit(u, &mut stream.lock()), Taken::Frame);
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

    fn nal(kind: u8) -> Bytes {
        Bytes::from(vec![0, 0, 0, 2, kind, 1])
    }

    #[test]
    fn a_unit_without_picture_data_is_refused_and_noted_ever_more_rarely() {
        let (stream, mut intake) = fed(0..60);
        notes(&stream);
        for n in 60..160 {
            // A delimiter or a message between the frames, with a time of its own.
            let empty = Unit {
                data: nal(9),
                lost: u16::from(n == 60),
                ..unit(n)
            };
            assert_eq!(intake.unit(empty, &mut stream.lock()), Taken::Refused);
            intake.unit(unit(n), &mut stream.lock());
        }
        assert_eq!(stream.lock().ring.frames().count(), 160);
        let (gaps, remarks): (Vec<_>, Vec<_>) = notes(&stream)
            .into_iter()
            .partition(|n| matches!(n, Notice::Gap(_)));
        assert_eq!(remarks.len(), 7, "1, 2, 4 ... 64: {remarks:?}");
        assert!(
            matches!(&gaps[..], [Notice::Gap(g)] if g.cause == "PacketLoss"),
            "what was lost before it is not forgotten: {gaps:?}"
        );
    }

    #[test]
    fn a_broken_frame_is_a_gap_of_one_frame() {
        let (stream, mut intake) = fed(0..60);
        notes(&stream);
        for data in [
            Bytes::from_static(&[0, 0, 0, 2, 0xc1, 1, 0, 0, 0, 2, 0x41, 1]),
            Bytes::from_static(&[0, 0, 0, 2, 0x41, 1, 0, 0, 0, 9, 1]),
        ] {
            let n = stream.lock().ring.frames().count() as i64;
            let broken = Unit { data, ..unit(n) };
            assert_eq!(intake.unit(broken, &mut stream.lock()), Taken::Refused);
            intake.unit(unit(n + 1), &mut stream.lock());
            let gaps: Vec<_> = notes(&stream)
                .into_iter()
                .filter_map(|n| match n {
                    Notice::Gap(gap) => Some(gap),
                    Notice::Note(_) => None,
                })
                .collect();
            assert!(
                matches!(&gaps[..], [g] if g.cause == "Malformed" && g.frames == Some(1)),
                "{gaps:?}"
            );
        }
        let huge = vec![0; MAX_UNIT + 1];
        assert!(recordable(&huge, false).is_err());
    }

    #[test]
    fn a_camera_that_halves_its_rate_at_night_has_no_gap_for_ever() {
        let (stream, mut intake) = fed(0..60);
        notes(&stream);
        for n in (60..1060).step_by(2) {
            intake.unit(unit(n), &mut stream.lock());
        }
        let said = notes(&stream);
        let gaps = said.iter().filter(|n| matches!(n, Notice::Gap(_))).count();
        let remarks: Vec<_> = said.iter().filter(|n| matches!(n, Notice::Note(_))).collect();
        assert!(gaps <= 7, "{said:?}");
        assert!(
            matches!(remarks[..], [Notice::Note(words)] if words.contains("from 25.0 to 12.5")),
            "{remarks:?}"
        );
    }

    /// A sender report at frame `n` of a camera whose clock is ahead.
    fn report(intake: &mut Intake, stream: &Stream, n: i64, ahead_us: i64) {
        let now = unit(n).arrival;
        let report = Report {
            rtp: now.rtp,
            wall_us: now.own_us + ahead_us,
        };
        intake.report(report, now, &mut stream.lock());
    }

    fn walls(stream: &Stream) -> Vec<i64> {
        stream.lock().ring.frames().map(|f| f.wallclock_us).collect()
    }

    #[test]
    fn a_camera_with_a_wrong_clock_moves_nothing_and_is_told_once() {
        let (stream, mut intake) = fed(0..10);
        notes(&stream);
        for n in 10..200 {
            if n % 20 == 0 {
                report(&mut intake, &stream, n, 40_000_000);
            }
            intake.unit(unit(n), &mut stream.lock());
        }
        assert_eq!(runs(&stream), 1);
        let said = notes(&stream);
        assert!(
            matches!(&said[..], [Notice::Note(words)] if words.contains("40.0 s ahead")),
            "{said:?}"
        );
        assert_eq!(
            stream.lock().ring.frames().next().unwrap().run.clock,
            ClockSource::Own
        );
    }

    #[test]
    fn a_reconnect_stays_on_the_clock_of_the_camera() {
        let (stream, mut intake) = fed(0..10);
        report(&mut intake, &stream, 10, 800_000);
        for n in 10..50 {
            intake.unit(unit(n), &mut stream.lock());
        }
        assert_eq!(walls(&stream)[25], T0 + 25 * 40_000 + 800_000);
        let mut again = Intake::new(false);
        again.parameters(parameters(160));
        for n in 50..110 {
            if n == 60 {
                report(&mut again, &stream, n, 800_000);
            }
            again.unit(unit(n), &mut stream.lock());
        }
        let walls = walls(&stream);
        assert!(walls[25..].windows(2).all(|w| w[1] - w[0] == 40_000), "{walls:?}");
        assert_eq!(runs(&stream), 3, "own, camera, and the second session");
        let last = stream.lock().ring.frames().last().map(|f| f.run.clock);
        assert_eq!(last, Some(ClockSource::Camera));
    }

    #[test]
    fn a_report_from_before_an_rtp_jump_is_not_used_after_it() {
        let (stream, mut intake) = fed(0..10);
        report(&mut intake, &stream, 10, 100_000);
        for n in 10..200 {
            let mut u = unit(n);
            // It comes back with another random start, near enough to look plausible.
            u.arrival.rtp += if n >= 60 { 90_000 * 11 } else { 0 };
            intake.unit(u, &mut stream.lock());
        }
        let walls = walls(&stream);
        assert_eq!(runs(&stream), 3);
        assert_eq!(walls[199], T0 + 199 * 40_000 + 100_000);
    }

    #[test]
    fn a_gap_over_a_reconnect_is_counted_in_the_stream_s_own_frames() {
        let (stream, _) = fed((0..120).step_by(3));
        stream.lock().begin_gap("Disconnected", "gone");
        notes(&stream);
        let mut again = Intake::new(false);
        again.parameters(parameters(160));
        again.unit(unit(300), &mut stream.lock());
        let said = notes(&stream);
        let gap = said.iter().find_map(|n| match n {
            Notice::Gap(gap) => Some(gap),
            Notice::Note(_) => None,
        });
        // The last frame was 117, the next would have been 120: 60 frames of 3 steps each.
        assert_eq!(gap.and_then(|g| g.frames), Some(60));
    }
}
