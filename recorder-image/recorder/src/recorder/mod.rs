//! The recorder: streams in, segments out, playback.

pub mod decide;
pub mod frame;
pub mod ring;
