//! The index of a segment: its fragments and the hashes of its frames.

use serde::{Deserialize, Serialize};

use crate::hash::{FrameHash, Root};
use crate::header::Header;

/// One fragment of a segment file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// Where it begins in the file, bytes.
    pub offset: u64,
    /// Its length, bytes.
    pub len: u32,
    /// Whether it begins with a key frame.
    pub key: bool,
    /// Wall clock of its first frame, microseconds since the Unix epoch.
    pub start_us: i64,
    /// Decoding time of its first frame in the run, 1/90000 s.
    pub dts: i64,
    /// The sum of its frames' durations, 1/90000 s.
    pub duration: u64,
    /// How many frames it has.
    pub frames: u32,
}

impl Fragment {
    /// Where it ends in the file, bytes.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }

    /// Wall clock of its end, microseconds since the Unix epoch.
    pub fn end_us(&self) -> i64 {
        self.start_us + (self.duration * 100 / 9) as i64
    }
}

/// What the ledger says of a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedEntry {
    /// The header, as it stands in the file.
    pub header: Header,
    /// Length of the file, bytes.
    pub length: u64,
    /// BLAKE3 of the file.
    pub root: Root,
    /// Length of the head (`ftyp`, header box, `moov`), bytes.
    pub head_len: u64,
    /// The fragments, in order.
    pub fragments: Vec<Fragment>,
    /// The hash of every frame, in order.
    pub hashes: Vec<FrameHash>,
    /// Room for the writer's signature; none yet.
    pub signature: Option<Vec<u8>>,
}

impl SealedEntry {
    /// Wall clock of the first frame, microseconds since the Unix epoch.
    pub fn start_us(&self) -> i64 {
        self.fragments
            .first()
            .map_or(self.header.opened_us, |f| f.start_us)
    }

    /// Wall clock of the end of the last frame, microseconds since the Unix epoch.
    pub fn end_us(&self) -> i64 {
        self.fragments
            .last()
            .map_or(self.header.opened_us, Fragment::end_us)
    }
}
