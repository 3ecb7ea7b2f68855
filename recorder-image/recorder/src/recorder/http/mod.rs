//! The HTTP API for viewers, and the probes and metrics for the cluster.

pub mod auth;
pub mod bytes;
pub mod error;
pub mod query;
