//! What the operator is to do.

use crate::event::TakeOrder;
use crate::lease::LeaseRecord;
use crate::name::{MemberName, Version};
use crate::plan::observed::ServeTarget;

/// One thing to do. Each names what it was decided on, so that a stale one fails instead of doing harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Tell this member to take.
    TakeIt {
        /// Which member.
        member: MemberName,
        /// Epoch and reason.
        order: TakeOrder,
    },
    /// Create the Lease again; it must not exist. Its epoch is written to status *before* it is created: an operator
    /// that forgot it might otherwise create the next one below it (I5).
    RecreateLease {
        /// What it says: no holder.
        record: LeaseRecord,
    },
    /// Write another follower into the Lease, conditional on its version.
    NameFollower {
        /// Which member it is.
        member: MemberName,
        /// The version that must be in place.
        expected: Version,
        /// What to write.
        record: LeaseRecord,
    },
    /// Evict this pod, so that it is made anew. Conditional on its UID; never forced.
    RestartMember {
        /// Which member.
        member: MemberName,
        /// The pod's UID.
        pod_uid: String,
        /// Why.
        why: RestartReason,
    },
    /// Point the `-primary` Service at this member, conditional on a version that was read before, never lowering
    /// the epoch.
    Serve(ServeTarget),
}

/// Why a member is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartReason {
    /// Its pod was made from another template than the one that is wanted now.
    Outdated,
}
