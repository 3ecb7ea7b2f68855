//! The rule of authority (README.md) as steps of the model's world. Whatever a member may do by the rule it may do at any time
//! here, so that suspicion, orders, frozen processes and slow messages are all covered.

use failover::Sabotage;

use crate::state::*;

/// Something that happens. Numbers are members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// A tick of true time.
    Tick,
    /// The replicator dies and starts again; the recorder goes on.
    Crash(u8),
    /// The recorder withdraws, or dies.
    Withdraw(u8),
    /// A holder sends a claim; one before it is lost.
    Claim(u8),
    /// A member answers the other's claim.
    Answer(u8),
    /// A holder hears the answer.
    Hear(u8),
    /// The recorder gets as long a deadline as it may.
    Grant(u8),
    /// A standby begins to take: it suspects, is ordered to, or was released to.
    Take(u8),
    /// It gives up.
    StandDown(u8),
    /// A quorum read is served.
    Read(u8),
    /// Its result comes.
    GotRead(u8),
    /// The version that is waited for was released: no more wait.
    Hurry(u8),
    /// The wait is over: the swap is sent.
    SwapIn(u8),
    /// A holder sends a swap.
    Renew(u8, Leash),
    /// A holder reads what is in doubt.
    Settle(u8),
    /// The server deals with a swap.
    Store(u8),
    /// The server deals with a swap that was given up.
    StoreLate(u8),
    /// The result of a swap comes.
    GotReply(u8),
    /// No result came in time.
    GiveUp(u8),
    /// The swap was not sent.
    NotSent(u8),
    /// An epoch is synced.
    Persist(u8),
    /// A standby learns of the Lease's epoch.
    Learn(u8),
    /// A holder hands over.
    Release(u8),
    /// A holder loses authority: another holds the Lease, or its clock is fast.
    Lose(u8),
    /// The Lease is deleted, once.
    Delete,
    /// The operator recreates it.
    Recreate,
}

/// The rule, or all of it but one part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rule {
    pub broken: Option<Sabotage>,
}

impl Rule {
    fn lacks(self, part: Sabotage) -> bool {
        self.broken == Some(part)
    }

    /// Ticks that whoever takes waits at least: 1.25 leashes by a clock that is 1.2 times as fast as the holder's, so not less
    /// than the holder's leash. In whole ticks, of the shortest wait that there may be.
    fn wait(self, leash: Leash) -> u8 {
        match self.broken {
            Some(Sabotage::HalfWait) => leash.ticks() * 5 / 12,
            Some(Sabotage::NoMargin) => leash.ticks() * 5 / 6,
            _ => leash.ticks(),
        }
    }

    /// What comes of an action; `None` where it may not happen.
    pub fn step(self, world: &World, action: Action) -> Option<World> {
        let mut next = *world;
        self.apply(&mut next, action)?;
        Some(next)
    }

    fn apply(self, world: &mut World, action: Action) -> Option<()> {
        match action {
            Action::Tick => world.tick(),
            Action::Crash(i) => world.crash(i),
            Action::Withdraw(i) => world.withdraw(i)?,
            Action::Claim(i) => world.claim(i)?,
            Action::Answer(i) => self.answer(world, i)?,
            Action::Hear(i) => self.hear(world, i)?,
            Action::Grant(i) => self.grant(world, i)?,
            Action::Take(i) => world.take(i)?,
            Action::StandDown(i) => world.stand_down(i)?,
            Action::Read(i) => world.read(i)?,
            Action::GotRead(i) => self.got_read(world, i)?,
            Action::Hurry(i) => world.hurry(i)?,
            Action::SwapIn(i) => world.swap_in(i)?,
            Action::Renew(i, leash) => world.renew(i, leash)?,
            Action::Settle(i) => self.settle(world, i)?,
            Action::Store(i) => world.store_called(i)?,
            Action::StoreLate(i) => world.store_late(i)?,
            Action::GotReply(i) => self.got_reply(world, i)?,
            Action::GiveUp(i) => world.give_up(i)?,
            Action::NotSent(i) => world.not_sent(i)?,
            Action::Persist(i) => self.persist(world, i)?,
            Action::Learn(i) => world.learn(i)?,
            Action::Release(i) => self.release(world, i)?,
            Action::Lose(i) => world.lose(i)?,
            Action::Delete => world.delete()?,
            Action::Recreate => world.recreate()?,
        }
        Some(())
    }

    /// The fence: nobody below the highest epoch that was read or synced is answered, nobody while taking, nobody beside a
    /// running deadline of one's own.
    fn answer(self, world: &mut World, i: u8) -> Option<()> {
        let member = world.member(i);
        let taking = !matches!(member.role, Role::Standby | Role::Holder(_));
        let busy = member.left() > 0 || taking && !self.lacks(Sabotage::AnswerWhileTaking);
        let floor = member.floor;
        let claim = world.claims[usize::from(1 - i)].as_mut()?;
        let fenced = claim.epoch < floor;
        if busy || claim.answered || fenced && !self.lacks(Sabotage::AnswerOlder) {
            return None;
        }
        claim.answered = true;
        if fenced {
            world.broken = Some(Broken::Acknowledged);
        }
        Some(())
    }

    fn hear(self, world: &mut World, i: u8) -> Option<()> {
        let claim = world.claims[usize::from(i)].take_if(|c| c.answered)?;
        let from_receipt = self.lacks(Sabotage::CountFromReceipt);
        let keep = self.lacks(Sabotage::KeepLongerDeadline);
        let tenure = world.member_mut(i).holder()?;
        if tenure.epoch != claim.epoch {
            return None;
        }
        tenure.base = tenure.base.min(if from_receipt { 0 } else { claim.age });
        if keep {
            tenure.keep();
        }
        Some(())
    }

    fn grant(self, world: &mut World, i: u8) -> Option<()> {
        let member = world.member_mut(i);
        member.tenure()?;
        let most = if self.lacks(Sabotage::GrantTooLong) {
            SHORT
        } else {
            SHORT.min(member.left())
        };
        (most > member.grant).then(|| member.grant = most)
    }

    fn got_read(self, world: &mut World, i: u8) -> Option<()> {
        let member = world.member_mut(i);
        let Call::Read(read) = member.call else {
            return None;
        };
        member.call = Call::None;
        member.floor = member.floor.max(read.epoch);
        if member.role != Role::Reading {
            return Some(());
        }
        let resumes = self.lacks(Sabotage::HolderResumes) && member.synced >= read.epoch;
        if resumes && read.holder == Some(i) {
            let swap = Swap {
                epoch: read.epoch,
                leash: read.leash,
                current: read.current,
                age: 0,
            };
            world.begin(i, swap);
        } else {
            member.role = Role::Waiting {
                read,
                left: self.wait(read.leash),
            };
        }
        Some(())
    }

    fn settle(self, world: &mut World, i: u8) -> Option<()> {
        let lease = world.lease?;
        let keep = self.lacks(Sabotage::KeepLongerDeadline);
        let member = world.member_mut(i);
        if member.call != Call::None {
            return None;
        }
        member.floor = member.floor.max(lease.epoch);
        let tenure = member.holder()?;
        let swap = Swap {
            epoch: lease.epoch,
            leash: lease.leash,
            current: true,
            age: lease.age,
        };
        let mine = lease.holder == Some(i);
        if tenure.current {
            tenure.doubt = false;
        } else if mine && lease.epoch == tenure.epoch {
            tenure.confirm(swap, keep);
        } else if mine && lease.epoch > tenure.epoch && tenure.asked != Asked::Nothing {
            tenure.enter_again(swap);
        } else if lease.holder.is_none() {
            (tenure.vacant, tenure.current, tenure.doubt) = (true, true, false);
        } else {
            world.end(i);
        }
        Some(())
    }

    fn got_reply(self, world: &mut World, i: u8) -> Option<()> {
        let keep = self.lacks(Sabotage::KeepLongerDeadline);
        let member = world.member_mut(i);
        let stored = match member.call {
            Call::Stored(swap) => Some(swap),
            Call::Refused(_) => None,
            _ => return None,
        };
        member.call = Call::None;
        match (&mut member.role, stored) {
            (Role::Swapping, Some(swap)) => {
                member.role = Role::Syncing(swap);
                if self.lacks(Sabotage::ActBeforeSync) {
                    world.begin(i, swap);
                }
            }
            (Role::Swapping, None) => member.role = Role::Reading,
            (Role::Holder(tenure), Some(swap)) if swap.epoch > tenure.epoch => tenure.enter_again(swap),
            (Role::Holder(tenure), Some(swap)) => tenure.confirm(swap, keep),
            (Role::Holder(tenure), None) => tenure.doubt = true,
            _ => {}
        }
        Some(())
    }

    fn persist(self, world: &mut World, i: u8) -> Option<()> {
        let keep = self.lacks(Sabotage::KeepLongerDeadline);
        let member = world.member_mut(i);
        if let Role::Syncing(swap) = member.role {
            member.note_synced(swap.epoch);
            if swap.age < swap.leash.ticks() {
                world.begin(i, swap);
            } else {
                world.end(i);
            }
            return Some(());
        }
        if let Some(swap) = member.tenure().and_then(|t| t.entered) {
            member.note_synced(swap.epoch);
            let tenure = member.holder()?;
            (tenure.epoch, tenure.entered) = (swap.epoch, None);
            tenure.confirm(swap, keep);
            world.serve(i, swap.epoch);
            return Some(());
        }
        (member.synced < member.floor).then(|| member.synced = member.floor)
    }

    fn release(self, world: &mut World, i: u8) -> Option<()> {
        let member = world.member_mut(i);
        if !member.is_settled() || member.grant > 0 {
            return None;
        }
        world.released[usize::from(i)] = world.member(i).tenure()?.current;
        if !self.lacks(Sabotage::ReleasedResumes) {
            world.end(i);
        }
        Some(())
    }
}

impl Tenure {
    fn keep(&mut self) {
        self.kept = self.kept.max(self.leash.ticks().saturating_sub(self.base));
    }

    fn confirm(&mut self, swap: Swap, keep: bool) {
        self.base = self.base.min(swap.age);
        (self.leash, self.current) = (swap.leash, swap.current);
        (self.asked, self.doubt, self.vacant) = (Asked::Nothing, false, false);
        if keep {
            self.keep();
        }
    }

    fn enter_again(&mut self, swap: Swap) {
        (self.vacant, self.doubt, self.entered) = (false, false, Some(swap));
    }
}

impl Member {
    fn holder(&mut self) -> Option<&mut Tenure> {
        match &mut self.role {
            Role::Holder(tenure) => Some(tenure),
            _ => None,
        }
    }

    fn note_synced(&mut self, epoch: u8) {
        self.synced = self.synced.max(epoch);
        self.floor = self.floor.max(epoch);
    }

    /// The call is given up: its swap may still be stored.
    fn leave_call(&mut self) {
        if let Call::Swap(swap) = self.call {
            self.late = Some(swap);
        }
        self.call = Call::None;
    }
}

impl World {
    pub fn member(&self, i: u8) -> &Member {
        &self.members[usize::from(i)]
    }

    fn member_mut(&mut self, i: u8) -> &mut Member {
        &mut self.members[usize::from(i)]
    }

    fn swaps(&mut self) -> impl Iterator<Item = &mut Swap> {
        self.members.iter_mut().flat_map(|m| {
            let called = match &mut m.call {
                Call::Swap(swap) | Call::Stored(swap) => Some(swap),
                _ => None,
            };
            let held = match &mut m.role {
                Role::Syncing(swap) => Some(swap),
                Role::Holder(tenure) => tenure.entered.as_mut(),
                _ => None,
            };
            called.into_iter().chain(held).chain(m.late.as_mut())
        })
    }

    fn tick(&mut self) {
        for swap in self.swaps() {
            swap.age = (swap.age + 1).min(LONG);
        }
        for member in &mut self.members {
            member.grant = member.grant.saturating_sub(1);
            if let Role::Waiting { left, .. } = &mut member.role {
                *left = left.saturating_sub(1);
            }
            if let Role::Holder(tenure) = &mut member.role {
                tenure.base = (tenure.base + 1).min(LONG);
                tenure.kept = tenure.kept.saturating_sub(1);
            }
        }
        for i in [0, 1] {
            // An authority whose deadline passed is over.
            if self.member(i).tenure().is_some() && self.member(i).left() == 0 {
                self.end(i);
            }
        }
        for claim in &mut self.claims {
            if let Some(claim) = claim {
                claim.age += 1;
            }
            claim.take_if(|c| c.age >= LONG);
        }
        if let Some(lease) = &mut self.lease {
            lease.age = (lease.age + 1).min(LONG);
        }
    }

    fn crash(&mut self, i: u8) {
        let member = self.member_mut(i);
        member.leave_call();
        *member = Member {
            late: member.late,
            grant: member.grant,
            ..Member::started(member.synced)
        };
        // Answers are to a start of it that is gone.
        self.claims[usize::from(i)] = None;
    }

    fn withdraw(&mut self, i: u8) -> Option<()> {
        let member = self.member_mut(i);
        (member.grant > 0).then(|| member.grant = 0)
    }

    fn claim(&mut self, i: u8) -> Option<()> {
        let epoch = self.member(i).tenure()?.epoch;
        self.claims[usize::from(i)] = Some(Claim {
            epoch,
            age: 0,
            answered: false,
        });
        Some(())
    }

    fn take(&mut self, i: u8) -> Option<()> {
        let member = self.member_mut(i);
        if member.role != Role::Standby {
            return None;
        }
        member.leave_call();
        member.role = Role::Reading;
        Some(())
    }

    fn stand_down(&mut self, i: u8) -> Option<()> {
        let member = self.member_mut(i);
        if !matches!(member.role, Role::Reading | Role::Waiting { .. }) {
            return None;
        }
        member.leave_call();
        member.role = Role::Standby;
        Some(())
    }

    fn read(&mut self, i: u8) -> Option<()> {
        let lease = self.lease?;
        let member = self.member_mut(i);
        if member.call != Call::None || !matches!(member.role, Role::Reading | Role::Standby) {
            return None;
        }
        member.call = Call::Read(Read {
            epoch: lease.epoch,
            leash: lease.leash,
            holder: lease.holder,
            current: true,
        });
        Some(())
    }

    fn hurry(&mut self, i: u8) -> Option<()> {
        let released = self.released[usize::from(1 - i)];
        let Role::Waiting { read, left } = &mut self.member_mut(i).role else {
            return None;
        };
        // An outdated version is released to nobody; a swap on it is refused, so that no wait matters.
        ((released || !read.current) && *left > 0).then(|| *left = 0)
    }

    fn swap_in(&mut self, i: u8) -> Option<()> {
        let member = self.member_mut(i);
        let Role::Waiting { read, left: 0 } = member.role else {
            return None;
        };
        let epoch = read.epoch.max(member.floor) + 1;
        member.role = Role::Swapping;
        member.call = Call::Swap(Swap {
            epoch,
            leash: Leash::Short,
            current: read.current,
            age: 0,
        });
        Some(())
    }

    /// A shorter leash is asked for only where the recorder's grant ends within it, and it still runs.
    fn renew(&mut self, i: u8, leash: Leash) -> Option<()> {
        let member = self.member_mut(i);
        let (grant, floor, call) = (member.grant, member.floor, member.call);
        let tenure = member.holder()?;
        if call != Call::None || tenure.doubt || tenure.entered.is_some() {
            return None;
        }
        let within = SHORT.saturating_sub(tenure.base);
        if leash == Leash::Short && tenure.leash == Leash::Long && (within == 0 || grant > within) {
            return None;
        }
        let epoch = if tenure.vacant { floor + 1 } else { tenure.epoch };
        let current = tenure.current;
        member.call = Call::Swap(Swap {
            epoch,
            leash,
            current,
            age: 0,
        });
        Some(())
    }

    fn store_called(&mut self, i: u8) -> Option<()> {
        let Call::Swap(swap) = self.member(i).call else {
            return None;
        };
        if swap.current {
            self.store(i, swap);
            // What it wrote is in place now.
            self.member_mut(i).call = Call::Stored(swap);
        } else {
            self.member_mut(i).call = Call::Refused(swap.leash);
        }
        Some(())
    }

    fn store_late(&mut self, i: u8) -> Option<()> {
        let swap = self.member_mut(i).late.take()?;
        if swap.current {
            self.store(i, swap);
        }
        Some(())
    }

    /// A new version is in place: what was read or expected before is outdated.
    fn store(&mut self, i: u8, swap: Swap) {
        if swap.epoch < self.highest {
            self.broken = Some(Broken::Fell);
        }
        self.replace(Lease {
            epoch: swap.epoch,
            leash: swap.leash,
            holder: Some(i),
            age: swap.age,
        });
    }

    fn replace(&mut self, lease: Lease) {
        self.outdate();
        self.highest = self.highest.max(lease.epoch);
        self.lease = Some(lease);
    }

    fn outdate(&mut self) {
        for swap in self.swaps() {
            swap.current = false;
        }
        for member in &mut self.members {
            if let Call::Read(read) = &mut member.call {
                read.current = false;
            }
            match &mut member.role {
                Role::Waiting { read, .. } => read.current = false,
                Role::Holder(tenure) => tenure.current = false,
                _ => {}
            }
        }
        self.released = [false; 2];
    }

    fn give_up(&mut self, i: u8) -> Option<()> {
        let member = self.member_mut(i);
        let asked = match member.call {
            Call::Swap(swap) | Call::Stored(swap) => swap.leash,
            Call::Refused(leash) => leash,
            Call::Read(_) | Call::None => return None,
        };
        member.leave_call();
        match &mut member.role {
            Role::Swapping => member.role = Role::Reading,
            Role::Holder(tenure) => {
                let asked = if asked == Leash::Short {
                    Asked::Short
                } else {
                    Asked::Same
                };
                (tenure.asked, tenure.doubt) = (tenure.asked.max(asked), true);
            }
            _ => {}
        }
        Some(())
    }

    fn not_sent(&mut self, i: u8) -> Option<()> {
        let member = self.member_mut(i);
        if !matches!(member.call, Call::Swap(_)) {
            return None;
        }
        member.call = Call::None;
        if member.role == Role::Swapping {
            member.role = Role::Reading;
        }
        Some(())
    }

    fn learn(&mut self, i: u8) -> Option<()> {
        let epoch = self.lease?.epoch;
        let member = self.member_mut(i);
        (member.role == Role::Standby && epoch > member.floor).then(|| member.floor = epoch)
    }

    fn begin(&mut self, i: u8, swap: Swap) {
        let member = self.member_mut(i);
        member.call = Call::None;
        member.role = Role::Holder(Tenure {
            epoch: swap.epoch,
            base: swap.age,
            leash: swap.leash,
            asked: Asked::Nothing,
            current: swap.current,
            doubt: false,
            vacant: false,
            entered: None,
            kept: 0,
        });
        self.serve(i, swap.epoch);
    }

    fn serve(&mut self, i: u8, epoch: u8) {
        if epoch < self.served || epoch > self.member(i).synced {
            self.broken = Some(Broken::Served);
        }
        self.served = self.served.max(epoch);
    }

    fn end(&mut self, i: u8) {
        let member = self.member_mut(i);
        member.leave_call();
        member.role = Role::Standby;
    }

    fn lose(&mut self, i: u8) -> Option<()> {
        self.member(i).tenure()?;
        self.end(i);
        Some(())
    }

    fn delete(&mut self) -> Option<()> {
        if self.deleted || self.lease.is_none() {
            return None;
        }
        (self.deleted, self.lease) = (true, None);
        self.outdate();
        Some(())
    }

    fn recreate(&mut self) -> Option<()> {
        if self.lease.is_some() {
            return None;
        }
        self.replace(Lease {
            epoch: self.highest + 1,
            leash: Leash::Long,
            holder: None,
            age: LONG,
        });
        Some(())
    }
}
