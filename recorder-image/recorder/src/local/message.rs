//! The messages of [`super`].

use crds::member::StreamErrorCode;
use failover::streams::Fault;
use segment::inventory::Held;
use segment::reclaim::Pin;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{SealedEntry, SegmentId, StreamUid};

/// What the recorder says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToReplicator {
    /// The first message on each connection.
    Hello {
        /// This member, for example `front-0`.
        member: String,
        /// The store id of the volume.
        store: Uuid,
        /// This start of the recorder; another value means that all open segments of the former one are dead.
        incarnation: u64,
    },
    /// The loop that writes and syncs is alive: every [`super::TICKET_PERIOD`].
    Ticket(Ticket),
    /// A segment was opened; its head is written, perhaps not yet durable.
    Opened {
        /// The segment.
        id: SegmentId,
        /// Bytes of the head: `ftyp`, header box and `moov`.
        head_len: u64,
    },
    /// The segment is durable up to `end`.
    Appended {
        /// The segment.
        id: SegmentId,
        /// Durable bytes; always the end of a fragment (or of the head).
        end: u64,
        /// The chain hash at `end`.
        chain: [u8; 32],
    },
    /// A segment was sealed: renamed, its folder and its ledger record synced (I2).
    Sealed {
        /// The line of an inventory for it.
        held: Held,
    },
    /// An open segment was closed without a seal (its last fragment could not be written, or this process found it
    /// left by a dead incarnation). It stays `.open` on the volume.
    Partial {
        /// The segment.
        id: SegmentId,
        /// Durable bytes.
        len: u64,
        /// The chain hash at `len`.
        chain: [u8; 32],
    },
    /// An own segment was not sealed after [`ToRecorder::TailComplete`]: its file ends before what was known of it.
    Shorter {
        /// The segment.
        id: SegmentId,
        /// Where its whole fragments end, bytes.
        end: u64,
    },
    /// Retention removed this segment, own or received.
    Evicted {
        /// The segment.
        id: SegmentId,
        /// Where it ended, microseconds since the Unix epoch.
        end_us: i64,
    },
    /// These pins are durable in this member's ledger.
    Pinned {
        /// Some of them.
        pins: Vec<Pin>,
    },
    /// A duplicate was removed: its frames are held in other segments.
    Reclaimed {
        /// The line of an inventory for it.
        held: Held,
    },
    /// The recorder acts on no authority of this epoch any more.
    Withdrawn {
        /// The epoch named by [`ToRecorder::Withdraw`].
        epoch: u64,
    },
}

/// The progress ticket. Health rides on some tickets only, at least every 500 ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// Counts up by one for each ticket of an incarnation.
    pub n: u64,
    /// Whether this member can record what it receives: its volume takes bytes.
    pub fit: bool,
    /// The volume.
    pub disk: Disk,
    /// Ledgers whose damaged end was cut since the start.
    pub ledger_truncations: u64,
    /// Health of every configured stream; `None` where nothing is said with this ticket.
    pub streams: Option<Vec<StreamHealth>>,
}

/// The volume as the writer loop sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Size, bytes.
    pub total_bytes: u64,
    /// Free for this process, bytes.
    pub free_bytes: u64,
    /// The volume has no room for frames: it said so, or its reserve is reached.
    pub full: bool,
    /// The volume fails for another reason: I/O errors, or it became read-only.
    #[serde(default)]
    pub failing: bool,
}

/// One stream as this member receives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamHealth {
    /// Its name in the pair.
    pub name: String,
    /// Its UID.
    pub uid: StreamUid,
    /// Whether frames arrive, and can be written.
    pub state: StreamState,
    /// The newest error; cleared when frames arrive again.
    pub error: Option<StreamError>,
    /// When the newest frame arrived, milliseconds since the Unix epoch.
    pub last_frame_unix_ms: Option<i64>,
    /// Frames a second over the last few seconds.
    pub fps: f32,
    /// Bits a second over the last few seconds.
    pub bitrate: u64,
    /// Whether this member writes the stream now.
    pub writing: bool,
    /// Gaps noted since the start of the process.
    pub gaps: u64,
    /// How long the gaps are that this member noted, by what became of them.
    pub gap_lengths: GapLengths,
    /// Why this member cannot be counted on for this stream now.
    pub fault: Option<Fault>,
}

/// How long gaps are together, milliseconds. One that lasts counts once it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapLengths {
    /// The peer may still have the frames.
    pub open_ms: u64,
    /// The recording has them.
    pub refilled_ms: u64,
    /// Neither member has them.
    pub lost_ms: u64,
}

/// Whether frames of a stream arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamState {
    /// Frames arrive.
    Receiving,
    /// No frames; a session is being set up. Not (yet) broken.
    Connecting,
    /// No frames, and the last attempt failed; or frames arrive and this stream alone cannot be written here. It is tried
    /// again with a back-off.
    Failed,
    /// Nothing is expected: the peer receives it, and this member need not.
    Idle,
}

impl StreamState {
    /// The word for it, in the viewers' API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Connecting => "connecting",
            Self::Failed => "failed",
            Self::Idle => "idle",
        }
    }
}

/// Why a stream is not received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamError {
    /// For machines.
    pub code: ErrorCode,
    /// For people: names the stream and the cure, never a credential.
    pub message: String,
}

/// The reasons a stream is not received (or, for [`ErrorCode::DiskFull`] and [`ErrorCode::DiskFailing`], not recorded).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The host name does not resolve.
    UnknownHost,
    /// No TCP connection.
    Unreachable,
    /// The camera refuses the credentials.
    Unauthorized,
    /// Something answers that speaks no RTSP, or refuses the path.
    NotRtsp,
    /// The session offers no video.
    NoVideoTrack,
    /// The codec is not supported: of the video (then nothing is recorded), or of another track (then only that
    /// one is missing).
    UnsupportedCodec,
    /// Nothing came in time.
    Timeout,
    /// What came cannot be understood.
    Malformed,
    /// The task of this stream panicked.
    TaskFailed,
    /// The volume has no room for frames.
    DiskFull,
    /// The volume fails.
    DiskFailing,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 11] = [
        Self::UnknownHost,
        Self::Unreachable,
        Self::Unauthorized,
        Self::NotRtsp,
        Self::NoVideoTrack,
        Self::UnsupportedCodec,
        Self::Timeout,
        Self::Malformed,
        Self::TaskFailed,
        Self::DiskFull,
        Self::DiskFailing,
    ];

    /// The word for it, in metrics and in the viewers' API: that of the report.
    pub fn as_str(self) -> &'static str {
        StreamErrorCode::from(self).as_str()
    }
}

impl From<ErrorCode> for StreamErrorCode {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::UnknownHost => Self::UnknownHost,
            ErrorCode::Unreachable => Self::Unreachable,
            ErrorCode::Unauthorized => Self::Unauthorized,
            ErrorCode::NotRtsp => Self::NotRtsp,
            ErrorCode::NoVideoTrack => Self::NoVideoTrack,
            ErrorCode::UnsupportedCodec => Self::UnsupportedCodec,
            ErrorCode::Timeout => Self::Timeout,
            ErrorCode::Malformed => Self::Malformed,
            ErrorCode::TaskFailed => Self::TaskFailed,
            ErrorCode::DiskFull => Self::DiskFull,
            ErrorCode::DiskFailing => Self::DiskFailing,
        }
    }
}

/// What the replicator says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToRecorder {
    /// The authority of this member now. Sent at each change and at each renewal.
    Authority(Authority),
    /// Stop acting on the authority of this epoch, and answer [`ToReplicator::Withdrawn`].
    Withdraw {
        /// The epoch.
        epoch: u64,
    },
    /// The peer, at each change and at least every 500 ms.
    Peer(Peer),
    /// The streams that this member owns: at each change, and with each [`ToRecorder::Peer`].
    Owned(Owned),
    /// A segment of the peer is being received.
    ReceivedOpened {
        /// The segment.
        id: SegmentId,
        /// Bytes of the head.
        head_len: u64,
    },
    /// A received segment is durable here up to `end`.
    ReceivedDurable {
        /// The segment.
        id: SegmentId,
        /// Durable bytes; the end of a fragment.
        end: u64,
        /// The frames of the fragments that became durable, in order.
        frames: Vec<FrameMark>,
    },
    /// A received segment was sealed here.
    ReceivedSealed {
        /// The whole entry.
        entry: Box<SealedEntry>,
    },
    /// A received segment was closed as partial.
    ReceivedPartial {
        /// The segment.
        id: SegmentId,
        /// Durable bytes.
        len: u64,
    },
    /// The peer holds no longer copy of this segment of a dead incarnation of this member (or it was fetched and is
    /// durable): the recorder may seal it.
    TailComplete {
        /// The segment.
        id: SegmentId,
        /// Bytes that are known to be durable here: one that ends before them is not sealed, but told as [`ToReplicator::Shorter`].
        end: u64,
    },
    /// The peer holds this own segment durably up to `end`.
    PeerAcknowledged {
        /// The segment.
        id: SegmentId,
        /// Bytes durable on the peer.
        end: u64,
    },
    /// The peer's catalogue is known here as it is now: once a second while it sends media.
    Compared {
        /// From when to when the peer holds media of a stream that is still to come, microseconds since the Unix epoch.
        lacking: Vec<(StreamUid, Vec<(i64, i64)>)>,
    },
    /// The peer said that these pins are durable in its ledger.
    PeerPinned {
        /// Some of them.
        pins: Vec<Pin>,
        /// Whether what was told of its pins before counts no more: the connection to it is another one, or ended.
        anew: bool,
    },
    /// Bytes of the peer were refused (I4); for metrics and the log.
    Refused {
        /// The stream, where known.
        stream: Option<StreamUid>,
        /// The segment, where known.
        segment: Option<SegmentId>,
        /// Why.
        reason: String,
    },
}

/// Who this member is, until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The pair epoch.
    pub epoch: u64,
    /// The role under it.
    pub role: Role,
    /// The end of authority on `CLOCK_BOOTTIME`, see [`crate::clock::boottime_ns`]; 0 when there is none.
    pub deadline_boottime_ns: u64,
}

/// The role of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Holds authority until the deadline.
    Primary,
    /// Follows the holder.
    Standby,
    /// Nobody is known to hold authority.
    #[default]
    None,
}

/// The streams of one member.
pub type Share = failover::streams::Share<StreamUid>;

/// The streams that this member owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// Which.
    pub share: Share,
    /// The end of what was delegated, on `CLOCK_BOOTTIME`; a holder's share ends with its authority.
    pub until_boottime_ns: u64,
}

/// What is known of the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Heard within the detector's time.
    pub heard: bool,
    /// The detector suspects it.
    pub suspected: bool,
    /// The streams that it claims.
    pub share: Share,
    /// It says that it is fit.
    pub fit: bool,
    /// The streams that it does not receive, for whatever reason, or cannot write.
    pub broken_streams: Vec<StreamUid>,
}

/// One frame of a received fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameMark {
    /// The frame hash.
    pub hash: [u8; 16],
    /// Wall clock by the writer's mapping, microseconds since the Unix epoch.
    pub wallclock_us: i64,
    /// Whether it starts a group of pictures.
    pub key: bool,
}
