//! The rendered configuration: `/etc/gapless/config/config.json`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::pair::{Audio, Mode, Transport};
use crate::secret::Secret;

/// Everything a member needs to know, as one Secret that is reloaded while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderedConfig {
    /// The version of this format: [`RenderedConfig::VERSION`].
    pub version: u32,
    /// Whose members they are.
    pub pair: PairIdentity,
    /// Name of the Lease, in the pair's namespace.
    pub lease: String,
    /// Name of the EndpointSlice that leads to the primary, in the pair's namespace.
    pub primary_slice: String,
    /// All members, in the order in which they are preferred.
    pub members: Vec<MemberAddress>,
    /// The streams.
    pub streams: Vec<StreamConfig>,
    /// Segments.
    pub segment: SegmentConfig,
    /// The ring before the disk.
    pub ring: RingConfig,
    /// The times of authority.
    pub failover: FailoverConfig,
    /// What a member does of whom no frames are needed.
    #[serde(default)]
    pub standby_mode: Mode,
    /// How long media stays.
    pub retention: RetentionConfig,
    /// How fast a member is refilled from its peer.
    #[serde(default)]
    pub replication: ReplicationConfig,
}

impl RenderedConfig {
    /// The version that this code writes and reads.
    pub const VERSION: u32 = 1;
}

/// Which pair it is. The UID is what certificates name: a pair that is made again under the same name is another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PairIdentity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the RecorderPair.
    pub uid: String,
}

/// Where a member is reached by its peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberAddress {
    /// The member's name.
    pub name: String,
    /// `ip:7443`: the member's own Service, so that it outlives pods and needs no DNS.
    pub peer: String,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamConfig {
    /// Its name in the pair. Names are reused; UIDs are not.
    pub name: String,
    /// Minted when the name first appeared.
    pub uid: Uuid,
    /// `rtsp://` or `rtsps://`, without credentials.
    pub url: String,
    /// User name, where the camera wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password, where the camera wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Whether pictures that do not change are a fault of the stream.
    #[serde(default)]
    pub detect_frozen: bool,
    /// How its packets come.
    #[serde(default)]
    pub transport: Transport,
    /// What becomes of its sound.
    #[serde(default)]
    pub audio: Audio,
}

/// Segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentConfig {
    /// A new segment starts at the first key frame after so many milliseconds.
    pub target_ms: u64,
}

/// The ring before the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RingConfig {
    /// How much is kept in memory of a stream, in milliseconds.
    pub preroll_ms: u64,
    /// At most so many bytes of a stream are kept in memory.
    pub max_bytes_per_stream: u64,
}

/// The times of authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverConfig {
    /// A: how long a primary's authority outlasts its newest answered request, in milliseconds.
    pub leash_ms: u64,
    /// Without a message for so many milliseconds the peer is suspected.
    pub suspect_after_ms: u64,
    /// `leaseDurationSeconds` of the Lease: the operator's and other tools' duration.
    pub lease_duration_seconds: u32,
    /// A stream that moved returns after the primary received it well for so many milliseconds; without, it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_failback_ms: Option<u64>,
}

/// How long media stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionConfig {
    /// Never removed before this age.
    pub min_age_seconds: u64,
    /// Removed after this age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
    /// Removed, oldest first, above this size, but never before `min_age_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// How fast a member is refilled from its peer. Live media is never held back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationConfig {
    /// The most older media that is sent, in bytes a second; without, as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill_bytes_per_second: Option<u64>,
    /// Times of the day in which another limit holds; the first that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<BackfillWindow>,
}

/// A time of each day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackfillWindow {
    /// Minute of the day, 0 to 1439, UTC, in which it begins.
    pub from_minute: u32,
    /// Minute of the day, 0 to 1439, UTC, in which it has ended; before `from_minute` where it lasts over midnight.
    pub to_minute: u32,
    /// The most older media that is sent, in bytes a second; without, as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill_bytes_per_second: Option<u64>,
}
