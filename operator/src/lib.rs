//! The Gapless operator: observe, validate, build, apply, report.

pub mod apply;
pub mod backoff;
pub mod build;
pub mod cli;
mod coarse;
pub mod controller;
mod coverage;
#[cfg(test)]
mod fixtures;
pub mod health;
mod lag;
pub mod leader;
pub mod metrics;
pub mod mint;
pub mod observe;
pub mod observer;
pub mod pki;
pub mod problem;
pub mod report;
pub mod run;
pub mod synced;
pub mod validate;
pub mod watches;
pub mod world;
