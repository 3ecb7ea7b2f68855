//! The holder's book of delegations.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::side::Side;
use super::{Away, Fault, Listed, Moved, Owner, Policy, Share, Word};
use crate::name::{Epoch, Incarnation};
use crate::time::BootTime;

/// For so long the owner alone has to be blind before its stream moves: a camera that both members lose at almost the same time
/// moves nothing. Both write meanwhile.
pub const CONFIRMED: Duration = Duration::from_secs(1);
/// Where both are blind, the one that receives the camera again is ahead for so long before that counts as better off: the other one may
/// have an open session, and wait for a key frame. Groups of pictures are four seconds long at most where they are usual. One that fails
/// again meanwhile is ahead all the same once it receives it for [`CONFIRMED`]. One that was idle before was not blind: it only begins.
pub const AHEAD: Duration = Duration::from_secs(5);
/// After a move a stream stays for so long at least; doubled by each further move, up to [`MOST_HELD_OFF`].
pub const HELD_OFF: Duration = Duration::from_secs(2);
/// The longest time that a stream stays whatever its owner's faults. After twice as long without a move it counts anew.
pub const MOST_HELD_OFF: Duration = Duration::from_mins(5);

/// Why a stream moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// Its owner did not receive it well, and the other did.
    Fault(Fault),
    /// The follower is not heard.
    FollowerSilent,
    /// The holder received it well for as long as the policy asks.
    Returned,
}

/// What the holder decides by.
#[derive(Debug)]
pub(super) struct Seen<'a, K> {
    pub(super) now: BootTime,
    /// How the holder receives streams.
    pub(super) own: &'a Side<K>,
    /// How the follower does, by its word.
    pub(super) peer: &'a Side<K>,
    /// When the word was said that the follower's answers.
    pub(super) told: Option<BootTime>,
    /// The peer is fit, and said something in this epoch within a leash.
    pub(super) peer_hears: bool,
    /// The peer is silent for longer than it usually is.
    pub(super) peer_suspected: bool,
    pub(super) policy: Policy,
}

/// Where a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// With the holder.
    Here,
    /// With the follower, which claims it until then at the latest; `well` is since when the holder receives it well.
    There { until: BootTime, well: Option<BootTime> },
    /// On its way back: until a word with at least this number was heard and is not contradicted, or this moment.
    Settling { until: BootTime, after: u64 },
    /// The follower gave it up, and the holder does not receive it. If it claimed it, a follower that rests would let go of the camera.
    Nobody,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    place: Place,
    epoch: u64,
    why: Why,
    since: BootTime,
    moves: u32,
}

impl Entry {
    /// Until when it stays where it is.
    fn held_off(&self) -> BootTime {
        let doublings = self.moves.saturating_sub(1).min(16);
        self.since + (HELD_OFF * 2_u32.pow(doublings)).min(MOST_HELD_OFF)
    }

    /// It is the holder's again once the follower gave it up, after it heard of that in a word after `said`.
    fn revoke(&mut self, said: u64) {
        if let Place::There { until, .. } = self.place {
            self.place = Place::Settling { until, after: said };
        }
    }
}

/// The book of one pair epoch.
#[derive(Debug, Clone)]
pub(super) struct Holder<K> {
    epoch: Epoch,
    entries: BTreeMap<K, Entry>,
    /// The number of the newest word that was said.
    said: u64,
}

/// What is known of one stream when it is decided on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) now: BootTime,
    /// Where it is; with nobody nothing is decided.
    pub(super) place: Place,
    /// It moves for no fault before this.
    pub(super) held_off: BootTime,
    /// The holder's fault, and since when it lasts.
    pub(super) own: Option<(Fault, BootTime)>,
    /// From when on it counts that the holder receives it again, where its fault ended during the follower's.
    pub(super) own_again: Option<BootTime>,
    /// Whether it does not receive the stream because it need not.
    pub(super) idle: bool,
    /// The follower's.
    pub(super) peers: Option<(Fault, BootTime)>,
    pub(super) peer_again: Option<BootTime>,
    pub(super) peer_idle: bool,
    /// The follower was told of the holder's fault before it said how it receives the stream.
    pub(super) peer_told: bool,
    pub(super) peer_hears: bool,
    pub(super) peer_suspected: bool,
    pub(super) policy: Policy,
}

/// Whether a stream moves, and why: a pure table.
pub(super) fn decide(case: &Case) -> Option<Why> {
    let lasted = |fault: Option<(Fault, BootTime)>, other_again: Option<BootTime>| {
        // One that became well during the fault may only be the first to receive the camera again.
        let due = (fault?.1 + CONFIRMED).max(other_again.unwrap_or_default());
        fault.filter(|_| case.now >= due.max(case.held_off))
    };
    let can_take = case.peer_hears && case.peer_told && !case.peer_suspected;
    match case.place {
        Place::Settling { .. } => None,
        Place::Here | Place::Nobody if !can_take => None,
        // Where both are blind, nobody is better off. Whether one that is idle would be is not known.
        Place::Here | Place::Nobody if case.peers.is_some() || case.peer_idle => None,
        Place::Here => lasted(case.own, case.peer_again).map(|(fault, _)| Why::Fault(fault)),
        Place::Nobody => case.own.map(|(fault, _)| Why::Fault(fault)),
        // A suspicion may be over in a moment, and to come back costs a member at rest its session.
        Place::There { .. } if !case.peer_hears => Some(Why::FollowerSilent),
        Place::There { .. } if case.own.is_some() || case.idle => None,
        Place::There { well, .. } => {
            let fault = lasted(case.peers, case.own_again).map(|(fault, _)| Why::Fault(fault));
            let quiet = case.policy.failback_after.zip(well);
            let returned = quiet.is_some_and(|(after, well)| case.now >= well + after);
            fault.or(returned.then_some(Why::Returned))
        }
    }
}

impl<K: Ord + Copy> Holder<K> {
    /// The book of an epoch, after that of another one which [`Self::ended`].
    pub(super) fn new(epoch: Epoch, former: Option<Self>) -> Self {
        let (entries, said) = former.map_or_else(Default::default, |former| (former.entries, former.said));
        Self { epoch, entries, said }
    }

    /// The epoch is over: what was delegated in it is on its way back.
    pub(super) fn ended(mut self) -> Self {
        self.entries.retain(|_, entry| entry.place != Place::Here);
        for entry in self.entries.values_mut() {
            entry.epoch += 1;
            entry.revoke(self.said);
        }
        self
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Until when the follower may claim anything at the latest.
    pub(super) fn delegated_until(&self) -> BootTime {
        let until = |entry: &Entry| match entry.place {
            Place::There { until, .. } | Place::Settling { until, .. } => until,
            Place::Here | Place::Nobody => BootTime(0),
        };
        self.entries.values().map(until).max().unwrap_or_default()
    }

    /// Ends revocations: by the follower's word after it heard of them, or by time. What the holder does not receive then is nobody's.
    pub(super) fn settle(&mut self, now: BootTime, me: Incarnation, word: Option<&Word<K>>, own: &Side<K>) {
        for (stream, entry) in &mut self.entries {
            if let Place::Settling { until, after } = entry.place {
                let given_up = word.is_some_and(|word| {
                    word.heard.is_some_and(|(of, heard)| of == me && heard > after)
                        && !word.share.claims(*stream)
                });
                if given_up || now >= until {
                    entry.place = Place::Nobody;
                }
            }
            if entry.place == Place::Nobody && own.receives(stream) {
                entry.place = Place::Here;
            }
        }
    }

    /// Moves what is to move.
    pub(super) fn decide(&mut self, seen: &Seen<'_, K>) -> Vec<Moved<K>> {
        self.forget(seen.now);
        let blind = seen.own.faults.keys();
        let mut keys: Vec<K> = self.entries.keys().chain(blind).copied().collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter()
            .filter_map(|key| self.consider(key, seen))
            .collect()
    }

    /// An entry that is at home keeps its epoch for ever, but not the count of its moves.
    fn forget(&mut self, now: BootTime) {
        for entry in self.entries.values_mut() {
            if now >= entry.since + MOST_HELD_OFF * 2 {
                entry.moves = 0;
            }
        }
    }

    fn consider(&mut self, stream: K, seen: &Seen<'_, K>) -> Option<Moved<K>> {
        let [own, peers] = [seen.own, seen.peer].map(|side| side.faults.get(&stream).copied());
        let [own_again, peer_again] = [seen.own, seen.peer].map(|side| side.again.get(&stream).copied());
        let [idle, peer_idle] = [seen.own, seen.peer].map(|side| side.idle.contains(&stream));
        if let Some(Entry {
            place: Place::There { well, .. },
            ..
        }) = self.entries.get_mut(&stream)
        {
            *well = (own.is_none() && !idle).then(|| well.unwrap_or(seen.now));
        }
        let entry = self.entries.get(&stream);
        let why = decide(&Case {
            now: seen.now,
            place: entry.map_or(Place::Here, |entry| entry.place),
            held_off: entry.map_or(BootTime(0), Entry::held_off),
            own,
            own_again,
            idle,
            peers,
            peer_again,
            peer_idle,
            peer_told: own.is_none_or(|(_, since)| seen.told >= Some(since)),
            peer_hears: seen.peer_hears,
            peer_suspected: seen.peer_suspected,
            policy: seen.policy,
        })?;
        let place = entry.map_or(Place::Here, |entry| entry.place);
        let to_follower = matches!(place, Place::Here | Place::Nobody);
        // The silence of the follower, and its end, say nothing of the stream.
        let counts = why != Why::FollowerSilent && place != Place::Nobody;
        let mut next = Entry {
            place: Place::There {
                until: seen.now,
                well: None,
            },
            epoch: entry.map_or(0, |entry| entry.epoch) + 1,
            why,
            since: seen.now,
            moves: entry.map_or(0, |entry| entry.moves) + u32::from(counts),
        };
        if !to_follower {
            next.place = place;
            next.revoke(self.said);
        }
        self.entries.insert(stream, next);
        Some(Moved {
            stream,
            to_follower,
            why,
        })
    }

    /// A word goes out: the follower may act on what it names for a leash from now on.
    pub(super) fn said(&mut self, sequence: u64, now: BootTime, leash: Duration) {
        self.said = sequence;
        for entry in self.entries.values_mut() {
            if let Place::There { until, .. } = &mut entry.place {
                // Two clocks' rates differ by a ratio of at most 1.2.
                *until = (*until).max(now + leash * 5 / 4);
            }
        }
    }

    pub(super) fn share(&self) -> Share<K> {
        let owner = |place: Place| match place {
            Place::Here => Owner::Holder,
            Place::There { .. } => Owner::Follower,
            Place::Settling { .. } | Place::Nobody => Owner::Nobody,
        };
        let listed = self.entries.iter().map(|(stream, entry)| Listed {
            stream: *stream,
            epoch: entry.epoch,
            owner: owner(entry.place),
        });
        Share {
            holder: true,
            listed: listed.collect(),
        }
    }

    /// What of a follower's claims was delegated to it and not revoked since.
    pub(super) fn granted(&self, claims: &Share<K>) -> Share<K> {
        let mine = self.share().delegated();
        let listed = mine
            .listed
            .into_iter()
            .filter(|own| claims.listed.contains(own))
            .collect();
        Share {
            holder: false,
            listed,
        }
    }

    pub(super) fn away(&self) -> Vec<Away<K>> {
        let there = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.place, Place::There { .. }));
        there
            .map(|(stream, entry)| Away {
                stream: *stream,
                why: entry.why,
                since: entry.since,
            })
            .collect()
    }
}
