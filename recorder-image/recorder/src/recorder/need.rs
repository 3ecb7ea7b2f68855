//! When a member that may rest receives a stream: [`is_needed`], with patience. Pure; times are on `CLOCK_BOOTTIME`.

use std::time::Duration;

use super::decide::{PeerView, is_needed};

/// A member that starts waits so long for a word of its peer before it takes it for dead: it would take the camera's only session
/// from a primary that is well.
const WORD: Duration = Duration::from_secs(2);
/// A member that need not receive a stream does so for so long yet: what is over in a moment changes no session.
const QUIET: Duration = Duration::from_secs(2);
/// The same where the peer cannot receive it before this member lets go.
const LET_GO: Duration = Duration::from_millis(200);
/// A peer that claimed a stream which this member received is given so long to receive it.
const EXCUSED: Duration = Duration::from_secs(5);

/// One stream of a member that may rest.
#[derive(Clone, Debug)]
pub struct Need {
    receives: bool,
    /// Until when a word of the peer is waited for.
    waits: Option<Duration>,
    /// Whether the peer claimed it when it was looked at last, ...
    claimed: bool,
    /// ... and until when it is excused, because this member received the stream then.
    excused: Option<Duration>,
    /// Since when it is not needed.
    spare: Option<Duration>,
}

impl Need {
    /// Of a stream that is, or is not, received at `now`.
    pub fn new(receives: bool, now: Duration) -> Self {
        Self {
            receives,
            waits: (!receives).then_some(now + WORD),
            claimed: false,
            excused: None,
            spare: None,
        }
    }

    /// Whether to receive the stream now; `None` while nobody can know.
    pub fn look(&mut self, owns: bool, peer: PeerView, now: Duration) -> Option<bool> {
        self.follow_claim(!owns && peer.heard && peer.fit && peer.owns_stream, now);
        let lets_go = self.excused.is_some_and(|until| now < until);
        let needed = is_needed(owns, peer, lets_go);
        if self
            .waits
            .is_some_and(|until| !owns && !peer.heard && now < until)
        {
            return None;
        }
        self.waits = None;
        let spare = (!needed).then(|| self.spare.unwrap_or(now));
        self.spare = spare;
        let patience = if peer.stream_broken { LET_GO } else { QUIET };
        let on = spare.is_none_or(|since| self.receives && now.saturating_sub(since) < patience);
        self.receives = on;
        Some(on)
    }

    fn follow_claim(&mut self, claims: bool, now: Duration) {
        if !claims {
            self.excused = None;
        } else if !self.claimed && self.receives {
            self.excused = Some(now + EXCUSED);
        }
        self.claimed = claims;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: PeerView = PeerView {
        heard: true,
        owns_stream: true,
        fit: true,
        stream_broken: false,
    };
    const BLIND: PeerView = PeerView {
        stream_broken: true,
        ..WELL
    };
    const GONE: PeerView = PeerView { heard: false, ..WELL };
    const FOLLOWER: PeerView = PeerView {
        owns_stream: false,
        stream_broken: false,
        ..WELL
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Looks each 20 ms, from `from` until just before `to`, and says what was said last.
    fn looked(need: &mut Need, (from, to): (u64, u64), owns: bool, peer: PeerView) -> Option<bool> {
        (from..to)
            .step_by(20)
            .map(|at| need.look(owns, peer, ms(at)))
            .last()
            .flatten()
    }

    #[test]
    fn a_standby_rests_and_wakes_at_once() {
        let mut need = Need::new(false, ms(0));
        assert_eq!(need.look(false, WELL, ms(0)), Some(false));
        for peer in [GONE, BLIND, FOLLOWER, PeerView { fit: false, ..WELL }] {
            let mut need = need.clone();
            assert_eq!(need.look(false, peer, ms(20)), Some(true), "{peer:?}");
        }
        assert_eq!(need.look(true, FOLLOWER, ms(20)), Some(true), "it owns it");
    }

    #[test]
    fn who_starts_waits_for_a_word_and_not_for_ever() {
        let mut need = Need::new(false, ms(0));
        let nobody = PeerView::default();
        assert_eq!(looked(&mut need, (0, 2000), false, nobody), None);
        assert_eq!(
            need.clone().look(true, nobody, ms(1000)),
            Some(true),
            "it owns it"
        );
        assert_eq!(need.clone().look(false, WELL, ms(1000)), Some(false));
        assert_eq!(need.look(false, nobody, ms(2000)), Some(true));
    }

    #[test]
    fn a_false_alarm_ends_no_session_that_was_just_made() {
        let mut need = Need::new(false, ms(0));
        need.look(false, WELL, ms(0));
        assert_eq!(looked(&mut need, (20, 300), false, GONE), Some(true));
        assert_eq!(looked(&mut need, (300, 2300), false, WELL), Some(true));
        assert_eq!(need.look(false, GONE, ms(2300)), Some(true), "again");
        assert_eq!(looked(&mut need, (2320, 4320), false, WELL), Some(true));
        assert_eq!(need.look(false, WELL, ms(4320)), Some(false));
    }

    #[test]
    fn an_old_owner_lets_go_and_comes_back_if_the_new_one_cannot() {
        let mut need = Need::new(true, ms(0));
        assert_eq!(looked(&mut need, (0, 1000), true, FOLLOWER), Some(true));
        assert_eq!(looked(&mut need, (1000, 1200), false, BLIND), Some(true));
        assert_eq!(need.look(false, BLIND, ms(1200)), Some(false), "it lets go");
        assert_eq!(looked(&mut need, (1220, 6000), false, BLIND), Some(false));
        let mut cannot = need.clone();
        assert_eq!(cannot.look(false, BLIND, ms(6000)), Some(true), "it comes back");
        assert_eq!(looked(&mut need, (6000, 9000), false, WELL), Some(false));
        assert_eq!(need.look(false, BLIND, ms(9000)), Some(true), "another fault");
    }

    #[test]
    fn the_fault_of_an_owner_that_was_well_is_not_excused() {
        let mut need = Need::new(false, ms(0));
        need.look(false, WELL, ms(0));
        assert_eq!(looked(&mut need, (20, 3000), false, BLIND), Some(true));
    }
}
