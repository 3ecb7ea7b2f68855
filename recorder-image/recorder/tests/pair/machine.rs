//! One machine: its disk, its clock, and who may hand its recorder what.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use failover::BootTime;
use segment::{EpochSlots, Role, Volume};
use uuid::Uuid;

use crate::disk::{self, Files};
use crate::{MS, Rng};

/// True time since the schedule began, nanoseconds.
pub type Now = Arc<AtomicU64>;

/// The sync with which the power goes.
pub enum Last {
    /// After so many more.
    After(u64),
    /// The next one of the epoch alone.
    OfEpoch,
}

/// A volume of which is decided here what is durable, not by a disk. Its files are in memory.
pub struct Disk {
    dir: tempfile::TempDir,
    durable: Arc<Mutex<Files>>,
    /// No sync returns any more.
    off: Arc<AtomicBool>,
    /// With which sync the power goes, and whether that one still counts.
    last: Arc<Mutex<Option<(Last, bool)>>>,
}

impl Disk {
    /// An empty one; its store id is given, so that a seed decides in which order segments are dealt with.
    pub fn new(store: u128) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        drop(Volume::open(dir.path(), Role::Replicator).unwrap());
        let path = dir.path().join("store.json");
        let mut about: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        about["store"] = Uuid::from_u128(store).to_string().into();
        std::fs::write(&path, about.to_string()).unwrap();
        EpochSlots::open(&Volume::open(dir.path(), Role::Replicator).unwrap()).unwrap();
        Self::holding(dir)
    }

    fn holding(dir: tempfile::TempDir) -> Self {
        let durable = disk::read(dir.path(), &Files::new());
        Self {
            dir,
            durable: Arc::new(Mutex::new(durable)),
            off: Arc::default(),
            last: Arc::default(),
        }
    }

    /// The volume, for one of the processes. Where the power goes with a sync, whoever syncs ends there.
    pub fn open(&self, role: Role) -> Volume {
        let volume = Volume::open(self.dir.path(), role).unwrap();
        let (root, durable) = (self.dir.path().to_owned(), Arc::clone(&self.durable));
        let (off, last) = (Arc::clone(&self.off), Arc::clone(&self.last));
        volume.observe(move |file| {
            let (ends, counts) = match &mut *last.lock().unwrap() {
                Some((Last::After(0), counts)) => (true, *counts),
                Some((Last::OfEpoch, counts)) if file.is_some() => (true, *counts),
                Some((Last::After(left), _)) => {
                    *left -= 1;
                    (false, true)
                }
                _ => (false, true),
            };
            if counts && !off.load(Ordering::SeqCst) {
                let mut durable = durable.lock().unwrap();
                match file.and_then(|file| disk::read_one(&root, file)) {
                    Some((name, file)) => _ = durable.insert(name, file),
                    None => *durable = disk::read(&root, &durable),
                }
                tracing::trace!(alone = file.is_some(), durable = %disk::digest(&durable), "synced");
            }
            if ends || off.load(Ordering::SeqCst) {
                off.store(true, Ordering::SeqCst);
                std::panic::resume_unwind(Box::new("the power is cut"));
            }
        });
        volume
    }

    /// The power will go with this sync; whether that one counts is decided now.
    pub fn cut_with(&self, last: Last, counts: bool) {
        *self.last.lock().unwrap() = Some((last, counts));
    }

    /// The id of the volume.
    pub fn store(&self) -> String {
        let about = self.file("store.json".as_ref()).unwrap();
        let about: serde_json::Value = serde_json::from_slice(&about).unwrap();
        about["store"].as_str().unwrap().to_owned()
    }

    /// Whether the power went.
    pub fn is_off(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }

    /// What a power cut leaves.
    pub fn after_power_cut(&self, rng: &mut Rng) -> Self {
        let durable = self.durable.lock().unwrap();
        let written = disk::read(self.dir.path(), &durable);
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        disk::cut(&durable, &written, dir.path(), rng);
        Self::holding(dir)
    }

    /// The epoch that is durable on it.
    pub fn epoch(&self) -> u64 {
        let probe = tempfile::tempdir_in("/dev/shm").unwrap();
        let slots = self.file("epoch".as_ref()).unwrap_or_default();
        std::fs::write(probe.path().join("epoch"), slots).unwrap();
        let volume = Volume::open(probe.path(), Role::Replicator).unwrap();
        EpochSlots::open(&volume).unwrap().epoch()
    }

    /// A file of it.
    pub fn file(&self, path: &std::path::Path) -> Option<Vec<u8>> {
        std::fs::read(self.dir.path().join(path)).ok()
    }
}

/// `CLOCK_BOOTTIME` of one machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Its nanoseconds for each 1000 true ones: 1000 to 1200.
    pub rate: u64,
    /// What it showed when the machine booted, and when that was.
    pub offset: u64,
    pub booted: u64,
}

impl Clock {
    pub fn at(&self, now: u64) -> BootTime {
        BootTime(self.offset + now.saturating_sub(self.booted) * self.rate / 1000)
    }

    /// The machine boots: its clock begins anew, at the same rate.
    pub fn boot(&mut self, now: u64) {
        (self.offset, self.booted) = (50 * MS, now);
    }
}
