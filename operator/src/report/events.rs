//! An event for each transition.

use crds::RecorderPairStatus;
use crds::pair::{Condition, FailoverStatus, MovedStream};

use super::failovers;

/// The action of events that are no failovers.
pub const RECONCILE: &str = "Reconcile";

/// Why a member took that was preferred, in its own words.
const FAILBACK: &str = "Failback";

/// What to tell, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should look.
    pub warning: bool,
    /// In one word.
    pub reason: String,
    /// What was done. Events of one reason and one action count as one, with the words of the first.
    pub action: String,
    /// What happened.
    pub message: String,
}

/// What changed from one status to the next, in words.
pub fn notes(before: &RecorderPairStatus, after: &RecorderPairStatus) -> Vec<Note> {
    let failovers = after.failovers.iter().rev().filter(|failover| {
        let known = before.failovers.iter().map(|known| known.epoch).max();
        known.is_none_or(|known| failover.epoch > known)
    });
    let mut notes: Vec<Note> = failovers.map(failover).collect();
    notes.extend(
        after
            .failovers
            .iter()
            .filter_map(|failover| converged(before, failover)),
    );
    notes.extend(moves(before, after));
    for condition in &after.conditions {
        let old = before.conditions.iter().find(|old| old.type_ == condition.type_);
        notes.extend(transition(old, condition));
    }
    notes
}

/// A note for each stream that is with the standby now, or no longer.
fn moves(before: &RecorderPairStatus, after: &RecorderPairStatus) -> Vec<Note> {
    let moved = |status: &RecorderPairStatus| status.streams.clone().map_or_else(Vec::new, |s| s.moved);
    let (old, new) = (moved(before), moved(after));
    let went = new.iter().filter(|moved| !old.contains(moved)).map(|moved| Note {
        warning: true,
        reason: "StreamMoved".to_owned(),
        action: format!("Move{}", moved.name),
        message: format!(
            "stream {:?} is recorded by member {:?} now: it is {} on the primary",
            moved.name,
            moved.member,
            moved.reason.to_lowercase()
        ),
    });
    let back = |was: &&MovedStream| !new.iter().any(|moved| moved.name == was.name);
    // Beyond the bound of the list nothing is known of any one.
    let complete = after
        .streams
        .as_ref()
        .is_some_and(|s| usize::try_from(s.away) == Ok(s.moved.len()));
    let returned = old.iter().filter(back).filter(|_| complete).map(|was| Note {
        warning: false,
        reason: "StreamReturned".to_owned(),
        action: format!("Return{}", was.name),
        message: format!("stream {:?} is no longer with member {:?}", was.name, was.member),
    });
    went.chain(returned).collect()
}

/// A failback is told as such: nobody was lost.
fn failover(failover: &FailoverStatus) -> Note {
    let back = failover.why == FAILBACK;
    Note {
        warning: false,
        reason: if back { "FailedBack" } else { "FailedOver" }.to_owned(),
        action: format!("TakeEpoch{}", failover.epoch),
        message: format!(
            "member {:?} took over in epoch {} ({}): {}",
            failover.member,
            failover.epoch,
            failover.why,
            failovers::words(failover)
        ),
    }
}

/// The end of a failover that was known before.
fn converged(before: &RecorderPairStatus, failover: &FailoverStatus) -> Option<Note> {
    let known = before
        .failovers
        .iter()
        .find(|known| known.epoch == failover.epoch)?;
    let after = failover.converged.filter(|_| known.converged.is_none())?;
    Some(Note {
        warning: false,
        reason: "Converged".to_owned(),
        action: format!("TakeEpoch{}", failover.epoch),
        message: format!(
            "both members have everything again, {after} ms after the last word of the primary before epoch {}",
            failover.epoch
        ),
    })
}

/// A condition that is False at first is no news.
fn transition(old: Option<&Condition>, new: &Condition) -> Option<Note> {
    let is_news = old.map_or(new.status == "True", |old| {
        old.status != new.status || (new.status == "True" && old.reason != new.reason)
    });
    let bad = match new.type_.as_str() {
        "Ready" | "Replicating" => new.status != "True",
        "Reconciling" => false,
        _ => new.status == "True",
    };
    is_news.then(|| Note {
        warning: bad,
        reason: reason(new),
        action: RECONCILE.to_owned(),
        message: new.message.clone(),
    })
}

fn reason(condition: &Condition) -> String {
    match (condition.type_.as_str(), condition.status.as_str()) {
        ("Degraded", "False") => "Recovered".to_owned(),
        ("Stalled", "False") => "Unstalled".to_owned(),
        ("Ready", "True") => "Ready".to_owned(),
        ("Replicating", "True") => "Replicating".to_owned(),
        ("Reconciling", "False") => "Reconciled".to_owned(),
        _ => condition.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    /// A status with one condition: `Degraded True DiskFull`; with none where nothing is said.
    fn status(text: &str) -> RecorderPairStatus {
        let words: Vec<&str> = text.split_whitespace().collect();
        let condition = |words: &[&str]| Condition {
            type_: words[0].to_owned(),
            status: words[1].to_owned(),
            reason: words[2].to_owned(),
            message: format!("because of {}", words[2]),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        RecorderPairStatus {
            conditions: words.chunks(3).map(condition).collect(),
            ..RecorderPairStatus::default()
        }
    }

    fn with_failovers(epochs: &[i64]) -> RecorderPairStatus {
        let failover = |epoch: &i64| FailoverStatus {
            epoch: *epoch,
            member: "front-1".to_owned(),
            when: Time(Timestamp::UNIX_EPOCH),
            why: "Expired".to_owned(),
            last_frame: Some(-40),
            suspected: Some(150),
            recording: None,
            read: None,
            taken: None,
            serving: Some(1050),
            converged: None,
        };
        RecorderPairStatus {
            failovers: epochs.iter().map(failover).collect(),
            ..RecorderPairStatus::default()
        }
    }

    /// The reason of each event, with a mark where somebody should look.
    fn told(before: &RecorderPairStatus, after: &RecorderPairStatus) -> String {
        let mark = |note: Note| format!("{}{}", note.reason, if note.warning { "!" } else { "" });
        let told: Vec<String> = notes(before, after).into_iter().map(mark).collect();
        told.join(" ")
    }

    #[test]
    fn a_transition_is_told_and_nothing_else() {
        let cases = [
            ("", "Ready False NoPrimary", ""),
            ("", "Ready True Serving", "Ready"),
            ("Ready False NoPrimary", "Ready True Serving", "Ready"),
            ("Ready True Serving", "Ready True Serving", ""),
            ("Ready True Serving", "Ready False NoPrimary", "NoPrimary!"),
            (
                "Replicating True InSync",
                "Replicating False NotConnected",
                "NotConnected!",
            ),
            (
                "Replicating False NoStandby",
                "Replicating False NotConnected",
                "",
            ),
            (
                "Replicating False NoStandby",
                "Replicating True InSync",
                "Replicating",
            ),
            ("Degraded False AsExpected", "Degraded True DiskFull", "DiskFull!"),
            (
                "Degraded True DiskFull",
                "Degraded True VolumeLost",
                "VolumeLost!",
            ),
            ("Degraded True DiskFull", "Degraded False AsExpected", "Recovered"),
            ("", "Degraded False AsExpected", ""),
            (
                "Stalled True ApplyFailed",
                "Stalled False NotStalled",
                "Unstalled",
            ),
            ("", "Stalled True InvalidSpec", "InvalidSpec!"),
            (
                "Reconciling False Done",
                "Reconciling True RollingUpdate",
                "RollingUpdate",
            ),
            (
                "Reconciling True RollingUpdate",
                "Reconciling False Done",
                "Reconciled",
            ),
        ];
        for (before, after, expected) in cases {
            assert_eq!(
                told(&status(before), &status(after)),
                expected,
                "{before} -> {after}"
            );
        }
    }

    #[test]
    fn a_message_that_changes_alone_is_no_news() {
        let before = status("Degraded True DiskFull");
        let mut after = before.clone();
        "another volume".clone_into(&mut after.conditions[0].message);
        assert_eq!(told(&before, &after), "");
    }

    #[test]
    fn a_failback_is_told_as_such() {
        let mut after = with_failovers(&[8, 7]);
        "Failback".clone_into(&mut after.failovers[0].why);
        assert_eq!(
            told(&RecorderPairStatus::default(), &after),
            "FailedOver FailedBack"
        );
    }

    #[test]
    fn the_end_of_a_failover_is_told_once() {
        let before = with_failovers(&[8, 7]);
        let mut after = before.clone();
        after.failovers[0].converged = Some(4050);
        assert_eq!(told(&before, &after), "Converged");
        assert_eq!(told(&after, &after), "");
    }

    #[test]
    fn each_failover_is_told_once_the_oldest_first() {
        let messages = |before: &[i64], after: &[i64]| {
            let notes = notes(&with_failovers(before), &with_failovers(after));
            notes.into_iter().map(|note| note.message).collect::<Vec<_>>()
        };
        let expected = [
            "member \"front-1\" took over in epoch 7 (Expired): last frame 40 ms before, suspected after 150 ms, serving after 1050 ms",
            "member \"front-1\" took over in epoch 8 (Expired): last frame 40 ms before, suspected after 150 ms, serving after 1050 ms",
        ];
        assert_eq!(messages(&[6, 5], &[8, 7, 6, 5]), expected);
        assert_eq!(messages(&[8, 7], &[8, 7]), [""; 0]);
        assert_eq!(messages(&[], &[8, 7]).len(), 2);
    }
}
