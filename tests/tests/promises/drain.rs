//! A drained node: the primary hands over before it ends, the budget keeps the other member, and no frame is lost.

use std::time::Duration;

use e2e::cameras::{Kind, Options};
use e2e::cluster::{NAMESPACE, RETURN, Scene, Trouble, Whom};
use e2e::wait::until;

use crate::{STREAMS, seconds};

#[tokio::test]
async fn nodes_that_are_drained_one_right_after_the_other_lose_no_frame() {
    let options = Options::test_bed(STREAMS).of_kinds(&[Kind::H264, Kind::LongGroups]);
    let scene = Scene::with(options, |_| {}).await.unwrap();
    // Longer than the longest group of pictures.
    let before = scene.record(Duration::from_secs(12)).await.unwrap();
    for whom in [Whom::Standby, Whom::Primary] {
        let drain = Trouble::Drain(whom);
        // Tries until the budget lets it, as `kubectl drain` does.
        drain.strike(&scene, &before).await.unwrap();
        drain.mend(&scene, &before).await.unwrap();
    }
    let members = scene.settled(RETURN).await.unwrap();
    assert_eq!(members[0].name, before.standby.name, "it was handed over");
    let pods = members.each_ref().map(|member| &member.pod_uid);
    for old in [&before.primary, &before.standby] {
        assert!(!pods.contains(&&old.pod_uid), "{} was evicted", old.name);
    }
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    scene.ensure_well(&before, &members).await.unwrap();
}

#[tokio::test]
async fn a_drain_moves_authority_first_and_never_takes_both() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    let [drained, kept] = [&before.primary, &before.standby];
    let drain = Trouble::Drain(Whom::Primary);
    let fault = drain.strike(&scene, &before).await.unwrap();
    let outcome = scene.failed_over(fault, &before).await.unwrap();
    println!("  served {} ms after the eviction", outcome.serving_after_ms());
    assert_eq!(outcome.told.why, "HandedOver");
    // Its successor finds no node, and so the pair has one member.
    until("the drained member waits for its node", RETURN, async || {
        let pod = scene.kube.pod(NAMESPACE, &drained.name).await?;
        let waits = pod.and_then(|pod| {
            let phase = pod.status.as_ref()?.phase.clone()?;
            (phase == "Pending" && pod.metadata.uid != Some(drained.pod_uid.clone())).then_some(())
        });
        Ok(waits)
    })
    .await
    .unwrap();
    let evicted = scene.kube.evict(NAMESPACE, &kept.name).await.unwrap();
    assert!(!evicted, "the budget keeps the last member");
    seconds(5).await;
    drain.mend(&scene, &before).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    assert_eq!(
        (&members[0].name, &members[0].pod_uid),
        (&kept.name, &kept.pod_uid)
    );
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    scene.ensure_well(&before, &members).await.unwrap();
}
