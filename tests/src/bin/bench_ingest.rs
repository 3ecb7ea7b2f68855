//! `make bench-ingest`: what recording costs. A pair, primary and standby, with synced writes, against one ffmpeg and one
//! GStreamer process per stream, in turn, from the same cameras.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use e2e::api::MemberApi;
use e2e::bench::disk::Disk;
use e2e::bench::plain::{Maker, Plain, SEGMENT_SECONDS, all_write};
use e2e::bench::spread::Spread;
use e2e::bench::usage::{self, Usage};
use e2e::cameras::{Cameras, Options};
use e2e::judge::{Start, judge, watched};
use e2e::members::{Member, Pair, Program};
use e2e::oracle::Span;
use e2e::wait::until;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long everybody may take to record.
const UP: Duration = Duration::from_mins(1);
/// How long a recorder runs before it is measured: sessions are set up, files are open.
const SETTLE: Duration = Duration::from_secs(4);
/// How long it goes on after it was measured, so that the last frame of the window is in a whole fragment.
const AFTER: Duration = Duration::from_secs(2);
/// How often the primary is asked how far the standby is behind, and for how long.
const LAG_EACH: Duration = Duration::from_millis(20);
const LAG_FOR: Duration = Duration::from_secs(8);
/// The size of a recorder's disk, bytes. It takes no place that is not written to.
const DISK: u64 = 4 << 30;

/// Measures CPU, memory and syncs of recorders.
#[derive(Parser)]
struct Args {
    /// How many streams; may be repeated
    #[arg(long, default_values_t = [10, 20, 40])]
    streams: Vec<usize>,
    /// How often each recorder is measured; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// For how long each time
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The pair alone, without ffmpeg and GStreamer: for a profile
    #[arg(long)]
    alone: bool,
}

/// What a pair used in one window, per stream.
struct Ours {
    primary_ms: f64,
    standby_ms: f64,
    replicators_ms: [f64; 2],
    rss_mb: f64,
    standby_rss_mb: f64,
    syncs_per_s: f64,
    /// Milliseconds; see `lags`.
    lags: Vec<u64>,
    missing: u64,
}

/// What plain recorders used in one window, per stream.
struct Theirs {
    cpu_ms: f64,
    pss_mb: f64,
    missing: u64,
}

/// What processes used while this many seconds passed.
struct Window {
    seconds: f64,
    used: Vec<Usage>,
}

impl Window {
    /// Measures groups of processes at the same time.
    async fn of(groups: &[Vec<u32>], length: Duration) -> Result<Self> {
        let now = || {
            groups
                .iter()
                .map(|pids| usage::sum(pids))
                .collect::<Result<Vec<_>>>()
        };
        let (began, before) = (Instant::now(), now()?);
        tokio::time::sleep(length).await;
        let (seconds, after) = (began.elapsed().as_secs_f64(), now()?);
        let used = before.iter().zip(after).map(|(before, after)| Usage {
            cpu: after.cpu.saturating_sub(before.cpu),
            ..after
        });
        Ok(Self {
            seconds,
            used: used.collect(),
        })
    }

    /// Milliseconds of CPU a second and stream of one group.
    fn cpu_ms(&self, group: usize, streams: usize) -> f64 {
        self.used[group].cpu.as_secs_f64() * 1e3 / self.seconds / streams as f64
    }
}

fn mb(bytes: u64, streams: usize) -> f64 {
    bytes as f64 / 1e6 / streams as f64
}

/// The numbers of the members, the primary first. They agree on one by themselves.
async fn roles(pair: &Pair) -> Result<[usize; 2]> {
    let streams = pair.stream_names().len();
    let holds = async |member: &Member| {
        let (authority, writing) = (
            member.api().metric("gapless_authority").await?,
            member.api().metric("gapless_stream_writing").await?,
        );
        anyhow::Ok((authority == Some(1.0), writing.unwrap_or_default() as usize))
    };
    until("one member writes every stream, the other none", UP, async || {
        let [first, second] = &pair.members;
        Ok(match (holds(first).await?, holds(second).await?) {
            ((true, all), (false, 0)) if all == streams => Some([0, 1]),
            ((false, 0), (true, all)) if all == streams => Some([1, 0]),
            other => anyhow::bail!("authority and streams written: {other:?}"),
        })
    })
    .await
}

async fn syncs(api: &MemberApi) -> Result<f64> {
    let syncs = api.metric("gapless_syncs_total").await?;
    syncs.context("the recorder does not count its syncs")
}

/// How old the oldest media is that the standby has not made durable, of all streams, again and again.
async fn lags(pair: &Pair, primary: usize) -> Result<Vec<u64>> {
    let (began, mut lags) = (Instant::now(), Vec::new());
    while began.elapsed() < LAG_FOR {
        lags.push(pair.report(primary).await?.replication.lag_ms);
        tokio::time::sleep(LAG_EACH).await;
    }
    Ok(lags)
}

async fn ours(cameras: &Cameras, length: Duration) -> Result<Ours> {
    let folder = TempDir::with_prefix("gapless-bench-")?;
    let [first, second] = Pair::volumes_in(folder.path());
    let _disks = [Disk::mount(&first, DISK)?, Disk::mount(&second, DISK)?];
    let mut pair = Pair::prepare_in(folder.path(), cameras)?;
    pair.config.segment.target_ms = u64::from(SEGMENT_SECONDS) * 1_000;
    pair.write_config()?;
    pair.arbitrate(folder.path()).await?;
    for member in &mut pair.members {
        member.start(Program::Recorder)?;
    }
    // A stream that a primary does not receive yet moves to a follower that does, and stays there.
    pair.receiving().await?;
    pair.start_all()?;
    let who = roles(&pair).await?;
    let [primary, standby] = who.map(|member| &pair.members[member]);
    tokio::time::sleep(SETTLE).await;

    let (start, streams) = (Start::now(cameras).await?, cameras.streams());
    let mut groups = Vec::new();
    for program in [Program::Recorder, Program::Replicator] {
        groups.extend([vec![primary.pid(program)?], vec![standby.pid(program)?]]);
    }
    let before = syncs(&primary.api()).await?;
    let window = Window::of(&groups, length).await?;
    let syncs = syncs(&primary.api()).await? - before;
    // Questions cost something too: they are not in the window.
    let lags = lags(&pair, who[0]).await?;
    ensure!(
        roles(&pair).await? == who,
        "the roles changed while it was measured"
    );
    let members = [primary.api(), standby.api()];
    cameras.trusted_state().await?;
    let verdict = judge(cameras, &watched(streams), start, &members, &members[0]).await?;
    Ok(Ours {
        primary_ms: window.cpu_ms(0, streams),
        standby_ms: window.cpu_ms(1, streams),
        replicators_ms: [window.cpu_ms(2, streams), window.cpu_ms(3, streams)],
        rss_mb: mb(window.used[0].memory, streams),
        standby_rss_mb: mb(window.used[1].memory, streams),
        syncs_per_s: syncs / window.seconds,
        lags,
        missing: verdict.missing(),
    })
}

async fn theirs(cameras: &Cameras, maker: Maker, length: Duration) -> Result<Theirs> {
    let folder = TempDir::with_prefix("gapless-bench-")?;
    let volume = folder.path().join("media");
    let _disk = Disk::mount(&volume, DISK)?;
    let mut recorders = recorders(cameras, maker, &volume)?;
    all_write(recorders.iter_mut().collect()).await?;
    tokio::time::sleep(SETTLE).await;

    let (first, streams) = (cameras.state().await?.counter, cameras.streams());
    let pids = recorders.iter().map(Plain::pid).collect::<Result<Vec<_>>>()?;
    let window = Window::of(&[pids], length).await?;
    let last = cameras.trusted_state().await?.counter - 1;
    tokio::time::sleep(AFTER).await;
    try_join_all(recorders.iter_mut().map(Plain::stop)).await?;
    Ok(Theirs {
        cpu_ms: window.cpu_ms(0, streams),
        pss_mb: mb(window.used[0].proportional, streams),
        missing: missing(cameras, &recorders, Span { first, last }).await?,
    })
}

fn recorders(cameras: &Cameras, maker: Maker, volume: &Path) -> Result<Vec<Plain>> {
    let one = |camera: usize| Plain::new(maker, &cameras.url(camera), &volume.join(format!("cam-{camera}")));
    (0..cameras.streams()).map(one).collect()
}

async fn missing(cameras: &Cameras, recorders: &[Plain], window: Span) -> Result<u64> {
    let state = cameras.state().await?;
    let mut missing = 0;
    for (camera, recorder) in recorders.iter().enumerate() {
        let lacking = recorder
            .account()?
            .missing_of(&state.pushed_within(camera, window));
        missing += lacking.iter().map(Span::frames).sum::<u64>();
    }
    Ok(missing)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    // Of an even number the mean of both in the middle.
    let middle = values.len() / 2;
    let low = values
        .get((values.len().max(1) - 1) / 2)
        .copied()
        .unwrap_or_default();
    low.midpoint(values.get(middle).copied().unwrap_or_default())
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Each recorder in turn, again and again, so that what else the machine does hits all of them.
async fn measure(streams: usize, args: &Args) -> Result<Value> {
    let cameras = Cameras::start(Options::loopback(streams)?).await?;
    let length = Duration::from_secs(args.seconds);
    let (mut pairs, mut ffmpegs, mut gstreamers) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let pair = cameras.on_time(async || ours(&cameras, length).await).await;
        let pair = pair.context("the pair")?;
        let [of_primary, of_standby] = pair.replicators_ms;
        println!(
            "  {streams:>3} streams, round {round}: primary {:.2} ms, standby {:.2} ms, replicators {of_primary:.2} and {of_standby:.2} ms, {:.1} MB, {:.1} syncs/s, {} missing",
            pair.primary_ms, pair.standby_ms, pair.rss_mb, pair.syncs_per_s, pair.missing
        );
        pairs.push(pair);
        if args.alone {
            continue;
        }
        for (maker, all) in [(Maker::Ffmpeg, &mut ffmpegs), (Maker::GStreamer, &mut gstreamers)] {
            let plain = cameras
                .on_time(async || theirs(&cameras, maker, length).await)
                .await
                .with_context(|| format!("{maker:?}"))?;
            println!(
                "  {streams:>3} streams, round {round}: {maker:?} {:.2} ms, {:.1} MB, {} missing",
                plain.cpu_ms, plain.pss_mb, plain.missing
            );
            all.push(plain);
        }
    }
    cameras.stop().await?;
    let of_ours = |field: fn(&Ours) -> f64| median(pairs.iter().map(field));
    let cpu = |all: &[Theirs]| median(all.iter().map(|plain| plain.cpu_ms));
    let memory = |all: &[Theirs]| median(all.iter().map(|plain| plain.pss_mb));
    let lag = Spread::of(pairs.iter().flat_map(|pair| pair.lags.iter().copied()));
    let lost = |all: &[Theirs]| all.iter().map(|plain| plain.missing).sum::<u64>();
    let (primary, ffmpeg) = (of_ours(|pair| pair.primary_ms), cpu(&ffmpegs));
    Ok(json!({
        "streams": streams,
        "ours_cpu_ms": rounded(primary),
        "standby_cpu_ms": rounded(of_ours(|pair| pair.standby_ms)),
        "replicator_cpu_ms": [
            rounded(of_ours(|pair| pair.replicators_ms[0])),
            rounded(of_ours(|pair| pair.replicators_ms[1])),
        ],
        "ffmpeg_cpu_ms": rounded(ffmpeg),
        "gstreamer_cpu_ms": rounded(cpu(&gstreamers)),
        "of_ffmpeg": rounded(primary / ffmpeg),
        "ours_rss_mb": rounded(of_ours(|pair| pair.rss_mb)),
        "standby_rss_mb": rounded(of_ours(|pair| pair.standby_rss_mb)),
        "ffmpeg_pss_mb": rounded(memory(&ffmpegs)),
        "gstreamer_pss_mb": rounded(memory(&gstreamers)),
        "lag_p50_ms": lag.p50(),
        "lag_p99_ms": lag.p99(),
        "syncs_per_s": rounded(of_ours(|pair| pair.syncs_per_s)),
        "frames_missing": pairs.iter().map(|pair| pair.missing).sum::<u64>(),
        "ffmpeg_missing": lost(&ffmpegs),
        "gstreamer_missing": lost(&gstreamers),
    }))
}

/// A row of the table in docs/benchmarks.md.
fn row(found: &Value) -> String {
    let fields = [
        "streams",
        "ours_cpu_ms",
        "standby_cpu_ms",
        "ffmpeg_cpu_ms",
        "gstreamer_cpu_ms",
        "of_ffmpeg",
        "ours_rss_mb",
        "ffmpeg_pss_mb",
        "gstreamer_pss_mb",
        "syncs_per_s",
        "lag_p50_ms",
        "lag_p99_ms",
        "frames_missing",
    ];
    let cells: Vec<_> = fields.iter().map(|field| found[field].to_string()).collect();
    format!("| {} |", cells.join(" | "))
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(
        args.rounds > 0 && args.seconds > 0 && !args.streams.is_empty(),
        "nothing to measure"
    );
    let mut each = Vec::new();
    for streams in &args.streams {
        each.push(
            measure(*streams, &args)
                .await
                .with_context(|| format!("{streams} streams"))?,
        );
    }
    for found in &each {
        println!("{}", row(found));
    }
    let mut result = each.last().cloned().context("nothing was measured")?;
    result["each"] = each.into();
    println!("result: {result}");
    Ok(())
}
