//! What stands for the recorder of a machine: it writes frames with the real store, and acts on authority as it is handed it.

use std::collections::BTreeMap;

use failover::Event;
use recorder::local::{self, ToRecorder};
use recorder::replicator::driver::Input;
use recorder::replicator::keeper::Work;
use segment::inventory::Held;
use segment::{Catalogue, Chain, Role, SegmentFile, SegmentId, Volume, scan};

use crate::machine::{Clock, Disk};
use crate::media::{file, sample};
use crate::replicator::Link;
use crate::{MS, Promised, Rng};

/// What is on a volume: the length of each segment, and, if it is sealed, the beginning of its hash.
pub type Inventory = BTreeMap<SegmentId, (u64, Option<u64>)>;

/// Between two tickets.
const TICKET: u64 = 50 * MS;

/// See the module.
pub struct Recorder {
    index: usize,
    volume: Volume,
    incarnation: u64,
    sequence: u64,
    frames: u64,
    open: Option<SegmentFile>,
    /// What of the open segment is synced.
    synced: u64,
    link: Option<Link>,
    /// An epoch, and until when by this machine's clock.
    grant: Option<(u64, u64)>,
    withdrawn: u64,
    ticket: u64,
    next_ticket: u64,
    next_write: u64,
    /// It does nothing before then.
    pub hung_until: u64,
    /// It writes no more.
    pub quiet: bool,
}

impl Recorder {
    /// Start `start` of the recorder of a machine.
    pub fn new(index: usize, disk: &Disk, start: u64) -> Self {
        Self {
            index,
            volume: disk.open(Role::Recorder),
            incarnation: start * 2 + index as u64,
            sequence: 0,
            frames: start << 20,
            open: None,
            synced: 0,
            link: None,
            grant: None,
            withdrawn: 0,
            ticket: 0,
            next_ticket: 0,
            next_write: 0,
            hung_until: 0,
            quiet: false,
        }
    }

    /// The epoch of the authority that it would act on now.
    pub fn holds(&self, clock: Clock, now: u64) -> Option<u64> {
        let (epoch, until) = self.grant?;
        (clock.at(now).0 < until).then_some(epoch)
    }

    /// The replicator ended: what was handed over holds until its deadline.
    pub fn unlink(&mut self) {
        self.link = None;
    }

    /// The recorder ends.
    pub fn end(self) -> Option<Link> {
        if let Some(link) = &self.link {
            let _ = link.driver.try_send(Input::Event(Event::RecorderDied));
        }
        self.link
    }

    /// A replicator is there, perhaps one that knew another start of the recorder.
    pub fn connect(&mut self, link: Link) {
        let (catalogue, _) = Catalogue::load(&link.volume, 0).unwrap();
        link.volume.sync().unwrap();
        link.hub.load(&catalogue);
        link.hub.set_alive(self.incarnation);
        link.hub.forget_pins();
        let _ = link.work.try_send(Work::RecorderStarted);
        if let Some(open) = self.open.as_ref().filter(|_| self.synced > 0) {
            link.hub.grew(&open.header().id, self.synced, false);
        }
        self.link = Some(link);
    }

    /// All that is to be done by `now`.
    pub fn turn(&mut self, now: u64, rng: &mut Rng, promised: &mut Promised) {
        if now < self.hung_until {
            return;
        }
        self.hear(promised);
        if now >= self.next_ticket {
            self.next_ticket = now + TICKET;
            self.ticket += 1;
            let ticket = self.ticket;
            self.tell(Event::RecorderProgress { ticket });
        }
        if now >= self.next_write && !self.quiet {
            self.next_write = now + (20 + rng.below(60)) * MS;
            self.write(rng, promised);
            if rng.below(20) == 0 {
                self.seal(promised);
            }
        }
    }

    fn tell(&self, event: Event) {
        if let Some(link) = &self.link {
            let _ = link.driver.try_send(Input::Event(event));
        }
    }

    fn write(&mut self, rng: &mut Rng, promised: &mut Promised) {
        let open = self.open.get_or_insert_with(|| {
            let mut new = file(&self.volume, self.incarnation, self.sequence);
            self.sequence += 1;
            self.synced = 0;
            let id = new.header().id.clone();
            promised.chains.insert((id.clone(), new.end()), new.chain());
            new.append(&[sample(self.frames, true)], &[]).unwrap();
            promised.chains.insert((id, new.end()), new.chain());
            new
        });
        let id = open.header().id.clone();
        for _ in 0..=rng.below(3) {
            self.frames += 1;
            open.append(&[sample(self.frames, false)], &[]).unwrap();
            promised.chains.insert((id.clone(), open.end()), open.chain());
        }
        if rng.below(3) > 0 {
            self.sync(promised);
        }
    }

    /// Syncs, and tells the replicator how far.
    pub fn sync(&mut self, promised: &mut Promised) {
        self.volume.sync().unwrap();
        let Some(open) = &self.open else { return };
        let id = open.header().id.clone();
        self.synced = open.end();
        promised.hold(self.index, &id, self.synced);
        if let Some(link) = &self.link {
            link.hub.grew(&id, self.synced, false);
        }
    }

    fn seal(&mut self, promised: &mut Promised) {
        if let Some(open) = self.open.take() {
            self.finish(open, promised);
        }
    }

    fn finish(&mut self, open: SegmentFile, promised: &mut Promised) {
        let finished = open.finish();
        self.volume.sync().unwrap();
        let entry = finished.rename().unwrap().entry;
        self.volume.sync().unwrap();
        let id = entry.header.id.clone();
        promised.seal(self.index, &id, entry.root);
        if let Some(link) = &self.link {
            link.hub.sealed(&entry.held());
        }
    }

    fn hear(&mut self, promised: &mut Promised) {
        while let Some(message) = self.link.as_mut().and_then(|link| link.told.try_recv().ok()) {
            match message {
                ToRecorder::Authority(authority) if authority.epoch > self.withdrawn => {
                    let until = authority.deadline_boottime_ns;
                    let is_primary = authority.role == local::Role::Primary;
                    self.grant = is_primary.then_some((authority.epoch, until));
                }
                ToRecorder::Withdraw { epoch } => {
                    self.withdrawn = self.withdrawn.max(epoch);
                    self.grant = self.grant.filter(|(granted, _)| *granted > epoch);
                    let epoch = failover::Epoch(epoch);
                    self.tell(Event::RecorderWithdrawn { epoch });
                }
                ToRecorder::ReceivedSealed { entry } => {
                    promised.seal(self.index, &entry.header.id, entry.root);
                }
                ToRecorder::TailComplete { id, .. } if self.volume.open_path(&id).exists() => {
                    let open = SegmentFile::resume(&self.volume, &id).unwrap();
                    let written = promised.chains.get(&(id.clone(), open.end()));
                    if written.is_none_or(|written| *written != open.chain()) {
                        promised.wrong = Some(format!("the tail of {id} is not what was written"));
                    }
                    self.finish(open, promised);
                }
                ToRecorder::ReceivedDurable { id, end, .. } => promised.hold(self.index, &id, end),
                ToRecorder::Refused { reason, segment, .. } => {
                    promised.wrong = Some(format!("good media is refused: {reason}, {segment:?}"));
                }
                _ => {}
            }
        }
        let acks = |link: &mut Link| link.acks.try_recv().ok();
        while let Some((id, end)) = self.link.as_mut().and_then(acks) {
            promised.acknowledged += 1;
            promised.hold(1 - self.index, &id, end);
        }
    }

    /// The acknowledgements that wait are not heard.
    pub fn forget_acks(&mut self) {
        if let Some(link) = &mut self.link {
            link.forget_acks();
        }
    }

    /// Asks the replicator for something.
    pub fn order(&self, event: Event) {
        if let Some(link) = &self.link {
            let (answer, _) = tokio::sync::oneshot::channel();
            let _ = link.driver.try_send(Input::Order(event, answer));
        }
    }

    /// What the hub says is here.
    pub fn held(&self) -> Option<Inventory> {
        let beginning = |root: [u8; 32]| u64::from_be_bytes(*root.first_chunk().unwrap());
        let line = |held: Held| (held.id, (held.length, held.root.map(beginning)));
        Some(
            self.link
                .as_ref()?
                .hub
                .inventory()
                .into_iter()
                .map(line)
                .collect(),
        )
    }
}

fn whole(disk: &Disk, id: &SegmentId) -> Option<Vec<u8>> {
    let path = |ending: &str| format!("streams/{}/{}.{ending}", id.stream, id.stem());
    let sealed = disk.file(path("mp4").as_ref());
    sealed.or_else(|| disk.file(path("open").as_ref()))
}

/// The chain of what is on a disk, up to `end`.
pub fn chain_at(disk: &Disk, id: &SegmentId, end: u64) -> Option<Chain> {
    let bytes = whole(disk, id)?;
    let found = scan::scan_bytes(bytes.get(..end as usize)?).ok()?;
    (found.end == end).then_some(found.chain)
}

/// The hash of what is on a disk as sealed.
pub fn sealed_hash(disk: &Disk, id: &SegmentId) -> Option<[u8; 32]> {
    let bytes = disk.file(format!("streams/{}/{}.mp4", id.stream, id.stem()).as_ref())?;
    Some(*blake3::hash(&bytes).as_bytes())
}
