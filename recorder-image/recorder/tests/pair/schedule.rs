//! One schedule: what goes wrong when, and what has to hold at each moment.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use failover::{Epoch, Event, Settings};
use tokio_util::sync::CancellationToken;

use crate::lease::Api;
use crate::machine::{Clock, Disk, Last, Now};
use crate::recorder_stand_in::{Inventory, Recorder, chain_at, sealed_hash};
use crate::replicator::{self, Place};
use crate::{Account, MS, Promised, Rng, name};

const SECOND: u64 = 1000 * MS;
/// Things happen at its multiples only. Of the time that schedules take a third goes into ticks where they are half as long. As much
/// happens with these, and what is broken on purpose is found as soon; with longer ones most messages would take the same time.
const TICK: Duration = Duration::from_millis(4);
/// For how long things go wrong.
const TROUBLE: u64 = 5 * SECOND;
/// How long after that everything is well again at the latest: after the longest leash, and what came before it.
const HEALED: u64 = TROUBLE + 45 * SECOND;
/// A connection whose bytes were lost ends within so long.
const USER_TIMEOUT: u64 = 3 * SECOND;

/// What was sent arrives within so long, or not at all.
const ON_ITS_WAY: u64 = 100 * MS;

/// A machine as the schedule sees it.
struct Machine {
    place: Place,
    recorder: Option<Recorder>,
    starts: u64,
    /// The highest epoch that it acted on.
    acted: u64,
    /// When what is down comes back.
    recorder_back: Option<u64>,
    replicator_back: Option<u64>,
}

impl Machine {
    fn is_off(&self) -> bool {
        self.place.disk.lock().unwrap().is_off()
    }

    fn clock(&self) -> Clock {
        *self.place.clock.lock().unwrap()
    }
}

/// What is wrong with the link between the two, until when.
#[derive(Default)]
struct Between {
    cut_until: Option<u64>,
    held_until: Option<u64>,
    /// Ends of connections that lost bytes, and when each is noticed: nothing is sent again here.
    dying: Vec<(u64, CancellationToken)>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut,
    CutOneWay,
    Stall,
    ApiHearsNothing,
    ApiAnswersNothing,
    ApiIsSlow,
    ApiIsGone,
    DeleteLease,
    SwitchOver,
    PowerCut,
    PowerCutWithSync,
    PowerCutWithEpoch,
    LoseVolume,
    KillRecorder,
    KillReplicator,
    KillBoth,
    HangRecorder,
}

impl Fault {
    /// Those that find most are there twice.
    const ALL: [Self; 20] = [
        Self::Cut,
        Self::CutOneWay,
        Self::Stall,
        Self::ApiHearsNothing,
        Self::ApiAnswersNothing,
        Self::ApiIsSlow,
        Self::ApiIsGone,
        Self::DeleteLease,
        Self::SwitchOver,
        Self::SwitchOver,
        Self::PowerCut,
        Self::PowerCutWithSync,
        Self::PowerCutWithSync,
        Self::PowerCutWithEpoch,
        Self::LoseVolume,
        Self::KillRecorder,
        Self::KillReplicator,
        Self::KillReplicator,
        Self::KillBoth,
        Self::HangRecorder,
    ];
}

/// Where two inventories are unlike, for people.
fn difference(held: &[Option<Inventory>; 2]) -> String {
    let [Some(a), Some(b)] = held else {
        return "one of them is not there".into();
    };
    let ids: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let unlike = ids.into_iter().filter(|id| a.get(id) != b.get(id));
    let lines = unlike.map(|id| format!("{id} is {:?} and {:?}", a.get(id), b.get(id)));
    lines.collect::<Vec<_>>().join("; ")
}

/// See the module.
pub struct Schedule {
    sim: turmoil::Sim<'static>,
    now: Now,
    rng: Rng,
    machines: [Machine; 2],
    api: Arc<Mutex<Api>>,
    between: Between,
    next_fault: u64,
    promised: Promised,
    account: Account,
    /// Who acted on the highest epoch so far.
    acted: Option<(u64, usize)>,
    /// The volume that was lost.
    lost: Vec<String>,
    /// Whose recorder hears no acknowledgement before then: those that come are of the lost volume.
    deaf: Option<(usize, u64)>,
}

impl Schedule {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(rng.below(u64::MAX))
            .tick_duration(TICK)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::from_millis([1, 5, 20, 60][rng.below(4) as usize]))
            .simulation_duration(Duration::from_hours(1))
            .build();
        let now = Now::default();
        let api = Arc::new(Mutex::new(Api::new(rng.fork())));
        let rates = [[1000, 1200], [1200, 1000], [1000, 1000]][rng.below(3) as usize];
        let machines = [0, 1].map(|index| {
            let clock = Clock {
                rate: rates[index],
                offset: rng.below(1000) * SECOND,
                booted: 0,
            };
            let place = Place {
                index,
                now: Arc::clone(&now),
                disk: Arc::new(Mutex::new(Disk::new(index as u128 + 1))),
                clock: Arc::new(Mutex::new(clock)),
                api: Arc::clone(&api),
                connections: Arc::default(),
                rng: Arc::new(Mutex::new(rng.fork())),
                settings: Settings::default(),
                door: Arc::default(),
                starts: Arc::default(),
            };
            let machine = Machine {
                place: place.clone(),
                recorder: None,
                starts: 0,
                acted: 0,
                recorder_back: Some(0),
                replicator_back: None,
            };
            sim.host(name(index), move || replicator::run(place.clone()));
            machine
        });
        let next_fault = (300 + rng.below(1700)) * MS;
        Self {
            sim,
            now,
            rng,
            machines,
            api,
            between: Between::default(),
            next_fault,
            promised: Promised::default(),
            account: Account::default(),
            acted: None,
            lost: Vec::new(),
            deaf: None,
        }
    }

    pub fn run(mut self) -> Result<Account, String> {
        loop {
            self.sim.step().map_err(|e| e.to_string())?;
            let now = self.sim.elapsed().as_nanos() as u64;
            self.now.store(now, Ordering::SeqCst);
            self.api.lock().unwrap().turn(now);
            self.recover(now);
            self.forget_acks(now);
            for i in [0, 1] {
                self.record(i, now);
            }
            self.check(now)?;
            for i in [0, 1] {
                if self.machines[i].is_off() {
                    let down = (50 + self.rng.below(2000)) * MS;
                    self.power_cut(i, now, down)?;
                }
            }
            if now < TROUBLE {
                if now >= self.next_fault {
                    self.next_fault = now + (20 + self.rng.below(1000)) * MS;
                    self.account.faults += 1;
                    self.fault(now)?;
                }
            } else if self.is_well(now)? {
                break;
            }
        }
        for i in [0, 1] {
            self.check_disk(i)?;
        }
        self.account.acknowledged = self.promised.acknowledged;
        self.account.sealed = self.promised.sealed.iter().map(|s| s.len() as u64).sum();
        self.account.simulated_ms = self.now.load(Ordering::SeqCst) / MS;
        Ok(self.account)
    }

    /// What the recorder of a machine does. Where the power goes with a sync of its own, it ends there.
    fn record(&mut self, i: usize, now: u64) {
        let machine = &mut self.machines[i];
        let Some(recorder) = &mut machine.recorder else {
            return;
        };
        let arrived = machine.place.door.lock().unwrap().take();
        let turn = || {
            if let Some(link) = arrived {
                recorder.connect(link);
            }
            recorder.turn(now, &mut self.rng, &mut self.promised);
        };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn)).is_err() && !machine.is_off() {
            self.promised.wrong = Some("a panic of a recorder, see above".into());
        }
    }

    /// What was down comes back, and what was wrong ends.
    fn recover(&mut self, now: u64) {
        let due = |at: &mut Option<u64>| at.take_if(|at| *at <= now).is_some();
        for (i, machine) in self.machines.iter_mut().enumerate() {
            if due(&mut machine.replicator_back) {
                self.sim.bounce(name(i));
            }
            if due(&mut machine.recorder_back) {
                machine.starts += 1;
                let disk = machine.place.disk.lock().unwrap();
                machine.recorder = Some(Recorder::new(i, &disk, machine.starts));
            }
        }
        if due(&mut self.between.cut_until) {
            self.sim.repair(name(0), name(1));
        }
        if due(&mut self.between.held_until) {
            self.sim.release(name(0), name(1));
        }
        self.between.dying.retain(|(at, end)| {
            if *at <= now {
                end.cancel();
            }
            *at > now
        });
    }

    /// I5 and I6 at this moment of true time.
    fn check(&mut self, now: u64) -> Result<(), String> {
        if let Some(wrong) = self.promised.wrong.take() {
            return Err(wrong);
        }
        let holds = |machine: &Machine| machine.recorder.as_ref()?.holds(machine.clock(), now);
        let held = [holds(&self.machines[0]), holds(&self.machines[1])];
        if let [Some(a), Some(b)] = held {
            return Err(format!(
                "I6: both hold authority at {} ms: epochs {a} and {b}",
                now / MS
            ));
        }
        for (i, epoch) in held.into_iter().enumerate().filter_map(|(i, e)| Some((i, e?))) {
            if self
                .acted
                .is_some_and(|(highest, who)| epoch < highest || epoch == highest && who != i)
            {
                return Err(format!("I5: {i} acts on epoch {epoch} after {:?}", self.acted));
            }
            if self.acted != Some((epoch, i)) {
                self.account.takeovers += 1;
            }
            self.acted = Some((epoch, i));
            self.machines[i].acted = epoch;
        }
        Ok(())
    }

    fn check_disk(&self, i: usize) -> Result<(), String> {
        let machine = &self.machines[i];
        let disk = machine.place.disk.lock().unwrap();
        for (id, end) in &self.promised.held[i] {
            let chain = chain_at(&disk, id, *end);
            if chain.is_none() || chain != self.promised.chains.get(&(id.clone(), *end)).copied() {
                return Err(format!(
                    "I10: {i} promised {end} bytes of {id}, which are not there"
                ));
            }
        }
        for (id, hash) in &self.promised.sealed[i] {
            if sealed_hash(&disk, id) != Some(*hash) {
                return Err(format!("I2: sealed {id} on {i} is not what it was"));
            }
        }
        let epoch = disk.epoch();
        if epoch < machine.acted {
            return Err(format!(
                "I5: {i} acted on epoch {} and has {epoch} on its volume",
                machine.acted
            ));
        }
        Ok(())
    }

    fn power_cut(&mut self, i: usize, now: u64, down: u64) -> Result<(), String> {
        self.account.power_cuts += 1;
        tracing::debug!(at = now / MS, i, down = down / MS, "no power");
        // A machine without power says nothing more.
        self.cut(now, down, None);
        self.sim.crash(name(i));
        let machine = &mut self.machines[i];
        machine.place.door.lock().unwrap().take();
        machine.recorder = None;
        let left = machine.place.disk.lock().unwrap().after_power_cut(&mut self.rng);
        *machine.place.disk.lock().unwrap() = left;
        machine.place.clock.lock().unwrap().boot(now + down);
        machine.replicator_back = Some(now + down);
        machine.recorder_back = Some(now + down + self.rng.below(300) * MS);
        self.check_disk(i)
    }

    /// The volume is lost with all that was on it: another one, empty, is there when the power comes back.
    fn lose_volume(&mut self, i: usize, now: u64) {
        self.lost
            .push(self.machines[i].place.disk.lock().unwrap().store());
        self.deaf = Some((1 - i, now + ON_ITS_WAY));
        self.forget_acks(now);
        *self.machines[i].place.disk.lock().unwrap() = Disk::new(3);
        self.machines[i].acted = 0;
        self.promised.held[i].clear();
        self.promised.sealed[i].clear();
    }

    /// What a volume that was lost had acknowledged is not heard from then on, nor what of that arrives yet.
    fn forget_acks(&mut self, now: u64) {
        let Some((i, _)) = self.deaf.filter(|(_, until)| now < *until) else {
            return;
        };
        let machine = &mut self.machines[i];
        if let Some(link) = machine.place.door.lock().unwrap().as_mut() {
            link.forget_acks();
        }
        if let Some(recorder) = &mut machine.recorder {
            recorder.forget_acks();
        }
    }

    /// Cuts the link, in one direction or in both. What is on its way is lost, and each side notices that by itself.
    fn cut(&mut self, now: u64, span: u64, from: Option<usize>) {
        // A link that stalled would be whole when that is over.
        if self.between.held_until.take().is_some() {
            self.sim.release(name(0), name(1));
        }
        match from {
            Some(from) => self.sim.partition_oneway(name(from), name(1 - from)),
            None => self.sim.partition(name(0), name(1)),
        }
        let until = self.between.cut_until.unwrap_or(0).max(now + span);
        self.between.cut_until = Some(until);
        for machine in &self.machines {
            let end = std::mem::take(&mut *machine.place.connections.lock().unwrap());
            let noticed = now + self.rng.below(USER_TIMEOUT);
            self.between.dying.push((noticed, end));
        }
    }

    fn fault(&mut self, now: u64) -> Result<(), String> {
        let i = self.rng.below(2) as usize;
        let span = match self.rng.below(3) {
            0 => self.rng.below(200) * MS,
            1 => self.rng.below(1500) * MS,
            _ => self.rng.below(4000) * MS,
        };
        let fault = Fault::ALL[self.rng.below(Fault::ALL.len() as u64) as usize];
        tracing::debug!(at = now / MS, ?fault, i, span = span / MS, "goes wrong");
        let until = now + span;
        let mut api = self.api.lock().unwrap();
        match fault {
            Fault::ApiHearsNothing => api.trouble[i].requests_lost = until,
            Fault::ApiAnswersNothing => api.trouble[i].answers_lost = until,
            Fault::ApiIsSlow => api.trouble[i].slow = until,
            Fault::ApiIsGone => api.trouble.iter_mut().for_each(|t| t.requests_lost = until),
            Fault::DeleteLease => api.delete(),
            _ => {
                drop(api);
                return self.fault_of_machines(fault, i, now, span);
            }
        }
        Ok(())
    }

    fn fault_of_machines(&mut self, fault: Fault, i: usize, now: u64, span: u64) -> Result<(), String> {
        match fault {
            Fault::Cut => self.cut(now, span, None),
            Fault::CutOneWay => self.cut(now, span, Some(i)),
            Fault::Stall if self.between.cut_until.is_none() => {
                self.sim.hold(name(0), name(1));
                self.between.held_until = Some(now + span.min(2 * SECOND));
            }
            Fault::PowerCut => self.power_cut(i, now, span)?,
            Fault::PowerCutWithSync => {
                let after = self.rng.below(12);
                self.power_cut_with(i, Last::After(after));
            }
            Fault::PowerCutWithEpoch => self.power_cut_with(i, Last::OfEpoch),
            Fault::LoseVolume if self.lost.is_empty() => {
                self.power_cut(i, now, span)?;
                self.lose_volume(i, now);
            }
            Fault::KillRecorder => self.kill_recorder(i, now + span),
            Fault::KillReplicator => self.kill_replicator(i, now + span),
            Fault::KillBoth => {
                self.kill_replicator(i, now + span);
                self.kill_recorder(i, now + span);
            }
            Fault::HangRecorder => {
                if let Some(recorder) = &mut self.machines[i].recorder {
                    recorder.hung_until = now + span;
                }
            }
            _ => self.switch_over(),
        }
        Ok(())
    }

    fn power_cut_with(&mut self, i: usize, last: Last) {
        let counts = self.rng.below(2) == 0;
        self.machines[i].place.disk.lock().unwrap().cut_with(last, counts);
    }

    fn kill_recorder(&mut self, i: usize, back: u64) {
        let machine = &mut self.machines[i];
        if let Some(recorder) = machine.recorder.take() {
            *machine.place.door.lock().unwrap() = recorder.end();
            machine.recorder_back = Some(back);
        }
    }

    fn kill_replicator(&mut self, i: usize, back: u64) {
        let machine = &mut self.machines[i];
        if machine.replicator_back.is_none() {
            self.sim.crash(name(i));
            machine.place.door.lock().unwrap().take();
            if let Some(recorder) = &mut machine.recorder {
                recorder.unlink();
            }
            machine.replicator_back = Some(back);
        }
    }

    fn switch_over(&mut self) {
        if let Some((epoch, i)) = self.acted
            && let Some(recorder) = &self.machines[i].recorder
        {
            recorder.order(Event::SwitchoverOrder { epoch: Epoch(epoch) });
        }
    }

    /// Nothing goes wrong any more: whether somebody holds authority, and both hold the same.
    fn is_well(&mut self, now: u64) -> Result<bool, String> {
        if !now.is_multiple_of(20 * MS) {
            return Ok(false);
        }
        for machine in &mut self.machines {
            if let Some(recorder) = machine.recorder.as_mut().filter(|recorder| !recorder.quiet) {
                recorder.quiet = true;
                let sync = || recorder.sync(&mut self.promised);
                let synced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(sync));
                if synced.is_err() && !machine.is_off() {
                    return Err("a panic of a recorder, see above".into());
                }
            }
        }
        let [a, b] = &self.machines;
        let held = [a, b].map(|machine| machine.recorder.as_ref().and_then(Recorder::held));
        let holds = [a, b].iter().any(|m| {
            m.recorder
                .as_ref()
                .is_some_and(|r| r.holds(m.clock(), now).is_some())
        });
        let holds = holds || self.api.lock().unwrap().is_stuck(&self.lost);
        let same = held[0].is_some() && held[0] == held[1];
        if now > HEALED {
            return Err(match (same, holds) {
                (false, _) => format!("I1: the two do not come to hold the same: {}", difference(&held)),
                (true, false) => "nobody holds authority".into(),
                (true, true) => return Ok(true),
            });
        }
        Ok(same && holds)
    }
}
