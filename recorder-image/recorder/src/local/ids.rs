//! Stands in for the types of the segment crate until they are published there; then this becomes `pub use`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The UID of a stream.
pub type StreamUid = Uuid;

/// Identity of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SegmentId {
    /// The stream.
    pub stream: StreamUid,
    /// The volume it was written to first.
    pub store: Uuid,
    /// The member that wrote it.
    pub member: String,
    /// The start of the recorder that wrote it.
    pub incarnation: u64,
    /// Its number within the incarnation.
    pub sequence: u64,
}

/// The entry of a sealed segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SealedEntry {
    /// The segment.
    pub id: SegmentId,
}
