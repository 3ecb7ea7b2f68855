//! What the Lease says, and how it is written as annotations.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{Epoch, MemberRef, NameError, StoreId, Version};

/// The annotation that holds the epoch, in decimal.
pub const EPOCH: &str = "gapless.video/epoch";
/// The annotation that holds the leash, in milliseconds.
pub const LEASH_MS: &str = "gapless.video/leash-ms";
/// The annotation that holds the counter that every swap raises, in decimal.
pub const COUNTER: &str = "gapless.video/counter";
/// The annotation that holds the store id of the one follower; empty or missing when none is named.
pub const FOLLOWER_STORE: &str = "gapless.video/follower-store";

/// The longest leash that any member may write or use. A Lease that was lost is recreated with it.
pub const LONGEST_LEASH: Duration = Duration::from_secs(10);
/// The shortest leash that is believed, whatever the Lease says.
pub const SHORTEST_LEASH: Duration = Duration::from_millis(100);
/// By how much a recreated Lease is above the highest epoch that is known (I5).
pub const RECREATE_STEP: u64 = 1000;

/// The part of the Lease that decides. The `resourceVersion` it was read at is beside it, in [`Lease`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The epoch in force.
    pub epoch: Epoch,
    /// How long the holder's authority outlasts its newest answered request or swap, in milliseconds.
    pub leash_ms: u64,
    /// Raised by every swap, so that each changes the record.
    pub counter: u64,
    /// Who holds it; nobody in a Lease that was just created.
    pub holder: Option<MemberRef>,
    /// The one follower whose answers count and who may take.
    pub follower: Option<StoreId>,
}

/// A Lease as it was read or written, with its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The `resourceVersion`.
    pub version: Version,
    /// What it says.
    pub record: LeaseRecord,
}

/// Why a Lease cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// An annotation that must be there is missing.
    #[error("annotation {0} is missing")]
    Missing(&'static str),
    /// An annotation is not a decimal number in its range.
    #[error("annotation {key} is {value:?}, expected a number from 0 to {max}")]
    Number {
        /// The annotation.
        key: &'static str,
        /// What it holds.
        value: String,
        /// The highest number that it may hold.
        max: u64,
    },
    /// The holder or the follower's store is not a valid name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl LeaseRecord {
    /// The leash, within [`SHORTEST_LEASH`] and [`LONGEST_LEASH`]: no Lease makes anyone wait for ever.
    pub fn leash(&self) -> Duration {
        Duration::from_millis(self.leash_ms).clamp(SHORTEST_LEASH, LONGEST_LEASH)
    }

    /// The first Lease of a pair: epoch 0, no holder (I5).
    pub fn first(leash: Duration) -> Self {
        Self {
            epoch: Epoch(0),
            leash_ms: millis(leash),
            counter: 0,
            holder: None,
            follower: None,
        }
    }

    /// The annotations that say this.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let follower = self.follower.as_ref().map_or(String::new(), ToString::to_string);
        BTreeMap::from([
            (EPOCH.to_owned(), self.epoch.to_string()),
            (LEASH_MS.to_owned(), self.leash_ms.to_string()),
            (COUNTER.to_owned(), self.counter.to_string()),
            (FOLLOWER_STORE.to_owned(), follower),
        ])
    }

    /// The `holderIdentity` that says this; `None` where nobody holds it.
    pub fn holder_identity(&self) -> Option<String> {
        self.holder.as_ref().map(ToString::to_string)
    }

    /// Reads annotations and `holderIdentity` back. Other annotations are ignored; an empty identity is none.
    ///
    /// # Errors
    /// [`LeaseError`], naming the annotation that is missing or wrong.
    pub fn parse(
        annotations: &BTreeMap<String, String>,
        holder_identity: Option<&str>,
    ) -> Result<Self, LeaseError> {
        let follower = annotations.get(FOLLOWER_STORE).filter(|text| !text.is_empty());
        let holder = holder_identity.filter(|text| !text.is_empty());
        Ok(Self {
            epoch: Epoch(number(annotations, EPOCH, Epoch::MAX.0)?),
            leash_ms: number(annotations, LEASH_MS, u64::MAX)?,
            counter: number(annotations, COUNTER, u64::MAX)?,
            holder: holder.map(str::parse).transpose()?,
            follower: follower.map(|text| text.parse()).transpose()?,
        })
    }
}

fn number(map: &BTreeMap<String, String>, key: &'static str, max: u64) -> Result<u64, LeaseError> {
    let value = map.get(key).ok_or(LeaseError::Missing(key))?;
    let wrong = || LeaseError::Number {
        key,
        value: value.clone(),
        max,
    };
    value.parse().ok().filter(|n| *n <= max).ok_or_else(wrong)
}

/// A span in whole milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The Lease that replaces a lost one: no holder, the longest leash, [`RECREATE_STEP`] above every epoch that
/// is known from status and from each volume that can be reached (I5). The longest leash makes whoever takes
/// wait out any deadline that the lost Lease may have allowed.
pub fn recreate_lease(known_epochs: impl IntoIterator<Item = Epoch>) -> LeaseRecord {
    let highest = known_epochs.into_iter().max().unwrap_or_default();
    let epoch = Epoch(highest.0.saturating_add(RECREATE_STEP));
    LeaseRecord {
        epoch,
        ..LeaseRecord::first(LONGEST_LEASH)
    }
}
