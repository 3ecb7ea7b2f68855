//! The recorder: streams in, segments out, playback.

pub mod app;
pub mod config;
pub mod decide;
pub mod demand;
pub mod frame;
pub mod gap_account;
pub mod http;
pub mod ledgers;
pub mod link;
pub mod merged;
pub mod metrics;
pub mod need;
pub mod pair;
pub mod readiness;
pub mod reclaim;
pub mod registry;
pub mod ring;
pub mod session;
pub mod state;
pub mod stream;
pub mod writer;
