//! The keeper's side of replication: bytes from a peer count only after they were proven here (I4), and nothing that is
//! here is changed by them (I3).

use crate::error::{Error, Result};
use crate::file::{Appended, Finished, SegmentFile};
use crate::fmp4::{self, ParsedSample};
use crate::hash::{Chain, Root, chain_next};
use crate::id::SegmentId;
use crate::sabotage::{Invariant::I4, breaks};
use crate::volume::Volume;

/// Why bytes of a peer are refused. None of them changes what is here.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The head or a fragment is not what it should be.
    #[error("{id}: {what}")]
    Malformed {
        /// The segment.
        id: SegmentId,
        /// What is wrong.
        what: String,
    },
    /// The bytes do not begin where this copy ends.
    #[error("{id}: bytes for offset {offset}, this copy ends at {end}")]
    WrongOffset {
        /// The segment.
        id: SegmentId,
        /// What the peer sent.
        offset: u64,
        /// Where this copy ends.
        end: u64,
    },
    /// The running hash does not continue that of this copy.
    #[error("{0}: the chain does not continue")]
    BrokenChain(SegmentId),
    /// The peer's file, as it says, is not what it sent.
    #[error("{0}: length and root are not those of its bytes")]
    WrongRoot(SegmentId),
    /// A second content for a sealed identity. It never replaces the first.
    #[error("{0}: sealed here with another content")]
    SecondContent(SegmentId),
    /// This volume failed; the bytes may be good.
    #[error(transparent)]
    Volume(#[from] Error),
}

impl Refusal {
    /// For metrics and conditions, in the form of a Kubernetes reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "Malformed",
            Self::WrongOffset { .. } => "WrongOffset",
            Self::BrokenChain(_) => "BrokenChain",
            Self::WrongRoot(_) => "WrongRoot",
            Self::SecondContent(_) => "SecondContent",
            Self::Volume(_) => "VolumeFailed",
        }
    }

    /// Whether the peer's bytes are at fault, rather than this volume or a mere resumption.
    pub fn blames_peer(&self) -> bool {
        !matches!(self, Self::Volume(_) | Self::WrongOffset { .. })
    }
}

/// A copy that grows by what a peer sends.
#[derive(Debug)]
pub struct Receiving {
    file: SegmentFile,
}

/// What one append proved and added.
#[derive(Clone, Debug)]
pub struct Received {
    /// The fragment.
    pub appended: Appended,
    /// Its frames.
    pub frames: Vec<ParsedSample>,
}

impl Receiving {
    /// Begins a copy of `id` with the head that the peer sent.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn create(volume: &Volume, id: &SegmentId, head: &[u8]) -> Result<Self, Refusal> {
        Self::begin(volume, id, head, false)
    }

    /// As [`Self::create`], where a file may be left of an attempt of which nothing became durable.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn create_again(volume: &Volume, id: &SegmentId, head: &[u8]) -> Result<Self, Refusal> {
        Self::begin(volume, id, head, true)
    }

    fn begin(volume: &Volume, id: &SegmentId, head: &[u8], again: bool) -> Result<Self, Refusal> {
        let malformed = |what: &str| Refusal::Malformed {
            id: id.clone(),
            what: what.to_owned(),
        };
        let found = fmp4::head(head).map_err(malformed)?;
        if &found.header.id != id {
            return Err(malformed("the header names another segment"));
        }
        if found.len != head.len() || head.len() > fmp4::MAX_HEAD {
            return Err(malformed("bytes after the head, or a head too large"));
        }
        match SegmentFile::create_with_head(volume, found.header, head, again) {
            Ok(file) => Ok(Self { file }),
            Err(Error::Exists(id)) => Err(Refusal::SecondContent(id)),
            Err(e) => Err(e.into()),
        }
    }

    /// Goes on with a copy that is here: one that was interrupted, or the tail of an own segment of a dead incarnation.
    ///
    /// # Errors
    /// [`Refusal::Volume`].
    pub fn resume(volume: &Volume, id: &SegmentId) -> Result<Self, Refusal> {
        Ok(Self {
            file: SegmentFile::resume(volume, id)?,
        })
    }

    /// As [`Self::resume`], after a sync failed: only the first `durable` bytes count, the peer sends the others again.
    ///
    /// # Errors
    /// [`Refusal::Volume`].
    pub fn resume_durable(volume: &Volume, id: &SegmentId, durable: u64) -> Result<Self, Refusal> {
        Ok(Self {
            file: SegmentFile::resume_durable(volume, id, durable)?,
        })
    }

    /// The copy.
    pub fn file(&self) -> &SegmentFile {
        &self.file
    }

    /// Proves one fragment and writes it. `chain` is the sender's running hash after it.
    ///
    /// # Errors
    /// [`Refusal`]; then this copy is as before.
    pub fn append(&mut self, offset: u64, chain: &Chain, bytes: &[u8]) -> Result<Received, Refusal> {
        #[cfg(feature = "sabotage")]
        self.file.begin_again(offset)?;
        let id = &self.file.header().id;
        let end = self.file.end();
        if offset != end {
            return Err(Refusal::WrongOffset {
                id: id.clone(),
                offset,
                end,
            });
        }
        if chain_next(&self.file.chain(), bytes) != *chain && !breaks(I4) {
            return Err(Refusal::BrokenChain(id.clone()));
        }
        let malformed = |what: &str| Refusal::Malformed {
            id: id.clone(),
            what: what.to_owned(),
        };
        let parsed = fmp4::fragment(bytes, self.file.header().tracks()).map_err(malformed)?;
        if parsed.len != bytes.len() || parsed.number != self.file.fragments().len() as u64 {
            return Err(malformed("not exactly the next fragment"));
        }
        if self.file.fragments().is_empty() && !parsed.samples.iter().take(1).all(|s| s.key) {
            return Err(malformed("does not start with a key frame"));
        }
        let appended = self.file.append_proven(bytes, &parsed)?;
        Ok(Received {
            appended,
            frames: parsed.samples,
        })
    }

    /// Compares the length and the root of the writer's file with this side's own bytes, of which all else that is said of a segment is
    /// derived; the result is to be synced and renamed.
    ///
    /// # Errors
    /// [`Refusal::WrongRoot`]; then the copy's file stays as it is, open.
    pub fn finish(self, length: u64, root: &Root) -> Result<Finished, Refusal> {
        let file = &self.file;
        if (file.end(), &file.root()) == (length, root) || breaks(I4) {
            return Ok(self.file.finish());
        }
        let id = file.header().id.clone();
        Err(Refusal::WrongRoot(id))
    }
}
