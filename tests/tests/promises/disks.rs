//! The disk of one member fails while its node is well: I/O errors, syncs that fail and lose what they were to make durable,
//! syncs that are late, reads that fail. Every frame is there, what was sealed is as it was, and the pair is whole again by
//! itself; a primary whose disk takes no frames hands over and says so.

use std::time::Duration;

use anyhow::ensure;
use crds::names;
use e2e::cameras::Options;
use e2e::cluster::{RETURN, Scene, Trouble, Whom};
use e2e::wait::until;

use crate::STREAMS;
use crate::faults::bears;

#[tokio::test]
async fn a_disk_that_fails_loses_no_frame() {
    use Trouble::{FailDisk, FailReads, FailSyncs, StallDisk};
    use Whom::{Primary, Standby};
    let scene = Scene::on_faulty_disks(Options::test_bed(STREAMS)).await.unwrap();
    // A primary whose disk takes nothing has a test of its own.
    let troubles = [
        FailSyncs(Primary),
        StallDisk(Primary),
        FailReads(Primary),
        FailDisk(Standby),
    ];
    bears(&scene, &troubles).await;
}

#[tokio::test]
async fn a_primary_whose_disk_fails_hands_over_and_says_so() {
    let scene = Scene::on_faulty_disks(Options::test_bed(STREAMS)).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    let (trouble, claim) = (
        Trouble::FailDisk(Whom::Primary),
        names::claim(&before.primary.name),
    );
    let fault = trouble.strike(&scene, &before).await.unwrap();
    let outcome = scene.failed_over(fault, &before).await.unwrap();
    println!("  handed over after {} ms", outcome.serving_after_ms());
    until("the pair says so", Duration::from_secs(20), async || {
        let (status, _, message) = scene.pair.condition("Degraded").await?;
        let told = status == "True" && message.contains(&claim) && message.contains("replace the volume");
        ensure!(told, "Degraded {status}: {message}");
        Ok(Some(()))
    })
    .await
    .unwrap();
    trouble.mend(&scene, &before).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    scene.ready(RETURN).await.unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    for member in &members {
        scene.ensure_kept(&before, &member.api).await.unwrap();
    }
}
