//! An event for each transition.

use crds::RecorderPairStatus;
use crds::pair::{Condition, FailoverStatus};

/// What to tell, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should look.
    pub warning: bool,
    /// In one word.
    pub reason: String,
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
    for condition in &after.conditions {
        let old = before.conditions.iter().find(|old| old.type_ == condition.type_);
        notes.extend(transition(old, condition));
    }
    notes
}

fn failover(failover: &FailoverStatus) -> Note {
    let phase = |name: &str, at: Option<i64>| at.map(|at| format!("{name} after {at} ms"));
    let phases = [
        phase("suspected", failover.suspected),
        phase("taken", failover.taken),
        phase("serving", failover.serving),
    ];
    let phases: Vec<String> = phases.into_iter().flatten().collect();
    Note {
        warning: false,
        reason: "FailedOver".to_owned(),
        message: format!(
            "member {:?} took over in epoch {} ({}): {}",
            failover.member,
            failover.epoch,
            failover.why,
            phases.join(", ")
        ),
    }
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
