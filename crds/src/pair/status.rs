//! What became of a pair.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// At most so many streams are listed with the reason why they fail.
pub const MAX_FAILING: usize = 16;
/// At most so many failovers are listed.
pub const MAX_FAILOVERS: usize = 5;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// What became of a pair. Bounded in size, whatever the pair has.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RecorderPairStatus {
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled, Replicating, Degraded.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Both members.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[serde(default)]
    pub members: Vec<MemberStatus>,
    /// The number of the primary's authority; each failover raises it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The highest epoch that was ever read from the Lease or was about to be written to it. A lost Lease comes back above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_epoch: Option<i64>,
    /// The streams, in numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<StreamsStatus>,
    /// How far the standby's copy is behind: `<1s`, `<5s`, `<30s`, `<5m`, `>5m`, or `unknown` while nothing is replicated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_lag: Option<String>,
    /// The last failovers, the newest first.
    #[serde(default)]
    pub failovers: Vec<FailoverStatus>,
}

/// One member.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its name, which outlives pods. The role moves, the name stays.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Where the pod runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How it is.
    pub phase: Phase,
    /// The id of its store, minted per volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// How far it is with older media that it lacks, while it lacks any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refill: Option<RefillStatus>,
}

/// How far a member is with media that only the other one has.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RefillStatus {
    /// How much it holds of what the other one holds, in percent.
    pub percent: i32,
    /// In how many seconds it will hold all, coarsely; not given while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<i64>,
}

/// What a member does.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It serves.
    Primary,
    /// It is ready to.
    Standby,
    /// Neither, or it does not answer.
    None,
    /// What only a newer operator knows. This one reads it and never writes it.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How a member is.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has no pod that runs yet.
    Pending,
    /// Its pod runs, but it does not answer.
    Unreachable,
    /// It answers, but its recorder makes no progress.
    Unfit,
    /// It fetches what it lacks.
    CatchingUp,
    /// All is well.
    Running,
    /// Its pod is being deleted.
    Terminating,
    /// What only a newer operator knows. This one reads it and never writes it.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// The streams, in numbers.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamsStatus {
    /// How many there are.
    pub total: i32,
    /// How many are received by one member at least.
    pub receiving: i32,
    /// How many fail on both members.
    pub failed: i32,
    /// `receiving/total`.
    pub summary: String,
    /// The first of those that fail on either member.
    #[schemars(length(max = 16))]
    pub failing: Vec<FailingStream>,
    /// The first of those that the standby owns, because the primary alone does not receive them well.
    #[schemars(length(max = 16))]
    pub moved: Vec<MovedStream>,
    /// How many the standby owns.
    pub away: i32,
    /// How many seconds of all streams one member missed and the other one may still give, coarsely. What lasts counts once it
    /// ended.
    pub open_gap_seconds: i64,
    /// How many seconds of all streams neither member holds, coarsely.
    pub lost_gap_seconds: i64,
    /// The first of those that have such.
    #[schemars(length(max = 16))]
    pub gaps: Vec<StreamGaps>,
}

/// What a stream lacks, by the word of the primary.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StreamGaps {
    /// Its name.
    pub name: String,
    /// Seconds that the other member may still give, coarsely.
    pub open_seconds: i64,
    /// Seconds that neither member holds, coarsely.
    pub lost_seconds: i64,
}

/// A stream that the standby owns.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MovedStream {
    /// Its name.
    pub name: String,
    /// The member that owns it.
    pub member: String,
    /// Why it moved, in one word.
    pub reason: String,
}

/// A stream that fails.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FailingStream {
    /// Its name.
    pub name: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, and what to do.
    pub message: String,
}

/// One failover. Times are those of the member that took, in milliseconds from the last word of the old primary; where nobody was
/// suspected, from the read of the Lease.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// The epoch that began.
    pub epoch: i64,
    /// Who took.
    pub member: String,
    /// When the new primary served.
    pub when: Time,
    /// Why.
    pub why: String,
    /// When its last media became durable on the member that took. It may be before its last word: then it is negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_frame: Option<i64>,
    /// When it was suspected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspected: Option<i64>,
    /// When the member that took began to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<i64>,
    /// When the Lease was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<i64>,
    /// When the new primary had authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<i64>,
    /// When the new primary served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<i64>,
    /// When both members had everything again, as the operator saw it, to a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converged: Option<i64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_newer_operator_wrote_can_be_read() {
        let told = json!({ "name": "front-0", "role": "Witness", "phase": "Moving" });
        let member: MemberStatus = serde_json::from_value(told).unwrap();
        assert_eq!((member.role, member.phase), (Role::Unknown, Phase::Unknown));
    }

    #[test]
    fn what_is_not_known_is_no_part_of_the_api() {
        for (schema, known) in [
            (schemars::schema_for!(Role), "Standby"),
            (schemars::schema_for!(Phase), "Terminating"),
        ] {
            let text = serde_json::to_string(&schema).unwrap();
            assert!(text.contains(known) && !text.contains("Unknown"), "{text}");
        }
    }
}
