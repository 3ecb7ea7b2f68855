//! The HTTP API for viewers, and the probes and metrics for the cluster.

mod answer;
pub mod auth;
mod bytes;
pub mod error;
mod live;
pub mod query;
#[cfg(test)]
mod tests;
pub mod views;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use segment::parts::Detail;
use segment::{SegmentId, StreamUid, hls, timeline};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::answer::{JSON, MAX_PIECES, json};
use self::auth::Token;
use self::error::ApiError;
use super::merged::{AT_ONCE, Unreadable};
use super::state::Shared;
use crate::clock::boottime_ns;
use crate::listen::{self, Limits, Routers};

/// The most answers in progress at once; more are turned away.
const MAX_REQUESTS: usize = 256;
/// How many answers are made of the catalogue and the volume at once; the others wait.
const READERS: usize = 2;
/// The most segments in one list.
const MAX_SEGMENTS: usize = 20_000;
/// What a request without `from` is about: so long before `to`, or before now.
const DEFAULT_US: i64 = 3_600_000_000;

/// What the handlers share.
#[derive(Clone, Debug)]
struct Api {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    pieces: Arc<Semaphore>,
    live: Arc<Semaphore>,
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, token: Arc<Token>) {
    let api = api(shared);
    let routers = Routers {
        all: router(api.clone(), token),
        crowded: crowded(api),
    };
    listen::serve(listener, "a viewer", routers, Limits::default()).await;
}

fn api(shared: Arc<Shared>) -> Api {
    Api {
        shared,
        permits: Arc::new(Semaphore::new(MAX_REQUESTS)),
        readers: Arc::new(Semaphore::new(READERS)),
        pieces: Arc::new(Semaphore::new(MAX_PIECES)),
        live: Arc::new(Semaphore::new(live::MAX_LIVE)),
    }
}

fn probes() -> Router<Api> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

fn router(api: Api, token: Arc<Token>) -> Router {
    let viewers = Router::new()
        .route("/v1/streams", get(streams))
        .route("/v1/streams/{name}/timeline", get(timeline_of))
        .route("/v1/streams/{name}/segments", get(segments))
        .route("/v1/streams/{name}/segments/{id}", get(bytes::bytes))
        .route("/v1/streams/{name}/segments/{id}/entry", get(entry))
        .route("/v1/streams/{name}/hls.m3u8", get(playlist))
        .route("/v1/streams/{name}/live", get(live::live))
        .route("/v1/streams/{name}/watch", get(live::watch))
        .layer(middleware::from_fn_with_state(token, auth::check));
    probes()
        .merge(viewers)
        .fallback(|uri: Uri| async move { ApiError::no_route(uri.path()) })
        .with_state(api)
}

/// What is answered on connections above the limit: probes, so that viewers never end the process.
fn crowded(api: Api) -> Router {
    let busy = async |State(api): State<Api>| {
        api.shared.metrics.http_busy.inc();
        ApiError::busy()
    };
    probes().fallback(busy).with_state(api)
}

async fn ready(State(api): State<Api>) -> Response {
    let not_yet = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    if !api.shared.is_alive() {
        return not_yet("the writer loop does not move: is the volume hung?\n".to_owned());
    }
    match api.shared.waits_for(Duration::from_nanos(boottime_ns())) {
        Some(what) => not_yet(format!("this member has just started, and waits for {what}\n")),
        None => (StatusCode::OK, "ok\n").into_response(),
    }
}

async fn metrics(State(api): State<Api>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], api.shared.metrics.encode()).into_response()
}

impl Api {
    /// The place of an answer among those in progress.
    fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.places(&self.permits, 1)
    }

    fn places(&self, of: &Arc<Semaphore>, count: u32) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(of).try_acquire_many_owned(count).map_err(|_| {
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

    /// Reads of the catalogue or the volume, off the async threads, and few at once.
    async fn read<T: Send + 'static>(
        &self,
        reading: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = Arc::clone(&self.readers).acquire_owned().await;
        let (turn, api) = (turn.map_err(|e| ApiError::unreadable(&e))?, self.clone());
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            reading(&api)
        });
        read.await.map_err(|e| ApiError::unreadable(&e))?
    }
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from_us: i64,
    to_us: i64,
    /// Whether `to` was given: then nothing is added to it.
    ended: bool,
    /// Whether `from` was.
    begun: bool,
}

impl Span {
    fn bounds(self) -> (i64, i64) {
        (self.from_us, self.to_us)
    }

    fn of(query: Option<&str>, now_us: i64) -> Result<Self, ApiError> {
        let (from, to) = query::span(query.unwrap_or_default())?;
        let default = || to.unwrap_or(now_us).saturating_sub(DEFAULT_US);
        Ok(Self {
            from_us: from.unwrap_or_else(default),
            to_us: to.unwrap_or(i64::MAX),
            ended: to.is_some(),
            begun: from.is_some(),
        })
    }
}

fn span(query: Option<&str>) -> Result<Span, ApiError> {
    Span::of(query, crate::clock::wall_us())
}

async fn streams(State(api): State<Api>) -> Result<Response, ApiError> {
    let permit = api.permit()?;
    // Without a wait for those who read: a disk that hangs hides no camera.
    api.answer(JSON, json(&views::streams(&api.shared))?, permit)
}

async fn timeline_of(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (permit, span) = (api.permit()?, span(query.as_deref())?);
    let text = api.read(move |api| json(&timeline_view(api, api.uid(&name)?, name, span)?));
    api.answer(JSON, text.await?, permit)
}

fn timeline_view(api: &Api, uid: StreamUid, stream: String, span: Span) -> Result<views::Timeline, ApiError> {
    let (bounds, shown) = (span.bounds(), Unreadable::CountsAsOne);
    let chosen = api.shared.chosen(uid, bounds, Detail::Times, shown)?;
    let gaps = api.shared.gaps(uid, bounds, shown)?;
    let spans = timeline::spans(&chosen);
    let catalogue = api.shared.catalogue();
    let found = catalogue.stream(uid);
    Ok(views::Timeline {
        stream,
        uid,
        spans: spans.into_iter().map(views::Span::from).collect(),
        gaps: gaps.into_iter().map(views::Gap::from).collect(),
        durable_end: found.and_then(views::durable_end),
        acknowledged_end: found.and_then(views::acknowledged_end),
    })
}

async fn segments(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (permit, span) = (api.permit()?, span(query.as_deref())?);
    let text = api.read(move |api| json(&segments_view(api, api.uid(&name)?, &name, span)?));
    api.answer(JSON, text.await?, permit)
}

fn segments_view(api: &Api, uid: StreamUid, name: &str, span: Span) -> Result<Vec<views::Segment>, ApiError> {
    let ids = api
        .shared
        .fresh_catalogue(uid)
        .overlapping(uid, span.from_us, span.to_us);
    if ids.len() > MAX_SEGMENTS {
        return Err(ApiError::too_many_segments(MAX_SEGMENTS));
    }
    let mut found: Vec<views::Segment> = Vec::with_capacity(ids.len());
    for part in ids.chunks(AT_ONCE) {
        let catalogue = api.shared.catalogue();
        let copies = part.iter().filter_map(|id| catalogue.get(id));
        found.extend(copies.map(|c| views::segment(name, c)));
    }
    found.sort_by(|a, b| (&a.start, &a.id).cmp(&(&b.start, &b.id)));
    Ok(found)
}

/// What a playlist has to know of a copy.
struct Shown {
    head_len: u64,
    sealed: bool,
    audio: bool,
}

impl Shown {
    fn of(copy: &segment::Copy) -> Self {
        Self {
            head_len: copy.head_len,
            sealed: copy.state == segment::State::Sealed,
            audio: copy.header.audio.is_some(),
        }
    }
}

async fn entry(
    State(api): State<Api>,
    Path((name, stem)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let permit = api.permit()?;
    let text = api.read(move |api| {
        let id = api.segment(&name, &stem)?;
        let gone = || ApiError::no_segment(&name, &stem);
        let copy = api.shared.catalogue().get(&id).cloned().ok_or_else(gone)?;
        let entry = copy.entry().ok_or_else(|| ApiError::not_sealed(&stem))?;
        let index = api.shared.index_of(&copy)?.ok_or_else(gone)?;
        json(&views::entry(&entry, &index))
    });
    api.answer(JSON, text.await?, permit)
}

async fn playlist(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (permit, span) = (api.permit()?, span(query.as_deref())?);
    // A player that was given the token in the address must give it again for each segment.
    let token = query::value(query.as_deref().unwrap_or_default(), "token");
    let audio = query::audio(query.as_deref()) == Some(true);
    let text = api.read(move |api| {
        let text = playlist_text(api, api.uid(&name)?, span, audio, token.as_deref())?;
        Ok(text.into_bytes().into())
    });
    api.answer("application/vnd.apple.mpegurl", text.await?, permit)
}

fn playlist_text(
    api: &Api,
    uid: StreamUid,
    span: Span,
    audio: bool,
    token: Option<&str>,
) -> Result<String, ApiError> {
    let chosen = api
        .shared
        .chosen(uid, span.bounds(), Detail::Groups, Unreadable::IsLeftOut)?;
    if !span.begun && !span.ended {
        // What is asked for again and again has to have a beginning that stays.
        let from = (span.from_us / 1000).to_string();
        let audio = audio.then_some(("audio", "true"));
        let rest = query::parameters([Some(("from", &from[..])), audio, token.map(|t| ("token", t))]);
        return Ok(hls::multivariant(&chosen, &format!("hls.m3u8{rest}")));
    }
    let heads: BTreeMap<&SegmentId, Shown> = {
        let catalogue = api.shared.catalogue();
        let ids = chosen.iter().map(|c| &c.gop.id);
        ids.filter_map(|id| Some((id, Shown::of(catalogue.get(id)?))))
            .collect()
    };
    let uri = |id: &SegmentId| {
        // A player waits for sound that it was told of, and browsers play no G.711: who wants it asks for it.
        let silent = !audio && heads.get(id).is_some_and(|shown| shown.audio);
        let silent = silent.then_some(("audio", "false"));
        let rest = query::parameters([silent, token.map(|t| ("token", t))]);
        format!("segments/{}.mp4{rest}", id.stem())
    };
    let sealed = |id: &SegmentId| heads.get(id).is_some_and(|shown| shown.sealed);
    let kind = if span.ended {
        hls::Kind::Ended
    } else {
        hls::Kind::Live(&sealed)
    };
    Ok(hls::playlist(&chosen, &kind, uri, |id| {
        heads.get(id).map_or(0, |shown| shown.head_len)
    }))
}
