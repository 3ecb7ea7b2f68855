//! Chromium plays a recording with hls.js, and shows a live view.

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
    /// How often this machine decoded late, with media at hand.
    pub slow: u32,
    /// What hls.js complained about besides.
    pub errors: Vec<serde_json::Value>,
}

/// What the page of a live view showed.
#[derive(Clone, Debug, Deserialize)]
pub struct Watched {
    /// What it said of itself last.
    pub state: String,
    /// Media time of the picture at the beginning, seconds.
    pub from_s: f64,
    /// The same at the end.
    pub to_s: f64,
    /// How far the picture was behind the newest frame at the end, seconds.
    pub behind_s: f64,
    /// Pictures that were decoded.
    pub frames: u64,
    /// Answers that began.
    pub connections: u64,
    /// What the browser complained about.
    pub errors: Vec<String>,
}

/// Plays a playlist to its end, and leaves a picture of the last frame in `screenshot`. `make browser` has installed the player.
pub async fn play(playlist: &Url, screenshot: &Path) -> Result<Shown> {
    let screenshot = screenshot.to_string_lossy();
    run("play.mjs", &[playlist.as_str(), screenshot.as_ref()]).await
}

/// Opens the page of a live view, and watches for so long from the first picture on.
pub async fn watch(page: &Url, duration: Duration) -> Result<Watched> {
    let ms = duration.as_millis().to_string();
    run("watch.mjs", &[page.as_str(), &ms]).await
}

async fn run<T: serde::de::DeserializeOwned>(script: &str, args: &[&str]) -> Result<T> {
    let mut command = Command::new("node");
    command
        .arg(script)
        .args(args)
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
