//! Installs the charts with the real Helm.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::faults::cache;

/// Where the operator lives.
pub const SYSTEM: &str = "gapless-system";

/// Installs or upgrades both charts, with the images that `make images` loaded.
pub async fn install(kubeconfig: &Path) -> Result<()> {
    let charts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts");
    helm(
        kubeconfig,
        &["upgrade", "--install", "gapless-crds"],
        &charts.join("gapless-crds"),
        &[],
    )
    .await?;
    helm(
        kubeconfig,
        &["upgrade", "--install", "gapless"],
        &charts.join("gapless"),
        IMAGES,
    )
    .await
}

/// The images as they are called on the nodes.
const IMAGES: &[&str] = &[
    "--set=image.repository=localhost/gapless-operator",
    "--set=image.tag=dev",
    "--set=image.pullPolicy=Never",
    "--set=recorder.image.repository=localhost/gapless-recorder",
    "--set=recorder.image.tag=dev",
];

async fn helm(kubeconfig: &Path, verb: &[&str], chart: &Path, values: &[&str]) -> Result<()> {
    let mut command = Command::new(cache().join("bin/helm"));
    command.args(verb).arg(chart).args([
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--wait",
        "--timeout=120s",
    ]);
    command
        .args(values)
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.context("cannot run helm")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "helm: {}", said.trim());
    Ok(())
}
