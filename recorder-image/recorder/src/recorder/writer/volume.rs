//! The volume as the writer loop uses it: numbered segments, ledgers, the catalogue, the retention clock.

mod reclaim;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use segment::inventory::Held;
use segment::reclaim::Proof;
use segment::retention::{Candidate, Now, Policy, evictions};
use segment::sabotage::{Invariant::I1, breaks};
use segment::{
    AudioTrack, Catalogue, Copy, Error, Extent, Finished, Gap, Header, Index, Ledger, Origin, Packet, Record,
    Result, Role, Sample, Sealed, SegmentFile, SegmentId, State, StreamUid, Track, Volume as Store,
};

use super::SYNC_RETRY;
use super::fragment::Ready;
use crate::local::ToReplicator;
use crate::recorder::frame::{Frame, Run};
use crate::recorder::pair::Standing;
use crate::recorder::state::Shared;
use crate::recorder::stream::{GapNotice, Notice, Stream};

/// What a segment is opened with.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The stream.
    pub stream: &'a Stream,
    /// Under which epochs, and whether as its owner.
    pub standing: Standing,
    /// The frame that it begins with.
    pub first: &'a Frame,
}

/// A segment that this process writes.
#[derive(Debug)]
pub struct OpenFile {
    file: SegmentFile,
    /// How many fragments others were told of, and how many frames these have.
    told: (usize, usize),
    is_told: bool,
}

impl OpenFile {
    /// Everything written so far is durable: the catalogue and the replicator are told. Nobody is told of a segment
    /// without a frame.
    pub fn tell(&mut self, catalogue: &mut Catalogue, outbox: &mut Vec<ToReplicator>) {
        let id = self.file.header().id.clone();
        let fragments = self.file.fragments();
        let (told, mut frames) = self.told;
        if fragments.len() == told {
            return;
        }
        if !self.is_told {
            self.is_told = true;
            outbox.push(ToReplicator::Opened {
                id: id.clone(),
                head_len: self.file.head_len(),
            });
            catalogue.upsert(copy_of(&self.file));
        }
        for fragment in &fragments[told..] {
            let end = frames + fragment.frames as usize;
            catalogue.extend(
                &id,
                fragment.clone(),
                &self.file.hashes()[frames..end],
                self.file.chain(),
            );
            frames = end;
        }
        self.told = (fragments.len(), frames);
        outbox.push(ToReplicator::Appended {
            id,
            end: self.file.end(),
            chain: self.file.chain(),
        });
    }

    /// Where the fragments end that a sync covered, bytes; 0 if there are none.
    fn durable_end(&self) -> u64 {
        let told = self.file.fragments()[..self.told.0].last();
        told.map_or(0, segment::Fragment::end)
    }

    /// No more frames; it may be sealed after the next commit.
    pub fn finish(self) -> Finished {
        self.file.finish()
    }

    /// Writes a fragment.
    ///
    /// # Errors
    /// When the volume refuses; the file is then as before.
    pub fn append(&mut self, ready: &Ready) -> Result<()> {
        let frames = ready.frames.iter().zip(&ready.durations);
        let samples: Vec<Sample> = frames.map(|(f, d)| sample(f, *d)).collect();
        let sound: Vec<Packet> = ready.frames.iter().flat_map(|f| f.audio.clone()).collect();
        self.file.append_after(ready.paused, &samples, &sound).map(drop)
    }

    /// Whether nothing was written but the head.
    pub fn is_empty(&self) -> bool {
        self.file.fragments().is_empty()
    }
}

/// Indexes whose segments are gone: a power cut came between the two.
fn remove_stray_indexes(volume: &Store) {
    for stream in volume.streams().unwrap_or_default() {
        for path in volume.stray_indexes(stream).unwrap_or_default() {
            if let Err(e) = remove(&path) {
                tracing::warn!("an index without a segment stays: {e}");
            }
        }
    }
}

/// The copy that an open file is, without its fragments.
fn copy_of(file: &SegmentFile) -> Copy {
    Copy {
        header: file.header().clone(),
        state: State::Open,
        origin: Origin::Live,
        head_len: file.head_len(),
        length: file.head_len(),
        chain: Some(file.chain()),
        root: None,
        extent: Extent::begun(file.header().opened_us),
        index: Some(Index::default()),
        // It counts from the seal.
        received_s: 0,
    }
}

/// So many segments leave by retention at once.
const AT_ONCE: usize = 200;
/// The most files that wait to be closed after the volume failed; the next start closes the others.
const MAX_DOUBTFUL: usize = 1024;
/// How long one waits that could not be closed though the volume works: what is wrong there needs somebody to mend it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A file of which nothing counts behind `durable` bytes, because the volume refused a write or a sync.
#[derive(Debug)]
struct Doubtful {
    id: SegmentId,
    durable: u64,
    /// No attempt before, on `CLOCK_BOOTTIME`.
    after: Duration,
}

/// A segment that has its sealed name.
#[derive(Debug)]
struct Renamed {
    sealed: Sealed,
    received_s: i64,
    /// Whether the ledger has it.
    recorded: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Volume {
    shared: Arc<Shared>,
    ledgers: BTreeMap<StreamUid, Ledger>,
    sequence: u64,
    /// Whether the last sync failed.
    failed: bool,
    doubtful: Vec<Doubtful>,
    /// Segments that nobody was told of yet: a sync has to make their names durable (I2).
    renamed: Vec<Renamed>,
    /// What retention lets go as soon as that is durable.
    leaving: Vec<(SegmentId, i64)>,
    /// Whether pins are in a ledger of which no sync is known.
    pins_wait: bool,
    /// Duplicates that are noted as reclaimed, and go as soon as that is durable.
    reclaiming: Vec<Proof>,
    #[cfg(test)]
    pub(super) faults: super::tests::disks::Faults,
}

impl Volume {
    /// The volume of this process.
    pub fn new(shared: Arc<Shared>) -> Self {
        // As far as this process knows, those that were found are durable after a sync of its own.
        let pins_wait = shared.catalogue().streams().any(|(_, s)| !s.pins.is_empty());
        remove_stray_indexes(&shared.volume);
        Self {
            shared,
            ledgers: BTreeMap::new(),
            sequence: 0,
            failed: false,
            doubtful: Vec::new(),
            renamed: Vec::new(),
            leaving: Vec::new(),
            pins_wait,
            reclaiming: Vec::new(),
            #[cfg(test)]
            faults: super::tests::disks::Faults::default(),
        }
    }

    /// Makes everything written so far durable, for all streams at once (I10). After an error nothing of it is, also when the next sync succeeds: the page
    /// cache may have dropped it. The ledgers then write it again by themselves.
    ///
    /// # Errors
    /// When the volume refuses.
    pub fn sync(&mut self) -> Result<()> {
        if self.failed {
            self.ledgers.values().try_for_each(Ledger::rewrite)?;
        }
        let synced = self.sync_store();
        self.failed = synced.is_err();
        synced?;
        self.ledgers.values_mut().for_each(Ledger::synced);
        Ok(())
    }

    fn sync_store(&mut self) -> Result<()> {
        #[cfg(test)]
        self.faults.sync(self.shared.volume.root())?;
        self.shared.metrics.syncs.inc();
        self.shared.volume.sync()
    }

    /// The volume that is written to.
    pub fn store(&self) -> &Store {
        &self.shared.volume
    }

    /// Persists the retention clock; durable with the next commit.
    ///
    /// # Errors
    /// When the volume refuses.
    pub fn store_clock(&self) -> Result<()> {
        self.shared.store_clock()
    }

    /// Opens a segment that begins with `opening.first`.
    ///
    /// # Errors
    /// When the volume refuses.
    pub fn create(&mut self, opening: &Opening<'_>) -> Result<OpenFile> {
        let (stream, run) = (opening.stream, &opening.first.run);
        let header = Header {
            id: SegmentId {
                stream: stream.uid,
                store: self.shared.volume.store(),
                member: self.shared.member.clone(),
                incarnation: self.shared.incarnation,
                sequence: self.sequence,
            },
            stream_name: stream.name.clone(),
            pair_epoch: opening.standing.pair_epoch,
            stream_epoch: opening.standing.stream_epoch,
            owner: opening.standing.owner,
            run: run.id,
            opened_us: opening.first.wallclock_us,
            clock: run.clock,
            hevc: run.hevc,
            audio: run.audio.as_ref().map(AudioTrack::audio),
        };
        self.sequence += 1;
        let id = header.id.clone();
        let created = SegmentFile::create(&self.shared.volume, header, &track(run));
        if !matches!(created, Ok(_) | Err(Error::Exists(_))) {
            // Its head is not whole.
            self.doubt_file(id, 0, Duration::ZERO);
        }
        let file = created?;
        Ok(OpenFile {
            file,
            told: (0, 0),
            is_told: false,
        })
    }

    /// A file that takes no more frames because the volume refused some, or a sync: it is closed as what is durable of it.
    pub fn doubt(&mut self, open: &OpenFile) {
        self.doubt_file(open.file.header().id.clone(), open.durable_end(), Duration::ZERO);
    }

    fn doubt_file(&mut self, id: SegmentId, durable: u64, after: Duration) {
        let doubtful = Doubtful { id, durable, after };
        // What holds no frame that anyone was told of needs no sync to be removed.
        if durable == 0 && self.close(&doubtful).is_ok() {
            return;
        }
        self.doubtful.retain(|other| other.id != doubtful.id);
        if self.doubtful.len() < MAX_DOUBTFUL {
            self.doubtful.push(doubtful);
        }
    }

    /// Whether a file waits to be closed.
    pub fn doubts(&self, id: &SegmentId) -> bool {
        self.doubtful.iter().any(|doubtful| &doubtful.id == id)
    }

    /// Whether a file is to be closed now.
    pub fn is_doubtful_due(&self, at: Duration) -> bool {
        self.doubtful.iter().any(|doubtful| doubtful.after <= at)
    }

    /// Closes files that failures left open, `most` of them since each is read, now that the volume works. They may be sealed after the
    /// next sync. What cannot be closed is tried again with patience.
    pub fn close_doubtful(&mut self, at: Duration, most: usize) -> Vec<Finished> {
        let mut closed = Vec::new();
        let due = |doubtful: &mut Doubtful| doubtful.after <= at;
        let due: Vec<_> = self.doubtful.extract_if(.., due).take(most).collect();
        for doubtful in due {
            match self.close(&doubtful) {
                Ok(finished) => closed.extend(finished),
                Err(e) => {
                    tracing::warn!(segment = %doubtful.id, "cannot be closed yet: {e}");
                    let after = at
                        + if e.is_volume_refusal() {
                            SYNC_RETRY
                        } else {
                            PATIENCE
                        };
                    self.doubtful.push(Doubtful { after, ..doubtful });
                }
            }
        }
        closed
    }

    fn close(&self, doubtful: &Doubtful) -> Result<Option<Finished>> {
        let (id, durable) = (&doubtful.id, doubtful.durable);
        if durable == 0 {
            let path = self.shared.volume.open_path(id);
            return match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
                _ => Ok(None),
            };
        }
        if self.shared.volume.sealed_path(id).exists() {
            return Ok(None);
        }
        let file = SegmentFile::resume_durable(&self.shared.volume, id, durable)?;
        if file.end() < durable {
            // The peer may have the rest: the next start asks it, and seals then.
            tracing::error!(segment = %id, end = file.end(), durable, "bytes that were synced are gone");
            return Ok(None);
        }
        Ok(Some(file.finish()))
    }

    /// Writes a record into the ledger of a stream.
    ///
    /// # Errors
    /// When the volume refuses.
    pub fn record(&mut self, stream: StreamUid, record: &Record) -> Result<()> {
        #[cfg(test)]
        self.faults.record(stream)?;
        let ledger = match self.ledgers.entry(stream) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let (ledger, cuts) = Ledger::open(&self.shared.volume, stream, Role::Recorder)?;
                for cut in cuts {
                    self.shared.metrics.ledger_truncations.inc();
                    tracing::error!(path = %cut.path.display(), kept = cut.kept, lost = cut.lost, "a damaged ledger was cut after its last whole record");
                }
                entry.insert(ledger)
            }
        };
        ledger.append(record)
    }

    /// Renames what was synced, and notes it in the ledgers. The next sync makes that durable; then they are
    /// [`Self::sealed`].
    ///
    /// # Errors
    /// When the volume refuses; it is tried again when the volume works. What cannot be renamed in one stream's folder alone is tried
    /// again by itself.
    pub fn rename(&mut self, ended: Vec<Finished>, at: Duration) -> Result<()> {
        let received_s = self.shared.now_s();
        let mut refused = Ok(());
        for finished in ended {
            let (id, length) = (finished.entry().header.id.clone(), finished.entry().length);
            match finished.rename() {
                Ok(sealed) => self.renamed.push(Renamed {
                    sealed,
                    received_s,
                    recorded: false,
                }),
                Err(e) => {
                    tracing::error!(segment = %id, "cannot seal: {e}");
                    let of_volume = e.is_volume_refusal();
                    if !matches!(e, Error::Exists(_)) {
                        let after = if of_volume { at } else { at + PATIENCE };
                        self.doubt_file(id, length, after);
                    }
                    if of_volume {
                        refused = Err(e);
                    }
                }
            }
        }
        self.record_renamed().and(refused)
    }

    fn record_renamed(&mut self) -> Result<()> {
        let mut renamed = std::mem::take(&mut self.renamed);
        let mut refused = Ok(());
        for one in renamed.iter_mut().filter(|r| !r.recorded) {
            match self.record_one(one) {
                Err(e) if e.is_of_volume() => refused = Err(e),
                Err(e) => {
                    // I8: the next start rebuilds it from the file.
                    let id = &one.sealed.entry.header.id;
                    tracing::error!(segment = %id, "is sealed, and its ledger does not take it: {e}");
                    one.recorded = true;
                }
                Ok(()) => {}
            }
        }
        self.renamed = renamed;
        refused
    }

    fn record_one(&mut self, renamed: &mut Renamed) -> Result<()> {
        let entry = Box::new(renamed.sealed.entry.clone());
        let (stream, received_s) = (entry.header.id.stream, renamed.received_s);
        self.record(stream, &Record::Sealed { entry, received_s })?;
        renamed.recorded = true;
        Ok(())
    }

    /// Whether a sync has something to do although no frame was written.
    pub fn waits(&self) -> bool {
        let nothing = self.renamed.is_empty() && self.leaving.is_empty() && self.reclaiming.is_empty();
        !nothing || self.pins_wait
    }

    /// A sync succeeded: what was renamed and noted before it is sealed, and may be named.
    pub fn sealed(&mut self) -> Vec<Held> {
        let (sealed, rest): (Vec<Renamed>, _) = std::mem::take(&mut self.renamed)
            .into_iter()
            .partition(|r| r.recorded);
        self.renamed = rest;
        let mut catalogue = self.shared.catalogue();
        let mut held = Vec::new();
        for Renamed {
            sealed, received_s, ..
        } in sealed
        {
            held.push(sealed.entry.held());
            let copy = Copy::from_entry(sealed.entry, sealed.index, Origin::Live, received_s);
            catalogue.upsert(copy);
        }
        held
    }

    /// Writes down what a stream has to say. Returns whether anything was written.
    ///
    /// # Errors
    /// When the volume refuses; what it refused is kept.
    pub fn note_all(&mut self, stream: &Stream, now: Duration) -> Result<bool> {
        let mut notices = stream.lock().take_notices(now).into_iter();
        let mut any = false;
        while let Some(notice) = notices.next() {
            if let Err(e) = self.note(stream, &notice) {
                let left = std::iter::once(notice).chain(notices).collect();
                stream.lock().put_back(left);
                return Err(e);
            }
            any = true;
        }
        Ok(any)
    }

    fn note(&mut self, stream: &Stream, notice: &Notice) -> Result<()> {
        match notice {
            Notice::Gap(_) if breaks(I1) => {}
            Notice::Gap(gap) => {
                let record = gap_record(gap);
                self.record(stream.uid, &Record::Gap(record.clone()))?;
                stream.counters.gap(&stream.name, gap);
                self.shared.catalogue().push_gap(stream.uid, record);
            }
            Notice::Note(what) => {
                let at_us = crate::clock::wall_us();
                self.record(
                    stream.uid,
                    &Record::Note {
                        at_us,
                        what: what.clone(),
                    },
                )?;
            }
        }
        Ok(())
    }

    /// Notes what its own policy lets go (I11), the oldest first and not too much at once, for the loop writes nothing meanwhile.
    /// It leaves after the next sync: see [`Self::leave`]. Returns whether there may be more.
    ///
    /// # Errors
    /// When the volume refuses the record of it; then nothing is removed.
    pub fn let_go(&mut self, policy: &Policy) -> Result<bool> {
        let (mut leaving, mut stuck) = (BTreeMap::new(), BTreeSet::new());
        self.leaving.clear();
        let latest_s = self.shared.latest_s();
        self.shared.catalogue().bound_floors(latest_s);
        loop {
            let before = stuck.len();
            for (id, end_us) in self.due(policy, &leaving, &stuck) {
                let record = Record::Evicted {
                    id: id.clone(),
                    end_us,
                };
                match self.record(id.stream, &record) {
                    Ok(()) => _ = leaving.insert(id, end_us),
                    Err(e) if e.is_of_volume() => return Err(e),
                    Err(e) => {
                        tracing::error!(segment = %id, "cannot leave by retention: {e}");
                        stuck.insert(id.stream);
                    }
                }
            }
            // Instead of what cannot leave, others do.
            if stuck.len() == before {
                break;
            }
        }
        self.leaving = leaving.into_iter().collect();
        Ok(self.leaving.len() >= AT_ONCE)
    }

    /// What leaves now besides `leaving`, with its end; nothing of the streams that are `stuck`.
    fn due(
        &self,
        policy: &Policy,
        leaving: &BTreeMap<SegmentId, i64>,
        stuck: &BTreeSet<StreamUid>,
    ) -> Vec<(SegmentId, i64)> {
        let now = Now {
            retention_s: self.shared.now_s(),
            latest_s: self.shared.latest_s(),
        };
        let catalogue = self.shared.catalogue();
        let ended = catalogue.copies().filter(|c| c.state != State::Open);
        let candidates = ended
            .map(Copy::candidate)
            .filter(|c| !leaving.contains_key(c.id))
            .map(|c| Candidate {
                stuck: stuck.contains(&c.id.stream),
                ..c
            });
        let most = AT_ONCE.saturating_sub(leaving.len());
        evictions(candidates, now, policy, most)
    }

    /// Removes a sealed segment, and its index: of one that is left over the next start takes care.
    fn remove_sealed(&self, id: &SegmentId) -> Result<()> {
        remove(&self.shared.volume.sealed_path(id))?;
        let _ = remove(&self.shared.volume.index_path(id));
        Ok(())
    }

    /// A sync succeeded: removes what was noted before it. Returns what left.
    pub fn leave(&mut self) -> Vec<(SegmentId, i64)> {
        let leaving = std::mem::take(&mut self.leaving);
        for (id, end_us) in &leaving {
            // Others want the catalogue while a file is removed.
            let left = self.shared.catalogue().evict(id, *end_us);
            let removed = match left.map(|copy| copy.state) {
                Some(State::Sealed) => self.remove_sealed(id),
                _ => remove(&self.shared.volume.open_path(id)),
            };
            if let Err(e) = removed {
                tracing::error!(segment = %id, "cannot remove what retention let go: {e}");
            }
            self.shared.metrics.evicted.inc();
        }
        leaving
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|e| Error::io(path, e))
}

pub(in crate::recorder) fn track(run: &Run) -> Track {
    Track {
        sample_entry: run.sample_entry.clone(),
        width: run.width,
        height: run.height,
        audio: run.audio.clone(),
    }
}

pub(in crate::recorder) fn sample(frame: &Frame, duration: u32) -> Sample {
    Sample {
        data: frame.data.clone(),
        key: frame.key,
        dts: frame.dts.max(0).cast_unsigned(),
        cts: frame.cts,
        duration,
        wallclock_us: frame.wallclock_us,
        hash: frame.hash,
    }
}

fn gap_record(gap: &GapNotice) -> Gap {
    Gap {
        start_us: gap.start_us,
        end_us: gap.end_us,
        cause: gap.cause.clone(),
        evidence: gap.evidence.clone(),
        frames: gap.frames,
    }
}
