//! The bytes of a segment, whole or by range.
//!
//! A viewer is given a bounded number of chunks ahead; one that takes none for a while is dropped. It never holds
//! back the recording.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use segment::{Copy, Index, Volume, fmp4};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Api;
use super::error::ApiError;
use super::query::{self, ByteRange};

/// How long a viewer may take none of the bytes.
const STALL: Duration = Duration::from_secs(20);
/// Bytes read at once.
const CHUNK: usize = 128 << 10;
/// Chunks that wait for the viewer.
const AHEAD: usize = 2;

/// What a request asks for.
struct Asked {
    /// The stream's name.
    name: String,
    /// The segment's.
    stem: String,
    /// Without its sound.
    silent: bool,
    /// The `Range` header.
    range: Option<String>,
}

/// The file of a segment, and what of it is asked for.
struct Opened {
    file: File,
    /// How many of its bytes count.
    length: u64,
    /// Whether it never changes, so that it may be cached.
    sealed: bool,
    /// At each of these places stands `free`.
    hidden: Vec<u64>,
    range: ByteRange,
}

impl Opened {
    /// Reads the catalogue and the volume: not for an async task.
    fn open(api: &Api, asked: &Asked) -> Result<Self, ApiError> {
        let id = api.segment(&asked.name, asked.stem.trim_end_matches(".mp4"))?;
        let gone = || ApiError::no_segment(&asked.name, &asked.stem);
        let copy = {
            let catalogue = api.shared.fresh_catalogue(id.stream);
            catalogue.get(&id).cloned().ok_or_else(gone)?
        };
        let file = find(&api.shared.volume, &copy, |path| File::open(path));
        let file = file.map_err(|e| ApiError::unreadable(&e))?.ok_or_else(gone)?;
        let range = query::range(asked.range.as_deref(), copy.length)?;
        let hidden = if asked.silent && copy.header.audio.is_some() {
            let index = api.shared.index_of(&copy)?.ok_or_else(gone)?;
            let sound = Sound::of(&index, copy.head_len, range.span(copy.length));
            sound.find(&file).map_err(|e| ApiError::unreadable(&e))?
        } else {
            Vec::new()
        };
        Ok(Self {
            file,
            length: copy.length,
            sealed: is_sealed(&copy),
            hidden,
            range,
        })
    }
}

fn is_sealed(copy: &Copy) -> bool {
    copy.state == segment::State::Sealed
}

/// Opens the file of a segment by the one of its names that it has, if it has any.
///
/// One that is sealed had that name before it was called so, and keeps it. One that is not may be sealed between the look and the
/// opening, so its other name is tried last. It is the same file by either name, and what was known of it stays as it is: that alone is
/// sent, and no cache keeps it.
pub(super) fn find(
    volume: &Volume,
    copy: &Copy,
    open: impl Fn(&FilePath) -> io::Result<File>,
) -> io::Result<Option<File>> {
    let unsealed = (!is_sealed(copy)).then(|| volume.open_path(copy.id()));
    for path in unsealed.into_iter().chain([volume.sealed_path(copy.id())]) {
        match open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}

/// Where the sound of a copy may be, as far as it is asked for.
struct Sound {
    head_len: u64,
    fragments: Vec<(u64, u64)>,
}

impl Sound {
    fn of(index: &Index, head_len: u64, (first, end): (u64, u64)) -> Self {
        let fragments = index.fragments.iter().map(|f| (f.offset, f.end()));
        Self {
            head_len,
            fragments: fragments
                .filter(|(from, to)| *from < end && *to > first)
                .collect(),
        }
    }

    /// The places where `free` hides it.
    fn find(&self, file: &File) -> io::Result<Vec<u64>> {
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

/// `GET /v1/streams/{name}/segments/{id}`.
pub(super) async fn bytes(
    State(api): State<Api>,
    Path((name, stem)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let permit = api.permit()?;
    let range = headers.get(RANGE).and_then(|v| v.to_str().ok());
    let asked = Asked {
        name,
        stem,
        silent: query::audio(query.as_deref()) == Some(false),
        range: range.map(str::to_owned),
    };
    let opened = api.read(move |api| Opened::open(api, &asked)).await?;
    serve(opened, permit).await
}

/// Answers with what is asked for, once the beginning of that could be read: what cannot be is no answer that broke off.
async fn serve(opened: Opened, permit: OwnedSemaphorePermit) -> Result<Response, ApiError> {
    let (length, sealed, range) = (opened.length, opened.sealed, opened.range);
    let mut chunks = Chunks::of(opened);
    let (size, first) = (chunks.end - chunks.at, chunks.next().await);
    let first = first.map_err(|e| ApiError::unreadable(&e))?;
    let mut response = Response::builder()
        .header(CONTENT_TYPE, "video/mp4")
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, size);
    if sealed {
        response = response.header(CACHE_CONTROL, "private, max-age=86400, immutable");
    }
    if let ByteRange::Part(first, last) = range {
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
    }
    let body = Body::from_stream(sent(first, chunks, permit));
    response.body(body).map_err(|e| ApiError::unreadable(&e))
}

/// The bytes that are asked for, in chunks.
struct Chunks {
    file: Arc<File>,
    hidden: Vec<u64>,
    /// Where the next one begins.
    at: u64,
    end: u64,
}

impl Chunks {
    fn of(opened: Opened) -> Self {
        let (at, end) = opened.range.span(opened.length);
        Self {
            file: Arc::new(opened.file),
            hidden: opened.hidden,
            at,
            end,
        }
    }

    /// Reads the next one; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let (at, want) = (self.at, CHUNK.min((self.end - self.at) as usize));
        if want == 0 {
            return Ok(None);
        }
        let mut chunk = read(Arc::clone(&self.file), at, want).await?;
        hide(&mut chunk, at, &self.hidden);
        self.at += want as u64;
        Ok(Some(chunk.into()))
    }
}

/// All chunks, of which the first is here, as fast as the viewer takes them. An error is the last thing that it gets.
fn sent(
    first: Option<Bytes>,
    mut chunks: Chunks,
    permit: OwnedSemaphorePermit,
) -> impl futures::Stream<Item = io::Result<Bytes>> {
    let (tx, rx) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let _permit = permit;
        let mut next = Ok(first);
        while let Some(chunk) = next.transpose() {
            let failed = chunk.is_err();
            let taken = tokio::time::timeout(STALL, tx.send(chunk)).await;
            if failed || !matches!(taken, Ok(Ok(()))) {
                return;
            }
            next = chunks.next().await;
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

async fn read(file: Arc<File>, at: u64, want: usize) -> io::Result<Vec<u8>> {
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
