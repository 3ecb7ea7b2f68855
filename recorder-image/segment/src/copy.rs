//! One copy of a segment on this volume.

use serde::{Deserialize, Serialize};

use crate::entry::{Extent, SealedEntry};
use crate::error::{Error, Result};
use crate::hash::{Chain, Root};
use crate::header::Header;
use crate::id::SegmentId;
use crate::index::Index;
use crate::inventory::Held;
use crate::retention::Candidate;
use crate::scan::{Place, Scan, scan};
use crate::volume::Volume;

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Its writer is at it.
    Open,
    /// Its writer died or was cut off; it may be continued.
    Partial,
    /// It never changes again (I2).
    Sealed,
}

/// How a copy came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// From the camera.
    Live,
    /// From the peer.
    Peer,
}

/// One copy of a segment on this volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The header of its file.
    pub header: Header,
    /// How far it is.
    pub state: State,
    /// How it came here.
    pub origin: Origin,
    /// Length of the head, bytes.
    pub head_len: u64,
    /// Its whole fragments end here, bytes.
    pub length: u64,
    /// The running hash at `length`; not known for sealed copies.
    pub chain: Option<Chain>,
    /// BLAKE3 of the file, once sealed.
    pub root: Option<Root>,
    /// What it spans.
    pub extent: Extent,
    /// Its fragments and the hash of every frame, while they may grow. Those of a sealed copy are beside its file.
    pub index: Option<Index>,
    /// When this member received it, on its retention clock, seconds since the Unix epoch.
    pub received_s: i64,
}

impl Copy {
    /// A copy as its file was read.
    pub fn from_scan(found: Scan, state: State, origin: Origin, received_s: i64) -> Self {
        let root = (state == State::Sealed).then(|| *found.hasher.finalize().as_bytes());
        Self {
            extent: Extent::of(&found.header, &found.index.fragments),
            header: found.header,
            state,
            origin,
            head_len: found.head_len,
            length: found.end,
            chain: Some(found.chain),
            root,
            index: Some(found.index),
            received_s,
        }
    }

    /// A sealed copy as its entry says; with its index, where that is not beside its file.
    pub fn from_entry(entry: SealedEntry, index: Option<Index>, origin: Origin, received_s: i64) -> Self {
        Self {
            header: entry.header,
            state: State::Sealed,
            origin,
            head_len: entry.head_len,
            length: entry.length,
            chain: None,
            root: Some(entry.root),
            extent: entry.extent,
            index,
            received_s,
        }
    }

    /// The identity.
    pub fn id(&self) -> &SegmentId {
        &self.header.id
    }

    /// Wall clock of the first frame, microseconds since the Unix epoch.
    pub fn start_us(&self) -> i64 {
        self.extent.start_us
    }

    /// Wall clock of the end of the last frame, microseconds since the Unix epoch.
    pub fn end_us(&self) -> i64 {
        self.extent.end_us
    }

    /// Up to where the file of a copy that may grow is known.
    pub fn place(&self) -> Option<Place> {
        Some(Place {
            end: self.length,
            chain: self.chain.filter(|_| self.state != State::Sealed)?,
            fragments: self.extent.fragments,
            tracks: self.header.tracks(),
        })
    }

    /// The entry of a sealed copy.
    pub fn entry(&self) -> Option<SealedEntry> {
        Some(SealedEntry {
            header: self.header.clone(),
            length: self.length,
            root: self.root?,
            head_len: self.head_len,
            extent: self.extent,
            signature: None,
        })
    }

    /// What retention asks of it.
    pub fn candidate(&self) -> Candidate<'_> {
        Candidate {
            id: self.id(),
            received_s: self.received_s,
            end_us: self.end_us(),
            length: self.length,
            stuck: false,
        }
    }

    /// The line of an inventory for it.
    pub fn held(&self) -> Held {
        let sealed = self.state == State::Sealed;
        Held {
            id: self.id().clone(),
            length: self.length,
            root: self.root.filter(|_| sealed),
            span_us: sealed.then(|| (self.start_us(), self.end_us())),
            reclaimed: false,
        }
    }

    /// Its index, from where it is; `read` gets that of a sealed segment, as [`Volume::index`] does.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn index(
        &self,
        read: impl FnOnce(&SegmentId, &Root) -> Result<Option<Index>>,
    ) -> Result<Option<Index>> {
        match (&self.index, &self.root) {
            (None, Some(root)) => read(self.id(), root),
            (index, _) => Ok(index.clone()),
        }
    }
}

/// The copy that a file is, from its bytes alone (I8).
///
/// # Errors
/// [`Error::Io`], [`Error::Damaged`].
pub fn read_copy(volume: &Volume, id: &SegmentId, sealed: bool, now_s: i64) -> Result<Copy> {
    let (path, state) = if sealed {
        (volume.sealed_path(id), State::Sealed)
    } else {
        (volume.open_path(id), State::Partial)
    };
    let origin = if id.store == volume.store() {
        Origin::Live
    } else {
        Origin::Peer
    };
    let found = scan(&path)?;
    if &found.header.id != id {
        return Err(Error::damaged(path, "its header names another segment"));
    }
    if let Some(what) = found.torn.filter(|_| sealed) {
        // It was whole when it was sealed, so it rotted: what is left of it is no segment that anyone sealed.
        let what = format!("sealed, but damaged at byte {}: {what}", found.end);
        return Err(Error::damaged(path, what));
    }
    let mut copy = Copy::from_scan(found, state, origin, now_s);
    if let (Some(root), Some(index)) = (copy.root, &copy.index)
        && index.write(&volume.index_path(id), &root).is_ok()
    {
        copy.index = None;
    }
    Ok(copy)
}
