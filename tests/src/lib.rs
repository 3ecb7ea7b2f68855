//! Tests of the promises of Gapless: cameras whose frames are numbered, an oracle that counts them in any
//! recording, two members as plain processes, and a real cluster to break.
//!
//! The oracle reads only what a user can read and shares no code with the recorder.

pub mod api;
pub mod browser;
pub mod cameras;
pub mod cluster;
pub mod judge;
pub mod members;
pub mod net;
pub mod oracle;
pub mod report;
pub mod volume;
pub mod wait;
