//! A deleted pair leaves its volumes, and a pair of the same name adopts them with all their media.

use std::time::Duration;

use crds::RecorderPair;
use e2e::cluster::{NAMESPACE, PAIR, RETURN, Scene};
use k8s_openapi::api::core::v1::Pod;

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
    seconds(2).await;
    scene.pair.apply(&scene.spec).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    for member in &members {
        scene.ensure_kept(&before, &member.api).await.unwrap();
    }
    let epoch = scene.pair.epoch().await.unwrap();
    assert!(
        epoch > before.epoch,
        "epoch {epoch} after {}: it only rises (I5)",
        before.epoch
    );
    let streams = scene.streams();
    for watched in &streams {
        let timeline = members[0]
            .api
            .timeline(watched, before.start.at_ms)
            .await
            .unwrap();
        assert!(
            timeline.spans.len() >= 2,
            "{watched} was recorded before and after, as one stream"
        );
    }
}
