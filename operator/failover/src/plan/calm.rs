//! For how long nothing happened to the members.

use std::time::Duration;

use crate::lease::Lease;
use crate::message::Health;
use crate::name::{Epoch, MemberRef};
use crate::plan::observed::{MemberState, Observed, Pod};
use crate::report::Role;
use crate::time::BootTime;

/// Remembers since when the members are well and the same: same epoch, same starts of the same containers. Whatever happens
/// to them, a failover above all, starts the clock anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Calm {
    since: Option<(BootTime, Steady)>,
    looked: Option<BootTime>,
}

/// What must not change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Steady {
    epoch: Epoch,
    members: Vec<(MemberRef, Pod)>,
}

impl Calm {
    /// Takes note of what was observed at `now`, and says for how long there was calm; `None` where there is none, or where
    /// that cannot be known now. A Lease that could not be read for as long as a report is fresh is no calm either.
    pub fn look(&mut self, now: BootTime, observed: &Observed) -> Option<Duration> {
        if !observed.lease.is_read() {
            return None;
        }
        let unseen = self
            .looked
            .replace(now)
            .is_none_or(|before| now.since(before) > observed.policy.report_age);
        let steady = steady(observed, now);
        let known = self
            .since
            .take()
            .filter(|(_, known)| !unseen && steady.as_ref() == Some(known));
        self.since = known.or_else(|| Some((now, steady?)));
        self.since.as_ref().map(|(since, _)| now.since(*since))
    }
}

/// One member serves in the Lease's epoch, every other one follows and hears it, and all are up.
fn steady(observed: &Observed, now: BootTime) -> Option<Steady> {
    let Lease { record, .. } = observed.lease.lease()?;
    let holder = &record.holder.as_ref()?.member;
    let one = |member: &MemberState| {
        let report = member.fresh_report(now, &observed.policy)?;
        let pod = member.pod.clone().filter(|pod| !pod.deleting && !pod.outdated)?;
        let right = if member.name == *holder {
            report.role == Role::Primary && report.serving_epoch == Some(record.epoch)
        } else {
            report.role == Role::Standby && report.hears_primary && member.in_sync
        };
        (right && report.health == Health::Fit).then(|| (report.me.clone(), pod))
    };
    let members: Option<Vec<_>> = observed.members.iter().map(one).collect();
    let complete = observed.lost.is_empty() && observed.members.len() > 1;
    Some(Steady {
        epoch: record.epoch,
        members: members.filter(|_| complete)?,
    })
}
