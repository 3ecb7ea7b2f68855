//! Reading a segment file back: what of it is whole, and the index of that part. A torn tail is not an error.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::entry::Fragment;
use crate::error::{Error, Result};
use crate::fmp4;
use crate::hash::{Chain, FrameHash, chain_next, chain_start};
use crate::header::Header;
use crate::index::Index;

/// How much is read at once, bytes.
const AT_ONCE: usize = 4 << 20;
/// What is next is mostly shorter than this, bytes.
const AHEAD: usize = 256 << 10;

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
    let found = File::open(path).and_then(|file| scan_all(&mut Window::new(file)));
    let found = found.map_err(|e| Error::io(path, e))?;
    found.map_err(|what| Error::damaged(path, what))
}

/// Reads the bytes of a segment file.
///
/// # Errors
/// Why not even the head is whole.
pub fn scan_bytes(data: &[u8]) -> Result<Scan, &'static str> {
    scan_all(&mut Window::new(data)).map_err(|_| "it cannot be read")?
}

fn scan_all(window: &mut Window<impl Read>) -> io::Result<Result<Scan, &'static str>> {
    let head = match window.parse(fmp4::head)? {
        Ok(head) => head,
        Err(what) => return Ok(Err(what)),
    };
    let mut found = Scan::begin(head.header, window.take(head.len));
    while found.torn.is_none() && !window.is_over()? {
        match window.parse(|rest| fmp4::fragment(rest, found.header.tracks()))? {
            Ok(parsed) if parsed.number == found.index.fragments.len() as u64 => {
                found.push(window.take(parsed.len), &parsed);
            }
            Ok(_) => found.torn = Some("a fragment out of order"),
            Err(what) => found.torn = Some(what),
        }
    }
    Ok(Ok(found))
}

impl Scan {
    fn begin(header: Header, head: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(head);
        Self {
            head_len: head.len() as u64,
            index: Index::default(),
            end: head.len() as u64,
            chain: chain_start(head),
            hasher,
            torn: None,
            header,
        }
    }

    fn push(&mut self, bytes: &[u8], parsed: &fmp4::Parsed) {
        self.hasher.update(bytes);
        self.chain = chain_next(&self.chain, bytes);
        self.index.fragments.push(index(self.end, parsed));
        self.index.hashes.extend(parsed.samples.iter().map(|s| s.hash));
        self.end += parsed.len as u64;
    }
}

/// What was read of a source and not taken yet: a few fragments, however long the source is.
struct Window<R> {
    source: R,
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
    /// Whether the source has no more.
    ended: bool,
}

impl<R: Read> Window<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            bytes: Vec::new(),
            taken: 0,
            ended: false,
        }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Reads until `ahead` bytes are there, or the source ends.
    fn fill(&mut self, ahead: usize) -> io::Result<()> {
        if self.ended || self.rest().len() >= ahead {
            return Ok(());
        }
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let wanted = ahead.max(AT_ONCE) - self.bytes.len();
        let mut source = (&mut self.source).take(wanted as u64);
        self.ended = source.read_to_end(&mut self.bytes)? < wanted;
        Ok(())
    }

    /// Whether all was taken.
    fn is_over(&mut self) -> io::Result<bool> {
        self.fill(1)?;
        Ok(self.rest().is_empty())
    }

    /// Parses what is next. Only where a little of it is not enough, more is read, up to as much as there can be.
    fn parse<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<T, &'static str>,
    ) -> io::Result<Result<T, &'static str>> {
        for ahead in [AHEAD, AT_ONCE] {
            self.fill(ahead)?;
            let parsed = parse(self.rest());
            if parsed.is_ok() || self.ended {
                return Ok(parsed);
            }
        }
        self.fill(fmp4::MAX_FRAGMENT)?;
        Ok(parse(self.rest()))
    }

    fn take(&mut self, length: usize) -> &[u8] {
        let from = self.taken;
        self.taken += length;
        &self.bytes[from..self.taken]
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
    let io = |e| Error::io(path, e);
    let mut file = File::open(path).map_err(io)?;
    file.seek(SeekFrom::Start(place.end)).map_err(io)?;
    let (mut window, mut added) = (Window::new(file), Vec::new());
    while let Ok(parsed) = window
        .parse(|rest| fmp4::fragment(rest, place.tracks))
        .map_err(io)?
    {
        if parsed.number != place.fragments {
            break;
        }
        place.chain = chain_next(&place.chain, window.take(parsed.len));
        let hashes = parsed.samples.iter().map(|s| s.hash).collect();
        added.push((index(place.end, &parsed), hashes, place.chain));
        place.end += parsed.len as u64;
        place.fragments += 1;
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
