//! One access unit on its way from the camera to the disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use segment::{AudioTrack, ClockSource, Packet};

/// A span of media with one continuous time line and one set of codec parameters. A new one begins on reconnect,
/// on another SSRC, on a jump of the camera's time, and with new parameter sets.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// Random, unique per run.
    pub id: uuid::Uuid,
    /// The sample entry box (`avc1` or `hvc1`) with the parameter sets.
    pub sample_entry: Bytes,
    /// Displayed width, pixels.
    pub width: u16,
    /// Displayed height, pixels.
    pub height: u16,
    /// Whether the video is H.265 (else H.264).
    pub hevc: bool,
    /// Where its wall clock comes from.
    pub clock: ClockSource,
    /// The sound beside the video.
    pub audio: Option<AudioTrack>,
}

/// One access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// NAL units, each after its 4-byte big-endian length, byte for byte as the camera sent them.
    pub data: Bytes,
    /// Whether it starts a group of pictures (IDR, or any random access picture of H.265).
    pub key: bool,
    /// First 16 bytes of BLAKE3 over the slice NAL units.
    pub hash: [u8; 16],
    /// Decoding time in its run, 1/90000 s, offset to the Unix epoch at the run's start.
    pub dts: i64,
    /// Presentation time minus decoding time, 1/90000 s; other than 0 only with B-frames.
    pub cts: i32,
    /// Wall clock of the presentation, microseconds since the Unix epoch.
    pub wallclock_us: i64,
    /// When its last packet was received, on `CLOCK_BOOTTIME`.
    pub received: Duration,
    /// Whether it is known that no frame was lost between the one before it in its run and it.
    pub follows: bool,
    /// The sound that came since the frame before. It goes wherever the frame goes.
    pub audio: Vec<Packet>,
    /// The run it belongs to.
    pub run: Arc<Run>,
}

impl Frame {
    /// What it costs to hold this frame, bytes.
    pub fn cost(&self) -> usize {
        let packet = |p: &Packet| p.data.len() + std::mem::size_of::<Packet>();
        let sound: usize = self.audio.iter().map(packet).sum();
        self.data.len() + sound + std::mem::size_of::<Self>() + 64
    }
}
