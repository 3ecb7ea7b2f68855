//! Without an API server recording, replication, playback and the recording side of a failover go on, and authority stays while the
//! peer answers.

use std::time::{Duration, Instant};

use anyhow::ensure;
use crds::member::Role;
use crds::names;
use e2e::cluster::{Direction, RETURN, Scene, Trouble};
use e2e::wait::until;

use crate::{STREAMS, seconds};

const API: &str = "kube-apiserver";
/// A standby looks each 30 s, and is told of after 15 s; the operator looks each second.
const TOLD: Duration = Duration::from_mins(2);
/// Longer than a false alarm lasts, and than a switchover takes.
const STAYS: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_minute_without_an_api_server_stops_nothing() {
    without_an_api_server(60).await;
}

#[tokio::test]
#[ignore = "ten minutes: make test-long"]
async fn ten_minutes_without_an_api_server_stop_nothing() {
    without_an_api_server(600).await;
}

/// A standby that could not take over is told of before it has to, and a switchover waits until it can.
#[tokio::test]
#[ignore = "two minutes: make test-long"]
async fn a_standby_without_an_api_server_is_told_of_and_given_nothing() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    let standby = &before.standby;
    scene.lead_from(|node| node != standby.node).await.unwrap();
    let began = Instant::now();
    scene
        .bed
        .cut_towards(&standby.node, "api", Direction::Both)
        .await
        .unwrap();
    until("the standby is told of", TOLD, async || {
        let (status, reason, message) = scene.pair.condition("Degraded").await?;
        let told = message.contains(&standby.name) && message.contains("has not reached the API server");
        ensure!(status == "True" && told, "Degraded {status}: {reason}: {message}");
        Ok(Some(()))
    })
    .await
    .unwrap();
    println!("  told of after {:.1} s", began.elapsed().as_secs_f64());

    let asked = Trouble::Switchover.strike(&scene, &before).await.unwrap();
    tokio::time::sleep(STAYS).await;
    assert_eq!(scene.pair.epoch().await.unwrap(), before.epoch, "authority stays");
    let dropped = scene.bed.mend_link(&standby.node, "api").await.unwrap();
    assert!(dropped > 0, "nothing was cut");
    let outcome = scene.failed_over(asked, &before).await.unwrap();
    println!("  serves {} ms after it was asked to", outcome.serving_after_ms());
    let members = scene.settled(RETURN).await.unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    verdict.ensure_perfect().unwrap();
    scene.ensure_well(&before, &members).await.unwrap();
    println!("  {} words of holders", scene.holders.judge().unwrap());
}

/// The API server is gone for so many seconds; in the last third the primary's recorder dies.
async fn without_an_api_server(gone: u64) {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    let operator = scene.pair.operator().await.unwrap();
    let mut addresses = Vec::new();
    for member in [&before.primary, &before.standby] {
        addresses.push(scene.pair.control_address(&member.name).await.unwrap());
    }
    let began = Instant::now();
    scene.bed.control("stop", API).await.unwrap();
    seconds(gone / 3).await;
    for (address, member) in addresses.iter().zip([&before.primary, &before.standby]) {
        // A standby that did not hear the primary for a moment is one again when it does. A primary that lost its authority could not
        // take it again: who has it now had it all the time.
        until("authority stays while the peer answers", STAYS, async || {
            let report = operator.report(address).await?;
            ensure!(
                Some(report.role) == member.role(),
                "{} is {:?}",
                member.name,
                report.role
            );
            // A standby that hears its primary only looks each 30 s.
            let asks = report.role == Role::Primary;
            ensure!(!(asks && report.lease.reachable), "the API server is gone indeed");
            ensure!(
                report.replication.connected && report.replication.lag_ms < 5_000,
                "{report:?}"
            );
            ensure!(report.streams.iter().all(|stream| stream.gaps == 0), "{report:?}");
            Ok(Some(()))
        })
        .await
        .unwrap();
    }
    // What was recorded without it is played by either member, from before to just now.
    let both = [before.primary.clone(), before.standby.clone()];
    scene
        .judge(before.start, &both)
        .await
        .unwrap()
        .ensure_perfect()
        .unwrap();

    // The primary's recorder dies: nobody can take, and both write what comes.
    tokio::time::sleep_until((began + Duration::from_secs(gone * 2 / 3)).into()).await;
    let pod = before.primary.pod();
    scene
        .bed
        .kill_container(&pod, names::CONTAINER_RECORDER)
        .await
        .unwrap();
    until("the recorder is back", RETURN, async || {
        let report = operator.report(&addresses[0]).await?;
        let receives = report
            .streams
            .iter()
            .filter(|stream| stream.last_frame_ms.is_some());
        Ok((report.fit && receives.count() == STREAMS).then_some(()))
    })
    .await
    .unwrap();
    tokio::time::sleep_until((began + Duration::from_secs(gone)).into()).await;
    scene.bed.control("start", API).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    scene.ensure_well(&before, &members).await.unwrap();
    for member in &members {
        let was = both.iter().find(|was| was.name == member.name).unwrap();
        assert_eq!(member.pod_uid, was.pod_uid, "no pod was made anew");
        let killed = i32::from(member.name == before.primary.name);
        // The kubelet tells of a restart some time later.
        assert!(
            member.restarts <= was.restarts + killed,
            "and none was started again"
        );
    }
    assert!(scene.pair.epoch().await.unwrap() >= before.epoch);
    println!("  {} words of holders", scene.holders.judge().unwrap());
}
