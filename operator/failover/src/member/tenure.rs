//! One authority in one epoch: until when it lasts, and which swaps are in doubt.

use std::time::Duration;

use crate::lease::{Lease, LeaseRecord};
use crate::member::handover::Handover;
use crate::name::{Epoch, StoreId, Version};
use crate::rules::Rules;
use crate::time::BootTime;

/// So many swaps in doubt are told apart; older ones are remembered by their leash alone.
const ATTEMPTS: usize = 16;

/// A swap that was asked for and is not settled.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    counter: u64,
    epoch: Epoch,
    sent: BootTime,
    leash: Duration,
    follower: Option<StoreId>,
}

/// The authority of a member from its taking to its end.
#[derive(Debug, Clone)]
pub(super) struct Tenure {
    pub(super) epoch: Epoch,
    /// The newest swap that is confirmed.
    pub(super) lease: Lease,
    /// The sending of the newest answered request or successful swap.
    base: BootTime,
    /// What was asked since, all of it conditional on one version.
    asked: Vec<Attempt>,
    /// When the newest answer that counts was received.
    pub(super) answered_at: BootTime,
    /// When the newest swap was sent.
    pub(super) swapped_at: BootTime,
    /// A swap conflicted or is in doubt: nothing is swapped before a read.
    pub(super) read_wanted: bool,
    /// Not before then is the API called again.
    pub(super) next_call: BootTime,
    /// A recreated Lease without a holder, into which this authority is to be entered again.
    pub(super) vacant: Option<Lease>,
    /// The Lease of a higher epoch that is this member's already and is being synced.
    pub(super) entered: Option<(Lease, BootTime)>,
    pub(super) handover: Option<Handover>,
    kept: BootTime,
    rules: Rules,
}

impl Tenure {
    pub(super) fn new(now: BootTime, lease: Lease, sent: BootTime, rules: Rules) -> Self {
        Self {
            epoch: lease.record.epoch,
            lease,
            base: sent,
            asked: Vec::new(),
            answered_at: now,
            swapped_at: sent,
            read_wanted: false,
            next_call: now,
            vacant: None,
            entered: None,
            handover: None,
            kept: BootTime::default(),
            rules,
        }
    }

    /// The leash in force: the shorter of the confirmed one and any that was asked for (I6).
    pub(super) fn leash(&self) -> Duration {
        let confirmed = self.lease.record.leash();
        self.asked
            .iter()
            .map(|attempt| attempt.leash)
            .fold(confirmed, Duration::min)
    }

    /// The first moment at which this authority is over.
    pub(super) fn deadline(&self) -> BootTime {
        (self.base + self.leash()).max(self.kept)
    }

    /// The end of a leash of this length that counts as this authority's does.
    pub(super) fn end_of(&self, leash: Duration) -> BootTime {
        self.base + leash
    }

    /// Whether the answers of this store count: named in the confirmed record and in all that is asked.
    pub(super) fn counts(&self, store: &StoreId) -> bool {
        let named = |follower: &Option<StoreId>| follower.as_ref() == Some(store);
        named(&self.lease.record.follower) && self.asked.iter().all(|attempt| named(&attempt.follower))
    }

    /// The follower answered a request that was sent then.
    pub(super) fn answered(&mut self, sent: BootTime, now: BootTime) {
        self.base = self.base.max(self.rules.counts_from(sent, now));
        self.answered_at = now;
        self.keep_longer();
    }

    fn keep_longer(&mut self) {
        if self.rules.keeps_longer_deadline() {
            self.kept = self.kept.max(self.base + self.lease.record.leash());
        }
    }

    /// Whether no swap is in doubt.
    pub(super) fn is_settled(&self) -> bool {
        self.asked.is_empty() && !self.read_wanted && self.vacant.is_none() && self.entered.is_none()
    }

    /// A counter that no swap of this member on this version had.
    pub(super) fn next_counter(&self, read: u64) -> u64 {
        self.asked
            .iter()
            .map(|attempt| attempt.counter)
            .fold(read, u64::max)
            .saturating_add(1)
    }

    /// A swap is about to be sent: from now on its leash binds, whether it succeeds or not (I6).
    pub(super) fn ask(&mut self, now: BootTime, record: &LeaseRecord) {
        self.swapped_at = now;
        self.asked.push(Attempt {
            counter: record.counter,
            epoch: record.epoch,
            sent: now,
            leash: record.leash(),
            follower: record.follower.clone(),
        });
        if self.asked.len() > ATTEMPTS {
            let old = self.asked.remove(0);
            self.asked[0].leash = self.asked[0].leash.min(old.leash);
        }
    }

    /// The newest swap never happened and never will.
    pub(super) fn unask(&mut self, counter: u64) {
        if self
            .asked
            .last()
            .is_some_and(|attempt| attempt.counter == counter)
        {
            self.asked.pop();
        }
    }

    /// The Lease is at a new version and this authority's: whatever was asked on the old one is settled. It
    /// counts from the sending of the swap that wrote it, where that is known.
    pub(super) fn confirm(&mut self, lease: Lease) {
        if let Some(sent) = self.sending_of(&lease.record) {
            self.base = self.base.max(sent);
        }
        self.lease = lease;
        self.asked.clear();
        self.read_wanted = false;
        self.vacant = None;
        self.keep_longer();
    }

    /// When the swap that wrote this was sent, where it is one of those that were asked.
    pub(super) fn sending_of(&self, record: &LeaseRecord) -> Option<BootTime> {
        let wrote = |attempt: &&Attempt| attempt.counter == record.counter && attempt.epoch == record.epoch;
        self.asked.iter().find(wrote).map(|attempt| attempt.sent)
    }

    /// The version that the next swap expects.
    pub(super) fn expected(&self) -> &Version {
        &self.vacant.as_ref().unwrap_or(&self.lease).version
    }

    /// The higher epoch that this authority was entered under again is synced: it goes on in it (I5).
    pub(super) fn enter(&mut self) {
        if let Some((lease, sent)) = self.entered.take() {
            self.epoch = lease.record.epoch;
            self.base = self.base.max(sent);
            self.confirm(lease);
        }
    }
}
