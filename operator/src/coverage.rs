//! Which streams would be received by nobody if a member left.

use crds::member::{MemberReport, StreamReport, StreamState};

/// The streams that the peer receives, and this member neither receives nor rests from, as `standby.mode` lets it.
pub(crate) fn lacks<'a>(
    report: &'a MemberReport,
    peer: &'a MemberReport,
) -> impl Iterator<Item = &'a StreamReport> + use<'a> {
    let does = |stream: &StreamReport| matches!(stream.state, StreamState::Receiving | StreamState::Idle);
    let received = peer
        .streams
        .iter()
        .filter(|theirs| theirs.state == StreamState::Receiving);
    received.filter(move |theirs| {
        let own = report.streams.iter().find(|own| own.uid == theirs.uid);
        !own.is_some_and(does)
    })
}

#[cfg(test)]
mod tests {
    use crds::member::Role;
    use uuid::Uuid;

    use super::*;
    use crate::fixtures::{PRIMARY, STANDBY, receiving, report};

    #[test]
    fn a_stream_that_only_the_other_member_receives() {
        use StreamState::{Connecting, Failed, Idle, Receiving};
        let table = [
            (Some(Receiving), Receiving, false),
            (Some(Idle), Receiving, false),
            (Some(Connecting), Receiving, true),
            (Some(Failed), Receiving, true),
            (None, Receiving, true),
            (Some(Connecting), Connecting, false),
            (Some(Failed), Failed, false),
            (None, Failed, false),
            (Some(Failed), Idle, false),
        ];
        for (own, theirs, lacking) in table {
            let (mut mine, mut peer) = (report(PRIMARY, Role::Primary), report(STANDBY, Role::Standby));
            let stream = |state| StreamReport {
                state,
                ..receiving("door", Uuid::from_u128(7))
            };
            let (own_streams, their_streams) = (own.map(stream), vec![stream(theirs)]);
            (mine.streams, peer.streams) = (own_streams.into_iter().collect(), their_streams);
            assert_eq!(lacks(&mine, &peer).count() == 1, lacking, "{own:?} {theirs:?}");
        }
    }
}
