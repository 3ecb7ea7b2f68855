//! A machine that has no time: a process that never waits on each of its cores.

use std::process::{Child, Command, Stdio};
use std::thread::available_parallelism;

use anyhow::{Context, Result};

/// The processes; they end with this value.
#[derive(Debug)]
pub struct Load(Vec<Child>);

impl Load {
    /// Begins to waste the time of every core.
    pub fn start() -> Result<Self> {
        let mut load = Self(Vec::new());
        for _ in 0..available_parallelism()?.get() {
            let mut busy = Command::new("sh");
            // It ends with the pipe, so also when this process is killed.
            busy.args(["-c", "(while :; do :; done) & read -r _; kill $!"])
                .stdin(Stdio::piped());
            load.0.push(busy.spawn().context("no load")?);
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}
