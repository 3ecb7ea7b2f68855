//! What a member says of itself, for status and for the operator.

use serde::{Deserialize, Serialize};

use crate::message::Health;
use crate::name::{Epoch, Incarnation, MemberName, MemberRef, StoreId, Version};

/// What a member does about authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It follows, or waits.
    Standby,
    /// It reads, waits, swaps or syncs in order to hold it.
    Taking,
    /// It holds it.
    Primary,
    /// It holds it and is about to release it.
    HandingOver,
}

/// A member's own words. Times are left over, not moments: another machine's clock means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Who says it.
    pub me: MemberRef,
    /// Its role.
    pub role: Role,
    /// The epoch that is synced on its volume.
    pub synced_epoch: Epoch,
    /// The epoch it holds authority in, where it does.
    pub serving_epoch: Option<Epoch>,
    /// How long its authority lasts without another answer or swap, in milliseconds; 0 without.
    pub remaining_ms: u64,
    /// The leash in force, in milliseconds; 0 without authority.
    pub leash_ms: u64,
    /// Its recorder.
    pub health: Health,
    /// Whether it hears a primary that claims a running deadline, or is one.
    pub hears_primary: bool,
    /// Which.
    pub primary: Option<MemberName>,
    /// The Lease's version as it knows it.
    pub lease_version: Option<Version>,
    /// The Lease's epoch as it knows it.
    pub lease_epoch: Option<Epoch>,
    /// The follower that the Lease names, as it knows it.
    pub follower: Option<StoreId>,
    /// Its peers, in the order of preference.
    pub peers: Vec<PeerReport>,
}

/// What a member knows of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// The peer.
    pub member: MemberName,
    /// Its store, once heard.
    pub store: Option<StoreId>,
    /// The start of it that was heard last.
    pub incarnation: Option<Incarnation>,
    /// Whether it is suspected: not heard, or unfit by its own word.
    pub suspected: bool,
    /// Its recorder, by its own word.
    pub health: Option<Health>,
    /// How long ago it was heard, in milliseconds.
    pub silent_ms: Option<u64>,
    /// After how much silence it is suspected now, in milliseconds: longer where it is heard irregularly, up to a leash.
    pub suspected_after_ms: u64,
}
