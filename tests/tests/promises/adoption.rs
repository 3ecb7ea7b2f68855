//! A deleted pair leaves its volumes, and a pair of the same name adopts them with all their media, in another cluster too; not while
//! somebody else has the name of its Lease.

use std::time::Duration;

use anyhow::{Result, ensure};
use crds::RecorderPair;
use e2e::cluster::{Before, MemberView, NAMESPACE, PAIR, RETURN, Scene};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::{STREAMS, seconds};

#[tokio::test]
async fn a_pair_of_the_same_name_adopts_the_media() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(8)).await.unwrap();
    let limit = Duration::from_mins(1);
    scene.kube.delete::<RecorderPair>(NAMESPACE, PAIR).await.unwrap();
    for member in crds::names::members(PAIR) {
        scene.kube.gone::<Pod>(NAMESPACE, &member, limit).await.unwrap();
    }
    let lease = crds::names::lease(PAIR);
    scene.kube.gone::<Lease>(NAMESPACE, &lease, limit).await.unwrap();
    seconds(2).await;
    somebody_has(&scene, &lease).await.unwrap();
    scene.pair.apply(&scene.spec).await.unwrap();
    waits_for_its_name(&scene, &format!("Lease {lease}"))
        .await
        .unwrap();
    scene.kube.delete::<Lease>(NAMESPACE, &lease).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    ensure_adopted(&scene, &before, &members).await.unwrap();
}

/// A Lease by this name that is no pair's.
async fn somebody_has(scene: &Scene, lease: &str) -> Result<()> {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": lease, "namespace": NAMESPACE},
        "spec": {"holderIdentity": "somebody"},
    });
    scene.kube.apply(&lease).await
}

/// The status says whose name it needs, and no member is made meanwhile.
async fn waits_for_its_name(scene: &Scene, object: &str) -> Result<()> {
    scene.stalled("NameTaken", object).await?;
    for member in crds::names::members(PAIR) {
        let pod = scene.kube.pod(NAMESPACE, &member).await?;
        ensure!(
            pod.is_none(),
            "{member} is made without a Lease to count its epochs"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_pair_in_a_new_cluster_adopts_the_media() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(8)).await.unwrap();
    let mut volumes = Vec::new();
    for member in crds::names::members(PAIR) {
        let claim = crds::names::claim(&member);
        let volume = scene.kube.volume_of(NAMESPACE, &claim).await.unwrap();
        volumes.push((volume, claim));
    }
    // With its namespace goes all that this cluster knows of the pair: another cluster would know as little.
    let limit = Duration::from_mins(1);
    scene.kube.delete::<RecorderPair>(NAMESPACE, PAIR).await.unwrap();
    scene.kube.delete_namespace(NAMESPACE, limit).await.unwrap();
    scene.pair.make_namespace().await.unwrap();
    for (volume, claim) in &volumes {
        scene.kube.mean_for(volume, NAMESPACE, claim).await.unwrap();
        let restored = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": NAMESPACE},
            "spec": {
                "volumeName": volume,
                "accessModes": ["ReadWriteOncePod"],
                "resources": {"requests": {"storage": "2Gi"}},
            },
        });
        scene.kube.apply(&restored).await.unwrap();
    }
    scene.pair.apply(&scene.spec).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    ensure_adopted(&scene, &before, &members).await.unwrap();
}

/// All that was sealed is there as it was, the epoch rose, each stream is one with what was before, and no frame is lost from now on.
async fn ensure_adopted(scene: &Scene, before: &Before, members: &[MemberView; 2]) -> Result<()> {
    for member in members {
        scene.ensure_kept(before, &member.api).await?;
    }
    let epoch = scene.pair.epoch().await?;
    ensure!(
        epoch > before.epoch,
        "epoch {epoch} after {}: it only rises (I5)",
        before.epoch
    );
    for stream in &scene.streams() {
        let timeline = members[0].api.timeline(stream, before.start.at_ms).await?;
        ensure!(
            timeline.spans.len() >= 2,
            "{stream} was not recorded before and after as one stream"
        );
    }
    let now = scene.record(Duration::from_secs(4)).await?;
    let members = scene.settled(RETURN).await?;
    scene.judge(now.start, &members).await?.ensure_perfect()?;
    scene.ensure_well(before, &members).await
}
