//! Keeps one stream's session alive while frames are asked for: each attempt is a task of its own, so that a panic ends only
//! the attempt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Demand;
use super::backoff::{Backoff, quick};
use super::classify::{Fault, Secrets, explain};
use super::rtsp::{self, Prepared};
use super::source::Source;
use crate::recorder::stream::Stream;

/// For so long another member is given to let go of the camera, or the camera to notice that it is gone: the usual timeout of
/// a session is a minute (RFC 2326, 12.37).
const LETS_GO: Duration = Duration::from_secs(70);
/// A session that does not play is made anew after so long, because nothing keeps it alive and some cameras end it after 30 s.
const HELD: Duration = Duration::from_secs(20);
/// How long to wait for another attempt to have one.
const REFUSED: Duration = Duration::from_secs(5);

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
    let (mut demand, mut answers) = (stream.demand.subscribe(), stream.answers.subscribe());
    let (mut backoff, mut prepared, mut needed) = (Backoff::default(), None, None);
    loop {
        let asked = *demand.borrow_and_update();
        if asked.rests() {
            prepared = rest(&stream, &source, &mut demand).await;
            needed = None;
            continue;
        }
        if !asked.wants_frames() {
            until(&mut demand, |now| now != asked).await;
            continue;
        }
        let began = Instant::now();
        answers.mark_unchanged();
        let since = (asked == Demand::Needed).then(|| *needed.get_or_insert(began));
        let mut attempt = receive(&stream, &source, prepared.take());
        let fault = tokio::select! {
            fault = attempt.outcome() => fault.unwrap_or(Fault::Panicked),
            () = until(&mut demand, |now| !now.wants_frames()) => {
                attempt.end().await;
                continue;
            }
        };
        let lasted = ended(&stream, &source, &fault, began);
        let mut wait = backoff.ended(lasted, fault == Fault::Panicked, rand::random());
        if fault != Fault::Panicked && since.is_some_and(|since| since.elapsed() < LETS_GO) {
            wait = wait.min(quick(rand::random()));
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = until(&mut demand, |now| !now.wants_frames()) => {}
            // Also if it was told during the attempt. The stream has the other end.
            _ = answers.changed(), if backoff.heeds_hint() => backoff.heed_hint(),
        }
    }
}

/// Waits for another demand.
async fn until(demand: &mut watch::Receiver<Demand>, is: impl Fn(Demand) -> bool) {
    // The stream has the other end, and this task has the stream.
    let _ = demand.wait_for(|now| is(*now)).await;
}

/// The stream is idle until frames are asked for. Returns a session that only has to play, where one was asked for.
async fn rest(
    stream: &Arc<Stream>,
    source: &Source,
    demand: &mut watch::Receiver<Demand>,
) -> Option<Prepared> {
    stream.lock().rest(crate::clock::wall_us());
    let mut held = None;
    loop {
        let asked = *demand.borrow_and_update();
        if !asked.rests() {
            stream.lock().wake();
            return held;
        }
        // A camera may have no session beside it.
        drop(held.take());
        let wait = if asked == Demand::Session {
            held = hold(stream, source, demand).await;
            if held.is_some() { HELD } else { REFUSED }
        } else {
            Duration::MAX
        };
        let _ = tokio::time::timeout(wait, until(demand, |now| now != asked)).await;
    }
}

/// Sets a session up while no other demand comes.
async fn hold(
    stream: &Arc<Stream>,
    source: &Source,
    demand: &mut watch::Receiver<Demand>,
) -> Option<Prepared> {
    let mut preparing = prepare(stream, source);
    let prepared = tokio::select! {
        prepared = preparing.outcome() => prepared?,
        () = until(demand, |now| now != Demand::Session) => return None,
    };
    if let Err(fault) = &prepared {
        // It is no fault of the stream: the camera may have one session only.
        let why = explain(&stream.name, &source.address, fault, &source.secrets);
        tracing::info!(stream = %stream.name, "no session is held: {}", why.message);
    }
    prepared.ok()
}

/// One session.
fn receive(stream: &Arc<Stream>, source: &Source, prepared: Option<Prepared>) -> Task<Fault> {
    let (stream, source) = (Arc::clone(stream), source.clone());
    Task(tokio::spawn(async move {
        rtsp::receive(&stream, &source, prepared).await
    }))
}

fn prepare(stream: &Arc<Stream>, source: &Source) -> Task<Result<Prepared, Fault>> {
    let (stream, source) = (Arc::clone(stream), source.clone());
    Task(tokio::spawn(async move { rtsp::prepare(&stream, &source).await }))
}

/// Work on a session in a task of its own, which ends with this value.
struct Task<T>(tokio::task::JoinHandle<T>);

impl<T> Task<T> {
    /// What came of it; `None` if it panicked.
    async fn outcome(&mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }

    /// Returns when it does nothing any more.
    async fn end(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl<T> Drop for Task<T> {
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
    inner.session_ended(fault.cause(), error);
    let silent = inner
        .last_frame()
        .map_or(Duration::MAX, |at| now.saturating_sub(at));
    began.elapsed().saturating_sub(silent)
}

#[cfg(test)]
mod tests;
