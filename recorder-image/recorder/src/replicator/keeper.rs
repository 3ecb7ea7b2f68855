//! What was received goes to the volume here, in a thread of its own: proven, appended, synced in groups, and only then
//! acknowledged (I4, I10). It contains no call that removes media (I3).

mod tails;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use segment::inventory::Held;
use segment::receive::Receiving;
use segment::reclaim::{PeerPins, Pin};
use segment::retention::RetentionClock;
use segment::{
    Chain, Ledger, Record, Refusal, Role, Root, SealedEntry, SegmentId, StreamUid, Volume, fmp4, quarantine,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::admission::{Admission, admission};
use super::hub::{Hub, Writer};
use crate::clock;
use crate::disk::Guard;
use crate::local::{FrameMark, ToRecorder};
use crate::wire::PINS_PAGE;

/// The longest time that received bytes wait for their sync.
const COMMIT_PERIOD: Duration = Duration::from_millis(50);
/// Bytes that are synced before the period is over.
const COMMIT_BYTES: u64 = 8 << 20;

/// The most copies of which it is remembered how much is durable, after the volume failed.
const MAX_DOUBTFUL: usize = 4096;
/// How often the volume is measured, and what was refused is thought of.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// Who sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The member.
    pub member: String,
    /// Its volume.
    pub store: Uuid,
}

/// Something for the volume.
#[derive(Debug)]
pub enum Work {
    /// A connection to the peer stands; `held` is what it holds. Replies go to `replies`.
    Connected {
        /// The peer.
        peer: Peer,
        /// Its inventory.
        held: Vec<Held>,
        /// Where acknowledgements and credit go.
        replies: mpsc::Sender<Reply>,
    },
    /// A segment begins.
    Opened(SegmentId, Bytes),
    /// The next fragment.
    Append(SegmentId, u64, Chain, Bytes),
    /// It is complete: the length of its file, and its root.
    Seal(SegmentId, u64, Root),
    /// The peer has sent all that is new.
    Level,
    /// Pins that are durable in the peer's ledger.
    Pinned(Vec<Pin>),
    /// The connection ended.
    Disconnected,
    /// The recorder said which of its starts is alive: all others are dead.
    RecorderStarted,
    /// The recorder did not seal a segment: its file ends before what is known of it.
    Shorter(SegmentId, u64),
}

/// Something for the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Durable ends.
    Ack(Vec<(SegmentId, u64)>),
    /// So many payload bytes were dealt with.
    Credit(u64),
    /// A segment was refused; nothing more of it is wanted.
    Declined(SegmentId),
    /// This side lost its place: the connection is to be made again, which compares all anew.
    Again(&'static str),
}

/// A copy that grows.
#[derive(Debug)]
struct Growing {
    copy: Receiving,
    /// Frames of fragments that are not synced yet.
    frames: Vec<FrameMark>,
    dirty: bool,
    /// Bytes that are synced.
    durable: u64,
}

/// A copy that has its sealed name.
#[derive(Debug)]
struct Renamed {
    entry: SealedEntry,
    received_s: i64,
    from: Peer,
    /// Whether the ledger has it.
    recorded: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    volume: Arc<Volume>,
    hub: Arc<Hub>,
    recorder: mpsc::UnboundedSender<ToRecorder>,
    ledgers: BTreeMap<StreamUid, Ledger>,
    growing: BTreeMap<SegmentId, Growing>,
    /// Copies of which a sync failed, and how much of them is durable all the same, bytes.
    doubtful: BTreeMap<SegmentId, u64>,
    /// Whether the last sync failed.
    failed: bool,
    /// Copies that are complete, and what the writer says of each: its length, and its root.
    complete: Vec<(SegmentId, u64, Root)>,
    /// Copies that have their sealed name: a sync has to make that durable before anyone is told (I2).
    renamed: Vec<Renamed>,
    /// What the peer held of this volume's own segments when it connected, bytes.
    theirs: BTreeMap<SegmentId, u64>,
    /// Own segments of dead incarnations, and how long they will get.
    tails: BTreeMap<SegmentId, u64>,
    /// Those that are complete, and which start of the recorder was told: it seals them, so nothing more of them is taken (I2).
    told: BTreeMap<SegmentId, u64>,
    /// What the peer said of its pins on this connection.
    pins: PeerPins,
    /// Whether bytes of an own segment came before it was known whether its writer is dead.
    early: bool,
    guard: Guard,
    /// What the guard counts from.
    began: Instant,
    looked: Option<Instant>,
    clock: RetentionClock,
    peer: Peer,
    replies: Option<mpsc::Sender<Reply>>,
    dirty_bytes: u64,
    done_bytes: u64,
    last_commit: Instant,
}

impl Keeper {
    /// A keeper that received nothing yet.
    ///
    /// # Errors
    /// When the retention clock cannot be read.
    pub fn new(
        volume: Arc<Volume>,
        hub: Arc<Hub>,
        recorder: mpsc::UnboundedSender<ToRecorder>,
    ) -> segment::Result<Self> {
        let clock = RetentionClock::load(&volume, clock::wall_s(), clock::boot_s())?;
        Ok(Self {
            volume,
            hub,
            recorder,
            ledgers: BTreeMap::new(),
            growing: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            failed: false,
            complete: Vec::new(),
            renamed: Vec::new(),
            theirs: BTreeMap::new(),
            tails: BTreeMap::new(),
            told: BTreeMap::new(),
            pins: PeerPins::default(),
            early: false,
            guard: Guard::of_copies(),
            began: Instant::now(),
            looked: None,
            clock,
            peer: Peer::default(),
            replies: None,
            dirty_bytes: 0,
            done_bytes: 0,
            last_commit: Instant::now(),
        })
    }

    /// Works until the other end of the channel is gone. It writes and syncs where it runs, so it needs a thread of its own.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Work>) {
        loop {
            self.look_around();
            if self.guard.takes(self.now()) {
                match timeout(COMMIT_PERIOD, inbox.recv()).await {
                    Ok(Some(work)) => self.take(work),
                    Ok(None) => return,
                    Err(_) => {}
                }
            } else {
                // Nothing is taken, so the peer's credit ends: what comes waits there, and none of it is lost.
                sleep(COMMIT_PERIOD).await;
            }
            let due = self.last_commit.elapsed() >= COMMIT_PERIOD || self.dirty_bytes >= COMMIT_BYTES;
            if due && !self.guard.holds_off(self.now()) {
                self.commit();
            }
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Connected { peer, held, replies } => self.connected(peer, &held, replies),
            Work::Opened(id, head) => self.opened(&id, &head),
            Work::Append(id, offset, chain, bytes) => self.append(&id, offset, &chain, &bytes),
            Work::Seal(id, length, root) => self.seal(&id, length, &root),
            Work::Level => self.level(),
            Work::Pinned(pins) => self.pinned(pins),
            Work::Disconnected => self.disconnected(),
            Work::RecorderStarted => {
                self.tell_pins();
                self.look_for_tails();
            }
            Work::Shorter(id, end) => self.shorter(&id, end),
        }
    }

    /// Measures the volume (the reserve is for ledgers, epochs and seals), lowers floors from a time when the wall clock was ahead, and asks
    /// again for what was refused long ago: its source, or this volume, may be mended.
    fn look_around(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_PERIOD) {
            return;
        }
        self.looked = Some(Instant::now());
        match self.volume.space() {
            Ok(space) => self.guard.measured(space),
            Err(e) => self.guard.refused(self.now(), &e),
        }
        let latest_s = self.clock.latest_s(clock::wall_s(), clock::boot_s());
        let why = [
            // The peer sends nothing below the floors that it was told.
            (
                self.hub.bound_floors(latest_s),
                "a floor is lower than it was told",
            ),
            (self.hub.forgive(), "what was refused before is asked for again"),
        ];
        if self.replies.is_some()
            && let Some((_, why)) = why.into_iter().find(|(is_so, _)| *is_so)
        {
            self.commit();
            self.again(why);
        }
    }

    /// All that the peer holds is here or known to come.
    fn level(&mut self) {
        if self.replies.is_some() {
            self.commit();
            let lacking = self.hub.lacking();
            self.tell(ToRecorder::Compared { lacking });
        }
    }

    /// The peer tells its pins once on each connection; the recorder has to know them all.
    fn pinned(&mut self, pins: Vec<Pin>) {
        if self.replies.is_some() {
            if self.pins.is_full() {
                let hub = &self.hub;
                self.pins
                    .forget(|duplicate| hub.reclaimed_length(duplicate).is_some());
            }
            self.pins.hear(pins.clone());
            self.tell(ToRecorder::PeerPinned { pins, anew: false });
        }
    }

    fn tell_pins(&self) {
        let all: Vec<Pin> = self.pins.iter().collect();
        let pins = Vec::new();
        self.tell(ToRecorder::PeerPinned { pins, anew: true });
        for page in all.chunks(PINS_PAGE) {
            let pins = page.to_vec();
            self.tell(ToRecorder::PeerPinned { pins, anew: false });
        }
    }

    fn forget_pins(&mut self) {
        self.pins.clear();
        self.tell_pins();
    }

    fn connected(&mut self, peer: Peer, held: &[Held], replies: mpsc::Sender<Reply>) {
        (self.peer, self.replies) = (peer, Some(replies));
        self.forget_pins();
        let own = held
            .iter()
            .filter(|h| h.id.store == self.hub.store && !h.reclaimed);
        self.theirs = own.map(|h| (h.id.clone(), h.length)).collect();
        self.early = false;
        self.hub.compare(held);
        self.look_for_tails();
    }

    fn opened(&mut self, id: &SegmentId, head: &Bytes) {
        self.done_bytes += head.len() as u64;
        if !self.admits(id) || self.growing.contains_key(id) || self.hub.get(id).is_some() {
            return;
        }
        let created = match self.doubtful.get(id) {
            Some(_) => Receiving::create_again(&self.volume, id, head),
            None => Receiving::create(&self.volume, id, head),
        };
        match created {
            Ok(copy) => {
                self.doubtful.remove(id);
                self.tell(ToRecorder::ReceivedOpened {
                    id: id.clone(),
                    head_len: head.len() as u64,
                });
                self.growing.insert(
                    id.clone(),
                    Growing {
                        copy,
                        frames: Vec::new(),
                        dirty: true,
                        durable: 0,
                    },
                );
                self.dirty_bytes += head.len() as u64;
                if id.store == self.hub.store {
                    // It was gone from here, and is sealed by the recorder when all of it came back.
                    let length = self.theirs.get(id).copied().unwrap_or(0);
                    self.tails.insert(id.clone(), length);
                }
            }
            Err(refusal) => self.refuse(id, &refusal, head),
        }
    }

    /// Whether bytes for this segment are wanted. Where they are not, what is here is all there is, and the peer is told.
    fn admits(&mut self, id: &SegmentId) -> bool {
        let is_renamed = self.renamed.iter().any(|copy| &copy.entry.header.id == id);
        if self.replies.is_none() || is_renamed || self.hub.is_declined(id) {
            return false;
        }
        let here = self.hub.get(id);
        let writer = self.writer_of(id, here.as_ref());
        let reclaimed = self.hub.reclaimed_length(id);
        self.early |= writer == Writer::Unknown && reclaimed.is_none();
        match admission(writer, here.as_ref(), reclaimed) {
            Admission::Taken => return true,
            Admission::Held(end) => self.reply(Reply::Ack(vec![(id.clone(), end)])),
            Admission::Unwanted => self.reply(Reply::Declined(id.clone())),
            Admission::TooEarly => {}
        }
        false
    }

    fn append(&mut self, id: &SegmentId, offset: u64, chain: &Chain, bytes: &Bytes) {
        self.done_bytes += bytes.len() as u64;
        if !self.admits(id) {
            return;
        }
        let growing = match self.grow(id) {
            Ok(growing) => growing,
            Err(refusal) => return self.refuse(id, &refusal, bytes),
        };
        match growing.copy.append(offset, chain, bytes) {
            Ok(received) => {
                let mark = |s: &segment::fmp4::ParsedSample| FrameMark {
                    hash: s.hash,
                    wallclock_us: s.wallclock_us,
                    key: s.key,
                };
                growing.frames.extend(received.frames.iter().map(mark));
                growing.dirty = true;
                self.dirty_bytes += bytes.len() as u64;
            }
            Err(refusal) => self.refuse(id, &refusal, bytes),
        }
    }

    /// The copy, also one that was interrupted. One that ends before what the peer was told of it is not gone on with: the next
    /// connection asks from there.
    fn grow(&mut self, id: &SegmentId) -> Result<&mut Growing, Refusal> {
        let place = match self.growing.entry(id.clone()) {
            Entry::Occupied(growing) => return Ok(growing.into_mut()),
            Entry::Vacant(place) => place,
        };
        let copy = match self.doubtful.get(id) {
            Some(durable) => Receiving::resume_durable(&self.volume, id, *durable)?,
            None => Receiving::resume(&self.volume, id)?,
        };
        self.doubtful.remove(id);
        let durable = copy.file().end();
        if let Some(known) = self.hub.get(id).filter(|known| known.end > durable) {
            self.hub.shrank(id, durable);
            return Err(Refusal::WrongOffset {
                id: id.clone(),
                offset: known.end,
                end: durable,
            });
        }
        Ok(place.insert(Growing {
            copy,
            frames: Vec::new(),
            dirty: false,
            durable,
        }))
    }

    fn seal(&mut self, id: &SegmentId, length: u64, root: &Root) {
        if !self.admits(id) {
            return;
        }
        match self.grow(id).map(drop) {
            // It is closed after the next sync, when its frames have been told of.
            Ok(()) => self.complete.push((id.clone(), length, *root)),
            Err(refusal) => self.refuse(id, &refusal, &Bytes::new()),
        }
    }

    /// What fails goes to quarantine, is counted, and is not asked for again for a while (I4). What was proven stays.
    fn refuse(&mut self, id: &SegmentId, refusal: &Refusal, bytes: &Bytes) {
        // I3: what was proven before stays, so it is made durable before a copy is closed.
        self.commit();
        self.refused(id, refusal, bytes);
    }

    fn refused(&mut self, id: &SegmentId, refusal: &Refusal, bytes: &Bytes) {
        tracing::error!(segment = %id, peer = self.peer.member, "refused: {refusal}");
        let growing = self.growing.remove(id);
        if let Some(growing) = &growing {
            self.closed(id, growing);
        }
        let begun = growing.map(|growing| growing.copy.file().header().opened_us);
        let from_us = begun.or_else(|| Some(fmp4::head(bytes).ok()?.header.opened_us));
        if !refusal.blames_peer() {
            match refusal {
                // A folder or a file of one stream: the others have nothing to do with it.
                Refusal::Volume(why) if !why.is_volume_refusal() => {
                    return self.decline(id, refusal.reason(), from_us);
                }
                Refusal::Volume(why) => self.guard.refused(self.now(), why),
                _ => {}
            }
            return self.again("this side lost its place in a segment");
        }
        let reason = refusal.reason();
        self.decline(id, reason, from_us);
        if let Err(e) = quarantine::keep(&self.volume, id, reason, bytes) {
            tracing::warn!("quarantine: {e}");
        }
        let record = Record::Quarantined {
            id: id.clone(),
            reason: refusal.to_string(),
        };
        if let Err(e) = self.record(id.stream, &record) {
            tracing::warn!("ledger: {e}");
        }
        let (stream, segment) = (Some(id.stream), Some(id.clone()));
        self.tell(ToRecorder::Refused {
            stream,
            segment,
            reason: refusal.to_string(),
        });
    }

    /// Nothing more of a segment is wanted for a while, and it is told.
    /// `from_us` is when it begins, where that is known, microseconds since the Unix epoch.
    fn decline(&mut self, id: &SegmentId, reason: &str, from_us: Option<i64>) {
        self.hub.refuse(id, reason, from_us);
        self.reply(Reply::Declined(id.clone()));
    }

    fn record(&mut self, stream: StreamUid, record: &Record) -> segment::Result<()> {
        let ledger = match self.ledgers.entry(stream) {
            Entry::Occupied(ledger) => ledger.into_mut(),
            Entry::Vacant(place) => {
                let (ledger, cuts) = Ledger::open(&self.volume, stream, Role::Replicator)?;
                for cut in cuts {
                    self.hub.truncated();
                    tracing::error!(path = %cut.path.display(), kept = cut.kept, lost = cut.lost, "a damaged ledger was cut after its last whole record");
                }
                place.insert(ledger)
            }
        };
        ledger.append(record)
    }

    /// One sync for all that was received; then it is acknowledged. Copies that are complete are renamed, which is durable
    /// and acknowledged with the next sync (I2).
    fn commit(&mut self) {
        self.last_commit = Instant::now();
        if self.dirty_bytes > 0 || !self.complete.is_empty() || !self.renamed.is_empty() {
            if let Err(e) = self.sync() {
                tracing::error!("the volume does not sync: {e}");
                self.guard.refused(self.now(), &e);
                return self.again("the volume does not sync");
            }
            self.guard.worked();
            self.dirty_bytes = 0;
            let mut acks = self.durable();
            acks.extend(self.sealed());
            self.hub.received(clock::wall_ms());
            self.reply(Reply::Ack(acks));
            self.close_complete();
            self.record_renamed();
        }
        let done = std::mem::take(&mut self.done_bytes);
        if done > 0 {
            self.reply(Reply::Credit(done));
        }
    }

    /// After an error nothing that was written since the last sync may be taken for durable, also when the next one
    /// succeeds: the page cache may have dropped it. The ledgers write it again.
    fn sync(&mut self) -> segment::Result<()> {
        if self.failed {
            self.ledgers.values().try_for_each(Ledger::rewrite)?;
        }
        let synced = self.volume.sync();
        self.failed = synced.is_err();
        synced?;
        self.ledgers.values_mut().for_each(Ledger::synced);
        Ok(())
    }

    fn durable(&mut self) -> Vec<(SegmentId, u64)> {
        let mut acks = Vec::new();
        for (id, growing) in self.growing.iter_mut().filter(|(_, g)| g.dirty) {
            let end = growing.copy.file().end();
            growing.dirty = false;
            growing.durable = end;
            self.hub.arrived(id, end, self.peer.store);
            let frames = std::mem::take(&mut growing.frames);
            let _ = self.recorder.send(ToRecorder::ReceivedDurable {
                id: id.clone(),
                end,
                frames,
            });
            acks.push((id.clone(), end));
        }
        let is_complete = |(id, end): &&(SegmentId, u64)| self.tails.get(id).is_some_and(|t| end >= t);
        let complete: Vec<(SegmentId, u64)> = acks.iter().filter(is_complete).cloned().collect();
        for (id, end) in complete {
            self.tail_complete(id, end);
        }
        acks
    }

    /// Closes complete copies, and gives them their sealed names. Their bytes are synced.
    fn close_complete(&mut self) {
        let received_s = self.clock.advance(clock::wall_s(), clock::boot_s());
        for (id, length, root) in std::mem::take(&mut self.complete) {
            let Some(growing) = self.growing.remove(&id) else {
                continue;
            };
            let len = growing.durable;
            let finished = growing.copy.finish(length, &root);
            match finished.and_then(|finished| finished.rename().map_err(Refusal::from)) {
                Ok(sealed) => self.renamed.push(Renamed {
                    entry: sealed.entry,
                    received_s,
                    from: self.peer.clone(),
                    recorded: false,
                }),
                Err(refusal) => {
                    self.tell(ToRecorder::ReceivedPartial { id: id.clone(), len });
                    self.refused(&id, &refusal, &Bytes::new());
                }
            }
        }
    }

    /// Notes in the ledgers which copies have their sealed names.
    fn record_renamed(&mut self) {
        let mut renamed = std::mem::take(&mut self.renamed);
        for copy in renamed.iter_mut().filter(|copy| !copy.recorded) {
            let id = copy.entry.header.id.clone();
            let record = Record::Received {
                entry: Box::new(copy.entry.clone()),
                received_s: copy.received_s,
                from: copy.from.member.clone(),
            };
            match self.record(id.stream, &record) {
                Ok(()) => copy.recorded = true,
                Err(e) if e.is_of_volume() => self.not_sealed(&id, &e),
                Err(e) => {
                    // I8: the next start rebuilds it from the file. The other streams have nothing to do with it.
                    tracing::error!(segment = %id, "is sealed, and its ledger does not take it: {e}");
                    copy.recorded = true;
                }
            }
        }
        self.renamed = renamed;
    }

    fn not_sealed(&mut self, id: &SegmentId, error: &segment::Error) {
        tracing::error!(segment = %id, "cannot seal: {error}");
        self.guard.refused(self.now(), error);
        self.again("a segment could not be sealed");
    }

    /// A sync succeeded: what was renamed and noted before it is sealed.
    fn sealed(&mut self) -> Vec<(SegmentId, u64)> {
        let (sealed, rest): (Vec<Renamed>, _) = std::mem::take(&mut self.renamed)
            .into_iter()
            .partition(|copy| copy.recorded);
        self.renamed = rest;
        let mut acks = Vec::new();
        for Renamed { entry, from, .. } in sealed {
            acks.push((entry.header.id.clone(), entry.length));
            self.hub.arrived_whole(&entry.held(), from.store);
            self.tell(ToRecorder::ReceivedSealed {
                entry: Box::new(entry),
            });
        }
        acks
    }

    /// The writer may be dead: what is here of its open segments is closed as partial, and may go on later.
    fn disconnected(&mut self) {
        self.commit();
        self.replies = None;
        self.forget_pins();
        self.close();
    }

    /// What is here is read again from the volume when the connection is made again; until then nothing is taken.
    fn again(&mut self, why: &'static str) {
        self.reply(Reply::Again(why));
        self.replies = None;
        self.complete.clear();
        self.dirty_bytes = 0;
        self.close();
    }

    fn close(&mut self) {
        for (id, growing) in std::mem::take(&mut self.growing) {
            self.closed(&id, &growing);
        }
    }

    /// A copy grows no more. What is not durable of it does not count: the peer sends it again.
    fn closed(&mut self, id: &SegmentId, growing: &Growing) {
        let (id, len) = (id.clone(), growing.durable);
        if growing.copy.file().end() > len && self.doubtful.len() < MAX_DOUBTFUL {
            self.doubtful.insert(id.clone(), len);
        }
        self.tell(ToRecorder::ReceivedPartial { id, len });
    }

    fn tell(&self, message: ToRecorder) {
        let _ = self.recorder.send(message);
    }

    /// A peer that takes no answers loses its connection: without the other end of the queue nobody waits for it.
    fn reply(&mut self, reply: Reply) {
        if self
            .replies
            .as_ref()
            .is_some_and(|replies| replies.try_send(reply).is_err())
        {
            self.replies = None;
        }
    }
}
