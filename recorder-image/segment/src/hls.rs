//! An HLS playlist (RFC 8216, version 8 with `EXT-X-GAP`) over the recorded files: byte ranges of sealed and open segments,
//! no remux. Pure: the addresses come from the caller.

use std::fmt::Write as _;

use crate::canonical::{Chosen, Gop};
use crate::id::SegmentId;
use crate::timeline::hole;

/// The most that one entry plays, microseconds.
const ENTRY_US: i64 = 10_000_000;

/// One entry: consecutive groups of pictures of one file.
struct Entry<'a> {
    id: &'a SegmentId,
    run: uuid::Uuid,
    offset: u64,
    len: u64,
    start_us: i64,
    duration_us: i64,
    gap_before: Option<(i64, i64)>,
}

impl<'a> Entry<'a> {
    fn begin(gop: &'a Gop, gap_before: Option<(i64, i64)>) -> Self {
        Self {
            id: &gop.id,
            run: gop.run,
            offset: gop.offset,
            len: gop.len,
            start_us: gop.start_us,
            duration_us: gop.duration_us(),
            gap_before,
        }
    }

    fn takes(&self, gop: &Gop) -> bool {
        *self.id == gop.id
            && self.offset + self.len == gop.offset
            && self.duration_us + gop.duration_us() <= ENTRY_US
    }
}

fn entries(chosen: &[Chosen]) -> Vec<Entry<'_>> {
    let mut out: Vec<Entry<'_>> = Vec::new();
    for (i, next) in chosen.iter().enumerate() {
        let gap = i.checked_sub(1).and_then(|before| hole(&chosen[before], next));
        match out.last_mut() {
            Some(entry) if gap.is_none() && entry.takes(&next.gop) => {
                entry.len += next.gop.len;
                entry.duration_us += next.gop.duration_us();
            }
            _ => out.push(Entry::begin(&next.gop, gap)),
        }
    }
    out
}

/// The playlist. `uri` gives the address of a segment's file, `head_len` the length of its head in bytes; `ended` says that
/// nothing will be added (`EXT-X-ENDLIST`).
pub fn playlist(
    chosen: &[Chosen],
    ended: bool,
    uri: impl Fn(&SegmentId) -> String,
    head_len: impl Fn(&SegmentId) -> u64,
) -> String {
    let entries = entries(chosen);
    let gap_s = |e: &Entry<'_>| e.gap_before.map_or(0, |(a, b)| b - a);
    let longest = entries
        .iter()
        .map(|e| e.duration_us.max(gap_s(e).min(ENTRY_US)))
        .max()
        .unwrap_or(ENTRY_US);
    let mut out = format!(
        "#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:{}\n#EXT-X-INDEPENDENT-SEGMENTS\n",
        (longest + 500_000) / 1_000_000 + 1,
        if ended { "VOD" } else { "EVENT" },
    );
    let mut before: Option<&Entry<'_>> = None;
    for entry in &entries {
        if let Some((start, end)) = entry.gap_before {
            write_gap(&mut out, start, end, &uri(entry.id));
        }
        let new_file = before.is_none_or(|b| b.id != entry.id);
        if before.is_some_and(|b| b.run != entry.run) || entry.gap_before.is_some() {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        let address = uri(entry.id);
        if new_file {
            let _ = writeln!(
                out,
                "#EXT-X-MAP:URI=\"{address}\",BYTERANGE=\"{}@0\"",
                head_len(entry.id)
            );
            let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", rfc3339(entry.start_us));
        }
        let _ = writeln!(
            out,
            "#EXTINF:{}.{:06},",
            entry.duration_us / 1_000_000,
            entry.duration_us % 1_000_000
        );
        let _ = writeln!(out, "#EXT-X-BYTERANGE:{}@{}\n{address}", entry.len, entry.offset);
        before = Some(entry);
    }
    if ended {
        out.push_str("#EXT-X-ENDLIST\n");
    }
    out
}

/// A gap, in pieces of at most [`ENTRY_US`]; a player skips them, and knows how long they are.
fn write_gap(out: &mut String, start_us: i64, end_us: i64, address: &str) {
    out.push_str("#EXT-X-DISCONTINUITY\n");
    let mut at = start_us;
    // A day in pieces of ten seconds is enough; what is longer is one long piece at the end.
    for _ in 0..8640 {
        let piece = (end_us - at).min(ENTRY_US);
        if piece <= 0 {
            break;
        }
        let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", rfc3339(at));
        let _ = writeln!(
            out,
            "#EXT-X-GAP\n#EXTINF:{}.{:06},\n{address}",
            piece / 1_000_000,
            piece % 1_000_000
        );
        at += piece;
    }
}

/// Microseconds since the Unix epoch as RFC 3339 with milliseconds.
pub fn rfc3339(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |t| format!("{t:.3}"))
}
