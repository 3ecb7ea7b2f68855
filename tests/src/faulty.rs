//! A folder behind a file system that fails on demand: `testbed faulty`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::cluster::cache;
use crate::wait::until;

/// What faults did to how many calls.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Counts {
    /// Calls that failed, by kind.
    pub failed: BTreeMap<String, u64>,
    /// Syncs that were late.
    pub stalled: u64,
    /// Written bytes that failed syncs lost.
    pub dropped_bytes: u64,
}

impl Counts {
    /// Calls of one kind that failed.
    pub fn failed(&self, kind: &str) -> u64 {
        self.failed.get(kind).copied().unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Changed {
    before: Counts,
}

/// A mount that fails on demand, until this value is dropped.
pub struct Faulty {
    at: PathBuf,
    mount: Child,
}

impl Faulty {
    /// Shows the folder `backing` at `at`. Needs root.
    pub async fn mount(backing: &Path, at: &Path) -> Result<Self> {
        let mount = Command::new(program()?)
            .args(["faulty", "mount", "--stdin", "--backing"])
            .arg(backing)
            .arg("--at")
            .arg(at)
            // It ends when the other end of this is closed, also by a kill of this process.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let mut faulty = Self {
            at: at.to_owned(),
            mount,
        };
        until(
            "the faulty volume is mounted",
            Duration::from_secs(10),
            async || {
                let ended = faulty.mount.try_wait()?;
                ensure!(ended.is_none(), "testbed faulty mount: {ended:?}");
                Ok(faulty.lift().await.ok())
            },
        )
        .await?;
        Ok(faulty)
    }

    /// Begins faults, in place of those before: flags of `testbed faulty set`. Returns what those before did.
    pub async fn set(&self, faults: &[&str]) -> Result<Counts> {
        let mut command = tokio::process::Command::new(program()?);
        command.args(["faulty", "set", "--at"]).arg(&self.at).args(faults);
        let output = command.stdin(Stdio::null()).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "testbed faulty set {faults:?}: {said}");
        Ok(serde_json::from_slice::<Changed>(&output.stdout)?.before)
    }

    /// It works again. Returns what the faults did.
    pub async fn lift(&self) -> Result<Counts> {
        self.set(&[]).await
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        drop(self.mount.stdin.take());
        if let Err(error) = self.mount.wait() {
            eprintln!("the faulty mount does not end: {error}");
        }
    }
}

fn program() -> Result<PathBuf> {
    let program = cache().join("bin/testbed");
    ensure!(
        program.exists(),
        "{} is not built: run 'make process'",
        program.display()
    );
    program.canonicalize().context("testbed")
}
