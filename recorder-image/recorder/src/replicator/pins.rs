//! Which of this member's pins the peer was told on a connection. Each of them once, and none to a peer that does not know the word.

use std::collections::BTreeSet;

use segment::SegmentId;
use segment::inventory::Held;
use segment::reclaim::Pin;

use super::hub::Hub;
use crate::wire::PINS_PAGE;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Whether the peer takes pins.
    takes: bool,
    /// Duplicates whose pins it was told, or that it reclaimed already.
    told: BTreeSet<SegmentId>,
    version: u64,
}

impl Telling {
    /// A peer that holds this.
    pub(super) fn to(takes: bool, held: &[Held]) -> Self {
        let reclaimed = held.iter().filter(|held| held.reclaimed);
        Self {
            takes,
            told: reclaimed.map(|held| held.id.clone()).collect(),
            version: 0,
        }
    }

    /// What is to be told now, by messages.
    pub(super) fn pages(&mut self, hub: &Hub) -> Vec<Vec<Pin>> {
        let Some((version, mut pins)) = hub.pins_since(self.version).filter(|_| self.takes) else {
            return Vec::new();
        };
        self.version = version;
        pins.retain(|pin| self.told.insert(pin.duplicate.clone()));
        pins.chunks(PINS_PAGE).map(<[Pin]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use segment::Catalogue;
    use uuid::Uuid;

    use super::*;

    fn id(sequence: u64) -> SegmentId {
        SegmentId {
            stream: Uuid::nil(),
            store: Uuid::nil(),
            member: "front-0".into(),
            incarnation: 1,
            sequence,
        }
    }

    fn pin(sequence: u64) -> Pin {
        Pin {
            duplicate: id(sequence),
            kept: vec![id(1_000_000)],
        }
    }

    #[test]
    fn each_pin_is_told_once_and_only_to_a_peer_that_knows_the_word() {
        let hub = Hub::new(Uuid::nil(), &Catalogue::default());
        let reclaimed = Held {
            id: id(7),
            length: 1,
            root: None,
            span_us: None,
            reclaimed: true,
        };
        let mut knows = Telling::to(true, &[reclaimed]);
        let mut older = Telling::to(false, &[]);
        hub.pinned((0..300).map(pin).collect());
        let pages = knows.pages(&hub);
        let told: Vec<&Pin> = pages.iter().flatten().collect();
        assert!(pages.iter().all(|page| page.len() <= PINS_PAGE));
        assert_eq!(told.len(), 299, "all but the one that is gone there");
        assert!(!told.contains(&&pin(7)));
        assert_eq!(knows.pages(&hub), Vec::<Vec<Pin>>::new());
        hub.forget_pins();
        hub.pinned(vec![pin(5), pin(300)]);
        assert_eq!(knows.pages(&hub), [[pin(300)]]);
        assert_eq!(older.pages(&hub), Vec::<Vec<Pin>>::new());
    }
}
