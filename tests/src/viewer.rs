//! A viewer for tests: follows a live view over HTTP, connects again by itself, and counts every frame by its number.
//!
//! It does what a player does, and nothing that only a test could: one unchanged URL, a short pause after an answer that
//! ends, and no knowledge of members.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use crate::oracle::{self, Account, Span};
use crate::wait::until;

/// The pauses before it connects again: the first, and the longest.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// How long it waits for an answer to begin.
const CONNECT: Duration = Duration::from_secs(1);
/// How long no byte may come: then whoever answered is gone, whatever the connection says.
const SILENCE: Duration = Duration::from_millis(700);
/// Silence is counted in naps of this length: one in which this process stood still for longer is a nap all the same.
const NAP: Duration = Duration::from_millis(50);
/// The most that may wait for the end of its box, bytes.
const MOST: usize = 64 << 20;

/// What a viewer saw so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every frame, over all connections.
    pub account: Account,
    /// Answers that began.
    pub connections: u64,
    /// Fragments in which the first frame's media time was before that of the newest frame of the connection.
    pub steps_back: u64,
    /// The longest time without a frame.
    pub longest_silence: Duration,
    /// What ended the newest answer, or kept it from beginning.
    pub last_end: String,
    frame_at: Option<Instant>,
}

impl Seen {
    /// Frames that it missed between the first and the last that it saw.
    pub fn missed(&self) -> u64 {
        self.missed_since(0)
    }

    /// Those of them from this number on.
    pub fn missed_since(&self, first: u64) -> u64 {
        let since = Span {
            first,
            last: u64::MAX,
        };
        let missing = self.account.missing();
        let missing = missing.iter().filter_map(|span| span.intersect(&since));
        missing.map(|span| span.frames()).sum()
    }

    /// The most frames in a row that it missed.
    pub fn longest_hole(&self) -> u64 {
        self.account.missing().iter().map(Span::frames).max().unwrap_or(0)
    }

    fn frames(&mut self, found: &oracle::Frames) {
        if found.stamps.is_empty() {
            return;
        }
        let now = Instant::now();
        if let Some(before) = self.frame_at.replace(now) {
            self.longest_silence = self.longest_silence.max(now - before);
        }
        found.account(&mut self.account);
    }
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Viewer {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Viewer {
    /// Begins to watch a URL, with the token that it needs.
    pub fn start(url: Url, token: &str) -> Result<Self> {
        Self::with(Some(SILENCE), url, token)
    }

    /// As [`Viewer::start`], where whoever answers lives: a silence of any length is waited out.
    pub fn start_patient(url: Url, token: &str) -> Result<Self> {
        Self::with(None, url, token)
    }

    fn with(patience: Option<Duration>, url: Url, token: &str) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            // Each connection is led anew, as by another player.
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let source = Source {
            client,
            url,
            token: token.to_owned(),
            patience,
        };
        let task = tokio::spawn(follow(source, Arc::clone(&seen)));
        Ok(Self { seen, task })
    }

    /// What it saw so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Waits until it saw this frame, or a later one.
    pub async fn saw(&self, counter: u64, limit: Duration) -> Result<Seen> {
        until(&format!("a viewer sees frame {counter}"), limit, async || {
            let seen = self.seen();
            let last = seen.account.last();
            ensure!(last >= Some(counter), "the newest is {last:?}; {}", seen.last_end);
            Ok(Some(seen))
        })
        .await
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where it watches, and for how long it bears silence.
struct Source {
    client: reqwest::Client,
    url: Url,
    token: String,
    patience: Option<Duration>,
}

async fn follow(source: Source, seen: Arc<Mutex<Seen>>) {
    let mut pause = BACKOFF[0];
    loop {
        let before = lock(&seen).account.frames();
        let ended = connection(&source, &seen).await;
        let shown = {
            let mut seen = lock(&seen);
            seen.last_end =
                ended.map_or_else(|error| format!("{error:#}"), |()| "the answer ended".to_owned());
            seen.account.frames() > before
        };
        pause = if shown {
            BACKOFF[0]
        } else {
            (pause * 2).min(BACKOFF[1])
        };
        tokio::time::sleep(pause).await;
    }
}

/// What comes of waiting; fails where nothing does for as long as is borne. Only silence that this process could have heard counts:
/// what came while it stood still is there when it goes on.
async fn heard<T>(patience: Option<Duration>, waiting: impl Future<Output = T>) -> Result<T> {
    let Some(patience) = patience else {
        return Ok(waiting.await);
    };
    let mut waiting = pin!(waiting);
    for _ in 0..patience.div_duration_f32(NAP).ceil() as u32 {
        if let Ok(came) = timeout(NAP, &mut waiting).await {
            return Ok(came);
        }
    }
    bail!("silence for {patience:?}")
}

/// One answer, to its end.
async fn connection(source: &Source, seen: &Mutex<Seen>) -> Result<()> {
    let asked = source.client.get(source.url.clone()).bearer_auth(&source.token);
    let mut answer = heard(source.patience, asked.send()).await??;
    ensure!(
        answer.status().is_success(),
        "{}: {}",
        answer.status(),
        answer.text().await?
    );
    lock(seen).connections += 1;
    let (mut waiting, mut newest) = (Vec::new(), 0);
    while let Some(bytes) = heard(source.patience, answer.chunk()).await?? {
        waiting.extend_from_slice(&bytes);
        ensure!(waiting.len() <= MOST, "a box without an end");
        let found = oracle::frames(&waiting).context("a fragment that cannot be read")?;
        let whole = waiting.len() - found.torn;
        let times = oracle::times(&waiting[..whole])?;
        waiting.drain(..whole);
        let mut seen = lock(seen);
        for time in times {
            seen.steps_back += u64::from(time < newest);
            newest = newest.max(time);
        }
        seen.frames(&found);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn silence_is_what_could_have_been_heard() {
        let bears = Some(4 * NAP);
        assert!(heard(bears, pending::<()>()).await.is_err());
        // This process stands still for longer than that, and what came meanwhile has to be read yet.
        let (tell, told) = tokio::sync::oneshot::channel();
        tokio::spawn(async {
            std::thread::sleep(8 * NAP);
            tokio::task::yield_now().await;
            tell.send(7)
        });
        assert_eq!(heard(bears, told).await.unwrap(), Ok(7));
        assert_eq!(heard(None, ready(1)).await.unwrap(), 1);
    }

    #[test]
    fn what_was_missed_before_is_not_counted() {
        let seen = Seen {
            account: Account::of([1, 2, 5, 6, 9]),
            ..Seen::default()
        };
        assert_eq!([0, 4, 8, 9].map(|first| seen.missed_since(first)), [4, 3, 1, 0]);
        assert_eq!(seen.missed(), 4);
    }
}
