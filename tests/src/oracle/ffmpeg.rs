//! The same question asked of an outside judge: ffmpeg plays, and the stamps are counted in what comes out.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::{Account, Stamp};

/// Counts the frames that ffmpeg gets out of a file or URL, without decoding.
///
/// Gaps that a playlist marks cannot be fetched: ffmpeg skips them and complains, which is not an error here.
pub async fn play(input: &str) -> Result<Account> {
    let args = ["-hide_banner", "-loglevel", "error", "-nostdin", "-i", input];
    let output = Command::new("ffmpeg")
        .args(args)
        .args(["-map", "0:v:0", "-c", "copy", "-f", "h264", "pipe:1"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run ffmpeg")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ffmpeg: {}", said.trim());
    Ok(annex_b(&output.stdout))
}

/// Counts the stamps in an elementary stream.
pub fn annex_b(stream: &[u8]) -> Account {
    Account::of(Stamp::find_all(stream).into_iter().map(|stamp| stamp.counter))
}
