//! Counts the numbered frames of recordings: MP4 files, or HLS playlists (files or URLs ending in `.m3u8`).

use std::path::Path;

use anyhow::{Context, Result};
use clap::Parser;
use e2e::oracle::{Account, Source, canonical, frames};
use url::Url;

/// Says which frames of a recording of the simulated cameras are missing, doubled or out of order.
#[derive(Parser)]
struct Args {
    /// MP4 files, HLS playlists, or URLs of playlists.
    #[arg(required = true)]
    recordings: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    for recording in Args::parse().recordings {
        println!("{recording}: {}", count(&recording).await?);
    }
    Ok(())
}

async fn count(recording: &str) -> Result<Account> {
    let url = match Url::parse(recording) {
        Ok(url) => url,
        Err(_) => Url::from_file_path(Path::new(recording).canonicalize()?)
            .ok()
            .context("not a path")?,
    };
    if Path::new(url.path())
        .extension()
        .is_some_and(|kind| kind == "m3u8")
    {
        return Ok(canonical(&Source::new(), &url).await?.1);
    }
    let mut account = Account::default();
    frames(&Source::new().get(&url, None).await?)?.account(&mut account);
    Ok(account)
}
