//! Cameras that allow one session, and a standby without one: a killed primary costs a hole, which is known, and nothing else.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::member::StreamState;
use e2e::cameras::{Options, Refuses};
use e2e::cluster::{Before, MemberView, Phases, RETURN, Scene};
use e2e::judge::ensure_one_hole;
use e2e::wait::until;

use crate::{STREAMS, seconds};

/// The longest hole that is borne, in frames: 10 s on a busy machine.
const MOST: u64 = 250;

/// Waits until the first member receives every stream and the other one none, because it need not.
async fn rests(scene: &Scene, [serves, idle]: [&MemberView; 2]) -> Result<()> {
    let who = [(serves, StreamState::Receiving), (idle, StreamState::Idle)];
    until("one receives and the other rests", RETURN, async || {
        for (member, state) in who {
            let view = scene.pair.view(&member.name).await?;
            let report = view.report.context("it does not answer")?;
            ensure!(
                report.streams.iter().all(|stream| stream.state == state),
                "{} is not {state:?}: {:?}",
                member.name,
                report.streams
            );
        }
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn a_cold_standby_loses_a_hole_that_is_known_and_no_other_frame() {
    let options = Options::test_bed(STREAMS).single(Refuses::Setup);
    let scene = Scene::with(options, |spec| {
        spec.other["standby"] = serde_json::json!({"mode": "Cold"});
    })
    .await
    .unwrap();
    let [primary, standby] = scene.settled(RETURN).await.unwrap();
    rests(&scene, [&primary, &standby]).await.unwrap();
    let kill = async |scene: &Scene, before: &Before| {
        until("a standby at rest is no fault", RETURN, async || {
            let (status, _, message) = scene.pair.condition("Degraded").await?;
            ensure!(status == "False", "{message}");
            Ok(Some(()))
        })
        .await?;
        scene.bed.kill_pod(&before.primary.pod()).await
    };
    let mut phases = Phases::start();
    let struck = scene.struck(Duration::from_secs(10), &mut phases, kill);
    let (_, before, outcome) = struck.await.unwrap();
    println!("another epoch is served after {} ms", outcome.serving_after_ms());
    seconds(10).await;
    let members = scene.settled(RETURN).await.unwrap();
    assert_eq!(
        members[0].name, before.standby.name,
        "nobody asked for another failover"
    );
    rests(&scene, [&members[0], &members[1]]).await.unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    for found in &verdict.streams {
        let hole = ensure_one_hole(&scene.cameras, found, before.start, &members[0].api, MOST);
        let frames = hole.await.unwrap();
        println!("Cold: {} has a hole of {} ms", found.stream, frames * 40);
    }
    scene.ensure_well(&before, &members).await.unwrap();
}
