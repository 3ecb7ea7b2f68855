//! The primary is lost: another epoch is served in about a second, all earlier media is there with the hashes it had, and no
//! frame is missing or doubled.

use anyhow::Result;
use e2e::cluster::{Before, Fault, OPERATOR, OPERATORS, SYSTEM, Scene};
use k8s_openapi::api::core::v1::Pod;

use crate::STREAMS;

async fn cut_power(scene: &Scene, before: &Before) -> Result<Fault> {
    scene.bed.power_off(&before.primary.node).await
}

async fn restore_power(scene: &Scene, before: &Before) -> Result<()> {
    scene.bed.power_on(&before.primary.node).await
}

async fn nothing(_: &Scene, _: &Before) -> Result<()> {
    Ok(())
}

#[tokio::test]
async fn a_killed_pod_loses_no_frame() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let kill = async |scene: &Scene, before: &Before| scene.bed.kill_pod(&before.primary.pod()).await;
    scene.fail_over(kill, nothing).await.unwrap();
}

#[tokio::test]
async fn a_node_without_power_loses_no_frame() {
    let scene = Scene::start(STREAMS).await.unwrap();
    scene.fail_over(cut_power, restore_power).await.unwrap();
    // And back: roles change in both directions.
    scene.fail_over(cut_power, restore_power).await.unwrap();
}

#[tokio::test]
async fn a_deleted_pod_loses_no_frame() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let delete = async |scene: &Scene, before: &Before| {
        let fault = Fault::now();
        scene
            .kube
            .delete::<Pod>(e2e::cluster::NAMESPACE, &before.primary.name)
            .await?;
        Ok(fault)
    };
    let report = scene.fail_over(delete, nothing).await.unwrap();
    // A planned end: the primary hands over, and nobody waits for its leash to run out.
    assert_eq!(report.outcome.why, "HandedOver");
}

#[tokio::test]
async fn no_operator_is_needed() {
    let scene = Scene::start(STREAMS).await.unwrap();
    scene.kube.scale(SYSTEM, OPERATOR, 0).await.unwrap();
    scene.fail_over(cut_power, restore_power).await.unwrap();
    scene.kube.scale(SYSTEM, OPERATOR, OPERATORS).await.unwrap();
    scene.settled(e2e::cluster::RETURN).await.unwrap();
}
