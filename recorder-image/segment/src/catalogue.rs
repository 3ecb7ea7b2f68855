//! What a member knows it holds: an index in memory, built from both ledgers and the files, and kept by both processes as
//! they go. It can be built from the files alone (I8).

use std::collections::BTreeMap;

use crate::canonical::WINDOW_US;
use crate::copy::{Copy, Origin, State, read_copy};
use crate::entry::Fragment;
use crate::error::Result;
use crate::gaps::Gaps;
use crate::hash::{Chain, FrameHash};
use crate::id::{SegmentId, StreamUid};
use crate::inventory::Held;
use crate::ledger::{Gap, Ledger, LedgerReader, Record, Truncation};
use crate::reclaim::{Pin, Pins};
use crate::retention::{RetentionClock, floor_us};
use crate::sabotage::{Invariant::I8, breaks};
use crate::volume::{Role, Volume};

/// The copies of one stream and what its ledgers say besides.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The name it had last.
    pub name: String,
    /// The copies.
    pub copies: BTreeMap<SegmentId, Copy>,
    /// Gaps that this member noted.
    pub gaps: Gaps,
    /// The end of what the peer said that it holds durably too, microseconds since the Unix epoch.
    pub acknowledged_us: Option<i64>,
    /// The newest end of what retention removed, microseconds since the Unix epoch.
    pub floor_us: Option<i64>,
    /// Which copies are duplicates, and what stays instead.
    pub pins: Pins,
    /// Duplicates that were removed.
    pub reclaimed: BTreeMap<SegmentId, Held>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    streams: BTreeMap<StreamUid, Stream>,
}

/// What loading found that was not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Sealed files that no ledger knew; indexed from the file.
    pub rebuilt: Vec<SegmentId>,
    /// Files left open.
    pub partial: Vec<SegmentId>,
    /// Segments that a ledger knows and whose file is gone.
    pub missing: Vec<SegmentId>,
    /// Files whose head cannot be read, and sealed files that are not whole, with what is wrong.
    pub unreadable: Vec<(SegmentId, String)>,
    /// Ledgers and folders that cannot be read, by their streams, with what is wrong: what they say is not known.
    pub failed: Vec<(StreamUid, String)>,
}

impl Catalogue {
    /// Reads ledgers and folders. `now_s` is the retention clock: what no ledger knows counts as received now. What of one stream
    /// cannot be read keeps no other one out.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn load(volume: &Volume, now_s: i64) -> Result<(Self, LoadReport)> {
        let (mut catalogue, mut report) = (Self::default(), LoadReport::default());
        for uid in volume.streams()? {
            let evicted = catalogue.replay(volume, uid, &mut report);
            if let Err(e) = catalogue.compare_with_files(volume, uid, now_s, &mut report) {
                report.failed.push((uid, e.to_string()));
            }
            // I11: what was to leave and is there all the same, because the power went, is as old as it was.
            for (id, received_s) in evicted {
                if let Some(copy) = catalogue.stream_mut(uid).copies.get_mut(&id) {
                    copy.received_s = copy.received_s.min(received_s);
                }
            }
            catalogue.stream_mut(uid).settle_pins();
            catalogue.end_stale_gap(volume, uid);
        }
        Ok((catalogue, report))
    }

    /// The same as a process does that opens the volume, with the clock of retention: `wall_s` is the wall clock, seconds since the Unix
    /// epoch, and `boot_s` the time since boot, seconds. No floor is later than both clocks.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn open(volume: &Volume, wall_s: i64, boot_s: u64) -> Result<(RetentionClock, Self, LoadReport)> {
        let mut clock = RetentionClock::load(volume, wall_s, boot_s)?;
        let now_s = clock.advance(wall_s, boot_s);
        let (mut catalogue, report) = Self::load(volume, now_s)?;
        catalogue.bound_floors(clock.latest_s(wall_s, boot_s));
        Ok((clock, catalogue, report))
    }

    /// Lowers floors to `latest_s`, see [`floor_us`]: when they were written the clock may have been ahead.
    pub fn bound_floors(&mut self, latest_s: i64) {
        for floor in self.streams.values_mut().filter_map(|s| s.floor_us.as_mut()) {
            *floor = floor_us(*floor, latest_s);
        }
    }

    /// Takes the ledgers of a stream in. Returns what they say was evicted, with its times of receipt.
    fn replay(
        &mut self,
        volume: &Volume,
        uid: StreamUid,
        report: &mut LoadReport,
    ) -> BTreeMap<SegmentId, i64> {
        let mut evicted = BTreeMap::new();
        for role in [Role::Recorder, Role::Replicator] {
            let mut reader = LedgerReader::new(volume, uid, role);
            match reader.poll() {
                Ok(records) => {
                    for record in records {
                        if let Record::Evicted { id, .. } = &record {
                            evicted.extend(self.get(id).map(|copy| (id.clone(), copy.received_s)));
                        }
                        self.apply(uid, record);
                    }
                }
                Err(e) => report.failed.push((uid, e.to_string())),
            }
            let damage = reader.damage().into_iter();
            report.failed.extend(damage.map(|what| (uid, what)));
        }
        evicted
    }

    /// A process that died while a gap lasted never wrote down its end: it ended with the next frame that this member
    /// recorded, if there is one.
    fn end_stale_gap(&mut self, volume: &Volume, uid: StreamUid) {
        let Some(stream) = self.streams.get_mut(&uid) else {
            return;
        };
        let Some(since_us) = stream.gaps.open_since() else {
            return;
        };
        let own = || stream.copies.values().filter(|c| c.origin == Origin::Live);
        let reclaimed = stream.reclaimed.values();
        let reclaimed = reclaimed.filter(|held| held.id.store == volume.store());
        let starts = own().map(Copy::start_us);
        let starts = starts.chain(reclaimed.filter_map(|held| Some(held.span_us?.0)));
        // One that it lies in knows by its index where frames came again.
        let within = own().filter(|c| c.start_us() <= since_us && c.end_us() > since_us);
        let again = within.flat_map(|c| fragments(volume, c).into_iter().map(|f| f.start_us));
        if let Some(next_us) = starts.chain(again).filter(|us| *us > since_us).min() {
            stream.gaps.end_at(next_us);
        }
    }

    /// Corrects what the ledgers say by what the folder holds: the files are the truth.
    fn compare_with_files(
        &mut self,
        volume: &Volume,
        uid: StreamUid,
        now_s: i64,
        report: &mut LoadReport,
    ) -> Result<()> {
        let files: BTreeMap<SegmentId, bool> = volume.segments(uid)?.into_iter().collect();
        let Stream {
            copies: known,
            reclaimed,
            floor_us,
            ..
        } = self.streams.entry(uid).or_default();
        // What retention removed is no surprise.
        let left = |copy: &Copy| floor_us.is_some_and(|floor| copy.start_us() < floor);
        let missing = known
            .iter()
            .filter(|(id, copy)| !files.contains_key(id) && !reclaimed.contains_key(id) && !left(copy));
        report.missing.extend(missing.map(|(id, _)| id.clone()));
        known.retain(|id, _| files.contains_key(id));
        let unknown = files
            .into_iter()
            .filter(|(id, sealed)| !(*sealed && (known.contains_key(id) || breaks(I8))));
        for (id, sealed) in unknown.collect::<Vec<_>>() {
            match read_copy(volume, &id, sealed, now_s) {
                Ok(copy) => {
                    self.upsert(copy);
                    if sealed {
                        &mut report.rebuilt
                    } else {
                        &mut report.partial
                    }
                    .push(id);
                }
                Err(e) => report.unreadable.push((id, e.to_string())),
            }
        }
        Ok(())
    }

    /// Writes what was rebuilt from files into the ledgers of `role`, so that its time of receipt is known from now on (I8,
    /// I11): own segments are the recorder's, received ones the replicator's. To be called before this process opens a
    /// ledger. Returns the damaged tails that were cut. Durable after the next `Volume::sync`. Where a ledger takes nothing, as on a full
    /// disk, its stream is rebuilt again by the next start.
    pub fn record_rebuilt(&self, volume: &Volume, report: &LoadReport, role: Role) -> Vec<Truncation> {
        let mut records: BTreeMap<StreamUid, Vec<Record>> = BTreeMap::new();
        for copy in report.rebuilt.iter().filter_map(|id| self.get(id)) {
            let of_stream = records.entry(copy.id().stream).or_default();
            of_stream.extend(rebuilt_record(copy, role));
        }
        let mut cuts = Vec::new();
        for (stream, records) in records.into_iter().filter(|(_, r)| !r.is_empty()) {
            let written = Ledger::open(volume, stream, role).and_then(|(mut ledger, cut)| {
                cuts.extend(cut);
                records.iter().try_for_each(|record| ledger.append(record))
            });
            if let Err(e) = written {
                tracing::warn!(%stream, "what was rebuilt from files is not in the ledger: {e}");
            }
        }
        cuts
    }

    /// Which of these files of the volume, each sealed or not, are not known, or were sealed since: what another process wrote meanwhile.
    pub fn unknown(&self, mut files: Vec<(SegmentId, bool)>) -> Vec<(SegmentId, bool)> {
        files.retain(|(id, sealed)| {
            let known = self.get(id);
            !known.is_some_and(|copy| copy.state == State::Sealed || !*sealed)
        });
        files
    }

    /// Takes a ledger record in.
    pub fn apply(&mut self, uid: StreamUid, record: Record) {
        match record {
            Record::Sealed { entry, received_s } => {
                self.upsert(Copy::from_entry(*entry, None, Origin::Live, received_s));
            }
            Record::Received {
                entry, received_s, ..
            } => self.upsert(Copy::from_entry(*entry, None, Origin::Peer, received_s)),
            Record::Evicted { id, end_us } => drop(self.evict(&id, end_us)),
            Record::Gap(gap) => self.push_gap(uid, gap),
            Record::Pinned {
                duplicate,
                kept,
                received_s,
            } => self.stream_mut(uid).replay(Pin { duplicate, kept }, received_s),
            Record::Reclaimed {
                id,
                length,
                root,
                span_us,
                ..
            } => {
                let held = Held {
                    id: id.clone(),
                    length,
                    root: Some(root),
                    span_us: Some(span_us),
                    reclaimed: true,
                };
                self.stream_mut(uid).reclaimed.insert(id, held);
            }
            Record::Opened { .. }
            | Record::Partial { .. }
            | Record::Quarantined { .. }
            | Record::Note { .. } => {}
        }
    }

    /// Adds a copy, or replaces what was known of it.
    pub fn upsert(&mut self, copy: Copy) {
        let stream = self.streams.entry(copy.header.id.stream).or_default();
        stream.name.clone_from(&copy.header.stream_name);
        stream.copies.insert(copy.header.id.clone(), copy);
    }

    /// A copy grew by one fragment.
    pub fn extend(&mut self, id: &SegmentId, fragment: Fragment, hashes: &[FrameHash], chain: Chain) {
        if let Some(copy) = self
            .streams
            .get_mut(&id.stream)
            .and_then(|s| s.copies.get_mut(id))
        {
            copy.length = fragment.end();
            copy.chain = Some(chain);
            copy.extent.add(&fragment);
            copy.index.get_or_insert_default().push(fragment, hashes);
        }
    }

    /// The state of an unsealed copy changed.
    pub fn set_state(&mut self, id: &SegmentId, state: State) {
        if let Some(copy) = self
            .streams
            .get_mut(&id.stream)
            .and_then(|s| s.copies.get_mut(id))
        {
            copy.state = state;
        }
    }

    /// Forgets a copy that retention removed; it ended at `end_us`. Nothing that began before is wanted back.
    pub fn evict(&mut self, id: &SegmentId, end_us: i64) -> Option<Copy> {
        let stream = self.streams.entry(id.stream).or_default();
        stream.floor_us = Some(stream.floor_us.map_or(end_us, |floor| floor.max(end_us)));
        stream.left(id);
        stream.copies.remove(id)
    }

    /// The floor of each stream that retention removed something of, microseconds since the Unix epoch.
    pub fn floors(&self) -> BTreeMap<StreamUid, i64> {
        let floors = self
            .streams
            .iter()
            .filter_map(|(uid, s)| Some((*uid, s.floor_us?)));
        floors.collect()
    }

    /// The peer holds a segment durably up to `end`.
    pub fn acknowledge(&mut self, id: &SegmentId, end: u64) {
        let Some(stream) = self.streams.get_mut(&id.stream) else {
            return;
        };
        let Some(copy) = stream.copies.get(id) else {
            return;
        };
        let part = || copy.index.as_ref()?.end_us_before(end);
        let end_us = if end >= copy.length {
            Some(copy.end_us())
        } else {
            part()
        };
        stream.acknowledged_us = stream.acknowledged_us.max(end_us);
    }

    /// Notes a gap, or the end of one that lasted.
    pub fn push_gap(&mut self, uid: StreamUid, gap: Gap) {
        self.streams.entry(uid).or_default().gaps.push(gap);
    }

    /// A copy.
    pub fn get(&self, id: &SegmentId) -> Option<&Copy> {
        self.streams.get(&id.stream)?.copies.get(id)
    }

    /// A stream.
    pub fn stream(&self, uid: StreamUid) -> Option<&Stream> {
        self.streams.get(&uid)
    }

    pub(crate) fn stream_mut(&mut self, uid: StreamUid) -> &mut Stream {
        self.streams.entry(uid).or_default()
    }

    pub(crate) fn streams_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.streams.values_mut()
    }

    /// All streams.
    pub fn streams(&self) -> impl Iterator<Item = (&StreamUid, &Stream)> {
        self.streams.iter()
    }

    /// All copies.
    pub fn copies(&self) -> impl Iterator<Item = &Copy> {
        self.streams.values().flat_map(|s| s.copies.values())
    }

    /// What this member holds, for its peer.
    pub fn inventory(&self) -> Vec<Held> {
        let held = self.copies().map(Copy::held);
        held.chain(self.reclaimed().cloned()).collect()
    }

    /// The copies of a stream that overlap the time from `from_us` to `to_us`, by identity.
    pub fn overlapping(&self, uid: StreamUid, from_us: i64, to_us: i64) -> Vec<SegmentId> {
        let overlaps = |c: &&Copy| c.start_us() < to_us && c.end_us() > from_us;
        let copies = self.stream(uid).into_iter().flat_map(|s| s.copies.values());
        copies.filter(overlaps).map(|c| c.id().clone()).collect()
    }

    /// A span of time of a stream, with what is recorded next before it and after it.
    pub fn around(&self, uid: StreamUid, (from_us, to_us): (i64, i64)) -> (i64, i64) {
        let copies = || self.stream(uid).into_iter().flat_map(|s| s.copies.values());
        let before = copies().map(Copy::end_us).filter(|end| *end <= from_us).max();
        let after = copies().map(Copy::start_us).filter(|start| *start >= to_us).min();
        let from = from_us.saturating_sub(WINDOW_US);
        let to = to_us.saturating_add(WINDOW_US);
        (
            before.map_or(from, |end| from.min(end - 1)),
            after.map_or(to, |start| to.max(start + 1)),
        )
    }
}

/// The fragments of a copy; none where they cannot be read.
fn fragments(volume: &Volume, copy: &Copy) -> Vec<Fragment> {
    let index = copy.index(|id, root| volume.index(id, root));
    let index = index.inspect_err(|e| tracing::warn!(segment = %copy.id(), "no index: {e}"));
    index
        .ok()
        .flatten()
        .map_or_else(Vec::new, |index| index.fragments)
}

/// What the ledger of `role` should have said of a sealed copy.
fn rebuilt_record(copy: &Copy, role: Role) -> Option<Record> {
    let (entry, received_s) = (Box::new(copy.entry()?), copy.received_s);
    match (role, copy.origin) {
        (Role::Recorder, Origin::Live) => Some(Record::Sealed { entry, received_s }),
        (Role::Replicator, Origin::Peer) => Some(Record::Received {
            from: copy.id().member.clone(),
            entry,
            received_s,
        }),
        _ => None,
    }
}
