//! The Gapless operator: observe, validate, build, apply, report.

pub mod apply;
pub mod build;
pub mod mint;
pub mod observe;
pub mod pki;
pub mod problem;
pub mod report;
pub mod validate;
pub mod world;
