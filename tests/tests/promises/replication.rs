//! Replication alone, without the second session: the standby hears no camera, and then the primary and its volume are gone.

use e2e::cluster::{RETURN, Scene};
use e2e::judge::ensure_acknowledged;

use crate::{STREAMS, seconds};

#[tokio::test]
async fn what_was_acknowledged_survives_the_primary_and_its_volume() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let [_, standby] = scene.settled(RETURN).await.unwrap();
    scene.bed.cut(&standby.node, "cameras").await.unwrap();
    // The standby's sessions have ended, and what it received itself is durable somewhere.
    seconds(10).await;
    let start = e2e::judge::Start::now(&scene.cameras).await.unwrap();
    seconds(60).await;
    let views = scene.pair.views().await;
    let primary = views.iter().find(|view| view.name != standby.name).unwrap();
    let epoch = scene.pair.epoch().await.unwrap();
    let mut acknowledged = Vec::new();
    for watched in &scene.watched {
        let timeline = primary.api.timeline(&watched.stream, start.at_ms).await.unwrap();
        let end = timeline.acknowledged_end.expect("something is acknowledged");
        acknowledged.push((watched.clone(), end));
    }
    scene.bed.destroy(&primary.node).await.unwrap();

    scene.watcher.served(epoch, RETURN).await.unwrap();
    let survivor = scene.pair.view(&standby.name).await.unwrap();
    for (watched, end) in &acknowledged {
        let played = ensure_acknowledged(&scene.cameras, watched, start, end, &survivor.api)
            .await
            .unwrap();
        println!(
            "  {}: {played} acknowledged frames play from {}",
            watched.stream, survivor.name
        );
        assert!(played >= 25 * 50, "a minute was recorded");
    }

    // The node is replaced by an empty one; deleting the lost member's claim and pod gives it a new volume.
    scene.bed.mend_link(&standby.node, "cameras").await.unwrap();
    scene.bed.create(&primary.node).await.unwrap();
    scene.pair.forget(&primary.name).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    assert_eq!(members[0].name, standby.name);
    for (watched, end) in &acknowledged {
        ensure_acknowledged(&scene.cameras, watched, start, end, &members[1].api)
            .await
            .unwrap();
    }
}
