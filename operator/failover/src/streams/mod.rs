//! Which member owns which stream: the holder of the pair's authority owns all, but for those that it delegated.
//!
//! A stream that its owner does not receive well, while the peer does, moves alone. Ownership says which member writes a
//! stream while the other rests, and whose copy is preferred; it never decides whether a frame is recorded: a stream that
//! nobody claims is written by every member that receives it (I7).
//!
//! A member that does not receive a stream because it need not is neither well nor at fault: nothing moves to it before it
//! has shown that it receives it. Nor is one well that does not know the stream yet: of what its peer does not receive, it says what its own
//! recorder did not name, and counts there as idle.
//!
//! A delegation lasts one short leash from the *sending* of the follower's word that the word which names it answers, as
//! authority itself does. The holder counts a stream as its own
//! again when the follower's word, given after the revocation was heard, no longer claims it, or 1.25 leashes after the last word
//! that named the delegation, and it receives the stream; before that it is nobody's. So no two members claim one stream at a time, by
//! the rule that keeps authority itself single (I6). All of it ends with the pair epoch; a member that holds authority anew counts as its own what it delegated before only after the
//! same time.

mod holder;
mod share;
mod side;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lease::millis;
use crate::name::{Epoch, Incarnation};
use crate::time::BootTime;

pub use holder::{AHEAD, CONFIRMED, HELD_OFF, MOST_HELD_OFF, Why};
pub use share::{Listed, Owner, Share};

use holder::Holder;
use side::Side;

/// Why a member does not receive a stream well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// No frame comes.
    Silent,
    /// What comes cannot be understood, or the camera refuses the session.
    Broken,
    /// Frames come, and show what was shown before.
    Frozen,
    /// Frames come, and this member's volume does not take them.
    Unwritable,
}

/// When a stream that moved returns to the holder of authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// After the holder received it well for so long; `None`: only when the other one fails at it.
    pub failback_after: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            failback_after: Some(Duration::from_mins(1)),
        }
    }
}

/// How a member receives its streams, by its recorder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received<K> {
    /// All streams that it has.
    pub known: Vec<K>,
    /// Those that it does not receive well.
    pub faults: Vec<(K, Fault)>,
    /// Those that it does not receive because it need not.
    pub idle: Vec<K>,
}

/// What a member says of streams: all of it each time, at each change and several times a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word<K> {
    /// This start of the sender.
    pub from: Incarnation,
    /// The pair epoch by which it claims streams.
    pub epoch: Epoch,
    /// Counts the sender's words, from 1.
    pub sequence: u64,
    /// The newest word of the receiver that the sender took in, and of which start of it.
    pub heard: Option<(Incarnation, u64)>,
    /// The streams that the sender does not receive well.
    pub faults: Vec<(K, Fault)>,
    /// The streams that the sender does not receive because it need not. Whether it could is not known.
    #[serde(default = "Vec::new")]
    pub idle: Vec<K>,
    /// The streams that the receiver named, because it does not receive them or because it was told here before, and that the sender does not
    /// know: configuration comes to one member first, up to a minute before the other.
    #[serde(default = "Vec::new")]
    pub unknown: Vec<K>,
    /// The streams that the receiver did not know, by its word, and that the sender knows. It may receive them because of that; it names
    /// them, so that the receiver goes on saying so.
    #[serde(default = "Vec::new")]
    pub asked: Vec<K>,
    /// The streams that the sender claims.
    pub share: Share<K>,
    /// For how long what it delegates counts, in milliseconds: its leash. The receiver's own counts where that is shorter.
    #[serde(default)]
    pub leash_ms: Option<u64>,
}

/// What a member knows of authority and the peer at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The epoch that this member holds authority in, where it does.
    pub held: Option<Epoch>,
    /// The highest epoch that it is sure of: words of lower ones count for nothing.
    pub floor: Epoch,
    /// The leash of that authority: whoever takes it waits for so long and a quarter. Nothing without authority.
    pub leash: Duration,
    /// Whether the peer said last that it is fit.
    pub peer_fit: bool,
    /// Whether it is suspected.
    pub peer_suspected: bool,
    /// Whether the peer claims a running deadline.
    pub peer_claims: bool,
}

/// A stream that is with another member than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved<K> {
    /// Which.
    pub stream: K,
    /// Whether the follower owns it now.
    pub to_follower: bool,
    /// Why.
    pub why: Why,
}

/// A stream that the follower owns, for status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Away<K> {
    /// Which.
    pub stream: K,
    /// Why it moved.
    pub why: Why,
    /// Since when.
    pub since: BootTime,
}

/// So many words may be answered; the answer to an older one gives no time.
const SAID: usize = 64;

#[derive(Debug, Clone)]
struct Heard<K> {
    word: Word<K>,
    at: BootTime,
    /// When the newest word was said that the sender is known to have taken in.
    told: Option<BootTime>,
}

/// The streams of one member: words and time in, claims out. It keeps one entry for each stream with a fault or a move,
/// and nothing of the others.
#[derive(Debug, Clone)]
pub struct Streams<K> {
    me: Incarnation,
    policy: Policy,
    leash: Duration,
    /// The streams that this member has. None before its recorder named them.
    known: BTreeSet<K>,
    own: Side<K>,
    peer: Side<K>,
    heard: Option<Heard<K>>,
    sequence: u64,
    /// When the newest words were said.
    said: VecDeque<(u64, BootTime)>,
    /// Until when a delegation counts.
    until: BootTime,
    holder: Option<Holder<K>>,
    /// The book of the newest epoch that this member held and that is over: what it delegated may be claimed yet.
    former: Option<Holder<K>>,
    standing: Standing,
    moves: u64,
}

impl<K: Ord + Copy> Streams<K> {
    /// A member that has heard nothing.
    pub fn new(me: Incarnation, policy: Policy, leash: Duration) -> Self {
        Self {
            me,
            policy,
            leash,
            known: BTreeSet::new(),
            own: Side::default(),
            peer: Side::default(),
            heard: None,
            sequence: 0,
            said: VecDeque::new(),
            until: BootTime(0),
            holder: None,
            former: None,
            standing: Standing {
                held: None,
                floor: Epoch(0),
                leash: Duration::ZERO,
                peer_fit: false,
                peer_suspected: false,
                peer_claims: false,
            },
            moves: 0,
        }
    }

    /// The configuration changed. What was delegated with another leash was counted with that.
    pub fn configure(&mut self, policy: Policy, leash: Duration) {
        (self.policy, self.leash) = (policy, leash);
    }

    /// Until when the peer may claim at the latest what was delegated to it. A shorter leash of authority counts only if whoever waits for
    /// that does not end before.
    pub fn delegated_until(&self) -> BootTime {
        let books = self.holder.iter().chain(&self.former);
        books.map(Holder::delegated_until).max().unwrap_or_default()
    }

    /// How this member receives its streams now.
    pub fn set_received(&mut self, received: Received<K>, now: BootTime) {
        let Received { known, faults, idle } = received;
        self.known = known.into_iter().collect();
        let peers = &self.peer.faults;
        let is_lost = |key: &K| peers.get(key).is_some_and(|(_, since)| *since < now);
        self.own.take_in(faults, idle, now, is_lost);
        self.peer.other_has(&self.own.faults);
    }

    /// The recorder is gone: until the next one names its streams, none is known.
    pub fn recorder_died(&mut self) {
        self.known.clear();
    }

    /// The peer's word came. One that is older than what was heard of this start of the peer counts for nothing.
    pub fn hear(&mut self, word: Word<K>, now: BootTime) {
        let known = self.heard.as_ref().map(|heard| &heard.word);
        if known.is_some_and(|known| known.from == word.from && known.sequence >= word.sequence) {
            return;
        }
        let answered = word.heard.filter(|(from, _)| *from == self.me);
        let said = answered.and_then(|(_, sequence)| self.said.iter().find(|(known, _)| *known == sequence));
        let before = self.heard.as_ref().filter(|heard| heard.word.from == word.from);
        let told = said.map(|(_, at)| *at).or(before.and_then(|heard| heard.told));
        let leash = word
            .leash_ms
            .map_or(self.leash, |ms| self.leash.min(Duration::from_millis(ms)));
        // What this word delegates the holder counts by this leash: a longer one of an older word is nothing to it.
        self.until = told.map_or(BootTime(0), |at| at + leash);
        let own = &self.own.faults;
        // One that was not told of this member's fault has just started, and says nothing of the stream yet.
        let is_lost = |key: &K| {
            own.get(key)
                .is_some_and(|(_, since)| *since < now && told >= Some(*since))
        };
        let idle = word.idle.iter().chain(&word.unknown).copied();
        self.peer.take_in(word.faults.iter().copied(), idle, now, is_lost);
        self.own.other_has(&self.peer.faults);
        self.heard = Some(Heard { word, at: now, told });
    }

    /// Time passed, or something was learned. Says what moved; nothing moves on a member without authority.
    pub fn advance(&mut self, now: BootTime, standing: Standing) -> Vec<Moved<K>> {
        self.standing = standing;
        if let Some(ended) = self
            .holder
            .take_if(|holder| standing.held != Some(holder.epoch()))
        {
            self.former = Some(ended.ended());
        }
        let Some(epoch) = standing.held else {
            return Vec::new();
        };
        let former = &mut self.former;
        let holder = self
            .holder
            .get_or_insert_with(|| Holder::new(epoch, former.take()));
        let answered = self.heard.as_ref().filter(|heard| heard.word.epoch == epoch);
        holder.settle(now, self.me, answered.map(|heard| &heard.word), &self.own);
        let moved = holder.decide(&holder::Seen {
            now,
            own: &self.own,
            peer: &self.peer,
            told: answered.and_then(|heard| heard.told),
            peer_hears: standing.peer_fit && answered.is_some_and(|heard| now < heard.at + self.leash),
            peer_suspected: standing.peer_suspected,
            policy: self.policy,
        });
        self.moves += moved.len() as u64;
        moved
    }

    /// What this member claims now.
    pub fn share(&self, now: BootTime) -> Share<K> {
        match (&self.holder, &self.heard) {
            (Some(holder), _) => holder.share(),
            (None, Some(heard)) if self.delegates(heard, now) => heard.word.share.delegated(),
            _ => Share::nothing(),
        }
    }

    /// Until when the claims of [`Self::share`] hold without another word; `None` where authority says so.
    pub fn until(&self) -> Option<BootTime> {
        self.holder.is_none().then_some(self.until)
    }

    /// A holder's word counts while it answers a word of this member that is younger than a leash, in its epoch.
    fn delegates(&self, heard: &Heard<K>, now: BootTime) -> bool {
        heard.word.share.holder && heard.word.epoch >= self.standing.floor && now < self.until
    }

    /// What the peer claims now. One that claims authority and was not heard to delegate claims all.
    pub fn peer_share(&self, now: BootTime) -> Share<K> {
        let word = self.heard.as_ref().map(|heard| &heard.word);
        if let Some(holder) = &self.holder {
            let fresh = self.heard.as_ref().filter(|heard| now < heard.at + self.leash);
            let claims = fresh.map(|heard| &heard.word);
            return claims
                .filter(|word| word.epoch == holder.epoch() && !word.share.holder)
                .map_or_else(Share::nothing, |word| holder.granted(&word.share));
        }
        if !self.standing.peer_claims {
            return Share::nothing();
        }
        let current = word.filter(|word| word.share.holder && word.epoch >= self.standing.floor);
        current.map_or_else(Share::everything, |word| word.share.clone())
    }

    /// What to say to the peer now. Each call makes a new word.
    pub fn word(&mut self, now: BootTime) -> Word<K> {
        self.sequence += 1;
        if self.said.len() == SAID {
            self.said.pop_front();
        }
        self.said.push_back((self.sequence, now));
        let share = self.share(now);
        let mut leash = self.leash;
        if let Some(holder) = &mut self.holder {
            leash = leash.min(self.standing.leash);
            holder.said(self.sequence, now, leash);
        }
        let heard = self.heard.as_ref().map(|heard| &heard.word);
        Word {
            from: self.me,
            epoch: match &self.holder {
                Some(holder) => holder.epoch(),
                None => heard.map_or(self.standing.floor, |word| word.epoch.max(self.standing.floor)),
            },
            sequence: self.sequence,
            heard: heard.map(|word| (word.from, word.sequence)),
            faults: self
                .own
                .faults
                .iter()
                .map(|(key, (fault, _))| (*key, *fault))
                .collect(),
            idle: self.own_idle().collect(),
            unknown: self.own_unknown().collect(),
            asked: self.own_asked().collect(),
            share,
            leash_ms: Some(millis(leash)),
        }
    }

    /// The streams that this member does not receive well.
    pub fn own_faults(&self) -> impl Iterator<Item = K> {
        self.own.faults.keys().copied()
    }

    /// The streams that this member does not receive because it need not.
    pub fn own_idle(&self) -> impl Iterator<Item = K> {
        self.own.idle.iter().copied()
    }

    /// The streams that the peer names and that this member does not know. Once neither knows one, neither names it.
    pub fn own_unknown(&self) -> impl Iterator<Item = K> {
        let word = self.heard.as_ref().map(|heard| &heard.word);
        let named = word.into_iter().flat_map(|word| {
            let faults = word.faults.iter().map(|(key, _)| key);
            faults.chain(&word.idle).chain(&word.asked).copied()
        });
        named.filter(|key| !self.known.contains(key))
    }

    /// The streams that this member knows and that the peer does not, by its word.
    pub fn own_asked(&self) -> impl Iterator<Item = K> {
        let word = self.heard.as_ref().map(|heard| &heard.word);
        let unknown = word.into_iter().flat_map(|word| word.unknown.iter().copied());
        unknown.filter(|key| self.known.contains(key))
    }

    /// The streams that the peer does not receive well, or not at all because it need not or does not know them, by its word.
    pub fn not_with_peer(&self) -> impl Iterator<Item = K> {
        self.peer.faults.keys().chain(&self.peer.idle).copied()
    }

    /// The streams that the follower owns, as the holder knows.
    pub fn away(&self) -> Vec<Away<K>> {
        self.holder.as_ref().map_or_else(Vec::new, Holder::away)
    }

    /// How many moves this member decided since it started.
    pub fn moves(&self) -> u64 {
        self.moves
    }
}
