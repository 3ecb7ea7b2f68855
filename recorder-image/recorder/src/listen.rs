//! The connections of viewers and probes: how many, for how long one may say nothing, and what caches are told.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::map_response;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::{set_socket_send_buffer_size, set_tcp_user_timeout};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::accept::accept;

/// Bytes that the kernel keeps for one viewer, who would else be shown the past. The kernel doubles it.
const SEND_BUFFER: usize = 128 << 10;

/// How much the server takes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections that may ask for everything.
    pub(crate) connections: usize,
    /// Connections above those, for one request each; what comes above these is closed at once.
    pub(crate) spare: usize,
    /// How long a connection may be open without a whole request.
    pub(crate) idle: Duration,
    /// The same, for those above the limit.
    pub(crate) spare_idle: Duration,
    /// How long bytes may wait for the other side to take them.
    pub(crate) stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            spare: 64,
            idle: Duration::from_secs(30),
            spare_idle: Duration::from_secs(2),
            stall: Duration::from_secs(20),
        }
    }
}

/// Who answers.
#[derive(Clone, Debug)]
pub(crate) struct Routers {
    /// Within the limit.
    pub(crate) all: Router,
    /// Above it.
    pub(crate) crowded: Router,
}

/// Serves for ever. `who` is in words who connects.
pub(crate) async fn serve(listener: TcpListener, who: &str, routers: Routers, limits: Limits) {
    let (all, crowded) = (uncached(routers.all), uncached(routers.crowded));
    let places = Arc::new(Semaphore::new(limits.connections));
    let spare = Arc::new(Semaphore::new(limits.spare));
    loop {
        let (stream, _) = accept(who, || listener.accept()).await;
        let (place, router, idle, keep) = if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            (place, all.clone(), limits.idle, true)
        } else if let Ok(place) = Arc::clone(&spare).try_acquire_owned() {
            (place, crowded.clone(), limits.spare_idle, false)
        } else {
            continue;
        };
        tokio::spawn(async move {
            let _place = place;
            connection(stream, router, idle, keep, limits.stall).await;
        });
    }
}

/// What does not say for how long it may be kept is kept by no cache: else a playlist would stand still, and a segment that was asked for
/// too early stay missing.
fn uncached(router: Router) -> Router {
    router.layer(map_response(async |mut response: Response| {
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().entry(CACHE_CONTROL).or_insert(no_store);
        response
    }))
}

async fn connection(stream: TcpStream, router: Router, idle: Duration, keep: bool, stall: Duration) {
    let millis = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX);
    let _ = stream.set_nodelay(true);
    if let Err(e) = set_socket_send_buffer_size(&stream, SEND_BUFFER) {
        tracing::debug!("a stalled viewer will be noticed late: {e}");
    }
    if let Err(e) = set_tcp_user_timeout(&stream, millis) {
        tracing::debug!("a stalled viewer will not be noticed: {e}");
    }
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .keep_alive(keep)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(e) = served.await {
        tracing::debug!("a viewer's connection ended: {e}");
    }
}
