//! RecorderPair, `gapless.video/v1alpha1`: what a user asks for, and what became of it.
#![allow(unreachable_pub, reason = "KubeSchema copies each type into a function")]

mod spec;
mod status;
mod storage;
mod value;

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::names::SUBDOMAIN_RULE;

pub use spec::{
    Audio, BackfillWindow, CredentialsRef, Failback, Failover, MemberResources, Mode, Replication,
    Requirements, Segment, Standby, Stream, StreamFailover, Toleration, Transport,
};
pub use status::{
    Condition, FailingStream, FailoverStatus, MAX_FAILING, MAX_FAILOVERS, MemberStatus, MovedStream, Phase,
    RecorderPairStatus, RefillStatus, Role, StreamGaps, StreamsStatus,
};
pub use storage::{Retention, Storage, WhenDeleted};
pub use value::{ClockTime, NotASize, NotATime, Size, Span, UtcOffset};

/// Two recorders that record the same streams: one serves, the other is ready to, and both hold all media.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "gapless.video",
    version = "v1alpha1",
    kind = "RecorderPair",
    namespaced,
    status = "RecorderPairStatus",
    shortname = "rp",
    category = "gapless",
    derive = "PartialEq",
    doc = "Two recorders that record the same streams: one serves, the other is ready to, and both hold all media.",
    printcolumn(
        name = "Primary",
        type_ = "string",
        json_path = r#".status.members[?(@.role=="Primary")].name"#,
        description = "The member that serves"
    ),
    printcolumn(
        name = "Standby",
        type_ = "string",
        json_path = r#".status.members[?(@.role=="Standby")].name"#,
        description = "The member that is ready to take over"
    ),
    printcolumn(
        name = "Epoch",
        type_ = "integer",
        json_path = ".status.epoch",
        description = "The number of the primary's authority; each failover raises it"
    ),
    printcolumn(
        name = "Streams",
        type_ = "string",
        json_path = ".status.streams.summary",
        description = "Streams that are received, of all"
    ),
    printcolumn(
        name = "Lag",
        type_ = "string",
        json_path = ".status.replicationLag",
        description = "How far the standby's copy is behind"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether a primary serves"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(r"self.metadata.name.size() <= 50")
        .message("the name of a RecorderPair can have 50 characters at most: names of pods and Services are made from it"),
    validation = Rule::new(r"self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name of a RecorderPair must start with a letter and have only a-z, 0-9 and -, because Services are named after it"),
    validation = Rule::new(r"!self.metadata.name.matches('-(0|1|primary)$')")
        .message("the name of a RecorderPair must not end in -0, -1 or -primary: another pair's Services may have that name"),
    validation = Rule::new(r"!has(self.spec.preferredPrimary) || self.spec.preferredPrimary == self.metadata.name + '-0' || self.spec.preferredPrimary == self.metadata.name + '-1'")
        .message("preferredPrimary must be the name of a member: that of the RecorderPair with -0 or -1"),
    validation = Rule::new(r"!has(self.spec.failover) || !has(self.spec.failover.failbackAfter) || has(self.spec.preferredPrimary)")
        .message("failover.failbackAfter needs preferredPrimary: the member that authority goes back to")
)]
#[cfg_attr(feature = "cel", kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct RecorderPairSpec {
    /// What to record. Every stream is received by both members, unless `standby.mode` says otherwise.
    // Two of the same name are refused by the API server: the name is the key of the list.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(min = 1, max = 512))]
    pub streams: Vec<Stream>,
    /// The volume of each member.
    pub storage: Storage,
    /// The member that does not serve.
    #[serde(default)]
    pub standby: Standby,
    /// The member that is to be primary when all is well, by its name: `<pair>-0` or `<pair>-1`. It is preferred where nobody
    /// is primary; authority comes back to it by itself only with `failover.failbackAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 52))]
    pub preferred_primary: Option<String>,
    /// How fast the standby takes over.
    #[serde(default)]
    pub failover: Failover,
    /// How media is cut into files.
    #[serde(default)]
    pub segment: Segment,
    /// How fast a member that lacks media is refilled from the other one.
    #[serde(default)]
    pub replication: Replication,
    /// CPU and memory of each container.
    #[serde(default)]
    pub resources: MemberResources,
    /// Nodes that members may run on, by their labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that members bear, besides a node that is not ready or unreachable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// The PriorityClass of members' pods. It must exist: without it no pod can be made.
    #[x_kube(validation = Rule::new(SUBDOMAIN_RULE)
        .message("priorityClassName must be the name of a PriorityClass: a-z, 0-9, - and ., each part starting and ending with a letter or digit"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// The image of the recorder and replicator. The operator's own choice where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Names of Secrets in this namespace with credentials for the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<String>,
}
