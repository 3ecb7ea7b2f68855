//! The sound of a session: its packets get times on the time line of the video, and wait for the next frame, with which they go
//! wherever it goes. Bounded, and without a way to hold a frame up. Synchronous, without a network.

use bytes::Bytes;
use segment::{AudioTrack, Packet};

/// The most that waits for a frame: what does not come within a fragment of a second is of no use beside it.
const MAX_WAITING: (usize, usize) = (1024, 512 << 10);
/// Sound may be so far from where its arrival puts it, ticks in a second divided by this, ...
const APART: i64 = 4;
/// ... for so long: the sender's two clocks differ, and a stalled connection delivers late, microseconds.
const PATIENCE_US: i64 = 10_000_000;
/// So far is another time line, seconds.
const FAR: i64 = 10;

/// A packet as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its bytes.
    pub data: Bytes,
    /// Its RTP time, ticks of the sound's rate, without wraps.
    pub rtp: i64,
    /// Its duration, the same ticks.
    pub duration: u32,
    /// When it came, microseconds of a clock that only rises.
    pub mono_us: i64,
}

/// The sound of one session.
#[derive(Debug)]
pub struct Sound {
    track: AudioTrack,
    /// The newest frame of the run: when it came, and its time, 1/90000 s.
    frame: Option<(i64, i64)>,
    /// An RTP time, and the media time that it is, both in ticks of the sound's rate.
    anchor: Option<(i64, i64)>,
    /// Since when its times are far from its arrivals.
    apart_since: Option<i64>,
    /// Where the newest packet ends, ticks of the sound's rate.
    end: i64,
    waiting: Vec<Packet>,
    bytes: usize,
}

impl Sound {
    /// Nothing was heard yet.
    pub fn new(track: AudioTrack) -> Self {
        Self {
            track,
            frame: None,
            anchor: None,
            apart_since: None,
            end: 0,
            waiting: Vec::new(),
            bytes: 0,
        }
    }

    /// What it is.
    pub fn track(&self) -> &AudioTrack {
        &self.track
    }

    /// A new run begins, with a time line of its own.
    pub fn restart(&mut self) {
        let track = self.track.clone();
        *self = Self::new(track);
    }

    /// A frame of the run came at `mono_us`; it takes what waits with it.
    pub fn frame(&mut self, mono_us: i64, dts: i64) -> Vec<Packet> {
        self.frame = Some((mono_us, dts));
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// A packet came. Before the first frame of a run there is nothing to put it beside, and one that would play over another
    /// is of no use.
    pub fn packet(&mut self, heard: Heard) {
        let Some(expected) = self.expected(heard.mono_us) else {
            return;
        };
        let time = self.place(&heard, expected);
        let Some(at) = u64::try_from(time).ok().filter(|_| time >= self.end) else {
            return;
        };
        self.end = time + i64::from(heard.duration);
        self.bytes += heard.data.len();
        if self.waiting.len() >= MAX_WAITING.0 || self.bytes > MAX_WAITING.1 {
            // No frame comes: the watchdog will say so.
            (self.waiting, self.bytes) = (Vec::new(), 0);
            return;
        }
        self.waiting.push(Packet {
            data: heard.data,
            time: at,
            duration: heard.duration,
        });
    }

    /// The media time at which a packet should be that came at `mono_us`, by the newest frame.
    fn expected(&self, mono_us: i64) -> Option<i64> {
        let (at_us, dts) = self.frame?;
        let ticks = i128::from(dts) * 100 + i128::from(mono_us - at_us) * 9;
        i64::try_from(ticks * i128::from(self.track.audio().rate) / 9_000_000).ok()
    }

    /// RTP times say how packets follow each other; where the first is, and where they drift to, is said by their arrival.
    fn place(&mut self, heard: &Heard, expected: i64) -> i64 {
        let rate = i64::from(self.track.audio().rate);
        let time = self.anchor.map_or(expected, |(rtp, time)| {
            time.saturating_add(heard.rtp.saturating_sub(rtp))
        });
        let apart = (time - expected).saturating_abs();
        let since = *self.apart_since.get_or_insert(heard.mono_us);
        if apart <= rate / APART {
            self.apart_since = None;
        } else if apart > rate * FAR || heard.mono_us - since > PATIENCE_US {
            (self.anchor, self.apart_since) = (None, None);
        }
        let (rtp, time) = *self.anchor.get_or_insert((heard.rtp, expected));
        time.saturating_add(heard.rtp.saturating_sub(rtp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segment::{Audio, AudioCodec};

    const RATE: i64 = 8000;
    /// Packets of 20 ms.
    const STEP: i64 = 160;

    fn sound() -> Sound {
        let audio = Audio {
            codec: AudioCodec::Pcmu,
            rate: RATE as u32,
            channels: 1,
        };
        Sound::new(AudioTrack::g711(audio).unwrap())
    }

    fn heard(rtp: i64, mono_us: i64) -> Heard {
        Heard {
            data: vec![1; STEP as usize].into(),
            rtp,
            duration: STEP as u32,
            mono_us,
        }
    }

    /// Where frames are at a moment, 25 a second, 1/90000 s.
    fn dts(mono_us: i64) -> i64 {
        900_000_000 + mono_us * 9 / 100
    }

    /// Packets from `from_ms` on for `ms`, the first at `rtp`, each `stretch` times 20 ms after the one before; and frames.
    fn play(sound: &mut Sound, from_ms: i64, ms: i64, rtp: i64, stretch: f64) -> Vec<Packet> {
        let (mut all, mut next_frame_us) = (Vec::new(), from_ms * 1000);
        for n in 0.. {
            let at_us = from_ms * 1000 + (f64::from(n) * 20_000.0 * stretch) as i64;
            if at_us >= (from_ms + ms) * 1000 {
                return all;
            }
            sound.packet(heard(rtp + i64::from(n) * STEP, at_us));
            while next_frame_us <= at_us {
                all.extend(sound.frame(next_frame_us, dts(next_frame_us)));
                next_frame_us += 40_000;
            }
        }
        all
    }

    #[test]
    fn packets_follow_each_other_beside_the_frames() {
        let mut sound = sound();
        sound.packet(heard(0, 0));
        assert!(sound.frame(0, dts(0)).is_empty(), "no frame came before it");
        let all = play(&mut sound, 20, 2000, 777_777, 1.0);
        assert!(all.len() >= 98, "{}", all.len());
        assert!(all.windows(2).all(|w| w[1].time == w[0].time + STEP as u64));
        let first = all[0].time as i64 * 90_000 / RATE;
        assert!((first - dts(20_000)).abs() < 900, "{first}");
    }

    #[test]
    fn what_was_lost_is_a_hole_and_a_repeated_packet_is_left_out() {
        let mut sound = sound();
        sound.frame(0, dts(0));
        for (rtp, at) in [(0, 0), (STEP, 20_000), (STEP, 21_000), (5 * STEP, 100_000)] {
            sound.packet(heard(rtp, at));
        }
        let times: Vec<i64> = sound
            .frame(100_000, dts(100_000))
            .iter()
            .map(|p| p.time as i64)
            .collect();
        let from = times[0];
        assert_eq!(
            times.iter().map(|t| (t - from) / STEP).collect::<Vec<_>>(),
            [0, 1, 5]
        );
    }

    #[test]
    fn a_clock_that_drifts_is_followed_and_never_plays_over_itself() {
        for stretch in [0.95, 1.05] {
            let mut sound = sound();
            sound.frame(0, dts(0));
            let all = play(&mut sound, 20, 60_000, 0, stretch);
            assert!(
                all.windows(2)
                    .all(|w| w[1].time >= w[0].time + u64::from(w[0].duration))
            );
            let last = all.last().unwrap().time as i64 * 90_000 / RATE;
            let apart = (last - dts(60_000_000)).abs();
            assert!(apart < 90_000, "{stretch}: {apart}");
        }
    }

    #[test]
    fn another_time_line_of_the_sound_begins_at_its_arrival() {
        let mut sound = sound();
        sound.frame(0, dts(0));
        play(&mut sound, 20, 400, 0, 1.0);
        let all = play(&mut sound, 420, 400, 1 << 40, 1.0);
        let first = all[0].time as i64 * 90_000 / RATE;
        assert!((first - dts(420_000)).abs() < 9000, "{first}");
    }

    #[test]
    fn what_waits_for_a_frame_that_never_comes_is_bounded() {
        let mut sound = sound();
        sound.frame(0, dts(0));
        for n in 0..100_000 {
            sound.packet(heard(n * STEP, n * 20_000));
            assert!(sound.waiting.len() <= MAX_WAITING.0 && sound.bytes <= MAX_WAITING.1);
        }
    }
}
