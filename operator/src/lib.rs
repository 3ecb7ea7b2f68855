//! The Gapless operator: observe, validate, build, apply, report.

pub mod build;
pub mod mint;
pub mod pki;
pub mod problem;
pub mod world;
