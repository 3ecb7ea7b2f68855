//! The index of a segment: its fragments and the hashes of its frames. It is derived from the file, and kept beside that of a sealed
//! one, so that neither memory nor ledgers grow with the number of frames. Where it is gone or damaged the file is read again (I8).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::canonical::Gop;
use crate::entry::Fragment;
use crate::error::{Error, Result};
use crate::hash::{FrameHash, Root};
use crate::header::Header;
use crate::id::{SegmentId, StreamUid};
use crate::scan::scan;
use crate::volume::{Volume, file_names};

/// Length of the BLAKE3 at the end of an index file, bytes.
const HASH: usize = blake3::OUT_LEN;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The fragments, in order.
    pub fragments: Vec<Fragment>,
    /// The hash of every frame, in order.
    pub hashes: Vec<FrameHash>,
}

/// A fragment as it stands in the file: the fields of [`Fragment`] in their order.
type Row = (u64, u32, bool, i64, i64, u64, u32);

/// What an index file holds before its hash.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// BLAKE3 of the segment file that it is of.
    root: Bytes,
    fragments: Vec<Row>,
    /// Those that came after a pause: which, and [`Fragment::paused`].
    #[serde(default)]
    pauses: BTreeMap<u32, u32>,
    /// All frame hashes, one after the other.
    hashes: Bytes,
}

impl Index {
    /// One fragment more, and the hashes of its frames.
    pub fn push(&mut self, fragment: Fragment, hashes: &[FrameHash]) {
        self.fragments.push(fragment);
        self.hashes.extend_from_slice(hashes);
    }

    /// Wall clock of the end of the last fragment that lies before `end` bytes, microseconds since the Unix epoch.
    pub fn end_us_before(&self, end: u64) -> Option<i64> {
        let whole = self.fragments.partition_point(|fragment| fragment.end() <= end);
        self.fragments[..whole].last().map(Fragment::end_us)
    }

    /// The groups of pictures of the segment with `header`. `followed` says that the same writer went on in the same run, so that
    /// the last one is complete.
    pub fn gops(&self, header: &Header, followed: bool) -> Vec<Gop> {
        let mut gops: Vec<Gop> = Vec::new();
        let mut hashes = self.hashes.iter();
        for fragment in &self.fragments {
            let frames: Vec<FrameHash> = hashes.by_ref().take(fragment.frames as usize).copied().collect();
            match gops.last_mut() {
                Some(gop) if !fragment.key => gop.extend(fragment, frames),
                last => {
                    if let Some(gop) = last {
                        gop.complete = true;
                    }
                    gops.push(Gop::begin(header, fragment, frames));
                }
            }
        }
        if let Some(last) = gops.last_mut() {
            last.complete = followed;
        }
        gops
    }

    /// Writes it for the segment file with this root. It need not be durable: what is damaged is found out.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write(&self, path: &Path, root: &Root) -> Result<()> {
        let row = |f: &Fragment| (f.offset, f.len, f.key, f.start_us, f.dts, f.duration, f.frames);
        let pauses = (0..).zip(&self.fragments).map(|(n, f)| (n, f.paused));
        let stored = Stored {
            root: Bytes::copy_from_slice(root),
            fragments: self.fragments.iter().map(row).collect(),
            pauses: pauses.filter(|(_, paused)| *paused > 0).collect(),
            hashes: self.hashes.concat().into(),
        };
        let mut data = Vec::new();
        ciborium::into_writer(&stored, &mut data).map_err(|e| Error::damaged(path, e))?;
        data.extend(blake3::hash(&data).as_bytes());
        fs::write(path, &data).map_err(|e| Error::io(path, e))
    }

    /// Reads that of the segment file with this root.
    fn read(path: &Path, root: &Root) -> Result<Self> {
        let data = fs::read(path).map_err(|e| Error::io(path, e))?;
        let damaged = |what: &str| Error::damaged(path, what);
        let (body, hash) = data
            .split_last_chunk::<HASH>()
            .ok_or_else(|| damaged("too short"))?;
        if blake3::hash(body).as_bytes() != hash {
            return Err(damaged("its hash is another"));
        }
        let stored: Stored = ciborium::from_reader(body).map_err(|e| Error::damaged(path, e))?;
        if stored.root != root[..] {
            return Err(damaged("it is of another file"));
        }
        let paused = |n: u32| stored.pauses.get(&n).copied().unwrap_or(0);
        let fragment = |(n, (offset, len, key, start_us, dts, duration, frames)): (u32, Row)| Fragment {
            offset,
            len,
            key,
            start_us,
            dts,
            duration,
            frames,
            paused: paused(n),
        };
        let (hashes, _) = stored.hashes.as_chunks();
        Ok(Self {
            fragments: (0..).zip(stored.fragments).map(fragment).collect(),
            hashes: hashes.to_vec(),
        })
    }
}

impl Volume {
    /// The file with the index of a sealed segment.
    pub fn index_path(&self, id: &SegmentId) -> PathBuf {
        self.stream_dir(id.stream).join(id.stem() + ".index")
    }

    /// The index of the sealed segment with this root; from its file, where there is no good one beside it. `None` where the segment
    /// is gone.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`] where the segment is not what was sealed.
    pub fn index(&self, id: &SegmentId, root: &Root) -> Result<Option<Index>> {
        let (beside, path) = (self.index_path(id), self.sealed_path(id));
        if let Ok(index) = Index::read(&beside, root) {
            return Ok(Some(index));
        }
        let found = match scan(&path) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            found => found?,
        };
        if found.torn.is_some() || found.hasher.finalize() != *root {
            return Err(Error::damaged(path, "it is not what was sealed"));
        }
        if let Err(e) = found.index.write(&beside, root) {
            tracing::debug!("the index is not kept: {e}");
        }
        Ok(Some(found.index))
    }

    /// The index files of a stream whose segments are gone.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn stray_indexes(&self, stream: StreamUid) -> Result<Vec<PathBuf>> {
        let dir = self.stream_dir(stream);
        let names = file_names(&dir)?;
        let is_stray = |name: &&String| {
            let stem = name.strip_suffix(".index");
            stem.is_some_and(|stem| names.binary_search(&format!("{stem}.mp4")).is_err())
        };
        Ok(names.iter().filter(is_stray).map(|name| dir.join(name)).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn index() -> Index {
        let fragment = |n: u64| Fragment {
            offset: 100 + 10 * n,
            len: 10,
            key: n.is_multiple_of(2),
            start_us: 40_000 * n as i64 - 5,
            dts: 3600 * n as i64 - 1,
            duration: 3600,
            frames: 2,
            paused: n as u32 % 3,
        };
        Index {
            fragments: (0..9).map(fragment).collect(),
            hashes: (0..18).map(|n| [n; 16]).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_what_is_damaged_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.index");
        index().write(&path, &[7; 32]).unwrap();
        assert_eq!(Index::read(&path, &[7; 32]).unwrap(), index());
        assert!(Index::read(&path, &[8; 32]).is_err(), "of another file");
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(Index::read(&path, &[7; 32]).is_err(), "{cut} bytes");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(Index::read(&path, &[7; 32]).is_err(), "byte {at}");
        }
    }

    #[test]
    fn where_a_part_of_it_ends() {
        let index = index();
        assert_eq!(index.end_us_before(109), None);
        assert_eq!(index.end_us_before(110), Some(index.fragments[0].end_us()));
        assert_eq!(index.end_us_before(129), Some(index.fragments[1].end_us()));
        assert_eq!(index.end_us_before(u64::MAX), Some(index.fragments[8].end_us()));
    }
}
