//! How far the peer is with what is here: what it acknowledged, how old the rest is, and what of older media it lacks. Pure; times are
//! since any fixed moment.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use segment::SegmentId;

use crate::replicator::pace::{self, Rate};

/// The most unacknowledged live ends that are timed.
const MAX_TIMED: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Live ends that the peer has not acknowledged, and since when they are durable here.
    timed: VecDeque<(SegmentId, u64, Duration)>,
    /// How long the end took that was acknowledged last.
    lag: Duration,
    acknowledged: BTreeMap<SegmentId, u64>,
    /// What the peer lacked when it connected and was not live.
    backfill: BTreeMap<SegmentId, Refill>,
    /// What is left of all of that, bytes.
    backfill_left: u64,
    /// All that was here then, bytes.
    backfill_of: u64,
    /// How fast the peer takes what it lacks.
    rate: Rate,
    /// The connection over which the peer takes media, by its number.
    connection: Option<u64>,
    connections: u64,
}

/// A segment that the peer is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refill {
    /// Bytes that the peer holds.
    held: u64,
    /// Bytes here.
    all: u64,
}

/// How far the peer is at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerProgress {
    /// Whether the peer takes media from here.
    pub connected: bool,
    /// How old the oldest live bytes are that the peer has not acknowledged; else how long the newest took.
    pub lag: Duration,
    /// Live bytes not acknowledged.
    pub lag_bytes: u64,
    /// Bytes that the peer lacks and that are not live.
    pub backfill_bytes: u64,
    /// All bytes that were here when the peer connected, those included.
    pub backfill_of: u64,
    /// In how many seconds the peer will have what it lacks, where that is known.
    pub backfill_seconds: Option<u64>,
}

impl Progress {
    /// This member's recorder made live bytes of a segment durable up to `end`.
    pub(super) fn grew(&mut self, id: &SegmentId, end: u64, now: Duration) {
        if self.timed.len() < MAX_TIMED {
            self.timed.push_back((id.clone(), end, now));
        }
    }

    /// The peer holds a segment durably up to `end`, of `all` bytes that are durable here.
    pub(super) fn acknowledge(&mut self, id: &SegmentId, end: u64, all: u64, now: Duration) {
        let held = self.acknowledged.entry(id.clone()).or_default();
        *held = (*held).max(end);
        let taken = |(timed, until, _): &(SegmentId, u64, Duration)| timed == id && *until <= end;
        if let Some((_, _, at)) = self.timed.iter().rev().find(|timed| taken(timed)) {
            self.lag = now.saturating_sub(*at);
        }
        self.timed.retain(|timed| !taken(timed));
        let Some(refill) = self.backfill.get_mut(id) else {
            return;
        };
        let took = end.min(refill.all).saturating_sub(refill.held);
        refill.held += took;
        self.backfill_left = self.backfill_left.saturating_sub(took);
        if end >= all {
            self.drop_refill(id);
        }
        self.rate.took(took, now);
    }

    fn drop_refill(&mut self, id: &SegmentId) {
        if let Some(Refill { held, all }) = self.backfill.remove(id) {
            self.backfill_left = self.backfill_left.saturating_sub(all.saturating_sub(held));
        }
    }

    /// Nobody waits for a segment any more.
    pub(super) fn forget(&mut self, id: &SegmentId) {
        self.acknowledged.remove(id);
        self.drop_refill(id);
        self.timed.retain(|(timed, ..)| timed != id);
    }

    /// The peer takes media from here. Returns the number of this connection; it replaces one whose end was not noticed.
    pub(super) fn connected(&mut self) -> u64 {
        self.connections += 1;
        self.connection = Some(self.connections);
        self.timed.clear();
        self.connections
    }

    /// A connection ended. Nothing happens where another one has replaced it.
    pub(super) fn disconnected(&mut self, connection: u64) {
        if self.connection == Some(connection) {
            self.connection = None;
            self.timed.clear();
        }
    }

    /// What the peer lacks and is not live, with what it holds of each, and all bytes that are here. `durable` says up to where a
    /// segment is durable here.
    pub(super) fn set_backfill(
        &mut self,
        lacking: BTreeMap<SegmentId, u64>,
        all: u64,
        durable: impl Fn(&SegmentId) -> u64,
    ) {
        let refill = |(id, held): (SegmentId, u64)| {
            let all = durable(&id).max(held);
            (id, Refill { held, all })
        };
        self.backfill = lacking.into_iter().map(refill).collect();
        self.backfill_left = self
            .backfill
            .values()
            .map(|refill| refill.all - refill.held)
            .sum();
        self.backfill_of = all;
        self.rate = Rate::default();
    }

    /// Where the peer is now; `limit` is how fast older media may be sent, in bytes a second. What it costs does not grow with what is to
    /// be sent.
    pub(super) fn at(&self, now: Duration, limit: Option<u64>) -> PeerProgress {
        let waiting = self.timed.front().map(|(_, _, at)| now.saturating_sub(*at));
        // The newest end of each counts.
        let ends: BTreeMap<&SegmentId, u64> = self.timed.iter().map(|(id, end, _)| (id, *end)).collect();
        let behind = |(id, end): (&&SegmentId, &u64)| {
            end.saturating_sub(self.acknowledged.get(*id).copied().unwrap_or(0))
        };
        let backfill_bytes = self.backfill_left;
        let remaining = || pace::remaining(backfill_bytes, self.rate.get(), limit);
        PeerProgress {
            connected: self.connection.is_some(),
            lag: waiting.unwrap_or(self.lag),
            lag_bytes: ends.iter().map(behind).sum(),
            backfill_bytes,
            backfill_of: self.backfill_of.max(backfill_bytes),
            backfill_seconds: self.connection.and_then(|_| remaining()),
        }
    }
}
