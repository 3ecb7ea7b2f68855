//! The disk of one member fails: writes and syncs with I/O errors, one sync that loses what it was to make durable, syncs that
//! are late, reads. Every frame is on one of both members, and on that one too; what was sealed is as it was; the member says
//! what is wrong and recovers without a restart.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::member::{MemberReport, StreamErrorCode};
use e2e::api::Hashes;
use e2e::cameras::{Cameras, Options};
use e2e::judge::{Start, judge};
use e2e::members::Pair;
use e2e::wait::until;

use crate::{seconds, verdict};

/// The member whose disk fails.
const FAILING: usize = 1;
/// The other.
const WELL: usize = 0;
const STREAMS: usize = 2;
/// Until a member says that its disk fails, or that it works again.
const TOLD: Duration = Duration::from_secs(10);

struct Trial {
    cameras: Cameras,
    pair: Pair,
    start: Start,
    sealed: [Hashes; 2],
    pids: Vec<Option<u32>>,
}

impl Trial {
    /// Two members record, one on a disk that can be made to fail.
    async fn start() -> Result<Self> {
        let cameras = Cameras::start(Options::loopback(STREAMS)?).await?;
        let mut pair = Pair::prepare(&cameras)?;
        pair.members[FAILING].put_on_faulty_disk().await?;
        pair.start_all()?;
        pair.receiving().await?;
        let start = Start::now(&cameras).await?;
        seconds(8).await;
        let names = pair.stream_names();
        let [first, second] = pair.apis();
        let sealed = [
            first.sealed_hashes(&names, 0).await?,
            second.sealed_hashes(&names, 0).await?,
        ];
        ensure!(!sealed[FAILING].is_empty(), "nothing was sealed before");
        let pids = pair.members[FAILING].pids();
        Ok(Self {
            cameras,
            pair,
            start,
            sealed,
            pids,
        })
    }

    async fn report(&self) -> Result<MemberReport> {
        self.pair.report(FAILING).await
    }

    /// Waits until the member says that its disk fails, and how to cure it.
    async fn told(&self) -> Result<()> {
        until("it says that its disk fails", TOLD, async || {
            let report = self.report().await?;
            let errors = report.streams.iter().filter_map(|stream| stream.error.as_ref());
            let code = |e: &&crds::member::StreamError| e.code == StreamErrorCode::DiskFailing;
            let error = errors.into_iter().find(code).context("no stream says so")?;
            ensure!(error.message.contains("check the disk"), "{error:?}");
            let metric = self.pair.apis()[FAILING].metric("gapless_disk_failing").await?;
            let disk = report.disk;
            ensure!(metric == Some(1.0) && disk.failing && !disk.full, "{disk:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Waits until the member says that all is well.
    async fn recovered(&self) -> Result<()> {
        until("it works again", TOLD, async || {
            let report = self.report().await?;
            ensure!(report.fit && !report.disk.failing, "{report:?}");
            let error = report.streams.iter().find_map(|stream| stream.error.as_ref());
            ensure!(error.is_none(), "{error:?}");
            Ok(Some(()))
        })
        .await
    }

    /// What must be true after every fault.
    async fn judge(mut self) -> Result<()> {
        seconds(5).await;
        verdict(&self.cameras, &self.pair, self.start)
            .await?
            .ensure_perfect()?;
        self.pair.caught_up(Duration::from_mins(1)).await?;
        let names = self.pair.stream_names();
        for (api, before) in self.pair.apis().iter().zip(&self.sealed) {
            let changed = api.changed(before).await?;
            ensure!(
                changed.is_empty(),
                "{} serves something else: {changed:?}",
                api.base()
            );
        }
        self.copies_agree(&names).await?;
        self.nothing_is_left_open(&names).await?;
        // What it had in memory meanwhile is on its own disk, which alone tells the whole story.
        let api = self.pair.members[FAILING].api();
        let alone = judge(
            &self.cameras,
            &self.pair.watched(),
            self.start,
            std::slice::from_ref(&api),
            &api,
        )
        .await?;
        println!("alone\n{alone}");
        alone.ensure_perfect()?;
        for member in 0..2 {
            let gaps = self.pair.report(member).await?.streams;
            ensure!(gaps.iter().all(|stream| stream.gaps == 0), "{gaps:?}");
        }
        let member = &mut self.pair.members[FAILING];
        ensure!(member.pids() == self.pids, "a program was started again");
        ensure!(!member.logs()?.contains("panicked"), "a program panicked");
        Ok(())
    }

    /// What both hold of one identity is the same.
    async fn copies_agree(&self, names: &[String]) -> Result<()> {
        let [first, second] = self.pair.apis();
        let (ours, theirs) = (
            first.sealed_hashes(names, 0).await?,
            second.sealed_hashes(names, 0).await?,
        );
        let both: Vec<_> = ours.iter().filter(|(id, _)| theirs.contains_key(*id)).collect();
        ensure!(!both.is_empty(), "nothing was replicated");
        let differs = both.into_iter().find(|(id, hash)| theirs[*id] != **hash);
        ensure!(differs.is_none(), "{differs:?}");
        Ok(())
    }

    /// Only the newest segment of a stream is open.
    async fn nothing_is_left_open(&self, names: &[String]) -> Result<()> {
        let api = &self.pair.apis()[FAILING];
        for name in names {
            until("what was in doubt is closed", TOLD, async || {
                let segments = api.segments(name, 0).await?;
                let own = segments.iter().filter(|segment| segment.origin == "live");
                let open: Vec<_> = own.filter(|segment| segment.state != "sealed").collect();
                ensure!(open.len() <= 1, "{name}: {open:?}");
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_disk_that_fails_for_ten_seconds_loses_no_frame() {
    let trial = Trial::start().await.unwrap();
    let disk = trial.pair.members[FAILING].disk().unwrap();
    disk.set(&["--fail", "writes,syncs"]).await.unwrap();
    trial.told().await.unwrap();
    until("a primary would hand over", TOLD, async || {
        Ok((!trial.report().await?.fit).then_some(()))
    })
    .await
    .unwrap();
    until("the other one stays fit", TOLD, async || {
        Ok(trial.pair.report(WELL).await?.fit.then_some(()))
    })
    .await
    .unwrap();
    seconds(10).await;
    let did = disk.lift().await.unwrap();
    assert!(did.failed("writes") + did.failed("syncs") >= 5, "{did:?}");
    trial.recovered().await.unwrap();
    trial.judge().await.unwrap();
}

#[tokio::test]
async fn i2_a_failed_sync_is_never_made_good_by_the_next_one() {
    let trial = Trial::start().await.unwrap();
    let disk = trial.pair.members[FAILING].disk().unwrap();
    let mut dropped = Vec::new();
    // Once it is the recorder's sync, once the replicator's. One that comes just after the other's finds nothing to lose.
    while dropped.len() < 8 || dropped.iter().all(|bytes| *bytes == 0) {
        assert!(dropped.len() < 30, "no failed sync lost anything");
        disk.set(&["--fail", "syncs", "--count", "1"]).await.unwrap();
        seconds(2).await;
        let did = disk.lift().await.unwrap();
        assert_eq!(did.failed("syncs"), 1, "{did:?}");
        dropped.push(did.dropped_bytes);
    }
    println!("bytes that each failed sync lost: {dropped:?}");
    trial.recovered().await.unwrap();
    trial.judge().await.unwrap();
}

#[tokio::test]
async fn a_disk_whose_syncs_are_late_loses_no_frame() {
    let trial = Trial::start().await.unwrap();
    let disk = trial.pair.members[FAILING].disk().unwrap();
    disk.set(&["--stall", "300ms"]).await.unwrap();
    let (mut lag, mut unfit) = (0, 0);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        lag = lag.max(trial.pair.report(WELL).await.unwrap().replication.lag_ms);
        unfit += usize::from(!trial.report().await.unwrap().fit);
    }
    let did = disk.lift().await.unwrap();
    assert!(did.stalled >= 20, "{did:?}");
    assert!(lag >= 300, "the peer's lag tells it: {lag} ms");
    println!("lag {lag} ms, unfit at {unfit} of 20 looks, {did:?}");
    // A busy machine adds to each sync.
    assert!(unfit <= 3, "slow is not hung: {unfit}");
    trial.recovered().await.unwrap();
    trial.judge().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_for_ten_seconds_loses_no_frame() {
    let trial = Trial::start().await.unwrap();
    let disk = trial.pair.members[FAILING].disk().unwrap();
    disk.set(&["--fail", "reads"]).await.unwrap();
    seconds(2).await;
    let stream = &trial.pair.stream_names()[0];
    let api = trial.pair.members[FAILING].api();
    let segments = api.segments(stream, 0).await.unwrap();
    let read = api.download(stream, &segments[0]).await;
    assert!(read.is_err(), "the disk is read all the same");
    seconds(8).await;
    let did = disk.lift().await.unwrap();
    assert!(did.failed("reads") > 0, "{did:?}");
    trial.recovered().await.unwrap();
    trial.judge().await.unwrap();
}
