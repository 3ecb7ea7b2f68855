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

/// What a request's `Range` header says.
pub struct Asked(Option<String>);

/// Reads the header.
pub fn asked(headers: &HeaderMap) -> Asked {
    Asked(
        headers
            .get(RANGE)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned),
    )
}

impl Asked {
    /// The first byte and the end of what is asked for of a file of `length` bytes.
    pub fn span(&self, length: u64) -> (u64, u64) {
        match range(self.0.as_deref(), length) {
            ByteRange::Part(first, last) => (first, last + 1),
            ByteRange::Whole | ByteRange::Unsatisfiable => (0, length),
        }
    }
}

/// Answers with a file, of which only the first `length` bytes count; at each of the places beside it stands `free`. `sealed`
/// files never change, so they may be cached.
///
/// # Errors
/// When the range is outside the file.
pub fn serve(
    (file, hidden): (std::fs::File, Vec<u64>),
    (length, sealed): (u64, bool),
    headers: &HeaderMap,
    permit: OwnedSemaphorePermit,
) -> Result<Response, ApiError> {
    let asked = asked(headers);
    let status = match range(asked.0.as_deref(), length) {
        ByteRange::Whole => StatusCode::OK,
        ByteRange::Part(..) => StatusCode::PARTIAL_CONTENT,
        ByteRange::Unsatisfiable => return Err(ApiError::bad_range(length)),
    };
    let (first, end) = asked.span(length);
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
    let body = Body::from_stream(chunks((file, hidden), first, end, permit));
    response
        .body(body)
        .map_err(|e| ApiError::unreadable(&io::Error::other(e)))
}

fn chunks(
    (file, hidden): (std::fs::File, Vec<u64>),
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
            let chunk = read(Arc::clone(&file), at, want).await.map(|mut chunk| {
                hide(&mut chunk, at, &hidden);
                Bytes::from(chunk)
            });
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

/// Writes `free` over each of the `hidden` places of a file, as far as they are in the chunk that begins at `at`.
fn hide(chunk: &mut [u8], at: u64, hidden: &[u64]) {
    for (place, byte) in hidden.iter().flat_map(|place| (*place..).zip(*b"free")) {
        let index = place
            .checked_sub(at)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(there) = index.and_then(|index| chunk.get_mut(index)) {
            *there = byte;
        }
    }
}

async fn read(file: Arc<std::fs::File>, at: u64, want: usize) -> io::Result<Vec<u8>> {
    let read = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; want];
        file.read_exact_at(&mut buffer, at)?;
        Ok(buffer)
    });
    read.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_may_lie_across_two_chunks() {
        let mut file = *b"0123456789abcdef";
        let (one, two) = file.split_at_mut(8);
        hide(one, 0, &[2, 6]);
        hide(two, 8, &[2, 6]);
        assert_eq!(&file, b"01freefreeabcdef");
    }
}
