//! What a member asks its driver to do.

use serde::{Deserialize, Serialize};

use crate::event::{OpId, OrderOutcome};
use crate::lease::LeaseRecord;
use crate::message::{Answer, Release, Request};
use crate::name::{Epoch, MemberName, Version};
use crate::report::Role;
use crate::time::BootTime;

/// What is to be done, in this order. Nothing here waits: results come back as events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a heartbeat. May be lost, late, or doubled.
    SendRequest {
        /// To which member.
        to: MemberName,
        /// What to send.
        request: Request,
    },
    /// Answer one.
    SendAnswer {
        /// To which member.
        to: MemberName,
        /// What to send.
        answer: Answer,
    },
    /// Name the Lease that was left behind.
    SendRelease {
        /// To which member.
        to: MemberName,
        /// What to send.
        release: Release,
    },
    /// A quorum read of the Lease: a GET without `resourceVersion`, never from a watch or a cache.
    ReadLease {
        /// To be named in [`Event::LeaseRead`](crate::Event::LeaseRead).
        op: OpId,
    },
    /// A PATCH of the Lease, conditional on `expected`, never retried.
    SwapLease {
        /// To be named in [`Event::LeaseSwapped`](crate::Event::LeaseSwapped).
        op: OpId,
        /// The `resourceVersion` that must be in place.
        expected: Version,
        /// What to write.
        record: LeaseRecord,
    },
    /// Sync this epoch to the volume, then report [`Event::EpochPersisted`](crate::Event::EpochPersisted).
    /// Asked again for a higher one; a lower one than is on the volume is not written (I5).
    PersistEpoch {
        /// The epoch.
        epoch: Epoch,
    },
    /// Let the recorder act until then. It replaces an earlier grant.
    GrantRecorder(Authority),
    /// The recorder is to stop acting on this epoch and earlier ones, and to say so
    /// ([`Event::RecorderWithdrawn`](crate::Event::RecorderWithdrawn)).
    RevokeRecorder {
        /// Up to which epoch.
        epoch: Epoch,
    },
    /// The role is another one now.
    RoleChanged {
        /// Which.
        role: Role,
        /// The epoch it is in.
        epoch: Epoch,
    },
    /// Whether to write what the peer owns (I12): at once, and independent of authority.
    Suspect {
        /// The peer.
        peer: MemberName,
        /// Whether it is suspected.
        suspected: bool,
    },
    /// What became of the order in this step.
    OrderAnswered(OrderOutcome),
    /// For events and metrics; nothing depends on it.
    Note(Note),
}

/// Authority in an epoch until a moment of this machine's `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The epoch.
    pub epoch: Epoch,
    /// The first moment at which it is over.
    pub until: BootTime,
}

/// What is worth telling. A takeover passes `Suspected`, `Read`, `Swapped`, `Serving`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The primary is no longer heard; taking begins.
    Suspected,
    /// The Lease was read; the wait runs.
    Read {
        /// The epoch that was read.
        epoch: Epoch,
        /// The end of the wait.
        until: BootTime,
        /// Whether somebody holds that epoch.
        held: bool,
        /// Whether the holder released exactly this.
        released: bool,
        /// Whether this member is the holder: by a swap whose reply did not come, or from before.
        mine: bool,
    },
    /// The holder released, during the wait, what was read: the wait is over.
    Released {
        /// The epoch that ends.
        epoch: Epoch,
    },
    /// The swap that takes it succeeded.
    Swapped {
        /// The new epoch.
        epoch: Epoch,
    },
    /// The new epoch is synced: this member holds authority.
    Serving {
        /// The epoch.
        epoch: Epoch,
    },
    /// Taking was given up.
    StoodDown {
        /// Why.
        why: StandDown,
    },
    /// Authority ended.
    Lost {
        /// The epoch.
        epoch: Epoch,
        /// Why.
        why: LossReason,
    },
    /// The Lease is gone. Authority stays while the peer answers; the operator recreates it.
    LeaseMissing,
}

/// Why a member stopped taking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StandDown {
    /// The primary is heard again.
    PrimaryHeard,
    /// The own recorder makes no progress.
    Unfit,
    /// The Lease names another follower, and another holder.
    NotNamed,
    /// The epoch was not synced before the leash ended.
    SyncedTooLate,
}

/// Why authority ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// The deadline passed.
    Deadline,
    /// It was handed over.
    Released,
    /// The Lease says that another holds it.
    Superseded,
}
