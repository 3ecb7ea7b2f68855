//! The recorder beside the replicator: its progress, and the deadline it was handed.

use std::time::Duration;

use crate::effect::Authority;
use crate::name::Epoch;
use crate::time::BootTime;

/// What is known of the recorder. It is unfit until its first ticket.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder {
    ticket: Option<u64>,
    progress_at: Option<BootTime>,
    granted: Option<Authority>,
    withdrawn: Epoch,
}

impl Recorder {
    pub(super) fn progress(&mut self, now: BootTime, ticket: u64) {
        if self.ticket != Some(ticket) {
            self.ticket = Some(ticket);
            self.progress_at = Some(now);
        }
    }

    /// A dead process acts on nothing.
    pub(super) fn died(&mut self) {
        self.ticket = None;
        self.progress_at = None;
        self.granted = None;
    }

    pub(super) fn withdrew(&mut self, epoch: Epoch) {
        self.withdrawn = self.withdrawn.max(epoch);
        if self.granted.is_some_and(|grant| grant.epoch <= epoch) {
            self.granted = None;
        }
    }

    pub(super) fn is_fit(&self, now: BootTime, timeout: Duration) -> bool {
        self.fit_until(timeout).is_some_and(|until| now < until)
    }

    pub(super) fn fit_until(&self, timeout: Duration) -> Option<BootTime> {
        self.progress_at.map(|at| at + timeout)
    }

    /// Until when it may act at the latest.
    pub(super) fn granted_until(&self) -> BootTime {
        self.granted.map_or(BootTime::default(), |grant| grant.until)
    }

    /// Notes a grant that is worth sending: one by at least `step` longer, or of another epoch.
    pub(super) fn grant(&mut self, grant: Authority, step: Duration) -> bool {
        let known = self.granted.filter(|old| old.epoch == grant.epoch);
        let longer = known.is_none_or(|old| grant.until >= old.until + step);
        let due = longer && grant.epoch > self.withdrawn;
        if due {
            let until = grant.until.max(self.granted_until());
            self.granted = Some(Authority { until, ..grant });
        }
        due
    }
}
