//! Whatever single thing breaks: every frame is there, once; what was sealed is as it was; never do two hold authority; and the pair
//! is whole again by itself.

use e2e::cluster::{Endured, Scene, Times, Trouble, Whom};

use crate::STREAMS;

async fn endures(troubles: &[Trouble]) {
    bears(&Scene::start(STREAMS).await.unwrap(), troubles).await;
}

/// One after the other on one pair: that a fault leaves nothing behind which makes the next one worse is part of the promise.
pub(crate) async fn bears(scene: &Scene, troubles: &[Trouble]) {
    for trouble in troubles {
        let began = std::time::Instant::now();
        let endured = scene.endure(&[*trouble], Times::default()).await;
        let Endured { verdict, broken } = endured
            .map_err(|error| error.context(format!("{trouble:?}")))
            .unwrap();
        println!(
            "  {trouble:?}: {} of {} frames missing, {:.0?}",
            verdict.missing(),
            verdict.expected(),
            began.elapsed()
        );
        assert!(broken.is_empty(), "{trouble:?}: {broken:#?}");
    }
}

#[tokio::test]
async fn processes_that_die_or_stand_still_lose_no_frame() {
    use Trouble::{FreezePod, FreezeRecorder, FreezeReplicator, KillPod, KillRecorder, KillReplicator};
    use Whom::{Primary, Standby};
    endures(&[
        KillRecorder(Primary),
        KillReplicator(Primary),
        KillPod(Standby),
        FreezeRecorder(Primary),
        FreezeReplicator(Primary),
        FreezePod(Primary),
        KillRecorder(Standby),
        FreezeReplicator(Standby),
    ])
    .await;
}

#[tokio::test]
async fn links_that_are_cut_lose_no_frame() {
    use Trouble::{CutAll, CutApi, CutCamera, CutCameras, CutOperator, CutPeer, LosePackets};
    use Whom::{Primary, Standby};
    endures(&[
        CutPeer,
        CutApi(Primary),
        CutCameras(Primary),
        CutCamera(Standby),
        LosePackets(Primary),
        CutOperator(Primary),
        CutAll(Primary),
        CutAll(Standby),
    ])
    .await;
}

#[tokio::test]
async fn links_that_are_cut_in_one_direction_lose_no_frame() {
    use Trouble::{CutApiOneWay, CutCameraOneWay, CutCamerasOneWay, CutOperatorOneWay, CutPeerOneWay};
    use Whom::{Primary, Standby};
    endures(&[
        CutPeerOneWay(Primary),
        CutPeerOneWay(Standby),
        CutApiOneWay(Primary),
        CutCamerasOneWay(Primary),
        CutCameraOneWay(Primary),
        CutOperatorOneWay(Primary),
    ])
    .await;
}

#[tokio::test]
async fn a_control_plane_that_fails_loses_no_frame() {
    use Trouble::{DeleteLease, FreezeApi, StopOperator, WipeStatus};
    endures(&[FreezeApi, StopOperator, DeleteLease, WipeStatus]).await;
}

#[tokio::test]
async fn a_standby_whose_disk_is_full_or_whose_node_is_off_loses_no_frame() {
    endures(&[Trouble::FillDisk(Whom::Standby), Trouble::PowerOff(Whom::Standby)]).await;
}
