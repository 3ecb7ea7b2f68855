//! Tests of the promises of Gapless: cameras whose frames are numbered, an oracle that counts them in any
//! recording, two members as plain processes, and a real cluster to break.
//!
//! The oracle reads only what a user can read and shares no code with the recorder.

use std::path::PathBuf;

pub mod api;
pub mod bench;
pub mod browser;
pub mod cameras;
pub mod cluster;
pub mod faulty;
pub mod judge;
pub mod members;
pub mod net;
pub mod oracle;
pub mod report;
pub mod trial;
pub mod viewer;
pub mod volume;
pub mod wait;

/// The folder of these tests in the source tree that is under test. Cargo says at run time: programs of two clones that share
/// one build folder would else look for the files of whichever was compiled last.
pub fn tests_folder() -> PathBuf {
    let here = || env!("CARGO_MANIFEST_DIR").into();
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(here, PathBuf::from)
}
