//! The HTTP API for viewers, and the probes and metrics for the cluster.

pub mod auth;
pub mod bytes;
pub mod error;
pub mod query;
pub mod views;

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use segment::{SegmentId, StreamUid, canonical, hls, timeline};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::auth::Token;
use self::error::ApiError;
use super::state::Shared;

/// The most answers in progress at once; more are turned away.
const MAX_REQUESTS: usize = 256;

/// What the handlers share.
#[derive(Clone, Debug)]
struct Api {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
}

/// Serves for ever.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, token: Arc<Token>) -> std::io::Result<()> {
    axum::serve(listener, router(shared, token)).await
}

fn router(shared: Arc<Shared>, token: Arc<Token>) -> Router {
    let api = Api {
        shared,
        permits: Arc::new(Semaphore::new(MAX_REQUESTS)),
    };
    let viewers = Router::new()
        .route("/v1/streams", get(streams))
        .route("/v1/streams/{name}/timeline", get(timeline_of))
        .route("/v1/streams/{name}/segments", get(segments))
        .route("/v1/streams/{name}/segments/{id}", get(segment_bytes))
        .route("/v1/streams/{name}/segments/{id}/entry", get(entry))
        .route("/v1/streams/{name}/hls.m3u8", get(playlist))
        .layer(middleware::from_fn_with_state(token, auth::check));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(viewers)
        .fallback(|uri: Uri| async move { ApiError::no_route(uri.path()) })
        .with_state(api)
}

async fn ready(State(api): State<Api>) -> Response {
    if api.shared.is_alive() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the writer loop does not move: is the volume hung?\n",
        )
            .into_response()
    }
}

async fn metrics(State(api): State<Api>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], api.shared.metrics.encode()).into_response()
}

impl Api {
    fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            self.shared.metrics.http_busy.inc();
            ApiError::busy()
        })
    }

    /// The stream of a name: a configured one, else the one that was recorded last under it.
    fn uid(&self, name: &str) -> Result<StreamUid, ApiError> {
        if let Some(stream) = self.shared.registry.named(name) {
            return Ok(stream.uid);
        }
        let catalogue = self.shared.catalogue();
        let recorded = catalogue.streams().filter(|(_, s)| s.name == name);
        let newest = |s: &segment::catalogue::Stream| s.copies.values().map(segment::Copy::end_us).max();
        recorded
            .max_by_key(|(_, s)| newest(s))
            .map(|(uid, _)| *uid)
            .ok_or_else(|| ApiError::no_stream(name))
    }

    fn segment(&self, name: &str, stem: &str) -> Result<SegmentId, ApiError> {
        let uid = self.uid(name)?;
        SegmentId::from_stem(uid, stem).ok_or_else(|| ApiError::no_segment(name, stem))
    }

    /// The canonical groups of pictures of a stream in a span of time.
    fn chosen(&self, uid: StreamUid, from_us: i64, to_us: i64) -> Vec<canonical::Chosen> {
        let gops = self.shared.fresh_catalogue(uid).gops(uid, from_us, to_us);
        canonical::choose(gops)
    }
}

fn span(query: Option<&str>) -> Result<(i64, i64, bool), ApiError> {
    let (from, to) = query::span(query.unwrap_or_default())?;
    Ok((from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX), to.is_some()))
}

async fn streams(State(api): State<Api>) -> Response {
    Json(views::streams(&api.shared)).into_response()
}

async fn timeline_of(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (_permit, uid) = (api.permit()?, api.uid(&name)?);
    let (from_us, to_us, _) = span(query.as_deref())?;
    let chosen = api.chosen(uid, from_us, to_us);
    let catalogue = api.shared.catalogue();
    let noted: Vec<segment::Gap> = catalogue.stream(uid).map(|s| s.gaps.clone()).unwrap_or_default();
    let in_span = |g: &segment::Gap| g.start_us < to_us && g.end_us.is_none_or(|e| e > from_us);
    let noted: Vec<segment::Gap> = noted.into_iter().filter(in_span).collect();
    let view = views::Timeline {
        durable_end: catalogue.stream(uid).and_then(views::durable_end),
        acknowledged_end: catalogue.stream(uid).and_then(views::acknowledged_end),
        stream: name,
        uid,
        spans: timeline::spans(&chosen)
            .into_iter()
            .map(views::Span::from)
            .collect(),
        gaps: timeline::gaps(&chosen, &noted)
            .into_iter()
            .map(views::Gap::from)
            .collect(),
    };
    Ok(Json(view).into_response())
}

async fn segments(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (_permit, uid) = (api.permit()?, api.uid(&name)?);
    let (from_us, to_us, _) = span(query.as_deref())?;
    let catalogue = api.shared.fresh_catalogue(uid);
    let copies = catalogue
        .stream(uid)
        .map(|s| s.copies.values())
        .into_iter()
        .flatten();
    let mut found: Vec<views::Segment> = copies
        .filter(|c| c.start_us() < to_us && c.end_us() > from_us)
        .map(|c| views::segment(&name, c))
        .collect();
    found.sort_by(|a, b| (&a.start, &a.id).cmp(&(&b.start, &b.id)));
    Ok(Json(found).into_response())
}

async fn segment_bytes(
    State(api): State<Api>,
    Path((name, stem)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let permit = api.permit()?;
    let id = api.segment(&name, stem.trim_end_matches(".mp4"))?;
    let (length, sealed) = {
        let catalogue = api.shared.fresh_catalogue(id.stream);
        let copy = catalogue
            .get(&id)
            .ok_or_else(|| ApiError::no_segment(&name, &stem))?;
        (copy.length, copy.state == segment::State::Sealed)
    };
    let volume = &api.shared.volume;
    // It may be sealed between the look and the opening; then it is found under its sealed name.
    let paths = [volume.sealed_path(&id), volume.open_path(&id)];
    let path = paths.iter().find(|p| p.exists()).unwrap_or(&paths[0]);
    bytes::serve(path, length, sealed, &headers, permit).await
}

async fn entry(
    State(api): State<Api>,
    Path((name, stem)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let id = api.segment(&name, &stem)?;
    let catalogue = api.shared.catalogue();
    let copy = catalogue
        .get(&id)
        .ok_or_else(|| ApiError::no_segment(&name, &stem))?;
    let entry = copy.entry().ok_or_else(|| ApiError::not_sealed(&stem))?;
    Ok(Json(views::entry(&entry)).into_response())
}

async fn playlist(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (_permit, uid) = (api.permit()?, api.uid(&name)?);
    let (from_us, to_us, ended) = span(query.as_deref())?;
    // A player that was given the token in the address must give it again for each segment.
    let token =
        query::value(query.as_deref().unwrap_or_default(), "token").map(|t| query::parameter("token", &t));
    let chosen = api.chosen(uid, from_us, to_us);
    let catalogue = api.shared.catalogue();
    let uri = |id: &SegmentId| {
        format!(
            "segments/{}.mp4{}",
            id.stem(),
            token.as_deref().unwrap_or_default()
        )
    };
    let head_len = |id: &SegmentId| catalogue.get(id).map_or(0, |c| c.head_len);
    let text = hls::playlist(&chosen, ended, uri, head_len);
    Ok(([(CONTENT_TYPE, "application/vnd.apple.mpegurl")], text).into_response())
}
