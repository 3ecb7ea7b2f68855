//! `make demo`: cuts the power of the primary's node on a real cluster, and counts every frame. Leaves the cluster, the cameras
//! and the pair running, so that one can look around.

use std::time::Duration;

use anyhow::{Context, Result};
use crds::names;
use e2e::cameras::{Cameras, Options};
use e2e::cluster::{NAMESPACE, PAIR, Report, SYSTEM, Scene, cache, demo_cameras, stage};
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

const STREAMS: usize = 4;

#[tokio::main]
async fn main() -> Result<()> {
    println!("Gapless: a pair of recorders, {STREAMS} cameras, three nodes, and a power cut.\n");
    let (bed, kube, kubeconfig) = stage().await?;
    println!("  the cluster is up, and Helm has installed the operator in namespace {SYSTEM}");
    let cameras = Cameras::start_detached(Options::test_bed(STREAMS), &demo_cameras()).await?;
    println!("  {STREAMS} cameras play: {} and so on", cameras.url(0));
    let scene = Scene::play(bed, kube, kubeconfig, cameras, |_| {}).await?;
    let [primary, standby] = scene.settled(Duration::from_mins(1)).await?;
    println!(
        "  RecorderPair {NAMESPACE}/{PAIR} records: {} is primary on {}, {} is standby on {}\n",
        primary.name, primary.node, standby.name, standby.node
    );
    let report = scene
        .fail_over(
            async |scene, before| {
                println!(
                    "\n  *** the power of {} is cut, where {} is primary ***\n",
                    before.primary.node, before.primary.name
                );
                scene.bed.power_off(&before.primary.node).await
            },
            async |scene, before| scene.bed.power_on(&before.primary.node).await,
        )
        .await?;
    last_screen(&scene, &report).await
}

async fn last_screen(scene: &Scene, report: &Report) -> Result<()> {
    let Report {
        before,
        outcome,
        members,
        verdict,
        phases,
    } = report;
    let primary = &members[0];
    let service: Service = scene
        .kube
        .get(NAMESPACE, &names::primary_service(PAIR))
        .await?
        .context("no Service for the primary")?;
    let address = service
        .spec
        .and_then(|spec| spec.cluster_ip)
        .context("a Service without address")?;
    let stream = &scene.watched[0].stream;
    let until = e2e::wait::now_ms();
    let mut url = primary
        .api
        .playlist_url(stream, before.start.at_ms, Some(until))?;
    url.set_host(Some(&address))?;
    let suspected = outcome.suspected_after_ms();
    let kept = scene.ensure_kept(before, &primary.api).await.is_ok();

    println!("{:-<100}", "");
    println!(
        "The node of {} lost its power. What happened, from that moment on:\n",
        before.primary.name
    );
    println!(
        "  {:>6} ms  {} suspects {}, and writes what it received and does not have from it",
        suspected.map_or("?".to_owned(), |ms| ms.to_string()),
        before.standby.name,
        before.primary.name
    );
    println!(
        "  {:>6} ms  {} holds the Lease: epoch {} follows {}",
        outcome.served.taken_ms.saturating_sub(outcome.fault.at_ms()),
        before.standby.name,
        outcome.served.epoch,
        before.epoch
    );
    println!(
        "  {:>6} ms  the Service {} leads to it\n",
        outcome.serving_after_ms(),
        names::primary_service(PAIR)
    );
    println!("How long each phase of this demo took:\n\n{phases}");
    println!("Every frame that the cameras sent, looked for in the recording of both members:\n\n{verdict}");
    println!(
        "  {} sealed segments from before were read back from {}: each has the hash it had\n",
        before.sealed.len(),
        primary.name
    );
    println!("Play it, over the seam:\n\n  ffplay '{url}'\n");
    println!(
        "Look around:\n\n  eval \"$({} env)\"\n  kubectl --namespace {NAMESPACE} get rp\n  kubectl --namespace {NAMESPACE} describe rp {PAIR}\n",
        cache().join("bin/testbed").display()
    );
    println!("The cluster, the cameras and the pair go on. Stop all of it:  make cluster-down");
    println!("{:-<100}", "");
    let result = json!({
        "frames_expected": verdict.expected(),
        "frames_missing": verdict.missing(),
        "frames_doubled": verdict.doubled(),
        "epoch_before": before.epoch,
        "epoch_after": outcome.served.epoch,
        "suspected_ms": suspected,
        "serving_ms": outcome.serving_after_ms(),
        "media_before_verified": kept,
        "playback_url": url.as_str(),
    });
    println!("result: {result}");
    Ok(())
}
