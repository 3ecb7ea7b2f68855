//! `make bench-failover`: each kind of failover, again and again on a real cluster: how long until the standby records, until it
//! serves, until a viewer sees again, and how many frames it cost. Beside it what a user could build: two ffmpeg recorders of each
//! camera and a union of their files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use crds::member::FailoverReport;
use crds::names;
use e2e::api::MemberApi;
use e2e::bench::gathered::{self, Gathered};
use e2e::bench::load::Load;
use e2e::bench::plain_pair::{Blow, Found, PlainPair};
use e2e::bench::spread::Spread;
use e2e::cameras::{Cameras, Options};
use e2e::cluster::{NAMESPACE, PAIR, RETURN, Scene, TAKEOVER, Trouble, Whom};
use e2e::judge::Start;
use e2e::viewer::{Seen, Viewer};
use e2e::wait::now_ms;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;
use url::Url;

/// How often the standby is asked whether it records.
const LOOK: Duration = Duration::from_millis(10);
/// How long a fault lasts that does not end by itself.
const BROKEN: Duration = Duration::from_secs(5);
/// How long one of two ffmpeg recorders takes nothing: longer, and the camera simulator, whose clients share what is sent, waits for it.
const TAKES_NOTHING: Duration = Duration::from_secs(2);
/// How long is recorded before a fault.
const BEFORE: Duration = Duration::from_secs(4);
/// How long all viewers may take to see, and to see again.
const SEE: Duration = Duration::from_secs(30);
/// How long a member may take to follow what it is told.
const CONFIGURED: Duration = Duration::from_secs(3);
/// After a round all that was recorded before it is compared, so each takes longer than the one before: after so many, another pair is
/// struck.
const ROUNDS_OF_A_PAIR: usize = 20;
/// What the line of the result begins with.
const RESULT: &str = "result: ";
/// Milliseconds of a frame of the cameras.
const FRAME_MS: u64 = 40;

/// Measures failovers.
#[derive(Parser)]
struct Args {
    /// How many streams the pair records
    #[arg(long, default_value_t = 16)]
    streams: usize,
    /// How often each kind is measured
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// How often ffmpeg's recorders are struck in each way; 0 to leave them out
    #[arg(long, default_value_t = 3)]
    plain_rounds: usize,
    /// Which kinds; all without
    #[arg(long)]
    kind: Vec<Kind>,
    /// While a process that never waits runs on each core
    #[arg(long)]
    loaded: bool,
    /// Where each failover of the pair is appended, to be counted together with those of other runs
    #[arg(long)]
    samples: Option<PathBuf>,
    /// The two ffmpeg recorders alone: needs no cluster
    #[arg(long)]
    plain_only: bool,
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
    /// As `NodeOff`, while the standby takes only when the operator, which sees the Lease expire, tells it to.
    LeaseExpiry,
    /// It is asked for.
    Switchover,
}

/// One failover.
struct Sample {
    /// From the fault until the standby wrote every stream.
    recording_ms: u64,
    /// From the fault until the Service led to the new primary.
    authority_ms: u64,
    /// What the new primary says of the time between.
    told: Option<FailoverReport>,
    /// When the fault began, Unix milliseconds.
    fault_ms: u64,
    /// From the end of the fault until each member had everything again and did its part.
    converged_ms: u64,
    /// What each viewer missed.
    viewers: Vec<Seen>,
}

impl Kind {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What ends the primary, or its authority.
    fn trouble(self) -> Trouble {
        match self {
            Self::RecorderKill => Trouble::KillRecorder(Whom::Primary),
            Self::PodDelete => Trouble::DeletePod(Whom::Primary),
            Self::NodeOff | Self::LeaseExpiry => Trouble::PowerOff(Whom::Primary),
            Self::NodeFreeze => Trouble::FreezePod(Whom::Primary),
            Self::LinkCut => Trouble::CutAll(Whom::Primary),
            Self::Switchover => Trouble::Switchover,
        }
    }

    /// What comes nearest to it without a pair; nobody can switch over what nobody holds.
    fn blow(self) -> Option<Blow> {
        match self {
            Self::RecorderKill => Some(Blow::Kill),
            Self::PodDelete => Some(Blow::Stop),
            Self::NodeOff => Some(Blow::PowerCut),
            Self::NodeFreeze => Some(Blow::Freeze),
            Self::LinkCut => Some(Blow::Cut),
            Self::LeaseExpiry | Self::Switchover => None,
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

/// Viewers of every stream on the address of the read Service, which stays what it is. They see when this returns.
async fn viewers(scene: &Scene) -> Result<Vec<Viewer>> {
    let service: Option<Service> = scene.kube.get(NAMESPACE, &names::read_service(PAIR)).await?;
    let address = service.and_then(|service| service.spec?.cluster_ip);
    let address = address.context("the read Service has no address")?;
    let (base, token) = (
        Url::parse(&format!("http://{address}:{}/", names::PORT_HTTP))?,
        scene.pair.token().await?,
    );
    let view = |stream: &String| Viewer::start(base.join(&format!("v1/streams/{stream}/live"))?, &token);
    let viewers = scene.streams().iter().map(view).collect::<Result<Vec<_>>>()?;
    seen(scene, &viewers).await?;
    Ok(viewers)
}

/// What each saw, when it saw a frame of now.
async fn seen(scene: &Scene, viewers: &[Viewer]) -> Result<Vec<Seen>> {
    let counter = scene.cameras.state().await?.counter;
    try_join_all(viewers.iter().map(|viewer| viewer.saw(counter, SEE))).await
}

async fn round(scene: &Scene, kind: Kind) -> Result<Sample> {
    let before = scene.record(BEFORE).await?;
    // Cluster addresses are routed by way of a node: by one that stays.
    scene.bed.route(&before.standby.node).await?;
    let viewers = viewers(scene).await?;
    let recording = records(before.standby.api.clone(), scene.watched.len());
    let fault = kind.trouble().strike(scene, &before).await?;
    let outcome = scene.failed_over(fault, &before).await?;
    let recording = tokio::time::timeout(TAKEOVER, recording)
        .await
        .context("the standby does not record")??;
    tokio::time::sleep(BROKEN).await;
    let seen = seen(scene, &viewers).await?;
    drop(viewers);
    let view = scene.pair.view(&before.standby.name).await?;
    let failovers = view.report.map(|report| report.failovers).unwrap_or_default();
    let mended = Instant::now();
    kind.trouble().mend(scene, &before).await?;
    let members = scene.settled(RETURN).await?;
    let converged = mended.elapsed();
    scene.ensure_kept(&before, &members[0].api).await?;
    Ok(Sample {
        converged_ms: u64::try_from(converged.as_millis())?,
        recording_ms: recording.saturating_sub(fault.at_ms()),
        authority_ms: outcome.serving_after_ms(),
        told: failovers
            .into_iter()
            .rev()
            .find(|told| told.epoch == outcome.served.epoch),
        fault_ms: fault.at_ms(),
        viewers: seen,
    })
}

/// How old the newest media of the old primary was, which the new one had at the fault; of all rounds of which it says so.
fn last_frame(samples: &[Sample]) -> Spread {
    let age = |sample: &Sample| Some(sample.fault_ms.saturating_sub(sample.told.as_ref()?.last_frame?));
    Spread::of(samples.iter().filter_map(age))
}

/// How long a phase took from the fault on, in all rounds of which the new primary says so.
fn phase(samples: &[Sample], at: fn(&FailoverReport) -> Option<u64>) -> Spread {
    let after = |sample: &Sample| Some(at(sample.told.as_ref()?)?.saturating_sub(sample.fault_ms));
    Spread::of(samples.iter().filter_map(after))
}

impl Sample {
    /// How long each viewer did not see what the cameras sent, counted in frames, milliseconds.
    fn unseen(&self) -> impl Iterator<Item = u64> {
        self.viewers.iter().map(|seen| seen.missed() * FRAME_MS)
    }
}

fn unseen(samples: &[Sample]) -> Spread {
    Spread::of(samples.iter().flat_map(Sample::unseen))
}

fn gathered(args: &Args, kind: Kind, sample: &Sample) -> Gathered {
    Gathered {
        kind: kind.name(),
        streams: args.streams,
        loaded: args.loaded,
        date: jiff::Zoned::now().date(),
        recording_ms: sample.recording_ms,
        authority_ms: sample.authority_ms,
        viewers_ms: sample.unseen().collect(),
    }
}

/// What was measured of a kind, of one pair after the other.
#[derive(Default)]
struct Measured {
    samples: Vec<Sample>,
    expected: u64,
    missing: u64,
    doubled: u64,
}

impl Measured {
    fn add(&mut self, more: Self) {
        self.samples.extend(more.samples);
        self.expected += more.expected;
        self.missing += more.missing;
        self.doubled += more.doubled;
    }
}

async fn measure(scene: &Scene, kind: Kind, rounds: usize, args: &Args) -> Result<Measured> {
    // The file outlives a power cut: it is there until the kind was measured.
    for member in scene.pair.views().await {
        scene.make_patient(&member, kind == Kind::LeaseExpiry).await?;
    }
    tokio::time::sleep(CONFIGURED).await;
    let start = Start::now(&scene.cameras).await?;
    let mut samples = Vec::new();
    for n in 1..=rounds {
        let sample = round(scene, kind)
            .await
            .with_context(|| format!("{} {n}", kind.name()))?;
        println!(
            "  {:<14} {n:>3}  recording {:>5} ms  authority {:>5} ms  viewers missed {} ms (p50 / p90 / max)",
            kind.name(),
            sample.recording_ms,
            sample.authority_ms,
            unseen(std::slice::from_ref(&sample)).cell(),
        );
        if let Some(path) = &args.samples {
            gathered(args, kind, &sample).append(path)?;
        }
        samples.push(sample);
    }
    let members = scene.settled(RETURN).await?;
    scene.cameras.trusted_state().await?;
    let verdict = scene.judge(start, &members).await?;
    println!("{verdict}");
    Ok(Measured {
        samples,
        expected: verdict.expected(),
        missing: verdict.missing(),
        doubled: verdict.doubled(),
    })
}

fn account(measured: &Measured) -> Value {
    let samples = &measured.samples[..];
    let recording = Spread::of(samples.iter().map(|sample| sample.recording_ms));
    let authority = Spread::of(samples.iter().map(|sample| sample.authority_ms));
    let viewer = unseen(samples);
    let told = json!({
        "last_frame": last_frame(samples).cell(),
        "converged": Spread::of(samples.iter().map(|sample| sample.converged_ms)).cell(),
        "suspected": phase(samples, |told| told.suspected).cell(),
        "read": phase(samples, |told| told.read).cell(),
        "taken": phase(samples, |told| told.taken).cell(),
        "serving": phase(samples, |told| told.serving).cell(),
    });
    json!({
        "n": samples.len(),
        "recording_p50_ms": recording.p50(),
        "recording_p90_ms": recording.percentile(90),
        "recording_max_ms": recording.max(),
        "authority_p50_ms": authority.p50(),
        "authority_p90_ms": authority.percentile(90),
        "authority_max_ms": authority.max(),
        "viewer_p50_ms": viewer.p50(),
        "viewer_p90_ms": viewer.percentile(90),
        "viewer_max_ms": viewer.max(),
        "phases_ms": told,
        "frames_expected": measured.expected,
        "frames_missing": measured.missing,
        "frames_doubled": measured.doubled,
    })
}

/// Strikes two ffmpeg recorders of each camera in the same ways.
async fn measure_plain(args: &Args, kinds: &[Kind]) -> Result<BTreeMap<Kind, Value>> {
    let cameras = Cameras::start(Options::loopback(args.streams)?).await?;
    let mut pair = PlainPair::start(&cameras).await?;
    let (mut all, mut rows) = (BTreeMap::new(), Vec::new());
    for (kind, blow) in kinds.iter().filter_map(|kind| Some((*kind, kind.blow()?))) {
        tokio::time::sleep(BEFORE).await;
        let (first, n) = (cameras.state().await?.counter, args.plain_rounds);
        for round in 1..=n {
            tokio::time::sleep(BEFORE).await;
            let lasts = match blow {
                Blow::Freeze | Blow::Cut => TAKES_NOTHING,
                Blow::Kill | Blow::Stop | Blow::PowerCut => BROKEN,
            };
            let endured = pair.endure(blow, lasts).await;
            endured.with_context(|| format!("two ffmpeg recorders, {} {round}", kind.name()))?;
            let trusted = cameras.trusted_state().await;
            trusted.with_context(|| format!("two ffmpeg recorders, {} {round}", kind.name()))?;
        }
        let Found {
            expected,
            missing,
            single,
        } = pair.count(&cameras, first).await?;
        println!(
            "  {:<14} {n:>3}  two ffmpeg recorders: {missing} of {expected} frames missing",
            kind.name()
        );
        rows.push(format!(
            "| `{}` | {n} | {expected} | {missing} | {single} |",
            kind.name()
        ));
        let found =
            json!({"n": n, "frames_expected": expected, "frames_missing": missing, "frames_single": single});
        all.insert(kind, found);
    }
    for row in rows {
        println!("{row}");
    }
    drop(pair);
    cameras.stop().await?;
    Ok(all)
}

/// A row of the table of failovers in docs/benchmarks.md.
fn row(kind: Kind, found: &Value) -> String {
    let spread = |name: &str| {
        let part = |which: &str| found[format!("{name}_{which}_ms")].to_string();
        ["p50", "p90", "max"].map(part).join(" / ")
    };
    let phases = ["last_frame", "suspected", "read", "taken", "converged"]
        .map(|phase| found["phases_ms"][phase].as_str().unwrap_or("–"));
    let frames =
        ["frames_expected", "frames_missing", "frames_doubled"].map(|field| found[field].to_string());
    let cells = [
        format!("`{}`", kind.name()),
        found["n"].to_string(),
        phases[..4].join(" | "),
        spread("recording"),
        spread("authority"),
        spread("viewer"),
        phases[4].to_owned(),
        frames.join(" | "),
    ];
    format!("| {} |", cells.join(" | "))
}

/// [`measure_plain`] in a process with mounts of its own, so that no disk outlives it. This process has to share the mounts of
/// the machine, for the test bed does.
async fn measure_plain_apart() -> Result<Value> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1));
    command
        .arg("--plain-only")
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().context("cannot run unshare")?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mut result = None;
    while let Some(line) = lines.next_line().await? {
        match line.strip_prefix(RESULT) {
            Some(text) => result = Some(serde_json::from_str::<Value>(text)?),
            None => println!("{line}"),
        }
    }
    let status = child.wait().await?;
    let result = result.with_context(|| format!("two ffmpeg recorders: {status}, without a result"))?;
    Ok(result["two_ffmpeg"].clone())
}

async fn measure_pair(args: &Args, kinds: &[Kind]) -> Result<BTreeMap<Kind, Value>> {
    let (mut all, mut stage) = (BTreeMap::new(), None::<(Scene, usize)>);
    for kind in kinds {
        let mut measured = Measured::default();
        while measured.samples.len() < args.rounds {
            let rounds = (args.rounds - measured.samples.len()).min(ROUNDS_OF_A_PAIR);
            let old = stage.take();
            let (scene, borne) = match old.filter(|(_, borne)| borne + rounds <= ROUNDS_OF_A_PAIR) {
                Some(old) => old,
                None => (Scene::with(Options::test_bed(args.streams), |_| {}).await?, 0),
            };
            let more = scene
                .cameras
                .on_time(async || measure(&scene, *kind, rounds, args).await);
            measured.add(more.await?);
            stage = Some((scene, borne + rounds));
        }
        all.insert(*kind, account(&measured));
    }
    for (kind, found) in &all {
        println!("{}", row(*kind, found));
    }
    if let Some(path) = &args.samples {
        for row in gathered::rows(&gathered::load(path)?) {
            println!("{row}");
        }
    }
    Ok(all)
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.rounds > 0 && args.streams > 0, "nothing to measure");
    let kinds = match &args.kind[..] {
        [] => Kind::value_variants(),
        some => some,
    };
    let result = if args.plain_only {
        let _load = args.loaded.then(Load::start).transpose()?;
        let found = measure_plain(&args, kinds).await?;
        let named = |(kind, found): (&Kind, &Value)| (kind.name(), found.clone());
        let found: BTreeMap<_, _> = found.iter().map(named).collect();
        json!({"two_ffmpeg": found})
    } else {
        let found = {
            let _load = args.loaded.then(Load::start).transpose()?;
            measure_pair(&args, kinds).await?
        };
        let plain = match args.plain_rounds {
            0 => json!({}),
            _ => measure_plain_apart().await?,
        };
        let named = |(kind, found): (Kind, Value)| (kind.name(), found);
        let found: BTreeMap<_, _> = found.into_iter().map(named).collect();
        json!({"streams": args.streams, "loaded": args.loaded, "kinds": found, "two_ffmpeg": plain})
    };
    println!("{RESULT}{result}");
    Ok(())
}
