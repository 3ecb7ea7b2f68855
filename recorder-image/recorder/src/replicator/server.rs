//! HTTP of the replicator: the operator's port, behind mutual TLS, and the probes' and metrics' port.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use crds::member::{SwitchoverRequest, TakeOutcome, TakeReason, TakeRequest, TakeResponse};
use failover::{Epoch, Event, OrderOutcome, TakeOrder};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_rustls::TlsAcceptor;

use super::dial;
use super::driver::Input;
use super::report::Reporter;
use super::tls::{Identity, identity_of, valid_until};
use crate::accept::accept;

const HANDSHAKE: Duration = Duration::from_secs(3);
const MAX_CONNECTIONS: usize = 32;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Control {
    /// Makes the report.
    pub reporter: Reporter,
    /// Takes orders.
    pub driver: mpsc::Sender<Input>,
}

async fn report(State(control): State<Control>) -> Response {
    match control.reporter.report() {
        Some(report) => Json(report).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
    }
}

async fn take(State(control): State<Control>, Json(order): Json<TakeRequest>) -> Response {
    let reason = match order.reason {
        TakeReason::Expired => failover::TakeReason::Expired,
        TakeReason::ContainerTerminated => failover::TakeReason::ContainerTerminated,
        TakeReason::Switchover => failover::TakeReason::Switchover,
        TakeReason::Failback => failover::TakeReason::Failback,
        TakeReason::NoHolder => failover::TakeReason::NoHolder,
    };
    control
        .order(Event::TakeOrder(TakeOrder {
            epoch: Epoch(order.epoch),
            reason,
        }))
        .await
}

async fn switchover(State(control): State<Control>, Json(order): Json<SwitchoverRequest>) -> Response {
    control
        .order(Event::SwitchoverOrder {
            epoch: Epoch(order.epoch),
        })
        .await
}

impl Control {
    async fn order(&self, event: Event) -> Response {
        let (answer, outcome) = oneshot::channel();
        let sent = self.driver.send(Input::Order(event, answer)).await.is_ok();
        let Some(outcome) = (if sent { outcome.await.ok() } else { None }) else {
            return (StatusCode::SERVICE_UNAVAILABLE, "authority is not driven\n").into_response();
        };
        let outcome = match outcome {
            OrderOutcome::Accepted => TakeOutcome::Accepted,
            OrderOutcome::Alive => TakeOutcome::Alive,
            OrderOutcome::Stale => TakeOutcome::Stale,
            OrderOutcome::NotApplicable | OrderOutcome::Unfit => TakeOutcome::NotFollower,
        };
        Json(TakeResponse { outcome }).into_response()
    }
}

/// Serves the operator, and nobody else, for ever.
pub async fn control(listener: TcpListener, control: Control, tls: PathBuf, operator: String) {
    let router = Router::new()
        .route("/v1/report", get(report))
        .route("/v1/take", post(take))
        .route("/v1/switchover", post(switchover))
        .with_state(control);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (socket, from) = accept("the operator", || listener.accept()).await;
        dial::tune(&socket);
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            continue;
        };
        let (router, tls, operator) = (router.clone(), tls.clone(), operator.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let Ok(identity) = Identity::load(&tls) else {
                return;
            };
            let accepted =
                tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(identity.server).accept(socket)).await;
            let Ok(Ok(stream)) = accepted else { return };
            match identity_of(stream.get_ref().1.peer_certificates()) {
                Ok(found) if found == operator => {}
                Ok(found) => return tracing::warn!(%from, "{found} is not the operator"),
                Err(e) => return tracing::warn!(%from, "{e}"),
            }
            let service = TowerToHyperService::new(router);
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// What is told of without being asked for by name.
#[derive(Clone, Debug)]
struct Status {
    reporter: Reporter,
    /// The folder of this member's certificate.
    tls: PathBuf,
}

/// Serves probes and metrics; `tls` is the folder of this member's certificate.
///
/// # Errors
/// When the listener fails.
pub async fn status(listener: TcpListener, reporter: Reporter, tls: PathBuf) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Status { reporter, tls });
    axum::serve(listener, router).await
}

async fn ready(State(status): State<Status>) -> Response {
    if status.reporter.report().is_some() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response()
    }
}

async fn metrics(State(status): State<Status>) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    if let Some(r) = status.reporter.report() {
        let member = &r.member;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let _ = writeln!(out, "# HELP gapless_{name} {help}\n# TYPE gapless_{name} gauge");
            let _ = writeln!(out, "gapless_{name}{{member=\"{member}\"}} {value}");
        };
        gauge("epoch", "The epoch that is durable here", r.epoch as f64);
        gauge(
            "serving",
            "Whether this member holds authority",
            f64::from(u8::from(r.serving_epoch.is_some())),
        );
        gauge(
            "peer_heard",
            "Whether the peer is heard",
            f64::from(u8::from(r.peer.heard)),
        );
        gauge(
            "peer_suspected_after_seconds",
            "After how much silence the peer is suspected",
            r.peer.suspected_after_ms as f64 / 1e3,
        );
        if let Ok(until) = valid_until(&status.tls) {
            gauge(
                "certificate_valid_until_timestamp_seconds",
                "When this member's certificate ends",
                until as f64,
            );
        }
        gauge(
            "replication_connected",
            "Whether the peer takes media",
            f64::from(u8::from(r.replication.connected)),
        );
        gauge(
            "replication_lag_seconds",
            "Age of what the peer has not acknowledged",
            r.replication.lag_ms as f64 / 1e3,
        );
        gauge(
            "replication_lag_bytes",
            "Live bytes that the peer has not acknowledged",
            r.replication.lag_bytes as f64,
        );
        gauge(
            "replication_backfill_bytes",
            "Other bytes that the peer lacks",
            r.replication.backfill_bytes as f64,
        );
        gauge(
            "replication_backfill_of_bytes",
            "All bytes that were here when the peer connected",
            r.replication.backfill_of as f64,
        );
        if let Some(seconds) = r.replication.backfill_seconds {
            gauge(
                "replication_backfill_remaining_seconds",
                "In how long the peer will have what it lacks",
                seconds as f64,
            );
        }
        gauge(
            "replication_unreadable",
            "Segments that the peer lacks and that cannot be read here",
            r.replication.unreadable as f64,
        );
        gauge(
            "replication_refused",
            "Segments of the peer that were refused",
            r.replication.refused as f64,
        );
    }
    out
}
