//! What the parts of the recorder share about one stream: its ring, its health, and what has to be noted.

mod freshness;
mod gap;
pub mod live;
mod notices;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use failover::streams::Fault;
use tokio::sync::watch;

use self::freshness::Freshness;
use self::gap::Between;
pub use self::gap::GapNotice;
use self::live::{End, Viewers};
use self::notices::Notices;
use super::frame::Frame;
use super::metrics::{ErrorLabel, GAP_STATES, GapLabel, Metrics, gap_state, label};
use super::ring::matching::Collector;
use super::ring::{Limits, Ring};
use super::session::Demand;
use super::session::clock::CameraClock;
use crate::local::{ErrorCode, GapLengths, StreamError, StreamHealth, StreamState, StreamUid};

/// Over which time frame rate and bit rate are measured.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// Something for the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A gap began, or ended.
    Gap(GapNotice),
    /// A new run began, or another remark.
    Note(String),
}

/// The part under the lock. Every section is short and waits for nothing.
#[derive(Debug)]
pub struct Inner {
    /// The frames.
    pub ring: Ring,
    /// Received frames on their way to whole groups.
    pub collector: Collector,
    /// The gap that lasts now.
    pub open_gap: Option<GapNotice>,
    /// The camera's clock, over all sessions.
    pub camera: CameraClock,
    /// Who watches.
    pub viewers: Viewers,
    /// Until when no sound is asked for, on `CLOCK_BOOTTIME`.
    deaf_until: Duration,
    /// The first key frame since the stream was idle.
    first_us: Option<i64>,
    /// The usual time between two frames, as it was measured last, microseconds.
    interval_us: Option<i64>,
    notices: Notices,
    freshness: Freshness,
    health: Health,
}

#[derive(Debug)]
struct Health {
    state: StreamState,
    error: Option<StreamError>,
    warning: Option<StreamError>,
    disk_error: Option<StreamError>,
    unwritable: Option<StreamError>,
    last_frame: Option<(Duration, i64)>,
    last_end_us: Option<i64>,
    /// By how much the wall clock was ahead of the time since boot when the newest key frame came, microseconds: those after it have their
    /// times from it.
    ahead_us: Option<i64>,
    window: Duration,
    frames: u64,
    bytes: u64,
    fps: f32,
    bitrate: u64,
    gaps: u64,
    gap_lengths: GapLengths,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    /// Its name in the pair; unique, but reused over time.
    pub name: String,
    /// Its UID; never reused.
    pub uid: StreamUid,
    /// Its metrics.
    pub counters: Counters,
    /// What is asked of its session, for those who wait for it.
    pub demand: watch::Sender<Demand>,
    /// How often another member began to receive it again: its camera answers, and who waits for the next attempt need not.
    pub answers: watch::Sender<u64>,
    inner: Mutex<Inner>,
}

/// The metrics of one stream.
#[derive(Clone, Debug)]
pub struct Counters(Arc<Metrics>);

impl Counters {
    /// A session ended.
    pub fn session_error(&self, stream: &str, code: ErrorCode) {
        let label = ErrorLabel {
            stream: stream.to_owned(),
            code: code.as_str(),
        };
        self.0.session_errors.get_or_create(&label).inc();
    }

    /// An access unit cannot be recorded.
    pub fn refused(&self, stream: &str) {
        self.0.units_refused.get_or_create(&label(stream)).inc();
    }

    fn received(&self, stream: &str, bytes: usize) {
        self.0.frames_received.get_or_create(&label(stream)).inc();
        self.0
            .bytes_received
            .get_or_create(&label(stream))
            .inc_by(bytes as u64);
    }

    /// Frames whose own write was synced.
    pub fn written(&self, stream: &str, frames: u64) {
        self.0.frames_written.get_or_create(&label(stream)).inc_by(frames);
    }

    /// A gap ended.
    pub fn gap(&self, stream: &str, gap: &GapNotice) {
        let Some(end_us) = gap.end_us else { return };
        let label = GapLabel {
            stream: stream.to_owned(),
            cause: segment::gaps::label(&gap.cause),
        };
        self.0.gaps.get_or_create(&label).inc();
        self.0
            .gap_seconds
            .get_or_create(&label)
            .inc_by((end_us - gap.start_us).max(0) as f64 / 1e6);
    }

    /// What is true now.
    pub fn gauges(&self, health: &StreamHealth, ring_bytes: usize, owned: bool) {
        let label = label(&health.name);
        self.0.ring_bytes.get_or_create(&label).set(ring_bytes as i64);
        self.0
            .stream_up
            .get_or_create(&label)
            .set(i64::from(health.state == StreamState::Receiving));
        self.0
            .stream_idle
            .get_or_create(&label)
            .set(i64::from(health.state == StreamState::Idle));
        self.0
            .stream_writing
            .get_or_create(&label)
            .set(i64::from(health.writing));
        self.0.stream_owned.get_or_create(&label).set(i64::from(owned));
        self.0.stream_fps.get_or_create(&label).set(f64::from(health.fps));
        let lengths = health.gap_lengths;
        let by_state = [lengths.open_ms, lengths.refilled_ms, lengths.lost_ms];
        for (state, ms) in GAP_STATES.into_iter().zip(by_state) {
            let label = gap_state(&health.name, state);
            self.0.gap_length.get_or_create(&label).set(ms as f64 / 1e3);
        }
    }
}

impl Stream {
    /// A stream that was not heard yet, of which frames are wanted always.
    pub fn new(name: String, uid: StreamUid, limits: Limits, metrics: &Arc<Metrics>) -> Self {
        let health = Health {
            state: StreamState::Connecting,
            error: None,
            warning: None,
            disk_error: None,
            unwritable: None,
            last_frame: None,
            last_end_us: None,
            ahead_us: None,
            window: Duration::ZERO,
            frames: 0,
            bytes: 0,
            fps: 0.0,
            bitrate: 0,
            gaps: 0,
            gap_lengths: GapLengths::default(),
        };
        let inner = Inner {
            ring: Ring::new(limits),
            collector: Collector::default(),
            open_gap: None,
            camera: CameraClock::default(),
            viewers: Viewers::new(
                metrics.viewers.get_or_create(&label(&name)).clone(),
                metrics.viewers_dropped.get_or_create(&label(&name)).clone(),
            ),
            deaf_until: Duration::ZERO,
            first_us: None,
            interval_us: None,
            notices: Notices::default(),
            freshness: Freshness::default(),
            health,
        };
        Self {
            name,
            uid,
            counters: Counters(Arc::clone(metrics)),
            demand: watch::Sender::new(Demand::Always),
            answers: watch::Sender::new(0),
            inner: Mutex::new(inner),
        }
    }

    /// The inner part. A panic of the stream's task must not poison the writer, so poison is ignored: the ring is
    /// left consistent by each of its methods or loses its newest frame.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is asked of its session.
    pub fn asked(&self) -> Demand {
        *self.demand.borrow()
    }

    /// Asks for this of its session. Returns what was asked for before.
    pub fn ask(&self, demand: Demand) -> Demand {
        let mut before = demand;
        self.demand.send_if_modified(|asked| {
            before = std::mem::replace(asked, demand);
            before != demand
        });
        before
    }

    /// A frame arrived.
    pub fn count(&self, bytes: usize) {
        self.counters.received(&self.name, bytes);
    }

    /// Its health now.
    pub fn health(&self, now: Duration) -> StreamHealth {
        let inner = self.lock();
        let h = &inner.health;
        let stale = h
            .last_frame
            .is_none_or(|(at, _)| now.saturating_sub(at) > RATE_WINDOW * 2);
        StreamHealth {
            name: self.name.clone(),
            uid: self.uid,
            // The peer must know that it cannot count on this member.
            state: match h.state {
                StreamState::Receiving if h.unwritable.is_some() => StreamState::Failed,
                state => state,
            },
            error: h.worst().cloned(),
            last_frame_unix_ms: h.last_frame.map(|(_, us)| us / 1000),
            fps: if stale { 0.0 } else { h.fps },
            bitrate: if stale { 0 } else { h.bitrate },
            writing: inner.ring.is_writing(),
            gaps: h.gaps,
            gap_lengths: h.gap_lengths,
            fault: inner.fault(now),
        }
    }
}

impl Inner {
    /// A frame arrived: into the ring; counts it, and ends a gap that lasted until it. `interval_us` is the usual time
    /// between two frames, where the session could measure it already; else that of the session before counts.
    pub fn push(&mut self, frame: Frame, interval_us: Option<i64>) {
        let (at, us, key) = (frame.received, frame.wallclock_us, frame.key);
        self.interval_us = interval_us.or(self.interval_us);
        let between = if key {
            self.health.between(at, self.interval_us)
        } else {
            None
        };
        self.health.frame(at, us, frame.data.len());
        self.freshness.frame(at, frame.hash);
        self.health.last_end_us = Some(us + self.interval_us.unwrap_or(0));
        if key {
            self.end_gap(us, between);
            self.first_us.get_or_insert(us);
        }
        let frame = Arc::new(frame);
        self.viewers.feed(&frame);
        if let Some(dropped) = self.ring.push(frame) {
            let why = "the ring is full and the volume does not take frames in time";
            self.not_held(dropped, why, at);
        }
    }

    /// Wall clock of the newest frame, microseconds since the Unix epoch, while frames come.
    pub fn newest_us(&self, now: Duration) -> Option<i64> {
        let (at, us) = self.health.last_frame?;
        (now.saturating_sub(at) <= RATE_WINDOW * 2).then_some(us)
    }

    /// The usual time between two frames, microseconds, once it was measured.
    pub fn interval_us(&self) -> Option<i64> {
        self.interval_us
    }

    /// No frame is expected here from now on, `wall_us` microseconds since the Unix epoch: what lacks here was for this
    /// member to receive until now only.
    pub fn rest(&mut self, wall_us: i64) {
        self.end_gap(wall_us, None);
        self.ring.close_gop();
        self.ring.rest(true);
        self.viewers.end(End::NoPicture);
        self.health.rest();
        self.first_us = None;
    }

    /// Frames are expected again. A gap is noted only when it is known how far the recording went elsewhere.
    pub fn wake(&mut self) {
        self.ring.rest(false);
        self.health.state = StreamState::Connecting;
    }

    /// The first key frame since the stream was idle, microseconds since the Unix epoch.
    pub fn first_us(&self) -> Option<i64> {
        self.first_us
    }

    /// Keeps a notice for the writer.
    pub fn notice(&mut self, notice: Notice) {
        let ended = matches!(&notice, Notice::Gap(gap) if gap.end_us.is_some());
        self.health.gaps += u64::from(ended);
        self.notices.push(notice);
    }

    /// What became of the gaps that were noted.
    pub fn set_gap_lengths(&mut self, lengths: GapLengths) {
        self.health.gap_lengths = lengths;
    }

    /// The notices for the ledger, oldest first. Gaps that still grow at `now` wait; with `Duration::MAX` nothing does.
    pub fn take_notices(&mut self, now: Duration) -> Vec<Notice> {
        self.notices.take(now)
    }

    /// Notices that could not be written go back.
    pub fn put_back(&mut self, notices: Vec<Notice>) {
        self.notices.put_back(notices);
    }

    /// The session ended: a gap lasts from its last frame on.
    pub fn session_ended(&mut self, cause: &str, error: StreamError) {
        self.ring.close_gop();
        self.begin_gap(cause, &error.message);
        self.failed(error);
    }

    /// The session was ended, for one from another source: a gap lasts from its last frame on, unless none was expected.
    pub fn reconfigured(&mut self) {
        if self.health.state == StreamState::Idle {
            return;
        }
        self.ring.close_gop();
        let why = "the stream's address, credentials, transport or sound changed";
        self.begin_gap("Reconfigured", why);
        self.health.state = StreamState::Connecting;
    }

    /// Nothing comes.
    pub fn failed(&mut self, error: StreamError) {
        self.health.state = StreamState::Failed;
        self.health.error = Some(error);
    }

    /// Frames come.
    pub fn receiving(&mut self) {
        self.health.state = StreamState::Receiving;
        self.health.error = None;
    }

    /// A remark that stays while frames come, for example about tracks that are not recorded.
    pub fn set_warning(&mut self, warning: Option<StreamError>) {
        self.health.warning = warning;
    }

    /// Whether the next session may ask for sound.
    pub fn may_hear(&self, now: Duration) -> bool {
        now >= self.deaf_until
    }

    /// Sessions go without sound from `now` on, because it may have cost frames; and why.
    pub fn deafen(&mut self, now: Duration, time: Duration, why: &str) {
        self.deaf_until = self.deaf_until.max(now + time);
        let minutes = time.as_secs() / 60;
        self.notice(Notice::Note(format!(
            "no sound is asked for during {minutes} minutes: {why}"
        )));
    }

    /// An access unit came that cannot be recorded.
    pub fn refused(&mut self, now: Duration) {
        self.freshness.refused(now);
    }

    /// Whether pictures that do not change are a fault.
    pub fn detect_frozen(&mut self, yes: bool) {
        self.freshness.detect_frozen(yes);
    }

    /// Since when pictures do not change, if that is a fault and it is known now; on `CLOCK_BOOTTIME`.
    pub fn still_since(&self, now: Duration) -> Option<Duration> {
        (self.fault(now) == Some(Fault::Frozen)).then(|| self.freshness.fresh())?
    }

    /// Why this member cannot be counted on for this stream.
    fn fault(&self, now: Duration) -> Option<Fault> {
        let h = &self.health;
        let interval = Duration::from_micros(self.interval_us.unwrap_or(0).max(0).cast_unsigned());
        match h.state {
            _ if h.unwritable.is_some() => Some(Fault::Unwritable),
            StreamState::Receiving => self.freshness.fault(now, interval),
            StreamState::Connecting => Some(Fault::Silent),
            StreamState::Idle => None,
            StreamState::Failed => Some(match h.error.as_ref().map(|error| error.code) {
                Some(ErrorCode::Timeout | ErrorCode::Unreachable) | None => Fault::Silent,
                Some(_) => Fault::Broken,
            }),
        }
    }

    /// Whether frames come as they should.
    pub fn is_well(&self, now: Duration) -> bool {
        self.health.state == StreamState::Receiving && self.fault(now).is_none()
    }

    /// Whether frames of this stream alone cannot be written.
    pub fn set_unwritable(&mut self, error: Option<StreamError>) {
        self.health.unwritable = error;
    }

    /// Whether the volume refuses frames.
    pub fn set_disk_error(&mut self, error: Option<StreamError>) {
        self.health.disk_error = error;
    }

    /// Why no frames come, where that is known.
    pub fn why_silent(&self) -> Option<&str> {
        let resting = "this member is idle, as standby.mode says: the other one has the picture";
        let idle = (self.health.state == StreamState::Idle).then_some(resting);
        idle.or(self.health.error.as_ref().map(|e| e.message.as_str()))
    }

    /// When the newest frame arrived, on `CLOCK_BOOTTIME`.
    pub fn last_frame(&self) -> Option<Duration> {
        self.health.last_frame.map(|(at, _)| at)
    }
}

impl Health {
    /// Nothing is known of the camera any more.
    fn rest(&mut self) {
        self.state = StreamState::Idle;
        (self.error, self.warning) = (None, None);
        (self.last_frame, self.last_end_us, self.ahead_us) = (None, None, None);
    }

    /// What passed since the frame before, for a key frame that came at `at`.
    fn between(&mut self, at: Duration, interval_us: Option<i64>) -> Option<Between> {
        let now_us = crate::clock::ahead_us();
        let set_us = now_us - self.ahead_us.replace(now_us)?;
        let apart = at.saturating_sub(self.last_frame?.0).as_micros() as i64;
        Some(Between {
            passed_us: (apart - interval_us.unwrap_or(0)).max(0),
            set_us,
        })
    }

    fn worst(&self) -> Option<&StreamError> {
        let errors = [&self.error, &self.unwritable, &self.disk_error, &self.warning];
        errors.into_iter().find_map(Option::as_ref)
    }

    fn frame(&mut self, at: Duration, us: i64, bytes: usize) {
        self.last_frame = Some((at, us));
        self.frames += 1;
        self.bytes += bytes as u64;
        let passed = at.saturating_sub(self.window);
        if passed >= RATE_WINDOW {
            let seconds = passed.as_secs_f64();
            if passed < RATE_WINDOW * 2 {
                self.fps = (self.frames as f64 / seconds) as f32;
                self.bitrate = (self.bytes as f64 * 8.0 / seconds) as u64;
            }
            (self.window, self.frames, self.bytes) = (at, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::frame::Run;

    fn frame(n: u64, key: bool) -> Frame {
        let run = Run {
            id: uuid::Uuid::nil(),
            sample_entry: bytes::Bytes::new(),
            width: 1,
            height: 1,
            hevc: false,
            audio: None,
            clock: segment::ClockSource::Own,
        };
        Frame {
            data: vec![0; 100].into(),
            key,
            hash: [0; 16],
            dts: 0,
            cts: 0,
            wallclock_us: n.cast_signed() * 40_000,
            received: Duration::from_millis(n * 40),
            follows: false,
            audio: Vec::new(),
            run: Arc::new(run),
        }
    }

    fn stream() -> Stream {
        let limits = Limits {
            max_bytes: 1 << 20,
            preroll: Duration::ZERO,
        };
        Stream::new(
            "door".into(),
            StreamUid::default(),
            limits,
            &Arc::new(Metrics::new("front-0")),
        )
    }

    #[test]
    fn a_gap_is_noted_when_it_begins_and_when_it_ends() {
        let stream = stream();
        let mut inner = stream.lock();
        inner.begin_gap("Disconnected", "nothing was before");
        inner.push(frame(0, true), Some(40_000));
        assert_eq!(inner.take_notices(Duration::MAX), vec![]);
        inner.push(frame(1, false), Some(40_000));
        inner.begin_gap("Watchdog", "no frame for 2 s");
        inner.begin_gap("Disconnected", "and then the connection");
        let begun = inner.take_notices(Duration::MAX);
        assert!(matches!(&begun[..], [Notice::Gap(g)] if g.start_us == 80_000 && g.end_us.is_none()));
        inner.push(frame(60, true), Some(40_000));
        let ended = inner.take_notices(Duration::MAX);
        let Notice::Gap(gap) = &ended[0] else {
            panic!("{ended:?}")
        };
        assert_eq!(
            (gap.end_us, gap.frames, gap.cause.as_str()),
            (Some(2_400_000), Some(58), "Watchdog")
        );
    }

    #[test]
    fn a_rest_is_no_gap_and_what_it_cost_is_one() {
        let stream = stream();
        let mut inner = stream.lock();
        inner.push(frame(0, true), Some(40_000));
        inner.begin_gap("Watchdog", "no frame for 2 s");
        inner.rest(1_000_000);
        let before = inner.take_notices(Duration::MAX);
        let ends: Vec<_> = before
            .iter()
            .map(|n| matches!(n, Notice::Gap(g) if g.end_us == Some(1_000_000)))
            .collect();
        assert_eq!(ends, [false, true], "it ends with the rest: {before:?}");
        inner.begin_gap("Disconnected", "nothing is expected");
        inner.wake();
        inner.begin_gap("Disconnected", "the other member has the session yet");
        assert_eq!(inner.take_notices(Duration::MAX), []);
        inner.push(frame(100, true), Some(40_000));
        assert_eq!(inner.first_us(), Some(4_000_000));
        inner.resumed_after(4_000_000, 4_000_000, "Takeover", "they overlap");
        assert_eq!(inner.take_notices(Duration::MAX), []);
        inner.resumed_after(3_000_000, 4_000_000, "Takeover", "it was idle");
        let after = inner.take_notices(Duration::MAX);
        assert!(
            matches!(&after[..], [Notice::Gap(g)] if (g.start_us, g.end_us, g.frames) == (3_000_000, Some(4_000_000), Some(25))),
            "{after:?}"
        );
    }

    #[test]
    fn an_idle_stream_has_no_fault_and_no_picture() {
        let stream = stream();
        stream.lock().push(frame(0, true), None);
        stream.lock().receiving();
        stream.lock().rest(0);
        let health = stream.health(Duration::from_secs(9));
        assert_eq!((health.state, health.fault), (StreamState::Idle, None));
        assert!(
            stream
                .lock()
                .why_silent()
                .is_some_and(|why| why.contains("standby.mode"))
        );
        stream.lock().wake();
        let health = stream.health(Duration::from_secs(9));
        assert_eq!(
            (health.state, health.fault),
            (StreamState::Connecting, Some(Fault::Silent))
        );
    }

    #[test]
    fn rates_are_measured() {
        let stream = stream();
        for n in 0..200 {
            stream.lock().push(frame(n, n % 25 == 0), Some(40_000));
        }
        let health = stream.health(Duration::from_secs(8));
        assert!((health.fps - 25.0).abs() < 1.0, "{}", health.fps);
        assert!(
            (health.bitrate as f64 - 20_000.0).abs() < 1000.0,
            "{}",
            health.bitrate
        );
        assert!(stream.health(Duration::from_mins(1)).fps < 0.1);
    }
}
