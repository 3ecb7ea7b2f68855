//! When a member that has just started counts as ready: once it receives what its peer receives. A drain of the peer's node
//! waits for that, and would leave a stream to nobody else.

use std::time::Duration;

use super::decide::PeerView;

/// How long a start waits for a camera that the peer receives: a session, and two groups of pictures of 10 s at most until the first
/// key frame. A camera that lets only the peer in must not hold a member back for ever.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long it waits so for a peer that its replicator does not hear. There may be none.
const HEARING: Duration = Duration::from_secs(5);

/// Whether a member that began `age` ago must still wait for a stream that it does not receive. `listens` is for how long its
/// replicator has told whether it hears the peer, if it does. `received` is asked only where it matters.
pub fn waits(
    age: Duration,
    listens: Option<Duration>,
    received: impl FnOnce() -> bool,
    peer: PeerView,
) -> bool {
    let may_come = match (peer.heard, peer.stream_broken) {
        (true, broken) => !broken,
        (false, _) => listens.is_none_or(|listens| listens < HEARING),
    };
    age < PATIENCE && may_come && !received()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_ready_once_it_receives_what_its_peer_receives() {
        let view = |heard, stream_broken| PeerView {
            heard,
            stream_broken,
            ..PeerView::default()
        };
        let (receives, does_not, unheard) = (view(true, false), view(true, true), view(false, false));
        let table = [
            (0, Some(0), true, receives, false),
            (0, Some(0), false, receives, true),
            (24, Some(9), false, receives, true),
            (25, Some(9), false, receives, false),
            (0, Some(0), false, does_not, false),
            (0, None, true, unheard, false),
            (9, Some(4), false, unheard, true),
            (9, Some(5), false, unheard, false),
            (24, None, false, unheard, true),
            (25, None, false, unheard, false),
        ];
        for (age, listens, received, peer, expected) in table {
            let waiting = waits(
                Duration::from_secs(age),
                listens.map(Duration::from_secs),
                || received,
                peer,
            );
            assert_eq!(waiting, expected, "{age} s, {listens:?}, {received}, {peer:?}");
        }
    }
}
