//! The recorder (streams in, segments out, playback) and the replicator, the sidecar that keeps the peer's copy.

pub mod accept;
pub mod clock;
pub mod descriptors;
pub mod disk;
pub mod early;
#[cfg(test)]
mod fixtures;
mod listen;
pub mod local;
pub mod recorder;
pub mod replicator;
pub mod trial;
pub mod wire;
