//! A segment file that grows: written by its writer, or received from the peer. Sealing is in two steps, so that one sync
//! covers all streams: [`SegmentFile::finish`], `Volume::sync`, [`Finished::rename`], `Volume::sync`, and only then is it
//! named to anyone (I2).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::entry::{Extent, Fragment, SealedEntry};
use crate::error::{Error, Result};
use crate::fmp4::{self, Audio, Packet, Sample, Track};
use crate::hash::{Chain, FrameHash, Root, chain_next, chain_start};
use crate::header::Header;
use crate::id::SegmentId;
use crate::index::Index;
use crate::sabotage::{Invariant::I2, breaks};
use crate::scan::{self, Scan};
use crate::volume::{Volume, rename_new};

/// What one append added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The index of the fragment.
    pub fragment: Fragment,
    /// The end of the file, bytes. Not durable before the next `Volume::sync`.
    pub end: u64,
    /// The chain there.
    pub chain: Chain,
}

/// An open segment.
#[derive(Debug)]
pub struct SegmentFile {
    file: File,
    path: PathBuf,
    sealed_path: PathBuf,
    index_path: PathBuf,
    header: Header,
    head_len: u64,
    index: Index,
    end: u64,
    chain: Chain,
    hasher: blake3::Hasher,
}

impl SegmentFile {
    /// Opens a new segment of this member and writes its head.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Media`] for a track that cannot be written, [`Error::Io`].
    pub fn create(volume: &Volume, header: Header, track: &Track) -> Result<Self> {
        let head = fmp4::write_head(&header, track)?;
        Self::create_with_head(volume, header, &head, false)
    }

    /// Opens a new segment with a head that was already proven to be that of `header`; with `again` also over what is
    /// left of an attempt of which nothing became durable.
    pub(crate) fn create_with_head(
        volume: &Volume,
        header: Header,
        head: &[u8],
        again: bool,
    ) -> Result<Self> {
        volume.create_stream_dir(header.id.stream)?;
        let (path, sealed_path) = (volume.open_path(&header.id), volume.sealed_path(&header.id));
        if sealed_path.exists() && !breaks(I2) {
            return Err(Error::Exists(header.id));
        }
        let create = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(!again)
                .create(again)
                .truncate(again)
                .open(&path)
        };
        let file = match create() {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => match begun(&path, head)? {
                Some(file) => Ok(file),
                None if set_aside(&path)? => create(),
                None => return Err(Error::Exists(header.id)),
            },
            created => created,
        };
        let file = file.map_err(|e| Error::io(&path, e))?;
        file.write_all_at(head, 0).map_err(|e| Error::io(&path, e))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(head);
        Ok(Self {
            file,
            path,
            sealed_path,
            index_path: volume.index_path(&header.id),
            header,
            head_len: head.len() as u64,
            index: Index::default(),
            end: head.len() as u64,
            chain: chain_start(head),
            hasher,
        })
    }

    /// Opens a segment that was left `.open`, and cuts what is not whole at its end. Where whole fragments lie behind that, because a block
    /// between was lost, they are kept in a file beside it.
    ///
    /// # Errors
    /// [`Error::Damaged`] if its head is not whole, [`Error::Io`].
    pub fn resume(volume: &Volume, id: &SegmentId) -> Result<Self> {
        let path = volume.open_path(id);
        let found: Scan = scan::scan(&path)?;
        if &found.header.id != id {
            return Err(Error::damaged(path, "its header names another segment"));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io(&path, e))?;
        keep_behind(&path, &file, found.end).map_err(|e| Error::io(&path, e))?;
        file.set_len(found.end).map_err(|e| Error::io(&path, e))?;
        Ok(Self {
            file,
            path,
            sealed_path: volume.sealed_path(id),
            index_path: volume.index_path(id),
            header: found.header,
            head_len: found.head_len,
            index: found.index,
            end: found.end,
            chain: found.chain,
            hasher: found.hasher,
        })
    }

    /// As [`Self::resume`], after a sync failed: what lies behind the first `durable` bytes may be gone from the disk
    /// although it can still be read, so it is cut. The rest is read again.
    ///
    /// # Errors
    /// As [`Self::resume`].
    pub fn resume_durable(volume: &Volume, id: &SegmentId, durable: u64) -> Result<Self> {
        let path = volume.open_path(id);
        let io = |e| Error::io(&path, e);
        let file = OpenOptions::new().write(true).open(&path).map_err(io)?;
        if file.metadata().map_err(io)?.len() > durable {
            file.set_len(durable).map_err(io)?;
        }
        Self::resume(volume, id)
    }

    /// Writes frames as one fragment, and the packets of sound that were received with them. After an error the file is as before.
    ///
    /// # Errors
    /// [`Error::Media`], [`Error::Io`].
    pub fn append(&mut self, samples: &[Sample], packets: &[Packet]) -> Result<Appended> {
        self.append_after(0, samples, packets)
    }

    /// The same of frames of which it is known that none was lost before them, though they begin `paused` after the end of the one
    /// before, 1/90000 s.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_after(&mut self, paused: u32, samples: &[Sample], packets: &[Packet]) -> Result<Appended> {
        let (bytes, parsed) = match self.with_sound(paused, samples, packets) {
            Some(whole) => whole,
            None => self.fragment(paused, samples, None)?,
        };
        self.append_proven(&bytes, &parsed)
    }

    /// Sound that cannot be read again must not keep frames from the disk.
    fn with_sound(
        &self,
        paused: u32,
        samples: &[Sample],
        packets: &[Packet],
    ) -> Option<(Bytes, fmp4::Parsed)> {
        let audio = self.header.audio.filter(|_| !packets.is_empty())?;
        self.fragment(paused, samples, Some((audio, packets))).ok()
    }

    fn fragment(
        &self,
        paused: u32,
        samples: &[Sample],
        sound: Option<(Audio, &[Packet])>,
    ) -> Result<(Bytes, fmp4::Parsed)> {
        let bytes = fmp4::write_fragment(self.index.fragments.len() as u64, paused, samples, sound)?;
        let hashes: Vec<FrameHash> = samples.iter().map(|s| s.hash).collect();
        let parsed = fmp4::own_fragment(&bytes, self.header.tracks(), &hashes);
        let parsed = parsed.map_err(|e| Error::Media(e.into()))?;
        Ok((bytes, parsed))
    }

    /// Writes a fragment that was proven to be whole and the next one.
    pub(crate) fn append_proven(&mut self, bytes: &[u8], parsed: &fmp4::Parsed) -> Result<Appended> {
        if let Err(e) = self.file.write_all_at(bytes, self.end) {
            // What was written of it does not count; cut it, so that a reader never sees it.
            let _ = self.file.set_len(self.end);
            return Err(Error::io(&self.path, e));
        }
        let fragment = scan::index(self.end, parsed);
        self.hasher.update(bytes);
        self.chain = chain_next(&self.chain, bytes);
        self.end += bytes.len() as u64;
        self.index.fragments.push(fragment.clone());
        self.index.hashes.extend(parsed.samples.iter().map(|s| s.hash));
        Ok(Appended {
            fragment,
            end: self.end,
            chain: self.chain,
        })
    }

    /// What I3 forbids: the peer says where it begins again, and what is behind that is gone.
    #[cfg(feature = "sabotage")]
    pub(crate) fn begin_again(&mut self, offset: u64) -> Result<()> {
        use crate::sabotage::{Invariant::I3, breaks};
        if breaks(I3) && offset < self.end {
            let io = |e| Error::io(&self.path, e);
            self.file.set_len(offset.max(self.head_len)).map_err(io)?;
            let found = scan::scan(&self.path)?;
            (self.end, self.chain, self.hasher) = (found.end, found.chain, found.hasher);
            self.index = found.index;
        }
        Ok(())
    }

    /// Reads `len` bytes at `offset`, as far as they exist.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let len = len.min(self.end.saturating_sub(offset) as usize);
        let mut data = vec![0; len];
        self.file
            .read_exact_at(&mut data, offset)
            .map_err(|e| Error::io(&self.path, e))?;
        Ok(data.into())
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Length of the head, bytes.
    pub fn head_len(&self) -> u64 {
        self.head_len
    }

    /// The fragments so far.
    pub fn fragments(&self) -> &[Fragment] {
        &self.index.fragments
    }

    /// The hash of every frame so far.
    pub fn hashes(&self) -> &[FrameHash] {
        &self.index.hashes
    }

    /// The end of the file, bytes.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The chain at the end.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// BLAKE3 of the file so far.
    pub fn root(&self) -> Root {
        *self.hasher.finalize().as_bytes()
    }

    /// No more fragments. The segment is not sealed before it was synced and renamed.
    pub fn finish(self) -> Finished {
        let root = self.root();
        let entry = SealedEntry {
            extent: Extent::of(&self.header, &self.index.fragments),
            header: self.header,
            length: self.end,
            root,
            head_len: self.head_len,
            signature: None,
        };
        Finished {
            entry,
            index: self.index,
            file: self.file,
            path: self.path,
            sealed_path: self.sealed_path,
            index_path: self.index_path,
        }
    }
}

/// The file that is at `path` already, where it holds no more than the beginning of this very head: a power cut left it when it
/// was begun. It can be gone on with, and no byte of it is replaced (I3).
fn begun(path: &Path, head: &[u8]) -> Result<Option<File>> {
    let io = |e| Error::io(path, e);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length >= head.len() as u64 {
        return Ok(None);
    }
    let mut held = vec![0; length as usize];
    file.read_exact_at(&mut held, 0).map_err(io)?;
    Ok(head.starts_with(&held).then_some(file))
}

/// Copies what lies behind `end`, before it is cut, if there is a whole fragment in it: no player finds it there, but a person can. Once
/// for each end.
fn keep_behind(path: &Path, file: &File, end: u64) -> std::io::Result<()> {
    let behind = file.metadata()?.len().saturating_sub(end);
    let mut bytes = vec![0; usize::try_from(behind).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, end)?;
    if !holds_fragment(&bytes) {
        return Ok(());
    }
    let aside = path.with_extension(format!("{end}.damaged"));
    let mut kept = match OpenOptions::new().write(true).create_new(true).open(&aside) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        kept => kept?,
    };
    kept.write_all(&bytes)?;
    // The bytes are cut where they were: never before they are durable here.
    kept.sync_data()?;
    tracing::error!(kept = %aside.display(), behind, "frames lie behind damage, and are kept there");
    Ok(())
}

/// Whether there is a whole fragment in these bytes, wherever it begins.
fn holds_fragment(bytes: &[u8]) -> bool {
    let mut begins = bytes
        .windows(4)
        .enumerate()
        .skip(4)
        .filter(|(_, kind)| kind == b"moof");
    begins.any(|(at, _)| {
        let mut boxes = fmp4::boxes(&bytes[at - 4..]).map(|found| found.kind);
        (boxes.next(), boxes.next()) == (Some(*b"moof"), Some(*b"mdat"))
    })
}

/// Gives a file of which not even the head can be read another name, where no byte of it is lost (I3): it is no segment, and must not
/// keep the segment of that name out for ever. Once for each segment, so that such files do not pile up.
fn set_aside(path: &Path) -> Result<bool> {
    let what = match scan::scan(path) {
        Err(Error::Damaged { what, .. }) => what,
        Err(e) => return Err(e),
        Ok(_) => return Ok(false),
    };
    let aside = path.with_extension("damaged");
    match rename_new(path, &aside) {
        Ok(()) => {
            tracing::error!(kept = %aside.display(), "no segment, and set aside: {what}");
            Ok(true)
        }
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(e) => Err(Error::io(path, e)),
    }
}

/// A segment that takes no more fragments.
#[derive(Debug)]
#[must_use = "a finished segment is to be synced and renamed"]
pub struct Finished {
    entry: SealedEntry,
    index: Index,
    file: File,
    path: PathBuf,
    sealed_path: PathBuf,
    index_path: PathBuf,
}

/// A segment that has its sealed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What the ledger is to say of it.
    pub entry: SealedEntry,
    /// Its index, where the volume refused to keep it beside the file.
    pub index: Option<Index>,
}

impl Finished {
    /// What the ledger will say of it.
    pub fn entry(&self) -> &SealedEntry {
        &self.entry
    }

    /// Its index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Gives the file its sealed name, never replacing one (I2), and keeps its index beside it. To be called after a `Volume::sync` that followed the
    /// last append, and before the one that makes the name durable.
    ///
    /// # Errors
    /// [`Error::Exists`] if it is sealed already, [`Error::Damaged`] if a refused write left bytes behind its end,
    /// [`Error::Io`].
    pub fn rename(self) -> Result<Sealed> {
        let length = self.file.metadata().map_err(|e| Error::io(&self.path, e))?.len();
        if length != self.entry.length {
            let what = format!(
                "has {length} bytes, not the {} that were proven",
                self.entry.length
            );
            return Err(Error::damaged(self.path, what));
        }
        match rename_new(&self.path, &self.sealed_path) {
            Ok(()) => {
                let kept = self.index.write(&self.index_path, &self.entry.root);
                let index = kept.is_err().then_some(self.index);
                Ok(Sealed {
                    entry: self.entry,
                    index,
                })
            }
            Err(rustix::io::Errno::EXIST) => Err(Error::Exists(self.entry.header.id)),
            Err(e) => Err(Error::io(self.sealed_path, e)),
        }
    }
}
