//! The command line. Every flag is also an environment variable.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

/// The Gapless operator.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator until it is told to stop.
    Run(Run),
}

/// How to run.
#[derive(Debug, Clone, clap::Args)]
pub struct Run {
    /// The image of members whose RecorderPair names none.
    #[arg(long, env = "GAPLESS_MEMBER_IMAGE")]
    pub member_image: Option<String>,
    /// The only namespace to watch; all where it is not given.
    #[arg(long, env = "GAPLESS_NAMESPACE")]
    pub namespace: Option<String>,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "GAPLESS_METRICS_ADDR", default_value = "0.0.0.0:8080")]
    pub metrics_addr: SocketAddr,
    /// How many pairs are reconciled at once.
    #[arg(long, env = "GAPLESS_CONCURRENCY", default_value_t = 8)]
    pub concurrency: u16,
    /// Logs as JSON instead of text.
    #[arg(long, env = "GAPLESS_LOG_JSON")]
    pub log_json: bool,
}
