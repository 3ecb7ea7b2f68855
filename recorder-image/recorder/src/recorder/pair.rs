//! What the replicator told about authority and the peer. Both end by themselves when it falls silent.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::decide::PeerView;
use crate::local::{Authority, Peer, Role, StreamUid};

/// The replicator speaks of the peer at least every 500 ms; after this silence the peer counts as not heard.
const SILENCE: Duration = Duration::from_millis(1500);

#[derive(Debug, Default)]
struct State {
    authority: Option<Authority>,
    peer: Option<(Duration, Peer)>,
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

    /// The replicator spoke of the peer.
    pub fn set_peer(&self, peer: Peer, now: Duration) {
        self.lock().peer = Some((now, peer));
    }

    /// The replicator is gone: so are the peer and all authority.
    pub fn replicator_gone(&self) {
        let mut state = self.lock();
        state.peer = None;
        if let Some(a) = state.authority.as_mut() {
            (a.role, a.deadline_boottime_ns) = (Role::None, 0);
        }
    }

    /// The pair epoch, and whether this member holds authority now (I6: never beyond the deadline).
    pub fn standing(&self, now: Duration) -> (u64, bool) {
        let state = self.lock();
        state.authority.map_or((0, false), |a| {
            let holds = a.role == Role::Primary && now < Duration::from_nanos(a.deadline_boottime_ns);
            (a.epoch, holds)
        })
    }

    /// What is known of the peer as to one stream.
    pub fn peer(&self, stream: StreamUid, now: Duration) -> PeerView {
        let state = self.lock();
        let Some((at, peer)) = &state.peer else {
            return PeerView::default();
        };
        PeerView {
            heard: peer.heard && !peer.suspected && now.saturating_sub(*at) <= SILENCE,
            claims_authority: peer.claims_authority,
            fit: peer.fit,
            stream_broken: peer.broken_streams.contains(&stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i6_authority_ends_at_the_deadline_and_by_withdrawal() {
        let pair = Pair::default();
        let second = Duration::from_secs;
        assert_eq!(pair.standing(second(1)), (0, false));
        let authority = Authority {
            epoch: 7,
            role: Role::Primary,
            deadline_boottime_ns: second(10).as_nanos() as u64,
        };
        pair.set_authority(authority);
        assert_eq!(pair.standing(second(9)), (7, true));
        assert_eq!(pair.standing(second(10)), (7, false));
        pair.withdraw(6);
        assert_eq!(pair.standing(second(9)), (7, true), "an older epoch");
        pair.withdraw(7);
        assert_eq!(pair.standing(second(9)), (7, false));
    }

    #[test]
    fn i9_a_silent_replicator_means_a_silent_peer() {
        let pair = Pair::default();
        let uid = StreamUid::default();
        let good = Peer {
            heard: true,
            claims_authority: true,
            fit: true,
            ..Peer::default()
        };
        pair.set_peer(good, Duration::from_secs(5));
        assert!(pair.peer(uid, Duration::from_secs(6)).heard);
        assert!(!pair.peer(uid, Duration::from_secs(7)).heard);
        pair.replicator_gone();
        assert!(!pair.peer(uid, Duration::from_secs(5)).heard);
    }
}
