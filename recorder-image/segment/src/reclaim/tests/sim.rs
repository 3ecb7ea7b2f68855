//! Two members, in random schedules: they propose, adopt, pin, freeze between a check and an act, crash, lose what was not synced;
//! copies arrive late, rot, and leave by retention; peers lie about their pins. Oracle: nothing but rot and retention ever takes
//! a frame from a volume, and what a durable pin keeps is never reclaimed. A frame is known by its time, so that a static scene,
//! whose hashes repeat, is no way out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::ledger::Record;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, of: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % of
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len().max(1) as u64) as usize)
    }
}

/// What two writers recorded of the same twenty seconds: segments of a few seconds, with static stretches, lost frames and a
/// clock that is late.
fn recorded(rng: &mut Rng) -> Vec<Copy> {
    let scenes: Vec<u8> = (0..20).map(|s| if rng.below(4) == 0 { 200 } else { s }).collect();
    let mut copies = Vec::new();
    for store in [1_u128, 2] {
        let (late_us, lossy) = (rng.below(400_000) as i64, rng.below(4) == 0);
        let (mut at, mut sequence) = (rng.below(8) as i64, 0);
        while at < 20 {
            let end = (at + 1 + rng.below(6) as i64).min(20);
            let groups: Vec<Group> = (at..end)
                .map(|second| {
                    let mut whole = group(second, 0..FRAMES);
                    (whole.late_us, whole.scene) = (late_us, scenes[second as usize]);
                    if lossy && rng.below(6) == 0 {
                        whole.frames.remove(1 + rng.below(24) as usize);
                    }
                    whole
                })
                .collect();
            let mut sealed = copy(id(store, sequence), &groups);
            sealed.header.pair_epoch = rng.below(2);
            sealed.header.owner = rng.below(2) == 0;
            copies.push(sealed);
            sequence += 1;
            at = end + if rng.below(3) == 0 { rng.below(5) as i64 } else { 0 };
        }
    }
    copies
}

/// The time and the number of each frame of a copy.
fn frames(copy: &Copy) -> impl Iterator<Item = (i64, u8)> {
    let index = copy.index.as_ref().unwrap();
    let mut hashes = index.hashes.iter();
    index.fragments.iter().flat_map(move |fragment| {
        let second = fragment.start_us / 1_000_000;
        let of = hashes.by_ref().take(fragment.frames as usize);
        of.map(|hash| (second, hash[0])).collect::<Vec<_>>()
    })
}

#[derive(Default)]
struct Member {
    disk: BTreeMap<SegmentId, Copy>,
    catalogue: Catalogue,
    ledger: Vec<Record>,
    unsynced: Vec<Record>,
    peer: PeerPins,
    /// What it read before it froze.
    proof: Option<Proof>,
    removing: Option<Proof>,
    evicted: BTreeSet<SegmentId>,
}

impl Member {
    fn held(&self) -> BTreeSet<(i64, u8)> {
        self.disk.values().flat_map(frames).collect()
    }

    fn receive(&mut self, copy: Copy) {
        self.disk.insert(copy.id().clone(), copy.clone());
        self.catalogue.upsert(copy);
    }

    fn write_pin(&mut self, pin: Pin) {
        let received_s = self.disk.get(&pin.duplicate).map_or(0, |copy| copy.received_s);
        if self.catalogue.pin(pin.clone(), received_s) {
            let Pin { duplicate, kept } = pin;
            self.unsynced.push(Record::Pinned {
                duplicate,
                kept,
                received_s,
            });
        }
    }

    fn propose(&mut self) {
        let Some(stream) = self.catalogue.stream(STREAM) else {
            return;
        };
        for (_, id) in due(stream, i64::MIN, i64::MAX - 1) {
            if let Some(kept) = judged(&self.catalogue, &id) {
                self.write_pin(pin(&id, &kept.iter().collect::<Vec<_>>()));
            }
        }
    }

    fn adopt(&mut self) {
        for pin in self.peer.iter().collect::<Vec<_>>() {
            if judged(&self.catalogue, &pin.duplicate).as_ref() == Some(&pin.kept) {
                self.write_pin(pin);
            }
        }
    }

    /// Returns what the peer is told.
    fn sync(&mut self) -> Vec<Pin> {
        self.ledger.append(&mut self.unsynced);
        let told = self.catalogue.pins_synced();
        if let Some(proof) = self.removing.take()
            && may_remove(&proof, &self.catalogue, &self.peer, true, |_| false).is_ok()
        {
            let gone = &proof.pin().duplicate;
            assert!(!self.is_kept(gone), "what a durable pin keeps is reclaimed");
            self.disk.remove(gone);
            self.catalogue.reclaim(gone);
        }
        told
    }

    fn is_kept(&self, id: &SegmentId) -> bool {
        self.ledger.iter().any(|record| match record {
            Record::Pinned { kept, .. } => {
                kept.contains(id) && kept.iter().all(|id| self.disk.contains_key(id))
            }
            _ => false,
        })
    }

    fn read(&mut self, rng: &mut Rng) {
        let pins = self.catalogue.durable_pins();
        let here = |pin: &&Pin| {
            let mut all = std::iter::once(&pin.duplicate).chain(&pin.kept);
            all.all(|id| self.disk.contains_key(id))
        };
        let pins: Vec<&Pin> = pins.iter().filter(here).collect();
        let pin = rng.of(&pins).map(|pin| Pin::clone(pin));
        self.proof = pin.map(|pin| Proof::of(pin, |id| (&self.disk[id], "avc1", 0)));
    }

    fn act(&mut self) {
        let Some(proof) = self.proof.take() else { return };
        if may_remove(&proof, &self.catalogue, &self.peer, true, |_| false).is_ok() {
            let (pin, copy) = (proof.pin().clone(), &self.disk[&proof.pin().duplicate]);
            self.unsynced.push(Record::Reclaimed {
                id: pin.duplicate,
                kept: pin.kept,
                length: copy.length,
                root: copy.root.unwrap(),
                span_us: (copy.start_us(), copy.end_us()),
            });
            self.removing = Some(proof);
        }
    }

    /// Some of what was not synced is in the ledger all the same.
    fn crash(&mut self, rng: &mut Rng) {
        let kept = rng.below(self.unsynced.len() as u64 + 1) as usize;
        self.ledger.extend(self.unsynced.drain(..kept));
        let evicted = std::mem::take(&mut self.evicted);
        let mut again = Self {
            disk: std::mem::take(&mut self.disk),
            ledger: std::mem::take(&mut self.ledger),
            evicted,
            ..Self::default()
        };
        again
            .disk
            .values()
            .for_each(|copy| again.catalogue.upsert(copy.clone()));
        again
            .ledger
            .iter()
            .for_each(|record| again.catalogue.apply(STREAM, record.clone()));
        again.catalogue.stream_mut(STREAM).settle_pins();
        *self = again;
    }

    fn evict(&mut self, rng: &mut Rng) {
        let ids: Vec<SegmentId> = self.disk.keys().cloned().collect();
        if let Some(id) = rng.of(&ids) {
            self.disk.remove(id);
            self.catalogue.evict(id, 0);
            self.evicted.insert(id.clone());
        }
    }

    /// A file rots: what was read of it before is worth nothing.
    fn rot(&mut self, rng: &mut Rng) {
        let ids: Vec<SegmentId> = self.disk.keys().cloned().collect();
        let copy = rng.of(&ids).and_then(|id| self.disk.get_mut(id));
        if let Some(copy) = copy {
            let index = copy.index.as_mut().unwrap();
            index.hashes.pop();
            index.fragments.last_mut().unwrap().frames -= 1;
            copy.root = Some([rng.below(256) as u8; 32]);
            (self.proof, self.removing) = (None, None);
        }
    }
}

/// What happened in all schedules.
#[derive(Debug, Default)]
struct Account {
    reclaimed: usize,
    pinned: usize,
    lied: usize,
}

fn step(rng: &mut Rng, members: &mut [Member; 2], links: &mut [VecDeque<Pin>; 2], lies: bool) -> bool {
    let i = rng.below(2) as usize;
    match rng.below(40) {
        0..4 => members[i].propose(),
        4..8 => members[i].adopt(),
        8..14 => links[1 - i].extend(members[i].sync()),
        14..20 => {
            members[i].peer.hear(links[i].drain(..));
        }
        20..26 => members[i].read(rng),
        26..32 => members[i].act(),
        32 => members[i].crash(rng),
        33 => {
            // The connection is made again: all that is durable is told anew.
            links[i].clear();
            members[i].peer.clear();
            links[i].extend(members[1 - i].catalogue.durable_pins());
        }
        34..36 => {
            let lacks = |copy: &&Copy| {
                let reclaimed = &members[i].catalogue.stream(STREAM).map(|s| &s.reclaimed);
                let gone = reclaimed.is_some_and(|gone| gone.contains_key(copy.id()));
                !members[i].disk.contains_key(copy.id()) && !gone && !members[i].evicted.contains(copy.id())
            };
            let late: Vec<Copy> = members[1 - i].disk.values().filter(lacks).cloned().collect();
            // A rotten copy is refused (I4).
            let sound = |copy: &&Copy| {
                members[1 - i]
                    .catalogue
                    .get(copy.id())
                    .is_some_and(|c| c.root == copy.root)
            };
            let late: Vec<Copy> = late.iter().filter(sound).cloned().collect();
            if let Some(copy) = rng.of(&late) {
                members[i].receive(copy.clone());
            }
        }
        36 if lies => {
            let ids: Vec<SegmentId> = members[i].disk.keys().cloned().collect();
            if let (Some(duplicate), Some(kept)) = (rng.of(&ids).cloned(), rng.of(&ids).cloned()) {
                members[i].peer.hear([pin(&duplicate, &[&kept])]);
            }
        }
        37 => {
            members[i].rot(rng);
            return true;
        }
        38 => {
            members[i].evict(rng);
            return true;
        }
        _ => {}
    }
    false
}

fn schedule(seed: u64, account: &mut Account) {
    let mut rng = Rng(seed);
    let lies = rng.below(2) == 0;
    let (mut members, mut links): ([Member; 2], [VecDeque<Pin>; 2]) = Default::default();
    for copy in recorded(&mut rng) {
        let writer = (copy.id().store.as_u128() - 1) as usize;
        members[writer].receive(copy.clone());
        if rng.below(5) > 0 {
            members[1 - writer].receive(copy);
        }
    }
    for n in 0..400 {
        let before = [members[0].held(), members[1].held()];
        let takes = step(&mut rng, &mut members, &mut links, lies);
        for (member, before) in members.iter().zip(&before) {
            let lost: Vec<_> = before.difference(&member.held()).copied().collect();
            assert!(
                takes || lost.is_empty(),
                "seed {seed}, step {n}: frames {lost:?} are gone"
            );
        }
    }
    account.lied += usize::from(lies);
    for member in &members {
        account.pinned += member.catalogue.durable_pins().len();
        account.reclaimed += member.catalogue.reclaimed().count();
    }
}

#[test]
fn no_schedule_takes_the_last_copy_of_a_frame() {
    let mut account = Account::default();
    for seed in 0..400 {
        schedule(seed, &mut account);
    }
    println!("{account:?}");
    assert!(
        account.reclaimed > 200 && account.pinned > 200 && account.lied > 100,
        "{account:?}"
    );
}

#[test]
fn two_members_that_hear_each_other_reclaim_every_duplicate() {
    let mut rng = Rng(1);
    let (mut members, mut links): ([Member; 2], [VecDeque<Pin>; 2]) = Default::default();
    for member in &mut members {
        member.receive(copy(id(1, 0), &seconds(0..6)));
        member.receive(copy(id(1, 1), &seconds(6..12)));
        member.receive(copy(id(2, 0), &seconds(3..5)));
        member.receive(copy(id(2, 1), &seconds(5..9)));
    }
    members[0].propose();
    for _ in 0..20 {
        for i in [0, 1] {
            links[1 - i].extend(members[i].sync());
            members[i].peer.hear(links[i].drain(..));
            members[i].adopt();
            members[i].read(&mut rng);
            members[i].act();
        }
    }
    for member in &mut members {
        let left: Vec<&SegmentId> = member.disk.keys().collect();
        assert_eq!(left, [&id(1, 0), &id(1, 1)]);
        member.crash(&mut rng);
        let gone: Vec<&SegmentId> = member.catalogue.reclaimed().map(|held| &held.id).collect();
        assert_eq!(gone, [&id(2, 0), &id(2, 1)], "and that is known after a restart");
        assert!(member.catalogue.stream(STREAM).unwrap().pins.keeps(&id(1, 0)));
    }
}
