//! The process `recorder`: streams in, segments out, playback.

use clap::Parser;
use recorder::recorder::app::{Options, prepare, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    prepare();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run(options));
    // A read of a hung disk must not keep the process from ending.
    runtime.shutdown_background();
    outcome
}
