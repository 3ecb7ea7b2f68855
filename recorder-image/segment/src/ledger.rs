//! The ledger: the append-only log of what a member did and saw for one stream. One file per process and stream, rotated
//! by size. Each record carries BLAKE3(previous chain ‖ payload). A damaged tail is cut after the last whole record, and
//! said so (I8).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::entry::SealedEntry;
use crate::error::{Error, Result};
use crate::hash::{Chain, Root};
use crate::id::{SegmentId, StreamUid};
use crate::sabotage::{Invariant::I8, breaks};
use crate::volume::{Role, Volume, file_names};

/// A file is followed by a new one when it has this many bytes: two days of a stream, or more.
pub const ROTATE_BYTES: u64 = 1 << 20;
/// The most bytes that wait for a sync. More are refused: a volume that takes bytes and syncs none must not fill memory.
const MAX_UNSYNCED: usize = 2 * MAX_RECORD;
/// The most bytes of one record's payload.
pub const MAX_RECORD: usize = 16 << 20;
/// The first bytes of a ledger file; then the chain that it continues.
const MAGIC: &[u8; 8] = b"GLDG\0\0\0\x01";
const FILE_HEAD: u64 = 8 + 32;

/// A span without frames, on this member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Where the last frame before it ends, microseconds since the Unix epoch.
    pub start_us: i64,
    /// The first frame after it, microseconds since the Unix epoch; `None` while it lasts. The record of its end has the
    /// same start.
    pub end_us: Option<i64>,
    /// Why, in one word: `Watchdog`, `PacketLoss`, `Disconnected`, `NotHeldHere` …
    pub cause: String,
    /// What was seen, for people.
    pub evidence: String,
    /// How many frames are missing, where it is known.
    pub frames: Option<u64>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A segment of this member was opened.
    Opened {
        /// The segment.
        id: SegmentId,
    },
    /// A segment of this member was sealed.
    Sealed {
        /// Its entry.
        entry: Box<SealedEntry>,
        /// When, on this member's retention clock, seconds since the Unix epoch.
        received_s: i64,
    },
    /// A segment was closed without a seal; it stays `.open`.
    Partial {
        /// The segment.
        id: SegmentId,
        /// Its whole fragments end here, bytes.
        len: u64,
        /// The chain there.
        chain: Chain,
    },
    /// A segment of the peer was received, proven and sealed here.
    Received {
        /// Its entry.
        entry: Box<SealedEntry>,
        /// When, on this member's retention clock, seconds since the Unix epoch.
        received_s: i64,
        /// The member that sent it.
        from: String,
    },
    /// Frames are missing.
    Gap(Gap),
    /// Something worth knowing of a run: new parameter sets, a clock that jumped.
    Note {
        /// When, microseconds since the Unix epoch.
        at_us: i64,
        /// What, for people.
        what: String,
    },
    /// Bytes of a peer were refused.
    Quarantined {
        /// The segment that they were said to be of.
        id: SegmentId,
        /// Why.
        reason: String,
    },
    /// Retention removed a segment.
    Evicted {
        /// The segment.
        id: SegmentId,
        /// Where it ended, microseconds since the Unix epoch.
        end_us: i64,
    },
    /// Copies hold what a duplicate holds, and stay: see [`crate::reclaim`].
    Pinned {
        /// The segment that may be removed.
        duplicate: SegmentId,
        /// The segments that hold all its frames.
        kept: Vec<SegmentId>,
        /// When this member received the duplicate, on its retention clock, seconds since the Unix epoch: what is kept
        /// inherits it, if it is later.
        received_s: i64,
    },
    /// A duplicate was removed. Where its file is here it was not, or it came again.
    Reclaimed {
        /// The segment.
        id: SegmentId,
        /// The segments that hold all its frames.
        kept: Vec<SegmentId>,
        /// Its length, bytes.
        length: u64,
        /// BLAKE3 of its file.
        root: Root,
        /// When it began and ended, microseconds since the Unix epoch.
        span_us: (i64, i64),
    },
}

/// A damaged ledger was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The file.
    pub path: PathBuf,
    /// What was kept, bytes.
    pub kept: u64,
    /// What was cut, bytes.
    pub lost: u64,
}

/// A ledger that this process writes.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    role: Role,
    number: u64,
    path: PathBuf,
    file: File,
    end: u64,
    chain: Chain,
    /// The bytes before `end` of which no sync is known.
    unsynced: Vec<u8>,
}

impl Ledger {
    /// Opens the ledger of a stream, makes it if it is new, and cuts a damaged tail.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(volume: &Volume, stream: StreamUid, role: Role) -> Result<(Self, Vec<Truncation>)> {
        let dir = volume.create_stream_dir(stream)?;
        let mut cut = Vec::new();
        let newest = numbers(&dir, role)?.last().copied();
        let Some(number) = newest else {
            return Ok((Self::begin(dir, role, 0, [0; 32])?, cut));
        };
        let path = file_path(&dir, role, number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io(&path, e))?;
        let mut found = read_file(&path, &file, 0, None)?;
        if breaks(I8) {
            found.end = found.len;
        }
        if found.end < FILE_HEAD {
            // Not even its head is whole: nothing was ever recorded in it.
            if found.len > 0 {
                cut.push(Truncation {
                    kept: 0,
                    lost: found.len,
                    path,
                });
            }
            let chain = chain_before(&dir, role, number)?;
            return Ok((Self::begin(dir, role, number, chain)?, cut));
        }
        if found.len > found.end {
            file.set_len(found.end).map_err(|e| Error::io(&path, e))?;
            cut.push(Truncation {
                kept: found.end,
                lost: found.len - found.end,
                path: path.clone(),
            });
        }
        Ok((
            Self {
                dir,
                role,
                number,
                path,
                file,
                end: found.end,
                chain: found.chain,
                unsynced: Vec::new(),
            },
            cut,
        ))
    }

    /// Begins the file `number`, or the next one that does not exist. A file that has no whole head, because the disk was
    /// full when it was begun, is begun again.
    fn begin(dir: PathBuf, role: Role, mut number: u64, chain: Chain) -> Result<Self> {
        let (path, file) = loop {
            let path = file_path(&dir, role, number);
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path);
            let file = opened.map_err(|e| Error::io(&path, e))?;
            if file.metadata().map_err(|e| Error::io(&path, e))?.len() < FILE_HEAD {
                break (path, file);
            }
            number += 1;
        };
        let head = [&MAGIC[..], &chain].concat();
        file.write_all_at(&head, 0).map_err(|e| Error::io(&path, e))?;
        Ok(Self {
            dir,
            role,
            number,
            path,
            file,
            end: FILE_HEAD,
            chain,
            unsynced: head,
        })
    }

    /// Writes a record at the end. It is durable after the next `Volume::sync`. After an error the ledger is as before.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::RecordTooLarge`].
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let mut payload = Vec::new();
        ciborium::into_writer(record, &mut payload).map_err(|e| Error::damaged(&self.path, e))?;
        if payload.len() > MAX_RECORD {
            // A reader would take it for the damaged end.
            return Err(Error::RecordTooLarge {
                path: self.path.clone(),
                bytes: payload.len(),
                most: MAX_RECORD,
            });
        }
        if self.unsynced.len() > MAX_UNSYNCED {
            return Err(Error::NotSynced {
                path: self.path.clone(),
                bytes: self.unsynced.len(),
            });
        }
        // Not while bytes of this file wait: they would be out of reach of `rewrite`.
        if self.end >= ROTATE_BYTES && self.unsynced.is_empty() {
            *self = Self::begin(self.dir.clone(), self.role, self.number + 1, self.chain)?;
        }
        let chain = *blake3::Hasher::new()
            .update(&self.chain)
            .update(&payload)
            .finalize()
            .as_bytes();
        let bytes = [&(payload.len() as u32).to_be_bytes()[..], &payload, &chain].concat();
        if let Err(e) = self.file.write_all_at(&bytes, self.end) {
            let _ = self.file.set_len(self.end);
            return Err(Error::io(&self.path, e));
        }
        self.end += bytes.len() as u64;
        self.chain = chain;
        self.unsynced.extend(bytes);
        Ok(())
    }

    /// A `Volume::sync` succeeded after the last record was written.
    pub fn synced(&mut self) {
        self.unsynced.clear();
    }

    /// Writes again what no sync covered: to be called before the sync that follows a failed one. The page cache may have
    /// dropped those bytes, and would then not write them again; the next sync would succeed all the same, and all later
    /// records would lie behind a hole.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn rewrite(&self) -> Result<()> {
        let offset = self.end - self.unsynced.len() as u64;
        self.file
            .write_all_at(&self.unsynced, offset)
            .map_err(|e| Error::io(&self.path, e))
    }
}

/// Reads a ledger that this or another process writes, from its beginning, as it grows.
#[derive(Debug)]
pub struct LedgerReader {
    dir: PathBuf,
    role: Role,
    number: u64,
    offset: u64,
    chain: Option<Chain>,
    damage: Vec<String>,
}

impl LedgerReader {
    /// A reader of the ledger of a stream that begins with its oldest record.
    pub fn new(volume: &Volume, stream: StreamUid, role: Role) -> Self {
        Self {
            dir: volume.stream_dir(stream),
            role,
            number: 0,
            offset: 0,
            chain: None,
            damage: Vec::new(),
        }
    }

    /// What was damaged inside the files that were read, which makes them end there: the newest one apart, which its writer cuts (I8).
    pub fn damage(&mut self) -> Vec<String> {
        std::mem::take(&mut self.damage)
    }

    /// The whole records since the last call. Damage inside a file that has a successor ends that file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn poll(&mut self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let numbers = numbers(&self.dir, self.role)?;
        let (newest, from) = (numbers.last().copied(), self.number);
        for number in numbers.into_iter().filter(|n| *n >= from) {
            if number > self.number {
                (self.number, self.offset, self.chain) = (number, 0, None);
            }
            let path = file_path(&self.dir, self.role, number);
            let file = match File::open(&path) {
                // It said nothing any more, and left meanwhile.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|e| Error::io(&path, e))?,
            };
            let found = read_file(&path, &file, self.offset, self.chain)?;
            records.extend(found.records);
            if found.end < found.len && Some(number) != newest {
                let (path, at, lost) = (path.display(), found.end, found.len - found.end);
                self.damage
                    .push(format!("{path} is damaged at byte {at}: {lost} bytes are lost"));
            }
            if found.end >= FILE_HEAD {
                (self.offset, self.chain) = (found.end, Some(found.chain));
            }
        }
        Ok(records)
    }
}

/// The oldest file of a ledger that has a successor, and what it says; none where it says something that this version does not know.
pub(crate) fn old_file(
    volume: &Volume,
    stream: StreamUid,
    role: Role,
) -> Result<Option<(PathBuf, Vec<Record>)>> {
    let dir = volume.stream_dir(stream);
    let [oldest, _, ..] = numbers(&dir, role)?[..] else {
        return Ok(None);
    };
    let path = file_path(&dir, role, oldest);
    let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
    let found = read_file(&path, &file, 0, None)?;
    Ok((!found.unknown).then_some((path, found.records)))
}

/// What was read of one file.
struct Read {
    records: Vec<Record>,
    /// Whether there are others, of a kind that this version does not know.
    unknown: bool,
    end: u64,
    chain: Chain,
    len: u64,
}

/// Reads the whole records of `file` from `offset`, where the chain is `chain` (from its head if that is `None`).
fn read_file(path: &Path, file: &File, offset: u64, chain: Option<Chain>) -> Result<Read> {
    let io = |e| Error::io(path, e);
    let len = file.metadata().map_err(io)?.len();
    let mut data = vec![0; len.saturating_sub(offset) as usize];
    let got = read_up_to(file, &mut data, offset).map_err(io)?;
    data.truncate(got);
    let mut found = Read {
        records: Vec::new(),
        unknown: false,
        end: offset,
        chain: chain.unwrap_or_default(),
        len,
    };
    let mut rest = &data[..];
    if chain.is_none() {
        let Some((chain, tail)) = rest
            .strip_prefix(&MAGIC[..])
            .and_then(|r| r.split_first_chunk::<32>())
        else {
            return Ok(found);
        };
        (found.chain, found.end, rest) = (*chain, FILE_HEAD, tail);
    }
    while let Some((record, chain, used)) = next_record(rest, &found.chain) {
        found.unknown |= record.is_none();
        found.records.extend(record);
        found.chain = chain;
        found.end += used as u64;
        rest = &rest[used..];
    }
    Ok(found)
}

/// The record at the beginning of `data`, the chain after it, and its length. A record of a kind that this version does not
/// know is stepped over.
fn next_record(data: &[u8], before: &Chain) -> Option<(Option<Record>, Chain, usize)> {
    let (len, rest) = data.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes(*len) as usize;
    let (payload, rest) = rest.split_at_checked(len).filter(|_| len <= MAX_RECORD)?;
    let chain = rest.first_chunk::<32>()?;
    let expected = blake3::Hasher::new().update(before).update(payload).finalize();
    (expected.as_bytes() == chain).then(|| (ciborium::from_reader(payload).ok(), *chain, 4 + len + 32))
}

/// The chain at the end of the file before `number`; zeros if there is none.
fn chain_before(dir: &Path, role: Role, number: u64) -> Result<Chain> {
    let Some(before) = numbers(dir, role)?.into_iter().rfind(|n| *n < number) else {
        return Ok([0; 32]);
    };
    let path = file_path(dir, role, before);
    let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
    Ok(read_file(&path, &file, 0, None)?.chain)
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64)? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

fn file_path(dir: &Path, role: Role, number: u64) -> PathBuf {
    dir.join(format!("{}.{number:06}.ledger", role.name()))
}

fn numbers(dir: &Path, role: Role) -> Result<Vec<u64>> {
    let number = |name: &String| {
        let rest = name.strip_prefix(role.name())?.strip_prefix('.')?;
        rest.strip_suffix(".ledger")?.parse::<u64>().ok()
    };
    let mut found: Vec<u64> = file_names(dir)?.iter().filter_map(number).collect();
    found.sort_unstable();
    Ok(found)
}
