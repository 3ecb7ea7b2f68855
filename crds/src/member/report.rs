//! What a member says of itself: `GET /v1/report`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A member's own words, made anew at each request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberReport {
    /// Its name.
    pub member: String,
    /// The id of its store, minted per volume.
    pub store: String,
    /// This start of its replicator: 16 hexadecimal digits.
    pub incarnation: String,
    /// The epoch that is synced on its volume.
    pub epoch: u64,
    /// What it does.
    pub role: Role,
    /// The epoch it holds authority in, where it does. `epoch` counts where a primary does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_epoch: Option<u64>,
    /// How long its authority lasts without another answer or swap, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_until_ms: Option<u64>,
    /// Whether its recorder makes progress.
    pub fit: bool,
    /// Its recorder.
    pub recorder: RecorderState,
    /// Its peer.
    pub peer: PeerReport,
    /// The API server, as it sees it.
    pub lease: LeaseReport,
    /// Replication to its peer, and what it refused from it.
    pub replication: ReplicationReport,
    /// Its volume.
    pub disk: DiskReport,
    /// How often a damaged end of a ledger was cut off since it started.
    #[serde(default)]
    pub ledger_truncations: u64,
    /// Each configured stream.
    #[serde(default)]
    pub streams: Vec<StreamReport>,
    /// Each stream that its volume has media of, whether it is configured or not.
    #[serde(default)]
    pub known_streams: Vec<KnownStream>,
    /// The last five failovers it took part in, the newest last.
    #[serde(default)]
    pub failovers: Vec<FailoverReport>,
    /// The streams that a primary delegated to its standby.
    #[serde(default)]
    pub moved: Vec<MovedStream>,
    /// How many moves of streams it decided since it started.
    #[serde(default)]
    pub moves: u64,
}

/// A stream that the standby owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MovedStream {
    /// Its name.
    pub name: String,
    /// The member that owns it.
    pub member: String,
    /// Why it moved, in one word: `Silent`, `Broken`, `Frozen`, `Unwritable`.
    pub reason: String,
    /// Since when, milliseconds since the Unix epoch by the primary's clock.
    pub since_ms: u64,
}

/// What a member does about authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It holds it.
    Primary,
    /// It follows.
    Standby,
    /// Neither: it starts, is taking, or is handing over.
    None,
}

/// The recorder beside the replicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecorderState {
    /// Its progress tickets come.
    Running,
    /// It is gone, or has not started.
    Dead,
    /// It is there, and makes no progress.
    Stalled,
}

/// The peer, as this member sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// Whether it is heard.
    pub heard: bool,
    /// Whether it is suspected: not heard, or unfit by its own word.
    pub suspected: bool,
    /// Whether it claims a running deadline, or this member holds authority itself.
    #[serde(default)]
    pub hears_primary: bool,
    /// After how much silence it is suspected now, in milliseconds: `failover.suspectAfter` where it is heard regularly, and
    /// up to a leash where it is not.
    #[serde(default)]
    pub suspected_after_ms: u64,
}

/// The Lease, as this member sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReport {
    /// Whether the newest call to the API server succeeded. A standby that has no reason to ask makes one each 30 s.
    pub reachable: bool,
    /// The epoch it says, as far as this member knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// Replication between a member and its peer. Each side tells of what it sends: only the sender knows what is still to
/// come. So how far a standby is behind is in the report of its primary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationReport {
    /// Whether the peer takes media from here.
    pub connected: bool,
    /// How old the oldest live media is that the peer has not made durable, in milliseconds.
    pub lag_ms: u64,
    /// Live media that the peer has not made durable, in bytes.
    pub lag_bytes: u64,
    /// Older media that the peer still lacks, in bytes.
    pub backfill_bytes: u64,
    /// All media that was here when the peer connected, in bytes: what it lacked then is a part of it.
    #[serde(default)]
    pub backfill_of: u64,
    /// In how many seconds the peer will have it, at the rate that was measured and the limit that holds; while that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill_seconds: Option<u64>,
    /// How many segments the peer lacks that cannot be read here; they are in no other figure.
    #[serde(default)]
    pub unreadable: u64,
    /// How many segments of its peer this member refused since it started.
    pub refused: u64,
    /// The newest of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<LastRefusal>,
}

/// A segment that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRefusal {
    /// Name of the stream.
    pub stream: String,
    /// Identity of the segment.
    pub segment: String,
    /// What was wrong with it.
    pub reason: String,
}

/// The member's volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskReport {
    /// Its size.
    pub total_bytes: u64,
    /// What is free of it.
    pub free_bytes: u64,
    /// Whether it has no room for more media.
    pub full: bool,
    /// Whether it takes no more media for another reason: I/O errors, or it became read-only.
    #[serde(default)]
    pub failing: bool,
}

/// One configured stream on this member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamReport {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: Uuid,
    /// State.
    pub state: StreamState,
    /// Why it fails, or last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StreamError>,
    /// When the newest frame came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_frame_ms: Option<u64>,
    /// Frames a second.
    #[serde(default)]
    pub fps: f64,
    /// Bits a second.
    #[serde(default)]
    pub bitrate: u64,
    /// Whether this member writes it to its volume.
    #[serde(default)]
    pub writing: bool,
    /// How many gaps its ledger has.
    #[serde(default)]
    pub gaps: u64,
    /// Length of the gaps that this member noted and that the peer may still fill, in milliseconds. One that lasts counts once it
    /// ended.
    #[serde(default)]
    pub open_gap_ms: u64,
    /// Length of those that neither member can fill, in milliseconds.
    #[serde(default)]
    pub lost_gap_ms: u64,
}

/// The state of a stream on one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StreamState {
    /// Frames come.
    Receiving,
    /// It is about to, or tries again.
    Connecting,
    /// It cannot, for a reason that is said.
    Failed,
    /// Nothing is expected: the other member receives it, and `standby.mode` lets this one rest.
    Idle,
}

/// Why a stream fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamError {
    /// Which kind.
    pub code: StreamErrorCode,
    /// Names the stream and the cure, never a credential.
    pub message: String,
}

/// The kinds of failures of a stream: reasons in conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StreamErrorCode {
    /// The name in the URL does not resolve.
    UnknownHost,
    /// Nobody answers at the address.
    Unreachable,
    /// The camera refuses the credentials.
    Unauthorized,
    /// Whoever answers does not speak RTSP.
    NotRtsp,
    /// The camera offers no video.
    NoVideoTrack,
    /// The camera offers video that cannot be recorded.
    UnsupportedCodec,
    /// The camera stopped sending.
    Timeout,
    /// What the camera sends makes no sense.
    Malformed,
    /// The stream's task failed; it is held off.
    TaskFailed,
    /// The volume has no room.
    DiskFull,
    /// The volume fails.
    DiskFailing,
    /// A code of a newer member.
    #[serde(other)]
    Unknown,
}

impl StreamErrorCode {
    /// The code as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownHost => "UnknownHost",
            Self::Unreachable => "Unreachable",
            Self::Unauthorized => "Unauthorized",
            Self::NotRtsp => "NotRtsp",
            Self::NoVideoTrack => "NoVideoTrack",
            Self::UnsupportedCodec => "UnsupportedCodec",
            Self::Timeout => "Timeout",
            Self::Malformed => "Malformed",
            Self::TaskFailed => "TaskFailed",
            Self::DiskFull => "DiskFull",
            Self::DiskFailing => "DiskFailing",
            Self::Unknown => "Unknown",
        }
    }
}

/// A stream that a volume has media of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownStream {
    /// Its newest name.
    pub name: String,
    /// UID.
    pub uid: Uuid,
}

/// One failover, as the member that took tells it. Moments are Unix milliseconds of its own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverReport {
    /// The epoch that began.
    pub epoch: u64,
    /// Why.
    pub why: String,
    /// When media of the peer was last made durable here, before it served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_frame: Option<u64>,
    /// When the old primary was last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heard: Option<u64>,
    /// When it was suspected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspected: Option<u64>,
    /// When it began to write a stream: after the suspicion, or after it served where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<u64>,
    /// When the Lease was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// When it was swapped in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<u64>,
    /// When the new primary served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<u64>,
}
