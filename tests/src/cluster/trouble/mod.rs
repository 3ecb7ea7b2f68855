//! Every single fault that a pair must bear: how it begins, how it ends, and what must be true after it.

mod cameras;
mod clocks;
mod disks;
mod endure;
mod links;
mod lists;
mod together;
mod updates;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use crds::{RecorderPair, names};
use futures::future::try_join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;

pub use clocks::Jump;
pub use endure::{Endured, Times};

use self::disks::ask_for_media;
use super::chart::{OPERATOR, SYSTEM};
use super::clocks::Skew;
use super::faults::Fault;
use super::pair::{MemberView, NAMESPACE, PAIR};
use super::scene::{Before, RETURN, Scene};
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
    /// A camera sends nothing, and its connections stay. This and the five below need cameras of some kinds: [`Trouble::ODD_CAMERAS`].
    SilenceCamera,
    /// A camera dies, and is started again.
    RestartCamera,
    /// A camera dies, and is started again with pictures of another size, so with other parameter sets.
    ResizeCamera,
    /// The pictures that a member gets of one camera do not change.
    StillCamera(Whom),
    /// Nothing that a member gets of one camera can be understood.
    SpoilCamera(Whom),
    /// The parameter sets that a member gets of one camera cannot be decoded.
    GarbleCamera(Whom),
    /// The wall clock of a member is set to another hour, then set right.
    SetClock(Whom, Jump),
    /// The boot clock of a member is slow, then set right.
    SlowClock(Whom),
    /// The pair gets another image.
    UpdateImage,
    /// The chart is upgraded: operators and recorders get another image.
    Upgrade,
    /// A user moves the primary.
    Switchover,
    /// SIGKILL for every process of the operator that leads.
    KillOperator,
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

impl Trouble {
    /// What it is called, whoever is struck.
    pub fn kind(self) -> String {
        let name = format!("{self:?}");
        name.split('(').next().unwrap_or_default().to_owned()
    }

    /// For how long it lasts at least, so that it shows.
    pub fn lasts(self) -> Duration {
        let seconds = match self {
            Self::KillRecorder(_) | Self::KillReplicator(_) | Self::KillPod(_) | Self::DeletePod(_) => 3,
            Self::DeleteLease | Self::WipeStatus => 5,
            // The other one leads 6 to 7 s later.
            Self::KillOperator => 8,
            Self::FreezePod(_) => 30,
            Self::FreezeApi => 45,
            // Of some 150 packets a second one in a hundred.
            Self::LosePackets(_) => 12,
            Self::FailDisk(_)
            | Self::FailSyncs(_)
            | Self::FailReads(_)
            | Self::StallDisk(_)
            | Self::SlowClock(_) => 10,
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
            | Self::StallDisk(whom)
            | Self::StillCamera(whom)
            | Self::SpoilCamera(whom)
            | Self::GarbleCamera(whom)
            | Self::SetClock(whom, _)
            | Self::SlowClock(whom) => match whom {
                Whom::Primary => &before.primary,
                Whom::Standby => &before.standby,
            },
            _ => &before.primary,
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
            Self::SilenceCamera
            | Self::RestartCamera
            | Self::ResizeCamera
            | Self::StillCamera(_)
            | Self::SpoilCamera(_)
            | Self::GarbleCamera(_) => return self.strike_camera(scene, member).await,
            Self::SetClock(..) | Self::SlowClock(_) => self.strike_clock(scene, member).await?,
            Self::UpdateImage | Self::Upgrade | Self::Switchover | Self::KillOperator => {
                self.strike_by_hand(scene, before).await?;
            }
            Self::FreezeApi => bed.control("freeze", API).await?,
            Self::StopOperator => scene.kube.scale(SYSTEM, OPERATOR, 0).await?,
            Self::DeleteLease => scene.kube.delete::<Lease>(NAMESPACE, &names::lease(PAIR)).await?,
            Self::WipeStatus => scene.kube.wipe_status::<RecorderPair>(NAMESPACE, PAIR).await?,
            _ => bail!("{self:?} is no fault of a link, and nothing else is known of it"),
        }
        Ok(fault)
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
            Self::SilenceCamera
            | Self::RestartCamera
            | Self::ResizeCamera
            | Self::StillCamera(_)
            | Self::SpoilCamera(_)
            | Self::GarbleCamera(_) => self.mend_camera(scene, member).await,
            Self::SetClock(..) | Self::SlowClock(_) => scene.make_clocks_wrong(member, Skew::default()).await,
            Self::FreezeApi => bed.control("thaw", API).await,
            Self::StopOperator => scene.kube.scale(SYSTEM, OPERATOR, super::chart::OPERATORS).await,
            _ => Ok(()),
        }
    }
}
