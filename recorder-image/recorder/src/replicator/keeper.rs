//! What was received goes to the volume here, in a thread of its own: proven, appended, synced in groups, and only then
//! acknowledged (I4, I10). It contains no call that removes media (I3).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use segment::catalogue::Held;
use segment::receive::Receiving;
use segment::{
    Chain, Finished, Ledger, Record, Refusal, Role, SealedEntry, SegmentId, StreamUid, Volume, quarantine,
};
use tokio::sync::mpsc;

use super::hub::Hub;
use crate::local::{FrameMark, ToRecorder};

/// The longest time that received bytes wait for their sync.
const COMMIT_PERIOD: Duration = Duration::from_millis(50);
/// Bytes that are synced before the period is over.
const COMMIT_BYTES: u64 = 8 << 20;

/// Something for the volume.
#[derive(Debug)]
pub enum Work {
    /// A connection to the peer stands; `held` is what it holds. Replies go to `replies`.
    Connected {
        /// The peer.
        peer: String,
        /// Its inventory.
        held: Vec<Held>,
        /// Where acknowledgements and credit go.
        replies: mpsc::UnboundedSender<Reply>,
    },
    /// A segment begins.
    Opened(SegmentId, Bytes),
    /// The next fragment.
    Append(SegmentId, u64, Chain, Bytes),
    /// It is complete.
    Seal(Box<SealedEntry>),
    /// The connection ended.
    Disconnected,
}

/// Something for the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Durable ends.
    Ack(Vec<(SegmentId, u64)>),
    /// So many payload bytes were dealt with.
    Credit(u64),
}

/// A copy that grows.
#[derive(Debug)]
struct Growing {
    copy: Receiving,
    /// Frames of fragments that are not synced yet.
    frames: Vec<FrameMark>,
    dirty: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    volume: Arc<Volume>,
    hub: Arc<Hub>,
    recorder: mpsc::UnboundedSender<ToRecorder>,
    ledgers: BTreeMap<StreamUid, Ledger>,
    growing: BTreeMap<SegmentId, Growing>,
    finished: Vec<Finished>,
    /// Own segments of dead incarnations, and how long they will get.
    tails: BTreeMap<SegmentId, u64>,
    peer: String,
    replies: Option<mpsc::UnboundedSender<Reply>>,
    dirty_bytes: u64,
    done_bytes: u64,
    last_commit: Instant,
}

impl Keeper {
    /// A keeper that received nothing yet.
    pub fn new(volume: Arc<Volume>, hub: Arc<Hub>, recorder: mpsc::UnboundedSender<ToRecorder>) -> Self {
        Self {
            volume,
            hub,
            recorder,
            ledgers: BTreeMap::new(),
            growing: BTreeMap::new(),
            finished: Vec::new(),
            tails: BTreeMap::new(),
            peer: String::new(),
            replies: None,
            dirty_bytes: 0,
            done_bytes: 0,
            last_commit: Instant::now(),
        }
    }

    /// Works until the other end of the channel is gone.
    pub fn run(mut self, inbox: &Receiver<Work>) {
        loop {
            match inbox.recv_timeout(COMMIT_PERIOD) {
                Ok(work) => self.take(work),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.last_commit.elapsed() >= COMMIT_PERIOD || self.dirty_bytes >= COMMIT_BYTES {
                self.commit();
            }
        }
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Connected { peer, held, replies } => self.connected(peer, &held, replies),
            Work::Opened(id, head) => self.opened(&id, &head),
            Work::Append(id, offset, chain, bytes) => self.append(&id, offset, &chain, &bytes),
            Work::Seal(entry) => self.seal(&entry),
            Work::Disconnected => self.disconnected(),
        }
    }

    /// The own segments of dead incarnations are complete when the peer holds no more of them.
    fn connected(&mut self, peer: String, held: &[Held], replies: mpsc::UnboundedSender<Reply>) {
        (self.peer, self.replies) = (peer, Some(replies));
        let theirs: BTreeMap<&SegmentId, u64> = held.iter().map(|h| (&h.id, h.length)).collect();
        self.tails.clear();
        for (id, end) in self.hub.own_partials() {
            let length = theirs.get(&id).copied().unwrap_or(0);
            if length > end {
                self.tails.insert(id, length);
            } else {
                self.tell(ToRecorder::TailComplete { id });
            }
        }
    }

    fn opened(&mut self, id: &SegmentId, head: &Bytes) {
        self.done_bytes += head.len() as u64;
        if self.growing.contains_key(id) || self.hub.get(id).is_some() {
            return;
        }
        match Receiving::create(&self.volume, id, head) {
            Ok(copy) => {
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
                    },
                );
                self.dirty_bytes += head.len() as u64;
            }
            Err(refusal) => self.refuse(id, &refusal, head),
        }
    }

    fn append(&mut self, id: &SegmentId, offset: u64, chain: &Chain, bytes: &Bytes) {
        self.done_bytes += bytes.len() as u64;
        if self.hub.get(id).is_some_and(|k| k.entry.is_some()) {
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

    /// The copy, also one that was interrupted.
    fn grow(&mut self, id: &SegmentId) -> Result<&mut Growing, Refusal> {
        if !self.growing.contains_key(id) {
            let copy = Receiving::resume(&self.volume, id)?;
            self.growing.insert(
                id.clone(),
                Growing {
                    copy,
                    frames: Vec::new(),
                    dirty: false,
                },
            );
        }
        self.growing
            .get_mut(id)
            .ok_or_else(|| Refusal::BrokenChain(id.clone()))
    }

    fn seal(&mut self, entry: &SealedEntry) {
        let id = &entry.header.id;
        if self.hub.get(id).is_some_and(|k| k.entry.is_some()) {
            return;
        }
        if let Err(refusal) = self.grow(id).map(drop) {
            return self.refuse(id, &refusal, &Bytes::new());
        }
        // Its frames must be told of before it is closed.
        self.commit();
        let Some(growing) = self.growing.remove(id) else {
            return;
        };
        match growing.copy.finish(entry) {
            Ok(finished) => self.finished.push(finished),
            Err(refusal) => self.refuse(id, &refusal, &Bytes::new()),
        }
    }

    /// What fails goes to quarantine, is counted, and is not asked for again for a while (I4). What was proven stays.
    fn refuse(&mut self, id: &SegmentId, refusal: &Refusal, bytes: &Bytes) {
        tracing::error!(segment = %id, peer = %self.peer, "refused: {refusal}");
        self.growing.remove(id);
        if !refusal.blames_peer() {
            return;
        }
        let reason = refusal.reason();
        if self.hub.declined().contains(id) {
            return;
        }
        self.hub.refuse(id, reason);
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

    fn record(&mut self, stream: StreamUid, record: &Record) -> segment::Result<()> {
        if !self.ledgers.contains_key(&stream) {
            let (ledger, cuts) = Ledger::open(&self.volume, stream, Role::Replicator)?;
            for cut in cuts {
                tracing::error!(path = %cut.path.display(), kept = cut.kept, lost = cut.lost, "a damaged ledger was cut after its last whole record");
            }
            self.ledgers.insert(stream, ledger);
        }
        self.ledgers
            .get_mut(&stream)
            .map_or(Ok(()), |ledger| ledger.append(record))
    }

    /// One sync for all that was received, one more where segments were sealed; then it is acknowledged.
    fn commit(&mut self) {
        self.last_commit = Instant::now();
        if self.dirty_bytes > 0 || !self.finished.is_empty() {
            if let Err(e) = self.volume.sync() {
                tracing::error!("the volume does not sync: {e}");
                // Nothing of it may be taken for durable: the copies are read again from what is.
                self.growing.clear();
                self.finished.clear();
                return;
            }
            self.dirty_bytes = 0;
            let mut acks = self.durable();
            acks.extend(self.sealed());
            self.reply(Reply::Ack(acks));
        }
        let done = std::mem::take(&mut self.done_bytes);
        if done > 0 {
            self.reply(Reply::Credit(done));
        }
    }

    fn durable(&mut self) -> Vec<(SegmentId, u64)> {
        let mut acks = Vec::new();
        for (id, growing) in self.growing.iter_mut().filter(|(_, g)| g.dirty) {
            let end = growing.copy.file().end();
            growing.dirty = false;
            self.hub.grew(id, end, true);
            let frames = std::mem::take(&mut growing.frames);
            let _ = self.recorder.send(ToRecorder::ReceivedDurable {
                id: id.clone(),
                end,
                frames,
            });
            acks.push((id.clone(), end));
        }
        let complete: Vec<SegmentId> = acks
            .iter()
            .filter(|(id, end)| self.tails.get(id).is_some_and(|t| end >= t))
            .map(|(id, _)| id.clone())
            .collect();
        for id in complete {
            self.tails.remove(&id);
            self.growing.remove(&id);
            self.tell(ToRecorder::TailComplete { id });
        }
        acks
    }

    fn sealed(&mut self) -> Vec<(SegmentId, u64)> {
        if self.finished.is_empty() {
            return Vec::new();
        }
        let received_s = jiff::Timestamp::now().as_second();
        let mut entries = Vec::new();
        for finished in std::mem::take(&mut self.finished) {
            let id = finished.entry().header.id.clone();
            let from = self.peer.clone();
            let renamed = finished.rename().and_then(|entry| {
                let record = Record::Received {
                    entry: Box::new(entry.clone()),
                    received_s,
                    from,
                };
                self.record(id.stream, &record).map(|()| entry)
            });
            match renamed {
                Ok(entry) => entries.push(entry),
                Err(e) => tracing::error!(segment = %id, "cannot seal: {e}"),
            }
        }
        if let Err(e) = self.volume.sync() {
            tracing::error!("the volume does not sync: {e}");
            return Vec::new();
        }
        let mut acks = Vec::new();
        for entry in entries {
            acks.push((entry.header.id.clone(), entry.length));
            self.hub.sealed(entry.clone());
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
        for (id, growing) in std::mem::take(&mut self.growing) {
            let len = growing.copy.file().end();
            self.tell(ToRecorder::ReceivedPartial { id, len });
        }
    }

    fn tell(&self, message: ToRecorder) {
        let _ = self.recorder.send(message);
    }

    fn reply(&self, reply: Reply) {
        if let Some(replies) = &self.replies {
            let _ = replies.send(reply);
        }
    }
}
