//! The recorder: streams in, segments out, playback.

pub mod decide;
pub mod frame;
pub mod nal;
pub mod ring;
pub mod session;
pub mod stream;
