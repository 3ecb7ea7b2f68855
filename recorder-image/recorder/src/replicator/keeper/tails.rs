//! Own segments of dead incarnations: their tails are waited for, and then the recorder seals them (I2).

use segment::SegmentId;

use super::super::hub::{Known, Writer};
use super::Keeper;
use crate::local::ToRecorder;

impl Keeper {
    /// The own segments of dead incarnations are complete when the peer holds no more of them. It cannot have got more of
    /// them since it connected: only from here.
    pub(super) fn look_for_tails(&mut self) {
        if self.replies.is_some() {
            // What came of them counts.
            self.commit();
        }
        if self.replies.is_none() {
            return;
        }
        if std::mem::take(&mut self.early) {
            return self.again("bytes came before the recorder");
        }
        self.tails.clear();
        let partials = self.hub.own_partials();
        self.told
            .retain(|id, _| partials.iter().any(|(own, _)| own == id));
        for (id, end) in partials {
            let length = self.theirs.get(&id).copied().unwrap_or(0);
            if length > end && !self.is_told(&id) {
                self.tails.insert(id, length);
            } else {
                self.tail_complete(id, end);
            }
        }
    }

    /// Whether the recorder that is alive may be sealing an own segment.
    fn is_told(&self, id: &SegmentId) -> bool {
        let told = self.told.get(id);
        told.is_some() && told.copied() == self.hub.alive()
    }

    /// The recorder may seal an own segment that is durable up to `end`: from now on nobody else writes to it.
    pub(super) fn tail_complete(&mut self, id: SegmentId, end: u64) {
        self.tails.remove(&id);
        self.growing.remove(&id);
        if let Some(alive) = self.hub.alive() {
            self.told.insert(id.clone(), alive);
        }
        self.tell(ToRecorder::TailComplete { id, end });
    }

    /// The recorder let go of an own segment without sealing it: the peer may have what is gone.
    pub(super) fn shorter(&mut self, id: &SegmentId, end: u64) {
        if self.told.remove(id).is_none() {
            // It was said before, and the tail grows again perhaps.
            return;
        }
        self.commit();
        self.hub.shrank(id, end);
        self.again("a segment is shorter than it was");
    }

    /// Who may be writing a segment. An own one grows while its tail is waited for; before that was looked at nobody knows, and later
    /// the recorder seals it.
    pub(super) fn writer_of(&self, id: &SegmentId, here: Option<&Known>) -> Writer {
        let writer = self.hub.writer_of(id);
        let is_part = here.is_some_and(|known| known.sealed.is_none());
        let waits = self.tails.contains_key(id);
        if writer != Writer::Elsewhere || id.store != self.hub.store || !is_part || waits {
            return writer;
        }
        if self.is_told(id) {
            Writer::Here
        } else {
            Writer::Unknown
        }
    }
}
