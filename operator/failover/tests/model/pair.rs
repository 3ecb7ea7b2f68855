//! Two real members beside the model: chance decides what happens, the real members decide what they do, and each of their acts has to
//! be a step of the model that is allowed at that moment.

use std::time::Duration;

use failover::{
    Answer, Authority, BootTime, Config, Effect, Epoch, Event, Incarnation, Lease as RealLease, LeaseRecord,
    LossReason, Member as Real, MemberName, MemberRef, Note, OpId, ReadResult, Release, Request,
    Role as RealRole, Sabotage, Settings, StoreId, SwapResult, TakeOrder, TakeReason, Version,
};

use crate::rule::{Action, Rule};
use crate::state::*;

/// A tick by the slowest clock; by the fastest it is 1.2 times as long.
const SLOW: Duration = Duration::from_millis(300);
const FAST: Duration = Duration::from_millis(360);
const FOREVER: Duration = Duration::from_hours(1);

fn settings() -> Settings {
    Settings {
        heartbeat_interval: SLOW,
        suspect_after: SLOW,
        leash: SLOW * u32::from(SHORT),
        long_leash: SLOW * u32::from(LONG),
        silence_before_long: SLOW * 2,
        renew_interval: SLOW,
        alone_interval: SLOW / 3,
        retry_interval: SLOW / 3,
        // Results are a matter of chance here.
        api_timeout: FOREVER,
        ticket_timeout: FOREVER,
        handover_timeout: FOREVER,
        takes_unasked: true,
    }
}

/// What is on its way to a member.
#[derive(Debug)]
enum Letter {
    Request(Request),
    Answer(Answer),
    Release(Release),
}

#[derive(Debug)]
struct Side {
    real: Real,
    starts: u64,
    clock: BootTime,
    /// What its recorder was granted.
    grant: Option<Authority>,
    read: Option<(OpId, Option<ReadResult>)>,
    swap: Option<(OpId, Version, LeaseRecord, Option<SwapResult>)>,
    late: Option<(Version, LeaseRecord)>,
    persist: Option<Epoch>,
    inbox: Vec<Letter>,
    /// The number of the claim that the model follows.
    claimed: u64,
    ticket: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Pair {
    model: World,
    rule: Rule,
    broken: Option<Sabotage>,
    sides: [Side; 2],
    lease: Option<RealLease>,
    versions: u64,
    random: u64,
    style: usize,
    /// What happened, where it is asked for.
    pub trace: Option<Vec<String>>,
    /// How often authority began.
    pub served: u64,
}

/// A real act that the model forbids.
pub type Forbidden = String;

impl Pair {
    pub fn new(seed: u64, broken: Option<Sabotage>) -> Self {
        let record = LeaseRecord::first(settings().leash);
        let mut pair = Self {
            model: World::new(),
            rule: Rule::default(),
            broken,
            sides: [0, 1].map(|i| Side::new(i, 0, 0, BootTime(1_000_000_000), broken)),
            lease: None,
            versions: 0,
            random: seed,
            style: (seed % 4) as usize,
            trace: None,
            served: 0,
        };
        pair.put(record);
        pair
    }

    fn chance(&mut self, of: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % of
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    fn put(&mut self, record: LeaseRecord) -> RealLease {
        self.versions += 1;
        let version = Version::new(&self.versions.to_string());
        let lease = RealLease { version, record };
        self.lease = Some(lease.clone());
        lease
    }

    /// The model does what a real member did, where it may.
    fn model(&mut self, action: Action) -> Result<(), Forbidden> {
        self.note(|| format!("  model: {action:?}"));
        match self.rule.step(&self.model, action) {
            Some(next) => self.model = next,
            None => return Err(format!("{action:?} is not allowed in {:?}", self.model)),
        }
        Ok(())
    }

    fn side(&mut self, i: u8) -> &mut Side {
        &mut self.sides[usize::from(i)]
    }

    /// One random thing happens. What is likely differs from walk to walk: messages that are slow, an API that is.
    pub fn walk(&mut self) -> Result<(), Forbidden> {
        let i = self.chance(2) as u8;
        let [deliver, api] = [[35, 35], [12, 50], [50, 30], [25, 40]][self.style];
        let mut dice = self.chance(100);
        let mut within = |share: u64| {
            let hit = dice < share;
            dice = dice.wrapping_sub(share);
            hit
        };
        if within(deliver) {
            return self.deliver(i);
        }
        if within(api) {
            return if self.chance(2) == 0 {
                self.serve(i)
            } else {
                self.reply(i)
            };
        }
        match self.chance(100) {
            0..25 => self.tick(),
            25..75 => self.sync(i),
            75..83 => self.store_late(i),
            83..92 => self.order(i),
            92..94 => self.crash(i),
            94..97 => self.recorder_ends(i),
            97 => {
                self.side(i).inbox.clear();
                Ok(())
            }
            98 if self.chance(20) == 0 => self.delete(),
            _ => self.recreate(),
        }
    }

    fn step(&mut self, i: u8, event: Event) -> Result<(), Forbidden> {
        self.note(|| format!("{i} gets {event:?}"));
        let side = self.side(i);
        let effects = side.real.step(side.clock, event);
        for effect in effects {
            self.note(|| format!("{i} does {effect:?}"));
            self.follow(i, effect)?;
        }
        self.agree(i)
    }

    /// A clock of a member that acts on authority is slow, and that of one that waits for its end is fast: the worst case.
    fn tick(&mut self) -> Result<(), Forbidden> {
        self.model(Action::Tick)?;
        for i in [0, 1] {
            let any = self.chance(4) == 0;
            let slow = if any {
                self.chance(2) == 0
            } else {
                self.model.member(i).acts()
            };
            let side = self.side(i);
            side.clock = side.clock + if slow { SLOW } else { FAST };
            self.step(i, Event::Tick)?;
            self.end_grant(i)?;
        }
        Ok(())
    }

    fn end_grant(&mut self, i: u8) -> Result<(), Forbidden> {
        let side = self.side(i);
        let clock = side.clock;
        side.grant = side.grant.filter(|grant| clock < grant.until);
        if self.side(i).grant.is_none() && self.model.member(i).grant > 0 {
            self.model(Action::Withdraw(i))?;
        }
        Ok(())
    }

    /// What a real member does is done, and by the model too.
    fn follow(&mut self, i: u8, effect: Effect) -> Result<(), Forbidden> {
        match effect {
            Effect::SendRequest { request, .. } => self.sent_request(i, request),
            Effect::SendAnswer { answer, .. } => self.sent_answer(i, answer),
            Effect::SendRelease { release, .. } => {
                self.side(1 - i).inbox.push(Letter::Release(release));
                Ok(())
            }
            Effect::ReadLease { op } => {
                self.catch_up(i)?;
                self.side(i).read = Some((op, None));
                Ok(())
            }
            Effect::SwapLease { op, expected, record } => self.sent_swap(i, op, expected, record),
            Effect::PersistEpoch { epoch } => {
                let side = self.side(i);
                side.persist = side.persist.max(Some(epoch));
                Ok(())
            }
            Effect::GrantRecorder(grant) => self.granted(i, grant),
            Effect::Note(Note::StoodDown { .. }) => self.stood_down(i),
            Effect::Note(Note::Lost { why, .. }) if self.model.member(i).tenure().is_some() => {
                let released = why == LossReason::Released;
                self.model(if released {
                    Action::Release(i)
                } else {
                    Action::Lose(i)
                })
            }
            Effect::Note(Note::Serving { .. }) => {
                self.served += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn stood_down(&mut self, i: u8) -> Result<(), Forbidden> {
        match self.model.member(i).role {
            Role::Reading | Role::Waiting { .. } => self.model(Action::StandDown(i)),
            // By the model a sync that is too late ends at the moment at which it is known to be.
            Role::Syncing(_) => self.sync(i),
            _ => Ok(()),
        }
    }

    fn sent_request(&mut self, i: u8, request: Request) -> Result<(), Forbidden> {
        if request.claims {
            // The model follows one claim of each member at a time: this one is lost, or the one before it.
            let under_way = self.model.claims[usize::from(i)].is_some();
            if under_way && self.chance(3) > 0 {
                return Ok(());
            }
            self.model(Action::Claim(i))?;
            self.side(i).claimed = request.sequence;
            let from = request.from.clone();
            let old =
                |l: &Letter| matches!(l, Letter::Request(r) if r.from.member == from.member && r.claims);
            self.side(1 - i).inbox.retain(|l| !old(l));
            self.side(i).inbox.retain(|l| !matches!(l, Letter::Answer(_)));
        }
        self.side(1 - i).inbox.push(Letter::Request(request));
        Ok(())
    }

    fn sent_answer(&mut self, i: u8, answer: Answer) -> Result<(), Forbidden> {
        let claim = self.model.claims[usize::from(1 - i)];
        let answers_it = self.side(1 - i).claimed == answer.sequence;
        if answers_it && claim.is_some_and(|c| !c.answered) {
            self.model(Action::Answer(i))?;
            self.side(1 - i).inbox.push(Letter::Answer(answer));
        }
        Ok(())
    }

    fn sent_swap(
        &mut self,
        i: u8,
        op: OpId,
        expected: Version,
        record: LeaseRecord,
    ) -> Result<(), Forbidden> {
        self.catch_up(i)?;
        let leash = if record.leash() > settings().leash {
            Leash::Long
        } else {
            Leash::Short
        };
        match self.model.member(i).role {
            Role::Waiting { left, .. } => {
                if left > 0 {
                    self.model(Action::Hurry(i))?;
                }
                self.model(Action::SwapIn(i))?;
            }
            _ => self.model(Action::Renew(i, leash))?,
        }
        let in_place = self.lease.as_ref().is_some_and(|l| l.version == expected);
        let asked = Swap {
            epoch: record.epoch.0 as u8,
            leash,
            current: in_place,
            age: 0,
        };
        if self.model.member(i).call != Call::Swap(asked) {
            let model = self.model.member(i).call;
            return Err(format!("{i} asks for {asked:?}, the model for {model:?}"));
        }
        self.side(i).swap = Some((op, expected, record, None));
        Ok(())
    }

    fn granted(&mut self, i: u8, grant: Authority) -> Result<(), Forbidden> {
        let most = SHORT
            .min(self.model.member(i).left())
            .max(self.model.member(i).grant);
        if grant.until > self.side(i).clock + SLOW * u32::from(most) {
            return Err(format!("{i} grants {grant:?}, the model at most {most} ticks"));
        }
        if most > self.model.member(i).grant {
            self.model(Action::Grant(i))?;
        }
        let side = self.side(i);
        let longer = side.grant.is_none_or(|old| grant.until > old.until);
        if longer {
            side.grant = Some(grant);
        }
        Ok(())
    }

    /// A real member that begins to take or gives something up may do so at any time by the model.
    fn catch_up(&mut self, i: u8) -> Result<(), Forbidden> {
        let real = self.side(i).real.role();
        match (real, self.model.member(i).role) {
            (RealRole::Taking, Role::Standby) => self.model(Action::Take(i)),
            (RealRole::Standby, Role::Holder(_)) => self.model(Action::Lose(i)),
            (RealRole::Standby, Role::Reading | Role::Waiting { .. }) => self.model(Action::StandDown(i)),
            _ => Ok(()),
        }
    }

    /// After each step: no real member holds, or is granted, what the model does not allow.
    fn agree(&mut self, i: u8) -> Result<(), Forbidden> {
        self.catch_up(i)?;
        let side = &self.sides[usize::from(i)];
        let member = self.model.member(i);
        let same = match (side.real.role(), member.role) {
            (RealRole::Standby, Role::Standby)
            | (RealRole::Primary | RealRole::HandingOver, Role::Holder(_)) => true,
            (RealRole::Taking, role) => !matches!(role, Role::Standby | Role::Holder(_)),
            _ => false,
        };
        if !same {
            return Err(format!(
                "{i} is {:?}, by the model {:?}",
                side.real.role(),
                member.role
            ));
        }
        if let Some(held) = side.real.authority(side.clock) {
            let most = side.clock + SLOW * u32::from(member.left());
            let epoch = member.tenure().map(|t| u64::from(t.epoch));
            if held.until > most || Some(held.epoch.0) != epoch {
                return Err(format!(
                    "{i} holds {held:?} at {:?}, the model {member:?}",
                    side.clock
                ));
            }
        }
        if side.real.synced_epoch().0 != u64::from(member.synced) {
            let real = side.real.synced_epoch();
            return Err(format!("{i} synced {real}, by the model {}", member.synced));
        }
        self.leave_swap(i);
        if self.model.members.iter().all(Member::acts) || self.model.broken.is_some() {
            return Err(format!("the model breaks: {:?}", self.model));
        }
        Ok(())
    }

    /// A swap that its member waits for no more may still be stored.
    fn leave_swap(&mut self, i: u8) {
        let waits = matches!(
            self.model.member(i).call,
            Call::Swap(_) | Call::Stored(_) | Call::Refused(_)
        );
        let late = self.model.member(i).late.is_some();
        let side = self.side(i);
        if !waits
            && let Some((_, expected, record, None)) = side.swap.take()
            && late
        {
            side.late = Some((expected, record));
        }
    }

    fn deliver(&mut self, i: u8) -> Result<(), Forbidden> {
        let waiting = self.side(i).inbox.len() as u64;
        if waiting == 0 {
            return Ok(());
        }
        let any = self.chance(waiting) as usize;
        match self.side(i).inbox.swap_remove(any) {
            Letter::Request(request) => self.step(i, Event::RequestReceived(request)),
            Letter::Release(release) => self.step(i, Event::ReleaseReceived(release)),
            Letter::Answer(answer) => {
                let tenure = self.model.member(i).tenure().map(|t| t.epoch);
                let claim = self.model.claims[usize::from(i)];
                // It counts only for the epoch that was claimed.
                if claim.is_some_and(|c| c.answered && Some(c.epoch) == tenure) {
                    self.model(Action::Hear(i))?;
                }
                self.step(i, Event::AnswerReceived(answer))
            }
        }
    }

    /// The API deals with a call.
    fn serve(&mut self, i: u8) -> Result<(), Forbidden> {
        if let Some((op, None)) = self.side(i).read {
            return self.serve_read(i, op);
        }
        let Some((_, expected, record, None)) = self.side(i).swap.clone() else {
            return Ok(());
        };
        self.model(Action::Store(i))?;
        let result = match self.store(&expected, record) {
            Some(lease) => SwapResult::Swapped(lease),
            None => SwapResult::Conflict,
        };
        let stored = matches!(result, SwapResult::Swapped(_));
        if stored != matches!(self.model.member(i).call, Call::Stored(_)) {
            return Err(format!(
                "{i}: {result:?}, the model {:?}",
                self.model.member(i).call
            ));
        }
        if let Some((.., open)) = &mut self.side(i).swap {
            *open = Some(result);
        }
        Ok(())
    }

    fn store(&mut self, expected: &Version, record: LeaseRecord) -> Option<RealLease> {
        let same = self.lease.as_ref().is_some_and(|l| l.version == *expected);
        same.then(|| self.put(record))
    }

    fn serve_read(&mut self, i: u8, op: OpId) -> Result<(), Forbidden> {
        let found = self.lease.clone();
        let result = found.map_or(ReadResult::Missing, ReadResult::Found);
        let result = if self.chance(10) == 0 {
            ReadResult::Unavailable
        } else {
            result
        };
        let role = self.model.member(i).role;
        if matches!(role, Role::Standby | Role::Reading) && matches!(result, ReadResult::Found(_)) {
            self.model(Action::Read(i))?;
            self.side(i).read = Some((op, Some(result)));
            return Ok(());
        }
        // What a holder reads comes at once.
        self.side(i).read = None;
        if matches!(role, Role::Holder(_)) && matches!(result, ReadResult::Found(_)) {
            self.model(Action::Settle(i))?;
        }
        self.step(i, Event::LeaseRead { op, result })
    }

    /// A result comes, or the call is given up.
    fn reply(&mut self, i: u8) -> Result<(), Forbidden> {
        if let Some((op, Some(result))) = self.side(i).read.clone() {
            self.side(i).read = None;
            if !matches!(self.model.member(i).call, Call::Read(_)) {
                return Ok(());
            }
            self.model(Action::GotRead(i))?;
            return self.step(i, Event::LeaseRead { op, result });
        }
        let Some((op, expected, record, result)) = self.side(i).swap.take() else {
            return Ok(());
        };
        let (action, result) = match (result, self.chance(4)) {
            (None, 0) => (Action::NotSent(i), SwapResult::NotSent),
            (None, _) => {
                self.side(i).late = Some((expected, record));
                (Action::GiveUp(i), SwapResult::InDoubt)
            }
            (Some(_), 0) => (Action::GiveUp(i), SwapResult::InDoubt),
            (Some(result), _) => (Action::GotReply(i), result),
        };
        self.model(action)?;
        self.step(i, Event::LeaseSwapped { op, result })
    }

    fn store_late(&mut self, i: u8) -> Result<(), Forbidden> {
        let Some((expected, record)) = self.side(i).late.take() else {
            return Ok(());
        };
        self.model(Action::StoreLate(i))?;
        self.store(&expected, record);
        Ok(())
    }

    fn sync(&mut self, i: u8) -> Result<(), Forbidden> {
        let Some(epoch) = self.side(i).persist.take() else {
            return Ok(());
        };
        let member = self.model.member(i);
        let higher = u64::from(member.synced) < epoch.0;
        if higher {
            self.model(Action::Persist(i))?;
        }
        self.step(i, Event::EpochPersisted(epoch))
    }

    fn crash(&mut self, i: u8) -> Result<(), Forbidden> {
        self.model(Action::Crash(i))?;
        let synced = u64::from(self.model.member(i).synced);
        let broken = self.broken;
        let late = self.model.member(i).late.is_some();
        let side = self.side(i);
        let open = side.swap.take().filter(|(.., result)| result.is_none());
        let left = open.map(|(_, expected, record, _)| (expected, record));
        let fresh = Side::new(i, side.starts + 1, synced, side.clock, broken);
        let old = std::mem::replace(side, fresh);
        side.late = left.or(old.late).filter(|_| late);
        side.grant = old.grant;
        self.step(i, Event::Tick)
    }

    /// The recorder dies, or withdraws, and is there again.
    fn recorder_ends(&mut self, i: u8) -> Result<(), Forbidden> {
        self.side(i).grant = None;
        self.end_grant(i)?;
        self.step(i, Event::RecorderDied)?;
        self.side(i).ticket += 1;
        let ticket = self.side(i).ticket;
        self.step(i, Event::RecorderProgress { ticket })
    }

    fn order(&mut self, i: u8) -> Result<(), Forbidden> {
        let epoch = Epoch(u64::from(self.model.lease.map_or(0, |l| l.epoch)));
        match self.chance(3) {
            0 => {
                let ticket = self.side(i).ticket + 1;
                self.side(i).ticket = ticket;
                self.step(i, Event::RecorderProgress { ticket })
            }
            1 => {
                let reason = TakeReason::Switchover;
                self.step(i, Event::TakeOrder(TakeOrder { epoch, reason }))
            }
            _ => self.step(i, Event::SwitchoverOrder { epoch }),
        }
    }

    fn delete(&mut self) -> Result<(), Forbidden> {
        if self.model.deleted || self.lease.is_none() {
            return Ok(());
        }
        self.lease = None;
        self.model(Action::Delete)
    }

    fn recreate(&mut self) -> Result<(), Forbidden> {
        if self.lease.is_some() {
            return Ok(());
        }
        self.model(Action::Recreate)?;
        let epoch = Epoch(u64::from(self.model.highest));
        self.put(LeaseRecord {
            epoch,
            ..LeaseRecord::first(settings().long_leash)
        });
        Ok(())
    }
}

impl Side {
    fn new(i: u8, starts: u64, synced: u64, clock: BootTime, broken: Option<Sabotage>) -> Self {
        let name = |i: u8| MemberName::new(["left", "right"][usize::from(i)]).expect("a plain name");
        let me = MemberRef {
            member: name(i),
            store: StoreId::new(["store-l", "store-r"][usize::from(i)]).expect("a plain name"),
            incarnation: Incarnation(starts * 2 + u64::from(i)),
        };
        let config = Config {
            me,
            peers: vec![name(1 - i)],
            synced: Epoch(synced),
            settings: settings(),
        };
        let mut real = Real::new(clock, config);
        if let Some(rule) = broken {
            real = real.sabotaged(rule);
        }
        // Its recorder makes progress.
        real.step(clock, Event::RecorderProgress { ticket: 0 });
        Self {
            real,
            starts,
            clock,
            grant: None,
            read: None,
            swap: None,
            late: None,
            persist: None,
            inbox: Vec::new(),
            claimed: 0,
            ticket: 0,
        }
    }
}
