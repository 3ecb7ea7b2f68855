//! Waiting for a condition: polled, with a deadline, and an error that says what did not come.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(100);

/// Polls until the condition yields a value. Errors on the way are not fatal: the last one is told if time runs out.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    let mut reason = String::from("it did not come true");
    loop {
        match condition().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => reason = format!("{error:#}"),
        }
        if Instant::now() >= end {
            bail!("{what}: not within {:.0} s: {reason}", limit.as_secs_f64());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Unix time in milliseconds.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
