//! Cameras that allow one session, and a standby that rests: what a killed primary costs in each mode, and that no more is lost, and
//! that it is known.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::member::Role;
use crds::pair::Mode;
use e2e::api::MemberApi;
use e2e::cameras::{Cameras, Options, Refuses};
use e2e::judge::{Start, ensure_one_hole};
use e2e::members::{Pair, Program};
use e2e::wait::until;
use tempfile::TempDir;

use crate::{seconds, verdict};

const STREAMS: usize = 2;
/// Milliseconds between two frames.
const FRAME_MS: u64 = 40;
/// The longest hole that is borne, in frames: 5 s on a busy machine.
const MOST: u64 = 125;
const UP: Duration = Duration::from_secs(40);

/// A folder for members whose volumes are not the subject: a disk that is slow to sync is a reason of its own to hand over.
fn memory() -> Result<TempDir> {
    Ok(TempDir::with_prefix_in("gapless-", "/dev/shm")?)
}

/// A pair of which one member serves, in this mode.
async fn serving(folder: &Path, cameras: &Cameras, mode: Mode) -> Result<Pair> {
    let mut pair = Pair::prepare_in(folder, cameras)?;
    pair.config.standby_mode = mode;
    pair.write_config()?;
    pair.arbitrate(folder).await?;
    pair.start_all()?;
    Ok(pair)
}

/// Whether all streams of a member are in this state.
async fn all_are(api: &MemberApi, state: &str) -> Result<()> {
    let streams = api.streams().await?;
    let there = streams.len() == STREAMS && streams.iter().all(|info| info.state == state);
    ensure!(there, "{} is not {state}: {streams:?}", api.base());
    Ok(())
}

/// Waits until one member is primary and receives, the other one does as its mode says and lacks nothing; which is which.
async fn settled(pair: &Pair, mode: Mode) -> Result<[usize; 2]> {
    let rests = if mode == Mode::Hot { "receiving" } else { "idle" };
    let found = until("one serves, the other is ready", UP, async || {
        let roles = [pair.report(0).await?.role, pair.report(1).await?.role];
        let at = roles.iter().position(|role| *role == Role::Primary);
        let primary = at.with_context(|| format!("{roles:?}"))?;
        all_are(&pair.members[primary].api(), "receiving").await?;
        all_are(&pair.members[1 - primary].api(), rests).await?;
        Ok(Some([primary, 1 - primary]))
    });
    let found = found.await?;
    pair.caught_up(UP).await?;
    Ok(found)
}

/// Kills the primary; when the standby has taken, and recorded for a while, it comes back: sooner it might take again, and rightly.
async fn fail_over(pair: &mut Pair, mode: Mode) -> Result<[usize; 2]> {
    let [primary, standby] = settled(pair, mode).await?;
    for program in [Program::Recorder, Program::Replicator] {
        pair.members[primary].kill(program).await?;
    }
    let api = pair.members[standby].api();
    until("the standby takes, and receives", UP, async || {
        let role = pair.report(standby).await?.role;
        ensure!(role == Role::Primary, "it is {role:?}");
        all_are(&api, "receiving").await.map(Some)
    })
    .await?;
    seconds(5).await;
    pair.start_all()?;
    let after = settled(pair, mode).await?;
    ensure!(after == [standby, primary], "{primary} serves again, unasked");
    Ok(after)
}

/// A killed primary costs one hole of each stream that is known, with cameras that allow one session.
async fn costs_one_hole(mode: Mode, refuses: Refuses) -> Result<()> {
    let cameras = Cameras::start(Options::loopback(STREAMS)?.single(refuses)).await?;
    let folder = memory()?;
    let mut pair = serving(folder.path(), &cameras, mode).await?;
    settled(&pair, mode).await?;
    let start = Start::now(&cameras).await?;
    seconds(8).await;
    let [survivor, _] = fail_over(&mut pair, mode).await?;
    seconds(3).await;
    ensure_known(mode, &cameras, &pair, survivor, start).await?;
    let logs = pair.members.iter().map(e2e::members::Member::logs);
    ensure!(logs.collect::<Result<String>>()?.matches("panicked").count() == 0);
    Ok(())
}

/// Each stream lacks one hole, and this member tells of it.
async fn ensure_known(mode: Mode, cameras: &Cameras, pair: &Pair, member: usize, start: Start) -> Result<()> {
    let verdict = verdict(cameras, pair, start).await?;
    let api = pair.members[member].api();
    for found in &verdict.streams {
        let frames = ensure_one_hole(cameras, found, start, &api, MOST).await?;
        println!(
            "{mode:?}: {} has a hole of {} ms",
            found.stream,
            frames * FRAME_MS
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_cold_standby_costs_one_hole_that_is_known() {
    costs_one_hole(Mode::Cold, Refuses::Setup).await.unwrap();
}

#[tokio::test]
async fn a_warm_standby_costs_one_hole_that_is_known() {
    costs_one_hole(Mode::Warm, Refuses::Play).await.unwrap();
}

#[tokio::test]
async fn a_switchover_takes_the_cameras_along() {
    let options = Options::loopback(STREAMS).unwrap().single(Refuses::Setup);
    let cameras = Cameras::start(options).await.unwrap();
    let folder = memory().unwrap();
    let pair = serving(folder.path(), &cameras, Mode::Cold).await.unwrap();
    let [primary, standby] = settled(&pair, Mode::Cold).await.unwrap();
    let start = Start::now(&cameras).await.unwrap();
    seconds(5).await;
    pair.switch_over(standby).await.unwrap();
    until("the old primary rests", UP, async || {
        ensure!(settled(&pair, Mode::Cold).await? == [standby, primary]);
        Ok(Some(()))
    })
    .await
    .unwrap();
    seconds(3).await;
    let report = pair.report(standby).await.unwrap();
    assert_eq!((report.moved.len(), report.moves), (0, 0), "no stream moved");
    let known = ensure_known(Mode::Cold, &cameras, &pair, standby, start);
    known.await.unwrap();
}

#[tokio::test]
async fn a_hot_standby_costs_nothing() {
    let cameras = Cameras::start(Options::loopback(STREAMS).unwrap()).await.unwrap();
    let folder = memory().unwrap();
    let mut pair = serving(folder.path(), &cameras, Mode::Hot).await.unwrap();
    settled(&pair, Mode::Hot).await.unwrap();
    let start = Start::now(&cameras).await.unwrap();
    seconds(8).await;
    fail_over(&mut pair, Mode::Hot).await.unwrap();
    seconds(3).await;
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    verdict.ensure_perfect().unwrap();
}

#[tokio::test]
async fn a_standby_at_rest_asks_nothing_of_a_camera_and_notes_no_gap() {
    let options = Options::loopback(STREAMS).unwrap().single(Refuses::Setup);
    let cameras = Cameras::start(options).await.unwrap();
    let folder = memory().unwrap();
    let pair = serving(folder.path(), &cameras, Mode::Cold).await.unwrap();
    let [_, standby] = settled(&pair, Mode::Cold).await.unwrap();
    let before = cameras.state().await.unwrap();
    let start = Start::now(&cameras).await.unwrap();
    seconds(10).await;
    let after = cameras.state().await.unwrap();
    for camera in 0..STREAMS {
        let asked = |state: &e2e::cameras::State| (state.refused(camera), state.transports(camera).len());
        assert_eq!(asked(&after), asked(&before));
    }
    let api = pair.members[standby].api();
    for stream in pair.stream_names() {
        let gaps = api.timeline(&stream, start.at_ms).await.unwrap().gaps;
        assert!(gaps.is_empty(), "{gaps:?}");
    }
    assert_eq!(api.metric("gapless_ring_bytes").await.unwrap(), Some(0.0));
    let idle = api.metric("gapless_stream_idle").await.unwrap();
    assert_eq!(idle, Some(STREAMS as f64));
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    verdict.ensure_perfect().unwrap();
}
