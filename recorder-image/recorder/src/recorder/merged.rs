//! What is recorded of a stream and what is missing, of the merged catalogue: what this member holds of both, and what it knows
//! of the rest that its peer holds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use segment::canonical::{Chosen, Gop, choose_from};
use segment::parts::{Detail, wanted};
use segment::timeline::{TimelineGap, gaps};
use segment::{Compared, Copy, Error, Gap, Index, Root, SegmentId, StreamUid};

use super::decide::written_after;
use super::state::Shared;

/// Copies that are taken under one lock of the catalogue.
pub(super) const AT_ONCE: usize = 32;
/// The most whose groups of pictures are read for one answer, all copies together, microseconds.
const MOST_READ_US: i64 = 48 * 3_600_000_000;

/// What is made of a segment whose groups of pictures cannot be read, because the disk fails there. Other errors are errors for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// An error: for who decides by what is there.
    Fails,
    /// Nothing: for who plays what can be read.
    IsLeftOut,
    /// One group, where no other copy is of its time: for who shows what is recorded.
    CountsAsOne,
}

/// Why something of the recording is not known.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// It is too much.
    #[error("an answer is made of 48 hours of media at most; ask for a part with 'from' and 'to'")]
    TooLong,
    /// The volume cannot be read.
    #[error(transparent)]
    Volume(#[from] segment::Error),
}

/// What the peer holds, as the replicator told last.
#[derive(Debug, Default)]
pub struct PeerHolds(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// When, microseconds since the Unix epoch by the own clock.
    at_us: Option<i64>,
    /// Wall clock of the newest frame of the streams that were received then: a clock that jumps ahead says nothing of the peer.
    newest_us: BTreeMap<StreamUid, i64>,
    lacking: BTreeMap<StreamUid, Vec<(i64, i64)>>,
}

impl PeerHolds {
    /// All that the peer has made durable by now is here, or in `lacking`; `newest_us` is the wall clock of the newest frame of each
    /// stream that is received here.
    pub fn tell(
        &self,
        lacking: Vec<(StreamUid, Vec<(i64, i64)>)>,
        newest_us: BTreeMap<StreamUid, i64>,
        at_us: i64,
    ) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Told {
            at_us: Some(at_us),
            newest_us,
            lacking: lacking.into_iter().collect(),
        };
    }

    /// What is known as to one stream, of which a member may write a frame for so long after it came.
    pub fn of(&self, stream: StreamUid, written_after: Duration) -> Compared {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let settle_us = i64::try_from(written_after.as_micros()).unwrap_or(i64::MAX);
        let newest_us = told.newest_us.get(&stream).copied().unwrap_or(i64::MAX);
        Compared {
            until_us: told.at_us.map(|at| at.min(newest_us).saturating_sub(settle_us)),
            lacking: told.lacking.get(&stream).cloned().unwrap_or_default(),
        }
    }
}

impl Shared {
    /// What is known of what the peer holds of a stream.
    pub(super) fn compared_of(&self, uid: StreamUid) -> Compared {
        let stream = self.registry.get(uid);
        let longest_gop = stream.and_then(|stream| stream.lock().ring.longest_gop());
        let preroll = self.settings().ring.preroll;
        self.peer_holds.of(uid, preroll + written_after(longest_gop))
    }

    /// The canonical groups of pictures of a stream in a span of time, as far as they have to be known. Reads files: not for an async task.
    ///
    /// # Errors
    /// [`NotRead`].
    pub fn chosen(
        &self,
        uid: StreamUid,
        span: (i64, i64),
        detail: Detail,
        unreadable: Unreadable,
    ) -> Result<Vec<Chosen>, NotRead> {
        Ok(choose_from(self.gops(uid, span, detail, unreadable)?, span.0))
    }

    /// All copies of the groups of pictures of a stream in a span of time. Reads files: not for an async task.
    ///
    /// # Errors
    /// [`NotRead`].
    pub fn gops(
        &self,
        uid: StreamUid,
        span: (i64, i64),
        detail: Detail,
        unreadable: Unreadable,
    ) -> Result<Vec<Gop>, NotRead> {
        let timed = self.fresh_catalogue(uid).timed(uid, span);
        let wanted = wanted(timed, span, detail);
        if wanted.iter().map(|copy| copy.read_us).sum::<i64>() > MOST_READ_US {
            return Err(NotRead::TooLong);
        }
        let (mut found, mut unread, mut last_error) = (Vec::new(), Vec::new(), None);
        for some in wanted.chunks(AT_ONCE) {
            // The writer needs the catalogue too.
            let parts = self.catalogue().parts(some);
            for part in parts {
                match part.gops(span, |id, root| self.index(id, root)) {
                    Ok(gops) => found.extend(gops),
                    Err(e) if unreadable == Unreadable::Fails || !e.is_of_file() => return Err(e.into()),
                    Err(e) => {
                        tracing::warn!(stream = %uid, "left out: {e}");
                        unread.push(part.as_one());
                        last_error = Some(e);
                    }
                }
            }
        }
        match (unreadable, last_error) {
            (Unreadable::CountsAsOne, _) => {
                let is_read = |one: &Gop| {
                    let overlaps = |gop: &Gop| gop.start_us < one.end_us() && gop.end_us() > one.start_us;
                    found.iter().any(overlaps)
                };
                unread.retain(|one| !is_read(one));
                found.append(&mut unread);
            }
            // Nothing at all is no recording with a hole.
            (_, Some(e)) if found.is_empty() => return Err(e.into()),
            _ => {}
        }
        Ok(found)
    }

    /// The index of a sealed segment, if it is here. What is not what was sealed is no segment: it is reported, and left alone.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub fn index(&self, id: &SegmentId, root: &Root) -> segment::Result<Option<Index>> {
        match self.volume.index(id, root) {
            Err(e @ Error::Damaged { .. }) => {
                tracing::error!(segment = %id, "left out: {e}");
                Ok(None)
            }
            found => found,
        }
    }

    /// The index of a copy, as far as [`Self::index`] has it.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub fn index_of(&self, copy: &Copy) -> segment::Result<Option<Index>> {
        copy.index(|id, root| self.index(id, root))
    }

    /// The gaps of a stream that overlap a span of time. Reads files: not for an async task.
    ///
    /// # Errors
    /// [`NotRead`].
    pub fn gaps(
        &self,
        uid: StreamUid,
        span: (i64, i64),
        unreadable: Unreadable,
    ) -> Result<Vec<TimelineGap>, NotRead> {
        let in_span =
            |start_us: i64, end_us: Option<i64>| start_us < span.1 && end_us.is_none_or(|e| e > span.0);
        let (noted, wide) = {
            let catalogue = self.catalogue();
            let noted = catalogue.stream(uid).into_iter().flat_map(|s| s.gaps.iter());
            let noted: Vec<Gap> = noted.filter(|g| in_span(g.start_us, g.end_us)).cloned().collect();
            let wide = noted.iter().fold(span, |(from, to), gap| {
                (from.min(gap.start_us), gap.end_us.map_or(to, |end| to.max(end)))
            });
            (noted, catalogue.around(uid, wide))
        };
        let compared = self.compared_of(uid);
        let mut found = gaps(
            &self.chosen(uid, wide, Detail::Times, unreadable)?,
            &noted,
            self.volume.store(),
            &compared,
        );
        found.retain(|gap| in_span(gap.start_us, gap.end_us));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    #[test]
    fn the_peer_s_catalogue_is_known_up_to_what_it_may_still_write() {
        let (holds, after) = (PeerHolds::default(), Duration::from_secs(30));
        let (one, other) = (StreamUid::from_u128(1), StreamUid::from_u128(2));
        assert_eq!(holds.of(one, after), Compared::default());
        holds.tell(vec![(one, vec![(3, 4)])], BTreeMap::new(), 100 * S);
        let known = |lacking| Compared {
            until_us: Some(70 * S),
            lacking,
        };
        assert_eq!(holds.of(one, after), known(vec![(3, 4)]));
        assert_eq!(holds.of(other, after), known(vec![]));
        holds.tell(vec![], BTreeMap::new(), 101 * S);
        assert_eq!(holds.of(one, after).lacking, []);
    }

    #[test]
    fn a_clock_that_jumps_ahead_says_nothing_of_the_peer() {
        let (holds, after) = (PeerHolds::default(), Duration::from_secs(30));
        let (received, silent) = (StreamUid::from_u128(1), StreamUid::from_u128(2));
        let until = |uid| holds.of(uid, after).until_us;
        holds.tell(vec![], BTreeMap::from([(received, 99 * S)]), 100 * S);
        assert_eq!((until(received), until(silent)), (Some(69 * S), Some(70 * S)));
        holds.tell(vec![], BTreeMap::from([(received, 100 * S)]), 3_700 * S);
        assert_eq!(until(received), Some(70 * S), "its frames came without a jump");
        holds.tell(vec![], BTreeMap::from([(received, 3_700 * S)]), 100 * S);
        assert_eq!(until(received), Some(70 * S), "a camera whose clock is ahead");
    }
}
