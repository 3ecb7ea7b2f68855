//! Whether this member writes a stream, and whether it has to receive it: pure functions (I6, I7, I9, I12).

use std::time::Duration;

use segment::sabotage::{Invariant::I1, Invariant::I7, breaks};

use super::ring::Backlog;

/// How long a group of pictures may wait for the peer's copy before this member writes it itself.
pub const HOLD: Duration = Duration::from_secs(5);
/// The most that long groups of pictures add to [`HOLD`].
const MAX_GOP_GRACE: Duration = Duration::from_secs(25);

/// How long it takes to write what has waited, and to tell.
const WRITING: Duration = Duration::from_secs(3);

/// The peer, as the replicator told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerView {
    /// Heard, and not suspected. False also when the replicator is silent.
    pub heard: bool,
    /// Claims this stream.
    pub owns_stream: bool,
    /// Says that it is fit.
    pub fit: bool,
    /// Says that it does not receive, or cannot write, this stream well.
    pub stream_broken: bool,
}

impl PeerView {
    /// Whether the peer can be trusted to write the stream.
    fn writes(self) -> bool {
        let heard = self.heard || breaks(I1);
        let owns = self.owns_stream || breaks(I7);
        heard && owns && self.fit && !self.stream_broken
    }
}

/// Why this member writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// No peer is known to write it.
    PeerDoesNot,
    /// The oldest group of pictures is not durable here after [`HOLD`].
    TooOld,
    /// More than half of the ring is not durable here.
    TooMuch,
}

/// How long the groups of a stream may wait, of which the longest lasts for so long.
fn hold(longest_gop: Duration) -> Duration {
    HOLD + longest_gop.min(MAX_GOP_GRACE)
}

/// After a frame came, and beyond its stay in memory, it takes a member so long to write it where it finds that the other one did not.
/// `longest_gop` is known where groups of the stream are in memory.
pub fn written_after(longest_gop: Option<Duration>) -> Duration {
    hold(longest_gop.unwrap_or(MAX_GOP_GRACE)) + WRITING
}

/// Whether to write the stream now. A group of pictures can be matched only as a whole, so streams with long groups
/// are given the length of one group more.
pub fn should_write(peer: PeerView, backlog: &Backlog, now: Duration, max_bytes: usize) -> Option<Why> {
    if !peer.writes() {
        return Some(Why::PeerDoesNot);
    }
    let hold = hold(backlog.longest_gop);
    if backlog.oldest.is_some_and(|at| now.saturating_sub(at) > hold) {
        return Some(Why::TooOld);
    }
    (backlog.bytes > max_bytes / 2).then_some(Why::TooMuch)
}

/// Whether a member that may rest must receive a stream: it owns it, or no fit peer that it hears claims it and receives it
/// well. `lets_go` excuses a peer that cannot receive it yet, because this member has only begun to let go of the camera.
pub fn is_needed(owns: bool, peer: PeerView, lets_go: bool) -> bool {
    let excused = PeerView {
        stream_broken: peer.stream_broken && !lets_go,
        ..peer
    };
    owns || !excused.writes()
}

/// Of two members that hear of another source of a stream, one goes over so much later.
const GOES_LAST: Duration = Duration::from_secs(10);
/// So long a session from an address that is not wanted any more may go on.
const AT_LAST: Duration = Duration::from_mins(1);

/// Whether a member ends the session of a stream, which plays well, because the stream has another source now. Both have heard of
/// it: the owner goes last (the `first` of the pair where none owns it), and no one goes while the other does not receive the stream
/// well, so a wrong password stops one session and not two. A session of the same camera goes on for as long as that takes
/// (`login_only`), one from another address no longer than a minute. `waited` is since the source is known.
pub fn goes_over(owns: bool, first: bool, peer: PeerView, login_only: bool, waited: Duration) -> bool {
    let bridged = peer.heard && peer.fit && !peer.stream_broken;
    let goes_last = owns || (first && !peer.owns_stream);
    let has_turn = !goes_last || waited >= GOES_LAST;
    let must = !login_only && (!peer.heard || waited >= AT_LAST);
    (bridged && has_turn) || must
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: PeerView = PeerView {
        heard: true,
        owns_stream: true,
        fit: true,
        stream_broken: false,
    };
    const NOTHING: Backlog = Backlog {
        oldest: None,
        longest_gop: Duration::ZERO,
        bytes: 0,
    };
    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn i12_the_table_of_reasons() {
        let old = |s| Backlog {
            oldest: Some(NOW.saturating_sub(Duration::from_secs(s))),
            ..NOTHING
        };
        let much = |bytes| Backlog { bytes, ..NOTHING };
        let long = Backlog {
            longest_gop: Duration::from_secs(4),
            ..old(8)
        };
        let table = [
            (GOOD, NOTHING, None),
            (PeerView { heard: false, ..GOOD }, NOTHING, Some(Why::PeerDoesNot)),
            (
                PeerView {
                    owns_stream: false,
                    ..GOOD
                },
                NOTHING,
                Some(Why::PeerDoesNot),
            ),
            (PeerView { fit: false, ..GOOD }, NOTHING, Some(Why::PeerDoesNot)),
            (
                PeerView {
                    stream_broken: true,
                    ..GOOD
                },
                NOTHING,
                Some(Why::PeerDoesNot),
            ),
            (PeerView::default(), NOTHING, Some(Why::PeerDoesNot)),
            (GOOD, old(5), None),
            (GOOD, old(6), Some(Why::TooOld)),
            (GOOD, long, None),
            (
                GOOD,
                Backlog {
                    oldest: Some(NOW.saturating_sub(Duration::from_secs(10))),
                    ..long
                },
                Some(Why::TooOld),
            ),
            (GOOD, much(500), None),
            (GOOD, much(501), Some(Why::TooMuch)),
        ];
        for (peer, backlog, want) in table {
            assert_eq!(
                should_write(peer, &backlog, NOW, 1000),
                want,
                "{peer:?} {backlog:?}"
            );
        }
    }

    #[test]
    fn who_must_receive_a_stream() {
        let silent = PeerView { heard: false, ..GOOD };
        let unfit = PeerView { fit: false, ..GOOD };
        let of_nobody = PeerView {
            owns_stream: false,
            ..GOOD
        };
        let broken = PeerView {
            stream_broken: true,
            ..GOOD
        };
        let table = [
            (false, GOOD, false, false),
            (true, GOOD, false, true),
            (true, GOOD, true, true),
            (false, silent, false, true),
            (false, silent, true, true),
            (false, unfit, false, true),
            (false, unfit, true, true),
            (false, of_nobody, false, true),
            (false, of_nobody, true, true),
            (false, broken, false, true),
            (false, broken, true, false),
            (true, broken, true, true),
            (false, PeerView::default(), false, true),
        ];
        for (owns, peer, lets_go, want) in table {
            assert_eq!(is_needed(owns, peer, lets_go), want, "{owns} {peer:?} {lets_go}");
        }
    }

    #[test]
    fn i1_members_go_over_to_another_source_one_after_the_other() {
        let silent = PeerView { heard: false, ..GOOD };
        let unfit = PeerView { fit: false, ..GOOD };
        let broken = PeerView {
            stream_broken: true,
            ..GOOD
        };
        let (login, address) = (true, false);
        let of_nobody = PeerView {
            owns_stream: false,
            ..GOOD
        };
        // From which second on it goes; `None` where it never does.
        let table = [
            (false, false, GOOD, login, Some(0)),
            (false, true, GOOD, login, Some(0)),
            (false, false, GOOD, address, Some(0)),
            (true, false, of_nobody, login, Some(10)),
            (true, false, of_nobody, address, Some(10)),
            (false, false, of_nobody, login, Some(0)),
            (false, true, of_nobody, login, Some(10)),
            (false, false, broken, login, None),
            (true, false, broken, login, None),
            (false, false, broken, address, Some(60)),
            (true, false, broken, address, Some(60)),
            (true, false, unfit, login, None),
            (true, false, unfit, address, Some(60)),
            (false, false, silent, login, None),
            (true, false, silent, login, None),
            (false, false, silent, address, Some(0)),
            (true, false, silent, address, Some(0)),
        ];
        for (owns, first, peer, login_only, from) in table {
            let goes = |s: &u64| goes_over(owns, first, peer, login_only, Duration::from_secs(*s));
            assert_eq!((0..600).find(goes), from, "{owns} {first} {peer:?} {login_only}");
        }
    }

    proptest::proptest! {
        #[test]
        fn i1_two_members_do_not_go_over_at_once(owner in 0usize..3, login: bool, waited in 0u64..10, longer in 0u64..60) {
            // What the two see of each other: one owns it, or none.
            let owns = [owner == 0, owner == 1];
            let goes = |me: usize, waited: u64| {
                let peer = PeerView { owns_stream: owns[1 - me], ..GOOD };
                goes_over(owns[me], me == 0, peer, login, Duration::from_secs(waited))
            };
            proptest::prop_assert!(!(goes(0, waited) && goes(1, waited)));
            proptest::prop_assert!(goes(0, 10 + longer) && goes(1, 10 + longer), "and both go in the end");
        }

        #[test]
        fn what_must_be_written_must_be_received(claims: bool, fit: bool, heard: bool, broken: bool) {
            let peer = PeerView { heard, owns_stream: claims, fit, stream_broken: broken };
            let writes = should_write(peer, &NOTHING, NOW, 1000).is_some();
            proptest::prop_assert_eq!(is_needed(false, peer, false), writes);
        }

        #[test]
        fn i1_a_silent_peer_never_stops_the_writing(claims: bool, fit: bool, broken: bool, bytes in 0usize..1000) {
            let peer = PeerView { heard: false, owns_stream: claims, fit, stream_broken: broken };
            let backlog = Backlog { bytes, ..NOTHING };
            proptest::prop_assert!(should_write(peer, &backlog, NOW, 1000).is_some());
        }

        #[test]
        fn i7_a_stream_that_nobody_owns_is_written(heard: bool, fit: bool, broken: bool, bytes in 0usize..1000) {
            let peer = PeerView { heard, owns_stream: false, fit, stream_broken: broken };
            let backlog = Backlog { bytes, ..NOTHING };
            proptest::prop_assert!(should_write(peer, &backlog, NOW, 1000).is_some());
        }
    }
}
