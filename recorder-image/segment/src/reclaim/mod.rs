//! Reclaim of duplicates: after a false suspicion both members wrote the same time of a stream, and each holds both segments.
//!
//! A *pin* says in a ledger which copies hold what a duplicate holds, and stay. The holder of authority proposes pins
//! ([`propose`]), its peer finds the same by itself and writes them too, and each removes its own duplicate, once both ledgers
//! hold the pin durably and its own files, read again, have every frame ([`may_remove`]). What a pin keeps is never reclaimed:
//! it leaves by retention alone. So neither a member that froze between a check and an act nor a peer that pins garbage can
//! take the last copy of a frame from a volume. Nothing here removes anything.
//!
//! There are no legal holds in this version. Where there are any, [`crate::Catalogue::pin`] is the place where what stays
//! inherits them, as it does the time of receipt.

mod known;
mod proof;
pub mod propose;
mod remove;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::SegmentId;

pub use proof::Proof;
pub use remove::{Stays, may_remove};

/// The most copies that hold one duplicate together. A segment is as long as another, so two or three are usual.
pub const MAX_KEPT: usize = 16;
/// The most pins of a peer that are remembered; it tells them again with the next connection.
const MAX_PEER_PINS: usize = 1 << 16;

/// Which copies stay instead of a duplicate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The segment that may be removed.
    pub duplicate: SegmentId,
    /// The segments that hold all its frames, by identity.
    pub kept: Vec<SegmentId>,
}

impl Pin {
    /// Whether it names other copies of its stream, and no more than there may be.
    pub fn is_valid(&self) -> bool {
        let others = |id: &SegmentId| id.stream == self.duplicate.stream && *id != self.duplicate;
        (1..=MAX_KEPT).contains(&self.kept.len()) && self.kept.iter().all(others)
    }
}

/// The pins of one stream in this member's ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    duplicates: BTreeMap<SegmentId, Pinned>,
    /// By how many pins each is kept.
    kept: BTreeMap<SegmentId, usize>,
    /// As they were read from the ledger, with the times of receipt; until the files were looked at.
    replayed: Vec<(Pin, i64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pinned {
    kept: Vec<SegmentId>,
    durable: bool,
}

impl Pins {
    /// Whether a pin may be added: no copy is ever a duplicate and kept as well, so there are neither chains nor circles.
    pub fn allows(&self, pin: &Pin) -> bool {
        pin.is_valid()
            && !self.names(&pin.duplicate)
            && pin.kept.iter().all(|id| !self.duplicates.contains_key(id))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.duplicates.is_empty()
    }

    /// Whether a copy is a duplicate, or kept.
    pub fn names(&self, id: &SegmentId) -> bool {
        self.duplicates.contains_key(id) || self.keeps(id)
    }

    /// Whether a copy is to stay.
    pub fn keeps(&self, id: &SegmentId) -> bool {
        self.kept.contains_key(id)
    }

    /// Whether this very pin is here and durable.
    pub fn is_durable(&self, pin: &Pin) -> bool {
        let found = self.duplicates.get(&pin.duplicate);
        found.is_some_and(|pinned| pinned.durable && pinned.kept == pin.kept)
    }

    /// Those that are durable.
    pub fn durable(&self) -> impl Iterator<Item = Pin> {
        let durable = self.duplicates.iter().filter(|(_, pinned)| pinned.durable);
        durable.map(|(duplicate, pinned)| Pin {
            duplicate: duplicate.clone(),
            kept: pinned.kept.clone(),
        })
    }

    /// Adds a pin, not durable yet, if it may be.
    fn add(&mut self, pin: Pin) -> bool {
        if !self.allows(&pin) {
            return false;
        }
        for id in &pin.kept {
            *self.kept.entry(id.clone()).or_default() += 1;
        }
        let pinned = Pinned {
            kept: pin.kept,
            durable: false,
        };
        self.duplicates.insert(pin.duplicate, pinned);
        true
    }

    /// A sync succeeded. Returns what became durable.
    fn synced(&mut self) -> Vec<Pin> {
        let mut new = Vec::new();
        for (duplicate, pinned) in self.duplicates.iter_mut().filter(|(_, pinned)| !pinned.durable) {
            pinned.durable = true;
            new.push(Pin {
                duplicate: duplicate.clone(),
                kept: pinned.kept.clone(),
            });
        }
        new
    }

    /// Retention removed a copy: pins that count on it are void.
    fn left(&mut self, id: &SegmentId) {
        if !self.keeps(id) {
            return;
        }
        let counts = |pinned: &Pinned| pinned.kept.contains(id);
        let void = self.duplicates.extract_if(.., |_, pinned| counts(pinned));
        for (_, pinned) in void.collect::<Vec<_>>() {
            for id in pinned.kept {
                if let Some(count) = self.kept.get_mut(&id) {
                    *count -= 1;
                }
            }
        }
        self.kept.retain(|_, count| *count > 0);
    }
}

/// What the peer says that its ledger holds durably. It proves nothing about bytes: only what this member read itself does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPins(BTreeMap<SegmentId, Vec<SegmentId>>);

impl PeerPins {
    /// The peer told pins.
    pub fn hear(&mut self, pins: impl IntoIterator<Item = Pin>) {
        for pin in pins.into_iter().filter(Pin::is_valid) {
            if !self.is_full() {
                self.0.insert(pin.duplicate, pin.kept);
            }
        }
    }

    /// A duplicate is not here any more.
    pub fn remove(&mut self, duplicate: &SegmentId) {
        self.0.remove(duplicate);
    }

    /// Duplicates that are not here any more: what was said of them is of no use, and makes room for the rest.
    pub fn forget(&mut self, mut is_gone: impl FnMut(&SegmentId) -> bool) {
        self.0.retain(|duplicate, _| !is_gone(duplicate));
    }

    /// Whether nothing more is remembered.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_PEER_PINS
    }

    /// The peer is another one, or was lost.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether it told this very pin.
    pub fn has(&self, pin: &Pin) -> bool {
        self.0.get(&pin.duplicate) == Some(&pin.kept)
    }

    /// Whether it may remove one of these as a duplicate.
    fn gives_up(&self, kept: &[SegmentId]) -> bool {
        kept.iter().any(|id| self.0.contains_key(id))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Pin> {
        self.0.iter().map(|(duplicate, kept)| Pin {
            duplicate: duplicate.clone(),
            kept: kept.clone(),
        })
    }
}
