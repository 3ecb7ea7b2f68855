//! Which frames make one fragment: a new one begins at each key frame and after [`FRAGMENT`] at the latest. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::recorder::frame::Frame;

/// The most media time in a fragment, 1/90000 s. The replication lag contains about half of it.
pub const FRAGMENT: i64 = 9000;
/// A fragment that waits for its next frame longer than this is written without knowing its last duration.
pub const OVERDUE: Duration = Duration::from_millis(400);
/// The longest duration of one sample, so that a jump cannot inflate a file, 1/90000 s.
const LONGEST: i64 = 90_000;

/// Frames that are collected for the next fragment, with the sequence number after the newest.
#[derive(Debug, Default)]
pub struct Pending {
    frames: Vec<Arc<Frame>>,
    last_step: i64,
}

/// A fragment that is ready.
#[derive(Debug, PartialEq, Eq)]
pub struct Ready {
    /// The frames.
    pub frames: Vec<Arc<Frame>>,
    /// Their durations, 1/90000 s.
    pub durations: Vec<u32>,
}

impl Pending {
    /// Whether nothing is collected.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether the collected frames make a fragment, now that `next` is known to follow them.
    pub fn due(&self, next: &Frame) -> bool {
        self.frames
            .first()
            .is_some_and(|first| next.key || next.dts - first.dts >= FRAGMENT)
    }

    /// Whether the collected frames have waited too long.
    pub fn overdue(&self, now: Duration) -> bool {
        self.frames
            .first()
            .is_some_and(|first| now.saturating_sub(first.received) > OVERDUE)
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: Arc<Frame>) {
        if let Some(last) = self.frames.last() {
            self.last_step = frame.dts - last.dts;
        }
        self.frames.push(frame);
    }

    /// The fragment of all collected frames. The last duration is known by the decoding time of the frame that
    /// follows in the same run, else it is that of the frame before.
    pub fn take(&mut self, next: Option<&Frame>) -> Option<Ready> {
        let last = self.frames.last()?;
        let known = next.filter(|n| n.run.id == last.run.id).map(|n| n.dts - last.dts);
        if let Some(step) = known {
            self.last_step = step;
        }
        let frames = std::mem::take(&mut self.frames);
        let steps = frames
            .windows(2)
            .map(|w| w[1].dts - w[0].dts)
            .chain([self.last_step]);
        let durations = steps
            .map(|s| if s > LONGEST || s <= 0 { 3000 } else { s as u32 })
            .collect();
        Some(Ready { frames, durations })
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

    #[test]
    fn a_jump_does_not_inflate_a_sample() {
        let run = run();
        let mut pending = Pending::default();
        pending.push(frame(&run, 0, true));
        let ready = pending.take(Some(&frame(&run, 90_000 * 3600, true))).unwrap();
        assert_eq!(ready.durations, [3000]);
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
