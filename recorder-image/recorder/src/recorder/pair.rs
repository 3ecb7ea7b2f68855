//! What the replicator told about authority and the peer. Both end by themselves when it falls silent.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use segment::sabotage::{Invariant::I6, Invariant::I9, breaks};

use super::decide::PeerView;
use crate::local::{Authority, Owned, Peer, Role, StreamUid};

/// The replicator speaks of the peer at least every 500 ms; after this silence the peer counts as not heard.
const SILENCE: Duration = Duration::from_millis(1500);

#[derive(Debug, Default)]
struct State {
    authority: Option<Authority>,
    owned: Owned,
    peer: Option<(Duration, Peer)>,
    /// Since when the replicator speaks of the peer.
    listens: Option<Duration>,
}

/// What a word about the peer changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Whether it changed anything.
    pub any: bool,
    /// The streams that the peer did not receive by the word before, and does now: their cameras answer.
    pub received_again: Vec<StreamUid>,
}

/// Under which epochs this member writes a stream, and whether it owns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The pair's epoch.
    pub pair_epoch: u64,
    /// The stream's under it.
    pub stream_epoch: u64,
    /// Whether this member owns the stream.
    pub owner: bool,
}

/// See the module. Times are on `CLOCK_BOOTTIME`.
#[derive(Debug, Default)]
pub struct Pair(Mutex<State>);

impl Pair {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The replicator granted, renewed or changed authority.
    pub fn set_authority(&self, authority: Authority) {
        self.lock().authority = Some(authority);
    }

    /// Gives up authority of `epoch` and below.
    pub fn withdraw(&self, epoch: u64) {
        let mut state = self.lock();
        if let Some(a) = state.authority.as_mut().filter(|a| a.epoch <= epoch) {
            (a.role, a.deadline_boottime_ns) = (Role::None, 0);
        }
    }

    /// The replicator spoke of the peer. Returns what is new.
    pub fn set_peer(&self, peer: Peer, now: Duration) -> News {
        let mut state = self.lock();
        let known = state.peer.as_ref().map(|(_, known)| known);
        let before = known.into_iter().flat_map(|known| &known.broken_streams);
        let news = News {
            any: known.is_none_or(|known| *known != peer),
            received_again: before
                .filter(|uid| peer.heard && !peer.broken_streams.contains(uid))
                .copied()
                .collect(),
        };
        state.peer = Some((now, peer));
        state.listens.get_or_insert(now);
        news
    }

    /// The replicator is gone: so are the peer and all authority.
    pub fn replicator_gone(&self) {
        let mut state = self.lock();
        (state.peer, state.listens) = (None, None);
        state.owned = Owned::default();
        if let Some(a) = state.authority.as_mut() {
            (a.role, a.deadline_boottime_ns) = (Role::None, 0);
        }
    }

    /// The replicator said which streams this member owns.
    pub fn set_owned(&self, owned: Owned) {
        self.lock().owned = owned;
    }

    /// The standing of a stream now (I6: a holder's never beyond the deadline, a delegation never beyond its own).
    pub fn standing(&self, stream: StreamUid, now: Duration) -> Standing {
        let state = self.lock();
        let Some(authority) = state.authority else {
            return Standing::default();
        };
        let share = &state.owned.share;
        let deadline = if share.holder {
            authority.deadline_boottime_ns
        } else {
            state.owned.until_boottime_ns
        };
        let in_time = now < Duration::from_nanos(deadline) || breaks(I6);
        // A share of a holder counts with authority only, and the other way round.
        let counts = share.holder == (authority.role == Role::Primary) && in_time;
        Standing {
            pair_epoch: authority.epoch,
            stream_epoch: share.epoch(stream),
            owner: counts && share.claims(stream),
        }
    }

    /// Whether this member holds authority now (I6: never beyond the deadline).
    pub fn is_holder(&self, now: Duration) -> bool {
        let holds =
            |a: Authority| a.role == Role::Primary && now < Duration::from_nanos(a.deadline_boottime_ns);
        self.lock().authority.is_some_and(holds)
    }

    /// For how long the replicator has told whether it hears the peer; `None` where it does not.
    pub fn listens(&self, now: Duration) -> Option<Duration> {
        Some(now.saturating_sub(self.lock().listens?))
    }

    /// Whether the peer is heard now, and not suspected.
    pub fn hears_peer(&self, now: Duration) -> bool {
        self.peer(StreamUid::nil(), now).heard
    }

    /// What is known of the peer as to one stream.
    pub fn peer(&self, stream: StreamUid, now: Duration) -> PeerView {
        let state = self.lock();
        let Some((at, peer)) = &state.peer else {
            return PeerView::default();
        };
        let fresh = now.saturating_sub(*at) <= SILENCE || breaks(I9);
        PeerView {
            heard: peer.heard && !peer.suspected && fresh,
            owns_stream: peer.share.claims(stream),
            fit: peer.fit,
            stream_broken: peer.broken_streams.contains(&stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use failover::streams::{Listed, Owner};

    use super::*;
    use crate::local::Share;

    fn listed(stream: StreamUid, epoch: u64, owner: Owner) -> Listed<StreamUid> {
        Listed { stream, epoch, owner }
    }

    #[test]
    fn i6_ownership_ends_at_the_deadline_and_by_withdrawal() {
        let pair = Pair::default();
        let (second, stream) = (Duration::from_secs, StreamUid::from_u128(1));
        let owner = |at| pair.standing(stream, second(at)).owner;
        assert_eq!(pair.standing(stream, second(1)), Standing::default());
        pair.set_authority(Authority {
            epoch: 7,
            role: Role::Primary,
            deadline_boottime_ns: second(10).as_nanos() as u64,
        });
        assert!(!owner(9), "nothing was said of streams yet");
        let delegated = StreamUid::from_u128(2);
        let mut share = Share::everything();
        share.listed = vec![listed(delegated, 3, Owner::Follower)];
        pair.set_owned(Owned {
            share,
            until_boottime_ns: 0,
        });
        assert!(owner(9) && !owner(10));
        assert!(pair.is_holder(second(9)) && !pair.is_holder(second(10)));
        let away = pair.standing(delegated, second(9));
        assert_eq!((away.pair_epoch, away.stream_epoch, away.owner), (7, 3, false));
        pair.withdraw(6);
        assert!(owner(9), "an older epoch");
        pair.withdraw(7);
        assert!(!owner(9));
    }

    #[test]
    fn i6_a_delegation_ends_by_itself() {
        let pair = Pair::default();
        let (second, stream) = (Duration::from_secs, StreamUid::from_u128(1));
        pair.set_authority(Authority {
            epoch: 7,
            role: Role::Standby,
            deadline_boottime_ns: 0,
        });
        let share = Share {
            holder: false,
            listed: vec![listed(stream, 1, Owner::Follower)],
        };
        pair.set_owned(Owned {
            share,
            until_boottime_ns: second(10).as_nanos() as u64,
        });
        assert!(pair.standing(stream, second(9)).owner);
        assert!(!pair.standing(stream, second(10)).owner);
        assert!(
            !pair.standing(StreamUid::from_u128(2), second(9)).owner,
            "not delegated"
        );
        pair.replicator_gone();
        assert!(!pair.standing(stream, second(9)).owner);
    }

    #[test]
    fn a_camera_that_answers_the_peer_again_is_told_once() {
        let pair = Pair::default();
        let [one, other] = [1, 2].map(StreamUid::from_u128);
        let broken = |broken_streams: &[StreamUid]| Peer {
            heard: true,
            broken_streams: broken_streams.to_vec(),
            ..Peer::default()
        };
        let again = |peer| pair.set_peer(peer, Duration::ZERO).received_again;
        assert!(again(broken(&[one, other])).is_empty());
        assert_eq!(again(broken(&[other])), [one]);
        assert!(again(broken(&[other])).is_empty());
        let silent = Peer {
            heard: false,
            ..broken(&[])
        };
        assert!(
            again(silent).is_empty(),
            "nothing is known of a peer that is not heard"
        );
    }

    #[test]
    fn i9_a_silent_replicator_means_a_silent_peer() {
        let pair = Pair::default();
        let uid = StreamUid::default();
        let good = Peer {
            heard: true,
            share: Share::everything(),
            fit: true,
            ..Peer::default()
        };
        let silent = Peer {
            heard: false,
            ..good.clone()
        };
        let at = Duration::from_secs;
        assert!(pair.set_peer(silent, at(4)).any, "the first word is new");
        assert!(pair.set_peer(good.clone(), at(4)).any);
        assert!(!pair.set_peer(good, at(5)).any, "the same again");
        assert!(pair.peer(uid, Duration::from_secs(6)).heard);
        assert!(!pair.peer(uid, Duration::from_secs(7)).heard);
        assert!(pair.hears_peer(Duration::from_secs(6)) && !pair.hears_peer(Duration::from_secs(7)));
        pair.replicator_gone();
        assert!(!pair.peer(uid, Duration::from_secs(5)).heard);
    }
}
