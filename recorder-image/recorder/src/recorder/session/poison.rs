//! Streams that are poison to the task that receives them, so that it can be shown that no other stream is hurt.

use std::path::Path;

use crate::trial;

/// In a debug build: the task of a stream panics at its next frame from now on while the file `test-poison` on the volume names it.
pub fn obey(media: &Path) {
    trial::follow(media, "test-poison", poisonous::set);
}

/// A frame of a stream is taken in.
///
/// # Panics
/// If a test said so.
pub fn taste(stream: &str) {
    assert!(!poisonous::is(stream), "a test poisoned stream {stream}");
}

#[cfg(debug_assertions)]
mod poisonous {
    use std::sync::{PoisonError, RwLock};

    static STREAMS: RwLock<Vec<String>> = RwLock::new(Vec::new());

    pub(super) fn set(streams: &str) {
        *STREAMS.write().unwrap_or_else(PoisonError::into_inner) =
            streams.split_whitespace().map(str::to_owned).collect();
    }

    pub(super) fn is(stream: &str) -> bool {
        let streams = STREAMS.read().unwrap_or_else(PoisonError::into_inner);
        streams.iter().any(|name| name == stream)
    }
}

#[cfg(not(debug_assertions))]
mod poisonous {
    pub(super) fn set(_streams: &str) {}

    pub(super) const fn is(_stream: &str) -> bool {
        false
    }
}
