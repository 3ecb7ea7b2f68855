//! The state machine of one replicator's authority.

mod arrivals;
mod handover;
mod peers;
mod primary;
mod recorder;
mod taking;
mod tenure;

use std::collections::VecDeque;

use crate::effect::{Authority, Effect};
use crate::event::{Event, OpId, OrderOutcome, ReadResult, SwapResult};
use crate::lease::{Lease, LeaseRecord, millis};
use crate::message::Health;
use crate::name::{Epoch, MemberName, MemberRef, Version};
use crate::report::{Report, Role};
use crate::rules::Rules;
use crate::settings::Settings;
use crate::time::BootTime;

use handover::Released;
use peers::Peer;
use recorder::Recorder;
use taking::Taking;
use tenure::Tenure;

/// A call to the API without a result for so many time-outs counts as lost.
const LOST_AFTER: u32 = 4;

/// What a member is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Itself, with an incarnation that is new at every start.
    pub me: MemberRef,
    /// The others, in the order in which they are preferred as followers.
    pub peers: Vec<MemberName>,
    /// The epoch that is synced on the volume; 0 on a new one.
    pub synced: Epoch,
    /// The times.
    pub settings: Settings,
}

/// What a member does about authority.
#[derive(Debug, Clone)]
enum State {
    /// It follows. It does not begin to take before `retry_at`.
    Standby {
        /// The end of a pause after taking was given up.
        retry_at: BootTime,
    },
    /// It reads, waits, swaps or syncs.
    Taking(Taking),
    /// It holds it.
    Primary(Box<Tenure>),
}

/// What a call to the API is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A peer named an epoch that was not read yet (I5).
    Learn,
    /// The read or the swap of a member that takes.
    Take,
    /// A primary's read of what is in doubt.
    Settle,
    /// A primary's swap.
    Renew,
}

/// The call to the API that is under way.
#[derive(Debug, Clone)]
struct Pending {
    op: OpId,
    purpose: Purpose,
    sent: BootTime,
    /// What a swap writes; `None` for a read.
    asked: Option<LeaseRecord>,
}

/// A request that may be answered.
#[derive(Debug, Clone, Copy)]
struct Sent {
    sequence: u64,
    at: BootTime,
    /// The epoch whose running deadline it claimed.
    claim: Option<Epoch>,
}

/// The authority of one replicator: events and time in, effects out.
///
/// Nothing it keeps grows: requests, swaps in doubt and repeats are bounded, and one call to the API is under way at
/// a time.
#[derive(Debug, Clone)]
pub struct Member {
    me: MemberRef,
    settings: Settings,
    peers: Vec<Peer>,
    rules: Rules,
    now: BootTime,
    started: BootTime,
    state: State,
    synced: Epoch,
    persist_asked: Epoch,
    /// The newest Lease that was read or written.
    known: Option<Lease>,
    /// The highest epoch that was read from the API, or synced.
    read_epoch: Epoch,
    learn_wanted: bool,
    next_learn: BootTime,
    pending: Option<Pending>,
    ops: u64,
    sequence: u64,
    sent: VecDeque<Sent>,
    next_beat: BootTime,
    last_answer: BootTime,
    primary_heard: Option<BootTime>,
    primary: Option<MemberName>,
    recorder: Recorder,
    released: Option<Released>,
    wants: Option<(Epoch, BootTime)>,
    /// Until when the follower may claim streams that were delegated to it.
    delegated_until: BootTime,
    said: (Role, Epoch),
    out: Vec<Effect>,
}

impl Member {
    /// A member that has just started. It counts its start as its last answer, and holds nothing: even the
    /// holder that the Lease names takes again. Call [`Member::step`] with [`Event::Tick`] next.
    pub fn new(now: BootTime, config: Config) -> Self {
        let Config {
            me,
            peers,
            synced,
            settings,
        } = config;
        Self {
            me,
            settings,
            peers: peers.into_iter().map(Peer::new).collect(),
            rules: Rules::default(),
            now,
            started: now,
            state: State::Standby { retry_at: now },
            synced,
            persist_asked: synced,
            known: None,
            read_epoch: synced,
            learn_wanted: false,
            next_learn: now,
            pending: None,
            ops: 0,
            sequence: 0,
            sent: VecDeque::new(),
            next_beat: now,
            last_answer: now,
            primary_heard: Some(now),
            primary: None,
            recorder: Recorder::default(),
            released: None,
            wants: None,
            delegated_until: BootTime(0),
            said: (Role::Standby, synced),
            out: Vec::new(),
        }
    }

    /// Breaks a rule, so that a test can show that this is found.
    #[cfg(feature = "sabotage")]
    #[must_use]
    pub fn sabotaged(mut self, rule: crate::rules::Sabotage) -> Self {
        self.rules = Rules::without(rule);
        self
    }

    /// Takes note of an event at `now`, which must not go back, and says what to do.
    ///
    /// `now` is read *before* the effects are carried out: deadlines count from then. Every effect is to be
    /// carried out, in order.
    pub fn step(&mut self, now: BootTime, event: Event) -> Vec<Effect> {
        let now = now.max(self.now);
        self.now = now;
        self.expire(now);
        self.take_in(now, event);
        self.advance(now);
        self.say_role();
        std::mem::take(&mut self.out)
    }

    fn take_in(&mut self, now: BootTime, event: Event) {
        match event {
            Event::Tick => {}
            Event::RequestReceived(request) => self.on_request(now, &request),
            Event::AnswerReceived(answer) => self.on_answer(now, &answer),
            Event::ReleaseReceived(release) => self.on_release(now, &release),
            Event::LeaseRead { op, result } => self.on_read(now, op, result),
            Event::LeaseSwapped { op, result } => self.on_swapped(now, op, result),
            Event::EpochPersisted(epoch) => self.on_persisted(now, epoch),
            Event::RecorderProgress { ticket } => self.recorder.progress(now, ticket),
            Event::RecorderDied => self.on_recorder_died(now),
            Event::RecorderWithdrawn { epoch } => self.recorder.withdrew(epoch),
            Event::TakeOrder(order) => {
                let outcome = self.on_take_order(now, order);
                self.out.push(Effect::OrderAnswered(outcome));
            }
            Event::SwitchoverOrder { epoch } => self.on_switchover_order(now, epoch),
            Event::SettingsChanged(settings) => self.settings = settings,
        }
    }

    /// The times that it goes by now.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The follower may claim streams until then. A shorter leash is written only if whoever waits for that waits for this too (I6).
    pub fn delegates_until(&mut self, until: BootTime) {
        self.delegated_until = until;
    }

    /// What is due, in the order in which one thing follows from another.
    fn advance(&mut self, now: BootTime) {
        self.give_up_lost_call(now);
        self.suspect(now);
        self.wants = self.wants.filter(|(_, until)| now < *until);
        self.consider_taking(now);
        self.advance_taking(now);
        self.expire(now);
        self.advance_primary(now);
        self.learn(now);
        self.beat(now);
    }

    fn say_role(&mut self) {
        let epoch = self.tenure().map_or(self.synced, |tenure| tenure.epoch);
        let said = (self.role(), epoch);
        if said != self.said {
            self.said = said;
            self.out.push(Effect::RoleChanged { role: said.0, epoch });
        }
    }

    /// The highest epoch that this member is sure of: nobody below it is answered or heard.
    fn floor(&self) -> Epoch {
        self.read_epoch.max(self.synced)
    }

    fn is_fit(&self, now: BootTime) -> bool {
        self.recorder.is_fit(now, self.settings.ticket_timeout)
    }

    fn health(&self, now: BootTime) -> Health {
        if self.is_fit(now) {
            Health::Fit
        } else {
            Health::Unfit
        }
    }

    fn on_recorder_died(&mut self, now: BootTime) {
        self.recorder.died();
        self.next_beat = now;
    }

    fn on_switchover_order(&mut self, now: BootTime, epoch: Epoch) {
        let held = self.tenure().map(|tenure| tenure.epoch);
        let outcome = match held {
            _ if epoch < self.floor() => OrderOutcome::Stale,
            Some(held) if held == epoch && self.start_handover(now) => OrderOutcome::Accepted,
            Some(held) if held == epoch => OrderOutcome::Unfit,
            _ => OrderOutcome::NotApplicable,
        };
        self.out.push(Effect::OrderAnswered(outcome));
    }

    /// Asks for an epoch to be synced, once.
    fn persist(&mut self, epoch: Epoch) {
        if epoch > self.persist_asked {
            self.persist_asked = epoch;
            self.out.push(Effect::PersistEpoch { epoch });
        }
    }

    fn on_persisted(&mut self, now: BootTime, epoch: Epoch) {
        // I5
        self.synced = self.synced.max(epoch);
        self.finish_taking(now);
        self.finish_entering(now);
    }

    /// Reads the Lease where a peer named an epoch that was not read yet.
    fn learn(&mut self, now: BootTime) {
        let wanted = self.learn_wanted && self.pending.is_none() && now >= self.next_learn;
        if wanted && !matches!(self.state, State::Taking(_)) {
            self.learn_wanted = false;
            self.next_learn = now + self.settings.retry_interval;
            self.read(now, Purpose::Learn);
        }
    }

    fn call(&mut self, now: BootTime, purpose: Purpose, asked: Option<LeaseRecord>) -> OpId {
        self.ops += 1;
        let op = OpId(self.ops);
        self.pending = Some(Pending {
            op,
            purpose,
            sent: now,
            asked,
        });
        op
    }

    fn read(&mut self, now: BootTime, purpose: Purpose) {
        let op = self.call(now, purpose, None);
        self.out.push(Effect::ReadLease { op });
    }

    fn swap(&mut self, now: BootTime, purpose: Purpose, expected: Version, record: LeaseRecord) {
        let op = self.call(now, purpose, Some(record.clone()));
        self.out.push(Effect::SwapLease { op, expected, record });
    }

    fn finished(&mut self, op: OpId) -> Option<Pending> {
        if self.pending.as_ref().is_some_and(|pending| pending.op == op) {
            return self.pending.take();
        }
        None
    }

    fn on_read(&mut self, now: BootTime, op: OpId, result: ReadResult) {
        let Some(pending) = self.finished(op) else { return };
        if let ReadResult::Found(lease) = &result {
            self.see(lease);
        }
        match (pending.purpose, &self.state) {
            (_, State::Primary(_)) => self.primary_read(now, pending.sent, result),
            (Purpose::Take, _) => self.taking_read(now, pending.sent, result),
            _ => {}
        }
    }

    /// I5: an epoch that was read from the API is synced, and nobody below it is answered from now on.
    fn see(&mut self, lease: &Lease) {
        let epoch = lease.record.epoch;
        self.read_epoch = self.read_epoch.max(epoch);
        self.known = Some(lease.clone());
        self.persist(epoch);
    }

    fn on_swapped(&mut self, now: BootTime, op: OpId, result: SwapResult) {
        let Some(pending) = self.finished(op) else { return };
        if let SwapResult::Swapped(lease) = &result {
            self.known = Some(lease.clone());
        }
        match (pending.purpose, pending.asked) {
            (Purpose::Take, _) => self.taking_swapped(now, result),
            (_, Some(asked)) => self.primary_swapped(now, &asked, result),
            _ => {}
        }
    }

    /// The driver reports every call within `api_timeout`; one that it forgot must not stop this member.
    fn give_up_lost_call(&mut self, now: BootTime) {
        let Some(pending) = &self.pending else { return };
        if now < pending.sent + self.settings.api_timeout * LOST_AFTER {
            return;
        }
        let (op, swap) = (pending.op, pending.asked.is_some());
        if swap {
            self.on_swapped(now, op, SwapResult::InDoubt);
        } else {
            self.on_read(now, op, ReadResult::Unavailable);
        }
    }

    /// When [`Event::Tick`] is due at the latest. A later event before it makes it due anew.
    pub fn next_deadline(&self) -> Option<BootTime> {
        let due = [
            Some(self.next_beat),
            self.suspicion_due(),
            self.recorder.fit_until(self.settings.ticket_timeout),
            self.state_due(),
            self.pending
                .as_ref()
                .map(|call| call.sent + self.settings.api_timeout * LOST_AFTER),
            (self.learn_wanted && self.pending.is_none()).then_some(self.next_learn),
        ];
        // What was due at the last step waits for more than time.
        due.into_iter().flatten().filter(|due| *due > self.now).min()
    }

    fn state_due(&self) -> Option<BootTime> {
        match &self.state {
            State::Standby { retry_at } if self.is_fit(self.now) => {
                Some((*retry_at).max(self.heard_until().unwrap_or(*retry_at)))
            }
            State::Standby { .. } => None,
            State::Taking(taking) => self.taking_due(taking),
            State::Primary(tenure) => Some(self.primary_due(tenure)),
        }
    }

    /// The authority that this member holds at `now`: ask again before each act on it.
    pub fn authority(&self, now: BootTime) -> Option<Authority> {
        let tenure = self.tenure()?;
        let until = tenure.deadline();
        (now < until).then_some(Authority {
            epoch: tenure.epoch,
            until,
        })
    }

    /// What it does about authority.
    pub fn role(&self) -> Role {
        match &self.state {
            State::Standby { .. } => Role::Standby,
            State::Taking(_) => Role::Taking,
            State::Primary(tenure) if tenure.handover.is_some() => Role::HandingOver,
            State::Primary(_) => Role::Primary,
        }
    }

    /// The epoch that is synced on its volume, as far as the driver said.
    pub fn synced_epoch(&self) -> Epoch {
        self.synced
    }

    /// What it says of itself.
    pub fn report(&self, now: BootTime) -> Report {
        let authority = self.authority(now);
        let heard = self.primary.clone().filter(|_| self.hears_primary(now));
        let primary = authority.map(|_| self.me.member.clone()).or(heard);
        let lease = self.known.as_ref();
        Report {
            me: self.me.clone(),
            role: self.role(),
            synced_epoch: self.synced,
            serving_epoch: authority.map(|authority| authority.epoch),
            remaining_ms: authority.map_or(0, |authority| millis(authority.until.since(now))),
            leash_ms: self.tenure().map_or(0, |tenure| millis(tenure.leash())),
            health: self.health(now),
            hears_primary: primary.is_some(),
            primary,
            lease_version: lease.map(|lease| lease.version.clone()),
            lease_epoch: lease.map(|lease| lease.record.epoch),
            follower: lease.and_then(|lease| lease.record.follower.clone()),
            peers: self
                .peers
                .iter()
                .map(|peer| peer.report(now, &self.settings))
                .collect(),
        }
    }
}
