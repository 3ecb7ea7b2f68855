//! A whole pair in [turmoil](https://docs.rs/turmoil): on two machines the real driver of authority, keeper, sender, receiver, protocol
//! and store, a Lease between them, and everything that goes wrong: links that are cut, one way too, or that stall, an API server that
//! loses, delays and does late what it was asked, processes that are killed or hang, clocks up to 1.2 apart, and power cuts that tear and
//! lose what was not synced.
//!
//! Oracle: never two holders of authority, no epoch falls or is held without being durable (I5, I6); what was acknowledged or synced is
//! there after a power cut (I10); sealed segments never change (I2); and when all is over somebody holds authority, and both machines hold
//! everything that one of them has (I1).
//!
//! `GAPLESS_SIM_SECONDS` sets for how long (a third of it), and `GAPLESS_SEED` where to begin. A seed alone is run alone;
//! `RUST_LOG=info,pair=debug` tells what happens.
#![cfg(feature = "sabotage")]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod disk;
mod lease;
mod machine;
#[path = "../fence/media.rs"]
mod media;
mod recorder_stand_in;
mod replicator;
mod schedule;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, RwLock};
use std::time::{Duration, Instant};

use segment::{Chain, SegmentId};

use schedule::Schedule;
use tracing_subscriber::EnvFilter;

/// A millisecond of simulated time, in nanoseconds.
pub const MS: u64 = 1_000_000;

/// The name of a machine's member.
pub fn name(index: usize) -> &'static str {
    ["front-0", "front-1"][index]
}

/// What was promised about segments, and by whom.
#[derive(Default)]
pub struct Promised {
    /// What each machine holds durably by its own word.
    held: [BTreeMap<SegmentId, u64>; 2],
    /// The chains of all segments at all ends, by their writers.
    chains: BTreeMap<(SegmentId, u64), Chain>,
    /// The hash of each file that was named as sealed, on each machine.
    sealed: [BTreeMap<SegmentId, [u8; 32]>; 2],
    acknowledged: u64,
    /// What should not have been said.
    wrong: Option<String>,
}

impl Promised {
    fn hold(&mut self, who: usize, id: &SegmentId, end: u64) {
        tracing::debug!(who, %id, end, "promised");
        let held = self.held[who].entry(id.clone()).or_default();
        *held = end.max(*held);
    }

    fn seal(&mut self, who: usize, id: &SegmentId, root: [u8; 32]) {
        let before = self.sealed[who].insert(id.clone(), root);
        if before.is_some_and(|before| before != root) {
            self.wrong = Some(format!(
                "I2: {id} is sealed on {who} for the second time, and is another"
            ));
        }
    }
}

/// Chance from a seed: SplitMix64.
#[derive(Clone)]
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

    /// Another source.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }
}

/// What happened in schedules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    faults: u64,
    power_cuts: u64,
    takeovers: u64,
    acknowledged: u64,
    sealed: u64,
    simulated_ms: u64,
}

impl Account {
    fn add(&mut self, other: &Self) {
        self.faults += other.faults;
        self.power_cuts += other.power_cuts;
        self.takeovers += other.takeovers;
        self.acknowledged += other.acknowledged;
        self.sealed += other.sealed;
        self.simulated_ms += other.simulated_ms;
    }
}

/// Panics of any task. The cut of the power unwinds without one.
static PANICS: AtomicU64 = AtomicU64::new(0);
/// A process that begins has what is open and locked here for a moment: no volume may be opened meanwhile.
static BEGINS: RwLock<()> = RwLock::new(());

fn run(seed: u64) -> Result<Account, String> {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |about| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            usual(about);
        }));
    });
    let _nothing_begins = BEGINS.read().unwrap();
    let before = PANICS.load(Ordering::SeqCst);
    let schedule = || Schedule::new(seed).run();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(schedule));
    match ended {
        Ok(ended) if PANICS.load(Ordering::SeqCst) == before => ended,
        _ => Err("a panic, see above".into()),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

#[test]
fn i1_i2_i5_i6_i10_hold_in_every_schedule_of_a_pair() {
    if let Ok(filter) = EnvFilter::try_from_default_env() {
        let _ = tracing_subscriber::fmt()
            .without_time()
            .with_env_filter(filter)
            .try_init();
    }
    let (seed, seconds) = (number("GAPLESS_SEED"), number("GAPLESS_SIM_SECONDS"));
    if let (Some(seed), None) = (seed, seconds) {
        println!("{:?}", run(seed).unwrap());
        return;
    }
    let (first, limit) = (seed.unwrap_or(1), Duration::from_secs(seconds.unwrap_or(45) / 3));
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
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(schedules))));
    let (found, all) = (found.into_inner().unwrap(), all.into_inner().unwrap());
    let schedules = next.into_inner() - first;
    println!("{schedules} schedules from seed {first}: {all:?}");
    assert_eq!(found, None);
    let tried = [all.power_cuts, all.takeovers, all.acknowledged, all.sealed];
    assert!(tried.iter().all(|n| *n >= schedules), "little was tried");
}

/// Runs the search in a process of its own, and returns whether it passed, and what it said.
fn apart(how: &[&str], options: &[(&str, &str)]) -> (bool, String) {
    let mut search = std::process::Command::new(std::env::current_exe().unwrap());
    search
        .args(["i1_i2_i5_i6_i10_hold_in_every_schedule_of_a_pair", "--exact"])
        .args(how)
        .env_remove("GAPLESS_SIM_SECONDS")
        .envs(options.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let begun = {
        let _alone = BEGINS.write().unwrap();
        search.spawn().unwrap()
    };
    let ended = begun.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    (ended.status.success(), said)
}

/// What happens in a schedule, word for word: each packet with its bytes, each sync with what is durable by it, each promise, and what the
/// parts say. In a process of its own: in which order the tasks of one that is killed end, tokio decides by how many there were before.
fn told(seed: u64) -> Vec<String> {
    let seed = seed.to_string();
    let all = ("RUST_LOG", "debug,pair=trace,turmoil=trace");
    let (passed, said) = apart(&["--nocapture"], &[("GAPLESS_SEED", &seed), all]);
    let lines: Vec<&str> = said.lines().collect();
    let last = &lines[lines.len().saturating_sub(100)..];
    assert!(passed, "{seed}: {}", last.join("\n"));
    let lines = lines.into_iter();
    let lines = lines.take_while(|line| !line.starts_with("test result"));
    lines.map(str::to_owned).collect()
}

/// What a log has to tell in a line: a packet with its bytes that was sent, a sync with what is durable, a promise.
const TOLD: [[&str; 2]; 3] = [["Send", "TCP ["], ["synced", "durable"], ["promised", "end"]];

#[test]
fn a_seed_decides_a_schedule() {
    for seed in 1..4 {
        let [one, other] = [told(seed), told(seed)];
        let differ = one.iter().zip(&other).position(|(one, other)| one != other);
        let context = differ.map(|at| (&one[at], &other[at]));
        assert_eq!((context, one.len()), (None, other.len()), "{seed}");
        assert!(one.len() > 2_000, "{seed} tells little");
        for words in TOLD {
            let tells = |line: &String| words.iter().all(|word| line.contains(word));
            assert!(one.iter().any(tells), "{seed} tells of no {words:?}");
        }
    }
}

/// The same with a rule that is broken has to find it: it can fail. In a process of its own, since the switch is read once.
fn finds(rule: &str, said: &[&str]) {
    let (passed, text) = apart(&[], &[("GAPLESS_SABOTAGE", rule), ("GAPLESS_SIM_SECONDS", "180")]);
    assert!(!passed, "a broken {rule} was not found: {text}");
    assert!(said.iter().any(|said| text.contains(said)), "{text}");
}

#[test]
fn i10_a_volume_that_does_not_sync_is_found() {
    finds("I10", &["I10:", "I2:", "I5:"]);
}

#[test]
fn i6_a_member_that_takes_after_half_the_wait_is_found() {
    finds("I6", &["I6:"]);
}
