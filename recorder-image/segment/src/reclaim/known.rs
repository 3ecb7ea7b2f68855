//! What the catalogue knows of pins, and of what was reclaimed.

use std::collections::btree_map::Entry;

use crate::canonical::WINDOW_US;
use crate::catalogue::{Catalogue, Stream};
use crate::copy::State;
use crate::id::SegmentId;
use crate::inventory::Held;
use crate::reclaim::Pin;

impl Stream {
    fn is_sealed(&self, id: &SegmentId) -> bool {
        self.copies
            .get(id)
            .is_some_and(|copy| copy.state == State::Sealed)
    }

    /// What is kept counts as received when the duplicate was, if that was later (I11).
    fn inherit(&mut self, pin: &Pin, received_s: i64) {
        for id in &pin.kept {
            if let Some(copy) = self.copies.get_mut(id) {
                copy.received_s = copy.received_s.max(received_s);
            }
        }
    }

    /// The files were compared with the ledgers: what is here again was not reclaimed, and pins count only where all that they
    /// keep is here.
    pub(crate) fn settle_pins(&mut self) {
        self.reclaimed.retain(|id, _| !self.copies.contains_key(id));
        self.forget_below_floor();
        for (pin, received_s) in std::mem::take(&mut self.pins.replayed) {
            self.inherit(&pin, received_s);
            if pin.kept.iter().all(|id| self.is_sealed(id)) {
                self.pins.add(pin);
            }
        }
    }

    /// What began before the floor is not wanted back anyway.
    pub(crate) fn forget_below_floor(&mut self) {
        let Some(floor_us) = self.floor_us else {
            return;
        };
        let start_us = |held: &Held| held.span_us.map_or(i64::MIN, |span| span.0);
        self.reclaimed
            .retain(|_, held| start_us(held).saturating_add(WINDOW_US) >= floor_us);
    }

    /// Retention removed a copy.
    pub(crate) fn left(&mut self, id: &SegmentId) {
        self.pins.left(id);
        self.forget_below_floor();
    }

    /// The ledger says that a pin was written.
    pub(crate) fn replay(&mut self, pin: Pin, received_s: i64) {
        self.pins.replayed.push((pin, received_s));
    }
}

impl Catalogue {
    /// Whether a pin may be written: all its copies are sealed here, and no pin contradicts it.
    pub fn may_pin(&self, pin: &Pin) -> bool {
        let Some(stream) = self.stream(pin.duplicate.stream) else {
            return false;
        };
        let mut all = std::iter::once(&pin.duplicate).chain(&pin.kept);
        stream.pins.allows(pin) && all.all(|id| stream.is_sealed(id))
    }

    /// A pin was written; it counts after the next sync. What it keeps inherits the time of receipt, if that is later. Returns
    /// whether it [may be](Self::may_pin).
    pub fn pin(&mut self, pin: Pin, received_s: i64) -> bool {
        if !self.may_pin(&pin) {
            return false;
        }
        let stream = self.stream_mut(pin.duplicate.stream);
        stream.inherit(&pin, received_s);
        stream.pins.add(pin)
    }

    /// A sync succeeded. Returns the pins that became durable.
    pub fn pins_synced(&mut self) -> Vec<Pin> {
        let streams = self.streams_mut();
        streams.flat_map(|stream| stream.pins.synced()).collect()
    }

    /// The durable pins of all streams.
    pub fn durable_pins(&self) -> Vec<Pin> {
        self.streams()
            .flat_map(|(_, stream)| stream.pins.durable())
            .collect()
    }

    /// A duplicate was removed. Its frames are here, so it counts as held. Returns how it was.
    pub fn reclaim(&mut self, id: &SegmentId) -> Option<Held> {
        let stream = self.stream_mut(id.stream);
        let Entry::Occupied(copy) = stream.copies.entry(id.clone()) else {
            return None;
        };
        let copy = copy.remove();
        let held = Held {
            reclaimed: true,
            ..copy.held()
        };
        stream.reclaimed.insert(id.clone(), held.clone());
        Some(held)
    }

    /// What was reclaimed and may still be at the peer; one that came again is here.
    pub fn reclaimed(&self) -> impl Iterator<Item = &Held> {
        self.streams().flat_map(|(_, stream)| {
            let all = stream.reclaimed.values();
            all.filter(|held| !stream.copies.contains_key(&held.id))
        })
    }
}
