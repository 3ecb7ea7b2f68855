//! The world: a queue of events in true time, and what each of them does.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use crate::event::{Event, OpId, ReadResult, SwapResult};
use crate::lease::LeaseRecord;
use crate::member::{Config, Member};
use crate::name::{Epoch, Incarnation, MemberName, MemberRef, StoreId, Version};
use crate::settings::Settings;
use crate::sim::api::Api;
use crate::sim::check::{Checks, Violation};
use crate::sim::faults::Schedule;
use crate::sim::manager::{Manager, Sight};
use crate::sim::network::Link;
use crate::sim::node::{Clock, Node};
use crate::sim::rng::Rng;
use crate::sim::{MS, Options, Outcome, SECOND};

/// After the faults, somebody has to hold authority for this long within [`PATIENCE`].
const STEADY: u64 = SECOND;
/// A long leash, waited out by the slowest clock, twice over.
const PATIENCE: u64 = 60 * SECOND;

/// A call to the API.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Read,
    Swap { expected: Version, record: LeaseRecord },
}

/// What is said to a recorder.
#[derive(Debug, Clone)]
pub(super) enum Word {
    Grant(crate::effect::Authority),
    Revoke(Epoch),
}

/// Something that happens at a moment of true time.
#[derive(Debug, Clone)]
pub(super) enum What {
    Tick(usize),
    /// To whatever replicator runs there.
    Message(usize, Event),
    /// To this start of the replicator only.
    Local(usize, u64, Event),
    /// What was held while it was frozen is done.
    Thaw(usize, u64),
    Arrives {
        node: usize,
        start: u64,
        op: OpId,
        call: Call,
    },
    Replies {
        node: usize,
        start: u64,
        op: OpId,
        event: Event,
    },
    TimesOut {
        node: usize,
        start: u64,
        op: OpId,
        swap: bool,
    },
    Synced {
        node: usize,
        start: u64,
        epoch: Epoch,
    },
    ToRecorder {
        node: usize,
        start: u64,
        word: Word,
    },
    RecorderTick {
        node: usize,
        start: u64,
    },
    StartReplicator(usize),
    StartRecorder(usize),
    Fault(usize),
    Manager,
}

#[derive(Debug)]
struct Queued {
    at: u64,
    order: u64,
    what: What,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Two machines and what is between them.
#[derive(Debug)]
pub(super) struct World {
    pub(super) options: Options,
    pub(super) rng: Rng,
    pub(super) schedule: Schedule,
    pub(super) now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    pub(super) nodes: [Node; 2],
    pub(super) names: [MemberName; 2],
    pub(super) stores: [StoreId; 2],
    /// Stores of volumes that are gone for good.
    pub(super) lost: BTreeSet<StoreId>,
    pub(super) settings: [Settings; 2],
    pub(super) api: Api,
    pub(super) api_down_until: u64,
    /// From each node to the other.
    pub(super) peer: [Link; 2],
    /// From each node to the API, and back.
    pub(super) requests: [Link; 2],
    pub(super) replies: [Link; 2],
    pub(super) manager: Manager,
    checks: Checks,
    pub(super) outcome: Outcome,
    held_since: Option<u64>,
}

impl World {
    pub(super) fn new(options: Options, rng: Rng, schedule: Schedule) -> Self {
        let clock = |index: usize| Clock {
            rate: schedule.rates[index],
            offset: schedule.offsets[index],
            booted: 0,
        };
        let nodes = [Node::new(clock(0)), Node::new(clock(1))];
        let link = Link::new(schedule.loss, schedule.doubled, schedule.delay);
        let call = Link::new(schedule.loss / 4, 0, schedule.api_delay);
        let settings = schedule.settings.clone();
        let mut world = Self {
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            nodes,
            names: ["left", "right"].map(|name| MemberName::new(name).expect("a plain name")),
            stores: ["store-l", "store-r"].map(|name| StoreId::new(name).expect("a plain name")),
            lost: BTreeSet::new(),
            settings: [settings.clone(), settings.clone()],
            api: Api::default(),
            api_down_until: 0,
            peer: [link.clone(), link],
            requests: [call.clone(), call.clone()],
            replies: [call.clone(), call],
            manager: Manager::default(),
            checks: Checks::default(),
            outcome: Outcome::default(),
            held_since: None,
            options,
            rng,
            schedule,
        };
        world.api.create(LeaseRecord::first(settings.leash));
        world.set_the_stage();
        world
    }

    fn set_the_stage(&mut self) {
        #[cfg(feature = "sabotage")]
        {
            self.api.unconditional = self.options.sabotage == Some(crate::Sabotage::SwapUnconditionally);
        }
        for node in [0, 1] {
            self.after(self.now, What::StartReplicator(node));
            self.after(self.now, What::StartRecorder(node));
        }
        if !self.schedule.operator {
            self.manager.down_until = self.schedule.healed;
        }
        self.after(0, What::Manager);
        for index in 0..self.schedule.faults.len() {
            self.at(self.schedule.faults[index].0, What::Fault(index));
        }
    }

    pub(super) fn at(&mut self, at: u64, what: What) {
        self.order += 1;
        self.queue.push(Reverse(Queued {
            at,
            order: self.order,
            what,
        }));
    }

    pub(super) fn after(&mut self, nanos: u64, what: What) {
        self.at(self.now + nanos, what);
    }

    pub(super) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.options.trace {
            let line = format!("{:10.4} {}", self.now as f64 / 1e9, line(self));
            self.outcome.trace.push(line);
        }
    }

    /// Runs until the faults are over and somebody held authority for a while.
    pub(super) fn run_schedule(&mut self) -> Result<(), Violation> {
        self.run_until(self.schedule.healed)?;
        self.heal();
        let end = self.now + PATIENCE;
        while self.now < end {
            self.run_until(self.now + 200 * MS)?;
            if self.held_since.is_some_and(|since| self.now - since >= STEADY) {
                let since = self
                    .held_since
                    .unwrap_or_default()
                    .saturating_sub(self.schedule.healed);
                self.outcome.recovered = Duration::from_nanos(since);
                return Ok(());
            }
        }
        Err(Violation::NobodyHolds { at: self.now })
    }

    fn heal(&mut self) {
        self.note(|_| "every fault is over".to_owned());
        for index in [0, 1] {
            self.nodes[index].freeze_next = 0;
            for link in [
                &mut self.peer[index],
                &mut self.requests[index],
                &mut self.replies[index],
            ] {
                link.loss = link.loss.min(20);
            }
        }
    }

    pub(super) fn run_until(&mut self, end: u64) -> Result<(), Violation> {
        while self.queue.peek().is_some_and(|next| next.0.at <= end) {
            self.step()?;
        }
        self.now = end;
        Ok(())
    }

    pub(super) fn step(&mut self) -> Result<(), Violation> {
        let Some(Reverse(next)) = self.queue.pop() else {
            return Ok(());
        };
        self.count_held(next.at);
        self.now = next.at;
        self.outcome.events += 1;
        // A second of true time has far fewer events than this.
        if self.outcome.events > 20_000 + self.now / SECOND * 20_000 {
            return Err(Violation::Busy { at: self.now });
        }
        self.handle(next.what);
        if let Some((from, to)) = self.api.fell {
            return Err(Violation::I5 {
                at: self.now,
                what: format!("the Lease fell from {from} to {to}"),
            });
        }
        self.checks.after(self.now, &self.nodes)
    }

    fn count_held(&mut self, next: u64) {
        let held = (0..2).any(|node| self.nodes[node].authority(next).is_some());
        if held {
            self.held_since.get_or_insert(next);
            self.outcome.held += Duration::from_nanos(next - self.now);
        } else {
            self.held_since = None;
        }
    }

    pub(super) fn outcome(mut self, violation: Option<Violation>) -> Outcome {
        self.outcome.violation = violation;
        self.outcome.length = Duration::from_nanos(self.now);
        self.outcome
    }

    pub(super) fn start_replicator(&mut self, node: usize) {
        let off_until = self.nodes[node].off_until;
        if self.now < off_until {
            return self.at(off_until, What::StartReplicator(node));
        }
        if self.nodes[node].member.is_some() {
            return;
        }
        let incarnation = Incarnation(self.rng.next());
        let config = Config {
            me: MemberRef {
                member: self.names[node].clone(),
                store: self.stores[node].clone(),
                incarnation,
            },
            peers: vec![self.names[1 - node].clone()],
            synced: self.nodes[node].disk,
            settings: self.settings[node].clone(),
        };
        let local = self.nodes[node].clock.local(self.now);
        let member = Member::new(local, config);
        #[cfg(feature = "sabotage")]
        let member = match self.options.sabotage {
            Some(rule) => member.sabotaged(rule),
            None => member,
        };
        self.nodes[node].start += 1;
        self.nodes[node].member = Some(member);
        self.note(|world| format!("{node} starts, epoch {} synced", world.nodes[node].disk));
        self.deliver(node, Event::Tick);
    }

    pub(super) fn start_recorder(&mut self, node: usize) {
        let off_until = self.nodes[node].off_until;
        if self.now < off_until {
            return self.at(off_until, What::StartRecorder(node));
        }
        if self.nodes[node].recorder.alive {
            return;
        }
        let recorder = &mut self.nodes[node].recorder;
        recorder.alive = true;
        recorder.start += 1;
        let start = recorder.start;
        self.after(20 * MS, What::RecorderTick { node, start });
    }

    pub(super) fn power_off(&mut self, node: usize, down: u64) {
        self.note(|_| format!("{node} loses power"));
        let machine = &mut self.nodes[node];
        machine.kill_replicator();
        machine.kill_recorder();
        machine.off_until = machine.off_until.max(self.now + down);
        let back = machine.off_until;
        machine.boot(back);
        self.at(back, What::StartReplicator(node));
        self.at(back + 200 * MS, What::StartRecorder(node));
    }

    /// A call of a node that got through, at the server.
    pub(super) fn serve_call(&mut self, node: usize, start: u64, op: OpId, call: Call) {
        if self.now < self.api_down_until {
            return;
        }
        let event = match call {
            Call::Read => Event::LeaseRead {
                op,
                result: self.api.read(),
            },
            Call::Swap { expected, record } => {
                let result = self.api.swap(&expected, record.clone());
                self.note(|_| format!("  API: swap of {node} to {record:?}: {}", name_of(&result)));
                Event::LeaseSwapped { op, result }
            }
        };
        let arrivals = self.replies[node].arrivals(self.now, &mut self.rng);
        if let Some(at) = arrivals[0] {
            self.at(
                at,
                What::Replies {
                    node,
                    start,
                    op,
                    event,
                },
            );
        }
    }

    /// One pass of the operator.
    pub(super) fn manage(&mut self) {
        self.after(300 * MS, What::Manager);
        if self.now < self.manager.down_until {
            return;
        }
        let reached = self.now >= self.api_down_until && !self.rng.chance(20);
        let read = if reached {
            self.api.read()
        } else {
            ReadResult::Unavailable
        };
        let seen = [0, 1].map(|_| !self.rng.chance(50));
        let sight = Sight {
            read: &read,
            nodes: &self.nodes,
            names: &self.names,
            lost: &self.lost,
            seen,
        };
        let decisions = self.manager.pass(self.now, &sight);
        for decision in decisions {
            self.carry_out(decision, reached);
        }
    }
}

fn name_of(result: &SwapResult) -> String {
    match result {
        SwapResult::Swapped(lease) => format!("version {}", lease.version),
        other => format!("{other:?}"),
    }
}
