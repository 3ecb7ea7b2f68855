//! The peer protocol's messages and their framing. `PROTOCOL.md` describes them byte by byte.
//!
//! No verb deletes, truncates, renames, overwrites or sets retention (I3).

mod codec;

use failover::streams::Word;
use failover::{Answer, Release, Request};
use segment::inventory::Held;
use segment::reclaim::Pin;
use segment::{Chain, Root, SegmentId, StreamUid};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use codec::{Frame, MAX_CBOR, MAX_PAYLOAD, Reader, WireError, Writer, halves};

/// The version of the protocol that this program speaks. A peer of another version is refused with both numbers named.
pub const VERSION: u32 = 3;
/// The most lines of an inventory in one message.
pub const INVENTORY_PAGE: usize = 2000;
/// The most pins in one message.
pub const PINS_PAGE: usize = 256;

/// What a connection is for. Heartbeats never wait behind media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// Requests, answers and releases of authority, from the side that dialled.
    Control,
    /// Media, to the side that dialled.
    Media,
}

/// The first message of both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// The UID of the RecorderPair.
    pub pair: String,
    /// Who speaks; the certificate must say the same.
    pub member: String,
    /// The volume of the one who speaks.
    pub store: Uuid,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first message of both sides.
    Hello(Hello),
    /// Control: a heartbeat.
    Request(Request),
    /// Control: the answer to one.
    Answer(Answer),
    /// Control: authority is left behind.
    Release(Release),
    /// Control: the streams that the sender claims, and those that it does not receive well; at each change and several times a
    /// second.
    Streams(Word<StreamUid>),
    /// Media, both ways at first: what the sender holds. Several pages; the last one says so. Later, from the receiver: what it
    /// refused meanwhile.
    Inventory {
        /// A page.
        held: Vec<Held>,
        /// Segments that were refused and are not wanted now.
        declined: Vec<SegmentId>,
        /// What of a stream began before this, in microseconds since the Unix epoch, left by retention: it is not wanted back.
        floors: Vec<(StreamUid, i64)>,
        /// Whether it is the last page.
        last: bool,
        /// Whether the one who says this takes [`Message::Level`].
        #[serde(default)]
        levels: bool,
        /// Whether the one who says this takes [`Message::Pinned`].
        #[serde(default)]
        pins: bool,
    },
    /// Media, receiver to sender: so many more payload bytes may be sent.
    Credit(u64),
    /// Media, sender to receiver: a segment begins; the payload is its head.
    Opened {
        /// The segment.
        id: SegmentId,
    },
    /// Media, sender to receiver: the payload is the next fragment.
    Append {
        /// The segment.
        id: SegmentId,
        /// Where it begins in the file, bytes.
        offset: u64,
        /// The running hash after it.
        chain: Chain,
    },
    /// Media, sender to receiver: the segment is complete.
    Seal {
        /// The segment.
        id: SegmentId,
        /// Length of its file, bytes.
        length: u64,
        /// BLAKE3 of its file.
        root: Root,
    },
    /// Media, sender to receiver, once a second where it is so and the receiver takes it: all that was durable here until now was
    /// sent, but for what it held already when the connection was made.
    Level,
    /// Media, sender to receiver that takes it: these pins are durable in the sender's ledger.
    Pinned(Vec<Pin>),
    /// Media, receiver to sender: durable ends (I10).
    Ack(Vec<(SegmentId, u64)>),
}
