//! Plays a recording with hls.js in Chromium.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;
use url::Url;

/// Starting a browser on a busy machine, and playing at four times the speed.
const LIMIT: Duration = Duration::from_mins(3);

/// What the browser showed.
#[derive(Clone, Debug, Deserialize)]
pub struct Shown {
    /// Length of the recording, seconds.
    pub duration_s: f64,
    /// What could be played without a break: from and to, seconds.
    pub buffered: Vec<(f64, f64)>,
    /// Whether it was played to its end.
    pub ended: bool,
    /// What hls.js complained about.
    pub errors: Vec<serde_json::Value>,
}

/// Plays a playlist to its end, and leaves a picture of the last frame in `screenshot`. `make browser` has installed the player.
pub async fn play(playlist: &Url, screenshot: &Path) -> Result<Shown> {
    let mut command = Command::new("node");
    command
        .arg("play.mjs")
        .arg(playlist.as_str())
        .arg(screenshot)
        .current_dir(crate::tests_folder().join("browser"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .context("the browser does not end")??;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().last();
    ensure!(
        output.status.success(),
        "the browser: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_str(line.context("the browser says nothing")?)?)
}
