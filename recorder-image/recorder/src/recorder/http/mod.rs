//! The HTTP API for viewers, and the probes and metrics for the cluster.

pub mod auth;
pub mod bytes;
pub mod error;
mod listen;
mod live;
pub mod query;
#[cfg(test)]
mod tests;
pub mod views;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use segment::parts::Detail;
use segment::{SegmentId, StreamUid, fmp4, hls, timeline};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::auth::Token;
use self::error::ApiError;
use self::listen::{Limits, Routers};
use super::merged::{AT_ONCE, Unreadable};
use super::state::Shared;
use crate::clock::boottime_ns;

/// The most answers in progress at once; more are turned away.
const MAX_REQUESTS: usize = 256;
/// How many answers are made of the catalogue and the volume at once; the others wait.
const READERS: usize = 2;
/// What a request without `from` is about: so long before `to`, or before now.
const DEFAULT_US: i64 = 3_600_000_000;

/// What the handlers share.
#[derive(Clone, Debug)]
struct Api {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    live: Arc<Semaphore>,
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, token: Arc<Token>) {
    let limits = Limits::default();
    let routers = Routers {
        all: router(Arc::clone(&shared), token),
        crowded: crowded(shared),
    };
    listen::serve(listener, routers, limits).await;
}

fn api(shared: Arc<Shared>) -> Api {
    Api {
        shared,
        permits: Arc::new(Semaphore::new(MAX_REQUESTS)),
        readers: Arc::new(Semaphore::new(READERS)),
        live: Arc::new(Semaphore::new(live::MAX_LIVE)),
    }
}

fn probes() -> Router<Api> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

fn router(shared: Arc<Shared>, token: Arc<Token>) -> Router {
    let viewers = Router::new()
        .route("/v1/streams", get(streams))
        .route("/v1/streams/{name}/timeline", get(timeline_of))
        .route("/v1/streams/{name}/segments", get(segments))
        .route("/v1/streams/{name}/segments/{id}", get(segment_bytes))
        .route("/v1/streams/{name}/segments/{id}/entry", get(entry))
        .route("/v1/streams/{name}/hls.m3u8", get(playlist))
        .route("/v1/streams/{name}/live", get(live::live))
        .route("/v1/streams/{name}/watch", get(live::watch))
        .layer(middleware::from_fn_with_state(token, auth::check));
    probes()
        .merge(viewers)
        .fallback(|uri: Uri| async move { ApiError::no_route(uri.path()) })
        .with_state(api(shared))
}

/// What is answered on connections above the limit: probes, so that viewers never end the process.
fn crowded(shared: Arc<Shared>) -> Router {
    let busy = async |State(api): State<Api>| {
        api.shared.metrics.http_busy.inc();
        ApiError::busy()
    };
    probes().fallback(busy).with_state(api(shared))
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

async fn streams(State(api): State<Api>) -> Response {
    Json(views::streams(&api.shared)).into_response()
}

async fn timeline_of(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (_permit, span) = (api.permit()?, span(query.as_deref())?);
    let view = api.read(move |api| timeline_view(api, api.uid(&name)?, name, span));
    Ok(Json(view.await?).into_response())
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
    let (_permit, span) = (api.permit()?, span(query.as_deref())?);
    let view = api.read(move |api| Ok(segments_view(api, api.uid(&name)?, &name, span)));
    Ok(Json(view.await?).into_response())
}

fn segments_view(api: &Api, uid: StreamUid, name: &str, span: Span) -> Vec<views::Segment> {
    let ids = api
        .shared
        .fresh_catalogue(uid)
        .overlapping(uid, span.from_us, span.to_us);
    let mut found: Vec<views::Segment> = Vec::with_capacity(ids.len());
    for part in ids.chunks(AT_ONCE) {
        let catalogue = api.shared.catalogue();
        let copies = part.iter().filter_map(|id| catalogue.get(id));
        found.extend(copies.map(|c| views::segment(name, c)));
    }
    found.sort_by(|a, b| (&a.start, &a.id).cmp(&(&b.start, &b.id)));
    found
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

/// Where the sound of a copy may be, as far as it is asked for.
struct Sound {
    head_len: u64,
    fragments: Vec<(u64, u64)>,
}

impl Sound {
    fn of(index: &segment::Index, head_len: u64, (first, end): (u64, u64)) -> Self {
        let fragments = index.fragments.iter().map(|f| (f.offset, f.end()));
        Self {
            head_len,
            fragments: fragments
                .filter(|(from, to)| *from < end && *to > first)
                .collect(),
        }
    }

    /// The places where `free` hides it.
    fn find(&self, file: &std::fs::File) -> std::io::Result<Vec<u64>> {
        let mut head = vec![0; usize::try_from(self.head_len).unwrap_or_default()];
        file.read_exact_at(&mut head, 0)?;
        let mut found: Vec<u64> = fmp4::sound_in_head(&head).iter().map(|at| *at as u64).collect();
        for (from, to) in &self.fragments {
            found.extend(fmp4::sound_in_fragment(*from, *to, |at| {
                let mut header = [0; 8];
                file.read_exact_at(&mut header, at).map(|()| header)
            })?);
        }
        Ok(found)
    }
}

async fn segment_bytes(
    State(api): State<Api>,
    Path((name, stem)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let permit = api.permit()?;
    let silent = query::audio(query.as_deref()) == Some(false);
    let asked = bytes::asked(&headers);
    let found = api.read(move |api| {
        let id = api.segment(&name, stem.trim_end_matches(".mp4"))?;
        let gone = || ApiError::no_segment(&name, &stem);
        let copy = {
            let catalogue = api.shared.fresh_catalogue(id.stream);
            catalogue.get(&id).cloned().ok_or_else(gone)?
        };
        let sound = if silent && copy.header.audio.is_some() {
            let index = api.shared.index_of(&copy)?.ok_or_else(gone)?;
            Some(Sound::of(&index, copy.head_len, asked.span(copy.length)))
        } else {
            None
        };
        let (length, sealed) = (copy.length, copy.state == segment::State::Sealed);
        // It may be sealed between the look and the opening; then it is found under its sealed name.
        let paths = [
            api.shared.volume.sealed_path(&id),
            api.shared.volume.open_path(&id),
        ];
        let opened = paths.iter().map(std::fs::File::open).find_map(Result::ok);
        let file = opened.ok_or_else(gone)?;
        let hidden = sound.map_or(Ok(Vec::new()), |sound| sound.find(&file));
        let hidden = hidden.map_err(|e| ApiError::unreadable(&e))?;
        Ok((file, length, sealed, hidden))
    });
    let (file, length, sealed, hidden) = found.await?;
    bytes::serve((file, hidden), (length, sealed), &headers, permit)
}

async fn entry(
    State(api): State<Api>,
    Path((name, stem)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let _permit = api.permit()?;
    let view = api.read(move |api| {
        let id = api.segment(&name, &stem)?;
        let gone = || ApiError::no_segment(&name, &stem);
        let copy = api.shared.catalogue().get(&id).cloned().ok_or_else(gone)?;
        let entry = copy.entry().ok_or_else(|| ApiError::not_sealed(&stem))?;
        let index = api.shared.index_of(&copy)?.ok_or_else(gone)?;
        Ok(views::entry(&entry, &index))
    });
    Ok(Json(view.await?).into_response())
}

async fn playlist(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (_permit, span) = (api.permit()?, span(query.as_deref())?);
    // A player that was given the token in the address must give it again for each segment.
    let token = query::value(query.as_deref().unwrap_or_default(), "token");
    let audio = query::audio(query.as_deref()) == Some(true);
    let text = api.read(move |api| playlist_text(api, api.uid(&name)?, span, audio, token.as_deref()));
    let kind = (CONTENT_TYPE, "application/vnd.apple.mpegurl");
    Ok(([kind], text.await?).into_response())
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
