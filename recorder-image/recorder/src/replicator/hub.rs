//! What this volume holds, as far as replication needs it: fed by the recorder's messages and by what was received.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::member::ReplicationConfig;
use segment::canonical::WINDOW_US;
use segment::compared::joined;
use segment::inventory::{Held, missing};
use segment::reclaim::Pin;
use segment::{Catalogue, Root, SegmentId, State, StreamUid};
use tokio::sync::broadcast;
use tokio::time::Instant;
use uuid::Uuid;

use super::pace::{self, Rate};
use crate::clock;

/// Changes that a connection may be behind before it looks at everything again.
const CHANGES: usize = 8192;
/// How long a refused segment is not asked for again.
const DECLINE: Duration = Duration::from_mins(10);
/// The most refusals that are remembered.
const MAX_DECLINED: usize = 1024;
/// The most unacknowledged live ends that are timed.
const MAX_TIMED: usize = 4096;

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

/// What was refused last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRefusal {
    /// The segment.
    pub id: SegmentId,
    /// Why.
    pub reason: String,
}

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

/// A segment that the peer holds more of.
#[derive(Clone, Copy, Debug)]
struct Lacking {
    /// Bytes there.
    length: u64,
    /// Whether it is sealed there.
    sealed: bool,
    /// When it begins and ends, microseconds since the Unix epoch; the whole of time where it is not known.
    span_us: (i64, i64),
}

#[derive(Debug, Default)]
struct Inner {
    known: BTreeMap<SegmentId, Known>,
    declined: BTreeMap<SegmentId, Instant>,
    refused: u64,
    last_refusal: Option<LastRefusal>,
    timed: VecDeque<(SegmentId, u64, Instant)>,
    lag: Duration,
    acknowledged: BTreeMap<SegmentId, u64>,
    /// What the peer lacked when it connected and was not live, and how much of it it holds since.
    backfill: BTreeMap<SegmentId, u64>,
    /// All that was here then, bytes.
    backfill_of: u64,
    /// How fast the peer takes what it lacks.
    rate: Rate,
    replication: ReplicationConfig,
    /// Media of a stream that began before this left by retention, microseconds since the Unix epoch.
    floors: BTreeMap<StreamUid, i64>,
    /// What the peer held and this volume lacked when the newest connection to it was made, with the length and the span of
    /// each there.
    lacking: BTreeMap<SegmentId, Lacking>,
    /// Duplicates that the recorder removed.
    reclaimed: BTreeMap<SegmentId, Held>,
    /// The durable pins of this member, by their duplicates, and how often that changed.
    pins: BTreeMap<SegmentId, Pin>,
    pins_version: u64,
    truncations: u64,
    /// The connection over which the peer takes media, by its number.
    connection: Option<u64>,
    connections: u64,
    alive: Option<u64>,
    /// When bytes of the peer were last made durable here, milliseconds since the Unix epoch.
    received_ms: Option<u64>,
}

/// Figures of replication, for the report and the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
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
    /// Refusals so far.
    pub refused: u64,
    /// Ledgers whose damaged end was cut.
    pub truncations: u64,
    /// The newest refusal.
    pub last_refusal: Option<LastRefusal>,
}

impl Inner {
    fn forget(&mut self, id: &SegmentId) {
        self.acknowledged.remove(id);
        self.backfill.remove(id);
        self.timed.retain(|(timed, ..)| timed != id);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    /// The id of this volume.
    pub store: Uuid,
    /// What the rate is measured from.
    began: Instant,
    inner: Mutex<Inner>,
    changes: broadcast::Sender<Change>,
}

impl Hub {
    /// What the catalogue of a volume holds.
    pub fn new(store: Uuid, catalogue: &Catalogue) -> Self {
        let hub = Self {
            store,
            began: Instant::now(),
            inner: Mutex::default(),
            changes: broadcast::channel(CHANGES).0,
        };
        hub.load(catalogue);
        hub
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything of a catalogue in.
    pub fn load(&self, catalogue: &Catalogue) {
        self.lock().floors = catalogue.floors();
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

    fn grow(&self, id: &SegmentId, end: u64, partial: bool, from: Option<Uuid>) {
        {
            let mut inner = self.lock();
            let as_before =
                |known: &Known| known.sealed.is_some() || (known.end >= end && known.partial == partial);
            if inner.known.get(id).is_some_and(as_before) {
                return;
            }
            let known = inner.known.entry(id.clone()).or_insert(Known {
                end: 0,
                sealed: None,
                partial,
            });
            known.end = known.end.max(end);
            known.partial = partial;
            if !partial && id.store == self.store && inner.timed.len() < MAX_TIMED {
                inner.timed.push_back((id.clone(), end, Instant::now()));
            }
        }
        self.change(id.clone(), from);
    }

    fn change(&self, id: SegmentId, from: Option<Uuid>) {
        let _ = self.changes.send(Change { id, from });
    }

    /// Bytes of the peer were made durable here.
    pub fn received(&self, at_ms: u64) {
        self.lock().received_ms = Some(at_ms);
    }

    /// When bytes of the peer were last made durable here, milliseconds since the Unix epoch.
    pub fn received_ms(&self) -> Option<u64> {
        self.lock().received_ms
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
        let id = held.id.clone();
        let (Some(root), Some(span_us)) = (held.root, held.span_us) else {
            return;
        };
        let known = Known {
            end: held.length,
            sealed: Some(Sealed { root, span_us }),
            partial: false,
        };
        {
            let mut inner = self.lock();
            let before = inner.known.insert(id.clone(), known);
            inner.reclaimed.remove(&id);
            inner.declined.remove(&id);
            // The good part came: what was refused is no more in question.
            inner.last_refusal.take_if(|refusal| refusal.id == id);
            if before.is_some_and(|before| before.sealed.is_some()) {
                return;
            }
        }
        self.change(id, from);
    }

    /// Retention removed a copy that ended at `end_us`.
    pub fn evicted(&self, id: &SegmentId, end_us: i64) {
        let mut inner = self.lock();
        inner.known.remove(id);
        inner.forget(id);
        inner.pins.retain(|_, pin| !pin.kept.contains(id));
        let floor = inner.floors.entry(id.stream).or_insert(end_us);
        *floor = end_us.max(*floor);
        let floor = *floor;
        // What began before it is not wanted back anyway.
        let wanted = |held: &Held| held.span_us.is_some_and(|span| span.0 + WINDOW_US >= floor);
        inner
            .reclaimed
            .retain(|other, held| other.stream != id.stream || wanted(held));
    }

    /// The recorder removed a duplicate. Its frames are here, so it counts as held, and never comes again.
    pub fn reclaimed(&self, held: Held) {
        let mut inner = self.lock();
        inner.known.remove(&held.id);
        inner.forget(&held.id);
        inner.reclaimed.insert(held.id.clone(), held);
    }

    /// The length that a segment had which was reclaimed.
    pub fn reclaimed_length(&self, id: &SegmentId) -> Option<u64> {
        self.lock().reclaimed.get(id).map(|held| held.length)
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

    /// Below which time this side wants no media of a stream back.
    pub fn floors(&self) -> Vec<(StreamUid, i64)> {
        self.lock()
            .floors
            .iter()
            .map(|(uid, floor)| (*uid, *floor))
            .collect()
    }

    /// The damaged end of a ledger was cut.
    pub fn truncated(&self) {
        self.lock().truncations += 1;
    }

    /// A copy.
    pub fn get(&self, id: &SegmentId) -> Option<Known> {
        self.lock().known.get(id).cloned()
    }

    /// Changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// What is here, for the peer.
    pub fn inventory(&self) -> Vec<Held> {
        let held = |(id, known): (&SegmentId, &Known)| Held {
            id: id.clone(),
            length: known.end,
            root: known.sealed.map(|sealed| sealed.root),
            span_us: known.sealed.map(|sealed| sealed.span_us),
            reclaimed: false,
        };
        let inner = self.lock();
        let here = inner.known.iter().map(held);
        here.chain(inner.reclaimed.values().cloned()).collect()
    }

    /// What the peer holds, when a connection to it was made.
    pub fn compare(&self, theirs: &[Held]) {
        let ours = self.inventory();
        let spans: BTreeMap<&SegmentId, &Held> = theirs.iter().map(|held| (&held.id, held)).collect();
        let mut inner = self.lock();
        let lacking = missing(&ours, theirs).into_iter().filter_map(|(id, _)| {
            let held = spans.get(&id)?;
            let lacking = Lacking {
                length: held.length,
                sealed: held.root.is_some(),
                span_us: held.span_us.unwrap_or((i64::MIN, i64::MAX)),
            };
            // What retention removed here is not wanted back.
            let floor = inner.floors.get(&id.stream).copied().unwrap_or(i64::MIN);
            (held.span_us.is_none() || lacking.span_us.0 >= floor).then_some((id, lacking))
        });
        let lacking = lacking.collect();
        inner.lacking = lacking;
    }

    /// What of each stream the peer holds and is still to come.
    pub fn lacking(&self) -> Vec<(StreamUid, Vec<(i64, i64)>)> {
        let mut inner = self.lock();
        let Inner { known, lacking, .. } = &mut *inner;
        lacking.retain(|id, lacking| {
            let is_here =
                |here: &Known| here.sealed.is_some() || !lacking.sealed && here.end >= lacking.length;
            !known.get(id).is_some_and(is_here)
        });
        let mut spans: BTreeMap<StreamUid, Vec<(i64, i64)>> = BTreeMap::new();
        for (id, lacking) in lacking {
            spans.entry(id.stream).or_default().push(lacking.span_us);
        }
        spans
            .into_iter()
            .map(|(uid, spans)| (uid, joined(spans)))
            .collect()
    }

    /// The recorder's start that is alive now: all others are dead.
    pub fn set_alive(&self, incarnation: u64) {
        self.lock().alive = Some(incarnation);
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
        let Some(alive) = inner.alive else {
            return Vec::new();
        };
        let own = inner.known.iter().filter(|(id, k)| {
            id.store == self.store && k.partial && k.sealed.is_none() && id.incarnation != alive
        });
        own.map(|(id, k)| (id.clone(), k.end)).collect()
    }

    /// Bytes of a segment were refused.
    pub fn refuse(&self, id: &SegmentId, reason: &str) {
        let mut inner = self.lock();
        inner.refused += 1;
        inner.last_refusal = Some(LastRefusal {
            id: id.clone(),
            reason: reason.to_owned(),
        });
        if inner.declined.len() < MAX_DECLINED {
            inner.declined.insert(id.clone(), Instant::now());
        }
    }

    /// Whether a segment is not wanted now.
    pub fn is_declined(&self, id: &SegmentId) -> bool {
        self.lock()
            .declined
            .get(id)
            .is_some_and(|at| at.elapsed() < DECLINE)
    }

    /// What is not wanted now.
    pub fn declined(&self) -> Vec<SegmentId> {
        let mut inner = self.lock();
        inner.declined.retain(|_, at| at.elapsed() < DECLINE);
        inner.declined.keys().cloned().collect()
    }

    /// The peer holds a segment durably up to `end`.
    pub fn acknowledge(&self, id: &SegmentId, end: u64) {
        let mut inner = self.lock();
        if !inner.known.contains_key(id) {
            // It left meanwhile, or never was.
            return;
        }
        let held = inner.acknowledged.entry(id.clone()).or_default();
        *held = (*held).max(end);
        let taken = |(i, e, _): &(SegmentId, u64, Instant)| i == id && *e <= end;
        if let Some((_, _, at)) = inner.timed.iter().rev().find(|t| taken(t)) {
            inner.lag = at.elapsed();
        }
        inner.timed.retain(|t| !taken(t));
        let all = inner.known.get(id).is_none_or(|known| end >= known.end);
        let Some(held) = inner.backfill.get_mut(id) else {
            return;
        };
        let took = end.saturating_sub(*held);
        *held += took;
        if all {
            inner.backfill.remove(id);
        }
        inner.rate.took(took, self.began.elapsed());
    }

    /// The peer does not want a segment, or it cannot be sent: nobody waits for it.
    pub fn give_up(&self, id: &SegmentId) {
        self.lock().forget(id);
    }

    /// The peer takes media from here. Returns the number of this connection; it replaces one whose end was not noticed.
    pub fn connected(&self) -> u64 {
        let mut inner = self.lock();
        inner.connections += 1;
        inner.connection = Some(inner.connections);
        inner.timed.clear();
        inner.connections
    }

    /// A connection ended. Nothing happens where another one has replaced it.
    pub fn disconnected(&self, connection: u64) {
        let mut inner = self.lock();
        if inner.connection == Some(connection) {
            inner.connection = None;
            inner.timed.clear();
        }
    }

    /// What the peer lacks and is not live, with what it holds of each.
    pub fn set_backfill(&self, lacking: BTreeMap<SegmentId, u64>) {
        let mut inner = self.lock();
        inner.backfill_of = inner.known.values().map(|known| known.end).sum();
        (inner.backfill, inner.rate) = (lacking, Rate::default());
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
        let waiting = inner.timed.front().map(|(_, _, at)| at.elapsed());
        let mut ends: BTreeMap<&SegmentId, u64> = BTreeMap::new();
        for (id, end, _) in &inner.timed {
            ends.insert(id, *end);
        }
        let behind = |(id, end): (&&SegmentId, &u64)| {
            end - inner.acknowledged.get(*id).copied().unwrap_or(0).min(*end)
        };
        let lacking = |(id, held): (&SegmentId, &u64)| {
            let end = inner.known.get(id).map_or(0, |known| known.end);
            end.saturating_sub(*held)
        };
        let backfill_bytes = inner.backfill.iter().map(lacking).sum();
        let limit = pace::limit(&inner.replication, clock::wall_s());
        Figures {
            connected: inner.connection.is_some(),
            lag: waiting.unwrap_or(inner.lag),
            lag_bytes: ends.iter().map(behind).sum(),
            backfill_bytes,
            backfill_of: inner.backfill_of.max(backfill_bytes),
            backfill_seconds: inner
                .connection
                .and_then(|_| pace::remaining(backfill_bytes, inner.rate.get(), limit)),
            refused: inner.refused,
            truncations: inner.truncations,
            last_refusal: inner.last_refusal.clone(),
        }
    }
}
