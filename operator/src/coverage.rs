//! Which streams a member does not have: that nobody would receive if its peer left, and that it has not loaded yet.

use crds::member::{MemberReport, RecorderState, StreamReport, StreamState};
use uuid::Uuid;

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

/// The rendered streams, with UID and name, that this member has not loaded yet. The report of a dead recorder says nothing of streams.
pub(crate) fn not_loaded<'a>(
    report: &'a MemberReport,
    rendered: &'a [(Uuid, String)],
) -> impl Iterator<Item = &'a str> {
    let told = report.recorder != RecorderState::Dead;
    let loaded = |uid: &Uuid| report.streams.iter().any(|stream| stream.uid == *uid);
    let lacking = rendered.iter().filter(move |(uid, _)| told && !loaded(uid));
    lacking.map(|(_, name)| name.as_str())
}

#[cfg(test)]
mod tests {
    use crds::member::Role;

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

    #[test]
    fn a_stream_is_loaded_where_the_member_tells_its_uid() {
        type Streams = &'static [(u128, &'static str)];
        let rendered = [(7, "door"), (8, "yard")].map(|(uid, name)| (Uuid::from_u128(uid), name.to_owned()));
        let table: [(Streams, RecorderState, &[&str]); 5] = [
            (&[(7, "door"), (8, "yard")], RecorderState::Running, &[]),
            (
                &[(8, "old name"), (7, "door"), (9, "removed")],
                RecorderState::Running,
                &[],
            ),
            (&[(7, "door"), (9, "yard")], RecorderState::Running, &["yard"]),
            (&[], RecorderState::Stalled, &["door", "yard"]),
            (&[], RecorderState::Dead, &[]),
        ];
        for (told, recorder, expected) in table {
            let mut said = report(STANDBY, Role::Standby);
            let streams = told
                .iter()
                .map(|(uid, name)| receiving(name, Uuid::from_u128(*uid)));
            (said.streams, said.recorder) = (streams.collect(), recorder);
            assert_eq!(
                not_loaded(&said, &rendered).collect::<Vec<_>>(),
                expected,
                "{told:?}"
            );
        }
    }
}
