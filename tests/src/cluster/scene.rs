//! A scene: the cluster is whole, the operator runs, cameras play, and a pair records them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crds::names;
use crds::pair::Transport;
use k8s_openapi::api::core::v1::Pod;

use super::chart;
use super::faults::{Fault, Testbed, cache};
use super::holders::Holders;
use super::kube::Kube;
use super::pair::{MemberView, NAMESPACE, PAIR, PairSpec, PairUnderTest, StreamSpec};
use super::phases::Phases;
use super::told::Told;
use super::watch::{Served, Watcher};
use crate::api::{Hashes, MemberApi};
use crate::cameras::{Cameras, Options, end_detached};
use crate::judge::{Absence, Start, Verdict, Watched, judge_beside, watched};
use crate::wait::until;

/// The nodes of the test bed.
pub(super) const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Until a pair that was just applied records and replicates: two pods start, the first epoch is taken. A kubelet that lost the API
/// server asks for its pods again up to a minute later.
const UP: Duration = Duration::from_mins(2);
/// Until a pair whose member came back has caught up: a node boots, a kubelet restarts its pods.
pub const RETURN: Duration = Duration::from_mins(2);
/// Until somebody serves after a fault. The promise is about a second; a busy machine is given more.
pub const TAKEOVER: Duration = Duration::from_secs(20);
/// How often a primary is struck until the standby takes, and how often stock is taken until authority does not move meanwhile.
const ATTEMPTS: usize = 3;

/// See the module. Logs of every part are kept when a test panics.
pub struct Scene {
    /// The test bed.
    pub bed: Testbed,
    /// The cluster.
    pub kube: Kube,
    /// Its kubeconfig.
    pub kubeconfig: PathBuf,
    /// The cameras.
    pub cameras: Cameras,
    /// The pair.
    pub pair: PairUnderTest,
    /// Its manifest.
    pub spec: PairSpec,
    /// The streams that are judged.
    pub watched: Vec<Watched>,
    /// Who served when, seen from outside.
    pub watcher: Watcher,
    /// Who held authority when, seen from outside.
    pub holders: Holders,
}

/// What the primary had before a fault.
pub struct Before {
    /// From here on every frame counts.
    pub start: Start,
    /// The epoch.
    pub epoch: u64,
    /// The primary.
    pub primary: MemberView,
    /// The standby.
    pub standby: MemberView,
    /// Every sealed segment that the primary served.
    pub sealed: Hashes,
}

/// What a failover did.
pub struct Outcome {
    /// The fault.
    pub fault: Fault,
    /// When the next epoch was taken and served.
    pub served: Served,
    /// When the new primary suspected the old one, Unix milliseconds, by its own words.
    pub suspected_ms: Option<u64>,
    /// Who took, and why, by its own words.
    pub told: Told,
}

/// How a failover went, start to end.
pub struct Report {
    /// What was there before.
    pub before: Before,
    /// What happened.
    pub outcome: Outcome,
    /// Primary and standby after all is mended.
    pub members: [MemberView; 2],
    /// What was found of every frame.
    pub verdict: Verdict,
    /// How long each phase took.
    pub phases: Phases,
}

impl Outcome {
    /// From the fault until the Service led to the new primary, milliseconds.
    pub fn serving_after_ms(&self) -> u64 {
        self.served.serving_ms.saturating_sub(self.fault.at_ms())
    }

    /// From the fault until the standby suspected the primary, milliseconds.
    pub fn suspected_after_ms(&self) -> Option<u64> {
        Some(self.suspected_ms?.saturating_sub(self.fault.at_ms()))
    }
}

/// Where `make demo` keeps what it must know of its cameras, which outlive it.
pub fn demo_cameras() -> PathBuf {
    cache().join("demo-cameras")
}

/// The cluster with the operator, without any pair, and without the cameras of a demo.
pub async fn stage() -> Result<(Testbed, Kube, PathBuf)> {
    end_detached(&demo_cameras()).await?;
    let bed = Testbed::up().await?;
    let kubeconfig = bed.kubeconfig().await?;
    let kube = Kube::connect(&kubeconfig).await?;
    kube.uncordon_all().await?;
    chart::install(&kubeconfig).await?;
    kube.scale(chart::SYSTEM, chart::OPERATOR, chart::OPERATORS)
        .await?;
    Ok((bed, kube, kubeconfig))
}

impl Scene {
    /// A pair that records `streams` cameras, from nothing.
    pub async fn start(streams: usize) -> Result<Self> {
        Self::with(Options::test_bed(streams), |_| {}).await
    }

    /// As [`Scene::start`], with these cameras and a changed manifest.
    pub async fn with(options: Options, change: impl FnOnce(&mut PairSpec)) -> Result<Self> {
        let (bed, kube, kubeconfig) = stage().await?;
        let cameras = Cameras::start(options).await?;
        Self::play(bed, kube, kubeconfig, cameras, change).await
    }

    /// As [`Scene::start`], with every volume that a member may get on a disk that fails on demand.
    pub async fn on_faulty_disks(options: Options) -> Result<Self> {
        let (bed, kube, kubeconfig) = stage().await?;
        let cameras = Cameras::start(options).await?;
        // Its pods would go on with the disks as they are.
        PairUnderTest::new(&kube).delete(&bed).await?;
        for node in NODES {
            for volume in ["d1", "d2"] {
                bed.disk_faults(node, volume, &[]).await?;
            }
        }
        Self::play(bed, kube, kubeconfig, cameras, |_| {}).await
    }

    /// Makes the pair anew for cameras that play.
    pub async fn play(
        bed: Testbed,
        kube: Kube,
        kubeconfig: PathBuf,
        cameras: Cameras,
        change: impl FnOnce(&mut PairSpec),
    ) -> Result<Self> {
        let pair = PairUnderTest::new(&kube);
        pair.delete(&bed).await?;
        let mut watched = watched(cameras.streams());
        let stream = |watched: &Watched| StreamSpec {
            name: watched.stream.clone(),
            url: cameras.url(watched.camera),
            secret: None,
            detect_frozen: false,
            transport: Transport::default(),
        };
        let mut spec = PairSpec {
            streams: watched.iter().map(stream).collect(),
            ..PairSpec::default()
        };
        change(&mut spec);
        watched.retain(|watched| spec.streams.iter().any(|stream| stream.name == watched.stream));
        pair.apply(&spec).await?;
        let watcher = Watcher::start(&kube, NAMESPACE, PAIR);
        let holders = Holders::watch(&pair)?;
        let scene = Self {
            bed,
            kube,
            kubeconfig,
            cameras,
            pair,
            spec,
            watched,
            watcher,
            holders,
        };
        // Nobody holds the scene yet who could keep what happened.
        scene.settled(UP).await.inspect_err(|_| scene.keep())?;
        Ok(scene)
    }

    /// Waits until primary and standby receive every judged stream and lack nothing.
    pub async fn settled(&self, limit: Duration) -> Result<[MemberView; 2]> {
        let [primary, standby] = self.pair.settled(self.watched.len(), limit).await?;
        self.bed.route(&primary.node).await?;
        Ok([primary, standby])
    }

    /// Waits until the pair says that it is ready, and that nothing is wrong.
    pub async fn ready(&self, limit: Duration) -> Result<()> {
        until("the pair is Ready and not Degraded", limit, async || {
            for (condition, wanted) in [("Ready", "True"), ("Degraded", "False")] {
                let (status, reason, message) = self.pair.condition(condition).await?;
                ensure!(status == wanted, "{condition} {status}: {reason}: {message}");
            }
            Ok(Some(()))
        })
        .await
    }

    /// Waits until the pair says that it is stalled for this reason, in a message that has these words.
    pub async fn stalled(&self, why: &str, words: &str) -> Result<()> {
        until(&format!("the pair is Stalled: {why}"), RETURN, async || {
            let (status, reason, message) = self.pair.condition("Stalled").await?;
            let told = status == "True" && reason == why && message.contains(words);
            ensure!(told, "{status} {reason}: {message}");
            Ok(Some(()))
        })
        .await
    }

    /// Names of the judged streams.
    pub fn streams(&self) -> Vec<String> {
        self.watched
            .iter()
            .map(|watched| watched.stream.clone())
            .collect()
    }

    /// Records for a while, and takes stock of what the primary has. Authority may move on a busy machine: then another member has it.
    pub async fn record(&self, duration: Duration) -> Result<Before> {
        let start = Start::now(&self.cameras).await?;
        tokio::time::sleep(duration).await;
        for _ in 0..ATTEMPTS {
            let [primary, standby] = self.settled(UP).await?;
            self.seals(&primary).await?;
            let sealed = primary.api.sealed_hashes(&self.streams(), 0).await?;
            let (held, epoch) = (primary.report.as_ref(), self.pair.epoch().await?);
            if held.and_then(|report| report.serving_epoch) == Some(epoch) {
                return Ok(Before {
                    start,
                    epoch,
                    primary,
                    standby,
                    sealed,
                });
            }
            println!("  authority moved on its own: epoch {epoch}");
        }
        bail!("authority does not stay where it is")
    }

    /// Waits until a member has a sealed segment: with long groups of pictures that takes longer than a segment is to be.
    async fn seals(&self, member: &MemberView) -> Result<()> {
        until(&format!("{} seals a segment", member.name), UP, async || {
            for stream in self.streams() {
                let segments = member.api.segments(&stream, 0).await?;
                if segments.iter().any(|segment| segment.state == "sealed") {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Waits until another epoch than before is served, and whoever took says why.
    pub async fn failed_over(&self, fault: Fault, before: &Before) -> Result<Outcome> {
        let served = self.watcher.served(before.epoch, TAKEOVER).await?;
        until(
            &format!("who took epoch {} says so", served.epoch),
            TAKEOVER,
            async || {
                // Mostly the standby; the other one may be dead.
                for member in [&before.standby, &before.primary] {
                    let Ok(view) = self.pair.view(&member.name).await else {
                        continue;
                    };
                    let failovers = view.report.map(|report| report.failovers).unwrap_or_default();
                    if let Some(told) = failovers.iter().rev().find(|told| told.epoch == served.epoch) {
                        return Ok(Some(Outcome {
                            fault,
                            served,
                            suspected_ms: told.suspected,
                            told: Told {
                                member: member.name.clone(),
                                why: told.why.clone(),
                            },
                        }));
                    }
                }
                Ok(None)
            },
        )
        .await
    }

    /// Records and strikes, and waits until another epoch is served, by the standby. A primary that was killed and is back at once may
    /// take again, and rightly so: then it is struck again. Says from when on frames count for who may lose none: from the first time.
    pub async fn struck(
        &self,
        record: Duration,
        phases: &mut Phases,
        strike: impl AsyncFn(&Self, &Before) -> Result<Fault>,
    ) -> Result<(Start, Before, Outcome)> {
        let mut first = None;
        for _ in 0..ATTEMPTS {
            let before = self.record(record).await?;
            let first = *first.get_or_insert(before.start);
            phases.ended("recorded, both have everything");
            let fault = strike(self, &before).await?;
            let outcome = self.failed_over(fault, &before).await?;
            phases.ended("fault, another epoch is served");
            if outcome.told.member == before.standby.name {
                return Ok((first, before, outcome));
            }
            println!("  {} took again: {:?}", before.primary.name, outcome.told);
        }
        bail!("the standby never takes")
    }

    /// Everything that was recorded before is served by this member with the hashes that it had, or soon: what its peer could not read
    /// is sent again after a while.
    pub async fn ensure_kept(&self, before: &Before, by: &MemberApi) -> Result<()> {
        until("what was there before is served", RETURN, async || {
            let changed = by.changed(&before.sealed).await?;
            ensure!(
                changed.is_empty(),
                "{} does not serve what was there before: {changed:?}",
                by.base()
            );
            Ok(Some(()))
        })
        .await
    }

    /// Everything that was recorded before is served by these members as it was, and the pair says that all is well.
    pub async fn ensure_well(&self, before: &Before, members: &[MemberView]) -> Result<()> {
        for member in members {
            self.ensure_kept(before, &member.api).await?;
        }
        self.ready(RETURN).await
    }

    /// Everything that a user or a log collector can read of this pair, Secrets aside.
    pub async fn everything_told(&self) -> Result<String> {
        let mut told = self.kube.events(NAMESPACE, PAIR).await?.join("\n");
        told += &serde_json::to_string(&self.kube.pair(NAMESPACE, PAIR).await?.status)?;
        for view in self.pair.views().await {
            told += &serde_json::to_string(&view.report)?;
        }
        Ok(told + &self.logs().await?)
    }

    /// The logs of both members and of the operators.
    pub async fn logs(&self) -> Result<String> {
        let mut told = String::new();
        for member in names::members(PAIR) {
            for container in [names::CONTAINER_RECORDER, names::CONTAINER_REPLICATOR] {
                told += &self.kube.logs(NAMESPACE, &member, container).await?;
            }
        }
        for pod in self.kube.names_of::<Pod>(chart::SYSTEM).await? {
            told += &self.kube.logs(chart::SYSTEM, &pod, "operator").await?;
        }
        Ok(told)
    }

    /// Judges the union of both members, and the playlist of the first one. Fails if two members were ever seen to hold authority
    /// at a time, or an epoch fell, since the pair was made.
    pub async fn judge(&self, start: Start, members: &[MemberView]) -> Result<Verdict> {
        self.judge_beside(start, &[], members).await
    }

    /// As [`Scene::judge`], where some cameras were absent for a while.
    pub async fn judge_beside(
        &self,
        start: Start,
        absences: &[Absence],
        members: &[MemberView],
    ) -> Result<Verdict> {
        self.holders.judge()?;
        let apis: Vec<MemberApi> = members.iter().map(|member| member.api.clone()).collect();
        let viewer = apis.first().context("nobody to ask")?;
        judge_beside(&self.cameras, &self.watched, start, absences, &apis, viewer).await
    }

    /// The whole scenario: record, break, wait for the next epoch, record, mend, and wait until the old primary is a standby
    /// that has everything, and the pair says so. Fails unless nothing is lost, doubled or changed.
    pub async fn fail_over(
        &self,
        strike: impl AsyncFn(&Self, &Before) -> Result<Fault>,
        mend: impl AsyncFnOnce(&Self, &Before) -> Result<()>,
    ) -> Result<Report> {
        let report = self.fail_over_alone(strike, mend).await?;
        self.ready(RETURN).await?;
        Ok(report)
    }

    /// As [`Scene::fail_over`], by the members alone: no operator need be there to say that the pair is ready.
    pub async fn fail_over_alone(
        &self,
        strike: impl AsyncFn(&Self, &Before) -> Result<Fault>,
        mend: impl AsyncFnOnce(&Self, &Before) -> Result<()>,
    ) -> Result<Report> {
        let mut phases = Phases::start();
        let struck = self.struck(Duration::from_secs(10), &mut phases, strike).await?;
        let (start, mut before, outcome) = struck;
        before.start = start;
        phases.note(
            "  suspected after",
            outcome.suspected_after_ms().unwrap_or_default(),
        );
        phases.note("  serving after", outcome.serving_after_ms());
        let survivor = self.pair.view(&before.standby.name).await?;
        self.ensure_kept(&before, &survivor.api).await?;
        phases.ended("all earlier media read back from the new primary");
        tokio::time::sleep(Duration::from_secs(5)).await;
        mend(self, &before).await?;
        phases.ended("recorded alone, mended");
        let members = self.settled(RETURN).await?;
        ensure!(
            members[0].name == before.standby.name,
            "{} is primary again, unasked",
            members[0].name
        );
        phases.ended("the old primary is a standby that has everything");
        let verdict = self.judge(before.start, &members).await?;
        phases.ended("every frame counted");
        let report = Report {
            before,
            outcome,
            members,
            verdict,
            phases,
        };
        println!("{}{}", report.phases, report.verdict);
        report.verdict.ensure_perfect()?;
        for member in &report.members {
            self.ensure_kept(&report.before, &member.api).await?;
        }
        let (old, new) = (report.before.epoch, report.outcome.served.epoch);
        ensure!(new > old, "epoch {new} after {old}");
        Ok(report)
    }

    /// Keeps what helps to find out why it failed, and says where.
    pub fn keep(&self) {
        let folder = cache().join("failed").join(crate::wait::now_ms().to_string());
        match collect(&folder) {
            Ok(()) => eprintln!(
                "logs of every part and the volumes are kept in {}",
                folder.display()
            ),
            Err(error) => eprintln!("not all is kept: {error:#}"),
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
    }
}

/// How many scenes that failed are kept; each has the logs and what was recorded.
const KEPT: usize = 10;

fn collect(folder: &Path) -> Result<()> {
    let kept = std::fs::read_dir(folder.parent().context("no folder")?);
    let mut kept: Vec<_> = kept.into_iter().flatten().flatten().collect();
    kept.sort_by_key(std::fs::DirEntry::file_name);
    for old in kept.iter().rev().skip(KEPT - 1) {
        std::fs::remove_dir_all(old.path())?;
    }
    let status = std::process::Command::new(cache().join("bin/testbed"))
        .args(["logs", "collect"])
        .arg(folder)
        .stdout(std::process::Stdio::null())
        .status()?;
    ensure!(status.success(), "testbed logs collect: {status}");
    Ok(())
}
