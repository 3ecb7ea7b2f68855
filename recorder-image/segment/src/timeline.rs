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
    /// For how long it shows what the one before it shows, microseconds.
    pub overlap_us: i64,
}

/// How it stands with a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum GapState {
    /// No member holds these frames, as far as is known here: nothing is played there, or a copy that lacks them.
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
    let frame = a.duration_us() / a.hashes.len().max(1) as i64;
    let apart = b.start_us - a.end_us();
    (apart * TOLERANCE.1 > frame * (TOLERANCE.0 - TOLERANCE.1)).then_some((a.end_us(), b.start_us))
}

/// The gaps of the merged recording, each with the cause that the ledger of the member with volume `store` has for it, and
/// those that this member noted and that lie within what is recorded.
pub fn gaps(chosen: &[Chosen], noted: &[Gap], store: Uuid) -> Vec<TimelineGap> {
    let holes: Vec<(i64, i64)> = chosen.windows(2).filter_map(|w| hole(&w[0], &w[1])).collect();
    let missing = holes.iter().map(|hole| {
        let cause = closest(*hole, noted);
        TimelineGap {
            start_us: hole.0,
            end_us: Some(hole.1),
            cause: cause.map_or_else(|| "Unknown".into(), |g| g.cause.clone()),
            state: GapState::Open,
            evidence: cause.map_or_else(String::new, |g| g.evidence.clone()),
            frames: cause.and_then(|g| g.frames),
        }
    });
    let first = chosen.first().map_or(i64::MAX, |c| c.gop.start_us);
    let last = chosen.last().map_or(i64::MIN, |c| c.gop.end_us());
    let covered = noted.iter().filter_map(|gap| {
        let end_us = gap.end_us.filter(|e| *e <= last && gap.start_us >= first)?;
        let is_hole = holes.iter().any(|h| overlaps(*h, gap));
        (!is_hole).then_some((gap, end_us))
    });
    let covered = covered.map(|(gap, end_us)| TimelineGap {
        start_us: gap.start_us,
        end_us: Some(end_us),
        cause: gap.cause.clone(),
        state: if is_refilled(gap, end_us, chosen, store) {
            GapState::Refilled
        } else {
            GapState::Open
        },
        evidence: gap.evidence.clone(),
        frames: gap.frames,
    });
    let lasting = noted.iter().filter_map(|gap| lasting(gap, chosen, store));
    let mut all: Vec<TimelineGap> = missing.chain(covered).chain(lasting).collect();
    all.sort_by_key(|g| (g.start_us, g.end_us));
    all
}

/// A gap that this member noted and that has no end yet. Where the other member's media goes on in it, it is refilled so far.
fn lasting(gap: &Gap, chosen: &[Chosen], store: Uuid) -> Option<TimelineGap> {
    if gap.end_us.is_some() {
        return None;
    }
    let last_us = chosen.last().map_or(gap.start_us, |c| c.gop.end_us());
    let refilled = last_us > gap.start_us && is_refilled(gap, last_us, chosen, store);
    Some(TimelineGap {
        start_us: gap.start_us,
        end_us: None,
        cause: gap.cause.clone(),
        state: if refilled {
            GapState::Refilled
        } else {
            GapState::Open
        },
        evidence: gap.evidence.clone(),
        frames: None,
    })
}

fn overlaps((start, end): (i64, i64), gap: &Gap) -> bool {
    gap.start_us < end && gap.end_us.is_none_or(|e| e > start)
}

/// The gap that explains a hole best: of those that overlap it the one with the nearest bounds. One that has no end is
/// taken only where there is no other.
fn closest(hole: (i64, i64), noted: &[Gap]) -> Option<&Gap> {
    let distance = |gap: &&Gap| {
        let end = gap.end_us.unwrap_or(hole.1);
        let apart = (gap.start_us - hole.0).abs() + (end - hole.1).abs();
        (gap.end_us.is_none(), apart)
    };
    noted.iter().filter(|g| overlaps(hole, g)).min_by_key(distance)
}

/// Whether the frames that the member with volume `store` missed are played from another's copy: every group of pictures in
/// the gap is, and has more frames there than here.
fn is_refilled(gap: &Gap, end_us: i64, chosen: &[Chosen], store: Uuid) -> bool {
    if gap.frames == Some(0) {
        return true;
    }
    let within = |c: &&Chosen| {
        let (start, end) = by_clock_of(c, store);
        let frame_us = c.gop.duration_us() / c.gop.hashes.len().max(1) as i64;
        end.min(end_us) - start.max(gap.start_us) > (frame_us / 2).min((end_us - gap.start_us) / 2)
    };
    let refills = |c: &Chosen| {
        let here = c.holdings.iter().find(|h| h.store == store);
        c.gop.id.store != store && here.is_none_or(|h| h.frames < c.gop.hashes.len())
    };
    let mut groups = chosen.iter().filter(within).peekable();
    groups.peek().is_some() && groups.all(refills)
}

/// When a group of pictures begins and ends by the clock of the member with volume `store`, which noted the gap.
fn by_clock_of(chosen: &Chosen, store: Uuid) -> (i64, i64) {
    let here = chosen.holdings.iter().find(|h| h.store == store);
    let start_us = here.map_or(chosen.gop.start_us, |h| h.start_us);
    (start_us, start_us + chosen.gop.duration_us())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{Gop, choose};
    use crate::id::SegmentId;

    /// Second `second` as a store has it, without the frames `lacks`.
    fn second(store: u128, second: i64, lacks: std::ops::Range<u8>) -> Gop {
        Gop {
            id: SegmentId {
                stream: Uuid::nil(),
                store: Uuid::from_u128(store),
                member: format!("m-{store}"),
                incarnation: store as u64,
                sequence: second as u64,
            },
            run: Uuid::from_u128(store),
            offset: 0,
            len: 1,
            start_us: second * 1_000_000,
            dts: second * 90_000,
            duration: 90_000,
            hashes: (0..25)
                .filter(|f| !lacks.contains(f))
                .map(|f| [(second * 25) as u8 + f; 16])
                .collect(),
            cuts: Vec::new(),
            complete: true,
            pair_epoch: 1,
            stream_epoch: 0,
            owner: true,
        }
    }

    fn noted(start_ms: i64, end_ms: Option<i64>, cause: &str) -> Gap {
        Gap {
            start_us: start_ms * 1000,
            end_us: end_ms.map(|ms| ms * 1000),
            cause: cause.into(),
            evidence: String::new(),
            frames: None,
        }
    }

    fn states(gops: Vec<Gop>, gap: Gap) -> Vec<(i64, GapState)> {
        let found = gaps(&choose(gops), &[gap], Uuid::from_u128(1));
        found.iter().map(|g| (g.start_us / 1000, g.state)).collect()
    }

    #[test]
    fn a_gap_is_refilled_only_by_another_copy_with_more_frames() {
        let gap = || noted(1200, Some(1280), "PacketLoss");
        let own = || (0..3).map(|s| second(1, s, if s == 1 { 5..7 } else { 0..0 }));
        let peers = |lacks: std::ops::Range<u8>| (0..3).map(move |s| second(2, s, lacks.clone()));
        assert_eq!(
            states(own().collect(), gap()),
            [(1200, GapState::Open)],
            "nobody has them"
        );
        assert_eq!(
            states(own().chain(peers(5..7)).collect(), gap()),
            [(1200, GapState::Open)],
            "the peer lacks as many"
        );
        assert_eq!(
            states(own().chain(peers(0..0)).collect(), gap()),
            [(1200, GapState::Refilled)]
        );
    }

    #[test]
    fn a_gap_over_groups_that_only_the_peer_has_is_refilled_whatever_its_clock() {
        for late_us in [-300_000, 0, 300_000] {
            let mut first = second(1, 1, 10..25);
            (first.duration, first.complete) = (36_000, false);
            let own = [second(1, 0, 0..0), first, second(1, 4, 0..0)];
            let peers = (0..6).map(|s| {
                let mut g = second(2, s, 0..0);
                // It is the one that is played.
                (g.start_us, g.pair_epoch) = (g.start_us + late_us, 2);
                g
            });
            let found = states(
                own.into_iter().chain(peers).collect(),
                noted(1400, Some(4000), "Disconnected"),
            );
            assert_eq!(found, [(1400, GapState::Refilled)], "{late_us}");
        }
    }

    #[test]
    fn the_closest_gap_explains_a_hole() {
        let gops = || vec![second(1, 0, 0..0), second(1, 5, 0..0)];
        let stale = noted(-9000, None, "Disconnected");
        let near = noted(1000, Some(5000), "RecorderRestart");
        let wide = noted(-9000, Some(9000), "Watchdog");
        let cause = |noted: &[Gap]| {
            let found = gaps(&choose(gops()), noted, Uuid::nil());
            let hole = found.into_iter().find(|g| g.end_us.is_some());
            hole.map(|g| g.cause).unwrap()
        };
        assert_eq!(cause(&[stale.clone(), wide, near]), "RecorderRestart");
        assert_eq!(cause(&[stale]), "Disconnected");
        assert_eq!(cause(&[]), "Unknown");
    }

    #[test]
    fn a_gap_that_lasts_is_listed_without_an_end() {
        let own = || (0..3).map(|s| second(1, s, 0..0));
        let found = |gops: Vec<Gop>| {
            gaps(
                &choose(gops),
                &[noted(3000, None, "Watchdog")],
                Uuid::from_u128(1),
            )
        };
        let silent = found(own().collect());
        assert_eq!(
            (silent.len(), silent[0].end_us, silent[0].state),
            (1, None, GapState::Open)
        );
        let peer = found(own().chain((3..6).map(|s| second(2, s, 0..0))).collect());
        assert_eq!(
            (peer.len(), peer[0].end_us, peer[0].state),
            (1, None, GapState::Refilled)
        );
    }

    #[test]
    fn the_seam_of_two_writers_is_no_hole_where_one_has_both_sides() {
        let mut gops: Vec<Gop> = (0..3).map(|s| second(1, s, 0..0)).collect();
        let late = |mut g: Gop| {
            (g.start_us, g.pair_epoch) = (g.start_us + 300_000, 0);
            g
        };
        gops.extend((2..5).map(|s| late(second(2, s, 0..0))));
        let chosen = choose(gops.clone());
        assert_eq!(chosen[2].gop.id.store, Uuid::from_u128(1), "the seam is after it");
        assert_eq!(gaps(&chosen, &[], Uuid::nil()), []);
        // Where nobody has both sides, the clocks decide.
        gops.retain(|g| g.id.sequence != 2);
        assert_eq!(gaps(&choose(gops), &[], Uuid::nil()).len(), 1);
    }
}
