//! The timeline of a stream: what is there, who recorded it, and what is missing and why. Pure.

use serde::Serialize;
use uuid::Uuid;

use crate::canonical::{Chosen, PAUSE};
use crate::compared::Compared;
use crate::gaps::UNKNOWN;
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
    /// For how long it shows what the one before it shows, microseconds.
    pub overlap_us: i64,
}

/// How it stands with a gap: derived from what is here and what is known of the peer, each time anew. A refill rewrites no
/// record of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum GapState {
    /// These frames are not here, and the peer may have them: it lasts, the peer was not asked since, or what it holds of that
    /// time is still to come.
    Open,
    /// This member missed them, the recording has them.
    Refilled,
    /// Neither member holds them.
    Lost,
}

/// A gap of the merged recording, or of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineGap {
    /// Where it begins, microseconds since the Unix epoch.
    pub start_us: i64,
    /// Where it ends, microseconds since the Unix epoch; `None` while it lasts.
    pub end_us: Option<i64>,
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
        let joined = before.is_some_and(|b| continues(b, next)) && !next.overlaps();
        let doubled = u64::from(next.copies > 1);
        match out.last_mut() {
            Some(span) if joined => {
                span.end_us = next.gop.end_us();
                span.frames += next.gop.frames() as u64;
                span.segments += u64::from(before.is_some_and(|b| b.gop.id != next.gop.id));
                span.doubled += doubled;
            }
            _ => out.push(Span {
                start_us: next.gop.start_us,
                end_us: next.gop.end_us(),
                frames: next.gop.frames() as u64,
                member: next.gop.id.member.clone(),
                store: next.gop.id.store,
                pair_epoch: next.gop.pair_epoch,
                stream_epoch: next.gop.stream_epoch,
                owner: next.gop.owner,
                segments: 1,
                doubled,
                overlaps: next.overlaps(),
                overlap_us: next.seam_us.unwrap_or(0),
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

/// The hole between two neighbours, if at least one frame is missing there. Where a writer has both without a hole between
/// them there is none, whatever the clocks of the writers of the chosen copies say.
pub fn hole(before: &Chosen, next: &Chosen) -> Option<(i64, i64)> {
    if next.follows {
        return None;
    }
    let (a, b) = (&before.gop, &next.gop);
    let (frame, apart) = (a.frame_us(), b.start_us - a.end_us());
    (apart * TOLERANCE.1 > frame * (TOLERANCE.0 - TOLERANCE.1)).then_some((a.end_us(), b.start_us))
}

/// For how long nothing came between two neighbours though nothing is missing there, if that was a second or more.
pub fn pause(before: &Chosen, next: &Chosen) -> Option<(i64, i64)> {
    let (end_us, start_us) = (before.gop.end_us(), next.gop.start_us);
    (next.follows && start_us - end_us >= PAUSE * 100 / 9).then_some((end_us, start_us))
}

/// The gaps of the merged recording, each with the cause that the ledger of the member with volume `store` has for it, and
/// those that this member noted and that lie within what is recorded. What was refilled of a gap in part is listed by itself.
pub fn gaps(chosen: &[Chosen], noted: &[Gap], store: Uuid, compared: &Compared) -> Vec<TimelineGap> {
    let holes: Vec<(i64, i64)> = chosen.windows(2).filter_map(|w| hole(&w[0], &w[1])).collect();
    let recorded = Recorded {
        store,
        first_us: chosen.first().map_or(i64::MAX, |c| c.gop.start_us),
        last_us: chosen.last().map_or(i64::MIN, |c| c.gop.end_us()),
        groups: ByTime::of(chosen, |c| by_clock_of(c, store)),
        holes: ByTime::of(&holes, |hole| *hole),
        compared,
    };
    let causes = ByTime::of(noted, |gap| (gap.start_us, gap.end_us.unwrap_or(i64::MAX)));
    let missing = holes.iter().map(|hole| unrecorded(*hole, &causes, compared));
    let noted = noted.iter().flat_map(|gap| recorded.noted(gap));
    let mut all: Vec<TimelineGap> = missing.chain(noted).collect();
    all.sort_by_key(|g| (g.start_us, g.end_us));
    all
}

/// The gap that a hole is.
fn unrecorded(hole: (i64, i64), causes: &ByTime<&Gap>, compared: &Compared) -> TimelineGap {
    let cause = closest(hole, causes);
    TimelineGap {
        start_us: hole.0,
        end_us: Some(hole.1),
        cause: cause.map_or_else(|| UNKNOWN.into(), |g| g.cause.clone()),
        state: unless_held(hole, compared),
        evidence: cause.map_or_else(String::new, |g| g.evidence.clone()),
        frames: cause.and_then(|gap| noted_of(gap, hole)),
    }
}

/// How many of the frames that were noted are missing in a hole: where a part of the gap was refilled since, as many as the hole is of its
/// length.
fn noted_of(gap: &Gap, (start_us, end_us): (i64, i64)) -> Option<u64> {
    let (noted, whole) = (gap.frames?, i128::from(gap.end_us? - gap.start_us));
    let part = i128::from(end_us - start_us).min(whole);
    let frames = (i128::from(noted) * part + whole / 2).checked_div(whole);
    Some(
        frames
            .and_then(|frames| u64::try_from(frames).ok())
            .unwrap_or(noted),
    )
}

/// The state of a span that ended and whose frames are not here.
fn unless_held(span: (i64, i64), compared: &Compared) -> GapState {
    if compared.may_hold(span) {
        GapState::Open
    } else {
        GapState::Lost
    }
}

/// What is recorded, as one member sees it.
struct Recorded<'a> {
    store: Uuid,
    first_us: i64,
    last_us: i64,
    groups: ByTime<&'a Chosen>,
    holes: ByTime<&'a (i64, i64)>,
    compared: &'a Compared,
}

impl Recorded<'_> {
    /// What is to be said of a gap that this member noted, besides the holes in it.
    fn noted(&self, gap: &Gap) -> Vec<TimelineGap> {
        let listed = |start_us, end_us, state| TimelineGap {
            start_us,
            end_us,
            cause: gap.cause.clone(),
            state,
            evidence: gap.evidence.clone(),
            frames: gap
                .frames
                .filter(|_| (start_us, end_us) == (gap.start_us, gap.end_us)),
        };
        let Some(end_us) = gap.end_us else {
            // Where the other member's media goes on in it, it is refilled so far.
            let so_far = self.last_us.max(gap.start_us);
            let refilled = so_far > gap.start_us && self.is_refilled(gap, so_far);
            let state = if refilled {
                GapState::Refilled
            } else {
                GapState::Open
            };
            return vec![listed(gap.start_us, None, state)];
        };
        let holes: Vec<(i64, i64)> = self.holes.during(gap.start_us, end_us).map(|h| *h.2).collect();
        if holes.is_empty() {
            if gap.start_us < self.first_us || end_us > self.last_us {
                return Vec::new();
            }
            let state = if self.is_refilled(gap, end_us) {
                GapState::Refilled
            } else {
                unless_held((gap.start_us, end_us), self.compared)
            };
            return vec![listed(gap.start_us, Some(end_us), state)];
        }
        let within = (gap.start_us.max(self.first_us), end_us.min(self.last_us));
        let between = without(within, &holes).into_iter();
        let refilled = between.filter(|(start_us, end_us)| {
            let part = Gap {
                start_us: *start_us,
                frames: None,
                ..gap.clone()
            };
            self.is_refilled(&part, *end_us)
        });
        refilled
            .map(|(start_us, end_us)| listed(start_us, Some(end_us), GapState::Refilled))
            .collect()
    }

    /// Whether the frames that this member missed are played from another's copy: every group of pictures in the gap is, and
    /// has more frames there than here.
    fn is_refilled(&self, gap: &Gap, end_us: i64) -> bool {
        if gap.frames == Some(0) {
            return true;
        }
        let within = |(start, end, c): &&(i64, i64, &Chosen)| {
            (*end).min(end_us) - (*start).max(gap.start_us)
                > (c.gop.frame_us() / 2).min((end_us - gap.start_us) / 2)
        };
        let refills = |(_, _, c): &(i64, i64, &Chosen)| {
            let here = c.holdings.iter().find(|h| h.store == self.store);
            c.gop.id.store != self.store && here.is_none_or(|h| h.frames < c.gop.frames())
        };
        let mut groups = self.groups.during(gap.start_us, end_us).filter(within).peekable();
        groups.peek().is_some() && groups.all(refills)
    }
}

/// Spans of time by their start, to find those in a stretch of time fast.
struct ByTime<T> {
    spans: Vec<(i64, i64, T)>,
    longest_us: i64,
}

impl<'a, T> ByTime<&'a T> {
    fn of(items: &'a [T], span: impl Fn(&T) -> (i64, i64)) -> Self {
        let with_span = |item: &'a T| {
            let (start, end) = span(item);
            (start, end, item)
        };
        let mut spans: Vec<_> = items.iter().map(with_span).collect();
        spans.sort_by_key(|(start, end, _)| (*start, *end));
        let longest = spans
            .iter()
            .map(|(start, end, _)| end.saturating_sub(*start))
            .max();
        Self {
            spans,
            longest_us: longest.unwrap_or(0),
        }
    }

    /// Those that overlap the time from `start_us` to `end_us`.
    fn during(&self, start_us: i64, end_us: i64) -> impl Iterator<Item = &(i64, i64, &'a T)> {
        let earliest = start_us.saturating_sub(self.longest_us);
        let from = self.spans.partition_point(|(start, ..)| *start < earliest);
        let rest = self.spans[from..].iter();
        rest.take_while(move |(start, ..)| *start < end_us)
            .filter(move |(_, end, _)| *end > start_us)
    }
}

/// What is left of a span without `holes`, which are in the order of time.
fn without((start, end): (i64, i64), holes: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let (mut left, mut at) = (Vec::new(), start);
    for (from, to) in holes {
        left.push((at, *from));
        at = at.max(*to);
    }
    left.push((at, end));
    left.retain(|(from, to)| from < to);
    left
}

/// The gap that explains a hole best: of those that overlap it the one with the nearest bounds. One that has no end is
/// taken only where there is no other.
fn closest<'a>(hole: (i64, i64), causes: &ByTime<&'a Gap>) -> Option<&'a Gap> {
    let distance = |gap: &&Gap| {
        let end = gap.end_us.unwrap_or(hole.1);
        let apart = (gap.start_us - hole.0).abs() + (end - hole.1).abs();
        (gap.end_us.is_none(), apart)
    };
    causes
        .during(hole.0, hole.1)
        .map(|found| found.2)
        .min_by_key(distance)
}

/// When a group of pictures begins and ends by the clock of the member with volume `store`, which noted the gap.
fn by_clock_of(chosen: &Chosen, store: Uuid) -> (i64, i64) {
    let here = chosen.holdings.iter().find(|h| h.store == store);
    let start_us = here.map_or(chosen.gop.start_us, |h| h.start_us);
    (start_us, start_us + chosen.gop.duration_us())
}

#[cfg(test)]
mod tests;
