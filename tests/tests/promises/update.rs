//! A new image, of one pair or of all by an upgrade of the chart, replaces the standby, moves the primary, and replaces the other:
//! never both at once, and no frame is lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::cluster::{
    NAMESPACE, NEXT, OPERATOR_IMAGE, OperatorView, PAIR, RECORDER_IMAGE, RETURN, SYSTEM, Scene,
    install_tagged,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use tokio::task::JoinHandle;

use crate::{STREAMS, pods, seconds};

/// Ends when neither member has a pod that runs and stays. Both are looked at in one answer: of two, one may be of before the first
/// member was back and the other of after the second one went. No answer says nothing of either.
fn both_down(scene: &Scene) -> JoinHandle<()> {
    let (pods, members) = (scene.kube.api::<Pod>(NAMESPACE), crds::names::members(PAIR));
    tokio::spawn(async move {
        let up = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
        };
        loop {
            if let Ok(found) = pods.list(&ListParams::default()).await {
                let is_member = |pod: &&Pod| members.iter().any(|member| pod.name_any() == *member);
                if !found.iter().filter(is_member).any(up) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

/// Records through an update; both members run the next image after it.
async fn update(scene: &Scene, update: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    scene.tag_next().await?;
    let before = scene.record(Duration::from_secs(5)).await?;
    let both_down = both_down(scene);
    update().await?;
    scene.updated_to(&format!("{RECORDER_IMAGE}:{NEXT}")).await?;
    ensure!(!both_down.is_finished(), "both members were down at once");
    both_down.abort();
    let members = scene.settled(RETURN).await?;
    let verdict = scene.judge(before.start, &members).await?;
    println!("{verdict}");
    verdict.ensure_perfect()?;
    scene.ensure_kept(&before, &members[0].api).await?;
    moved(scene, before.epoch).await?;
    scene.ready(RETURN).await
}

/// Fails unless the primary was moved since an epoch, not lost.
async fn moved(scene: &Scene, since: u64) -> Result<()> {
    let failovers = scene.pair.status().await?.failovers;
    let mut later = failovers.iter().filter(|told| told.epoch.cast_unsigned() > since);
    let moved = later.any(|told| told.why == "Switchover");
    ensure!(moved, "the primary was lost, not moved: {failovers:?}");
    Ok(())
}

#[tokio::test]
async fn an_update_of_the_image_never_takes_both_members_down() {
    let mut scene = Scene::start(STREAMS).await.unwrap();
    scene.spec.other["image"] = format!("{RECORDER_IMAGE}:{NEXT}").into();
    update(&scene, async || scene.pair.apply(&scene.spec).await)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_upgrade_of_operator_and_recorders_never_takes_both_members_down() {
    let scene = Scene::start(STREAMS).await.unwrap();
    update(&scene, async || install_tagged(&scene.kubeconfig, NEXT).await)
        .await
        .unwrap();
    let leader = OperatorView::leads(&scene.kube, RETURN).await.unwrap();
    let images = scene.images(SYSTEM, &leader.pod).await.unwrap();
    assert_eq!(images, [format!("{OPERATOR_IMAGE}:{NEXT}")], "it leads");
}

#[tokio::test]
async fn an_update_to_pods_that_would_be_refused_takes_no_member() {
    let mut scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(4)).await.unwrap();
    let there = pods(&scene.settled(RETURN).await.unwrap());
    scene.spec.other["priorityClassName"] = "no-such-class".into();
    scene.pair.apply(&scene.spec).await.unwrap();
    scene.stalled("ApplyFailed", "no-such-class").await.unwrap();
    // It is tried again each 10 s.
    seconds(12).await;
    let members = scene.settled(RETURN).await.unwrap();
    assert_eq!(pods(&members), there, "no pod went for one that cannot come");
    let spec = scene.spec.other.as_object_mut().unwrap();
    spec.remove("priorityClassName").unwrap();
    scene.pair.apply(&scene.spec).await.unwrap();
    scene.ready(RETURN).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    assert_eq!(pods(&members), there, "all is as it was asked for");
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    scene.ensure_well(&before, &members).await.unwrap();
}
