//! From depacketized video frames to frames in the ring: runs, times, gaps. Synchronous, without a network.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::cadence::{Cadence, Rhythm};
use super::clock::{Arrival, Break, MediaClock, Report, Source, Times, Transit};
use super::doubts::{Evidence, Verdict, judge};
use super::sound::{Heard, Sound};
use crate::recorder::frame::{Frame, Run};
use crate::recorder::stream::{GapNotice, Inner, Notice};
use segment::{AudioTrack, ClockSource, nal};

/// An access unit larger than this fits into no fragment, bytes.
const MAX_UNIT: usize = segment::fmp4::MAX_FRAGMENT / 2;

/// A camera whose packets are not taken throws frames away before it numbers them, so that no packet lacks. What it sent before them is late
/// then, by as much as it threw away; by so much more than the frame that follows it proves nothing yet, microseconds. Less than
/// a second, because a pause of less is believed anyway.
const BACKLOG_US: i64 = 500_000;

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
    /// Into the ring, as a key frame or another one.
    Frame {
        /// Whether a decoder can begin with it.
        key: bool,
    },
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

/// The first unit of a session. A session can join a camera in the middle of it: then it lacks its first packets, and nothing in
/// the sequence numbers tells.
#[derive(Debug)]
enum First {
    /// It did not come yet.
    Awaited,
    /// It began with a slice. The next one tells whether the camera's units do.
    Held(Unit),
    /// It is over.
    Past,
}

/// The state of one session.
#[derive(Debug)]
pub struct Intake {
    hevc: bool,
    first: First,
    parameters: Option<Parameters>,
    /// The parameters are others than those of the run.
    changed: bool,
    run: Option<(Arc<Run>, MediaClock)>,
    report: Option<Report>,
    transit: Transit,
    pending: Option<Break>,
    cadence: Cadence,
    sound: Option<Sound>,
    last_us: i64,
    /// Decoding time of the frame before, 1/90000 s, and when it came, microseconds on the monotonic clock.
    before: Option<(i64, i64)>,
    refused: Refused,
    /// Units that were refused in this session.
    refusals: u64,
    /// Times at which frames were late though no packet lacked, in this session.
    doubts: u64,
}

impl Intake {
    /// A session that begins.
    pub fn new(hevc: bool) -> Self {
        Self {
            hevc,
            first: First::Awaited,
            parameters: None,
            changed: false,
            run: None,
            report: None,
            transit: Transit::default(),
            pending: None,
            cadence: Cadence::default(),
            sound: None,
            last_us: 0,
            before: None,
            refused: Refused::default(),
            refusals: 0,
            doubts: 0,
        }
    }

    /// A session that begins, with sound.
    #[must_use]
    pub fn with_sound(mut self, track: AudioTrack) -> Self {
        self.sound = Some(Sound::new(track));
        self
    }

    /// A packet of sound came.
    pub fn heard(&mut self, packet: Heard) {
        if let Some(sound) = &mut self.sound {
            sound.packet(packet);
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
    pub fn report(&mut self, report: Report, mut now: Arrival, inner: &mut Inner) {
        self.report = Some(report);
        now.late_us = self.transit.late_us(&now);
        if let Some(jump_us) = inner.camera.own_jump(&now) {
            inner.notice(Notice::Note(format!(
                "this member's clock jumped by {:.1} s and the camera's did not: the wall clock stays with the camera's",
                jump_us as f64 / 1e6
            )));
        }
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

    /// Takes one access unit. A session does not begin with a key frame whose first packets it may have missed.
    pub fn unit(&mut self, unit: Unit, inner: &mut Inner) -> Taken {
        let bare = nal::begins_with_slice(&unit.data, self.hevc);
        match std::mem::replace(&mut self.first, First::Past) {
            First::Awaited if bare && nal::is_key(&unit.data, self.hevc) => {
                self.first = First::Held(unit);
                Taken::TooEarly
            }
            First::Held(held) if bare => {
                self.take(held, inner);
                self.take(unit, inner)
            }
            // Something stands before this picture, as it will have before the held one.
            _ => self.take(unit, inner),
        }
    }

    fn take(&mut self, mut unit: Unit, inner: &mut Inner) -> Taken {
        if let Err(why) = recordable(&unit.data, self.hevc) {
            self.refuse(&unit, why, inner);
            return Taken::Refused;
        }
        let refused = std::mem::take(&mut self.refused);
        unit.lost = unit.lost.saturating_add(refused.lost);
        self.follow_jumps(&unit.arrival, inner);
        self.transit.learn(&unit.arrival);
        unit.arrival.late_us = self.transit.late_us(&unit.arrival);
        // The library calls no picture of an open group of H.265 one that can be begun with.
        let key = nal::is_key(&unit.data, self.hevc);
        if key && !self.begin_run(&unit.arrival, inner) {
            return Taken::TooEarly;
        }
        let Some((run, clock)) = &mut self.run else {
            return Taken::TooEarly;
        };
        let times = clock.frame(unit.arrival);
        let run = Arc::clone(run);
        let mono_us = unit.arrival.mono_us;
        let passed_us = self
            .before
            .map(|(dts, came_us)| ((times.dts - dts) * 100 / 9, mono_us - came_us));
        let in_time = passed_us.is_some_and(|(step_us, waited_us)| step_us - waited_us < BACKLOG_US);
        let is_whole = self.note_missing(&times, unit.lost, &refused, in_time, inner);
        self.last_us = times.wallclock_us;
        self.before = Some((times.dts, mono_us));
        let audio = self.sound.as_mut().map(|sound| sound.frame(mono_us, times.dts));
        let frame = Frame {
            hash: nal::frame_hash(&unit.data, self.hevc),
            data: unit.data,
            key,
            dts: times.dts,
            cts: times.cts,
            wallclock_us: times.wallclock_us,
            received: unit.received,
            follows: is_whole && in_time,
            audio: audio.unwrap_or_default(),
            run,
        };
        inner.push(frame, self.cadence.median().map(|t| t * 100 / 9));
        Taken::Frame { key }
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
            // They speak of RTP times before the jump.
            (self.report, self.transit) = (None, Transit::default());
        }
        self.pending = Some(broken);
    }

    /// Notes frames that never came, or could not be recorded, before this one. Returns whether none is known to be.
    fn note_missing(
        &mut self,
        times: &Times,
        lost: u16,
        refused: &Refused,
        in_time: bool,
        inner: &mut Inner,
    ) -> bool {
        let late = match self.rhythm(times) {
            Rhythm::Missing(frames) => frames,
            Rhythm::Usual => 0,
            Rhythm::Changed { from, to } => {
                let fps = |ticks: i64| 90_000.0 / ticks.max(1) as f64;
                inner.notice(Notice::Note(format!(
                    "the camera's rate changed from {:.1} to {:.1} frames a second",
                    fps(from),
                    fps(to)
                )));
                0
            }
        };
        if self.last_us == 0 {
            return false;
        }
        let evidence = Evidence {
            lost,
            broken: refused.broken,
            late,
        };
        let verdict = judge(evidence);
        match verdict {
            Verdict::Whole => {}
            Verdict::Doubt => self.doubt(late, in_time, inner),
            Verdict::Gap { cause, frames } => {
                let start_us = self.last_us + inner.interval_us().unwrap_or(0);
                note_loss(
                    inner,
                    (start_us, times.wallclock_us),
                    evidence,
                    (cause, frames),
                    refused,
                );
            }
        }
        !matches!(verdict, Verdict::Gap { .. })
    }

    /// Frames were late, and no packet lacked: a remark, ever more rarely.
    fn doubt(&mut self, late: u64, in_time: bool, inner: &mut Inner) {
        self.doubts += 1;
        if self.doubts.is_power_of_two() {
            let what = if in_time {
                "no packet lacks, so none was lost"
            } else {
                "no packet lacks, but what was sent before came late: it may have thrown some away"
            };
            inner.notice(Notice::Note(format!(
                "the camera paused for {late} frames; {what} ({} times in this session)",
                self.doubts
            )));
        }
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
            audio: self.sound.as_ref().map(|sound| sound.track().clone()),
        };
        if let Some(sound) = &mut self.sound {
            sound.restart();
        }
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

fn note_loss(
    inner: &mut Inner,
    (start_us, end_us): (i64, i64),
    evidence: Evidence,
    (cause, frames): (&'static str, Option<u64>),
    refused: &Refused,
) {
    let not_recorded = match refused {
        Refused { broken: 0, .. } => String::new(),
        Refused { broken, why, .. } => format!(", {broken} not recorded, the last being {why}"),
    };
    let Evidence { lost, late, .. } = evidence;
    inner.notice(Notice::Gap(GapNotice {
        start_us: start_us.min(end_us),
        end_us: Some(end_us),
        cause: cause.into(),
        evidence: format!("{lost} packets lost, {late} frames missing by the stream's rhythm{not_recorded}"),
        frames,
    }));
}
