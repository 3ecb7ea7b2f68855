//! What is on this volume, what left it, and what of the peer's is still to come. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;

use segment::canonical::WINDOW_US;
use segment::inventory::{Held, missing};
use segment::retention::floor_us;
use segment::{Root, SegmentId, StreamUid};

/// One copy here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Durable bytes.
    pub end: u64,
    /// What it is, once sealed.
    pub sealed: Option<Sealed>,
    /// Whether its writer is dead: no more fragments come from here.
    pub partial: bool,
}

/// What is known of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// BLAKE3 of its file.
    pub root: Root,
    /// When it begins and ends, microseconds since the Unix epoch.
    pub span_us: (i64, i64),
}

/// A segment that the peer holds more of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lacking {
    /// Bytes there.
    length: u64,
    /// Whether it is sealed there.
    sealed: bool,
    /// When it begins and ends, microseconds since the Unix epoch; the whole of time where it is not known.
    span_us: (i64, i64),
}

/// From when to when a segment of a stream is, microseconds since the Unix epoch.
pub(super) type StreamSpan = (StreamUid, (i64, i64));

/// The whole of time.
pub(super) const ALWAYS: (i64, i64) = (i64::MIN, i64::MAX);

/// What `theirs` has and `ours` lacks.
pub(super) fn lacking(ours: &[Held], theirs: &[Held]) -> BTreeMap<SegmentId, Lacking> {
    let told: BTreeMap<&SegmentId, &Held> = theirs.iter().map(|held| (&held.id, held)).collect();
    let lacking = |(id, _): (SegmentId, u64)| {
        let held = told.get(&id)?;
        let lacking = Lacking {
            length: held.length,
            sealed: held.root.is_some(),
            span_us: held.span_us.unwrap_or(ALWAYS),
        };
        Some((id, lacking))
    };
    missing(ours, theirs).into_iter().filter_map(lacking).collect()
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    known: BTreeMap<SegmentId, Known>,
    /// Duplicates that the recorder removed.
    reclaimed: BTreeMap<SegmentId, Held>,
    /// Media of a stream that began before this left by retention, microseconds since the Unix epoch.
    floors: BTreeMap<StreamUid, i64>,
    /// What the peer held and this volume lacked when the newest connection to it was made.
    lacking: BTreeMap<SegmentId, Lacking>,
}

impl Holdings {
    /// A copy is durable up to `end`. Returns whether that is news.
    pub(super) fn grew(&mut self, id: &SegmentId, end: u64, partial: bool) -> bool {
        let as_before =
            |known: &Known| known.sealed.is_some() || (known.end >= end && known.partial == partial);
        if self.known.get(id).is_some_and(as_before) {
            return false;
        }
        let known = self.known.entry(id.clone()).or_insert(Known {
            end: 0,
            sealed: None,
            partial,
        });
        known.end = known.end.max(end);
        known.partial = partial;
        true
    }

    /// A copy was found to end before what was known of it.
    pub(super) fn shrank(&mut self, id: &SegmentId, end: u64) {
        if let Some(known) = self.known.get_mut(id).filter(|known| known.sealed.is_none()) {
            known.end = known.end.min(end);
        }
    }

    /// A copy is sealed. Returns whether that is news.
    pub(super) fn sealed(&mut self, id: &SegmentId, end: u64, sealed: Sealed) -> bool {
        let known = Known {
            end,
            sealed: Some(sealed),
            partial: false,
        };
        let before = self.known.insert(id.clone(), known);
        self.reclaimed.remove(id);
        before.is_none_or(|before| before.sealed.is_none())
    }

    /// Retention removed a copy that ended at `end_us`.
    pub(super) fn evicted(&mut self, id: &SegmentId, end_us: i64) {
        self.known.remove(id);
        let floor = self.floors.entry(id.stream).or_insert(end_us);
        *floor = end_us.max(*floor);
        let floor = *floor;
        // What began before it is not wanted back anyway.
        let wanted = |held: &Held| held.span_us.is_some_and(|span| span.0 + WINDOW_US >= floor);
        self.reclaimed
            .retain(|other, held| other.stream != id.stream || wanted(held));
    }

    /// The recorder removed a duplicate. Its frames are here, so it counts as held, and never comes again.
    pub(super) fn reclaimed(&mut self, held: Held) {
        self.known.remove(&held.id);
        self.reclaimed.insert(held.id.clone(), held);
    }

    /// The length that a segment had which was reclaimed.
    pub(super) fn reclaimed_length(&self, id: &SegmentId) -> Option<u64> {
        self.reclaimed.get(id).map(|held| held.length)
    }

    /// Takes the floors of a catalogue in. Returns what left the volume while nobody told: sealed copies below their floors that `is_here`
    /// does not know.
    pub(super) fn set_floors(
        &mut self,
        floors: BTreeMap<StreamUid, i64>,
        is_here: impl Fn(&SegmentId) -> bool,
    ) -> Vec<SegmentId> {
        self.floors = floors;
        let floors = &self.floors;
        let left = self.known.extract_if(.., |id, known| {
            let floor = floors.get(&id.stream);
            let below = |sealed: Sealed| floor.is_some_and(|floor| sealed.span_us.0 < *floor);
            known.sealed.is_some_and(below) && !is_here(id)
        });
        left.map(|(id, _)| id).collect()
    }

    /// Lowers floors to `latest_s`, see [`floor_us`]: when they were told of the clock may have been ahead.
    /// Returns whether one was later.
    pub(super) fn bound_floors(&mut self, latest_s: i64) -> bool {
        let mut any = false;
        for floor in self.floors.values_mut() {
            let bound = floor_us(*floor, latest_s);
            any |= bound < *floor;
            *floor = bound;
        }
        any
    }

    /// Below which time no media of a stream is wanted back.
    pub(super) fn floors(&self) -> impl Iterator<Item = (StreamUid, i64)> {
        self.floors.iter().map(|(uid, floor)| (*uid, *floor))
    }

    pub(super) fn get(&self, id: &SegmentId) -> Option<&Known> {
        self.known.get(id)
    }

    /// All bytes here.
    pub(super) fn bytes(&self) -> u64 {
        self.known.values().map(|known| known.end).sum()
    }

    /// What the writers of this volume left unfinished, but for the one that is alive, with the durable ends.
    pub(super) fn partials(&self, store: uuid::Uuid, alive: u64) -> Vec<(SegmentId, u64)> {
        let own = self.known.iter().filter(|(id, known)| {
            id.store == store && known.partial && known.sealed.is_none() && id.incarnation != alive
        });
        own.map(|(id, known)| (id.clone(), known.end)).collect()
    }

    /// So many of the copies that are here, from behind one on, for the peer.
    pub(super) fn held_after(&self, after: Option<&SegmentId>, most: usize) -> Vec<Held> {
        let held = |(id, known): (&SegmentId, &Known)| Held {
            id: id.clone(),
            length: known.end,
            root: known.sealed.map(|sealed| sealed.root),
            span_us: known.sealed.map(|sealed| sealed.span_us),
            reclaimed: false,
        };
        self.known.range(behind(after)).take(most).map(held).collect()
    }

    /// The duplicates that the recorder removed, for the peer.
    pub(super) fn all_reclaimed(&self) -> Vec<Held> {
        self.reclaimed.values().cloned().collect()
    }

    /// What the peer holds and this volume lacked, when a connection to it was made.
    pub(super) fn set_lacking(&mut self, mut lacking: BTreeMap<SegmentId, Lacking>) {
        // What retention removed here is not wanted back.
        lacking.retain(|id, lacking| {
            let floor = self.floors.get(&id.stream).copied().unwrap_or(i64::MIN);
            lacking.span_us == ALWAYS || lacking.span_us.0 >= floor
        });
        self.lacking = lacking;
    }

    /// The peer holds something that was refused here, of any time from its beginning on, until it is sealed here.
    pub(super) fn refused(&mut self, id: &SegmentId, from_us: Option<i64>) {
        self.lacking.entry(id.clone()).or_insert(Lacking {
            length: u64::MAX,
            sealed: true,
            span_us: (from_us.unwrap_or(ALWAYS.0), ALWAYS.1),
        });
    }

    /// What the peer holds and is still to come: the spans of segments, and their streams. It looks at so many, from behind one on, and
    /// returns the last of them; none where there are no more.
    pub(super) fn still_lacking(
        &mut self,
        after: Option<&SegmentId>,
        most: usize,
    ) -> (Vec<StreamSpan>, Option<SegmentId>) {
        let page: Vec<(SegmentId, Lacking)> = self
            .lacking
            .range(behind(after))
            .take(most)
            .map(|(id, lacking)| (id.clone(), *lacking))
            .collect();
        let last = page
            .last()
            .filter(|_| page.len() == most)
            .map(|(id, _)| id.clone());
        let mut spans = Vec::new();
        for (id, lacking) in page {
            let is_here =
                |here: &Known| here.sealed.is_some() || !lacking.sealed && here.end >= lacking.length;
            if self.known.get(&id).is_some_and(is_here) {
                self.lacking.remove(&id);
            } else {
                spans.push((id.stream, lacking.span_us));
            }
        }
        (spans, last)
    }
}

/// All that comes behind this.
fn behind(after: Option<&SegmentId>) -> (Bound<&SegmentId>, Bound<&SegmentId>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}
