//! `make soak`: random faults, alone and in pairs, at random times, on a real cluster, with every frame counted after each. The seed decides all,
//! so a run can be repeated, and one that was cut goes on where it was.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use e2e::cameras::{Kind, Options};
use e2e::cluster::{Endured, PairSpec, Scene, Times, Trouble, cache};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A new pair, with another number of streams, after so many faults.
const FAULTS_PER_PAIR: usize = 10;
/// What pairs are struck by, one after the other, again and again.
const STAGES: [Stage; 4] = [Stage::Plain, Stage::Cameras, Stage::Plain, Stage::Disks];
/// How many cameras a pair has at most.
const MOST_CAMERAS: usize = 8;
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
    /// Only faults of these kinds, for example SetClock. A second one at the same time may be of any kind
    #[arg(long, value_parser = kind)]
    kind: Vec<String>,
}

/// A kind of faults that there is.
fn kind(name: &str) -> Result<String, String> {
    let kinds = STAGES.iter().flat_map(|stage| stage.troubles());
    let mut kinds: Vec<String> = kinds.map(|trouble| trouble.kind()).collect();
    kinds.sort();
    kinds.dedup();
    let known = kinds.iter().any(|kind| kind == name);
    known
        .then(|| name.to_owned())
        .ok_or_else(|| format!("there are {}", kinds.join(", ")))
}

/// What a pair is made for.
#[derive(Clone, Copy)]
enum Stage {
    /// Faults that need nothing.
    Plain,
    /// Faults of its cameras.
    Cameras,
    /// Disks that fail on demand.
    Disks,
}

impl Stage {
    fn troubles(self) -> &'static [Trouble] {
        match self {
            Self::Plain => &Trouble::ALL,
            Self::Cameras => &Trouble::OF_CAMERAS,
            Self::Disks => &Trouble::OF_DISKS,
        }
    }

    async fn scene(self, cameras: Options) -> Result<Scene> {
        match self {
            Self::Plain => Scene::with(cameras, |_| {}).await,
            Self::Cameras => {
                // Such a camera may show one member the same pictures again and again.
                let apart: Vec<bool> = cameras.kinds.iter().map(|kind| *kind == Kind::Apart).collect();
                let detect = |spec: &mut PairSpec| {
                    for (stream, apart) in spec.streams.iter_mut().zip(apart) {
                        stream.detect_frozen = apart;
                    }
                };
                Scene::with(cameras, detect).await
            }
            Self::Disks => Scene::on_faulty_disks(cameras).await,
        }
    }
}

/// What decides a run.
struct Plan {
    seed: u64,
    kinds: Vec<String>,
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

impl Plan {
    fn is_meant(&self, trouble: Trouble) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&trouble.kind())
    }

    /// The first faults that a pair may be struck by.
    fn meant(&self, stage: Stage) -> Vec<Trouble> {
        let all = stage.troubles().iter().copied();
        all.filter(|trouble| self.is_meant(*trouble)).collect()
    }

    /// What the pair of a turn is made for.
    fn stage(&self, turn: usize) -> Stage {
        let meant = |stage: &&Stage| !self.meant(**stage).is_empty();
        let stages: Vec<&Stage> = STAGES.iter().filter(meant).collect();
        *stages[turn / FAULTS_PER_PAIR % stages.len()]
    }

    /// The faults of a turn, and when they come: of the seed, the kinds and the number of the turn alone.
    fn troubles(&self, turn: usize) -> (Vec<Trouble>, Times) {
        let mut dice = StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003) ^ turn as u64);
        let mut pick = |from: &[Trouble]| from[dice.random_range(0..from.len())];
        let first = pick(&self.meant(self.stage(turn)));
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
    fn cameras(&self, turn: usize) -> Options {
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
        let mut dice = StdRng::seed_from_u64(self.seed ^ (turn / FAULTS_PER_PAIR) as u64 ^ 0x5eed);
        let streams = dice.random_range(1..=MOST_CAMERAS);
        let random = (0..streams).map(|_| KINDS[dice.random_range(0..KINDS.len())]);
        let odd: &[Kind] = match self.stage(turn) {
            Stage::Cameras => &Trouble::ODD_CAMERAS,
            Stage::Plain | Stage::Disks => &[],
        };
        let kinds = odd.iter().copied().chain(random).take(MOST_CAMERAS);
        let kinds: Vec<Kind> = kinds.collect();
        Options::test_bed(kinds.len()).of_kinds(&kinds)
    }

    /// The turn after so many faults: what was done before a run was cut is not done again.
    fn turn_after(&self, faults: usize) -> usize {
        let (mut turn, mut done) = (0, 0);
        while done < faults {
            done += self.troubles(turn).0.len();
            turn += 1;
        }
        turn
    }

    /// Where the account is kept until the run is done.
    fn kept(&self, faults: usize) -> PathBuf {
        let run = [self.seed.to_string(), faults.to_string()];
        let parts: Vec<String> = run.into_iter().chain(self.kinds.clone()).collect();
        cache().join(format!("soak-{}.json", parts.join("-")))
    }
}

async fn strike(scene: &Scene, plan: &Plan, turn: usize, account: &mut Account) {
    let ((troubles, times), began) = (plan.troubles(turn), Instant::now());
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
        kind,
    } = Args::parse();
    // The table is of runs of all kinds.
    let results = results.filter(|_| kind.is_empty());
    let plan = Plan { seed, kinds: kind };
    let kept = plan.kept(faults);
    let mut account = if anew {
        Account::default()
    } else {
        Account::load(&kept)?
    };
    let mut turn = plan.turn_after(account.faults);
    while account.faults < faults {
        let cameras = plan.cameras(turn);
        println!("  {} cameras: {:?}", cameras.streams, cameras.kinds);
        let scene = plan.stage(turn).scene(cameras).await?;
        let until = (turn / FAULTS_PER_PAIR + 1) * FAULTS_PER_PAIR;
        let broken = account.violations.len();
        // After a violation the pair is made anew: what follows is judged by itself.
        while turn < until && account.faults < faults && account.violations.len() == broken {
            strike(&scene, &plan, turn, &mut account).await;
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
