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
