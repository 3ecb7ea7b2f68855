//! Which frames make one fragment: a new one begins at each key frame and after [`FRAGMENT`] at the latest. Pure.

use std::sync::Arc;
use std::time::Duration;

use segment::fmp4::{MAX_FRAGMENT, MAX_FRAMES};

use crate::recorder::frame::Frame;

/// The most media time in a fragment, 1/90000 s. The replication lag contains about half of it.
pub const FRAGMENT: i64 = 9000;
/// A fragment that waits for its next frame longer than this is written without knowing its last duration.
pub const OVERDUE: Duration = Duration::from_millis(400);
/// The longest duration of one sample of a stream that is not known to be slow, so that neither a jump nor a gap can
/// inflate a file, 1/90000 s.
const LONGEST: i64 = 90_000;
/// The longest duration of one sample at all: the longest that a session waits for a frame, 1/90000 s.
const SLOWEST: i64 = 60 * 90_000;
/// The duration of a sample of which nothing is known, 1/90000 s.
const UNKNOWN: u32 = 3000;
/// The most bytes and frames of a fragment that another frame is added to.
const FULL: (usize, usize) = (MAX_FRAGMENT / 4, MAX_FRAMES / 2);

/// How far apart the frames of a run are, 1/90000 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Between the two newest frames, whatever lies between them; 0 when unknown.
    newest: i64,
    /// The newest duration that was given to a sample; 0 when there was none.
    given: u32,
}

impl Steps {
    /// The duration of a sample whose successor comes `step` later. A second and more is believed only of a stream
    /// whose frame before took about as long.
    fn duration(&mut self, step: i64) -> u32 {
        let slow = step <= (2 * self.newest).min(SLOWEST);
        let given = if step > 0 && (step <= LONGEST || slow) {
            step as u32
        } else if self.given > 0 {
            self.given
        } else if step > 0 {
            LONGEST as u32
        } else {
            UNKNOWN
        };
        (self.newest, self.given) = (step, given);
        given
    }

    /// The duration of a sample whose successor is not known.
    fn usual(self) -> u32 {
        if self.given > 0 { self.given } else { UNKNOWN }
    }
}

/// Frames that are collected for the next fragment.
#[derive(Debug, Default)]
pub struct Pending {
    frames: Vec<Arc<Frame>>,
    bytes: usize,
    steps: Steps,
    /// Decoding time of the newest frame of the fragment before, if its duration was not known when it was written.
    open_dts: Option<i64>,
    /// Where the fragment before ends in the run, as it was written, 1/90000 s.
    end: Option<i64>,
}

/// A fragment that is ready.
#[derive(Debug, PartialEq, Eq)]
pub struct Ready {
    /// The frames.
    pub frames: Vec<Arc<Frame>>,
    /// Their durations, 1/90000 s.
    pub durations: Vec<u32>,
    /// How long after the end of the fragment before they begin although no frame was lost between, 1/90000 s; 0 where that is not known.
    pub paused: u32,
}

impl Pending {
    /// Nothing is collected, of the same run in another file; `directly` says that not a frame comes between.
    #[must_use]
    pub fn go_on(&self, directly: bool) -> Self {
        Self {
            steps: self.steps,
            end: self.end.filter(|_| directly),
            ..Self::default()
        }
    }

    /// Whether nothing is collected.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether the collected frames make a fragment, now that `next` is known to follow them.
    pub fn due(&self, next: &Frame) -> bool {
        let full = self.frames.len() >= FULL.1 || self.bytes + next.data.len() > FULL.0;
        self.frames
            .first()
            .is_some_and(|first| next.key || full || next.dts - first.dts >= FRAGMENT)
    }

    /// Whether the collected frames have waited too long.
    pub fn overdue(&self, now: Duration) -> bool {
        self.frames
            .first()
            .is_some_and(|first| now.saturating_sub(first.received) > OVERDUE)
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: Arc<Frame>) {
        if let Some(dts) = self.open_dts.take() {
            // Too late for that frame, but it tells how far apart they are.
            self.steps.duration(frame.dts - dts);
        }
        self.bytes += frame.data.len();
        self.frames.push(frame);
    }

    /// The fragment of all collected frames. The last duration is known by the decoding time of the frame that
    /// follows in the same run, else it is that of the frame before.
    pub fn take(&mut self, next: Option<&Frame>) -> Option<Ready> {
        let (first, last) = (self.frames.first()?, self.frames.last()?);
        let pause = self.end.filter(|_| first.follows).map(|end| first.dts - end);
        let known = next.filter(|n| n.run.id == last.run.id).map(|n| n.dts - last.dts);
        self.open_dts = known.is_none().then_some(last.dts);
        let frames = std::mem::take(&mut self.frames);
        self.bytes = 0;
        let between = frames.windows(2).map(|w| w[1].dts - w[0].dts);
        let mut durations: Vec<u32> = between.chain(known).map(|s| self.steps.duration(s)).collect();
        if known.is_none() {
            durations.push(self.steps.usual());
        }
        let length: i64 = durations.iter().copied().map(i64::from).sum();
        self.end = frames.first().map(|first| first.dts + length);
        Some(Ready {
            frames,
            durations,
            paused: pause.and_then(|ticks| u32::try_from(ticks).ok()).unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::frame::Run;

    fn run() -> Arc<Run> {
        let (width, height) = (1, 1);
        let (id, sample_entry) = (uuid::Uuid::new_v4(), bytes::Bytes::new());
        Arc::new(Run {
            id,
            sample_entry,
            width,
            height,
            hevc: false,
            audio: None,
            clock: segment::ClockSource::Own,
        })
    }

    fn frame(run: &Arc<Run>, dts: i64, key: bool) -> Arc<Frame> {
        Arc::new(Frame {
            data: bytes::Bytes::new(),
            key,
            hash: [0; 16],
            dts,
            cts: 0,
            wallclock_us: 0,
            received: Duration::from_secs(1),
            follows: true,
            audio: Vec::new(),
            run: Arc::clone(run),
        })
    }

    #[test]
    fn fragments_end_at_key_frames_and_after_their_length() {
        let run = run();
        let mut pending = Pending::default();
        assert!(!pending.due(&frame(&run, 0, true)));
        pending.push(frame(&run, 0, true));
        assert!(!pending.due(&frame(&run, 3600, false)));
        pending.push(frame(&run, 3600, false));
        assert!(pending.due(&frame(&run, 7200, true)));
        assert!(pending.due(&frame(&run, 9000, false)));
        let ready = pending.take(Some(&frame(&run, 9000, false))).unwrap();
        assert_eq!(ready.durations, [3600, 5400]);
        assert!(pending.is_empty() && pending.take(None).is_none());
    }

    #[test]
    fn an_unknown_last_duration_is_that_of_the_frame_before() {
        let (one, other) = (run(), run());
        let mut pending = Pending::default();
        pending.push(frame(&one, 0, true));
        pending.push(frame(&one, 3700, false));
        let ready = pending.take(Some(&frame(&other, 99_000_000, true))).unwrap();
        assert_eq!(ready.durations, [3700, 3700]);
    }

    /// The durations of frames at these times, each in a fragment of its own, after `pending` was told of the next one
    /// or not.
    fn alone(times: &[i64], told: bool) -> Vec<u32> {
        let run = run();
        let mut pending = Pending::default();
        let mut out = Vec::new();
        for (i, dts) in times.iter().enumerate() {
            pending.push(frame(&run, *dts, true));
            let next = times
                .get(i + 1)
                .filter(|_| told)
                .map(|dts| frame(&run, *dts, true));
            out.extend(pending.take(next.as_deref()).unwrap().durations);
        }
        out
    }

    #[test]
    fn neither_a_jump_nor_a_gap_inflates_a_sample() {
        let hour = 90_000 * 3600;
        assert_eq!(alone(&[0, hour], true), [90_000, 90_000], "at most a second");
        assert_eq!(
            alone(&[0, 3600, 7200, 7200 + hour, 10_800 + hour], true),
            [3600, 3600, 3600, 3600, 3600]
        );
        assert_eq!(
            alone(&[0, 3600, 3600 + 135_000], true),
            [3600, 3600, 3600],
            "a gap of 1.5 s"
        );
        assert_eq!(alone(&[0, 0], true)[0], 3000);
    }

    #[test]
    fn a_pause_is_told_where_no_frame_was_lost() {
        let (run, second) = (run(), 90_000);
        let mut pending = Pending::default();
        let mut paused = |frame: &Frame| {
            pending.push(Arc::new(frame.clone()));
            pending.take(None).map(|ready| ready.paused)
        };
        let at = |dts: i64, follows: bool| Frame {
            follows,
            ..Frame::clone(&frame(&run, dts, true))
        };
        assert_eq!(paused(&at(0, true)), Some(0), "nothing is before it");
        assert_eq!(paused(&at(3000, true)), Some(0));
        // The one before it was written with the duration of 3000.
        assert_eq!(paused(&at(6000 + 2 * second, true)), Some(2 * 90_000));
        assert_eq!(paused(&at(9000 + 9 * second, false)), Some(0), "some were lost");
        let (directly, not) = (pending.go_on(true), pending.go_on(false));
        for (mut next, expected) in [(directly, 90_000), (not, 0)] {
            next.push(frame(&run, 12_000 + 10 * second, true));
            assert_eq!(next.take(None).map(|ready| ready.paused), Some(expected));
        }
    }

    #[test]
    fn slow_streams_have_samples_of_their_real_length() {
        let every = |ticks: i64| (0..5).map(|n| n * ticks).collect::<Vec<_>>();
        // Two seconds, and how it is when each frame is written before the next one is known.
        assert_eq!(alone(&every(180_000), true)[1..], [180_000; 4]);
        assert_eq!(alone(&every(180_000), false)[2..], [180_000; 3]);
        assert_eq!(alone(&every(45_000), false)[1..], [45_000; 4]);
        assert_eq!(
            alone(&every(91 * 90_000), true)[1..],
            [90_000; 4],
            "longer than any session waits"
        );
        let steps = Steps {
            newest: 180_000,
            given: 180_000,
        };
        let before = Pending {
            steps,
            ..Pending::default()
        };
        let mut next = before.go_on(true);
        let run = run();
        next.push(frame(&run, 0, true));
        let ready = next.take(Some(&frame(&run, 180_000, true))).unwrap();
        assert_eq!(ready.durations, [180_000], "known from the segment before");
    }

    #[test]
    fn a_fragment_has_no_more_bytes_than_can_be_written() {
        let run = run();
        let big = |dts| {
            let mut f = Frame::clone(&frame(&run, dts, false));
            f.data = vec![0; 6 << 20].into();
            Arc::new(f)
        };
        let mut pending = Pending::default();
        pending.push(big(0));
        assert!(!pending.due(&big(90)));
        pending.push(big(90));
        assert!(pending.due(&big(180)));
        pending.take(None);
        assert!(!pending.due(&big(180)));
    }

    #[test]
    fn a_waiting_fragment_becomes_overdue() {
        let mut pending = Pending::default();
        assert!(!pending.overdue(Duration::from_secs(9)));
        pending.push(frame(&run(), 0, true));
        assert!(!pending.overdue(Duration::from_millis(1300)));
        assert!(pending.overdue(Duration::from_millis(1500)));
    }
}
