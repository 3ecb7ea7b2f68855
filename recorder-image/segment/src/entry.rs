//! What a fragment is, and what the ledger says of a sealed segment. The rest of its index is beside its file: see
//! [`crate::index`].

use serde::{Deserialize, Serialize};

use crate::hash::Root;
use crate::header::Header;
use crate::inventory::Held;

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
    /// How long after the end of the frame before it in the run it begins although none was lost between, as its writer knows,
    /// 1/90000 s; 0 where it does not.
    pub paused: u32,
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

/// From where to where a segment goes, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Wall clock of the first frame (before there is one, of the opening), microseconds since the Unix epoch.
    pub start_us: i64,
    /// Wall clock of the end of the last frame, microseconds since the Unix epoch.
    pub end_us: i64,
    /// Decoding times of the beginning and of the end in the run, 1/90000 s.
    pub dts: (i64, i64),
    /// The sum of its frames' durations, 1/90000 s.
    pub duration: u64,
    /// How many frames it has.
    pub frames: u64,
    /// How many fragments it has.
    pub fragments: u64,
    /// [`Fragment::paused`] of the first one.
    #[serde(default)]
    pub paused: u32,
}

impl Extent {
    /// A segment that was opened at a time, microseconds since the Unix epoch, and holds nothing yet.
    pub fn begun(opened_us: i64) -> Self {
        Self {
            start_us: opened_us,
            end_us: opened_us,
            dts: (0, 0),
            duration: 0,
            frames: 0,
            fragments: 0,
            paused: 0,
        }
    }

    /// A segment with these fragments.
    pub fn of(header: &Header, fragments: &[Fragment]) -> Self {
        let mut extent = Self::begun(header.opened_us);
        for fragment in fragments {
            extent.add(fragment);
        }
        extent
    }

    /// One fragment more.
    pub fn add(&mut self, fragment: &Fragment) {
        if self.fragments == 0 {
            (self.start_us, self.dts.0, self.paused) = (fragment.start_us, fragment.dts, fragment.paused);
        }
        self.end_us = fragment.end_us();
        self.dts.1 = fragment.dts + fragment.duration as i64;
        self.duration += fragment.duration;
        self.frames += u64::from(fragment.frames);
        self.fragments += 1;
    }

    /// Whether there is no hole in it.
    pub fn is_whole(&self) -> bool {
        self.frames > 0 && self.dts.1 - self.dts.0 == self.duration as i64
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
    /// What it spans.
    pub extent: Extent,
    /// Room for the writer's signature; none yet.
    pub signature: Option<Vec<u8>>,
}

impl SealedEntry {
    /// The line of an inventory for it.
    pub fn held(&self) -> Held {
        Held {
            id: self.header.id.clone(),
            length: self.length,
            root: Some(self.root),
            span_us: Some((self.extent.start_us, self.extent.end_us)),
            reclaimed: false,
        }
    }
}
