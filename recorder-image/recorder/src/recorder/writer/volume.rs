//! The volume as the writer loop uses it: numbered segments, ledgers, the catalogue, the retention clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use segment::retention::{Candidate, Policy, evictions, floor_us};
use segment::sabotage::{Invariant::I1, breaks};
use segment::{
    Appended, AudioTrack, Catalogue, Copy, Error, Finished, Gap, Header, Ledger, Origin, Packet, Record,
    Result, Role, Sample, SealedEntry, SegmentFile, SegmentId, State, StreamUid, Track, Volume as Store,
};

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
    told: usize,
    is_told: bool,
}

impl OpenFile {
    /// Everything written so far is durable: the catalogue and the replicator are told. Nobody is told of a segment
    /// without a frame.
    pub fn tell(&mut self, catalogue: &mut Catalogue, outbox: &mut Vec<ToReplicator>) {
        let id = self.file.header().id.clone();
        let fragments = self.file.fragments();
        if fragments.len() == self.told {
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
        let mut frames: usize = fragments[..self.told].iter().map(|f| f.frames as usize).sum();
        for fragment in &fragments[self.told..] {
            let end = frames + fragment.frames as usize;
            catalogue.extend(
                &id,
                fragment.clone(),
                &self.file.hashes()[frames..end],
                self.file.chain(),
            );
            frames = end;
        }
        self.told = fragments.len();
        outbox.push(ToReplicator::Appended {
            id,
            end: self.file.end(),
            chain: self.file.chain(),
        });
    }

    /// No more frames; it may be sealed after the next commit.
    pub fn finish(self) -> Finished {
        self.file.finish()
    }

    /// Whether nothing was written but the head.
    pub fn is_empty(&self) -> bool {
        self.file.fragments().is_empty()
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
        fragments: Vec::new(),
        hashes: Vec::new(),
        // It counts from the seal.
        received_s: 0,
    }
}

/// See the module.
#[derive(Debug)]
pub struct Volume {
    shared: Arc<Shared>,
    ledgers: BTreeMap<StreamUid, Ledger>,
    sequence: u64,
    written: u64,
}

impl Volume {
    /// The volume of this process.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            ledgers: BTreeMap::new(),
            sequence: 0,
            written: 0,
        }
    }

    /// Its size.
    pub fn store(&self) -> &Store {
        &self.shared.volume
    }

    /// Bytes of fragments written since the start.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Makes everything written so far durable, for all streams at once (I10).
    ///
    /// # Errors
    /// When the volume refuses; then nothing may be taken for durable.
    pub fn sync(&self) -> Result<()> {
        self.shared.metrics.syncs.inc();
        self.shared.volume.sync()
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
        let path = self.shared.volume.open_path(&header.id);
        let file = SegmentFile::create(&self.shared.volume, header, &track(run)).inspect_err(|e| {
            if !matches!(e, Error::Exists(_)) {
                // Its head is not whole.
                let _ = std::fs::remove_file(&path);
            }
        })?;
        Ok(OpenFile {
            file,
            told: 0,
            is_told: false,
        })
    }

    /// Removes a segment that this process began and that holds no frame; nobody was told of it.
    pub fn remove_empty(&self, open: &OpenFile) {
        let path = self.shared.volume.open_path(&open.file.header().id);
        if open.is_empty()
            && let Err(e) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), "a segment without frames stays: {e}");
        }
    }

    /// Writes a fragment.
    ///
    /// # Errors
    /// When the volume refuses; the file is then as before.
    pub fn append(&mut self, open: &mut OpenFile, ready: &Ready) -> Result<Appended> {
        let samples: Vec<Sample> = ready
            .frames
            .iter()
            .zip(&ready.durations)
            .map(|(f, d)| sample(f, *d))
            .collect();
        let sound: Vec<Packet> = ready.frames.iter().flat_map(|f| f.audio.clone()).collect();
        let appended = open.file.append(&samples, &sound)?;
        self.written += u64::from(appended.fragment.len);
        Ok(appended)
    }

    /// Writes a record into the ledger of a stream.
    ///
    /// # Errors
    /// When the volume refuses.
    pub fn record(&mut self, stream: StreamUid, record: &Record) -> Result<()> {
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

    /// Renames what was synced, and notes it in the ledgers. To be followed by one more sync.
    pub fn seal(&mut self, ended: Vec<Finished>) -> Vec<Box<SealedEntry>> {
        let received_s = self.shared.now_s();
        let mut sealed = Vec::with_capacity(ended.len());
        for finished in ended {
            let id = finished.entry().header.id.clone();
            let renamed = finished.rename().and_then(|entry| {
                let entry = Box::new(entry);
                self.record(
                    id.stream,
                    &Record::Sealed {
                        entry: entry.clone(),
                        received_s,
                    },
                )?;
                Ok(entry)
            });
            match renamed {
                Ok(entry) => sealed.push(entry),
                // The file is whole either way: the next start indexes it from its bytes (I8).
                Err(e) => tracing::error!(segment = %id, "cannot seal: {e}"),
            }
        }
        let mut catalogue = self.shared.catalogue();
        for entry in &sealed {
            catalogue.upsert(Copy::from_entry(
                SealedEntry::clone(entry),
                Origin::Live,
                received_s,
            ));
        }
        sealed
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

    /// Removes what its own policy lets go (I11). Returns what left.
    ///
    /// # Errors
    /// When the volume refuses the record of it; then nothing is removed.
    pub fn evict(&mut self, policy: &Policy) -> Result<Vec<(SegmentId, i64)>> {
        let now_s = self.shared.now_s();
        let candidate = |c: &Copy| Candidate {
            id: c.id().clone(),
            received_s: c.received_s,
            end_us: c.end_us(),
            length: c.length,
        };
        let leaving: Vec<(SegmentId, i64)> = {
            let catalogue = self.shared.catalogue();
            let ended = catalogue.copies().filter(|c| c.state != State::Open);
            let leaving = evictions(ended.map(candidate).collect(), now_s, policy);
            let end = |id: SegmentId| {
                let end_us = floor_us(catalogue.get(&id)?.end_us(), now_s);
                Some((id, end_us))
            };
            leaving.into_iter().filter_map(end).collect()
        };
        for (id, end_us) in &leaving {
            let (id, end_us) = (id.clone(), *end_us);
            self.record(id.stream, &Record::Evicted { id, end_us })?;
        }
        if leaving.is_empty() {
            return Ok(leaving);
        }
        self.sync()?;
        let mut catalogue = self.shared.catalogue();
        for (id, end_us) in &leaving {
            let left = catalogue.evict(id, *end_us);
            let path = match left.map(|copy| copy.state) {
                Some(State::Sealed) => self.shared.volume.sealed_path(id),
                _ => self.shared.volume.open_path(id),
            };
            if let Err(e) = std::fs::remove_file(&path) {
                tracing::error!(segment = %id, "cannot remove what retention let go: {e}");
            }
            self.shared.metrics.evicted.inc();
        }
        Ok(leaving)
    }
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
