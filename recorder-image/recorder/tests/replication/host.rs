//! One host: a recorder that writes, a keeper that receives, and the volume under both.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use recorder::local::ToRecorder;
use recorder::replicator::hub::Hub;
use recorder::replicator::keeper::{Keeper, Work};
use recorder::replicator::{receiver, sender};
use recorder::wire::halves;
use segment::inventory::Held;
use segment::{Catalogue, Chain, EpochSlots, Role, SegmentFile, SegmentId, Volume, scan};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::disk::{self, Files};
use crate::media::{file, sample};
use crate::{Promised, Rng};

/// What comes meanwhile is synced together.
pub const PERIOD: Duration = Duration::from_millis(3);

/// A folder in memory: what is durable is decided here, not by a disk.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// See the module.
pub struct Host {
    index: usize,
    dir: tempfile::TempDir,
    durable: Arc<Mutex<Files>>,
    /// The power is cut: nothing becomes durable any more.
    off: Arc<AtomicBool>,
    recording: Volume,
    volume: Arc<Volume>,
    hub: Arc<Hub>,
    work: SyncSender<Work>,
    told: mpsc::UnboundedReceiver<ToRecorder>,
    open: Option<SegmentFile>,
    starts: u64,
    frames: u64,
}

impl Host {
    pub fn new(index: usize) -> Self {
        Self::start(index, folder(), 0, 0)
    }

    fn start(index: usize, dir: tempfile::TempDir, starts: u64, frames: u64) -> Self {
        let recording = Volume::open(dir.path(), Role::Recorder).unwrap();
        let volume = Arc::new(Volume::open(dir.path(), Role::Replicator).unwrap());
        EpochSlots::open(&volume).unwrap();
        let (catalogue, found) = Catalogue::load(&volume, 0).unwrap();
        catalogue
            .record_rebuilt(&volume, &found, Role::Replicator)
            .unwrap();
        let hub = Arc::new(Hub::new(volume.store(), &catalogue));
        let durable = Arc::new(Mutex::new(disk::read(dir.path(), &Files::new())));
        let off = Arc::new(AtomicBool::new(false));
        for of in [&recording, &volume] {
            let (root, durable, off) = (dir.path().to_owned(), Arc::clone(&durable), Arc::clone(&off));
            of.observe(move || {
                let mut durable = durable.lock().unwrap();
                if off.load(Ordering::SeqCst) {
                    drop(durable);
                    // No sync returns any more, or what needs one would be done after the cut.
                    std::panic::resume_unwind(Box::new("the power is cut"));
                }
                *durable = disk::read(&root, &durable);
            });
        }
        let (tell, told) = mpsc::unbounded_channel();
        let (work, inbox) = sync_channel(256);
        let keeper = Keeper::new(Arc::clone(&volume), Arc::clone(&hub), tell).unwrap();
        let keeper = keeper.commit_each(PERIOD);
        std::thread::spawn(move || keeper.run(&inbox));
        let incarnation = starts * 2 + index as u64;
        hub.set_alive(incarnation);
        work.send(Work::RecorderStarted).unwrap();
        Self {
            index,
            dir,
            durable,
            off,
            recording,
            volume,
            hub,
            work,
            told,
            open: None,
            starts,
            frames,
        }
    }

    /// A fragment; sometimes it is not synced at once.
    pub fn write(&mut self, rng: &mut Rng, promised: &mut Promised) {
        let incarnation = self.starts * 2 + self.index as u64;
        let hub = &self.hub;
        let open = self.open.get_or_insert_with(|| {
            let mut new = file(&self.recording, incarnation);
            let id = new.header().id.clone();
            promised.chains.insert((id.clone(), new.end()), new.chain());
            new.append(&[sample(self.frames, true)], &[]).unwrap();
            promised.chains.insert((id, new.end()), new.chain());
            new
        });
        let id = open.header().id.clone();
        for _ in 0..=rng.below(4) {
            self.frames += 1;
            open.append(&[sample(self.frames, false)], &[]).unwrap();
            promised.chains.insert((id.clone(), open.end()), open.chain());
        }
        if rng.below(3) > 0 {
            self.recording.sync().unwrap();
            hub.grew(&id, open.end(), false);
        }
    }

    pub fn seal(&mut self, promised: &mut Promised) {
        if let Some(open) = self.open.take() {
            self.finish(open, promised);
            // A segment of another start is another segment.
            self.starts += 1;
            self.hub.set_alive(self.starts * 2 + self.index as u64);
        }
    }

    fn finish(&mut self, open: SegmentFile, promised: &mut Promised) {
        let finished = open.finish();
        self.recording.sync().unwrap();
        let entry = finished.rename().unwrap().entry;
        self.recording.sync().unwrap();
        let id = entry.header.id.clone();
        promised.sealed[self.index].insert(id, entry.root);
        self.hub.sealed(&entry.held());
    }

    /// What the keeper tells the recorder.
    pub fn hear(&mut self, promised: &mut Promised) {
        while let Ok(message) = self.told.try_recv() {
            match message {
                ToRecorder::ReceivedSealed { entry } => {
                    promised.sealed[self.index].insert(entry.header.id.clone(), entry.root);
                }
                ToRecorder::TailComplete { id } if self.volume.open_path(&id).exists() => {
                    let open = SegmentFile::resume(&self.recording, &id).unwrap();
                    promised.chains.insert((id, open.end()), open.chain());
                    self.finish(open, promised);
                }
                ToRecorder::Refused { reason, segment, .. } => {
                    let here = segment.and_then(|id| self.whole(&id));
                    panic!("good media is refused: {reason}; here is {here:?}")
                }
                _ => {}
            }
        }
    }

    /// The power is cut and comes back. All connections are gone already.
    pub fn power_cut(&mut self, rng: &mut Rng) {
        self.off.store(true, Ordering::SeqCst);
        let durable = self.durable.lock().unwrap().clone();
        let written = disk::read(self.dir.path(), &durable);
        let dir = folder();
        disk::cut(&durable, &written, dir.path(), rng);
        *self = Self::start(self.index, dir, self.starts + 1, self.frames + 1);
    }

    fn whole(&self, id: &SegmentId) -> Option<Vec<u8>> {
        let sealed = std::fs::read(self.volume.sealed_path(id));
        sealed.or_else(|_| std::fs::read(self.volume.open_path(id))).ok()
    }

    /// The chain of what is here, up to `end`.
    pub fn chain_at(&self, id: &SegmentId, end: u64) -> Option<Chain> {
        let bytes = self.whole(id)?;
        let found = scan::scan_bytes(bytes.get(..end as usize)?).ok()?;
        (found.end == end).then_some(found.chain)
    }

    pub fn sealed_hash(&self, id: &SegmentId) -> Option<[u8; 32]> {
        let bytes = std::fs::read(self.volume.sealed_path(id)).ok()?;
        Some(*blake3::hash(&bytes).as_bytes())
    }

    /// What its hub says that it holds.
    pub fn held(&self) -> BTreeMap<SegmentId, (u64, bool)> {
        let line = |held: Held| (held.id, (held.length, held.root.is_some()));
        self.hub.inventory().into_iter().map(line).collect()
    }
}

/// A media connection.
pub struct Connection {
    serving: JoinHandle<()>,
    receiving: JoinHandle<()>,
    work: SyncSender<Work>,
    acks: mpsc::Receiver<(SegmentId, u64)>,
}

impl Connection {
    /// From `from` to `to`, which dialled, with so many bytes on the way at most.
    pub fn between(from: &Host, to: &Host, buffer: usize) -> Self {
        let (near, far) = tokio::io::duplex(buffer);
        let (tell, acks) = mpsc::channel(4096);
        let (volume, hub) = (Arc::clone(&from.volume), Arc::clone(&from.hub));
        let serving = tokio::spawn(async move {
            let (reader, writer) = halves(near);
            let _ = sender::serve(reader, writer, volume, hub, tell).await;
        });
        let (hub, work, peer) = (
            Arc::clone(&to.hub),
            to.work.clone(),
            format!("front-{}", from.index),
        );
        let receiving = tokio::spawn(async move {
            let (reader, writer) = halves(far);
            let _ = receiver::receive(reader, writer, peer, &hub, &work).await;
        });
        Self {
            serving,
            receiving,
            work: to.work.clone(),
            acks,
        }
    }

    pub fn has_ended(&self) -> bool {
        self.serving.is_finished() || self.receiving.is_finished()
    }

    /// The acknowledgements since the last call.
    pub fn acknowledged(&mut self) -> Vec<(SegmentId, u64)> {
        std::iter::from_fn(|| self.acks.try_recv().ok()).collect()
    }

    /// Cuts it, and whoever receives notices, unless its power is cut, too. What arrived before counts.
    pub async fn cut(mut self, powerless: bool) -> Vec<(SegmentId, u64)> {
        self.receiving.abort();
        let _ = self.receiving.await;
        if !powerless {
            let _ = self.work.send(Work::Disconnected);
        }
        let _ = self.serving.await;
        std::iter::from_fn(|| self.acks.try_recv().ok()).collect()
    }
}
