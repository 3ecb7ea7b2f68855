//! What the parts of the recorder share. Locks are held for moments only, never over a sync of the volume.

#[cfg(test)]
pub(super) mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use segment::copy::read_copy;
use segment::reclaim::{PeerPins, Pin};
use segment::retention::RetentionClock;
use segment::scan::{Added, scan, scan_more};
use segment::{
    Catalogue, Copy, Error, Origin, SealedEntry, SegmentId, State, StreamUid, Volume, catalogue, inventory,
};
use tokio::sync::broadcast;

use super::config::Settings;
use super::decide::PeerView;
use super::merged::PeerHolds;
use super::metrics::Metrics;
use super::pair::Pair;
use super::readiness;
use super::registry::Registry;
use super::stream::Stream;
use super::writer::Command;
use crate::clock;
use crate::clock::boottime_ns;
use crate::local::{FrameMark, StreamState, ToRecorder, ToReplicator};
use crate::wire::PINS_PAGE;

/// How many turns of the writer loop, with what each has to say, may wait for the replicator before it is given a new snapshot instead:
/// those of 6 s.
pub const EVENTS: usize = 128;
/// After this silence of the writer loop the process is not ready.
const WRITER_SILENCE: Duration = Duration::from_secs(2);
/// How many sealed segments of each stream a new replicator is told of: those that it may have missed.
const RECENT: usize = 64;

/// What was found on the volume.
#[derive(Debug)]
pub struct Held {
    /// The volume.
    pub volume: Volume,
    /// What it holds.
    pub catalogue: Catalogue,
    /// Its retention clock.
    pub clock: RetentionClock,
}

/// What was read of a received segment that grew.
enum More {
    /// It was not known.
    All(Box<Copy>),
    /// Its new fragments.
    Added(SegmentId, Vec<Added>),
}

/// The recorder's shared state.
#[derive(Debug)]
pub struct Shared {
    /// This member.
    pub member: String,
    /// This start of the process; random.
    pub incarnation: u64,
    /// The volume.
    pub volume: Volume,
    /// The configured streams.
    pub registry: Registry,
    /// Authority and the peer.
    pub pair: Pair,
    /// What is known of the peer's catalogue.
    pub peer_holds: PeerHolds,
    /// The pins in the peer's ledger, as it said.
    peer_pins: Mutex<PeerPins>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is told to the replicator: all that one turn of the writer loop has to say at once.
    pub events: broadcast::Sender<Arc<[ToReplicator]>>,
    /// To the writer loop.
    pub commands: SyncSender<Command>,
    /// When this process could begin to record, on `CLOCK_BOOTTIME`.
    began: Duration,
    settings: RwLock<Option<Arc<Settings>>>,
    catalogue: Mutex<Catalogue>,
    clock: Mutex<RetentionClock>,
    /// Received segments that grew since they were indexed, and whether they were closed since; they are read again when a viewer asks.
    stale: Mutex<BTreeMap<SegmentId, State>>,
    /// Held while they are: who asks meanwhile waits, or it would see less than is there.
    reading: Mutex<()>,
    last_alive_ns: AtomicU64,
    /// The writer loop was asked to look at its rings, and did not yet.
    is_to_look: AtomicBool,
}

impl Shared {
    /// The state at the start.
    pub fn new(member: String, held: Held, metrics: Arc<Metrics>, commands: SyncSender<Command>) -> Self {
        let Held {
            volume,
            catalogue,
            clock,
        } = held;
        Self {
            member,
            incarnation: rand::random(),
            volume,
            registry: Registry::new(Arc::clone(&metrics)),
            pair: Pair::default(),
            peer_holds: PeerHolds::default(),
            peer_pins: Mutex::default(),
            metrics,
            events: broadcast::channel(EVENTS).0,
            commands,
            began: Duration::from_nanos(boottime_ns()),
            settings: RwLock::default(),
            catalogue: Mutex::new(catalogue),
            clock: Mutex::new(clock),
            stale: Mutex::default(),
            reading: Mutex::default(),
            last_alive_ns: AtomicU64::new(0),
            is_to_look: AtomicBool::new(false),
        }
    }

    /// The settings in force; the default ones before there are any.
    pub fn settings(&self) -> Arc<Settings> {
        self.configured().unwrap_or_default()
    }

    fn configured(&self) -> Option<Arc<Settings>> {
        self.settings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts settings in force, for the sessions too. Must be called within a tokio runtime.
    pub fn configure(&self, settings: &Settings) {
        // Before the streams are there: the writer loop must never see them with other limits.
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(settings.clone()));
        let prepare = |stream: &Stream| {
            let end = self
                .catalogue()
                .stream(stream.uid)
                .and_then(|s| s.copies.values().map(Copy::end_us).max());
            if let Some(end) = end {
                let why = "the recorder was started again, or the stream came back";
                stream.lock().resume_after(end, "RecorderRestart", why);
            }
        };
        let now = Duration::from_nanos(clock::boottime_ns());
        let changes = self.registry.apply(settings, &prepare, now);
        tracing::info!(added = ?changes.added, removed = ?changes.removed, changed = ?changes.changed, "configured");
    }

    /// The catalogue.
    pub fn catalogue(&self) -> MutexGuard<'_, Catalogue> {
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pins in the peer's ledger. Whoever needs the catalogue too takes this first.
    pub fn peer_pins(&self) -> MutexGuard<'_, PeerPins> {
        self.peer_pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The catalogue, after the received segments of a stream that grew were read further. Reads files: not for an async task.
    pub fn fresh_catalogue(&self, stream: StreamUid) -> MutexGuard<'_, Catalogue> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let grown: Vec<(SegmentId, State)> = {
            let mut stale = self.stale();
            stale.extract_if(.., |id, _| id.stream == stream).collect()
        };
        let more: Vec<_> = grown
            .iter()
            .filter_map(|(id, state)| self.read_grown(id, *state))
            .collect();
        let mut catalogue = self.catalogue();
        for more in more {
            match more {
                More::All(copy) if catalogue.get(copy.id()).is_none() => catalogue.upsert(*copy),
                More::All(_) => {}
                More::Added(id, added) => {
                    for (fragment, hashes, chain) in added {
                        // Another reader may have taken it in meanwhile.
                        let known = catalogue.get(&id).and_then(Copy::place);
                        if known.is_some_and(|place| place.end == fragment.offset) {
                            catalogue.extend(&id, fragment, &hashes, chain);
                        }
                    }
                }
            }
        }
        let closed = grown.iter().filter(|(_, state)| *state == State::Partial);
        for (id, _) in closed {
            if catalogue.get(id).is_some_and(|copy| copy.state == State::Open) {
                catalogue.set_state(id, State::Partial);
            }
        }
        catalogue
    }

    fn stale(&self) -> MutexGuard<'_, BTreeMap<SegmentId, State>> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Self::read_more`]. What the disk does not give now is read when somebody asks again.
    fn read_grown(&self, id: &SegmentId, state: State) -> Option<More> {
        match self.read_more(id, state) {
            Err(e @ Error::Io { .. }) => {
                tracing::debug!(segment = %id, "cannot be read now: {e}");
                self.stale().entry(id.clone()).or_insert(state);
                None
            }
            Err(e) => {
                tracing::warn!(segment = %id, "left out: {e}");
                None
            }
            Ok(more) => more,
        }
    }

    /// Where what is recorded of a stream ends, of that which began before `until_us`, microseconds since the Unix epoch.
    /// Reads files: not for an async task.
    pub fn recorded_before(&self, stream: StreamUid, until_us: i64) -> Option<i64> {
        let catalogue = self.fresh_catalogue(stream);
        let copies = catalogue.stream(stream)?.copies.values();
        copies.filter(|c| c.start_us() < until_us).map(Copy::end_us).max()
    }

    /// What the file of a received segment has that the catalogue does not know: read without holding it. The file has its sealed
    /// name before anyone tells that it is sealed.
    fn read_more(&self, id: &SegmentId, state: State) -> segment::Result<Option<More>> {
        let known = self.catalogue().get(id).map(Copy::place);
        if let Some(place) = known {
            let Some(place) = place else { return Ok(None) };
            let added = self.read_either(id, |path| scan_more(path, place))?;
            return Ok(added.map(|added| More::Added(id.clone(), added)));
        }
        let found = self.read_either(id, scan)?;
        let found = found.filter(|found| &found.header.id == id);
        let copy = found.map(|found| Copy::from_scan(found, state, self.origin(id), self.now_s()));
        Ok(copy.map(|copy| More::All(Box::new(copy))))
    }

    /// Reads the file of a segment by the one of its names that it has, if it has any.
    fn read_either<R>(
        &self,
        id: &SegmentId,
        read: impl Fn(&Path) -> segment::Result<R>,
    ) -> segment::Result<Option<R>> {
        for path in [self.volume.open_path(id), self.volume.sealed_path(id)] {
            match read(&path) {
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                found => return found.map(Some),
            }
        }
        Ok(None)
    }

    fn clock(&self) -> MutexGuard<'_, RetentionClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The retention clock, seconds since the Unix epoch.
    pub fn now_s(&self) -> i64 {
        self.clock().advance(clock::wall_s(), clock::boot_s())
    }

    /// The latest time that a floor may have, seconds since the Unix epoch.
    pub fn latest_s(&self) -> i64 {
        self.clock().latest_s(clock::wall_s(), clock::boot_s())
    }

    /// Persists the retention clock; durable with the next commit.
    ///
    /// # Errors
    /// When the volume refuses.
    pub fn store_clock(&self) -> segment::Result<()> {
        self.now_s();
        let clock = *self.clock();
        clock.store(&self.volume)
    }

    /// Takes in what a replicator wrote of which nobody told.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub fn look_again(&self) -> segment::Result<()> {
        for stream in self.volume.streams()? {
            // Listed before the catalogue is held: the writer needs it, and a large folder takes long.
            match self.volume.segments(stream) {
                Ok(files) => self.read_unknown(files),
                Err(e) => tracing::warn!(%stream, "the folder of a stream cannot be read: {e}"),
            }
        }
        Ok(())
    }

    fn read_unknown(&self, mut files: Vec<(SegmentId, bool)>) {
        files.retain(|(id, _)| self.origin(id) == Origin::Peer);
        let unknown = self.catalogue().unknown(files);
        for (id, sealed) in unknown {
            match read_copy(&self.volume, &id, sealed, self.now_s()) {
                Ok(copy) => self.catalogue().upsert(copy),
                Err(e) => {
                    tracing::warn!(segment = %id, "a file that the replicator wrote cannot be read: {e}");
                }
            }
        }
    }

    fn origin(&self, id: &SegmentId) -> Origin {
        if id.store == self.volume.store() {
            Origin::Live
        } else {
            Origin::Peer
        }
    }

    /// The writer loop is alive.
    pub fn alive(&self, at: Duration) {
        self.last_alive_ns.store(at.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Whether the writer loop is alive now.
    pub fn is_alive(&self) -> bool {
        let last = Duration::from_nanos(self.last_alive_ns.load(Ordering::Relaxed));
        Duration::from_nanos(boottime_ns()).saturating_sub(last) < WRITER_SILENCE
    }

    /// What this member must still wait for, after it began, before the peer may leave.
    pub fn waits_for(&self, now: Duration) -> Option<String> {
        let age = now.saturating_sub(self.began);
        let listens = self.pair.listens(now);
        if self.configured().is_none() {
            let waits = readiness::waits(age, listens, || false, PeerView::default());
            return waits.then(|| "its configuration".to_owned());
        }
        let receives = |stream: &Stream| {
            matches!(
                stream.health(now).state,
                StreamState::Receiving | StreamState::Idle
            )
        };
        let streams = self.registry.streams();
        let lacking = streams.iter().find(|stream| {
            let peer = self.pair.peer(stream.uid, now);
            readiness::waits(age, listens, || receives(stream), peer)
        });
        lacking.map(|stream| format!("stream {:?}, which its peer may receive", stream.name))
    }

    /// What a replicator that just connected has to know.
    pub fn snapshot(&self) -> Vec<ToReplicator> {
        let (streams, pins) = {
            let catalogue = self.catalogue();
            let streams: Vec<_> = catalogue.streams().map(|(_, stream)| self.own(stream)).collect();
            (streams, catalogue.durable_pins())
        };
        let mut messages = vec![ToReplicator::Hello {
            member: self.member.clone(),
            store: self.volume.store(),
            incarnation: self.incarnation,
        }];
        for (unsealed, mut sealed) in streams {
            messages.extend(unsealed);
            sealed.sort_by_key(|held| Reverse(held.span_us.map(|(_, end)| end)));
            messages.extend(sealed.into_iter().map(|held| ToReplicator::Sealed { held }));
        }
        messages.extend(pinned(&pins));
        messages
    }

    /// What of a stream this member wrote: what is to be told of all that is not sealed, and the newest that is, in no order. Under the
    /// catalogue's lock, for which the writer waits, an archive is not sorted.
    fn own(&self, stream: &catalogue::Stream) -> (Vec<ToReplicator>, Vec<inventory::Held>) {
        let own = stream
            .copies
            .values()
            .filter(|c| self.origin(c.id()) == Origin::Live);
        let (mut sealed, others): (Vec<&Copy>, Vec<&Copy>) = own.partition(|c| c.state == State::Sealed);
        if sealed.len() > RECENT {
            sealed.select_nth_unstable_by_key(RECENT, |c| Reverse(c.end_us()));
            sealed.truncate(RECENT);
        }
        let unsealed = others.into_iter().flat_map(unsealed).collect();
        (unsealed, sealed.into_iter().map(Copy::held).collect())
    }

    /// Takes in a message of the replicator.
    pub fn hear(&self, message: ToRecorder, at: Duration) {
        match message {
            ToRecorder::Authority(authority) => {
                self.metrics
                    .authority
                    .set(i64::from(authority.role == crate::local::Role::Primary));
                self.pair.set_authority(authority);
            }
            ToRecorder::Withdraw { epoch } => {
                self.pair.withdraw(epoch);
                let _ = self.command(Command::Withdraw(epoch));
            }
            ToRecorder::Peer(peer) => {
                let news = self.pair.set_peer(peer, at);
                for stream in news.received_again {
                    if let Some(stream) = self.registry.get(stream) {
                        stream.answers.send_modify(|answers| *answers += 1);
                    }
                }
                if news.any {
                    self.look();
                }
            }
            ToRecorder::Owned(owned) => self.pair.set_owned(owned),
            ToRecorder::ReceivedOpened { id, .. } => self.grew(id),
            ToRecorder::ReceivedDurable { id, frames, .. } => {
                self.received(&id, &frames);
                self.grew(id);
            }
            ToRecorder::ReceivedSealed { entry } => self.received_sealed(*entry),
            ToRecorder::ReceivedPartial { id, .. } => {
                self.ended(&id, false);
                self.catalogue().set_state(&id, State::Partial);
                // It may not be known yet.
                self.stale().insert(id, State::Partial);
            }
            ToRecorder::TailComplete { id, end } => _ = self.command(Command::TailComplete(id, end)),
            ToRecorder::PeerAcknowledged { id, end } => self.catalogue().acknowledge(&id, end),
            ToRecorder::Compared { lacking } => self.compared(lacking, clock::wall_us(), at),
            ToRecorder::PeerPinned { pins, anew } => {
                let mut known = self.peer_pins();
                if anew {
                    known.clear();
                }
                known.hear(pins);
            }
            ToRecorder::Refused { reason, segment, .. } => {
                self.metrics.refused.inc();
                let segment = segment.map(|s| s.to_string());
                tracing::error!(segment, "bytes of the peer were refused: {reason}");
            }
        }
    }

    /// The peer's catalogue is known as it is now, `wall_us` microseconds since the Unix epoch, `at` on `CLOCK_BOOTTIME`.
    fn compared(&self, lacking: Vec<(StreamUid, Vec<(i64, i64)>)>, wall_us: i64, at: Duration) {
        let streams = self.registry.streams();
        let newest = streams
            .iter()
            .filter_map(|stream| Some((stream.uid, stream.lock().newest_us(at)?)));
        self.peer_holds.tell(lacking, newest.collect(), wall_us);
    }

    /// The replicator is gone: so are the peer and all authority.
    pub fn replicator_gone(&self) {
        self.pair.replicator_gone();
        self.peer_pins().clear();
        self.metrics.authority.set(0);
        self.look();
    }

    /// Asks the writer loop to look at its rings now, once until it does.
    fn look(&self) {
        if !self.is_to_look.swap(true, Ordering::AcqRel) && !self.command(Command::Look) {
            // What it does not hear it does not answer: whoever asks next has to be heard.
            self.is_to_look.store(false, Ordering::Release);
        }
    }

    /// The writer loop looks.
    pub fn looks(&self) {
        self.is_to_look.store(false, Ordering::Release);
    }

    /// Returns whether the writer loop will hear it.
    fn command(&self, command: Command) -> bool {
        let taken = self.commands.try_send(command).is_ok();
        if !taken {
            tracing::error!("the writer loop does not take commands");
        }
        taken
    }

    fn grew(&self, id: SegmentId) {
        self.stale().insert(id, State::Open);
    }

    /// Frames of the peer are durable here: they may leave the ring (I12), whole groups only.
    fn received(&self, id: &SegmentId, frames: &[FrameMark]) {
        let Some(stream) = self.registry.get(id.stream) else {
            return;
        };
        let mut inner = stream.lock();
        for gop in inner.collector.durable(id, frames) {
            inner.ring.received(gop);
        }
    }

    fn ended(&self, id: &SegmentId, sealed: bool) {
        let Some(stream) = self.registry.get(id.stream) else {
            return;
        };
        let mut inner = stream.lock();
        if let Some(gop) = inner.collector.ended(id, sealed) {
            inner.ring.received(gop);
        }
    }

    fn received_sealed(&self, entry: SealedEntry) {
        let id = entry.header.id.clone();
        self.ended(&id, true);
        let origin = self.origin(&id);
        let copy = Copy::from_entry(entry, None, origin, self.now_s());
        self.catalogue().upsert(copy);
        // Only now: who asks meanwhile must find one or the other.
        self.stale().remove(&id);
    }
}

/// What the replicator is told of durable pins.
pub fn pinned(pins: &[Pin]) -> impl Iterator<Item = ToReplicator> {
    pins.chunks(PINS_PAGE)
        .map(|page| ToReplicator::Pinned { pins: page.to_vec() })
}

fn unsealed(copy: &Copy) -> Vec<ToReplicator> {
    let (id, chain) = (copy.id().clone(), copy.chain.unwrap_or_default());
    if copy.state == State::Partial {
        return vec![ToReplicator::Partial {
            id,
            len: copy.length,
            chain,
        }];
    }
    vec![
        ToReplicator::Opened {
            id: id.clone(),
            head_len: copy.head_len,
        },
        ToReplicator::Appended {
            id,
            end: copy.length,
            chain,
        },
    ]
}
