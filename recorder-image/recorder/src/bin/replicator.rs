//! The process `replicator`: the sidecar that keeps the peer's copy, and this member's authority.

use clap::Parser;
use recorder::recorder::app::prepare;
use recorder::replicator::app::{Options, run};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    prepare();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run(options));
    runtime.shutdown_background();
    outcome
}
