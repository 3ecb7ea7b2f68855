//! What the two processes of one pod say to each other: `recorder` listens on a unix socket in the run folder,
//! `replicator` dials it.
//!
//! Each message is a big-endian `u32` length followed by that many bytes of CBOR. Either side survives the death
//! of the other: the replicator dials again, and the recorder greets each connection with [`ToReplicator::Hello`]
//! followed by an [`ToReplicator::Opened`] and an [`ToReplicator::Appended`] for each segment that is open.

mod codec;
mod message;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use codec::{LocalError, MAX_MESSAGE, Receiver, Sender, dial, listen, split};
pub use message::{
    Authority, Disk, ErrorCode, FrameMark, GapLengths, Owned, Peer, Role, Share, StreamError, StreamHealth,
    StreamState, Ticket, ToRecorder, ToReplicator,
};
pub use segment::{SealedEntry, SegmentId, StreamUid};

/// How often the recorder's writer loop sends a [`Ticket`] at most; its turns come half as often.
pub const TICKET_PERIOD: Duration = Duration::from_millis(50);

/// The socket that the recorder listens on, in the run folder `run`.
pub fn socket_path(run: &Path) -> PathBuf {
    run.join("recorder.sock")
}
