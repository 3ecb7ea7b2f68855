//! What of the peer was refused: it is counted, told, and not asked for again for a while. Pure; times are since any fixed moment.

use std::collections::BTreeMap;
use std::time::Duration;

use segment::SegmentId;

/// How long a refused segment is not asked for again.
const DECLINE: Duration = Duration::from_mins(10);
/// The most refusals that are remembered.
const MAX_DECLINED: usize = 1024;

/// What was refused last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRefusal {
    /// The segment.
    pub id: SegmentId,
    /// Why.
    pub reason: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    declined: BTreeMap<SegmentId, Duration>,
    count: u64,
    last: Option<LastRefusal>,
}

impl Refusals {
    /// Bytes of a segment were refused. Returns whether that is remembered.
    pub(super) fn refuse(&mut self, id: &SegmentId, reason: &str, now: Duration) -> bool {
        self.count += 1;
        self.last = Some(LastRefusal {
            id: id.clone(),
            reason: reason.to_owned(),
        });
        let has_room = self.declined.len() < MAX_DECLINED;
        if has_room {
            self.declined.insert(id.clone(), now);
        }
        has_room
    }

    /// The good segment came: what was refused is no more in question.
    pub(super) fn resolve(&mut self, id: &SegmentId) {
        self.declined.remove(id);
        self.last.take_if(|refusal| refusal.id == *id);
    }

    /// Whether a segment is not wanted now.
    pub(super) fn declines(&self, id: &SegmentId, now: Duration) -> bool {
        self.declined.get(id).is_some_and(|at| now < *at + DECLINE)
    }

    /// What is not wanted now.
    pub(super) fn declined(&self, now: Duration) -> Vec<SegmentId> {
        let declined = self.declined.keys().filter(|id| self.declines(id, now));
        declined.cloned().collect()
    }

    /// Forgets all that was refused, once the first of it was long ago: it takes a new connection to ask again, so that is done for all at
    /// once. Returns whether there is anything to ask for.
    pub(super) fn forgive(&mut self, now: Duration) -> bool {
        let due = self.declined.values().any(|at| now >= *at + DECLINE);
        if due {
            self.declined.clear();
        }
        due
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The newest that is in question.
    pub(super) fn last(&self) -> Option<&LastRefusal> {
        self.last.as_ref()
    }
}
