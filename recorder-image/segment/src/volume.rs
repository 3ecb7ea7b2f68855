//! A member's volume: where things are, how they become durable, who uses it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs as sys;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::id::{SegmentId, StreamUid};
use crate::observe::Syncs;
use crate::sabotage::{Invariant::I2, Invariant::I10, breaks};

/// The format of volumes that this version writes and reads.
pub const FORMAT: u32 = 2;

/// Which of a pod's two processes this is. Each writes ledgers and segments of its own, so that none has two writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Writes live media, and is the only one that removes any.
    Recorder,
    /// Writes what it received from the peer and verified.
    Replicator,
}

impl Role {
    /// Its name in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recorder => "recorder",
            Self::Replicator => "replicator",
        }
    }
}

/// The size of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// All of it, bytes.
    pub total: u64,
    /// What this process may still use, bytes.
    pub free: u64,
    /// How many files it can have; 0 where that is not fixed.
    pub files: u64,
    /// How many it may still get.
    pub free_files: u64,
}

impl Space {
    /// What this process may still use, bytes, where every file is of the mean size for which the volume was made.
    pub fn usable(&self) -> u64 {
        if self.files == 0 {
            return self.free;
        }
        let worth = u128::from(self.total) * u128::from(self.free_files) / u128::from(self.files);
        self.free.min(u64::try_from(worth).unwrap_or(u64::MAX))
    }
}

/// What `store.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct StoreFile {
    format: u32,
    store: Uuid,
}

/// An open volume.
#[derive(Debug)]
pub struct Volume {
    root: PathBuf,
    store: Uuid,
    folder: File,
    /// The same folder, opened for itself.
    apart: File,
    _lock: File,
    syncs: Syncs,
}

impl Volume {
    /// Opens the volume at `root` for one role; mints its store id if it is new.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process holds the role, [`Error::UnknownFormat`] for another format, else [`Error::Io`].
    pub fn open(root: &Path, role: Role) -> Result<Self> {
        fs::create_dir_all(root.join("streams")).map_err(|e| Error::io(root, e))?;
        let lock = lock(root, role)?;
        let store = match read_store(root)? {
            Some(store) => store,
            None => mint_store(root)?,
        };
        let opened = || File::open(root).map_err(|e| Error::io(root, e));
        Ok(Self {
            root: root.to_owned(),
            store,
            folder: opened()?,
            apart: opened()?,
            _lock: lock,
            syncs: Syncs::default(),
        })
    }

    /// The id of this volume.
    pub fn store(&self) -> Uuid {
        self.store
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes everything written so far durable, for all streams at once: one `syncfs` (I10).
    ///
    /// # Errors
    /// [`Error::Io`]; then nothing may be taken for durable.
    pub fn sync(&self) -> Result<()> {
        self.sync_over(&self.folder)
    }

    /// The same, for who does not acknowledge what this process writes. Linux tells an error of write-back once over each open file
    /// (`syncfs(2)`, `fsync(2)`): one that this hears is heard by [`sync`](Self::sync) as well.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub fn sync_apart(&self) -> Result<()> {
        self.sync_over(&self.apart)
    }

    fn sync_over(&self, folder: &File) -> Result<()> {
        if breaks(I10) {
            return Ok(());
        }
        let synced = self.syncs.lost(folder).and_then(|()| Ok(sys::syncfs(folder)?));
        synced.map_err(|e| Error::io(&self.root, e))?;
        self.syncs.tell(None);
        Ok(())
    }

    /// From now on each open file tells once that write-back failed.
    #[cfg(feature = "sabotage")]
    #[doc(hidden)]
    pub fn lose_writes(&self) {
        self.syncs.lose(&[&self.folder, &self.apart]);
    }

    /// Calls `observer` after each sync, with the file where it was one file's, so that a simulated power cut knows what is durable.
    #[cfg(feature = "sabotage")]
    #[doc(hidden)]
    pub fn observe(&self, observer: impl Fn(Option<&Path>) + Send + 'static) {
        self.syncs.observe(observer);
    }

    /// Who is told of its syncs.
    pub(crate) fn syncs(&self) -> Syncs {
        self.syncs.clone()
    }

    /// How full it is.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn space(&self) -> Result<Space> {
        let found = sys::fstatvfs(&self.folder).map_err(|e| Error::io(&self.root, e))?;
        Ok(Space {
            total: found.f_blocks * found.f_frsize,
            free: found.f_bavail * found.f_frsize,
            files: found.f_files,
            free_files: found.f_favail,
        })
    }

    /// The folder of a stream.
    pub fn stream_dir(&self, stream: StreamUid) -> PathBuf {
        self.root.join("streams").join(stream.to_string())
    }

    /// Makes the folder of a stream.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_stream_dir(&self, stream: StreamUid) -> Result<PathBuf> {
        let dir = self.stream_dir(stream);
        fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, e))?;
        Ok(dir)
    }

    /// The file of a segment while it is open (or partial).
    pub fn open_path(&self, id: &SegmentId) -> PathBuf {
        self.stream_dir(id.stream).join(id.stem() + ".open")
    }

    /// The file of a sealed segment.
    pub fn sealed_path(&self, id: &SegmentId) -> PathBuf {
        self.stream_dir(id.stream).join(id.stem() + ".mp4")
    }

    /// The streams that have a folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn streams(&self) -> Result<Vec<StreamUid>> {
        let names = file_names(&self.root.join("streams"))?;
        Ok(names.iter().filter_map(|n| n.parse().ok()).collect())
    }

    /// The segment files of a stream: identity, and whether it is sealed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn segments(&self, stream: StreamUid) -> Result<Vec<(SegmentId, bool)>> {
        let names = file_names(&self.stream_dir(stream))?;
        let parse = |name: &String| {
            let (stem, kind) = name.rsplit_once('.')?;
            let sealed = match kind {
                "mp4" => true,
                "open" => false,
                _ => return None,
            };
            Some((SegmentId::from_stem(stream, stem)?, sealed))
        };
        Ok(names.iter().filter_map(parse).collect())
    }
}

/// The names in a folder; none if it does not exist.
pub(crate) fn file_names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(dir, e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| Error::io(dir, e))?.file_name();
        names.extend(name.into_string());
    }
    names.sort_unstable();
    Ok(names)
}

fn lock(root: &Path, role: Role) -> Result<File> {
    let path = root.join(format!(".{}.lock", role.name()));
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| Error::io(&path, e))?;
    match sys::flock(&file, sys::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked {
            path,
            role: role.name(),
        }),
        Err(e) => Err(Error::io(path, e)),
    }
}

fn read_store(root: &Path) -> Result<Option<Uuid>> {
    let path = root.join("store.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, e)),
    };
    let found: StoreFile = serde_json::from_slice(&text).map_err(|e| Error::damaged(&path, e))?;
    if found.format != FORMAT {
        return Err(Error::UnknownFormat {
            path,
            found: found.format,
            known: FORMAT,
        });
    }
    Ok(Some(found.store))
}

/// Mints a store id. Where both processes do it at once, one rename wins and both read what won.
fn mint_store(root: &Path) -> Result<Uuid> {
    let minted = StoreFile {
        format: FORMAT,
        store: Uuid::new_v4(),
    };
    let draft = root.join(format!(".store.{}", minted.store.simple()));
    let text = serde_json::to_vec(&minted).map_err(|e| Error::damaged(&draft, e))?;
    let mut file = File::create(&draft).map_err(|e| Error::io(&draft, e))?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(|e| Error::io(&draft, e))?;
    let path = root.join("store.json");
    match rename_new(&draft, &path) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(Error::io(path, e)),
    }
    fs::remove_file(&draft).or_else(|e| {
        if e.kind() == std::io::ErrorKind::NotFound {
            Ok(())
        } else {
            Err(Error::io(&draft, e))
        }
    })?;
    sync_folder(root)?;
    read_store(root)?.ok_or_else(|| Error::damaged(path, "vanished after it was written"))
}

/// Renames, and refuses to replace (I2).
pub(crate) fn rename_new(from: &Path, to: &Path) -> rustix::io::Result<()> {
    if breaks(I2) {
        return sys::rename(from, to);
    }
    sys::renameat_with(sys::CWD, from, sys::CWD, to, sys::RenameFlags::NOREPLACE)
}

/// Makes the entries of one folder durable.
pub(crate) fn sync_folder(dir: &Path) -> Result<()> {
    if breaks(I10) {
        return Ok(());
    }
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|e| Error::io(dir, e))
}
