//! `make bench-failover`: each kind of failover, again and again on a real cluster: how long until the standby records, how
//! long until it serves, and how many frames it cost.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use crds::{RecorderPair, names};
use e2e::api::MemberApi;
use e2e::cameras::Options;
use e2e::cluster::{Before, Fault, NAMESPACE, PAIR, RETURN, Scene, TAKEOVER, Trouble, Whom};
use e2e::judge::Start;
use e2e::wait::now_ms;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// How often the standby is asked whether it records.
const LOOK: Duration = Duration::from_millis(10);
/// How long a fault lasts that does not end by itself.
const BROKEN: Duration = Duration::from_secs(5);
/// How long is recorded before a fault.
const BEFORE: Duration = Duration::from_secs(4);

/// Measures failovers.
#[derive(Parser)]
struct Args {
    /// How many streams the pair records
    #[arg(long, default_value_t = 16)]
    streams: usize,
    /// How often each kind is measured
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Which kinds; all without
    #[arg(long)]
    kind: Vec<Kind>,
}

/// What ends a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Kind {
    /// SIGKILL for the recorder's container.
    RecorderKill,
    /// The pod is deleted.
    PodDelete,
    /// The node loses its power.
    NodeOff,
    /// All containers of the pod stand still, and go on later.
    NodeFreeze,
    /// The node hears nobody.
    LinkCut,
    /// It is asked for.
    Switchover,
}

/// One failover.
struct Sample {
    /// From the fault until the standby wrote every stream.
    recording_ms: u64,
    /// From the fault until the Service led to the new primary.
    authority_ms: u64,
}

impl Kind {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The fault that ends the primary; a switchover is none.
    fn trouble(self) -> Option<Trouble> {
        match self {
            Self::RecorderKill => Some(Trouble::KillRecorder(Whom::Primary)),
            Self::PodDelete => Some(Trouble::DeletePod(Whom::Primary)),
            Self::NodeOff => Some(Trouble::PowerOff(Whom::Primary)),
            Self::NodeFreeze => Some(Trouble::FreezePod(Whom::Primary)),
            Self::LinkCut => Some(Trouble::CutAll(Whom::Primary)),
            Self::Switchover => None,
        }
    }

    async fn strike(self, scene: &Scene, before: &Before) -> Result<Fault> {
        if let Some(trouble) = self.trouble() {
            return trouble.strike(scene, before).await;
        }
        let fault = Fault::now();
        let wish = json!({names::ANNOTATION_SWITCHOVER: before.standby.name});
        let change = json!({"metadata": {"annotations": wish}});
        scene.kube.merge::<RecorderPair>(NAMESPACE, PAIR, &change).await?;
        Ok(fault)
    }

    async fn mend(self, scene: &Scene, before: &Before) -> Result<()> {
        match self.trouble() {
            Some(trouble) => trouble.mend(scene, before).await,
            None => Ok(()),
        }
    }
}

/// When a member wrote every one of so many streams for the first time, Unix milliseconds.
fn records(member: MemberApi, streams: usize) -> JoinHandle<u64> {
    tokio::spawn(async move {
        loop {
            let writing = member.streams().await.unwrap_or_default();
            if writing.iter().filter(|stream| stream.writing).count() >= streams {
                return now_ms();
            }
            tokio::time::sleep(LOOK).await;
        }
    })
}

async fn round(scene: &Scene, kind: Kind) -> Result<Sample> {
    let before = scene.record(BEFORE).await?;
    let recording = records(before.standby.api.clone(), scene.watched.len());
    let fault = kind.strike(scene, &before).await?;
    let outcome = scene.failed_over(fault, &before).await?;
    let recording = tokio::time::timeout(TAKEOVER, recording)
        .await
        .context("the standby does not record")??;
    tokio::time::sleep(BROKEN).await;
    kind.mend(scene, &before).await?;
    let members = scene.settled(RETURN).await?;
    scene.ensure_kept(&before, &members[0].api).await?;
    Ok(Sample {
        recording_ms: recording.saturating_sub(fault.at_ms()),
        authority_ms: outcome.serving_after_ms(),
    })
}

/// The smallest value that is not less than so many percent of all.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

async fn measure(scene: &Scene, kind: Kind, rounds: usize) -> Result<Value> {
    let start = Start::now(&scene.cameras).await?;
    let (mut recording, mut authority) = (Vec::new(), Vec::new());
    for n in 1..=rounds {
        let sample = round(scene, kind)
            .await
            .with_context(|| format!("{} {n}", kind.name()))?;
        println!(
            "  {:<14} {n:>3}  recording {:>5} ms  authority {:>5} ms",
            kind.name(),
            sample.recording_ms,
            sample.authority_ms
        );
        recording.push(sample.recording_ms);
        authority.push(sample.authority_ms);
    }
    recording.sort_unstable();
    authority.sort_unstable();
    let members = scene.settled(RETURN).await?;
    let verdict = scene.judge(start, &members).await?;
    println!("{verdict}");
    Ok(json!({
        "n": rounds,
        "recording_p50_ms": percentile(&recording, 50),
        "authority_p50_ms": percentile(&authority, 50),
        "authority_p90_ms": percentile(&authority, 90),
        "authority_max_ms": authority.last(),
        "frames_expected": verdict.expected(),
        "frames_missing": verdict.missing(),
        "frames_doubled": verdict.doubled(),
    }))
}

#[tokio::main]
async fn main() -> Result<()> {
    let Args {
        streams,
        rounds,
        mut kind,
    } = Args::parse();
    ensure!(rounds > 0 && streams > 0, "nothing to measure");
    if kind.is_empty() {
        kind = Kind::value_variants().to_vec();
    }
    let scene = Scene::with(Options::test_bed(streams), |_| {}).await?;
    let mut kinds = BTreeMap::new();
    for kind in kind {
        kinds.insert(kind.name(), measure(&scene, kind, rounds).await?);
    }
    println!("result: {}", json!({ "streams": streams, "kinds": kinds }));
    Ok(())
}
