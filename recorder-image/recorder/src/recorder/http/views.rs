//! What the API shows. Times are RFC 3339 with microseconds, hashes hexadecimal.

use segment::catalogue::Stream;
use segment::timeline::{self, GapState};
use segment::{AudioCodec, Copy, Index, Origin, SealedEntry, State, StreamUid};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::clock::boottime_ns;
use crate::recorder::state::Shared;

/// A time.
fn time(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |t| format!("{t:.6}"))
}

/// All configured streams, and those that are only recorded.
pub fn streams(shared: &Shared) -> serde_json::Value {
    let now = std::time::Duration::from_nanos(boottime_ns());
    let configured = shared.registry.streams();
    let live = configured.iter().map(|stream| {
        let h = stream.health(now);
        json!({
            "name": h.name, "uid": h.uid, "configured": true,
            "state": h.state.as_str(),
            "error": h.error.map(|e| json!({"code": e.code.as_str(), "message": e.message})),
            "lastFrame": h.last_frame_unix_ms.map(|ms| time(ms * 1000)),
            "fps": h.fps, "bitrate": h.bitrate, "writing": h.writing, "gaps": h.gaps,
        })
    });
    let mut all: Vec<serde_json::Value> = live.collect();
    let catalogue = shared.catalogue();
    let recorded = catalogue
        .streams()
        .filter(|(uid, s)| !s.copies.is_empty() && configured.iter().all(|c| c.uid != **uid));
    all.extend(recorded.map(|(uid, s)| json!({"name": s.name, "uid": uid, "configured": false})));
    serde_json::Value::Array(all)
}

/// The timeline of a stream.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Its name.
    pub stream: String,
    /// Its UID.
    pub uid: StreamUid,
    /// What is recorded.
    pub spans: Vec<Span>,
    /// What is not, and why.
    pub gaps: Vec<Gap>,
    /// The end of what is durable on this member.
    pub durable_end: Option<String>,
    /// The end of what this member wrote and its peer holds durably too.
    pub acknowledged_end: Option<String>,
}

/// A stretch by one writer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    start: String,
    end: String,
    #[serde(flatten)]
    rest: timeline::Span,
}

impl From<timeline::Span> for Span {
    fn from(rest: timeline::Span) -> Self {
        Self {
            start: time(rest.start_us),
            end: time(rest.end_us),
            rest,
        }
    }
}

/// A gap.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    start: String,
    /// `None` while it lasts.
    end: Option<String>,
    cause: String,
    state: GapState,
    evidence: String,
    frames: Option<u64>,
}

impl From<timeline::TimelineGap> for Gap {
    fn from(g: timeline::TimelineGap) -> Self {
        let (start, end) = (time(g.start_us), g.end_us.map(time));
        Self {
            start,
            end,
            cause: g.cause,
            state: g.state,
            evidence: g.evidence,
            frames: g.frames,
        }
    }
}

/// The end of what is durable here.
pub fn durable_end(stream: &Stream) -> Option<String> {
    stream.copies.values().map(Copy::end_us).max().map(time)
}

/// The end of what this member wrote and its peer holds durably.
pub fn acknowledged_end(stream: &Stream) -> Option<String> {
    // Retention may have removed the end of it: media that a clock stamped in the future.
    let ends_us = stream.copies.values().map(Copy::end_us).max()?;
    stream.acknowledged_us.map(|us| time(us.min(ends_us)))
}

/// A segment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Segment {
    /// The stem of its file.
    pub id: String,
    store: Uuid,
    member: String,
    incarnation: String,
    sequence: u64,
    state: State,
    origin: Origin,
    /// Its first frame.
    pub start: String,
    end: String,
    frames: u64,
    length: u64,
    root: Option<String>,
    pair_epoch: u64,
    stream_epoch: u64,
    owner: bool,
    /// How its sound is coded.
    audio: Option<AudioCodec>,
    href: String,
    entry_href: String,
}

/// What is shown of a copy.
pub fn segment(stream: &str, copy: &Copy) -> Segment {
    let (id, stem) = (copy.id(), copy.id().stem());
    let href = format!("/v1/streams/{stream}/segments/{stem}");
    Segment {
        store: id.store,
        member: id.member.clone(),
        incarnation: format!("{:016x}", id.incarnation),
        sequence: id.sequence,
        state: copy.state,
        origin: copy.origin,
        start: time(copy.start_us()),
        end: time(copy.end_us()),
        frames: copy.extent.frames,
        length: copy.length,
        root: copy.root.map(hex::encode),
        pair_epoch: copy.header.pair_epoch,
        stream_epoch: copy.header.stream_epoch,
        owner: copy.header.owner,
        audio: copy.header.audio.map(|audio| audio.codec),
        entry_href: format!("{href}/entry"),
        href,
        id: stem,
    }
}

/// A ledger entry, and the index.
pub fn entry(entry: &SealedEntry, index: &Index) -> serde_json::Value {
    json!({
        "header": entry.header, "length": entry.length, "root": hex::encode(entry.root),
        "headLength": entry.head_len, "extent": entry.extent, "fragments": index.fragments,
        "frameHashes": index.hashes.iter().map(hex::encode).collect::<Vec<_>>(),
        "signature": entry.signature.as_ref().map(hex::encode),
    })
}
