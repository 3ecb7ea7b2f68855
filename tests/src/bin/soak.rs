//! `make soak`: random faults, alone and in pairs, at random times, on a real cluster, with every frame counted after each. The seed decides all,
//! so a run can be repeated, and one that was cut goes on where it was.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use e2e::cameras::{Kind, Options};
use e2e::cluster::{Endured, Scene, Times, Trouble, cache};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A new pair, with another number of streams, after so many faults.
const FAULTS_PER_PAIR: usize = 10;
/// One in so many pairs has disks that fail on demand, and is struck by that.
const FAULTY_DISKS: usize = 4;
/// One in so many times two faults at once.
const PAIRS: u32 = 4;

/// Strikes a pair at random.
#[derive(Parser)]
struct Args {
    /// How many times it is struck
    #[arg(long, default_value_t = 300)]
    faults: usize,
    /// What decides which faults, when, and on how many streams
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the account of each run is appended
    #[arg(long)]
    results: Option<PathBuf>,
    /// Begin anew where an earlier run of this seed was cut
    #[arg(long)]
    anew: bool,
}

/// What is known of a run; kept after each fault.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Account {
    faults: usize,
    frames_expected: u64,
    frames_missing: u64,
    violations: Vec<String>,
}

impl Account {
    fn load(path: &Path) -> Result<Self> {
        match std::fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    fn store(&self, path: &Path) -> Result<()> {
        let part = path.with_extension("part");
        std::fs::write(&part, serde_json::to_vec(self)?)?;
        Ok(std::fs::rename(part, path)?)
    }
}

/// Whether the pair of a turn has disks that fail on demand.
fn on_faulty_disks(turn: usize) -> bool {
    turn / FAULTS_PER_PAIR % FAULTY_DISKS == FAULTY_DISKS - 1
}

/// The faults of a turn, and when they come: of the seed and the number of the turn alone.
fn troubles(seed: u64, turn: usize) -> (Vec<Trouble>, Times) {
    let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ turn as u64);
    let mut pick = |from: &[Trouble]| from[dice.random_range(0..from.len())];
    let first = pick(if on_faulty_disks(turn) {
        &Trouble::OF_DISKS
    } else {
        &Trouble::ALL
    });
    let second = pick(&Trouble::ALL);
    let both = dice.random_ratio(1, PAIRS) && first.goes_with(second);
    let mut up_to = |ms| Duration::from_millis(dice.random_range(0..=ms));
    let times = Times {
        before: Duration::from_secs(3) + up_to(4_000),
        apart: up_to(3_000),
        longer: up_to(10_000),
    };
    (if both { vec![first, second] } else { vec![first] }, times)
}

/// How many cameras a pair records, and of which kinds: those of which each frame is played once, whoever recorded it, and
/// that a camera simulator survives whose client is gone without a word.
fn cameras(seed: u64, turn: usize) -> Options {
    const KINDS: [Kind; 8] = [
        Kind::H264,
        Kind::LongGroups,
        Kind::VariableRate,
        Kind::H265,
        Kind::Apart,
        Kind::Aac,
        Kind::Pcmu,
        Kind::Pcma,
    ];
    let mut dice = StdRng::seed_from_u64(seed ^ (turn / FAULTS_PER_PAIR) as u64 ^ 0x5eed);
    let streams = dice.random_range(1..=8);
    let kinds: Vec<Kind> = (0..streams)
        .map(|_| KINDS[dice.random_range(0..KINDS.len())])
        .collect();
    Options::test_bed(streams).of_kinds(&kinds)
}

async fn strike(scene: &Scene, seed: u64, turn: usize, account: &mut Account) {
    let ((troubles, times), began) = (troubles(seed, turn), Instant::now());
    let outcome = scene.endure(&troubles, times).await;
    account.faults += troubles.len();
    let broken = match outcome {
        Ok(Endured { verdict, broken }) => {
            account.frames_expected += verdict.expected();
            account.frames_missing += verdict.missing();
            println!(
                "  {turn:>4} {troubles:?}: {} frames, {} missing, {:.0?}",
                verdict.expected(),
                verdict.missing(),
                began.elapsed()
            );
            broken
        }
        Err(error) => vec![format!("{error:#}")],
    };
    if !broken.is_empty() {
        println!("  {turn:>4} {troubles:?}: {broken:#?}");
        scene.keep();
        account
            .violations
            .push(format!("turn {turn} {troubles:?}: {}", broken.join("; ")));
    }
}

/// One line of the table in the results file.
fn append(results: &Path, seed: u64, account: &Account) -> Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(results)
        .with_context(|| format!("{} is not there", results.display()))?;
    let (faults, violations) = (account.faults, account.violations.len());
    let (expected, missing) = (account.frames_expected, account.frames_missing);
    writeln!(
        file,
        "| {} | {seed} | {faults} | {expected} | {missing} | {violations} |",
        jiff::Zoned::now().date()
    )?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let Args {
        faults,
        seed,
        results,
        anew,
    } = Args::parse();
    let kept = cache().join(format!("soak-{seed}-{faults}.json"));
    let mut account = if anew {
        Account::default()
    } else {
        Account::load(&kept)?
    };
    let mut turn = 0;
    // What was done before a run was cut is not done again.
    let mut done = 0;
    while done < account.faults {
        done += troubles(seed, turn).0.len();
        turn += 1;
    }
    while account.faults < faults {
        let cameras = cameras(seed, turn);
        println!("  {} cameras: {:?}", cameras.streams, cameras.kinds);
        let scene = if on_faulty_disks(turn) {
            Scene::on_faulty_disks(cameras).await?
        } else {
            Scene::with(cameras, |_| {}).await?
        };
        let until = (turn / FAULTS_PER_PAIR + 1) * FAULTS_PER_PAIR;
        let broken = account.violations.len();
        // After a violation the pair is made anew: what follows is judged by itself.
        while turn < until && account.faults < faults && account.violations.len() == broken {
            strike(&scene, seed, turn, &mut account).await;
            account.store(&kept)?;
            turn += 1;
        }
        if account.violations.len() > broken {
            scene.bed.mend().await?;
        }
    }
    std::fs::remove_file(&kept)?;
    if let Some(results) = results {
        append(&results, seed, &account)?;
    }
    let Account {
        faults,
        frames_expected,
        frames_missing,
        violations,
    } = account;
    println!(
        "result: {}",
        json!({"faults": faults, "frames_expected": frames_expected, "frames_missing": frames_missing,
            "violations": violations.len(), "seed": seed})
    );
    ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}
