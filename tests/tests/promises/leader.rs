//! The operator that leads is lost: the other one takes over and carries out what is asked for. No recorder is touched.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::names;
use e2e::cluster::{Before, MemberView, NAMESPACE, OperatorView, PAIR, RETURN, Scene, Trouble};
use e2e::wait::until;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::task::JoinHandle;

use crate::STREAMS;

/// Six seconds without a renewal, and what a busy machine adds.
const LEADS: Duration = Duration::from_secs(20);

/// Waits for another leader than this one.
async fn successor(scene: &Scene, old: &OperatorView) -> Result<OperatorView> {
    until("another operator leads", LEADS, async || {
        let leader = OperatorView::leader(&scene.kube).await?;
        ensure!(leader.holder != old.holder, "{} leads", leader.holder);
        Ok(Some(leader))
    })
    .await
}

/// Asks for a switchover to the standby and waits until it serves.
async fn switch_over(scene: &Scene, before: &Before) -> Result<u64> {
    let asked = Trouble::Switchover.strike(scene, before).await?;
    let outcome = scene.failed_over(asked, before).await?;
    Ok(outcome.serving_after_ms())
}

fn ensure_untouched(before: &Before, after: &[MemberView; 2]) -> Result<()> {
    for old in [&before.primary, &before.standby] {
        let new = after.iter().find(|view| view.name == old.name);
        let new = new.with_context(|| format!("no {}", old.name))?;
        ensure!(
            (&new.pod_uid, new.restarts) == (&old.pod_uid, old.restarts),
            "{} was started again",
            old.name
        );
    }
    Ok(())
}

/// Since when the pair is Ready.
async fn ready_since(scene: &Scene) -> Result<String> {
    let conditions = scene.pair.status().await?.conditions;
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready");
    let ready = ready.context("no condition Ready")?;
    ensure!(ready.status == "True", "{}: {}", ready.reason, ready.message);
    Ok(ready.last_transition_time.0.to_string())
}

/// Waits until an operator has judged the pair by what the members told it.
async fn looked(operator: &OperatorView) -> Result<()> {
    until("the new leader has looked at the pair", LEADS, async || {
        let reconciles = operator.metric("gapless_operator_reconciles_total").await?;
        // The first one begins to ask the members.
        Ok((reconciles >= 2.0).then_some(()))
    })
    .await
}

/// Ends when viewers are led to nobody.
fn led_to_nobody(scene: &Scene) -> JoinHandle<()> {
    let kube = scene.kube.clone();
    tokio::spawn(async move {
        loop {
            let slice = kube
                .get::<EndpointSlice>(NAMESPACE, &names::read_service(PAIR))
                .await;
            let endpoints = slice
                .ok()
                .flatten()
                .map(|slice| slice.endpoints.unwrap_or_default());
            if endpoints.is_some_and(|endpoints| endpoints.is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

/// What is asked for while the leader is lost is done by the next one, and nothing else happens to the pair.
async fn lose_the_leader(scene: &Scene, strike: impl AsyncFnOnce(&OperatorView) -> Result<()>) -> Result<()> {
    let before = scene.record(Duration::from_secs(5)).await?;
    let leader = OperatorView::leads(&scene.kube, LEADS).await?;
    let since = ready_since(scene).await?;
    let led_to_nobody = led_to_nobody(scene);
    strike(&leader).await?;
    let next = successor(scene, &leader).await?;
    println!("  {} led, {} leads", leader.holder, next.holder);
    ensure!(
        scene.pair.epoch().await? == before.epoch,
        "the lead of the operators moved, and with it the primary"
    );
    looked(&next).await?;
    ensure!(
        ready_since(scene).await? == since,
        "the pair was not Ready for a while"
    );
    ensure!(
        !led_to_nobody.is_finished(),
        "viewers were led to nobody for a while"
    );
    led_to_nobody.abort();
    let took = switch_over(scene, &before).await?;
    println!("  switchover by the new leader: {took} ms");
    let members = scene.settled(RETURN).await?;
    ensure!(
        members[0].name == before.standby.name,
        "{} serves",
        members[0].name
    );
    ensure_untouched(&before, &members)?;
    scene.ensure_well(&before, &members).await?;
    let verdict = scene.judge(before.start, &members).await?;
    println!("{verdict}");
    verdict.ensure_perfect()
}

#[tokio::test]
async fn a_killed_leader_is_followed_by_the_other_operator() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let kill = async |leader: &OperatorView| scene.bed.kill_pod(&leader.pod()).await.map(drop);
    lose_the_leader(&scene, kill).await.unwrap();
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let delete = async |leader: &OperatorView| {
        let asked = std::time::Instant::now();
        scene
            .kube
            .delete::<k8s_openapi::api::core::v1::Pod>(e2e::cluster::SYSTEM, &leader.pod)
            .await?;
        successor(&scene, leader).await?;
        println!("  another leads after {} ms", asked.elapsed().as_millis());
        Ok(())
    };
    lose_the_leader(&scene, delete).await.unwrap();
}

#[tokio::test]
async fn a_leader_whose_link_to_the_api_server_is_cut_gives_up() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let leader = OperatorView::leads(&scene.kube, LEADS).await.unwrap();
    let cut = async |leader: &OperatorView| scene.bed.cut(&leader.node, "api").await.map(drop);
    cut(&leader).await.unwrap();
    let next = successor(&scene, &leader).await.unwrap();
    scene.bed.mend_link(&leader.node, "api").await.unwrap();
    assert_ne!(next.node, leader.node, "two operators share a node");
    scene.settled(RETURN).await.unwrap();
}
