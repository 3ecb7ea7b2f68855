//! Streams, and how they are recorded.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{ClockTime, QuantityText, Size, Span, UtcOffset};
use crate::names::SUBDOMAIN_RULE;

/// A camera's stream. The rules about its URL are of the whole stream, so that an API server's refusal does not repeat
/// a URL with a password in it.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.url.startsWith('rtsp://')")
        .message("the URL of a stream must start with rtsp://")
        .field_path(".url"),
    validation = Rule::new("!self.url.matches('^[a-zA-Z]+://[^/?#]*@')")
        .message("the URL of a stream must not hold a user name or password; put them in a Secret and name it in credentials.secretName")
        .field_path(".url"),
    validation = Rule::new("self.url.matches('^[a-zA-Z]+://([^/?#]*@)?([^/?#:@]+|\\\\[[0-9a-fA-F:.]+\\\\])(:[0-9]{1,5})?([/?][^#]*)?$')")
        .message("the URL of a stream must be rtsp://host[:port]/path")
        .field_path(".url")
)]
pub struct Stream {
    /// Its name, unique in the pair. Media stays with the name: take another name for another camera.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a stream must have only a-z, 0-9 and -, and start and end with a letter or digit"))]
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its address. Credentials do not belong here, but in a Secret.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    /// Where the camera's user name and password are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsRef>,
    /// Whether pictures that do not change are a fault of the stream, so that the other member is asked for better ones. Not for
    /// cameras that send the very same bytes while nothing moves.
    #[serde(default)]
    pub detect_frozen: bool,
    /// How its packets come. `tcp` loses none on the way. `udp` is for cameras that cannot do it, or stall with it: each packet
    /// that is lost costs its picture, where not the other member got it.
    #[serde(default)]
    pub transport: Transport,
    /// What becomes of its sound: AAC and G.711 can be recorded beside the video.
    #[serde(default)]
    pub audio: Audio,
}

/// What becomes of the sound of a stream.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub enum Audio {
    /// It is recorded beside the video, as far as it comes.
    #[default]
    Record,
    /// It is not asked for.
    Ignore,
}

/// How the packets of a stream come.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub enum Transport {
    /// Within the RTSP connection.
    #[default]
    Tcp,
    /// Each in a datagram of its own.
    Udp,
}

/// A Secret in the pair's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsRef {
    /// Its name.
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("credentials.secretName must be the name of a Secret: a-z, 0-9, - and ., each part starting and ending with a letter or digit"))]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// The key of the user name.
    #[serde(default = "username_key")]
    #[schemars(length(min = 1, max = 253))]
    pub username_key: String,
    /// The key of the password.
    #[serde(default = "password_key")]
    #[schemars(length(min = 1, max = 253))]
    pub password_key: String,
}

fn username_key() -> String {
    "username".to_owned()
}

fn password_key() -> String {
    "password".to_owned()
}

/// The member that does not serve.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Standby {
    /// What it does while the primary is well. `Warm` and `Cold` are for cameras that allow one session only: a failover then
    /// costs frames.
    #[serde(default)]
    pub mode: Mode,
    /// How much of each stream both members keep in memory, to be written if the other fails.
    #[x_kube(validation = Rule::new("duration(self) >= duration('2s') && duration(self) <= duration('60s')")
        .message("standby.preroll must be from 2s to 60s"))]
    #[serde(default = "default_preroll")]
    pub preroll: Span,
    /// At most so much memory for a stream. It must hold the preroll: twice the bit rate times the preroll is plenty.
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('1Mi')) >= 0 && quantity(self).compareTo(quantity('1Gi')) <= 0")
        .message("standby.maxBytesPerStream must be from 1Mi to 1Gi"))]
    #[serde(default = "default_max_bytes_per_stream")]
    pub max_bytes_per_stream: Size,
}

impl Default for Standby {
    fn default() -> Self {
        Self {
            mode: Mode::Hot,
            preroll: default_preroll(),
            max_bytes_per_stream: default_max_bytes_per_stream(),
        }
    }
}

fn default_preroll() -> Span {
    Span::of(Duration::from_secs(10))
}

fn default_max_bytes_per_stream() -> Size {
    Size::mebibytes(32)
}

/// What the standby does while the primary is well.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It receives every stream itself, besides the copy that it gets from the primary.
    #[default]
    Hot,
    /// It has a session with each camera that does not play before it is needed.
    Warm,
    /// It has no session with a camera before it is needed.
    Cold,
}

/// How fast the standby takes over.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.suspectAfter) < duration(self.leash)")
    .message("failover.suspectAfter must be shorter than failover.leash")
    .field_path(".suspectAfter"))]
pub struct Failover {
    /// How long a primary goes on without a word from its standby or the API server. Shorter is a faster
    /// failover; longer bears a worse network, and an API server that is far away: a call to it may take a third of this, or 250ms where
    /// that is more.
    #[x_kube(validation = Rule::new("duration(self) >= duration('200ms') && duration(self) <= duration('10s')")
        .message("failover.leash must be from 200ms to 10s"))]
    #[serde(default = "default_leash")]
    pub leash: Span,
    /// Without a message for so long the other member is suspected, and both write. Later, up to the leash, where its messages
    /// come irregularly.
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('5s')")
        .message("failover.suspectAfter must be from 100ms to 5s"))]
    #[serde(default = "default_suspect_after")]
    pub suspect_after: Span,
    /// After so long without a renewal the operator tells the standby to take over, and other tools see the Lease as
    /// expired. At least three renewals of a second. Whole seconds.
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('3s') && duration(self) <= duration('5m')")
            .message("failover.leaseDuration must be from 3s to 5m"),
        validation = Rule::new("duration(self).getMilliseconds() % 1000 == 0")
            .message("failover.leaseDuration must be in whole seconds")
    )]
    #[serde(default = "default_lease_duration")]
    pub lease_duration: Span,
    /// After so long without any fault the preferred member becomes primary again: both members fit, the same starts of them,
    /// all media on both, in one epoch. `0s` is as soon as that is so. Authority stays where it is where this is not given.
    #[x_kube(validation = Rule::new("duration(self) <= duration('168h')")
        .message("failover.failbackAfter must be 168h at most"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failback_after: Option<Span>,
    /// Single streams that move to the standby.
    #[serde(default)]
    pub streams: StreamFailover,
}

/// What becomes of a stream that moved to the standby, because the primary alone does not receive it well.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StreamFailover {
    /// Whether it returns by itself. With `standby.mode` Warm or Cold it does not: the primary receives nothing of it meanwhile.
    #[serde(default)]
    pub failback: Failback,
    /// After the primary received it well for so long.
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('24h')")
        .message("failover.streams.failbackAfter must be from 5s to 24h"))]
    #[serde(default = "default_stream_failback_after")]
    pub failback_after: Span,
}

impl Default for StreamFailover {
    fn default() -> Self {
        Self {
            failback: Failback::Automatic,
            failback_after: default_stream_failback_after(),
        }
    }
}

fn default_stream_failback_after() -> Span {
    Span::of(Duration::from_mins(1))
}

/// Whether something that moved returns by itself.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Failback {
    /// After a quiet time.
    #[default]
    Automatic,
    /// Only when the member that has it fails at it.
    Hold,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            leash: default_leash(),
            suspect_after: default_suspect_after(),
            lease_duration: default_lease_duration(),
            failback_after: None,
            streams: StreamFailover::default(),
        }
    }
}

fn default_leash() -> Span {
    Span::of(Duration::from_millis(600))
}

fn default_suspect_after() -> Span {
    Span::of(Duration::from_millis(150))
}

fn default_lease_duration() -> Span {
    Span::of(Duration::from_secs(4))
}

/// How media is cut into files.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Segment {
    /// A new file starts at the first key frame after so long.
    #[x_kube(validation = Rule::new("duration(self) >= duration('2s') && duration(self) <= duration('10m')")
        .message("segment.target must be from 2s to 10m"))]
    #[serde(default = "default_target")]
    pub target: Span,
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            target: default_target(),
        }
    }
}

fn default_target() -> Span {
    Span::of(Duration::from_mins(1))
}

/// How fast a member that lacks media is refilled from the other one. What is live is never held back by it.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Replication {
    /// The most older media that a member sends to the other one, in bytes a second. As fast as it goes where it is not given.
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('64Ki')) >= 0")
        .message("replication.maxBackfillBandwidth must be 64Ki a second at least, or left out for no limit"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backfill_bandwidth: Option<Size>,
    /// Times of the day in which another limit holds. Where they overlap the first counts.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<BackfillWindow>,
}

/// A time of each day in which another limit holds.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from != self.to")
    .message("from and to of a window in replication.schedule must differ; for the whole day give replication.maxBackfillBandwidth")
    .field_path(".to"))]
pub struct BackfillWindow {
    /// When it begins: `22:00`.
    pub from: ClockTime,
    /// When it ends: `06:00`. Before `from` where it lasts over midnight.
    pub to: ClockTime,
    /// What the time of these is ahead of UTC: `+01:00`. It does not follow daylight saving time.
    #[serde(default)]
    pub utc_offset: UtcOffset,
    /// The most older media that a member sends in it, in bytes a second. As fast as it goes where it is not given.
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('64Ki')) >= 0")
        .message("maxBackfillBandwidth of a window in replication.schedule must be 64Ki a second at least, or left out for no limit"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backfill_bandwidth: Option<Size>,
}

/// CPU and memory of each container of a member.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberResources {
    /// The container that records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorder: Option<Requirements>,
    /// The container that replicates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicator: Option<Requirements>,
}

/// What a container is promised, and what it may use.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Requirements {
    /// What it is promised: `cpu`, `memory`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, QuantityText>")]
    pub requests: BTreeMap<String, Quantity>,
    /// What it may use at most.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, QuantityText>")]
    pub limits: BTreeMap<String, Quantity>,
}

/// A taint that members bear. The rules are those of a pod: with one that breaks them no pod could be made any more, and an
/// update would end after the standby's was deleted.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')")
        .message("a toleration needs a key; for every taint give operator: Exists without one"),
    validation = Rule::new("!has(self.value) || self.value == '' || !has(self.operator) || self.operator != 'Exists'")
        .message("a toleration with operator Exists must have no value")
)]
pub struct Toleration {
    /// The taint's key; every key where it is not given.
    #[schemars(length(max = 317))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Exists` or `Equal`.
    #[x_kube(validation = Rule::new("self in ['', 'Exists', 'Equal']")
        .message("the operator of a toleration must be Exists or Equal, or left out for Equal"))]
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The taint's value, for `Equal`.
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; all where it is not given.
    #[x_kube(validation = Rule::new("self in ['', 'NoSchedule', 'PreferNoSchedule', 'NoExecute']")
        .message("the effect of a toleration must be NoSchedule, PreferNoSchedule or NoExecute, or left out for all"))]
    #[schemars(length(max = 16))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}
