//! The one loop that does all work on the volume, in a thread of its own: fragments, group commits, seals, ledger,
//! retention. It proves that it is alive by the ticket it sends each [`TICKET_PERIOD`]: a hung disk stops the tickets,
//! and through them this member's authority. It never makes a session wait: the rings absorb a slow disk.

pub mod fragment;
pub mod lane;
#[cfg(test)]
mod tests;
pub mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use failover::streams::Fault;
use segment::retention::Policy;
use segment::sabotage::{Invariant::I9, breaks};
use segment::{Error, Finished, SegmentFile};

use self::lane::{Lane, Step};
use self::volume::Volume;
use super::state::Shared;
use crate::disk::Guard;
use crate::local::{
    ErrorCode, SegmentId, StreamError, StreamUid, TICKET_PERIOD, Ticket, ToReplicator, boottime_ns,
};

/// How often the rings are looked at.
const TICK: Duration = Duration::from_millis(20);
/// The longest time that written bytes wait for their sync.
const COMMIT_PERIOD: Duration = Duration::from_millis(50);
/// Bytes that are synced before the period is over.
const COMMIT_BYTES: u64 = 8 << 20;
/// How often health rides on a ticket.
const HEALTH_PERIOD: Duration = Duration::from_millis(250);
/// How often the volume is measured.
const MEASURE_PERIOD: Duration = Duration::from_millis(500);
/// How long notices wait after the volume refused one.
const NOTES_RETRY: Duration = Duration::from_secs(1);
/// How often retention is looked at, and its clock persisted.
const EVICT_PERIOD: Duration = Duration::from_secs(10);

/// What others ask of the loop. The channel is bounded.
#[derive(Debug)]
pub enum Command {
    /// Authority of this epoch was given up; answer when nothing is stamped with it any more.
    Withdraw(u64),
    /// The segment of a dead incarnation is as long as it will get.
    TailComplete(SegmentId),
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
    dirty_bytes: u64,
    due: Due,
    tickets: u64,
    /// The streams that were said not to be received well.
    faults: Vec<(StreamUid, Fault)>,
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
            dirty_bytes: 0,
            due: Due::default(),
            tickets: 0,
            faults: Vec::new(),
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

    /// Waits for the next tick and takes in commands meanwhile. Returns whether to stop.
    fn wait(&mut self) -> bool {
        let until = Instant::now() + TICK;
        loop {
            match self
                .commands
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(Command::Withdraw(epoch)) => self.outbox.push(ToReplicator::Withdrawn { epoch }),
                Ok(Command::TailComplete(id)) => self.take_tail(&id),
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    fn tick(&mut self, last: bool) {
        let at = now();
        self.measure(at);
        self.follow_registry();
        // The reserve is for them: a full disk is when there is most to say.
        if at >= self.due.notes || last {
            self.note_all(at, last);
        }
        let heard = self.shared.events.receiver_count() > 0 && self.shared.events.is_empty();
        let waits = breaks(I9) && !heard;
        if self.guard.takes(at) && !waits {
            self.write_all(at, last);
            // After a refusal a sync has to prove that the volume works again.
            self.dirty |= self.guard.is_to_prove(at);
        }
        self.report_disk();
        let due = at.saturating_sub(self.due.commit) >= COMMIT_PERIOD || self.dirty_bytes >= COMMIT_BYTES;
        if self.dirty && (due || last) {
            self.due.commit = at;
            self.commit(at);
        }
        self.evict(at);
        self.ticket(at);
        for message in self.outbox.drain(..) {
            // Without a replicator nobody listens; it gets a snapshot when it comes.
            let _ = self.shared.events.send(Arc::new(message));
        }
    }

    fn measure(&mut self, at: Duration) {
        if !passed(&mut self.due.measure, at, MEASURE_PERIOD) {
            return;
        }
        match self.volume.store().space() {
            Ok(space) => self.guard.measured(space.total, space.free),
            Err(e) => self.guard.refused(at, &e.to_string()),
        }
        let (disk, metrics) = (self.guard.report(), &self.shared.metrics);
        metrics.disk_total.set(disk.total_bytes.cast_signed());
        metrics.disk_free.set(disk.free_bytes.cast_signed());
        metrics.disk_full.set(i64::from(disk.full));
    }

    /// A lane for each configured stream; the lane of one that left stays until nothing of it waits, also where a
    /// stream with the same UID came back meanwhile.
    fn follow_registry(&mut self) {
        let streams = self.shared.registry.streams();
        self.lanes
            .retain(|_, lane| !lane.is_idle() || streams.iter().any(|s| Arc::ptr_eq(s, &lane.stream)));
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
            match lane.step(&mut step) {
                Ok(bytes) => {
                    self.dirty |= !lane.is_idle();
                    self.dirty_bytes += bytes;
                }
                Err(e) => {
                    self.dirty |= !lane.is_idle();
                    if !matches!(e, Error::Media(_)) {
                        self.shared.metrics.disk_errors.inc();
                    }
                    if e.is_volume_refusal() {
                        tracing::error!(stream = %lane.stream.name, "the volume refuses frames: {e}");
                        self.guard.refused(at, &e.to_string());
                    }
                }
            }
        }
    }

    /// Streams say of themselves that their frames are not written.
    fn report_disk(&self) {
        let why = self.guard.why();
        for lane in self.lanes.values() {
            let error = why.as_ref().map(|why| StreamError {
                code: ErrorCode::DiskFull,
                message: format!(
                    "stream '{}' is not recorded on {}: {why}; free space, or lower spec.storage.retention",
                    lane.stream.name, self.shared.member
                ),
            });
            let mut inner = lane.stream.lock();
            inner.set_disk_error(error);
            inner.set_unwritable(lane.trouble().cloned());
        }
    }

    /// The commit group: one sync for everything written (I10); one more if segments were sealed (I2).
    fn commit(&mut self, at: Duration) {
        let began = Instant::now();
        if let Err(e) = self.volume.sync() {
            tracing::error!("the volume does not sync: {e}");
            self.guard.refused(at, &e.to_string());
            self.shared.metrics.disk_errors.inc();
            self.lanes.values_mut().for_each(Lane::lost);
            return;
        }
        self.shared
            .metrics
            .commit_seconds
            .observe(began.elapsed().as_secs_f64());
        self.guard.synced(at);
        (self.dirty, self.dirty_bytes) = (false, 0);
        let mut ended = std::mem::take(&mut self.tails);
        {
            let mut catalogue = self.shared.catalogue();
            for lane in self.lanes.values_mut() {
                ended.extend(lane.committed(&mut catalogue, &mut self.outbox));
            }
        }
        if !ended.is_empty() {
            self.seal(ended);
        }
    }

    fn seal(&mut self, ended: Vec<Finished>) {
        let sealed = self.volume.seal(ended);
        if let Err(e) = self.volume.sync() {
            // Not named to anyone; the next start finds them.
            tracing::error!("the volume does not sync: {e}");
            return;
        }
        self.shared.metrics.sealed.inc_by(sealed.len() as u64);
        self.outbox
            .extend(sealed.into_iter().map(|entry| ToReplicator::Sealed { entry }));
    }

    /// The segment of a dead incarnation got what the peer had of it: it is sealed with the next commit.
    fn take_tail(&mut self, id: &SegmentId) {
        if id.incarnation == self.shared.incarnation || id.store != self.shared.volume.store() {
            tracing::warn!(segment = %id, "not a segment of a dead incarnation of this recorder");
            return;
        }
        match SegmentFile::resume(self.volume.store(), id) {
            Ok(file) if !file.fragments().is_empty() => {
                self.tails.push(file.finish());
                self.dirty = true;
            }
            Ok(_) => {}
            Err(e) => tracing::warn!(segment = %id, "cannot seal the tail: {e}"),
        }
    }

    fn evict(&mut self, at: Duration) {
        if !passed(&mut self.due.evict, at, EVICT_PERIOD) {
            return;
        }
        let retention = self.shared.settings().retention;
        let policy = Policy {
            min_age: retention.min_age,
            max_age: retention.max_age,
            max_bytes: retention.max_bytes,
        };
        if let Err(e) = self.volume.store_clock() {
            // Retention is what makes room; the clock is behind after a restart, so media then stays longer.
            tracing::warn!("the retention clock is not persisted: {e}");
        }
        match self.volume.evict(&policy) {
            Ok(left) => self.outbox.extend(
                left.into_iter()
                    .map(|(id, end_us)| ToReplicator::Evicted { id, end_us }),
            ),
            Err(e) => tracing::error!("retention cannot work: {e}"),
        }
    }

    fn ticket(&mut self, at: Duration) {
        if !passed(&mut self.due.ticket, at, TICKET_PERIOD) {
            return;
        }
        let health: Vec<_> = self.lanes.values().map(|l| l.stream.health(at)).collect();
        let disk = self.guard.report();
        let faults: Vec<_> = health.iter().filter_map(|h| Some((h.uid, h.fault?))).collect();
        let owned = |uid| self.shared.pair.standing(uid, at).owner;
        // A stream that fails must not wait: the other member is to write it.
        let changed = faults != self.faults;
        self.faults = faults;
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
            fit: !disk.full,
            disk,
            ledger_truncations: self.shared.metrics.ledger_truncations.get(),
            streams,
        };
        self.shared.alive(at);
        self.outbox.push(ToReplicator::Ticket(ticket));
    }
}
