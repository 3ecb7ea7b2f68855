//! Errors as viewers get them: `{"error":{"code":"…","message":"…"}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::{IntoResponse, Response};

use crate::recorder::merged::NotRead;

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    /// 401, with how to pass the token.
    pub fn unauthorized(why: &str) -> Self {
        let message = format!(
            "{why}; pass it as the header 'Authorization: Bearer TOKEN' or as the query parameter 'token=TOKEN' \
             (it is in the key 'token' of the pair's viewer Secret)"
        );
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: "Unauthorized",
            message,
        }
    }

    /// 404 for a stream that is neither configured nor recorded.
    pub fn no_stream(name: &str) -> Self {
        let message =
            format!("no stream named '{name}' is configured or recorded here; GET /v1/streams lists them");
        Self {
            status: StatusCode::NOT_FOUND,
            code: "StreamNotFound",
            message,
        }
    }

    /// 404 for the live view of a stream that is not configured.
    pub fn no_live_stream(name: &str) -> Self {
        let message = format!(
            "no stream named '{name}' is configured, and only configured ones can be watched live; GET /v1/streams lists \
             them"
        );
        Self {
            status: StatusCode::NOT_FOUND,
            code: "StreamNotFound",
            message,
        }
    }

    /// 503 when a live view has nothing to show; `why` is in words.
    pub fn no_picture(name: &str, why: &str) -> Self {
        let message = format!("stream '{name}' has no picture on this member: {why}");
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "NoPicture",
            message,
        }
    }

    /// 503 when too many watch live; `how` says where.
    pub fn too_many_viewers(how: &str) -> Self {
        let message = format!("{how}; try again, or watch at the other member");
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "TooManyViewers",
            message,
        }
    }

    /// 404 for a segment.
    pub fn no_segment(stream: &str, id: &str) -> Self {
        let message =
            format!("stream '{stream}' has no segment '{id}' here; it may have been evicted by retention");
        Self {
            status: StatusCode::NOT_FOUND,
            code: "SegmentNotFound",
            message,
        }
    }

    /// 404 for the entry of a segment that is not sealed.
    pub fn not_sealed(id: &str) -> Self {
        let message = format!("segment '{id}' is not sealed yet, so it has no entry");
        Self {
            status: StatusCode::NOT_FOUND,
            code: "NotSealed",
            message,
        }
    }

    /// 400 for a parameter.
    pub fn bad_parameter(name: &str, value: &str, wanted: &str) -> Self {
        let message = format!("the parameter '{name}' is '{value}', but must be {wanted}");
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "BadParameter",
            message,
        }
    }

    /// 400 for an answer that would be made of too much.
    fn too_long(e: &NotRead) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "TooLong",
            message: e.to_string(),
        }
    }

    /// 416 for a range outside the file.
    pub fn bad_range(length: u64) -> Self {
        let message = format!("the range cannot be satisfied: the segment has {length} bytes");
        Self {
            status: StatusCode::RANGE_NOT_SATISFIABLE,
            code: "BadRange",
            message,
        }
    }

    /// 503 when too many requests are in progress.
    pub fn busy() -> Self {
        let message = "too many requests are in progress; recording comes first, try again".to_owned();
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "Busy",
            message,
        }
    }

    /// 500 when the volume cannot be read.
    pub fn unreadable(e: &dyn std::fmt::Display) -> Self {
        let message = format!("the volume cannot be read: {e}");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "Unreadable",
            message,
        }
    }

    /// 404 for a path that does not exist.
    pub fn no_route(path: &str) -> Self {
        let message = format!("there is nothing at '{path}'; GET /v1/streams lists the streams");
        Self {
            status: StatusCode::NOT_FOUND,
            code: "NotFound",
            message,
        }
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
            NotRead::TooLong => Self::too_long(&e),
            NotRead::Volume(e) => e.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = axum::http::HeaderValue::from_static("Bearer realm=\"gapless\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
