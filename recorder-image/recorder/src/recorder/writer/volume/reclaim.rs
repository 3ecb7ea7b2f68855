//! Pins and the removal of duplicates: the one thread that writes the ledger asks whether a duplicate may go, notes that it goes,
//! and asks again right before it removes the file. Whatever happened between, it stays unless everything still holds.

use std::time::Duration;

use segment::inventory::Held;
use segment::reclaim::{Pin, Proof, Stays, may_remove};
use segment::{Record, Result, SegmentId};

use super::Volume;

impl Volume {
    /// Writes a pin into the ledger, if none contradicts it and all its copies are here. It counts after the next sync.
    ///
    /// # Errors
    /// When the volume refuses.
    pub fn pin(&mut self, pin: Pin) -> Result<()> {
        let received_s = {
            let catalogue = self.shared.catalogue();
            let mut all = std::iter::once(&pin.duplicate).chain(&pin.kept);
            if !catalogue.may_pin(&pin) || all.any(|id| self.leaves(id)) {
                return Ok(());
            }
            catalogue.get(&pin.duplicate).map_or(0, |copy| copy.received_s)
        };
        let record = Record::Pinned {
            duplicate: pin.duplicate.clone(),
            kept: pin.kept.clone(),
            received_s,
        };
        self.record(pin.duplicate.stream, &record)?;
        self.shared.catalogue().pin(pin, received_s);
        self.pins_wait = true;
        Ok(())
    }

    /// A sync succeeded: the pins that it made durable.
    pub fn pinned(&mut self) -> Vec<Pin> {
        if std::mem::take(&mut self.pins_wait) {
            self.shared.catalogue().pins_synced()
        } else {
            Vec::new()
        }
    }

    /// Notes that a duplicate goes. It goes after the next sync: see [`Self::reclaimed`]. A record without the removal says
    /// nothing: where the file is, it counts.
    ///
    /// # Errors
    /// When the volume refuses the record; then nothing is removed.
    pub fn note_reclaim(&mut self, proof: Proof, now: Duration) -> Result<()> {
        let Pin { duplicate, kept } = proof.pin().clone();
        if let Err(why) = self.may_remove(&proof, now) {
            tracing::info!(segment = %duplicate, "a duplicate stays: {why}");
            return Ok(());
        }
        let found = self.shared.catalogue().get(&duplicate).map(|copy| {
            let span_us = (copy.start_us(), copy.end_us());
            (copy.length, copy.root, span_us)
        });
        let Some((length, Some(root), span_us)) = found else {
            return Ok(());
        };
        let record = Record::Reclaimed {
            id: duplicate.clone(),
            kept,
            length,
            root,
            span_us,
        };
        self.record(duplicate.stream, &record)?;
        self.reclaiming.push(proof);
        Ok(())
    }

    /// A sync succeeded: removes what was noted before it. Returns what is gone.
    pub fn reclaimed(&mut self, now: Duration) -> Vec<Held> {
        let noted = std::mem::take(&mut self.reclaiming);
        noted.iter().filter_map(|proof| self.remove(proof, now)).collect()
    }

    fn remove(&self, proof: &Proof, now: Duration) -> Option<Held> {
        let Pin { duplicate, kept } = proof.pin();
        let removed = self.may_remove(proof, now).map_err(|why| why.to_string());
        let removed = removed.and_then(|()| self.remove_sealed(duplicate).map_err(|e| e.to_string()));
        if let Err(why) = removed {
            tracing::warn!(segment = %duplicate, "a duplicate stays: {why}");
            return None;
        }
        self.shared.peer_pins().remove(duplicate);
        let held = self.shared.catalogue().reclaim(duplicate)?;
        self.shared.metrics.reclaimed_bytes.inc_by(held.length);
        let kept: Vec<String> = kept.iter().map(SegmentId::stem).collect();
        tracing::info!(segment = %duplicate, bytes = held.length, ?kept, "a duplicate was reclaimed");
        Some(held)
    }

    fn may_remove(&self, proof: &Proof, now: Duration) -> Result<(), Stays> {
        let heard = self.shared.pair.hears_peer(now);
        let peer = self.shared.peer_pins();
        let catalogue = self.shared.catalogue();
        may_remove(proof, &catalogue, &peer, heard, |id| self.leaves(id))
    }

    /// Whether retention lets it go.
    fn leaves(&self, id: &SegmentId) -> bool {
        self.leaving.iter().any(|(leaving, _)| leaving == id)
    }
}
