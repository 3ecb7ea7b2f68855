//! Lists of faults.

use super::{Jump, Trouble, Whom};
use crate::cameras::Kind;

impl Trouble {
    /// Every fault that needs no special pair, in the order of the list of promises.
    pub const ALL: [Self; 57] = {
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
            T::SetClock(Primary, Jump::Ahead),
            T::SetClock(Primary, Jump::Back),
            T::SetClock(Standby, Jump::Ahead),
            T::SetClock(Standby, Jump::Back),
            T::SlowClock(Primary),
            T::SlowClock(Standby),
            T::UpdateImage,
            T::Upgrade,
            T::Switchover,
            T::KillOperator,
        ]
    };

    /// Every fault of a disk that fails on demand: [`Scene::on_faulty_disks`](crate::cluster::Scene::on_faulty_disks).
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

    /// Every fault of a camera: needs [`Trouble::ODD_CAMERAS`] among the cameras.
    pub const OF_CAMERAS: [Self; 9] = {
        use Trouble as T;
        use Whom::{Primary, Standby};
        [
            T::SilenceCamera,
            T::RestartCamera,
            T::ResizeCamera,
            T::StillCamera(Primary),
            T::StillCamera(Standby),
            T::SpoilCamera(Primary),
            T::SpoilCamera(Standby),
            T::GarbleCamera(Primary),
            T::GarbleCamera(Standby),
        ]
    };

    /// A camera that can come back with other parameter sets, and one that each member has a medium of its own of. Its stream needs
    /// `detectFrozen`.
    pub const ODD_CAMERAS: [Kind; 2] = [Kind::Sizes, Kind::Apart];
}
