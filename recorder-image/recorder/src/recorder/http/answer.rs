//! Answers that are made as a whole and wait in memory until their viewers took them: how many, and of how many bytes together.
//!
//! The place of an answer is held by its bytes, wherever they are: a connection lets go of a body as soon as it has all of that, which is
//! long before the viewer has.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::error::ApiError;

/// The bytes of answers count in pieces of this size; the rest of each is bounded by how many answers there are.
pub(super) const PIECE: usize = 256 << 10;
/// The most pieces of all answers together. One with more is refused, one that finds no place is turned away for now.
pub(super) const MAX_PIECES: usize = 256;

/// The kind of an answer that [`json`] made.
pub(super) const JSON: &str = "application/json";

/// The text of an answer. It may be long: not for an async task, but for what has no more than a line for each stream.
pub(super) fn json(view: &impl Serialize) -> Result<Box<[u8]>, ApiError> {
    let text = serde_json::to_vec(view).map_err(|e| ApiError::unreadable(&e))?;
    Ok(text.into())
}

/// The bytes of an answer, with its place among those in progress and its pieces.
struct Waiting {
    text: Box<[u8]>,
    _place: OwnedSemaphorePermit,
    _pieces: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Api {
    /// Answers with this text.
    pub(super) fn answer(
        &self,
        kind: &'static str,
        text: Box<[u8]>,
        place: OwnedSemaphorePermit,
    ) -> Result<Response, ApiError> {
        let count = text.len() / PIECE;
        if count > MAX_PIECES {
            return Err(ApiError::too_many_bytes(MAX_PIECES * PIECE));
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let waiting = Waiting {
            text,
            _place: place,
            _pieces: self.places(&self.pieces, count)?,
        };
        Ok(([(CONTENT_TYPE, kind)], Bytes::from_owner(waiting)).into_response())
    }
}
