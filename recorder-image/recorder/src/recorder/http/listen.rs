//! The connections of viewers: how many, and for how long one may say nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
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
pub(super) struct Limits {
    /// Connections that may ask for everything.
    pub(super) connections: usize,
    /// Connections above those, for one probe each; what comes above these is closed at once.
    pub(super) spare: usize,
    /// How long a connection may be open without a whole request.
    pub(super) idle: Duration,
    /// The same, for those above the limit.
    pub(super) spare_idle: Duration,
    /// How long bytes may wait for the other side to take them.
    pub(super) stall: Duration,
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
pub(super) struct Routers {
    /// Within the limit.
    pub(super) all: Router,
    /// Above it.
    pub(super) crowded: Router,
}

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, routers: Routers, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let spare = Arc::new(Semaphore::new(limits.spare));
    loop {
        let (stream, _) = accept("a viewer", || listener.accept()).await;
        let (place, router, idle, keep) = if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            (place, routers.all.clone(), limits.idle, true)
        } else if let Ok(place) = Arc::clone(&spare).try_acquire_owned() {
            (place, routers.crowded.clone(), limits.spare_idle, false)
        } else {
            continue;
        };
        tokio::spawn(async move {
            let _place = place;
            connection(stream, router, idle, keep, limits.stall).await;
        });
    }
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
