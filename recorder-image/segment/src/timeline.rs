//! The timeline of a stream: what is there, who recorded it, and what is missing and why. Pure.

use serde::Serialize;
use uuid::Uuid;

use crate::canonical::Chosen;
use crate::ledger::Gap;

/// A stretch of continuous recording by one writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// Wall clock of the first frame, microseconds since the Unix epoch.
    pub start_us: i64,
    /// Wall clock of the end, microseconds since the Unix epoch.
    pub end_us: i64,
    /// Frames.
    pub frames: u64,
    /// Who recorded it.
    pub member: String,
    /// The volume that it was first written to.
    pub store: Uuid,
    /// The pair's epoch.
    pub pair_epoch: u64,
    /// The stream's epoch.
    pub stream_epoch: u64,
    /// Whether the writer owned the stream.
    pub owner: bool,
    /// How many segments it spans.
    pub segments: u64,
    /// Groups of pictures that both members hold.
    pub doubled: u64,
    /// Whether it begins before the one before it ends: the camera sent the members different bytes.
    pub overlaps: bool,
}

/// How it stands with a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum GapState {
    /// No member holds these frames, as far as is known here.
    Open,
    /// One member missed them, the recording has them.
    Refilled,
}

/// A gap of the merged recording, or of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineGap {
    /// Where it begins, microseconds since the Unix epoch.
    pub start_us: i64,
    /// Where it ends, microseconds since the Unix epoch.
    pub end_us: i64,
    /// Why.
    pub cause: String,
    /// How it stands.
    pub state: GapState,
    /// What was seen.
    pub evidence: String,
    /// Frames missing, where it is known.
    pub frames: Option<u64>,
}

/// The most that two frames may be apart, in frames, before a frame is missing between them.
const TOLERANCE: (i64, i64) = (3, 2);

/// The spans of the chosen groups of pictures.
pub fn spans(chosen: &[Chosen]) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    let mut before: Option<&Chosen> = None;
    for next in chosen {
        let joined = before.is_some_and(|b| continues(b, next)) && !next.overlaps;
        let doubled = u64::from(next.copies > 1);
        match out.last_mut() {
            Some(span) if joined => {
                span.end_us = next.gop.end_us();
                span.frames += next.gop.hashes.len() as u64;
                span.segments += u64::from(before.is_some_and(|b| b.gop.id != next.gop.id));
                span.doubled += doubled;
            }
            _ => out.push(Span {
                start_us: next.gop.start_us,
                end_us: next.gop.end_us(),
                frames: next.gop.hashes.len() as u64,
                member: next.gop.id.member.clone(),
                store: next.gop.id.store,
                pair_epoch: next.gop.pair_epoch,
                stream_epoch: next.gop.stream_epoch,
                owner: next.gop.owner,
                segments: 1,
                doubled,
                overlaps: next.overlaps,
            }),
        }
        before = Some(next);
    }
    out
}

fn continues(before: &Chosen, next: &Chosen) -> bool {
    let (a, b) = (&before.gop, &next.gop);
    a.id.store == b.id.store
        && (a.pair_epoch, a.stream_epoch, a.owner) == (b.pair_epoch, b.stream_epoch, b.owner)
        && hole(before, next).is_none()
}

/// The hole between two neighbours, if at least one frame is missing there.
pub fn hole(before: &Chosen, next: &Chosen) -> Option<(i64, i64)> {
    let (a, b) = (&before.gop, &next.gop);
    if a.run == b.run && a.dts + a.duration as i64 == b.dts {
        return None;
    }
    let frame = a.duration_us() / a.hashes.len().max(1) as i64;
    let apart = b.start_us - a.end_us();
    (apart * TOLERANCE.1 > frame * (TOLERANCE.0 - TOLERANCE.1)).then_some((a.end_us(), b.start_us))
}

/// The gaps of the merged recording, each with the cause that a ledger has for it, and those that one member noted and the
/// recording does not have.
pub fn gaps(chosen: &[Chosen], noted: &[Gap]) -> Vec<TimelineGap> {
    let holes: Vec<(i64, i64)> = chosen.windows(2).filter_map(|w| hole(&w[0], &w[1])).collect();
    let overlaps =
        |(start, end): &(i64, i64), gap: &Gap| gap.start_us < *end && gap.end_us.is_none_or(|e| e > *start);
    let open = holes.iter().map(|hole| {
        let cause = noted.iter().find(|g| overlaps(hole, g));
        TimelineGap {
            start_us: hole.0,
            end_us: hole.1,
            cause: cause.map_or_else(|| "Unknown".into(), |g| g.cause.clone()),
            state: GapState::Open,
            evidence: cause.map_or_else(String::new, |g| g.evidence.clone()),
            frames: cause.and_then(|g| g.frames),
        }
    });
    let covered = |gap: &&Gap| {
        let first = chosen.first().map_or(i64::MAX, |c| c.gop.start_us);
        let last = chosen.last().map_or(i64::MIN, |c| c.gop.end_us());
        !holes.iter().any(|h| overlaps(h, gap))
            && gap.start_us >= first
            && gap.end_us.is_some_and(|e| e <= last)
    };
    let refilled = noted.iter().filter(covered).map(|gap| TimelineGap {
        start_us: gap.start_us,
        end_us: gap.end_us.unwrap_or(gap.start_us),
        cause: gap.cause.clone(),
        state: GapState::Refilled,
        evidence: gap.evidence.clone(),
        frames: gap.frames,
    });
    let mut all: Vec<TimelineGap> = open.chain(refilled).collect();
    all.sort_by_key(|g| (g.start_us, g.end_us));
    all
}
