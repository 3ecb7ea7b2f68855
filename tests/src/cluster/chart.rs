//! Installs the charts with the real Helm.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::faults::cache;

/// Where the operator lives.
pub const SYSTEM: &str = "gapless-system";
/// Its Deployment.
pub const OPERATOR: &str = "gapless";
/// How many of them run.
pub const OPERATORS: u32 = 2;
/// The Lease that says which one leads.
pub const OPERATOR_LEASE: &str = "gapless-operator";

/// The operator's image, as it is called on the nodes.
pub const OPERATOR_IMAGE: &str = "localhost/gapless-operator";
/// The recorder's.
pub const RECORDER_IMAGE: &str = "localhost/gapless-recorder";
/// Their tag.
pub const TAG: &str = "dev";
/// The tag of the next release, which is the same: [`Scene::tag_next`](super::Scene::tag_next).
pub const NEXT: &str = "next";

/// Where a chart is in the source tree.
pub fn chart_folder(chart: &str) -> String {
    let folder = crate::tests_folder().join("../charts").join(chart);
    folder.display().to_string()
}

/// Installs or upgrades both charts, with the images that `make images` loaded.
pub async fn install(kubeconfig: &Path) -> Result<()> {
    install_tagged(kubeconfig, TAG).await
}

/// As [`install`], with images of another tag.
pub async fn install_tagged(kubeconfig: &Path, tag: &str) -> Result<()> {
    let values = [
        format!("--set-string=podAnnotations.gapless-e2e/build={}", build()),
        format!("--set=image.repository={OPERATOR_IMAGE}"),
        format!("--set=image.tag={tag}"),
        "--set=image.pullPolicy=Never".to_owned(),
        format!("--set=recorder.image.repository={RECORDER_IMAGE}"),
        format!("--set=recorder.image.tag={tag}"),
    ];
    give_up_what_was_cut_short(kubeconfig).await?;
    for (name, values) in [("gapless-crds", &[][..]), ("gapless", &values)] {
        let chart = chart_folder(name);
        let mut args = vec!["upgrade", "--install", name, &chart];
        args.extend(["--create-namespace", "--wait", "--timeout=120s"]);
        args.extend(values.iter().map(String::as_str));
        helm(kubeconfig, &args).await?;
    }
    Ok(())
}

/// A Helm that was killed leaves its release pending, and every later one refuses to touch it.
async fn give_up_what_was_cut_short(kubeconfig: &Path) -> Result<()> {
    for release in helm(kubeconfig, &["list", "--pending", "--short"]).await?.lines() {
        helm(kubeconfig, &["uninstall", release, "--wait"]).await?;
    }
    Ok(())
}

/// What `hack/images` made the operator's image of. The tag stays the same, so pods of an older build are told by this.
fn build() -> String {
    let key = std::fs::read_to_string(cache().join("images/gapless-operator.key")).unwrap_or_default();
    key.chars().take_while(char::is_ascii_hexdigit).take(16).collect()
}

/// Runs Helm in the operator's namespace and returns what it prints.
pub async fn helm(kubeconfig: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(cache().join("bin/helm"));
    command
        .args(args)
        .args(["--namespace", SYSTEM])
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.context("cannot run helm")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "helm: {}", said.trim());
    Ok(String::from_utf8(output.stdout)?)
}
