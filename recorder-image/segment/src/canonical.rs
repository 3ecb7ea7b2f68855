//! Which copy of a group of pictures is played. Pure: it needs no authority, only the catalogue.
//!
//! Two copies are the same pictures when the hashes of one are a prefix of the other's and they begin within 2 s of wall
//! clock (static scenes repeat hashes; a writer that died leaves a prefix). Of the same pictures the copy with most frames
//! is played; among those a complete one before one whose end is not known, an owner's before another's, the higher
//! (pair epoch, stream epoch), and last the lower store id.

use std::cmp::Reverse;

use uuid::Uuid;

use crate::entry::Fragment;
use crate::hash::FrameHash;
use crate::header::Header;
use crate::id::SegmentId;

/// How far apart two copies of the same pictures may begin, microseconds.
pub const WINDOW_US: i64 = 2_000_000;

/// One copy of a group of pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gop {
    /// The segment that it is in.
    pub id: SegmentId,
    /// The run.
    pub run: Uuid,
    /// Where it begins in the file, bytes.
    pub offset: u64,
    /// Its length, bytes.
    pub len: u64,
    /// Wall clock of its first frame, microseconds since the Unix epoch.
    pub start_us: i64,
    /// Decoding time of its first frame in the run, 1/90000 s.
    pub dts: i64,
    /// Its duration, 1/90000 s.
    pub duration: u64,
    /// The hash of every frame.
    pub hashes: Vec<FrameHash>,
    /// Whether the next key frame followed in the same run.
    pub complete: bool,
    /// The pair's epoch at the segment's opening.
    pub pair_epoch: u64,
    /// The stream's epoch at the segment's opening.
    pub stream_epoch: u64,
    /// Whether the writer owned the stream then.
    pub owner: bool,
}

impl Gop {
    pub(crate) fn begin(header: &Header, fragment: &Fragment, hashes: Vec<FrameHash>) -> Self {
        Self {
            id: header.id.clone(),
            run: header.run,
            offset: fragment.offset,
            len: u64::from(fragment.len),
            start_us: fragment.start_us,
            dts: fragment.dts,
            duration: fragment.duration,
            hashes,
            complete: false,
            pair_epoch: header.pair_epoch,
            stream_epoch: header.stream_epoch,
            owner: header.owner,
        }
    }

    pub(crate) fn extend(&mut self, fragment: &Fragment, hashes: Vec<FrameHash>) {
        self.len += u64::from(fragment.len);
        self.duration += fragment.duration;
        self.hashes.extend(hashes);
    }

    /// Wall clock of its end, microseconds since the Unix epoch.
    pub fn end_us(&self) -> i64 {
        self.start_us + self.duration_us()
    }

    /// Its duration, microseconds.
    pub fn duration_us(&self) -> i64 {
        (self.duration * 100 / 9) as i64
    }

    /// Whether `other` shows the same pictures, as far as both go.
    fn same_pictures(&self, other: &Self) -> bool {
        let common = self.hashes.len().min(other.hashes.len());
        common > 0
            && (self.start_us - other.start_us).abs() <= WINDOW_US
            && self.hashes[..common] == other.hashes[..common]
    }

    /// What is played first has the highest rank.
    fn rank(&self) -> impl Ord + use<> {
        let epochs = (self.pair_epoch, self.stream_epoch);
        (
            self.hashes.len(),
            self.complete,
            self.owner,
            epochs,
            Reverse((self.id.store, self.id.clone(), self.offset)),
        )
    }
}

/// A group of pictures to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The copy to play.
    pub gop: Gop,
    /// How many copies there are of it, this one included.
    pub copies: usize,
    /// Whether it overlaps the one before, because the camera sent the two members different bytes.
    pub overlaps: bool,
}

/// Chooses among all copies of a stream's groups of pictures; the result is in the order of time.
pub fn choose(mut gops: Vec<Gop>) -> Vec<Chosen> {
    gops.sort_by_key(|g| g.start_us);
    let mut groups: Vec<Vec<Gop>> = Vec::new();
    for gop in gops {
        let near = groups
            .iter_mut()
            .rev()
            .take_while(|g| gop.start_us - g[0].start_us <= WINDOW_US);
        match near
            .into_iter()
            .find(|g| g.iter().any(|other| other.same_pictures(&gop)))
        {
            Some(group) if !group.iter().any(|other| other.id == gop.id) => group.push(gop),
            _ => groups.push(vec![gop]),
        }
    }
    let best = groups.into_iter().filter_map(|group| {
        let copies = group.len();
        group.into_iter().max_by_key(Gop::rank).map(|gop| Chosen {
            gop,
            copies,
            overlaps: false,
        })
    });
    mark_overlaps(best.collect())
}

/// Orders by time, and marks what overlaps. A choice that lies wholly within the time of a higher one of another writer is
/// another encoding of the same time: it stays in the recording, and is not played.
fn mark_overlaps(mut chosen: Vec<Chosen>) -> Vec<Chosen> {
    chosen.sort_by_key(|c| c.gop.start_us);
    let mut out: Vec<Chosen> = Vec::with_capacity(chosen.len());
    for mut next in chosen {
        let Some(last) = out.last() else {
            out.push(next);
            continue;
        };
        let frame = (last.gop.duration_us() / last.gop.hashes.len().max(1) as i64) / 2;
        let overlap = last.gop.end_us() - next.gop.start_us;
        if overlap > frame && last.gop.run != next.gop.run {
            if next.gop.end_us() <= last.gop.end_us() + frame {
                continue;
            }
            next.overlaps = true;
        }
        out.push(next);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gop(
        store: u128,
        run: u128,
        second: i64,
        frames: std::ops::Range<u8>,
        complete: bool,
        epoch: u64,
    ) -> Gop {
        let id = SegmentId {
            stream: Uuid::nil(),
            store: Uuid::from_u128(store),
            member: format!("m-{store}"),
            incarnation: run as u64,
            sequence: second as u64,
        };
        Gop {
            id,
            run: Uuid::from_u128(run),
            offset: 0,
            len: 1,
            start_us: second * 1_000_000,
            dts: second * 90_000,
            duration: 3600 * frames.len() as u64,
            hashes: frames
                .map(|f| [f.wrapping_add((second * 25) as u8); 16])
                .collect(),
            complete,
            pair_epoch: epoch,
            stream_epoch: 0,
            owner: true,
        }
    }

    #[test]
    fn the_writer_that_died_yields_to_the_whole_copy() {
        let (dead, whole) = (gop(1, 1, 0, 0..10, false, 1), gop(2, 2, 0, 0..25, true, 2));
        let chosen = choose(vec![dead, whole.clone()]);
        assert_eq!((chosen.len(), chosen[0].copies, &chosen[0].gop), (1, 2, &whole));
    }

    #[test]
    fn of_whole_copies_the_highest_epoch_is_played_and_ties_go_by_store() {
        let (old, new) = (gop(1, 1, 0, 0..25, true, 1), gop(2, 2, 0, 0..25, true, 2));
        assert_eq!(choose(vec![old.clone(), new.clone()])[0].gop, new);
        let tie = gop(2, 2, 0, 0..25, true, 1);
        assert_eq!(choose(vec![tie, old.clone()])[0].gop, old);
    }

    #[test]
    fn repeated_pictures_at_another_time_are_not_the_same() {
        let (one, mut other) = (gop(1, 1, 0, 0..25, true, 1), gop(1, 1, 60, 0..25, true, 1));
        other.hashes.clone_from(&one.hashes);
        assert_eq!(choose(vec![one, other]).len(), 2);
    }

    #[test]
    fn unlike_sessions_are_both_kept_unless_one_covers_the_other() {
        let one = gop(1, 1, 0, 0..25, true, 1);
        let mut other = gop(2, 2, 0, 100..125, true, 1);
        assert_eq!(
            choose(vec![one.clone(), other.clone()]).len(),
            1,
            "the same second, encoded twice"
        );
        other.start_us += 400_000;
        let chosen = choose(vec![one, other]);
        assert_eq!((chosen.len(), chosen[1].overlaps), (2, true));
    }

    proptest::proptest! {
        /// I1: whatever is cut from two copies of the same pictures, every frame that one of them has is played once.
        #[test]
        fn nothing_is_lost_or_doubled(cuts in proptest::collection::vec((0u8..=25, 0u8..=25, 0u64..3, 0u64..3), 1..20)) {
            let mut gops = Vec::new();
            let mut expected = Vec::new();
            for (second, (a, b, ea, eb)) in cuts.iter().enumerate() {
                let second = second as i64;
                for (store, frames, epoch) in [(1, *a, *ea), (2, *b, *eb)] {
                    if frames > 0 {
                        gops.push(gop(store, store, second, 0..frames, frames == 25, epoch));
                    }
                }
                expected.extend((0..(*a).max(*b)).map(|f| [f.wrapping_add((second * 25) as u8); 16]));
            }
            let played: Vec<FrameHash> = choose(gops).into_iter().flat_map(|c| c.gop.hashes).collect();
            proptest::prop_assert_eq!(played, expected);
        }
    }
}
