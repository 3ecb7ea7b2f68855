//! The model checker's view of the rule, and what it has to find.

use failover::Sabotage;
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::rule::{Action, Rule};
use crate::state::*;

impl Member {
    /// A swap that expects an outdated version is as good as refused. To hear of it later only takes authority away.
    fn forget_refusals(&mut self) {
        if matches!(
            self.call,
            Call::Swap(Swap { current: false, .. }) | Call::Refused(_)
        ) {
            self.call = Call::None;
            match &mut self.role {
                Role::Swapping => self.role = Role::Reading,
                Role::Holder(tenure) => tenure.doubt = true,
                _ => {}
            }
        }
        if let Role::Holder(tenure) = &mut self.role
            && !tenure.current
        {
            tenure.doubt = true;
        }
    }

    fn mirrored(mut self) -> Self {
        if let Call::Read(read) = &mut self.call {
            read.holder = read.holder.map(|i| 1 - i);
        }
        if let Role::Waiting { read, .. } = &mut self.role {
            read.holder = read.holder.map(|i| 1 - i);
        }
        self
    }
}

impl World {
    /// The same world with the members' names exchanged.
    fn mirrored(mut self) -> Self {
        self.members.swap(0, 1);
        self.members = self.members.map(Member::mirrored);
        self.claims.swap(0, 1);
        self.released.swap(0, 1);
        if let Some(lease) = &mut self.lease {
            lease.holder = lease.holder.map(|i| 1 - i);
        }
        self
    }

    /// The same world without what can make no difference any more, so that equal worlds are explored once.
    fn reduced(mut self) -> Self {
        let unsettled = |world: &Self, i: u8| world.member(i).tenure().is_some_and(|t| !t.current);
        if let Some(lease) = self.lease
            && !lease.holder.is_some_and(|i| unsettled(&self, i))
        {
            self.lease = Some(Lease { age: LONG, ..lease });
        }
        for member in &mut self.members {
            // A swap that expects an outdated version is refused, whenever it comes.
            member.late.take_if(|swap| !swap.current);
            if matches!(member.call, Call::Read(read) if !read.current) {
                member.call = Call::None;
            }
            if matches!(member.role, Role::Waiting { read, .. } if !read.current) {
                member.role = Role::Reading;
            }
            if let (Role::Standby | Role::Reading, Some(late)) = (member.role, &mut member.late) {
                // Its age counts for nobody but a holder.
                late.age = LONG;
            }
        }
        for member in &mut self.members {
            member.forget_refusals();
        }
        for i in 0..2 {
            let holds = |c: &Claim| self.members[i].tenure().is_some_and(|t| t.epoch == c.epoch);
            // An answer means nothing to a member that does not hold that epoch.
            self.claims[i].take_if(|c| !holds(c));
        }
        self.min(self.mirrored())
    }
}

impl Model for Rule {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend([Action::Tick, Action::Delete, Action::Recreate]);
        for i in [0, 1] {
            actions.extend([
                Action::Crash(i),
                Action::Withdraw(i),
                Action::Claim(i),
                Action::Answer(i),
                Action::Hear(i),
                Action::Grant(i),
                Action::Take(i),
                Action::StandDown(i),
                Action::GotRead(i),
                Action::Hurry(i),
                Action::SwapIn(i),
                Action::Renew(i, Leash::Short),
                Action::Renew(i, Leash::Long),
                Action::Settle(i),
                Action::Store(i),
                Action::StoreLate(i),
                Action::GotReply(i),
                Action::GiveUp(i),
                Action::NotSent(i),
                Action::Persist(i),
                Action::Learn(i),
                Action::Release(i),
                Action::Lose(i),
            ]);
            // Whatever else is read is read at the moment at which it comes: `Learn`, `Settle`.
            if world.member(i).role == Role::Reading {
                actions.push(Action::Read(i));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        self.step(world, action).map(World::reduced)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.highest <= EPOCHS
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I6, |_, world: &World| !world.members.iter().all(Member::acts)),
            Property::always(I5, |_, world: &World| {
                !matches!(world.broken, Some(Broken::Fell | Broken::Served))
            }),
            Property::always(FENCE, |_, world: &World| {
                world.broken != Some(Broken::Acknowledged)
            }),
            Property::sometimes("every epoch is served", |_, world: &World| world.served == EPOCHS),
            Property::sometimes("a standby waits beside a running deadline", |_, world: &World| {
                let waits = |m: &Member| matches!(m.role, Role::Waiting { .. });
                world.members.iter().any(waits) && world.members.iter().any(|m| m.left() > 0)
            }),
            Property::sometimes("a wait ends early for what was released", |_, world: &World| {
                let hurried = |m: &Member| matches!(m.role, Role::Waiting { left: 0, .. });
                world.released.contains(&true) && world.members.iter().any(hurried)
            }),
            Property::sometimes("the long leash is in force", |_, world: &World| {
                world.members.iter().any(|m| m.left() > SHORT)
            }),
            Property::sometimes("a recreated Lease is entered again", |_, world: &World| {
                let entered = |m: &Member| m.tenure().is_some_and(|t| t.entered.is_some());
                world.deleted && world.members.iter().any(entered)
            }),
            Property::sometimes("a swap is stored after it was given up", |_, world: &World| {
                let held = |i: u8| world.lease.is_some_and(|l| l.holder == Some(i));
                [0, 1]
                    .into_iter()
                    .any(|i| held(i) && world.member(i).role == Role::Reading)
            }),
        ]
    }
}

const I6: &str = "I6: never two holders";
const I5: &str = "I5: epochs only rise";
const FENCE: &str = "fence: a lower epoch is never acknowledged";

#[test]
fn i5_i6_and_the_fence_hold_in_every_state() {
    let checker = Rule::default().checker().threads(2).spawn_bfs().join();
    println!(
        "{} different states of {}, {} steps deep",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
    // Not cut short: no step, count or time limits it, and nothing is left to be looked at.
    assert!(checker.is_done());
    assert!(checker.unique_state_count() > 1_000_000);
    checker.assert_properties();
}

/// The shortest way in which the rule without one part breaks what must hold.
fn finds(broken: Sabotage, property: &'static str) {
    let rule = Rule { broken: Some(broken) };
    let found = HasDiscoveries::AnyOf([property].into());
    let checker = rule.checker().finish_when(found).spawn_bfs().join();
    let path = checker.assert_any_discovery(property);
    println!("{broken:?}: {:?}", path.into_actions());
}

#[test]
fn i6_waiting_half_a_leash_is_found() {
    finds(Sabotage::HalfWait, I6);
}

#[test]
fn i6_counting_from_the_receipt_of_the_answer_is_found() {
    finds(Sabotage::CountFromReceipt, I6);
}

#[test]
fn i6_keeping_a_longer_deadline_after_a_shorter_leash_is_found() {
    finds(Sabotage::KeepLongerDeadline, I6);
}

#[test]
fn i6_a_restarted_holder_that_resumes_is_found() {
    finds(Sabotage::HolderResumes, I6);
}

#[test]
fn i6_a_wait_without_a_margin_for_clocks_is_found() {
    finds(Sabotage::NoMargin, I6);
}

#[test]
fn i6_answering_while_taking_is_found() {
    finds(Sabotage::AnswerWhileTaking, I6);
}

#[test]
fn i6_a_released_member_that_resumes_is_found() {
    finds(Sabotage::ReleasedResumes, I6);
}

#[test]
fn i6_a_recorder_with_a_longer_deadline_than_its_replicator_is_found() {
    finds(Sabotage::GrantTooLong, I6);
}

#[test]
fn i5_acting_before_the_epoch_is_synced_is_found() {
    finds(Sabotage::ActBeforeSync, I5);
}

#[test]
fn fence_acknowledging_a_lower_epoch_is_found() {
    finds(Sabotage::AnswerOlder, FENCE);
}

/// A primary dies, and the other member serves the next epoch.
#[test]
fn a_schedule_reaches_a_takeover() {
    let take = |i| {
        [
            Action::Take(i),
            Action::Read(i),
            Action::GotRead(i),
            Action::Tick,
            Action::Tick,
            Action::SwapIn(i),
            Action::Store(i),
            Action::GotReply(i),
            Action::Persist(i),
        ]
    };
    let schedule = take(0).into_iter().chain([Action::Crash(0)]).chain(take(1));
    let world = schedule.fold(World::new(), |world, action| {
        Rule::default()
            .step(&world, action)
            .unwrap_or_else(|| panic!("{action:?} in {world:?}"))
    });
    assert_eq!(world.member(1).tenure().map(|t| t.epoch), Some(2));
    assert!(!world.member(0).acts());
}
