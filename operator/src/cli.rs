//! The command line. Every flag is also an environment variable.

use std::net::SocketAddr;

use clap::{ArgAction, Parser, Subcommand};

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
    /// Whether only one replica works at a time, the one that a Lease names. `false` to run it by hand.
    #[arg(long, env = "GAPLESS_LEADER_ELECTION", default_value_t = true, action = ArgAction::Set)]
    pub leader_election: bool,
    /// The Lease that says who leads, in the operator's own namespace.
    #[arg(long, env = "GAPLESS_LEADER_LEASE", default_value = "gapless-operator")]
    pub leader_lease: String,
    /// The name of this replica.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// The operator's own namespace; that of its account where it is not given.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: Option<String>,
    /// Logs as JSON instead of text.
    #[arg(long, env = "GAPLESS_LOG_JSON")]
    pub log_json: bool,
}
