//! An API server with one Lease: compare-and-swap, quorum reads, and nothing else.

use crate::event::{ReadResult, SwapResult};
use crate::lease::{Lease, LeaseRecord};
use crate::name::{Epoch, Version};

/// The server's side of the Lease.
#[derive(Debug, Default)]
pub(super) struct Api {
    pub(super) lease: Option<Lease>,
    versions: u64,
    /// The highest epoch that any Lease had.
    pub(super) highest: Epoch,
    /// Whether an epoch ever fell (I5).
    pub(super) fell: Option<(Epoch, Epoch)>,
    /// Whether a swap has to name the version it expects; false is a sabotage.
    pub(super) unconditional: bool,
    pub(super) writes: u64,
}

impl Api {
    fn store(&mut self, record: LeaseRecord) -> Lease {
        self.versions += 1;
        self.writes += 1;
        if record.epoch < self.highest {
            self.fell.get_or_insert((self.highest, record.epoch));
        }
        self.highest = self.highest.max(record.epoch);
        let lease = Lease {
            version: Version::new(&self.versions.to_string()),
            record,
        };
        self.lease = Some(lease.clone());
        lease
    }

    pub(super) fn read(&self) -> ReadResult {
        self.lease.clone().map_or(ReadResult::Missing, ReadResult::Found)
    }

    pub(super) fn swap(&mut self, expected: &Version, record: LeaseRecord) -> SwapResult {
        let same = self
            .lease
            .as_ref()
            .is_some_and(|lease| self.unconditional || lease.version == *expected);
        if same {
            SwapResult::Swapped(self.store(record))
        } else {
            SwapResult::Conflict
        }
    }

    /// Creates it where there is none.
    pub(super) fn create(&mut self, record: LeaseRecord) {
        if self.lease.is_none() {
            self.store(record);
        }
    }
}
