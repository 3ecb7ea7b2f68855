//! The primary: it renews, settles what is in doubt, and hands its recorder a deadline.

use std::time::Duration;

use crate::effect::{Authority, Effect, LossReason, Note};
use crate::event::{ReadResult, SwapResult};
use crate::lease::{Lease, LeaseRecord, millis};
use crate::member::tenure::Tenure;
use crate::member::{Member, Purpose, State};
use crate::name::StoreId;
use crate::time::BootTime;

impl Member {
    pub(super) fn tenure(&self) -> Option<&Tenure> {
        match &self.state {
            State::Primary(tenure) => Some(tenure),
            _ => None,
        }
    }

    /// Whether the follower's answers come.
    pub(super) fn is_connected(&self, now: BootTime) -> bool {
        let silent_after = self.settings.suspect_after;
        self.tenure()
            .is_some_and(|tenure| now < tenure.answered_at + silent_after)
    }

    /// An authority whose deadline passed is over: it comes back only by taking (I6).
    pub(super) fn expire(&mut self, now: BootTime) {
        if self.tenure().is_some_and(|tenure| now >= tenure.deadline()) {
            self.end_tenure(now, LossReason::Deadline);
        }
    }

    pub(super) fn end_tenure(&mut self, now: BootTime, why: LossReason) {
        let Some(epoch) = self.tenure().map(|tenure| tenure.epoch) else {
            return;
        };
        self.state = State::Standby { retry_at: now };
        self.pending = None;
        self.out.push(Effect::Note(Note::Lost { epoch, why }));
        if self.recorder.granted_until() > now {
            self.out.push(Effect::RevokeRecorder { epoch });
        }
    }

    /// One step of a primary: handover, calls to the API, the recorder's deadline.
    pub(super) fn advance_primary(&mut self, now: BootTime) {
        if self.tenure().is_none() {
            return;
        }
        if !self.is_fit(now) {
            self.start_handover(now);
        }
        self.advance_handover(now);
        self.grant(now);
        self.call_api(now);
    }

    fn call_api(&mut self, now: BootTime) {
        let Some(tenure) = self.tenure() else { return };
        if self.pending.is_some() || now < tenure.next_call || tenure.entered.is_some() {
            return;
        }
        if tenure.read_wanted {
            self.read(now, Purpose::Settle);
        } else if let Some(record) = self.swap_due(now) {
            self.renew(now, record);
        }
    }

    fn renew(&mut self, now: BootTime, record: LeaseRecord) {
        let State::Primary(tenure) = &mut self.state else {
            return;
        };
        tenure.ask(now, &record);
        let expected = tenure.expected().clone();
        self.swap(now, Purpose::Renew, expected, record);
    }

    /// What is to be swapped in now, where anything is.
    fn swap_due(&self, now: BootTime) -> Option<LeaseRecord> {
        let tenure = self.tenure()?;
        let handed_over = tenure.handover.is_some() && tenure.is_settled();
        // A hung recorder keeps no authority by renewal alone; while the follower answers it is kept.
        let may_renew = self.is_connected(now) || self.is_fit(now);
        if handed_over || !may_renew {
            return None;
        }
        let record = self.record_that_renews(now, tenure);
        let old = &tenure.lease.record;
        let changed = record.follower != old.follower || record.leash_ms != old.leash_ms;
        let interval = self.swap_interval(now, tenure);
        let hurried = changed || !tenure.is_settled();
        let interval = if hurried {
            interval.min(self.settings.alone_interval)
        } else {
            interval
        };
        (now >= tenure.swapped_at + interval).then_some(record)
    }

    fn record_that_renews(&self, now: BootTime, tenure: &Tenure) -> LeaseRecord {
        let read = tenure
            .vacant
            .as_ref()
            .map_or(&tenure.lease.record, |lease| &lease.record);
        let higher = read.epoch.max(self.floor()).max(self.persist_asked).next();
        LeaseRecord {
            epoch: if tenure.vacant.is_some() {
                higher
            } else {
                tenure.epoch
            },
            leash_ms: self.next_leash_ms(now, tenure),
            counter: tenure.next_counter(read.counter),
            holder: Some(self.me.clone()),
            follower: self.wanted_follower(now, tenure),
        }
    }

    fn swap_interval(&self, now: BootTime, tenure: &Tenure) -> Duration {
        if self.is_connected(now) {
            return self.settings.renew_interval;
        }
        if tenure.leash() > self.settings.leash {
            return tenure.leash() / 3;
        }
        self.settings.alone_interval
    }

    /// The short leash, or the long one where the follower stays silent.
    fn wanted_leash(&self, now: BootTime, tenure: &Tenure) -> Duration {
        let silent = now.since(tenure.answered_at);
        if silent >= self.settings.silence_before_long {
            return self.settings.long_leash;
        }
        self.settings.leash
    }

    /// A shorter leash is written only when the longer deadline is given up without loss: the recorder's grant
    /// ends within the shorter one, what was delegated with the longer one ends before anybody could take, and the shorter one is still
    /// running. Until then the old one is renewed.
    fn next_leash_ms(&self, now: BootTime, tenure: &Tenure) -> u64 {
        let wanted = self.wanted_leash(now, tenure);
        let end = tenure.end_of(wanted);
        let granted_within = self.recorder.granted_until() <= end.max(now);
        let running = end > now + self.settings.heartbeat_interval;
        let shorter = wanted < tenure.lease.record.leash();
        let delegated_within = self.delegated_until <= now + self.rules.wait(wanted);
        if shorter && !(granted_within && delegated_within && running) {
            return tenure.lease.record.leash_ms;
        }
        millis(wanted)
    }

    /// The follower that is named stays, unless no peer has its store any more and another is heard.
    fn wanted_follower(&self, now: BootTime, tenure: &Tenure) -> Option<StoreId> {
        let named = tenure.lease.record.follower.clone();
        let known = |store: &StoreId| self.peers.iter().any(|peer| peer.store.as_ref() == Some(store));
        if named.as_ref().is_some_and(known) {
            return named;
        }
        let silent_after = self.settings.suspect_after;
        let mut heard = self.peers.iter().filter(|peer| peer.is_heard(now, silent_after));
        heard.find_map(|peer| peer.store.clone()).or(named)
    }

    /// Hands the recorder a deadline: at most one short leash ahead, never beyond the own one, nor beyond what
    /// remains when a shorter leash is about to be written.
    fn grant(&mut self, now: BootTime) {
        let Some(tenure) = self.tenure() else { return };
        if tenure.handover.is_some() || !self.is_fit(now) {
            return;
        }
        let short = self.settings.leash;
        let within = tenure.end_of(tenure.leash().min(self.wanted_leash(now, tenure)));
        let until = if self.rules.grants_too_long() {
            now + short
        } else {
            within.min(now + short)
        };
        let grant = Authority {
            epoch: tenure.epoch,
            until,
        };
        if until > now && self.recorder.grant(grant, self.settings.heartbeat_interval / 2) {
            self.out.push(Effect::GrantRecorder(grant));
        }
    }

    /// The result of a primary's read: settles what was in doubt.
    pub(super) fn primary_read(&mut self, now: BootTime, sent: BootTime, result: ReadResult) {
        let gap = if self.is_connected(now) {
            self.settings.renew_interval
        } else {
            self.settings.alone_interval
        };
        let State::Primary(tenure) = &mut self.state else {
            return;
        };
        match result {
            ReadResult::Found(lease) => self.settle(now, lease),
            ReadResult::Missing => {
                tenure.next_call = sent + gap;
                tenure.read_wanted = true;
                self.out.push(Effect::Note(Note::LeaseMissing));
            }
            ReadResult::Unavailable if self.rules.needs_api() => self.end_tenure(now, LossReason::Deadline),
            ReadResult::Unreadable | ReadResult::Unavailable => tenure.next_call = sent + gap,
        }
    }

    fn settle(&mut self, now: BootTime, lease: Lease) {
        let State::Primary(tenure) = &mut self.state else {
            return;
        };
        let mine = lease.record.holder.as_ref() == Some(&self.me);
        let again = tenure
            .sending_of(&lease.record)
            .filter(|_| mine && lease.record.epoch > tenure.epoch);
        if lease.version == *tenure.expected() {
            // What is in doubt may still happen: another swap on the same version settles it.
            tenure.read_wanted = false;
        } else if mine && lease.record.epoch == tenure.epoch {
            tenure.confirm(lease);
        } else if let Some(sent) = again {
            self.enter_again(now, lease, sent);
        } else if lease.record.holder.is_none() {
            // A lost Lease was recreated. Nobody but this member can have a running deadline, so that it enters
            // itself again without a wait; what was asked on the lost one keeps binding until that succeeds.
            tenure.read_wanted = false;
            tenure.vacant = Some(lease);
        } else {
            // Whoever took is given the time to be heard.
            self.primary_heard = Some(now);
            self.end_tenure(now, LossReason::Superseded);
        }
    }

    /// The recreated Lease is this member's: it goes on in the higher epoch once that is synced (I5).
    fn enter_again(&mut self, now: BootTime, lease: Lease, sent: BootTime) {
        let epoch = lease.record.epoch;
        if let State::Primary(tenure) = &mut self.state {
            tenure.vacant = None;
            tenure.read_wanted = false;
            tenure.entered = Some((lease, sent));
        }
        self.persist(epoch);
        self.finish_entering(now);
    }

    pub(super) fn finish_entering(&mut self, now: BootTime) {
        let synced = self.synced;
        let State::Primary(tenure) = &mut self.state else {
            return;
        };
        if tenure
            .entered
            .as_ref()
            .is_some_and(|(lease, _)| synced >= lease.record.epoch)
        {
            tenure.enter();
            let epoch = tenure.epoch;
            self.next_beat = now;
            self.out.push(Effect::Note(Note::Serving { epoch }));
        }
    }

    /// The result of a primary's swap.
    pub(super) fn primary_swapped(&mut self, now: BootTime, asked: &LeaseRecord, result: SwapResult) {
        let State::Primary(tenure) = &mut self.state else {
            return;
        };
        match result {
            SwapResult::Swapped(lease) if lease.record == *asked && lease.version != *tenure.expected() => {
                self.settle(now, lease);
            }
            SwapResult::NotSent => tenure.unask(asked.counter),
            SwapResult::Conflict => {
                tenure.unask(asked.counter);
                tenure.read_wanted = true;
            }
            // A version that did not change is a failure, and what the server stored instead is unknown.
            SwapResult::Swapped(_) | SwapResult::InDoubt => tenure.read_wanted = true,
        }
    }

    /// When a primary has something to do by itself.
    pub(super) fn primary_due(&self, tenure: &Tenure) -> BootTime {
        let deadline = tenure.deadline();
        let handover = tenure.handover.as_ref().map(|handover| {
            let end = handover.since + self.settings.handover_timeout;
            if handover.revoked {
                self.recorder.granted_until()
            } else {
                end
            }
        });
        let call = self.pending.is_none().then(|| self.call_due(tenure));
        deadline
            .min(handover.unwrap_or(deadline))
            .min(call.unwrap_or(deadline))
    }

    /// A bound from below for the next call; [`Member::swap_due`] decides at each step.
    fn call_due(&self, tenure: &Tenure) -> BootTime {
        if tenure.read_wanted {
            return tenure.next_call;
        }
        let swap = tenure.swapped_at + self.swap_interval(self.now, tenure);
        swap.max(tenure.next_call)
    }
}
