//! What the driver tells a member.

use serde::{Deserialize, Serialize};

use crate::lease::Lease;
use crate::message::{Answer, Release, Request};
use crate::name::Epoch;
use crate::settings::Settings;

/// The number of one call to the API. Results of calls that were given up since are ignored by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing; time passed. Due at [`Member::next_deadline`](crate::Member::next_deadline).
    Tick,
    /// A request came from a peer whose certificate is that of the member it names.
    RequestReceived(Request),
    /// An answer came, authenticated alike.
    AnswerReceived(Answer),
    /// A release came, authenticated alike.
    ReleaseReceived(Release),
    /// The quorum read `op` ended.
    LeaseRead {
        /// Which call.
        op: OpId,
        /// How it ended.
        result: ReadResult,
    },
    /// The swap `op` ended.
    LeaseSwapped {
        /// Which call.
        op: OpId,
        /// How it ended.
        result: SwapResult,
    },
    /// This epoch is synced to the volume.
    EpochPersisted(Epoch),
    /// The recorder made progress. A ticket counts when it differs from the one before.
    RecorderProgress {
        /// Any number that changes as the recorder makes progress.
        ticket: u64,
    },
    /// The recorder is known to act on no grant any more: its process is gone, or it gave up all authority before it closed
    /// its connection.
    RecorderDied,
    /// The recorder acts on no grant of this epoch or an earlier one any more, whatever arrives late.
    RecorderWithdrawn {
        /// Up to which epoch.
        epoch: Epoch,
    },
    /// The operator's "take it", over an authenticated call. Answered in the same step by
    /// [`Effect::OrderAnswered`](crate::Effect::OrderAnswered).
    TakeOrder(TakeOrder),
    /// The operator asks the primary of this epoch to hand over. Answered in the same step.
    SwitchoverOrder {
        /// The epoch that is to end.
        epoch: Epoch,
    },
    /// The settings changed. Checked by the caller.
    SettingsChanged(Settings),
}

/// How a quorum read ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadResult {
    /// The Lease is this.
    Found(Lease),
    /// There is no Lease.
    Missing,
    /// There is one, but it cannot be understood. It is treated as unavailable: nobody acts on it.
    Unreadable,
    /// The API was not reached, or did not answer in `api_timeout`.
    Unavailable,
}

/// How a swap ended. The driver does not retry one, and reports exactly one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapResult {
    /// The API server stored it, and answered with this.
    Swapped(Lease),
    /// The condition failed, or the Lease is gone. It was not stored and never will be.
    Conflict,
    /// It was not sent, or the API server refused it for another reason. It never will be stored.
    NotSent,
    /// No reply within `api_timeout`. It was stored, or not, or will be.
    InDoubt,
}

/// The operator's "take it".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakeOrder {
    /// The epoch that is to end. An order for another one is stale.
    pub epoch: Epoch,
    /// Why.
    pub reason: TakeReason,
}

/// Why the operator tells a member to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

impl TakeReason {
    /// The word for it, in reports and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "Expired",
            Self::ContainerTerminated => "ContainerTerminated",
            Self::Switchover => "Switchover",
            Self::Failback => "Failback",
            Self::NoHolder => "NoHolder",
        }
    }

    /// Whether the primary is well, and asked to hand over.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Switchover | Self::Failback)
    }
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OrderOutcome {
    /// It is being done: taking, asking the primary to hand over, or handing over.
    Accepted,
    /// The primary is heard and claims a running deadline.
    Alive,
    /// The order is for another epoch.
    Stale,
    /// This member holds authority already, or was told to hand over what it does not hold.
    NotApplicable,
    /// The recorder of the member that would hold it makes no progress, or the follower does not answer.
    Unfit,
}
