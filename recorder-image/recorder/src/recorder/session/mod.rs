//! One isolated task per stream: RTSP session, access units, gaps.

pub mod backoff;
pub mod cadence;
pub mod classify;
pub mod clock;
pub mod doubts;
pub mod intake;
pub mod poison;
pub mod rtsp;
pub mod runtime;
pub mod sound;
pub mod source;
pub mod supervise;

/// What is asked of a stream's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing, before it is known what.
    Unknown,
    /// Frames, come what may.
    Always,
    /// Frames, by a member that may have to wait until another one lets go of the camera.
    Needed,
    /// A session that does not play.
    Session,
    /// Nothing.
    Nothing,
}

impl Demand {
    /// Whether frames are asked for.
    pub fn wants_frames(self) -> bool {
        matches!(self, Self::Always | Self::Needed)
    }

    /// Whether the stream is idle.
    pub fn rests(self) -> bool {
        matches!(self, Self::Session | Self::Nothing)
    }
}
