//! Taking: read, wait, swap, sync. Only the member that is to hold the Lease does it.

use crate::effect::{Effect, Note, StandDown};
use crate::event::{OrderOutcome, ReadResult, SwapResult, TakeOrder};
use crate::lease::{Lease, LeaseRecord, millis};
use crate::member::tenure::Tenure;
use crate::member::{Member, Purpose, State};
use crate::message::Release;
use crate::name::{Epoch, MemberRef, StoreId, Version};
use crate::time::BootTime;

/// How far taking has come.
#[derive(Debug, Clone)]
pub(super) struct Taking {
    pub(super) phase: Phase,
    released: Option<Offer>,
}

/// What a primary released to this member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    by: MemberRef,
    epoch: Epoch,
    version: Version,
}

/// The steps of taking.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// A quorum read is due or under way.
    Reading { retry_at: BootTime },
    /// The Lease was read; whoever may hold a deadline under it is waited for.
    Waiting { lease: Lease, until: BootTime },
    /// The swap is under way: there is no way back before its result.
    Swapping { record: LeaseRecord, sent: BootTime },
    /// The swap succeeded; the epoch is being synced.
    Syncing { lease: Lease, sent: BootTime },
}

impl Offer {
    fn is_for(&self, lease: &Lease) -> bool {
        let holder = lease.record.holder.as_ref();
        self.version == lease.version && self.epoch == lease.record.epoch && holder == Some(&self.by)
    }
}

impl Member {
    /// Begins to take where the primary is not heard and the recorder makes progress.
    pub(super) fn consider_taking(&mut self, now: BootTime) {
        let State::Standby { retry_at } = self.state else {
            return;
        };
        let may = self.settings.takes_unasked && now >= retry_at;
        if may && self.is_fit(now) && !self.hears_primary(now) {
            self.out.push(Effect::Note(Note::Suspected));
            self.start_taking(now, None);
        }
    }

    /// From here on nobody is answered (I6).
    fn start_taking(&mut self, now: BootTime, released: Option<Offer>) {
        self.pending = None;
        self.primary = None;
        self.primary_heard = None;
        self.state = State::Taking(Taking {
            phase: Phase::Reading { retry_at: now },
            released,
        });
    }

    fn set_phase(&mut self, phase: Phase) {
        if let State::Taking(taking) = &mut self.state {
            taking.phase = phase;
        }
    }

    fn stand_down(&mut self, retry_at: BootTime, why: StandDown) {
        self.pending = None;
        self.state = State::Standby { retry_at };
        self.out.push(Effect::Note(Note::StoodDown { why }));
    }

    /// A member that hears the primary never takes. A swap that was sent is not taken back, though.
    pub(super) fn stand_down_for_primary(&mut self, now: BootTime) {
        let State::Taking(taking) = &self.state else {
            return;
        };
        let early = matches!(taking.phase, Phase::Reading { .. } | Phase::Waiting { .. });
        if early && !self.rules.answers_while_taking() {
            self.stand_down(now, StandDown::PrimaryHeard);
        }
    }

    /// A release of this member's primary: the version it names needs no wait.
    pub(super) fn take_released(&mut self, now: BootTime, release: &Release) {
        let by = release.from.clone();
        let offer = Offer {
            by,
            epoch: release.epoch,
            version: release.version.clone(),
        };
        if !self.is_fit(now) {
            return;
        }
        match &mut self.state {
            State::Standby { .. } => self.start_taking(now, Some(offer)),
            State::Taking(Taking {
                phase: Phase::Waiting { lease, until },
                released,
            }) if offer.is_for(lease) => {
                *until = now;
                let epoch = offer.epoch;
                // I6: whoever released this version returns only by another one, however often it is tried.
                *released = Some(offer);
                self.out.push(Effect::Note(Note::Released { epoch }));
            }
            State::Taking(taking) => taking.released = Some(offer),
            State::Primary(_) => {}
        }
    }

    /// Does what the phase calls for.
    pub(super) fn advance_taking(&mut self, now: BootTime) {
        let State::Taking(taking) = &self.state else {
            return;
        };
        match &taking.phase {
            Phase::Reading { retry_at } if now >= *retry_at && self.pending.is_none() => {
                self.read(now, Purpose::Take);
            }
            Phase::Waiting { until, .. } if now >= *until => self.swap_in(now),
            Phase::Syncing { lease, sent } if now >= *sent + lease.record.leash() => {
                self.stand_down(now, StandDown::SyncedTooLate);
            }
            _ => {}
        }
    }

    /// The result of a quorum read while taking.
    pub(super) fn taking_read(&mut self, now: BootTime, sent: BootTime, result: ReadResult) {
        let State::Taking(taking) = &self.state else {
            return;
        };
        let offered = taking.released.clone();
        let ReadResult::Found(lease) = result else {
            let retry_at = sent + self.settings.retry_interval;
            return self.set_phase(Phase::Reading { retry_at });
        };
        let resumes = self.rules.holder_resumes() && self.synced >= lease.record.epoch;
        if resumes && self.is_mine(&lease.record) {
            return self.begin_tenure(now, lease, now);
        }
        if !self.may_take(&lease.record) {
            return self.stand_down(now + self.settings.renew_interval, StandDown::NotNamed);
        }
        let at_once = offered.is_some_and(|offer| offer.is_for(&lease));
        // I6: from the receipt of the read, which is later than the own last answer.
        let wait = self.rules.wait(lease.record.leash());
        let until = if at_once {
            now
        } else {
            now.max(self.last_answer) + wait
        };
        self.out.push(Effect::Note(Note::Read {
            epoch: lease.record.epoch,
            until,
            held: lease.record.holder.is_some(),
            released: at_once,
            mine: self.is_mine(&lease.record),
        }));
        self.set_phase(Phase::Waiting { lease, until });
    }

    fn is_mine(&self, record: &LeaseRecord) -> bool {
        record
            .holder
            .as_ref()
            .is_some_and(|holder| holder.same_store(&self.me))
    }

    /// The holder, the named follower, and where there is no holder anyone.
    fn may_take(&self, record: &LeaseRecord) -> bool {
        let named = record.follower.as_ref() == Some(&self.me.store);
        record.holder.is_none() || self.is_mine(record) || named
    }

    /// The wait is over: the swap, conditional on the version that was read.
    fn swap_in(&mut self, now: BootTime) {
        if !self.is_fit(now) {
            return self.stand_down(now, StandDown::Unfit);
        }
        let State::Taking(Taking {
            phase: Phase::Waiting { lease, .. },
            ..
        }) = &self.state
        else {
            return;
        };
        let (expected, record) = (lease.version.clone(), self.record_that_takes(&lease.record));
        self.set_phase(Phase::Swapping {
            record: record.clone(),
            sent: now,
        });
        self.swap(now, Purpose::Take, expected, record);
    }

    fn record_that_takes(&self, read: &LeaseRecord) -> LeaseRecord {
        LeaseRecord {
            epoch: read.epoch.max(self.synced).max(self.persist_asked).next(),
            leash_ms: millis(self.settings.leash),
            counter: read.counter.saturating_add(1),
            holder: Some(self.me.clone()),
            follower: self.follower_after(read),
        }
    }

    /// Whoever held it, else the follower that was named, else the first peer whose store is known.
    fn follower_after(&self, read: &LeaseRecord) -> Option<StoreId> {
        let other = |store: &&StoreId| **store != self.me.store;
        let holder = read.holder.as_ref().map(|holder| &holder.store).filter(other);
        let named = read.follower.as_ref().filter(other);
        let known = || self.peers.iter().find_map(|peer| peer.store.as_ref());
        holder.or(named).or_else(known).cloned()
    }

    /// The result of the swap that takes. In doubt counts as not done: a member that finds itself the holder
    /// otherwise than by the reply to its own swap takes again, by the same rule (I6).
    pub(super) fn taking_swapped(&mut self, now: BootTime, result: SwapResult) {
        let State::Taking(Taking {
            phase: Phase::Swapping { record, sent },
            ..
        }) = &self.state
        else {
            return;
        };
        let sent = *sent;
        match result {
            SwapResult::Swapped(lease) if lease.record == *record => {
                self.out.push(Effect::Note(Note::Swapped {
                    epoch: lease.record.epoch,
                }));
                self.persist(lease.record.epoch);
                self.set_phase(Phase::Syncing { lease, sent });
                self.finish_taking(now);
            }
            _ if self.hears_primary(now) => self.stand_down(now, StandDown::PrimaryHeard),
            SwapResult::NotSent => {
                let retry_at = sent + self.settings.retry_interval;
                self.set_phase(Phase::Reading { retry_at });
            }
            _ => self.set_phase(Phase::Reading { retry_at: now }),
        }
    }

    /// I5: authority begins when its epoch is synced.
    pub(super) fn finish_taking(&mut self, now: BootTime) {
        let State::Taking(Taking {
            phase: Phase::Syncing { lease, sent },
            ..
        }) = &self.state
        else {
            return;
        };
        let synced = self.synced >= lease.record.epoch || self.rules.acts_before_sync();
        if synced && now < *sent + lease.record.leash() {
            let (lease, sent) = (lease.clone(), *sent);
            self.begin_tenure(now, lease, sent);
        }
    }

    fn begin_tenure(&mut self, now: BootTime, lease: Lease, sent: BootTime) {
        self.out.push(Effect::Note(Note::Serving {
            epoch: lease.record.epoch,
        }));
        self.state = State::Primary(Box::new(Tenure::new(now, lease, sent, self.rules)));
        self.pending = None;
        self.wants = None;
        self.released = None;
        self.primary = None;
        self.next_beat = now;
    }

    pub(super) fn on_take_order(&mut self, now: BootTime, order: TakeOrder) -> OrderOutcome {
        if order.epoch < self.floor() {
            return OrderOutcome::Stale;
        }
        if self.tenure().is_some() {
            return OrderOutcome::NotApplicable;
        }
        if !self.is_fit(now) {
            return OrderOutcome::Unfit;
        }
        if self.hears_primary(now) && self.primary.is_some() {
            return self.wish_for_handover(now, order);
        }
        if matches!(self.state, State::Standby { .. }) {
            self.start_taking(now, None);
        }
        OrderOutcome::Accepted
    }

    /// While the primary is heard only a planned move makes sense: it is asked to hand over.
    fn wish_for_handover(&mut self, now: BootTime, order: TakeOrder) -> OrderOutcome {
        if !order.reason.is_planned() {
            return OrderOutcome::Alive;
        }
        self.wants = Some((order.epoch, now + self.settings.handover_timeout));
        self.next_beat = now;
        OrderOutcome::Accepted
    }

    /// When taking goes on by itself.
    pub(super) fn taking_due(&self, taking: &Taking) -> Option<BootTime> {
        match &taking.phase {
            Phase::Reading { retry_at } => self.pending.is_none().then_some(*retry_at),
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Swapping { .. } => None,
            Phase::Syncing { lease, sent } => Some(*sent + lease.record.leash()),
        }
    }
}
