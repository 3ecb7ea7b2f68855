//! The bytes of a segment, whole or by range.
//!
//! A viewer is given a bounded number of chunks ahead; one that takes none for a while is dropped. It never holds
//! back the recording.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::error::ApiError;
use super::query::{ByteRange, range};

/// How long a viewer may take none of the bytes.
const STALL: Duration = Duration::from_secs(20);
/// Bytes read at once.
const CHUNK: usize = 128 << 10;
/// Chunks that wait for the viewer.
const AHEAD: usize = 2;

/// Answers with `file`, of which only the first `length` bytes count. `sealed` files never change, so
/// they may be cached.
///
/// # Errors
/// When the range is outside the file.
pub fn serve(
    file: std::fs::File,
    length: u64,
    sealed: bool,
    headers: &HeaderMap,
    permit: OwnedSemaphorePermit,
) -> Result<Response, ApiError> {
    let asked = headers.get(RANGE).and_then(|v| v.to_str().ok());
    let (status, first, end) = match range(asked, length) {
        ByteRange::Whole => (StatusCode::OK, 0, length),
        ByteRange::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last + 1),
        ByteRange::Unsatisfiable => return Err(ApiError::bad_range(length)),
    };
    let mut response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "video/mp4")
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, end - first)
        .header(
            CACHE_CONTROL,
            if sealed {
                "private, max-age=86400, immutable"
            } else {
                "no-store"
            },
        );
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(CONTENT_RANGE, format!("bytes {first}-{}/{length}", end - 1));
    }
    let body = Body::from_stream(chunks(file, first, end, permit));
    response
        .body(body)
        .map_err(|e| ApiError::unreadable(&io::Error::other(e)))
}

fn chunks(
    file: std::fs::File,
    first: u64,
    end: u64,
    permit: OwnedSemaphorePermit,
) -> impl futures::Stream<Item = io::Result<Bytes>> {
    let (tx, rx) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let _permit = permit;
        let file = Arc::new(file);
        let mut at = first;
        while at < end {
            let want = CHUNK.min((end - at) as usize);
            let chunk = read(Arc::clone(&file), at, want).await;
            let failed = chunk.is_err();
            at += want as u64;
            let sent = tokio::time::timeout(STALL, tx.send(chunk)).await;
            if failed || !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    });
    futures::stream::unfold(
        rx,
        |mut rx| async move { rx.recv().await.map(|chunk| (chunk, rx)) },
    )
}

async fn read(file: Arc<std::fs::File>, at: u64, want: usize) -> io::Result<Bytes> {
    let read = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; want];
        file.read_exact_at(&mut buffer, at)?;
        Ok(Bytes::from(buffer))
    });
    read.await.map_err(io::Error::other)?
}
