//! Errors as viewers get them: `{"error":{"code":"…","message":"…"}}`.

use axum::Json;
use axum::http::header::{CONTENT_RANGE, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::recorder::merged::NotRead;

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    header: Option<(HeaderName, String)>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            header: None,
        }
    }

    fn with(self, name: HeaderName, value: impl Into<String>) -> Self {
        Self {
            header: Some((name, value.into())),
            ..self
        }
    }

    /// 401, with how to pass the token.
    pub fn unauthorized(why: &str) -> Self {
        let message = format!(
            "{why}; pass it as the header 'Authorization: Bearer TOKEN' or as the query parameter 'token=TOKEN' \
             (it is in the key 'token' of the pair's viewer Secret)"
        );
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
            .with(WWW_AUTHENTICATE, "Bearer realm=\"gapless\"")
    }

    /// 404 for a stream that is neither configured nor recorded.
    pub fn no_stream(name: &str) -> Self {
        let message =
            format!("no stream named '{name}' is configured or recorded here; GET /v1/streams lists them");
        Self::new(StatusCode::NOT_FOUND, "StreamNotFound", message)
    }

    /// 404 for the live view of a stream that is not configured.
    pub fn no_live_stream(name: &str) -> Self {
        let message = format!(
            "no stream named '{name}' is configured, and only configured ones can be watched live; GET /v1/streams lists \
             them"
        );
        Self::new(StatusCode::NOT_FOUND, "StreamNotFound", message)
    }

    /// 503 when a live view has nothing to show; `why` is in words.
    pub fn no_picture(name: &str, why: &str) -> Self {
        let message = format!("stream '{name}' has no picture on this member: {why}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "NoPicture", message)
    }

    /// 503 when too many watch live; `how` says where.
    pub fn too_many_viewers(how: &str) -> Self {
        let message = format!("{how}; try again, or watch at the other member");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "TooManyViewers", message)
    }

    /// 404 for a segment.
    pub fn no_segment(stream: &str, id: &str) -> Self {
        let message =
            format!("stream '{stream}' has no segment '{id}' here; it may have been evicted by retention");
        Self::new(StatusCode::NOT_FOUND, "SegmentNotFound", message)
    }

    /// 404 for the entry of a segment that is not sealed.
    pub fn not_sealed(id: &str) -> Self {
        let message = format!("segment '{id}' is not sealed yet, so it has no entry");
        Self::new(StatusCode::NOT_FOUND, "NotSealed", message)
    }

    /// 400 for a parameter.
    pub fn bad_parameter(name: &str, value: &str, wanted: &str) -> Self {
        let message = format!("the parameter '{name}' is '{value}', but must be {wanted}");
        Self::new(StatusCode::BAD_REQUEST, "BadParameter", message)
    }

    /// 400 for an answer that would be made of too much; `message` says how much may be.
    fn too_long(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "TooLong", message)
    }

    /// 400 for a list of more than `most` segments.
    pub fn too_many_segments(most: usize) -> Self {
        Self::too_long(format!(
            "an answer lists {most} segments at most; ask for a part with 'from' and 'to'"
        ))
    }

    /// 400 for an answer of more than `most` bytes.
    pub fn too_many_bytes(most: usize) -> Self {
        let most = most >> 20;
        Self::too_long(format!(
            "an answer has {most} MiB at most; ask for a part with 'from' and 'to'"
        ))
    }

    /// 416 for a range outside the file, with how long that is.
    pub fn bad_range(length: u64) -> Self {
        let message = format!("the range cannot be satisfied: the segment has {length} bytes");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BadRange", message)
            .with(CONTENT_RANGE, format!("bytes */{length}"))
    }

    /// 503 when too many requests are in progress.
    pub fn busy() -> Self {
        let message = "too many requests are in progress; recording comes first, try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Busy", message)
    }

    /// 500 when the volume cannot be read.
    pub fn unreadable(e: &dyn std::fmt::Display) -> Self {
        let message = format!("the volume cannot be read: {e}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Unreadable", message)
    }

    /// 404 for a path that does not exist.
    pub fn no_route(path: &str) -> Self {
        let message = format!("there is nothing at '{path}'; GET /v1/streams lists the streams");
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }
}

impl From<segment::Error> for ApiError {
    fn from(e: segment::Error) -> Self {
        Self::unreadable(&e)
    }
}

impl From<NotRead> for ApiError {
    fn from(e: NotRead) -> Self {
        match e {
            NotRead::TooLong => Self::too_long(e.to_string()),
            NotRead::Volume(e) => e.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": { "code": self.code, "message": self.message } });
        (self.status, self.header.map(|header| [header]), Json(body)).into_response()
    }
}
