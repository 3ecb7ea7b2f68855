//! The one loop that does all work on the volume.

pub mod disk;
pub mod fragment;
