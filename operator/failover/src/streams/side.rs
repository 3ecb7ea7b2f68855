//! How one member receives its streams, and since when it counts that it receives one again which the other member does not.

use std::collections::{BTreeMap, BTreeSet};

use super::Fault;
use super::holder::{AHEAD, CONFIRMED};
use crate::time::BootTime;

/// Faults, and since when each lasts.
pub(super) type Faults<K> = BTreeMap<K, (Fault, BootTime)>;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Side<K> {
    pub(super) faults: Faults<K>,
    /// What it does not receive because it need not.
    pub(super) idle: BTreeSet<K>,
    /// From when on it counts that it is well again at what the other member still does not receive.
    pub(super) again: BTreeMap<K, BootTime>,
    /// The faults of streams that it was idle at just before: it only begins to receive them.
    woke: BTreeSet<K>,
}

impl<K> Default for Side<K> {
    fn default() -> Self {
        Self {
            faults: BTreeMap::new(),
            idle: BTreeSet::new(),
            again: BTreeMap::new(),
            woke: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> Side<K> {
    /// What it receives now. `is_lost` says what the other member did not receive either all the while: there, who is well first may only
    /// be the first to have a key frame.
    pub(super) fn take_in(
        &mut self,
        faults: impl IntoIterator<Item = (K, Fault)>,
        idle: impl IntoIterator<Item = K>,
        now: BootTime,
        is_lost: impl Fn(&K) -> bool,
    ) {
        let before = std::mem::take(&mut self.faults);
        let rested = std::mem::replace(&mut self.idle, idle.into_iter().collect());
        self.faults = carried(&before, faults, now);
        for (key, (_, since)) in &before {
            if !self.faults.contains_key(key) && !self.idle.contains(key) && is_lost(key) {
                let counts = self.counts_from(key, *since, now);
                self.again.insert(*key, counts);
            }
        }
        let woke = |key: &&K| rested.contains(*key) || self.woke.contains(*key);
        self.woke = self.faults.keys().filter(woke).copied().collect();
    }

    /// Whether it receives a stream, as far as it says.
    pub(super) fn receives(&self, key: &K) -> bool {
        !self.faults.contains_key(key) && !self.idle.contains(key)
    }

    /// From when on it counts that a fault ended that lasted since then.
    fn counts_from(&self, key: &K, since: BootTime, now: BootTime) -> BootTime {
        // One that was idle lost nothing. It connects and waits for a key frame, unless that takes too long.
        let began = self.woke.contains(key) && now < since + AHEAD;
        match self.again.get(key) {
            _ if began => now + CONFIRMED,
            // It was well before, during the same fault of the other one, and failed again for a while.
            Some(due) => (*due).max(now + CONFIRMED),
            None => now + AHEAD,
        }
    }

    /// The other member has these faults now.
    pub(super) fn other_has(&mut self, faults: &Faults<K>) {
        self.again.retain(|key, _| faults.contains_key(key));
    }
}

/// Faults that last keep the moment at which they began, also where their kind changes.
fn carried<K: Ord + Copy>(
    before: &Faults<K>,
    faults: impl IntoIterator<Item = (K, Fault)>,
    now: BootTime,
) -> Faults<K> {
    let since = |key: &K| before.get(key).map_or(now, |(_, since)| *since);
    faults
        .into_iter()
        .map(|(key, fault)| (key, (fault, since(&key))))
        .collect()
}
