//! What a member says of itself, for status and for the operator.

use std::time::Duration;

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

impl Report {
    /// What is left of it so long after it was said, if nothing else was: authority is over when its time is, and the role with it.
    #[must_use]
    pub fn after(self, age: Duration) -> Self {
        let age_ms = u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let remaining_ms = self.remaining_ms.saturating_sub(age_ms);
        if remaining_ms > 0 || self.serving_epoch.is_none() {
            return Self { remaining_ms, ..self };
        }
        Self {
            role: Role::Standby,
            serving_epoch: None,
            remaining_ms,
            hears_primary: false,
            primary: None,
            ..self
        }
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn i6_what_was_said_of_authority_ends_with_it() {
        let me: MemberRef = "front-0/s/0000000000000001".parse().unwrap();
        let said = Report {
            primary: Some(me.member.clone()),
            me,
            role: Role::Primary,
            synced_epoch: Epoch(3),
            serving_epoch: Some(Epoch(3)),
            remaining_ms: 500,
            leash_ms: 600,
            health: Health::Fit,
            hears_primary: true,
            lease_version: None,
            lease_epoch: None,
            follower: None,
            peers: Vec::new(),
        };
        let after = |us: u64| said.clone().after(Duration::from_micros(us));
        assert_eq!(after(0), said);
        assert_eq!(
            (after(100_001).remaining_ms, after(498_999).serving_epoch),
            (399, Some(Epoch(3)))
        );
        let over = after(499_001);
        assert_eq!(
            (
                over.role,
                over.serving_epoch,
                over.remaining_ms,
                over.hears_primary,
                over.primary
            ),
            (Role::Standby, None, 0, false, None)
        );
        let follows = Report {
            serving_epoch: None,
            remaining_ms: 0,
            ..said
        };
        assert_eq!(
            follows.clone().after(Duration::from_secs(9)),
            follows,
            "whom it hears it heard"
        );
    }
}
