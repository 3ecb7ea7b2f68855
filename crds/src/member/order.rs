//! What the operator tells a member to do.

use serde::{Deserialize, Serialize};

/// `POST /v1/take`: swap the Lease in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakeRequest {
    /// The epoch that is to end. An order for another one is stale.
    pub epoch: u64,
    /// Why.
    pub reason: TakeReason,
}

/// Why the operator tells a member to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TakeReason {
    /// The Lease did not change for its duration while the operator's reads succeeded.
    Expired,
    /// A container of the primary terminated: same pod UID and container id.
    ContainerTerminated,
    /// A switchover was asked for.
    Switchover,
    /// The member that is preferred is well again.
    Failback,
    /// Nobody holds the Lease yet.
    NoHolder,
}

/// `POST /v1/switchover`, to the primary: hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchoverRequest {
    /// The epoch that is to end.
    pub epoch: u64,
}

/// The answer to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakeResponse {
    /// What became of it.
    pub outcome: TakeOutcome,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TakeOutcome {
    /// It is being done.
    Accepted,
    /// It names another epoch.
    Stale,
    /// The member hears the primary.
    Alive,
    /// The member is not the named follower, or, for a switchover, not the primary.
    NotFollower,
}
