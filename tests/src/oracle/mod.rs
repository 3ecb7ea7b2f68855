//! Says for any recording exactly which frames are missing, doubled or out of order.
//!
//! The cameras of `tests/cameras` number every frame in an SEI message that survives recording and remuxing. The oracle
//! reads these numbers out of segments, playlists or what ffmpeg makes of them, and compares.

mod account;
mod ffmpeg;
mod hls;
mod mp4;
mod sound;
mod source;
mod stamp;
#[cfg(test)]
mod tests;

pub use account::{Account, Span, spans};
pub use ffmpeg::{annex_b, play};
pub use hls::{Entry, Playlist, canonical};
pub use mp4::{Frames, frames, times};
pub use sound::{Heard, Sound};
pub use source::Source;
pub use stamp::Stamp;
