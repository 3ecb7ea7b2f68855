//! When a member that may rest receives a stream: [`is_needed`], with patience. Pure; times are on `CLOCK_BOOTTIME`.

use std::time::Duration;

use super::decide::{PeerView, is_needed};

/// A member that starts waits so long for a word that it or its peer owns a stream: it would take the camera's only session from
/// a primary that is well, or is about to be.
const WORD: Duration = Duration::from_secs(3);
/// A member that need not receive a stream does so for so long yet: what is over in a moment changes no session.
const QUIET: Duration = Duration::from_secs(2);
/// The same where the peer cannot receive it before this member lets go.
const LET_GO: Duration = Duration::from_millis(200);
/// A peer that begins to claim a stream is given so long to receive it.
const EXCUSED: Duration = Duration::from_secs(5);

/// One stream of a member that may rest.
#[derive(Clone, Debug)]
pub struct Need {
    receives: bool,
    /// Until when a word is waited for.
    waits: Option<Duration>,
    /// Whether the peer claims it, by its newest word.
    claimed: bool,
    /// Until when the peer is excused that does not receive it well yet.
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
        self.follow_claim(owns, peer, now);
        let heard = owns || peer.heard && self.claimed;
        if self.waits.is_some_and(|until| !heard && now < until) {
            return None;
        }
        self.waits = None;
        let lets_go = self.excused.is_some_and(|until| now < until);
        let spare = (!is_needed(owns, peer, lets_go)).then(|| self.spare.unwrap_or(now));
        self.spare = spare;
        let patience = if peer.stream_broken { LET_GO } else { QUIET };
        let goes_on = |since| self.receives && now.saturating_sub(since) < patience;
        self.receives = spare.is_none_or(goes_on);
        Some(self.receives)
    }

    /// A peer that falls silent has not ceased to claim: it is not excused again when it is heard again.
    fn follow_claim(&mut self, owns: bool, peer: PeerView, now: Duration) {
        let claims = match (owns, peer.heard && peer.fit) {
            (true, _) => false,
            (false, true) => peer.owns_stream,
            (false, false) => self.claimed,
        };
        if claims && !self.claimed {
            self.excused = Some(now + EXCUSED);
        }
        self.excused = self.excused.filter(|_| claims && peer.stream_broken);
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

    /// A standby at rest, 10 s after its start.
    fn at_rest() -> Need {
        let mut need = Need::new(false, ms(0));
        assert_eq!(looked(&mut need, (0, 10_000), false, WELL), Some(false));
        need
    }

    #[test]
    fn a_standby_rests_and_wakes_at_once() {
        for peer in [GONE, BLIND, FOLLOWER, PeerView { fit: false, ..WELL }] {
            assert_eq!(at_rest().look(false, peer, ms(10_000)), Some(true), "{peer:?}");
        }
        assert_eq!(
            at_rest().look(true, FOLLOWER, ms(10_000)),
            Some(true),
            "it owns it"
        );
    }

    #[test]
    fn who_starts_waits_for_an_owner_and_not_for_ever() {
        for peer in [PeerView::default(), FOLLOWER] {
            let mut need = Need::new(false, ms(0));
            assert_eq!(looked(&mut need, (0, 3000), false, peer), None);
            assert_eq!(need.clone().look(true, peer, ms(1000)), Some(true), "it owns it");
            assert_eq!(need.clone().look(false, WELL, ms(1000)), Some(false));
            assert_eq!(need.look(false, peer, ms(3000)), Some(true));
        }
        let mut need = Need::new(false, ms(0));
        assert_eq!(
            looked(&mut need, (0, 5000), false, BLIND),
            Some(false),
            "it connects"
        );
        assert_eq!(need.look(false, BLIND, ms(5000)), Some(true), "it cannot");
    }

    #[test]
    fn a_false_alarm_ends_no_session_that_was_just_made() {
        let mut need = at_rest();
        assert_eq!(looked(&mut need, (10_000, 10_300), false, GONE), Some(true));
        assert_eq!(looked(&mut need, (10_300, 12_300), false, WELL), Some(true));
        assert_eq!(need.clone().look(false, GONE, ms(12_300)), Some(true), "again");
        assert_eq!(need.look(false, WELL, ms(12_300)), Some(false));
    }

    #[test]
    fn an_old_owner_lets_go_and_comes_back_if_the_new_one_cannot() {
        let mut need = Need::new(true, ms(0));
        assert_eq!(looked(&mut need, (0, 1000), true, FOLLOWER), Some(true));
        assert_eq!(looked(&mut need, (1000, 1200), false, BLIND), Some(true));
        assert_eq!(need.look(false, BLIND, ms(1200)), Some(false), "it lets go");
        assert_eq!(looked(&mut need, (1220, 6000), false, BLIND), Some(false));
        assert_eq!(
            need.clone().look(false, BLIND, ms(6000)),
            Some(true),
            "it comes back"
        );
        assert_eq!(looked(&mut need, (5980, 9000), false, WELL), Some(false));
    }

    #[test]
    fn the_fault_of_an_owner_that_was_well_is_not_excused() {
        let mut need = Need::new(false, ms(0));
        assert_eq!(looked(&mut need, (0, 500), false, BLIND), Some(false));
        assert_eq!(looked(&mut need, (500, 1000), false, WELL), Some(false));
        assert_eq!(looked(&mut need, (1000, 2000), false, BLIND), Some(true));
        // Nor because it was not heard for a moment.
        assert_eq!(looked(&mut need, (2000, 2200), false, GONE), Some(true));
        assert_eq!(looked(&mut need, (2200, 9000), false, BLIND), Some(true));
    }
}
