//! What the bytes on disk mean, and how to prove them: segments, ledgers, epochs, and what is derived from them.
//!
//! Nothing here knows a network or a cluster. `FORMAT.md` describes every file byte by byte.

pub mod canonical;
pub mod catalogue;
pub mod compared;
pub mod copy;
pub mod entry;
pub mod epoch;
pub mod error;
pub mod file;
pub mod fmp4;
pub mod gaps;
pub mod hash;
pub mod header;
pub mod hls;
pub mod id;
pub mod index;
pub mod inventory;
pub mod ledger;
pub mod nal;
mod observe;
pub mod parts;
pub mod quarantine;
pub mod receive;
pub mod reclaim;
pub mod retention;
pub mod sabotage;
pub mod scan;
pub mod timeline;
pub mod trim;
pub mod volume;

pub use catalogue::Catalogue;
pub use compared::Compared;
pub use copy::{Copy, Origin, State};
pub use entry::{Extent, Fragment, SealedEntry};
pub use epoch::EpochSlots;
pub use error::{Error, Result};
pub use file::{Appended, Finished, Sealed, SegmentFile};
pub use fmp4::{Audio, AudioCodec, AudioTrack, Packet, Sample, Track};
pub use hash::{Chain, FrameHash, Root};
pub use header::{ClockSource, Header};
pub use id::{SegmentId, StreamUid};
pub use index::Index;
pub use ledger::{Gap, Ledger, LedgerReader, Record};
pub use receive::Refusal;
pub use volume::{Role, Space, Volume};
