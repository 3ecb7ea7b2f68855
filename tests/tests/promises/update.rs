//! A changed pod template replaces the standby, moves the primary, and replaces the other: never both at once, and no frame is
//! lost.

use std::time::Duration;

use anyhow::ensure;
use e2e::cluster::{NAMESPACE, RETURN, Scene};
use e2e::wait::until;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::STREAMS;

#[tokio::test]
async fn an_update_never_takes_both_members_down() {
    let mut scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    let old = [before.primary.pod_uid.clone(), before.standby.pod_uid.clone()];
    let resources = json!({"requests": {"cpu": "60m", "memory": "64Mi"}});
    scene.spec.other["resources"] = json!({"recorder": resources});
    scene.pair.apply(&scene.spec).await.unwrap();
    let (kube, members) = (scene.kube.clone(), crds::names::members("front"));
    let both_down = tokio::spawn(async move {
        loop {
            let mut up = 0;
            for member in &members {
                let pod = kube.get::<Pod>(NAMESPACE, member).await.ok().flatten();
                up += usize::from(pod.is_some_and(|pod| {
                    let running = pod
                        .status
                        .and_then(|status| status.phase)
                        .is_some_and(|phase| phase == "Running");
                    running && pod.metadata.deletion_timestamp.is_none()
                }));
            }
            if up == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    until("both members are new", Duration::from_mins(3), async || {
        let [primary, standby] = scene.pair.well(STREAMS).await?;
        for view in [&primary, &standby] {
            ensure!(!old.contains(&view.pod_uid), "{} is as it was", view.name);
        }
        Ok(Some(()))
    })
    .await
    .unwrap();
    assert!(!both_down.is_finished(), "both members were down at once");
    both_down.abort();
    let members = scene.settled(RETURN).await.unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    scene.ensure_kept(&before, &members[0].api).await.unwrap();
    let status = scene.pair.status().await.unwrap();
    let moved = status
        .failovers
        .iter()
        .any(|failover| failover.why == "Switchover");
    assert!(moved, "the primary was moved, not lost: {:?}", status.failovers);
}
