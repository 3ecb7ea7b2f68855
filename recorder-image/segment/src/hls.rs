//! An HLS playlist (RFC 8216, version 8 with `EXT-X-GAP`) over the recorded files: byte ranges of sealed and open segments,
//! no remux. Pure: the addresses come from the caller.

use std::fmt::Write as _;

use crate::canonical::{Chosen, Gop};
use crate::id::SegmentId;
use crate::timeline::{hole, pause};

/// The most that one entry plays, microseconds; `EXT-X-TARGETDURATION` is this, for ever.
const ENTRY_US: i64 = 10_000_000;
/// In a playlist that grows an entry begins with the first group of each so many ticks of media time: where it ends does not
/// depend on what comes later, and it comes soon.
const LIVE_TICKS: i64 = 2 * 90_000;
/// In a playlist that grows, what comes after a hole waits so long, so that replication can fill it before; and what comes
/// after the end of another encode, which may only be late.
const SETTLE_US: i64 = 10_000_000;

/// Whether a playlist grows.
pub enum Kind<'a> {
    /// Nothing will be added (`EXT-X-ENDLIST`).
    Ended,
    /// It grows. Only what cannot change any more is in it: groups that are complete, or whose file is sealed, as the
    /// function says, or that are long past.
    Live(&'a dyn Fn(&SegmentId) -> bool),
}

/// A group of pictures, or a part of one that is too long for one entry.
struct Piece<'a> {
    gop: &'a Gop,
    offset: u64,
    len: u64,
    start_us: i64,
    duration_us: i64,
    gap_before: Option<(i64, i64)>,
    /// Whether another encode of the camera goes on here.
    seam: bool,
}

/// One entry: consecutive pieces of one file.
struct Entry<'a> {
    first: Piece<'a>,
    last: &'a Gop,
    len: u64,
    duration_us: i64,
}

impl<'a> Entry<'a> {
    fn begin(piece: Piece<'a>) -> Self {
        Self {
            last: piece.gop,
            len: piece.len,
            duration_us: piece.duration_us,
            first: piece,
        }
    }

    fn id(&self) -> &'a SegmentId {
        &self.first.gop.id
    }

    fn takes(&self, next: &Piece<'_>, grows: bool) -> bool {
        next.gap_before.is_none()
            && !next.seam
            && *self.id() == next.gop.id
            && self.first.offset + self.len == next.offset
            && self.duration_us + next.duration_us <= ENTRY_US
            && (!grows || cell(self.first.gop.dts) == cell(next.gop.dts))
    }

    /// Whether what comes late can be added to it, in a playlist that grows.
    fn has_room(&self) -> bool {
        cell(self.first.gop.dts) == cell(self.last.dts + self.last.duration.cast_signed())
    }
}

fn cell(dts: i64) -> i64 {
    dts.div_euclid(LIVE_TICKS)
}

/// The parts of a group that one entry can hold, each. A long pause of the camera lies between two of them as a hole does: no player waits.
fn pieces(chosen: &Chosen, gap_before: Option<(i64, i64)>) -> impl Iterator<Item = Piece<'_>> {
    let gop = &chosen.gop;
    let us = |ticks: u64| (ticks * 100 / 9) as i64;
    let first = (gop.offset, 0, gap_before, chosen.seam_us.is_some());
    let begins = gop.cuts.iter().map(move |c| {
        let (from, to) = (us(c.at), us(c.at + c.pause));
        let pause = (gop.start_us + from, gop.start_us + to);
        (c.offset, to, (c.pause > 0).then_some(pause), false)
    });
    let ends = gop.cuts.iter().map(|c| (c.offset, c.at));
    let ends = ends.chain([(gop.offset + gop.len, gop.duration)]);
    let pieces = std::iter::once(first).chain(begins).zip(ends);
    pieces.map(move |((offset, at_us, gap_before, seam), (end, until))| Piece {
        gop,
        offset,
        len: end - offset,
        start_us: gop.start_us + at_us,
        duration_us: us(until) - at_us,
        gap_before,
        seam,
    })
}

fn entries<'a>(chosen: &'a [Chosen], kind: &Kind<'_>) -> Vec<Entry<'a>> {
    let (mut out, grows): (Vec<Entry<'_>>, bool) = (Vec::new(), matches!(kind, Kind::Live(_)));
    for (i, next) in chosen.iter().enumerate() {
        let before = i.checked_sub(1).map(|before| &chosen[before]);
        let gap = before.and_then(|before| hole(before, next).or_else(|| pause(before, next)));
        for piece in pieces(next, gap) {
            match out.last_mut() {
                Some(entry) if entry.takes(&piece, grows) => {
                    entry.len += piece.len;
                    entry.duration_us += piece.duration_us;
                    entry.last = piece.gop;
                }
                _ => out.push(Entry::begin(piece)),
            }
        }
    }
    if let Kind::Live(sealed) = kind {
        out.truncate(settled(&out, sealed));
    }
    out
}

/// How many entries cannot change any more: nothing that is published may (RFC 8216, 6.2.1).
fn settled(entries: &[Entry<'_>], sealed: &dyn Fn(&SegmentId) -> bool) -> usize {
    let end_us = |e: &Entry<'_>| e.last.end_us();
    let newest_us = entries.iter().map(end_us).max().unwrap_or(0);
    let waits = |e: &Entry<'_>| {
        let unsure = e.first.gap_before.is_some() || e.first.seam;
        unsure && newest_us - e.first.start_us < SETTLE_US
    };
    let is_settled = |(i, entry): (usize, &Entry<'_>)| {
        let (gop, rest) = (entry.last, &entries[i + 1..]);
        // A file that its writer left open is not waited for for ever; what the peer has of it comes before.
        let left = |e: &Entry<'_>| *e.id() != gop.id && end_us(e) - gop.end_us() > SETTLE_US;
        let is_next_begun = gop.complete && !rest.is_empty();
        let ended = is_next_begun || sealed(&gop.id) || rest.iter().any(left);
        ended && !waits(entry) && !(entry.has_room() && rest.first().is_some_and(waits))
    };
    entries.iter().enumerate().take_while(|e| is_settled(*e)).count()
}

/// The playlist. `uri` gives the address of a segment's file, `head_len` the length of its head in bytes.
pub fn playlist(
    chosen: &[Chosen],
    kind: &Kind<'_>,
    uri: impl Fn(&SegmentId) -> String,
    head_len: impl Fn(&SegmentId) -> u64,
) -> String {
    let entries = entries(chosen, kind);
    let ended = matches!(kind, Kind::Ended);
    let mut out = format!(
        "#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:{}\n",
        ENTRY_US / 1_000_000,
        if ended { "VOD" } else { "EVENT" },
    );
    let mut before: Option<&Entry<'_>> = None;
    for entry in &entries {
        let (id, gap) = (entry.id(), entry.first.gap_before);
        let address = uri(id);
        if let Some((start, end)) = gap {
            write_gap(&mut out, start, end, &address);
        }
        let new_file = before.is_none_or(|b| b.id() != id);
        if before.is_some_and(|b| b.last.run != entry.first.gop.run) || gap.is_some() {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if new_file {
            let _ = writeln!(
                out,
                "#EXT-X-MAP:URI=\"{address}\",BYTERANGE=\"{}@0\"",
                head_len(id)
            );
            let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", rfc3339(entry.first.start_us));
        }
        let _ = writeln!(
            out,
            "#EXTINF:{}.{:06},",
            entry.duration_us / 1_000_000,
            entry.duration_us % 1_000_000
        );
        let _ = writeln!(
            out,
            "#EXT-X-BYTERANGE:{}@{}\n{address}",
            entry.len, entry.first.offset
        );
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
    // A day in pieces of ten seconds is enough; of what is longer the date of the next entry tells.
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

/// A playlist of one playlist, `uri`: a player asks for that one again and again, so its beginning stays where it is.
/// `chosen` is what it holds now.
pub fn multivariant(chosen: &[Chosen], uri: &str) -> String {
    let rate = |c: &Chosen| c.gop.len * 8 * 90_000 / c.gop.duration.max(1);
    let peak = chosen.iter().map(rate).max().unwrap_or(0).max(1);
    format!("#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-STREAM-INF:BANDWIDTH={peak}\n{uri}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{Cut, PART, choose};
    use uuid::Uuid;

    /// A group of `ticks` that begins at `dts` in a file.
    fn gop(file: u64, dts: i64, ticks: u64) -> Gop {
        let bytes = |ticks: i64| ticks.cast_unsigned() / 90;
        Gop {
            id: SegmentId {
                stream: Uuid::nil(),
                store: Uuid::nil(),
                member: "m".into(),
                incarnation: 1,
                sequence: file,
            },
            run: Uuid::nil(),
            offset: bytes(dts),
            len: ticks / 90,
            start_us: dts * 100 / 9,
            dts,
            duration: ticks,
            paused: 0,
            hashes: vec![dts.to_be_bytes().repeat(2).try_into().unwrap()],
            unread: None,
            cuts: Vec::new(),
            complete: true,
            pair_epoch: 1,
            stream_epoch: 0,
            owner: true,
        }
    }

    fn live(gops: Vec<Gop>, ended: impl Fn(&SegmentId) -> bool) -> String {
        playlist(&choose(gops), &Kind::Live(&ended), SegmentId::stem, |_| 1)
    }

    fn durations(text: &str) -> Vec<f64> {
        let entry = |l: &str| l.strip_prefix("#EXTINF:")?.trim_end_matches(',').parse().ok();
        text.lines().filter_map(entry).collect()
    }

    /// A recording of groups of one second: a file each 30 s, a hole of 5 s in front of second 45. The last group is half there.
    fn until(half_seconds: i64) -> Vec<Gop> {
        let seconds = (0..(half_seconds + 1) / 2).filter(|s| !(40..45).contains(s));
        let mut gops: Vec<Gop> = seconds.map(|s| gop(s as u64 / 30, s * 90_000, 90_000)).collect();
        if let Some(last) = gops.last_mut() {
            last.complete = false;
            let half = half_seconds % 2 == 1;
            last.duration = if half { 45_000 } else { 90_000 };
            last.len = last.duration / 90;
        }
        gops
    }

    #[test]
    fn a_playlist_that_grows_only_adds() {
        let mut before = String::new();
        for half_seconds in 0..200 {
            let gops = until(half_seconds);
            let newest = gops.last().map(|g| g.id.clone());
            let text = live(gops, |id| Some(id) != newest.as_ref());
            assert!(
                text.starts_with(&before),
                "{before}\nthen, at {half_seconds}:\n{text}"
            );
            before = text;
        }
        let played: f64 = durations(&before).iter().sum();
        assert!(played > 96.0, "{played}: {before}");
        assert_eq!(before.matches("#EXT-X-TARGETDURATION:10\n").count(), 1);
    }

    #[test]
    fn a_group_waits_until_it_cannot_grow() {
        let open = |_: &SegmentId| false;
        let mut last = gop(0, 90_000 * 2, 45_000);
        last.complete = false;
        let gops = vec![gop(0, 0, 90_000), gop(0, 90_000, 90_000), last.clone()];
        assert_eq!(durations(&live(gops.clone(), open)), [2.0]);
        assert_eq!(durations(&live(gops, |_| true)), [2.0, 0.5]);
        // An open file that its writer left for good blocks nothing.
        let gops = vec![last, gop(1, 90_000 * 30, 90_000), gop(1, 90_000 * 50, 90_000)];
        assert!(live(gops, open).contains("#EXTINF:0.500000"));
    }

    #[test]
    fn a_hole_waits_for_replication() {
        let gops = |to: i64| {
            let seconds = (0..4).chain(8..to);
            seconds.map(|s| gop(0, s * 90_000, 90_000)).collect::<Vec<_>>()
        };
        assert!(!live(gops(14), |_| true).contains("EXT-X-GAP"));
        assert!(live(gops(30), |_| true).contains("EXT-X-GAP"));
    }

    #[test]
    fn encodes_of_two_members_are_a_playlist_that_only_adds() {
        use crate::canonical::unlike::tests::run;
        // A member dies, the other goes on; it comes again, and the other dies.
        let whole = [
            run(1, 1, 0, 25, 20, true),
            run(2, 1, 400, 25, 40, false),
            run(1, 2, 24_300, 25, 40, false),
        ]
        .concat();
        // What a catalogue has at a time: of the other member's groups only those of a second ago.
        let at = |now_us: i64, here: u128| {
            let late_us = |g: &Gop| i64::from(g.id.store.as_u128() != here) * 1_000_000;
            let known = whole
                .iter()
                .filter(|g| g.start_us + late_us(g) + 40_000 <= now_us);
            let grown = known.map(|g| {
                let (mut g, us) = (g.clone(), now_us - late_us(g) - g.start_us);
                g.complete = g.duration_us() <= us && g.complete;
                g.duration = g.duration.min((us / 100 * 9).cast_unsigned());
                g
            });
            grown.collect::<Vec<Gop>>()
        };
        for here in [1, 2] {
            let mut before = String::new();
            // The member that begins later sees the beginning of the other's late.
            for tick in 20..800 {
                let text = live(at(tick * 100_000, here), |_| false);
                assert!(text.starts_with(&before), "{before}\nthen, at {tick}:\n{text}");
                before = text;
            }
            let played: f64 = durations(&before).iter().sum();
            assert!((63.0..66.0).contains(&played), "{played}: {before}");
        }
    }

    #[test]
    fn a_long_group_is_cut_so_that_the_target_duration_is_honoured() {
        let mut long = gop(0, 0, PART * 5 / 2);
        long.cuts = [1, 2]
            .map(|n| Cut {
                offset: n * PART / 90,
                at: n * PART,
                pause: 0,
            })
            .to_vec();
        let text = playlist(&choose(vec![long]), &Kind::Ended, SegmentId::stem, |_| 1);
        assert_eq!(durations(&text), [10.0, 10.0, 5.0]);
        assert!(text.contains("#EXT-X-BYTERANGE:5000@20000\n"), "{text}");
    }

    #[test]
    fn a_long_pause_is_skipped_within_a_group_and_between_two() {
        let seconds = |n: u64| n * 90_000;
        let mut paused = gop(0, 0, seconds(17));
        paused.cuts = vec![Cut {
            offset: 500,
            at: seconds(3),
            pause: seconds(12),
        }];
        let mut next = gop(0, 28 * 90_000, seconds(5));
        (next.offset, next.paused) = (paused.offset + paused.len, 11 * 90_000);
        let chosen = choose(vec![paused, next]);
        assert!(chosen[1].follows && hole(&chosen[0], &chosen[1]).is_none());
        let text = playlist(&chosen, &Kind::Ended, SegmentId::stem, |_| 1);
        assert_eq!(durations(&text), [3.0, 10.0, 2.0, 2.0, 10.0, 1.0, 5.0], "{text}");
        assert_eq!(text.matches("#EXT-X-GAP").count(), 4, "{text}");
        assert!(text.contains("#EXT-X-BYTERANGE:500@0\n"), "{text}");
    }
}
