//! The preferred member loses its power: the standby takes, and authority goes back by itself once the node is back, both have
//! all media, and nothing happened for a while. No frame is missing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cameras::Options;
use e2e::cluster::{MemberView, NAMESPACE, PAIR, RETURN, Scene};
use e2e::wait::until;
use serde_json::json;

use crate::STREAMS;

/// Shorter than a user would take it.
const CALM: Duration = Duration::from_secs(15);

/// Primary and standby, once the preferred member serves and all is well.
async fn home(scene: &Scene, limit: Duration) -> Result<[MemberView; 2]> {
    until("the preferred member serves again", limit, async || {
        let members = scene.pair.well(STREAMS).await?;
        ensure!(
            members[0].name == crds::names::members(PAIR)[0],
            "{} serves",
            members[0].name
        );
        Ok(Some(members))
    })
    .await
}

#[tokio::test]
async fn authority_goes_back_to_the_preferred_member() {
    let preferred = crds::names::members(PAIR)[0].clone();
    let scene = Scene::with(Options::test_bed(STREAMS), |spec| {
        spec.other["preferredPrimary"] = json!(preferred);
        spec.other["failover"] = json!({"failbackAfter": format!("{}s", CALM.as_secs())});
    })
    .await
    .unwrap();
    // Whoever came first: it is the preferred one's now, or soon.
    home(&scene, RETURN + CALM).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    assert_eq!(before.primary.name, preferred);

    let fault = scene.bed.power_off(&before.primary.node).await.unwrap();
    let outcome = scene.failed_over(fault, &before).await.unwrap();
    println!("  power cut, serving after {} ms", outcome.serving_after_ms());
    scene.bed.power_on(&before.primary.node).await.unwrap();

    let back = scene
        .watcher
        .served(outcome.served.epoch, RETURN + CALM)
        .await
        .unwrap();
    let away = Duration::from_millis(back.serving_ms.saturating_sub(outcome.served.serving_ms));
    println!("  authority went back after {:.1} s", away.as_secs_f64());
    assert!(
        away >= CALM,
        "it went back after {away:?}, before {CALM:?} of calm"
    );
    let members = home(&scene, RETURN).await.unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    scene.ensure_well(&before, &members).await.unwrap();

    let told = until("the failback is told", RETURN, async || {
        let (events, failovers) = (
            scene.kube.events(NAMESPACE, PAIR).await?,
            scene.pair.status().await?.failovers,
        );
        let mut failovers = failovers.iter();
        let told = failovers.find(|told| told.epoch.cast_unsigned() == back.epoch);
        let told = told.context("the status does not tell of it")?;
        let epoch = format!(" epoch {} ", back.epoch);
        let event = |event: &String| event.starts_with("FailedBack:") && event.contains(&epoch);
        ensure!(events.iter().any(event), "{events:?}");
        Ok(Some((told.member.clone(), told.why.clone())))
    })
    .await
    .unwrap();
    assert_eq!(told, (preferred, "Failback".to_owned()));
    // It stays there.
    let epoch = scene.pair.epoch().await.unwrap();
    tokio::time::sleep(2 * CALM).await;
    assert_eq!(
        scene.pair.epoch().await.unwrap(),
        epoch,
        "authority went to and fro"
    );
}
