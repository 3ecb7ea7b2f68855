//! The epoch of this member, durable in two preallocated slots: a full disk cannot prevent it, and a torn write cannot lose
//! the former one (I5).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::observe::Syncs;
use crate::sabotage::{Invariant::I5, Invariant::I10, breaks};
use crate::volume::{Volume, sync_folder};

/// Bytes of a slot: one block, so that writing one never touches the other.
const SLOT: u64 = 4096;
const MAGIC: &[u8; 8] = b"GEPOCH\0\x01";

/// The two slots. The higher whole one counts.
#[derive(Debug)]
pub struct EpochSlots {
    file: File,
    path: PathBuf,
    epoch: u64,
    next: u64,
    syncs: Syncs,
}

impl EpochSlots {
    /// Opens the slots of a volume, and preallocates them if they are new.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(volume: &Volume) -> Result<Self> {
        let path = volume.root().join("epoch");
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = opened.map_err(|e| Error::io(&path, e))?;
        let io = |e| Error::io(&path, e);
        let mut data = vec![0; 2 * SLOT as usize];
        if file.metadata().map_err(io)?.len() < 2 * SLOT {
            // Written with zeros, not merely reserved: the blocks are then this file's for good.
            file.write_all_at(&data, 0)
                .and_then(|()| file.sync_all())
                .map_err(io)?;
            sync_folder(volume.root())?;
        }
        file.read_exact_at(&mut data, 0).map_err(io)?;
        let (first, second) = data.split_at(SLOT as usize);
        let (first, second) = (read_slot(first), read_slot(second));
        let next = u64::from(first >= second);
        Ok(Self {
            file,
            path,
            epoch: first.max(second).unwrap_or(0),
            next,
            syncs: volume.syncs(),
        })
    }

    /// The highest epoch that is durable here; 0 if there never was one.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Makes a higher epoch durable. Only after this returned may anyone act on it.
    ///
    /// # Errors
    /// [`Error::EpochNotHigher`], [`Error::Io`].
    pub fn raise(&mut self, epoch: u64) -> Result<()> {
        if epoch <= self.epoch && !breaks(I5) {
            return Err(Error::EpochNotHigher {
                asked: epoch,
                stored: self.epoch,
            });
        }
        self.write(epoch)
    }

    /// Raises without looking, so that a test can show what comes of a check that is another step than the write.
    #[cfg(feature = "sabotage")]
    #[doc(hidden)]
    pub fn raise_unchecked(&mut self, epoch: u64) -> Result<()> {
        self.write(epoch)
    }

    fn write(&mut self, epoch: u64) -> Result<()> {
        let offset = self.next * SLOT;
        let written = self.file.write_all_at(&slot(epoch), offset);
        let synced = written.and_then(|()| {
            if breaks(I10) {
                Ok(())
            } else {
                self.file
                    .sync_data()
                    .inspect(|()| self.syncs.tell(Some(&self.path)))
            }
        });
        synced.map_err(|e| Error::io(&self.path, e))?;
        self.epoch = epoch;
        self.next = 1 - self.next;
        Ok(())
    }
}

fn slot(epoch: u64) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &epoch.to_be_bytes()].concat();
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

fn read_slot(data: &[u8]) -> Option<u64> {
    let epoch = u64::from_be_bytes(*data.strip_prefix(&MAGIC[..])?.first_chunk::<8>()?);
    data.starts_with(&slot(epoch)).then_some(epoch)
}
