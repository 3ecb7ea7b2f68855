//! Two hosts with the real sender, receiver, keeper and store between them, in random schedules of cut connections and power cuts with
//! torn and unsynced writes. Oracle: what was acknowledged is there after a power cut (I10), sealed segments never change (I2), and
//! when all is over both hosts hold everything that is durable on one of them.
//!
//! `GAPLESS_SIM_SECONDS` sets for how long (a third of it), `GAPLESS_SEED` where to begin.
#![cfg(feature = "sabotage")]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod disk;
mod host;
#[path = "../fence/media.rs"]
mod media;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use segment::{Chain, SegmentId};

use host::{Connection, Host};

/// So many schedules run at once: they wait most of the time.
const AT_ONCE: usize = 12;

/// What was promised about segments, and by whom.
#[derive(Default)]
pub struct Promised {
    /// What each host was said to hold durably.
    held: [BTreeMap<SegmentId, u64>; 2],
    /// The chains of all segments at all ends, by their writers.
    chains: BTreeMap<(SegmentId, u64), Chain>,
    /// The hash of each file that was named as sealed, on each host.
    sealed: [BTreeMap<SegmentId, [u8; 32]>; 2],
}

/// Chance from a seed: SplitMix64.
pub struct Rng(u64);

impl Rng {
    /// A number below `of`.
    pub fn below(&mut self, of: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % of
    }
}

/// What happened in one schedule.
#[derive(Debug, Default)]
struct Account {
    cuts: u64,
    power_cuts: u64,
    acknowledged: u64,
    sealed: usize,
}

impl Account {
    fn add(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.power_cuts += other.power_cuts;
        self.acknowledged += other.acknowledged;
        self.sealed += other.sealed;
    }
}

struct Schedule {
    rng: Rng,
    hosts: [Host; 2],
    /// From each host to the other.
    connections: [Option<Connection>; 2],
    promised: Promised,
    account: Account,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed),
            hosts: [Host::new(0), Host::new(1)],
            connections: [None, None],
            promised: Promised::default(),
            account: Account::default(),
        }
    }

    async fn run(mut self) -> Result<Account, String> {
        for _ in 0..40 {
            self.step().await?;
        }
        self.heal().await?;
        self.account.sealed = self.promised.sealed.iter().map(BTreeMap::len).sum();
        Ok(self.account)
    }

    async fn step(&mut self) -> Result<(), String> {
        let i = self.rng.below(2) as usize;
        match self.rng.below(20) {
            0..9 => self.hosts[i].write(&mut self.rng, &mut self.promised),
            9..11 => self.hosts[i].seal(&mut self.promised),
            11..14 => self.connect(i),
            14 => self.cut(i, false).await,
            15 => self.power_cut(i).await?,
            _ => tokio::time::sleep(host::PERIOD * self.rng.below(6) as u32 / 4).await,
        }
        self.take_in();
        Ok(())
    }

    fn connect(&mut self, from: usize) {
        if self.connections[from].as_ref().is_none_or(Connection::has_ended) {
            let buffer = 1 << (9 + self.rng.below(8));
            let connection = Connection::between(&self.hosts[from], &self.hosts[1 - from], buffer);
            self.connections[from] = Some(connection);
        }
    }

    /// The acknowledgements that arrived, and what the keepers tell their recorders.
    fn take_in(&mut self) {
        for from in [0, 1] {
            let arrived = self.connections[from].as_mut().map(Connection::acknowledged);
            for (id, end) in arrived.unwrap_or_default() {
                self.account.acknowledged += 1;
                let held = self.promised.held[1 - from].entry(id).or_default();
                *held = end.max(*held);
            }
            self.hosts[from].hear(&mut self.promised);
        }
    }

    async fn cut(&mut self, from: usize, powerless: bool) {
        if let Some(connection) = self.connections[from].take() {
            self.account.cuts += 1;
            let lost = connection.cut(powerless).await;
            for (id, end) in lost {
                let held = self.promised.held[1 - from].entry(id).or_default();
                *held = end.max(*held);
            }
        }
    }

    /// Everything of a host that was not synced is gone, or torn.
    async fn power_cut(&mut self, i: usize) -> Result<(), String> {
        self.take_in();
        for from in [0, 1] {
            self.cut(from, i != from).await;
        }
        self.take_in();
        self.account.power_cuts += 1;
        self.hosts[i].power_cut(&mut self.rng);
        self.check(i)
    }

    fn check(&self, i: usize) -> Result<(), String> {
        let host = &self.hosts[i];
        for (id, end) in &self.promised.held[i] {
            let chain = host.chain_at(id, *end);
            if chain.is_none() || chain != self.promised.chains.get(&(id.clone(), *end)).copied() {
                return Err(format!(
                    "I10: host {i} acknowledged {end} bytes of {id}, which are not there"
                ));
            }
        }
        for (id, hash) in &self.promised.sealed[i] {
            if host.sealed_hash(id) != Some(*hash) {
                return Err(format!("I2: sealed {id} on host {i} is not what it was"));
            }
        }
        Ok(())
    }

    /// No more faults: both hosts come to hold the same.
    async fn heal(&mut self) -> Result<(), String> {
        let until = Instant::now() + Duration::from_mins(1);
        loop {
            for from in [0, 1] {
                self.connect(from);
            }
            self.take_in();
            let held = [self.hosts[0].held(), self.hosts[1].held()];
            if held[0] == held[1] {
                break;
            }
            if Instant::now() > until {
                return Err(format!("I1: the hosts do not come to hold the same: {held:#?}"));
            }
            tokio::time::sleep(host::PERIOD).await;
        }
        self.check(0)?;
        self.check(1)
    }
}

fn run(seed: u64) -> Result<Account, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let schedule = || runtime.block_on(Schedule::new(seed).run());
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(schedule))
        .unwrap_or_else(|_| Err("a panic, see above".into()))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

#[test]
fn i2_i10_hold_in_every_schedule_of_cuts_and_power_cuts() {
    let limit = Duration::from_secs(number("GAPLESS_SIM_SECONDS").unwrap_or(45) / 3);
    let first = number("GAPLESS_SEED").unwrap_or(1);
    let (next, began) = (AtomicU64::new(first), Instant::now());
    let (all, found) = (Mutex::new(Account::default()), Mutex::new(None));
    let schedules = || {
        while began.elapsed() < limit && found.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            match run(seed) {
                Ok(account) => all.lock().unwrap().add(&account),
                Err(what) => *found.lock().unwrap() = Some(format!("GAPLESS_SEED={seed}: {what}")),
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(schedules))));
    let (found, all) = (found.into_inner().unwrap(), all.into_inner().unwrap());
    let schedules = next.into_inner() - first;
    println!("{schedules} schedules from seed {first}: {all:?}");
    assert_eq!(found, None);
    assert!(
        all.power_cuts > 0 && all.acknowledged > 0 && all.sealed > 0,
        "nothing was tried"
    );
}

/// The same with volumes that do not sync has to find something: it can fail. In a process of its own, since the switch is read once.
#[test]
fn i10_a_volume_that_does_not_sync_is_found() {
    let found = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["i2_i10_hold_in_every_schedule_of_cuts_and_power_cuts", "--exact"])
        .env("GAPLESS_SABOTAGE", "I10")
        .env("GAPLESS_SIM_SECONDS", "60")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(!found.status.success(), "a missing sync was not found: {said}");
    assert!(said.contains("I10") || said.contains("I2"), "{said}");
}
