//! Keeps one stream's session alive: each attempt is a task of its own, so that a panic ends only the attempt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::classify::{Fault, Secrets, explain};
use super::rtsp;
use super::source::Source;
use crate::recorder::stream::Stream;

/// A task that is ended when this is dropped.
#[derive(Debug)]
pub struct Supervised(tokio::task::JoinHandle<()>);

impl Supervised {
    /// Ends the session.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts receiving `stream` from `source`, until the result is dropped.
pub fn supervise(stream: Arc<Stream>, source: Result<Source, Fault>) -> Supervised {
    Supervised(tokio::spawn(async move {
        match source {
            Ok(source) => attempts(stream, source).await,
            Err(fault) => stream
                .lock()
                .failed(explain(&stream.name, "URL", &fault, &Secrets::default())),
        }
    }))
}

async fn attempts(stream: Arc<Stream>, source: Source) {
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let fault = attempt(&stream, &source).await;
        let lasted = ended(&stream, &source, &fault, began);
        let wait = backoff.ended(lasted, fault == Fault::Panicked, rand::random());
        tokio::time::sleep(wait).await;
    }
}

/// One session in a task of its own.
async fn attempt(stream: &Arc<Stream>, source: &Source) -> Fault {
    let (stream, source) = (Arc::clone(stream), source.clone());
    let mut task = tokio::spawn(async move { rtsp::receive(&stream, &source).await });
    let _guard = AbortOnDrop(task.abort_handle());
    (&mut task).await.unwrap_or(Fault::Panicked)
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes down what ended the session. Returns for how long it delivered frames.
fn ended(stream: &Stream, source: &Source, fault: &Fault, began: Instant) -> Duration {
    let error = explain(&stream.name, &source.address, fault, &source.secrets);
    tracing::warn!(stream = %stream.name, code = ?error.code, "{}", error.message);
    stream.counters.session_error(&stream.name, error.code);
    let now = Duration::from_nanos(crate::clock::boottime_ns());
    let mut inner = stream.lock();
    inner.ring.close_gop();
    inner.begin_gap(fault.cause(), &error.message);
    inner.failed(error);
    let silent = inner
        .last_frame()
        .map_or(Duration::MAX, |at| now.saturating_sub(at));
    began.elapsed().saturating_sub(silent)
}
