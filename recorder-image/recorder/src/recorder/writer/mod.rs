//! The one loop that does all work on the volume, in a thread of its own: fragments, group commits, seals, ledger,
//! retention. There is one sync at most in each turn, so that a slow one does not make the loop look hung. It proves that it is alive by the ticket it sends each [`TICKET_PERIOD`]: a hung disk stops the tickets,
//! and through them this member's authority. It never makes a session wait: the rings absorb a slow disk.

pub mod fragment;
pub mod lane;
#[cfg(test)]
pub(super) mod tests;
pub mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use failover::streams::Fault;
use segment::reclaim::{Pin, Proof};
use segment::retention::Policy;
use segment::sabotage::{Invariant::I9, breaks};
use segment::{Error, Finished, SegmentFile};

use self::lane::{Lane, Step};
use self::volume::Volume;
use super::state::{Shared, pinned};
use super::stream::Stream;
use crate::clock::boottime_ns;
use crate::disk::Guard;
use crate::local::{
    ErrorCode, SegmentId, StreamError, StreamState, StreamUid, TICKET_PERIOD, Ticket, ToReplicator,
};

/// How often the rings are looked at, and what they have is written and synced: no more often, if it is asked to look sooner.
const TICK: Duration = Duration::from_millis(100);
/// Between two turns it listens for so long at least, however long a turn takes.
const LISTENS: Duration = Duration::from_millis(20);
/// How often health rides on a ticket.
const HEALTH_PERIOD: Duration = Duration::from_millis(250);
/// How often the volume is measured.
const MEASURE_PERIOD: Duration = Duration::from_millis(500);
/// How long notices wait after the volume refused one.
const NOTES_RETRY: Duration = Duration::from_secs(1);
/// How long syncs wait after one failed, and a file that it left open after it could not be closed.
const SYNC_RETRY: Duration = Duration::from_secs(1);
/// The most syncs at the end: of the last frames, of the names of their segments, and the same for what was in doubt.
const LAST_COMMITS: usize = 4;
/// How often retention is looked at, and its clock persisted.
const EVICT_PERIOD: Duration = Duration::from_secs(10);
/// How soon again where more is to leave than may leave at once.
const EVICT_AGAIN: Duration = Duration::from_secs(1);

/// What others ask of the loop. The channel is bounded.
#[derive(Debug)]
pub enum Command {
    /// Look at the rings now: something is known of the peer that may make this member write.
    Look,
    /// Authority of this epoch was given up; answer when nothing is stamped with it any more.
    Withdraw(u64),
    /// The segment of a dead incarnation is as long as it will get: so many bytes.
    TailComplete(SegmentId, u64),
    /// Write a pin into the ledger.
    Pin(Pin),
    /// Remove a duplicate, if all that has to be so is so.
    Reclaim(Box<Proof>),
    /// Write what is there, seal it, and end.
    Stop,
}

/// The loop.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    volume: Volume,
    lanes: BTreeMap<StreamUid, Lane>,
    guard: Guard,
    outbox: Vec<ToReplicator>,
    tails: Vec<Finished>,
    dirty: bool,
    due: Due,
    /// When the newest turn began.
    turned: Instant,
    tickets: u64,
    /// How each stream was said to be received.
    told: Vec<(StreamState, Option<Fault>)>,
}

/// When each periodic piece of work was done last, on `CLOCK_BOOTTIME`.
#[derive(Debug, Default)]
struct Due {
    commit: Duration,
    ticket: Duration,
    health: Duration,
    measure: Duration,
    evict: Duration,
    /// Before this no notice is written.
    notes: Duration,
}

/// Whether `period` has passed since `last`; then `last` is now.
fn passed(last: &mut Duration, now: Duration, period: Duration) -> bool {
    let due = now.saturating_sub(*last) >= period;
    if due {
        *last = now;
    }
    due
}

/// Writes down what a stream that leaves has to say still. Returns whether that is done, or will never be.
fn says_the_rest(volume: &mut Volume, stream: &Stream, dirty: &mut bool) -> bool {
    match volume.note_all(stream, Duration::MAX) {
        Ok(any) => {
            *dirty |= any;
            true
        }
        Err(e) if e.is_of_volume() => false,
        Err(e) => {
            tracing::error!(stream = %stream.name, "it leaves, and its notices are not in the ledger: {e}");
            true
        }
    }
}

fn now() -> Duration {
    Duration::from_nanos(boottime_ns())
}

impl Writer {
    /// A loop that has not begun.
    pub fn new(shared: Arc<Shared>, commands: Receiver<Command>, volume: Volume) -> Self {
        Self {
            shared,
            commands,
            volume,
            lanes: BTreeMap::new(),
            guard: Guard::default(),
            outbox: Vec::new(),
            tails: Vec::new(),
            dirty: false,
            due: Due::default(),
            turned: Instant::now(),
            tickets: 0,
            told: Vec::new(),
        }
    }

    /// Runs until it is told to stop.
    pub fn run(mut self) {
        let mut stop = false;
        while !stop {
            stop = self.wait();
            self.tick(stop);
        }
    }

    /// Waits for the next tick, or until it is asked to look, and takes in commands meanwhile. Returns whether to stop.
    fn wait(&mut self) -> bool {
        let stop = self.listen((self.turned + TICK).max(Instant::now() + LISTENS));
        self.turned = Instant::now();
        stop
    }

    fn listen(&mut self, until: Instant) -> bool {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Whoever asks for much must not keep the loop from writing.
                return false;
            }
            match self.commands.recv_timeout(left) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(Command::Look) => {
                    self.shared.looks();
                    return false;
                }
                Ok(Command::Withdraw(epoch)) => {
                    self.outbox.push(ToReplicator::Withdrawn { epoch });
                    // Who hands authority over waits for it.
                    return false;
                }
                Err(RecvTimeoutError::Timeout) => return false,
                Ok(Command::TailComplete(id, end)) => self.take_tail(&id, end),
                Ok(Command::Pin(pin)) => self.pin(pin),
                Ok(Command::Reclaim(proof)) => self.reclaim(*proof),
            }
        }
    }

    fn tick(&mut self, last: bool) {
        self.tick_at(now(), last);
    }

    fn tick_at(&mut self, at: Duration, last: bool) {
        self.measure(at);
        let notes = at >= self.due.notes || last;
        self.follow_registry(notes);
        // The reserve is for them: a full disk is when there is most to say.
        if notes {
            self.note_all(at, last);
        }
        let heard = self.shared.events.receiver_count() > 0 && self.shared.events.is_empty();
        let waits = breaks(I9) && !heard;
        if self.guard.takes(at) && !waits {
            self.write_all(at, last);
            // After a refusal a sync has to prove that the volume works again.
            self.dirty |= self.guard.is_to_prove(at) || self.volume.is_doubtful_due(at);
        }
        self.report_disk();
        if passed(&mut self.due.evict, at, EVICT_PERIOD) {
            // It syncs as well: the commit is for the next turn.
            self.evict(at);
        } else if self.dirty && self.is_commit_due(at) {
            self.commit(at, 1);
        }
        if last {
            self.commit_all(at);
        }
        self.ticket(at);
        if !self.outbox.is_empty() {
            // Without a replicator nobody listens; it gets a snapshot when it comes.
            let _ = self.shared.events.send(std::mem::take(&mut self.outbox).into());
        }
    }

    fn measure(&mut self, at: Duration) {
        if !passed(&mut self.due.measure, at, MEASURE_PERIOD) {
            return;
        }
        match self.volume.store().space() {
            Ok(space) => self.guard.measured(space),
            Err(e) => self.guard.refused(at, &e),
        }
        let (disk, metrics) = (self.guard.report(), &self.shared.metrics);
        metrics.disk_total.set(disk.total_bytes.cast_signed());
        metrics.disk_free.set(disk.free_bytes.cast_signed());
        metrics.disk_full.set(i64::from(disk.full));
        metrics.disk_failing.set(i64::from(disk.failing));
    }

    /// A lane for each configured stream; the lane of one that left stays until nothing of it waits and all is noted (`notes` says that
    /// this may be tried), also where a stream with the same UID came back meanwhile.
    fn follow_registry(&mut self, notes: bool) {
        let (streams, metrics) = (self.shared.registry.streams(), &self.shared.metrics);
        let (volume, dirty) = (&mut self.volume, &mut self.dirty);
        self.lanes.retain(|_, lane| {
            let configured = streams.iter().any(|s| Arc::ptr_eq(s, &lane.stream));
            let stays =
                configured || !lane.is_idle() || !notes || !says_the_rest(volume, &lane.stream, dirty);
            if !stays && !streams.iter().any(|s| s.name == lane.stream.name) {
                // What it wrote last was counted after it left the configuration.
                metrics.forget(&lane.stream.name);
            }
            stays
        });
        for stream in streams {
            self.lanes.entry(stream.uid).or_insert_with(|| Lane::new(stream));
        }
    }

    fn note_all(&mut self, at: Duration, last: bool) {
        let until = if last { Duration::MAX } else { at };
        for lane in self.lanes.values() {
            match self.volume.note_all(&lane.stream, until) {
                Ok(any) => self.dirty |= any,
                Err(e) => {
                    tracing::error!(stream = %lane.stream.name, "its notices are not in the ledger: {e}");
                    self.due.notes = at + NOTES_RETRY;
                }
            }
        }
    }

    /// Each stream in turn: what keeps one from the disk keeps no other from it.
    fn write_all(&mut self, at: Duration, last: bool) {
        let settings = self.shared.settings();
        for lane in self.lanes.values_mut() {
            let configured = self.shared.registry.get(lane.stream.uid);
            let left = configured.is_none_or(|s| !Arc::ptr_eq(&s, &lane.stream));
            let mut step = Step {
                volume: &mut self.volume,
                pair: &self.shared.pair,
                now: at,
                target: settings.segment,
                max_ring: settings.ring.max_bytes,
                last: last || left,
            };
            let stepped = lane.step(&mut step);
            self.dirty |= !lane.is_idle();
            let Err(e) = stepped else { continue };
            if !matches!(e, Error::Media(_)) {
                self.shared.metrics.disk_errors.inc();
            }
            if e.is_volume_refusal() {
                tracing::error!(stream = %lane.stream.name, "the volume refuses frames: {e}");
                self.guard.refused(at, &e);
            }
        }
    }

    /// Streams say of themselves that their frames are not written.
    fn report_disk(&self) {
        let why = self.guard.why();
        let code = if self.guard.report().failing {
            ErrorCode::DiskFailing
        } else {
            ErrorCode::DiskFull
        };
        for lane in self.lanes.values() {
            let error = why.as_ref().map(|why| StreamError {
                code,
                message: format!(
                    "stream '{}' is not recorded on {}: {why}",
                    lane.stream.name, self.shared.member
                ),
            });
            let mut inner = lane.stream.lock();
            inner.set_disk_error(error);
            inner.set_unwritable(lane.trouble().cloned());
        }
    }

    fn is_commit_due(&self, at: Duration) -> bool {
        at.saturating_sub(self.due.commit) >= TICK
    }

    /// At the end nothing waits for another turn, unless the volume refuses it.
    fn commit_all(&mut self, at: Duration) {
        for _ in 0..LAST_COMMITS {
            if self.dirty {
                self.commit(at, usize::MAX);
            }
        }
    }

    /// The commit group: one sync for everything written, renamed and let go since the last one (I10). What was written
    /// is durable then; ended segments are renamed, and named to others after the next sync (I2). Of the files that failures left open
    /// `doubtful` are closed at most: each is read, and meanwhile this loop writes nothing.
    fn commit(&mut self, at: Duration, doubtful: usize) {
        self.due.commit = at;
        let began = Instant::now();
        if let Err(e) = self.volume.sync() {
            return self.not_synced(at, &e);
        }
        self.shared
            .metrics
            .commit_seconds
            .observe(began.elapsed().as_secs_f64());
        self.guard.synced(at);
        self.dirty = false;
        self.tell_sealed();
        let mut ended = std::mem::take(&mut self.tails);
        {
            let mut catalogue = self.shared.catalogue();
            for lane in self.lanes.values_mut() {
                ended.extend(lane.committed(&mut catalogue, &mut self.outbox));
            }
        }
        if let Err(e) = self.volume.rename(ended, at) {
            self.refused(at, &e);
        }
        self.tails = self.volume.close_doubtful(at, doubtful);
        self.dirty = self.volume.waits() || !self.tails.is_empty();
    }

    /// Nothing that was written since the last sync may be taken for durable.
    fn not_synced(&mut self, at: Duration, error: &Error) {
        tracing::error!("the volume does not sync: {error}");
        self.refused(at, error);
        for lane in self.lanes.values_mut() {
            lane.lost(&mut self.volume, at);
        }
    }

    fn refused(&mut self, at: Duration, error: &Error) {
        self.shared.metrics.disk_errors.inc();
        self.guard.refused(at, error);
        self.due.commit = at + SYNC_RETRY;
    }

    /// What was renamed and let go before the sync that succeeded now.
    fn tell_sealed(&mut self) {
        let sealed = self.volume.sealed();
        self.shared.metrics.sealed.inc_by(sealed.len() as u64);
        let sealed = sealed.into_iter().map(|held| ToReplicator::Sealed { held });
        self.outbox.extend(sealed);
        self.outbox.extend(pinned(&self.volume.pinned()));
        let gone = self.volume.reclaimed(now()).into_iter();
        self.outbox
            .extend(gone.map(|held| ToReplicator::Reclaimed { held }));
        let left = self.volume.leave().into_iter();
        self.outbox
            .extend(left.map(|(id, end_us)| ToReplicator::Evicted { id, end_us }));
    }

    /// The segment of a dead incarnation got what the peer had of it: it is sealed with the next commit. One of which bytes are gone
    /// that were durable is not: the peer may have them.
    fn take_tail(&mut self, id: &SegmentId, end: u64) {
        if id.incarnation == self.shared.incarnation || id.store != self.shared.volume.store() {
            tracing::warn!(segment = %id, "not a segment of a dead incarnation of this recorder");
            return;
        }
        if self.tails.iter().any(|tail| &tail.entry().header.id == id) || self.volume.doubts(id) {
            return;
        }
        match SegmentFile::resume(self.volume.store(), id) {
            Ok(file) if file.end() < end => {
                let (id, end) = (id.clone(), file.end());
                tracing::error!(segment = %id, end, "bytes that were durable are gone; the peer is asked for them");
                self.outbox.push(ToReplicator::Shorter { id, end });
            }
            Ok(file) if !file.fragments().is_empty() => {
                self.tails.push(file.finish());
                self.dirty = true;
            }
            Ok(_) => {}
            Err(e) => tracing::warn!(segment = %id, "cannot seal the tail: {e}"),
        }
    }

    fn pin(&mut self, pin: Pin) {
        if let Err(e) = self.volume.pin(pin) {
            tracing::warn!("a pin is not in the ledger: {e}");
        }
        self.dirty |= self.volume.waits();
    }

    fn reclaim(&mut self, proof: Proof) {
        if let Err(e) = self.volume.note_reclaim(proof, now()) {
            tracing::warn!("a duplicate stays, the ledger does not take it: {e}");
        }
        self.dirty |= self.volume.waits();
    }

    fn evict(&mut self, at: Duration) {
        let retention = self.shared.settings().retention;
        let policy = Policy {
            min_age: retention.min_age,
            max_age: retention.max_age,
            max_bytes: retention.max_bytes,
            short: self.guard.short(),
        };
        if let Err(e) = self.volume.store_clock() {
            // Retention is what makes room; the clock is behind after a restart, so media then stays longer.
            tracing::warn!("the retention clock is not persisted: {e}");
        }
        if policy.short > 0 {
            let short = policy.short >> 20;
            tracing::warn!(
                "the volume lacks {short} MiB of room for what is recorded next: the oldest media leaves, down to minAge"
            );
        }
        match self.volume.let_go(&policy) {
            Ok(true) => self.due.evict = (at + EVICT_AGAIN).saturating_sub(EVICT_PERIOD),
            Ok(false) => {}
            Err(e) => tracing::error!("retention cannot work: {e}"),
        }
        self.dirty |= self.volume.waits();
    }

    fn ticket(&mut self, at: Duration) {
        if !passed(&mut self.due.ticket, at, TICKET_PERIOD) {
            return;
        }
        let health: Vec<_> = self.lanes.values().map(|l| l.stream.health(at)).collect();
        let disk = self.guard.report();
        let told: Vec<_> = health.iter().map(|h| (h.state, h.fault)).collect();
        let owned = |uid| self.shared.pair.standing(uid, at).owner;
        // A stream that fails must not wait: the other member is to write it.
        let changed = told != self.told;
        self.told = told;
        let streams = (passed(&mut self.due.health, at, HEALTH_PERIOD) || changed).then(|| {
            for (lane, health) in self.lanes.values().zip(&health) {
                lane.stream
                    .counters
                    .gauges(health, lane.stream.lock().ring.bytes(), owned(lane.stream.uid));
            }
            health
        });
        self.tickets += 1;
        let ticket = Ticket {
            n: self.tickets,
            fit: !(disk.full || disk.failing),
            disk,
            ledger_truncations: self.shared.metrics.ledger_truncations.get(),
            streams,
        };
        self.shared.alive(at);
        self.outbox.push(ToReplicator::Ticket(ticket));
    }
}
