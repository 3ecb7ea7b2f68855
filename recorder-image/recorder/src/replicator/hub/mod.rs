//! What this volume holds, as far as replication needs it: fed by the recorder's messages and by what was received.

mod holdings;
mod progress;
mod refusals;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::member::ReplicationConfig;
use segment::compared::joined;
use segment::inventory::Held;
use segment::reclaim::Pin;
use segment::{Catalogue, SegmentId, State, StreamUid};
use tokio::sync::broadcast;
use tokio::time::Instant;
use uuid::Uuid;

use super::pace;
use crate::clock;

use holdings::Holdings;
pub use holdings::{Known, Sealed};
pub use progress::PeerProgress;
use progress::Progress;
pub use refusals::LastRefusal;
use refusals::Refusals;

/// So many segments are looked at under the lock: an archive is large, and the recorder's tickets wait for who waits for it.
const AT_ONCE: usize = 4096;
/// Changes that a connection may be behind before it looks at everything again.
const CHANGES: usize = 8192;

/// Who may be writing a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// This member's recorder, which lives: nothing of it may come from elsewhere (I2).
    Here,
    /// The peer, or nobody any more.
    Elsewhere,
    /// A start of this member's recorder, which was not heard yet.
    Unknown,
}

/// More of a segment is durable here, or it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The segment.
    pub id: SegmentId,
    /// The volume of the peer that sent it; `None` for what this member's recorder says, and for what was found here.
    pub from: Option<Uuid>,
}

/// Figures of replication, for the report and the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How far the peer is.
    pub peer: PeerProgress,
    /// Segments that the peer lacks and that cannot be read.
    pub unreadable: u64,
    /// Refusals so far.
    pub refused: u64,
    /// Ledgers whose damaged end was cut.
    pub truncations: u64,
    /// The newest refusal.
    pub last_refusal: Option<LastRefusal>,
}

#[derive(Debug, Default)]
struct Inner {
    holdings: Holdings,
    progress: Progress,
    refusals: Refusals,
    replication: ReplicationConfig,
    /// The durable pins of this member, by their duplicates, and how often that changed.
    pins: BTreeMap<SegmentId, Pin>,
    pins_version: u64,
    /// What the peer lacks and cannot be read.
    unreadable: BTreeSet<SegmentId>,
    truncations: u64,
    /// The start of this member's recorder that lives.
    alive: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    /// The id of this volume.
    pub store: Uuid,
    /// What times are counted from.
    began: Instant,
    inner: Mutex<Inner>,
    /// When bytes of the peer were last made durable here, milliseconds since the Unix epoch; 0 where they never were. Who drives
    /// authority asks, and waits for nobody.
    received_ms: AtomicU64,
    changes: broadcast::Sender<Change>,
}

impl Hub {
    /// What the catalogue of a volume holds.
    pub fn new(store: Uuid, catalogue: &Catalogue) -> Self {
        let hub = Self {
            store,
            began: Instant::now(),
            inner: Mutex::default(),
            received_ms: AtomicU64::new(0),
            changes: broadcast::channel(CHANGES).0,
        };
        hub.load(catalogue);
        hub
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes everything of a catalogue in.
    pub fn load(&self, catalogue: &Catalogue) {
        {
            let mut inner = self.lock();
            let Inner {
                holdings, progress, ..
            } = &mut *inner;
            let left = holdings.set_floors(catalogue.floors(), |id| catalogue.get(id).is_some());
            for id in &left {
                progress.forget(id);
            }
        }
        for copy in catalogue.copies() {
            match copy.state {
                State::Sealed => self.sealed(&copy.held()),
                State::Open | State::Partial => self.grew(copy.id(), copy.length, true),
            }
        }
        catalogue
            .reclaimed()
            .for_each(|held| self.reclaimed(held.clone()));
    }

    /// A copy is durable up to `end`, by the word of this member's recorder, or of its volume.
    pub fn grew(&self, id: &SegmentId, end: u64, partial: bool) {
        self.grow(id, end, partial, None);
    }

    /// A copy that comes from the peer is durable up to `end`.
    pub fn arrived(&self, id: &SegmentId, end: u64, from: Uuid) {
        self.grow(id, end, true, Some(from));
    }

    /// A copy was found to end before what was known of it: the rest is asked for by the next connection.
    pub fn shrank(&self, id: &SegmentId, end: u64) {
        self.lock().holdings.shrank(id, end);
    }

    fn grow(&self, id: &SegmentId, end: u64, partial: bool, from: Option<Uuid>) {
        {
            let mut inner = self.lock();
            if !inner.holdings.grew(id, end, partial) {
                return;
            }
            if !partial && id.store == self.store {
                inner.progress.grew(id, end, self.now());
            }
        }
        self.change(id.clone(), from);
    }

    fn change(&self, id: SegmentId, from: Option<Uuid>) {
        let _ = self.changes.send(Change { id, from });
    }

    /// Bytes of the peer were made durable here.
    pub fn received(&self, at_ms: u64) {
        self.received_ms.store(at_ms, Ordering::Relaxed);
    }

    /// When bytes of the peer were last made durable here, milliseconds since the Unix epoch.
    pub fn received_ms(&self) -> Option<u64> {
        Some(self.received_ms.load(Ordering::Relaxed)).filter(|at_ms| *at_ms > 0)
    }

    /// A copy is sealed, by the word of this member's recorder, or of its volume.
    pub fn sealed(&self, held: &Held) {
        self.seal(held, None);
    }

    /// A copy that came from the peer is sealed.
    pub fn arrived_whole(&self, held: &Held, from: Uuid) {
        self.seal(held, Some(from));
    }

    fn seal(&self, held: &Held, from: Option<Uuid>) {
        let (Some(root), Some(span_us)) = (held.root, held.span_us) else {
            return;
        };
        {
            let mut inner = self.lock();
            inner.refusals.resolve(&held.id);
            let sealed = Sealed { root, span_us };
            if !inner.holdings.sealed(&held.id, held.length, sealed) {
                return;
            }
        }
        self.change(held.id.clone(), from);
    }

    /// Retention removed a copy that ended at `end_us`.
    pub fn evicted(&self, id: &SegmentId, end_us: i64) {
        let mut inner = self.lock();
        inner.holdings.evicted(id, end_us);
        inner.progress.forget(id);
        inner.unreadable.remove(id);
        inner.pins.retain(|_, pin| !pin.kept.contains(id));
    }

    /// The recorder removed a duplicate. Its frames are here, so it counts as held, and never comes again.
    pub fn reclaimed(&self, held: Held) {
        let mut inner = self.lock();
        inner.progress.forget(&held.id);
        inner.unreadable.remove(&held.id);
        inner.holdings.reclaimed(held);
    }

    /// The length that a segment had which was reclaimed.
    pub fn reclaimed_length(&self, id: &SegmentId) -> Option<u64> {
        self.lock().holdings.reclaimed_length(id)
    }

    /// These pins are durable in the recorder's ledger.
    pub fn pinned(&self, pins: Vec<Pin>) {
        let mut inner = self.lock();
        inner.pins_version += 1;
        inner
            .pins
            .extend(pins.into_iter().map(|pin| (pin.duplicate.clone(), pin)));
    }

    /// Another recorder: it tells its pins anew.
    pub fn forget_pins(&self) {
        self.lock().pins.clear();
    }

    /// The pins of the recorder, if there are new ones since `version`, and the version now.
    pub fn pins_since(&self, version: u64) -> Option<(u64, Vec<Pin>)> {
        let inner = self.lock();
        (inner.pins_version != version).then(|| (inner.pins_version, inner.pins.values().cloned().collect()))
    }

    /// No floor is later than `latest_s`, seconds since the Unix epoch. Returns whether one was.
    pub fn bound_floors(&self, latest_s: i64) -> bool {
        self.lock().holdings.bound_floors(latest_s)
    }

    /// Below which time this side wants no media of a stream back.
    pub fn floors(&self) -> Vec<(StreamUid, i64)> {
        self.lock().holdings.floors().collect()
    }

    /// The damaged end of a ledger was cut.
    pub fn truncated(&self) {
        self.lock().truncations += 1;
    }

    /// A copy.
    pub fn get(&self, id: &SegmentId) -> Option<Known> {
        self.lock().holdings.get(id).cloned()
    }

    /// Changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// What is here, for the peer. What changes meanwhile may be in it or not.
    pub fn inventory(&self) -> Vec<Held> {
        let mut all: Vec<Held> = Vec::new();
        loop {
            let page = self
                .lock()
                .holdings
                .held_after(all.last().map(|held| &held.id), AT_ONCE);
            let is_last = page.len() < AT_ONCE;
            all.extend(page);
            if is_last {
                break;
            }
        }
        all.extend(self.lock().holdings.all_reclaimed());
        all
    }

    /// What the peer holds, when a connection to it was made.
    pub fn compare(&self, theirs: &[Held]) {
        // Not under the lock. What comes meanwhile is seen by `lacking`.
        let lacking = holdings::lacking(&self.inventory(), theirs);
        self.lock().holdings.set_lacking(lacking);
    }

    /// What of each stream the peer holds and is still to come.
    pub fn lacking(&self) -> Vec<(StreamUid, Vec<(i64, i64)>)> {
        let mut spans: BTreeMap<StreamUid, Vec<(i64, i64)>> = BTreeMap::new();
        let mut after = None;
        loop {
            let (page, last) = self.lock().holdings.still_lacking(after.as_ref(), AT_ONCE);
            for (uid, span_us) in page {
                spans.entry(uid).or_default().push(span_us);
            }
            if last.is_none() {
                break;
            }
            after = last;
        }
        let joined = spans.into_iter().map(|(uid, spans)| (uid, joined(spans)));
        joined.collect()
    }

    /// The recorder's start that is alive now: all others are dead.
    pub fn set_alive(&self, incarnation: u64) {
        self.lock().alive = Some(incarnation);
    }

    /// The recorder's start that is alive now.
    pub fn alive(&self) -> Option<u64> {
        self.lock().alive
    }

    /// Who may be writing a segment.
    pub fn writer_of(&self, id: &SegmentId) -> Writer {
        if id.store != self.store {
            return Writer::Elsewhere;
        }
        match self.lock().alive {
            Some(alive) if alive == id.incarnation => Writer::Here,
            Some(_) => Writer::Elsewhere,
            None => Writer::Unknown,
        }
    }

    /// The own segments of dead incarnations, with their durable ends; none before the recorder was heard.
    pub fn own_partials(&self) -> Vec<(SegmentId, u64)> {
        let inner = self.lock();
        let partials = |alive| inner.holdings.partials(self.store, alive);
        inner.alive.map_or_else(Vec::new, partials)
    }

    /// Bytes of a segment were refused, which begins at `from_us` where that is known. The peer holds it all the same.
    pub fn refuse(&self, id: &SegmentId, reason: &str, from_us: Option<i64>) {
        let (mut inner, now) = (self.lock(), self.now());
        if inner.refusals.refuse(id, reason, now) {
            inner.holdings.refused(id, from_us);
        }
    }

    /// Whether a segment is not wanted now.
    pub fn is_declined(&self, id: &SegmentId) -> bool {
        self.lock().refusals.declines(id, self.now())
    }

    /// What is not wanted now.
    pub fn declined(&self) -> Vec<SegmentId> {
        self.lock().refusals.declined(self.now())
    }

    /// Forgets what was refused, once the first of it was long ago. Returns whether there is anything to ask for again, by a new connection.
    pub fn forgive(&self) -> bool {
        self.lock().refusals.forgive(self.now())
    }

    /// The peer holds a segment durably up to `end`.
    pub fn acknowledge(&self, id: &SegmentId, end: u64) {
        let mut inner = self.lock();
        // Else it left meanwhile, or never was.
        if let Some(all) = inner.holdings.get(id).map(|known| known.end) {
            inner.progress.acknowledge(id, end, all, self.now());
        }
    }

    /// The peer does not want a segment, or it cannot be sent: nobody waits for it.
    pub fn give_up(&self, id: &SegmentId) {
        self.lock().progress.forget(id);
    }

    /// A segment that the peer lacks cannot be read. Nobody waits for it, and it is told.
    pub fn unreadable(&self, id: &SegmentId) {
        let mut inner = self.lock();
        inner.progress.forget(id);
        // Else it left meanwhile.
        if inner.holdings.get(id).is_some() && inner.unreadable.len() < AT_ONCE {
            inner.unreadable.insert(id.clone());
        }
    }

    /// All of a segment that is here was read.
    pub fn readable(&self, id: &SegmentId) {
        self.lock().unreadable.remove(id);
    }

    /// The peer takes media from here. Returns the number of this connection; it replaces one whose end was not noticed.
    pub fn connected(&self) -> u64 {
        self.lock().progress.connected()
    }

    /// A connection ended. Nothing happens where another one has replaced it.
    pub fn disconnected(&self, connection: u64) {
        self.lock().progress.disconnected(connection);
    }

    /// What the peer lacks and is not live, with what it holds of each.
    pub fn set_backfill(&self, lacking: BTreeMap<SegmentId, u64>) {
        let mut inner = self.lock();
        let Inner {
            holdings,
            progress,
            unreadable,
            ..
        } = &mut *inner;
        // What the peer has by now, from elsewhere, is not missed.
        unreadable.retain(|id| lacking.contains_key(id));
        let durable = |id: &SegmentId| holdings.get(id).map_or(0, |known| known.end);
        progress.set_backfill(lacking, holdings.bytes(), durable);
    }

    /// Puts limits in force.
    pub fn configure(&self, replication: ReplicationConfig) {
        self.lock().replication = replication;
    }

    /// How fast older media may be sent at a time, seconds since the Unix epoch by the own clock, in bytes a second.
    pub fn limit(&self, unix_s: i64) -> Option<u64> {
        pace::limit(&self.lock().replication, unix_s)
    }

    /// The figures now.
    pub fn figures(&self) -> Figures {
        let inner = self.lock();
        let limit = pace::limit(&inner.replication, clock::wall_s());
        Figures {
            peer: inner.progress.at(self.now(), limit),
            unreadable: inner.unreadable.len() as u64,
            refused: inner.refusals.count(),
            truncations: inner.truncations,
            last_refusal: inner.refusals.last().cloned(),
        }
    }
}
