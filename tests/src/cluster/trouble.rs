//! Every single fault that a pair must bear: how it begins, how it ends, and what must be true after it.

use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use crds::{RecorderPair, names};
use futures::future::try_join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;

use super::chart::{OPERATOR, SYSTEM};
use super::faults::{Direction, Fault};
use super::pair::{MemberView, NAMESPACE, PAIR};
use super::scene::{Before, RETURN, Scene};
use crate::api::MemberApi;
use crate::judge::Verdict;
use crate::wait::until;

/// Which member is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The one that holds authority.
    Primary,
    /// The other.
    Standby,
}

/// A single fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// SIGKILL for the recorder.
    KillRecorder(Whom),
    /// SIGKILL for the replicator.
    KillReplicator(Whom),
    /// SIGKILL for every process of the pod.
    KillPod(Whom),
    /// The pod is deleted.
    DeletePod(Whom),
    /// Its node is drained, then takes pods again.
    Drain(Whom),
    /// The recorder stands still, then goes on.
    FreezeRecorder(Whom),
    /// The replicator stands still, then goes on.
    FreezeReplicator(Whom),
    /// Both stand still, then go on.
    FreezePod(Whom),
    /// The node loses its power.
    PowerOff(Whom),
    /// The members do not hear each other.
    CutPeer,
    /// The packets of a member to its peer are lost; those of its peer arrive.
    CutPeerOneWay(Whom),
    /// A member does not hear the API server.
    CutApi(Whom),
    /// The packets of a member to the API server are lost; what it sends arrives.
    CutApiOneWay(Whom),
    /// A member hears no camera.
    CutCameras(Whom),
    /// A member hears no camera; each camera hears the member.
    CutCamerasOneWay(Whom),
    /// A member does not hear one camera.
    CutCamera(Whom),
    /// A member does not hear one camera, which hears the member.
    CutCameraOneWay(Whom),
    /// One packet in a hundred of one camera's, and of a member's to it, is lost.
    LosePackets(Whom),
    /// The operator does not hear a member. It is on another node, or it would need no link.
    CutOperator(Whom),
    /// What a member answers the operator is lost; it hears the questions. As above.
    CutOperatorOneWay(Whom),
    /// A member hears nobody.
    CutAll(Whom),
    /// The volume takes no byte.
    FillDisk(Whom),
    /// Writes and syncs of the volume fail. This and the three below need [`Scene::on_faulty_disks`].
    FailDisk(Whom),
    /// Every third sync of the volume fails and loses what it was to make durable.
    FailSyncs(Whom),
    /// Nothing can be read of the volume.
    FailReads(Whom),
    /// Every sync of the volume is 300 ms late.
    StallDisk(Whom),
    /// The API server stands still, then goes on.
    FreezeApi,
    /// There is no operator.
    StopOperator,
    /// The Lease is deleted.
    DeleteLease,
    /// The status of the pair is wiped.
    WipeStatus,
}

const API: &str = "kube-apiserver";
/// The share of packets that are lost on a bad link.
const LOST: f64 = 0.01;

impl Trouble {
    /// Every fault that needs no special pair, in the order of the list of promises.
    pub const ALL: [Self; 47] = {
        use Trouble as T;
        use Whom::{Primary, Standby};
        [
            T::KillRecorder(Primary),
            T::KillRecorder(Standby),
            T::KillReplicator(Primary),
            T::KillReplicator(Standby),
            T::KillPod(Primary),
            T::KillPod(Standby),
            T::DeletePod(Primary),
            T::DeletePod(Standby),
            T::Drain(Primary),
            T::Drain(Standby),
            T::FreezeRecorder(Primary),
            T::FreezeRecorder(Standby),
            T::FreezeReplicator(Primary),
            T::FreezeReplicator(Standby),
            T::FreezePod(Primary),
            T::FreezePod(Standby),
            T::PowerOff(Primary),
            T::PowerOff(Standby),
            T::CutPeer,
            T::CutPeerOneWay(Primary),
            T::CutPeerOneWay(Standby),
            T::CutApi(Primary),
            T::CutApi(Standby),
            T::CutApiOneWay(Primary),
            T::CutApiOneWay(Standby),
            T::CutCameras(Primary),
            T::CutCameras(Standby),
            T::CutCamerasOneWay(Primary),
            T::CutCamerasOneWay(Standby),
            T::CutCamera(Primary),
            T::CutCamera(Standby),
            T::CutCameraOneWay(Primary),
            T::CutCameraOneWay(Standby),
            T::LosePackets(Primary),
            T::LosePackets(Standby),
            T::CutOperator(Primary),
            T::CutOperator(Standby),
            T::CutOperatorOneWay(Primary),
            T::CutOperatorOneWay(Standby),
            T::CutAll(Primary),
            T::CutAll(Standby),
            T::FillDisk(Primary),
            T::FillDisk(Standby),
            T::FreezeApi,
            T::StopOperator,
            T::DeleteLease,
            T::WipeStatus,
        ]
    };

    /// Every fault of a disk that fails on demand: [`Scene::on_faulty_disks`].
    pub const OF_DISKS: [Self; 8] = {
        use Trouble as T;
        use Whom::{Primary, Standby};
        [
            T::FailDisk(Primary),
            T::FailDisk(Standby),
            T::FailSyncs(Primary),
            T::FailSyncs(Standby),
            T::FailReads(Primary),
            T::FailReads(Standby),
            T::StallDisk(Primary),
            T::StallDisk(Standby),
        ]
    };

    /// Whether both can be at a time and no frame be lost. What takes one member away leaves the other to record alone, so the other
    /// may not lose what only it has; and two faults of one thing have one mending.
    pub fn goes_with(self, other: Self) -> bool {
        let takes_none = |one| {
            matches!(
                one,
                Self::FreezeApi | Self::StopOperator | Self::DeleteLease | Self::WipeStatus
            )
        };
        let asks_api = |one: Self| {
            matches!(
                one,
                Self::DeletePod(_)
                    | Self::Drain(_)
                    | Self::FillDisk(_)
                    | Self::StopOperator
                    | Self::PowerOff(_)
                    | Self::DeleteLease
                    | Self::WipeStatus
            ) || !one.disk_faults().is_empty()
        };
        let frozen = self == Self::FreezeApi || other == Self::FreezeApi;
        self != other
            && (takes_none(self) != takes_none(other))
            && !(frozen && (asks_api(self) || asks_api(other)))
    }

    /// For how long it lasts at least, so that it shows.
    pub fn lasts(self) -> Duration {
        let seconds = match self {
            Self::KillRecorder(_) | Self::KillReplicator(_) | Self::KillPod(_) | Self::DeletePod(_) => 3,
            Self::DeleteLease | Self::WipeStatus => 5,
            Self::FreezePod(_) => 30,
            Self::FreezeApi => 45,
            // Of some 150 packets a second one in a hundred.
            Self::LosePackets(_) => 12,
            Self::FailDisk(_) | Self::FailSyncs(_) | Self::FailReads(_) | Self::StallDisk(_) => 10,
            _ => 6,
        };
        Duration::from_secs(seconds)
    }

    fn struck(self, before: &Before) -> &MemberView {
        match self {
            Self::KillRecorder(whom)
            | Self::KillReplicator(whom)
            | Self::KillPod(whom)
            | Self::DeletePod(whom)
            | Self::Drain(whom)
            | Self::FreezeRecorder(whom)
            | Self::FreezeReplicator(whom)
            | Self::FreezePod(whom)
            | Self::PowerOff(whom)
            | Self::CutPeerOneWay(whom)
            | Self::CutApi(whom)
            | Self::CutApiOneWay(whom)
            | Self::CutCameras(whom)
            | Self::CutCamerasOneWay(whom)
            | Self::CutCamera(whom)
            | Self::CutCameraOneWay(whom)
            | Self::LosePackets(whom)
            | Self::CutOperator(whom)
            | Self::CutOperatorOneWay(whom)
            | Self::CutAll(whom)
            | Self::FillDisk(whom)
            | Self::FailDisk(whom)
            | Self::FailSyncs(whom)
            | Self::FailReads(whom)
            | Self::StallDisk(whom) => match whom {
                Whom::Primary => &before.primary,
                Whom::Standby => &before.standby,
            },
            _ => &before.primary,
        }
    }

    /// The link that it cuts, if it cuts one, seen from the node of the member that is struck, and in which direction.
    fn link(self, scene: &Scene, before: &Before) -> Option<(String, Direction)> {
        use Direction::{Both, In, Out};
        let peer = |member: &MemberView| format!("peer:{}", member.node);
        let camera = || format!("camera:{}", scene.watched[0].camera);
        Some(match self {
            Self::CutPeer => (peer(&before.standby), Both),
            Self::CutPeerOneWay(Whom::Primary) => (peer(&before.standby), Out),
            Self::CutPeerOneWay(Whom::Standby) => (peer(&before.primary), Out),
            Self::CutApi(_) => ("api".to_owned(), Both),
            Self::CutApiOneWay(_) => ("api".to_owned(), Out),
            Self::CutCameras(_) => ("cameras".to_owned(), Both),
            Self::CutCamerasOneWay(_) => ("cameras".to_owned(), In),
            Self::CutCamera(_) | Self::LosePackets(_) => (camera(), Both),
            Self::CutCameraOneWay(_) => (camera(), In),
            Self::CutOperator(_) => ("operator".to_owned(), Both),
            Self::CutOperatorOneWay(_) => ("operator".to_owned(), Out),
            Self::CutAll(_) => ("all".to_owned(), Both),
            _ => return None,
        })
    }

    /// What happens to its disk: flags of `testbed faulty set`.
    fn disk_faults(self) -> &'static [&'static str] {
        match self {
            Self::FailDisk(_) => &["--fail", "writes,syncs"],
            Self::FailSyncs(_) => &["--fail", "syncs", "--share", "0.33"],
            Self::FailReads(_) => &["--fail", "reads"],
            Self::StallDisk(_) => &["--stall", "300ms"],
            _ => &[],
        }
    }

    fn frozen(self) -> &'static [&'static str] {
        match self {
            Self::FreezeRecorder(_) => &[names::CONTAINER_RECORDER],
            Self::FreezeReplicator(_) => &[names::CONTAINER_REPLICATOR],
            Self::FreezePod(_) => &[names::CONTAINER_RECORDER, names::CONTAINER_REPLICATOR],
            _ => &[],
        }
    }

    /// Begins it, and says when.
    ///
    /// # Errors
    /// When the test bed cannot.
    pub async fn strike(self, scene: &Scene, before: &Before) -> Result<Fault> {
        let (member, fault) = (self.struck(before), Fault::now());
        let (bed, node, pod) = (&scene.bed, &member.node, member.pod());
        if let Some((link, direction)) = self.link(scene, before) {
            return self.strike_link(scene, member, &link, direction).await;
        }
        match self {
            Self::KillRecorder(_) => return bed.kill_container(&pod, names::CONTAINER_RECORDER).await,
            Self::KillReplicator(_) => return bed.kill_container(&pod, names::CONTAINER_REPLICATOR).await,
            Self::KillPod(_) => return bed.kill_pod(&pod).await,
            Self::DeletePod(_) => scene.kube.delete::<Pod>(NAMESPACE, &member.name).await?,
            Self::Drain(_) => {
                scene.kube.cordon(node).await?;
                // A budget hears that a pod is ready a moment after the pair is whole.
                until("the budget lets one member of two go", RETURN, async || {
                    let evicted = scene.kube.evict(NAMESPACE, &member.name).await?;
                    Ok(evicted.then_some(()))
                })
                .await?;
            }
            Self::FreezeRecorder(_) | Self::FreezeReplicator(_) | Self::FreezePod(_) => {
                let freeze = self.frozen().iter();
                try_join_all(freeze.map(|one| bed.freeze_container(pod.clone(), one))).await?;
            }
            Self::PowerOff(_) => return bed.power_off(node).await,
            Self::FillDisk(_) => {
                bed.fill(node, &scene.volume_of(member).await?).await?;
            }
            Self::FailDisk(_) | Self::FailSyncs(_) | Self::FailReads(_) | Self::StallDisk(_) => {
                let volume = scene.volume_of(member).await?;
                let (fault, _) = bed.disk_faults(node, &volume, self.disk_faults()).await?;
                return Ok(fault);
            }
            Self::FreezeApi => bed.control("freeze", API).await?,
            Self::StopOperator => scene.kube.scale(SYSTEM, OPERATOR, 0).await?,
            Self::DeleteLease => scene.kube.delete::<Lease>(NAMESPACE, &names::lease(PAIR)).await?,
            Self::WipeStatus => scene.kube.wipe_status::<RecorderPair>(NAMESPACE, PAIR).await?,
            _ => bail!("{self:?} is no fault of a link, and nothing else is known of it"),
        }
        Ok(fault)
    }

    async fn strike_link(
        self,
        scene: &Scene,
        member: &MemberView,
        link: &str,
        direction: Direction,
    ) -> Result<Fault> {
        let (bed, node) = (&scene.bed, &member.node);
        match self {
            Self::LosePackets(_) => bed.lose(node, link, LOST).await,
            Self::CutOperator(_) | Self::CutOperatorOneWay(_) => {
                scene.lead_from(|other| other != node).await?;
                let fault = bed.cut_towards(node, link, direction).await?;
                scene.operator_misses(&member.name).await?;
                Ok(fault)
            }
            _ => bed.cut_towards(node, link, direction).await,
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the test bed cannot, or the link or the disk did as always: then nothing was borne.
    pub async fn mend(self, scene: &Scene, before: &Before) -> Result<()> {
        let member = self.struck(before);
        let (bed, node) = (&scene.bed, &member.node);
        if let Some((link, _)) = self.link(scene, before) {
            let dropped = bed.mend_link(node, &link).await?;
            ensure!(dropped > 0, "{self:?}: no packet was dropped");
            return Ok(());
        }
        match self {
            Self::FreezeRecorder(_) | Self::FreezeReplicator(_) | Self::FreezePod(_) => {
                let thaw = self
                    .frozen()
                    .iter()
                    .map(|one| bed.thaw_container(member.pod(), one));
                try_join_all(thaw).await.map(drop)
            }
            Self::Drain(_) => scene.kube.uncordon_all().await,
            Self::PowerOff(_) => bed.power_on(node).await,
            Self::FillDisk(_) => bed.free(node, &scene.volume_of(member).await?).await,
            Self::FailDisk(_) | Self::FailSyncs(_) | Self::FailReads(_) | Self::StallDisk(_) => {
                if matches!(self, Self::FailReads(_)) {
                    ask_for_media(scene, &member.api).await;
                }
                let volume = scene.volume_of(member).await?;
                let (_, struck) = bed.disk_faults(node, &volume, &[]).await?;
                ensure!(struck > 0, "{self:?}: no call failed or was late");
                Ok(())
            }
            Self::FreezeApi => bed.control("thaw", API).await,
            Self::StopOperator => scene.kube.scale(SYSTEM, OPERATOR, super::chart::OPERATORS).await,
            _ => Ok(()),
        }
    }
}

/// A standby of which nobody wants anything reads nothing. What it answers is its own matter: nothing can be read.
async fn ask_for_media(scene: &Scene, api: &MemberApi) {
    let stream = &scene.watched[0].stream;
    let segments = api.segments(stream, 0).await.unwrap_or_default();
    for segment in segments.iter().take(3) {
        let answer = match api.download(stream, segment).await {
            Ok(bytes) => format!("{} bytes", bytes.len()),
            Err(error) => format!("{error:#}"),
        };
        println!("      asked for {}: {answer}", segment.id);
    }
}

/// When what happens to a pair that is struck.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long is recorded before.
    pub before: Duration,
    /// From one fault to the next.
    pub apart: Duration,
    /// How much longer the faults last than it takes for them to show.
    pub longer: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            before: Duration::from_secs(5),
            apart: Duration::ZERO,
            longer: Duration::ZERO,
        }
    }
}

/// What was found after a fault.
pub struct Endured {
    /// Of every frame.
    pub verdict: Verdict,
    /// What does not hold that was promised, in words.
    pub broken: Vec<String>,
}

impl Scene {
    /// The whole scenario of a fault: record, strike, bear it, mend it, and wait until both members have everything. Then every
    /// frame has to be there once, what was sealed to be as it was, never two to have held authority, no epoch to have fallen,
    /// and the pair to be Ready.
    ///
    /// # Errors
    /// When it does not come so far.
    pub async fn endure(&self, troubles: &[Trouble], times: Times) -> Result<Endured> {
        let before = self.record(times.before).await?;
        for (n, trouble) in troubles.iter().enumerate() {
            if n > 0 {
                tokio::time::sleep(times.apart).await;
            }
            trouble.strike(self, &before).await?;
        }
        let lasts = troubles
            .iter()
            .map(|trouble| trouble.lasts())
            .max()
            .unwrap_or_default();
        tokio::time::sleep(lasts + times.longer).await;
        for trouble in troubles.iter().rev() {
            trouble.mend(self, &before).await?;
        }
        let members = self.settled(RETURN).await?;
        let verdict = self.judge(before.start, &members).await?;
        let mut held = vec![verdict.ensure_perfect()];
        for member in &members {
            held.push(self.ensure_kept(&before, &member.api).await);
        }
        let epoch = self.pair.epoch().await?;
        if epoch < before.epoch {
            held.push(Err(anyhow!("epoch {epoch} after {}", before.epoch)));
        }
        held.push(self.ready(RETURN).await);
        let broken = held.into_iter().filter_map(Result::err);
        Ok(Endured {
            verdict,
            broken: broken.map(|error| format!("{error:#}")).collect(),
        })
    }

    /// Waits until the pair says that its operator hears nothing of a member.
    async fn operator_misses(&self, member: &str) -> Result<()> {
        until("the operator misses the member", RETURN, async || {
            let (status, _, message) = self.pair.condition("Degraded").await?;
            let missed = status == "True" && message.contains(member) && message.contains("does not answer");
            ensure!(missed, "Degraded {status}: {message}");
            Ok(Some(()))
        })
        .await
    }

    /// The PersistentVolume of a member.
    pub(super) async fn volume_of(&self, member: &MemberView) -> Result<String> {
        self.kube.volume_of(NAMESPACE, &names::claim(&member.name)).await
    }
}
