//! What members say to each other about authority. None of it removes a byte (I3).

use serde::{Deserialize, Serialize};

use crate::name::{Epoch, Incarnation, MemberRef, StoreId, Version};

/// Whether a member's recorder makes progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// A progress ticket came within `ticket_timeout`.
    Fit,
    /// The recorder is dead, hung, or has not started.
    Unfit,
}

/// A heartbeat. Both members send one every `heartbeat_interval`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Who sends it.
    pub from: MemberRef,
    /// The epoch of the authority it claims, else its synced epoch.
    pub epoch: Epoch,
    /// Raised by every request and release of one incarnation; starts at 1.
    pub sequence: u64,
    /// Whether the sender's own deadline was running when it sent this. Only such a request counts as
    /// hearing the primary.
    pub claims: bool,
    /// The leash in force for a claim, else the short leash of the sender's settings, in milliseconds.
    /// Informs only: what counts is in the Lease.
    pub leash_ms: u64,
    /// The sender's recorder.
    pub health: Health,
    /// The sender asks the primary of this epoch to hand over to it.
    pub wants: Option<Epoch>,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who answers.
    pub from: MemberRef,
    /// The incarnation that asked.
    pub to: Incarnation,
    /// The sequence number of the request.
    pub sequence: u64,
    /// The epoch of the request.
    pub epoch: Epoch,
    /// The answerer's synced epoch.
    pub synced: Epoch,
}

/// A primary that dropped its deadline names the Lease that it leaves behind. The follower swaps on exactly
/// that version, without a wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Who released.
    pub from: MemberRef,
    /// The follower that may swap at once.
    pub to: StoreId,
    /// In the sequence of the sender's requests, so that an older claim that arrives late is not heard.
    pub sequence: u64,
    /// The epoch that was released.
    pub epoch: Epoch,
    /// The Lease's version, with no swap of the sender's in doubt.
    pub version: Version,
}
