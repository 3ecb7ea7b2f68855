//! Live view: a stream as it arrives, from the ring, as one answer that goes on; and a page that plays it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::error::ApiError;
use crate::clock::boottime_ns;
use crate::recorder::stream::live::{MAX_VIEWERS, Muxer, Refused, Viewer};

/// The most live viewers of a member, whatever they watch: the other connections are for everything else.
pub(super) const MAX_LIVE: usize = 256;

/// The page, without the value that lets a browser run its script.
const PAGE: &str = include_str!("watch.html");
/// What stands for that value in the page.
const NONCE: &str = "{{nonce}}";

/// What makes an answer of one viewer's frames.
struct Showing {
    viewer: Viewer,
    muxer: Muxer,
    init: Option<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Showing {
    /// The next bytes, as soon as there is a frame; `None` at the end.
    async fn next(mut self) -> Option<(segment::Result<Bytes>, Self)> {
        if let Some(init) = self.init.take() {
            return Some((Ok(init), self));
        }
        match self.viewer.next().await {
            Ok(frames) => Some((self.muxer.fragments(frames), self)),
            Err(end) => {
                tracing::debug!(?end, "a live viewer's answer ended");
                None
            }
        }
    }
}

/// `GET /v1/streams/{name}/live`.
pub(super) async fn live(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let stream = api.shared.registry.named(&name);
    let stream = stream.ok_or_else(|| ApiError::no_live_stream(&name))?;
    let turned_away = |_| {
        api.shared.metrics.http_busy.inc();
        ApiError::too_many_viewers(&format!("this member has {MAX_LIVE} live viewers already"))
    };
    let permit = Arc::clone(&api.live).try_acquire_owned().map_err(turned_away)?;
    let viewer = stream.watch(Duration::from_nanos(boottime_ns()));
    let viewer = viewer.map_err(|refused| match refused {
        Refused::TooMany => {
            api.shared.metrics.http_busy.inc();
            ApiError::too_many_viewers(&format!(
                "stream '{name}' has {MAX_VIEWERS} live viewers here already"
            ))
        }
        Refused::NoPicture(why) => ApiError::no_picture(&name, &why),
    })?;
    show(viewer, permit).map_err(|e| ApiError::no_picture(&name, &e.to_string()))
}

fn show(viewer: Viewer, permit: OwnedSemaphorePermit) -> segment::Result<Response> {
    let run = viewer.run();
    let codecs = segment::fmp4::codecs(&run.sample_entry);
    let kind = codecs.map_or("video/mp4".to_owned(), |c| format!("video/mp4; codecs=\"{c}\""));
    let showing = Showing {
        init: Some(Muxer::init(run)?),
        viewer,
        muxer: Muxer::default(),
        _permit: permit,
    };
    let body = Body::from_stream(futures::stream::unfold(showing, Showing::next));
    Ok(([(CONTENT_TYPE, kind)], body).into_response())
}

/// `GET /v1/streams/{name}/watch`.
pub(super) async fn watch(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, ApiError> {
    if api.shared.registry.named(&name).is_none() {
        return Err(ApiError::no_live_stream(&name));
    }
    let nonce = hex::encode(rand::random::<[u8; 16]>());
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        // The token may be in the address.
        (REFERRER_POLICY, "no-referrer".to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (CONTENT_SECURITY_POLICY, policy),
    ];
    Ok((headers, PAGE.replace(NONCE, &nonce)).into_response())
}
