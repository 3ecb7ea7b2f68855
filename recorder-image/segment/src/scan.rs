//! Reading a segment file back: what of it is whole, and the index of that part. A torn tail is not an error.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::entry::Fragment;
use crate::error::{Error, Result};
use crate::fmp4;
use crate::hash::{Chain, FrameHash, chain_next, chain_start};
use crate::header::Header;
use crate::index::Index;

/// The whole part of a segment file.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Its header.
    pub header: Header,
    /// Length of the head, bytes.
    pub head_len: u64,
    /// The whole, hash-correct fragments, and the hash of every frame in them.
    pub index: Index,
    /// Where they end, bytes.
    pub end: u64,
    /// The chain there.
    pub chain: Chain,
    /// The hasher of the file up to there.
    pub hasher: blake3::Hasher,
    /// Why what follows `end` does not count, if anything follows.
    pub torn: Option<&'static str>,
}

/// Reads the file at `path`.
///
/// # Errors
/// [`Error::Damaged`] if not even the head is whole.
pub fn scan(path: &Path) -> Result<Scan> {
    let data = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    scan_bytes(&data).map_err(|what| Error::damaged(path, what))
}

/// Reads the bytes of a segment file.
///
/// # Errors
/// Why not even the head is whole.
pub fn scan_bytes(data: &[u8]) -> Result<Scan, &'static str> {
    let head = fmp4::head(data)?;
    let mut found = Scan {
        head_len: head.len as u64,
        index: Index::default(),
        end: head.len as u64,
        chain: chain_start(&data[..head.len]),
        hasher: blake3::Hasher::new(),
        torn: None,
        header: head.header,
    };
    while (found.end as usize) < data.len() {
        match fmp4::fragment(&data[found.end as usize..], found.header.tracks()) {
            Ok(parsed) if parsed.number == found.index.fragments.len() as u64 => found.push(data, &parsed),
            Ok(_) => found.torn = Some("a fragment out of order"),
            Err(what) => found.torn = Some(what),
        }
        if found.torn.is_some() {
            break;
        }
    }
    found.hasher.update(&data[..found.end as usize]);
    Ok(found)
}

impl Scan {
    fn push(&mut self, data: &[u8], parsed: &fmp4::Parsed) {
        let begin = self.end as usize;
        self.chain = chain_next(&self.chain, &data[begin..begin + parsed.len]);
        self.index.fragments.push(index(self.end, parsed));
        self.index.hashes.extend(parsed.samples.iter().map(|s| s.hash));
        self.end += parsed.len as u64;
    }
}

/// A file that was read up to here before.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Where its known fragments end, bytes.
    pub end: u64,
    /// The chain there.
    pub chain: Chain,
    /// How many they are.
    pub fragments: u64,
    /// What they hold.
    pub tracks: fmp4::Tracks,
}

/// A fragment that was added to a file, the hashes of its frames, and the chain after it.
pub type Added = (Fragment, Vec<FrameHash>, Chain);

/// Reads what was added to the file at `path` since it was read up to `place`: the whole fragments.
///
/// # Errors
/// [`Error::Io`].
pub fn scan_more(path: &Path, mut place: Place) -> Result<Vec<Added>> {
    let mut data = Vec::new();
    File::open(path)
        .and_then(|mut file| {
            file.seek(SeekFrom::Start(place.end))?;
            file.read_to_end(&mut data)
        })
        .map_err(|e| Error::io(path, e))?;
    let (mut rest, mut added) = (&data[..], Vec::new());
    while let Ok(parsed) = fmp4::fragment(rest, place.tracks) {
        if parsed.number != place.fragments {
            break;
        }
        let (bytes, tail) = rest.split_at(parsed.len);
        place.chain = chain_next(&place.chain, bytes);
        let hashes = parsed.samples.iter().map(|s| s.hash).collect();
        added.push((index(place.end, &parsed), hashes, place.chain));
        place.end += parsed.len as u64;
        place.fragments += 1;
        rest = tail;
    }
    Ok(added)
}

/// The index of a parsed fragment that begins at `offset`.
pub fn index(offset: u64, parsed: &fmp4::Parsed) -> Fragment {
    let first = parsed.samples.first();
    Fragment {
        offset,
        len: parsed.len as u32,
        key: first.is_some_and(|s| s.key),
        start_us: first.map_or(0, |s| s.wallclock_us),
        dts: parsed.dts as i64,
        duration: parsed.samples.iter().map(|s| u64::from(s.duration)).sum(),
        frames: parsed.samples.len() as u32,
        paused: parsed.paused,
    }
}
