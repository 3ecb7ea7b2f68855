//! Helm: the charts are valid, an upgrade interrupts nothing, and an uninstall leaves pairs, pods and media.

use std::time::Duration;

use anyhow::{Context, Result};
use crds::RecorderPair;
use e2e::cluster::{NAMESPACE, OPERATOR, PAIR, RETURN, SYSTEM, Scene, chart_folder, helm, install};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::{STREAMS, seconds};

#[tokio::test]
async fn an_uninstall_leaves_pairs_pods_and_media() {
    let scene = Scene::start(STREAMS).await.unwrap();
    for chart in ["gapless-crds", "gapless"] {
        let chart = chart_folder(chart);
        helm(&scene.kubeconfig, &["lint", "--strict", &chart])
            .await
            .unwrap();
    }
    let misspelt = helm(
        &scene.kubeconfig,
        &[
            "upgrade",
            "gapless",
            &chart_folder("gapless"),
            "--set=imagee.tag=x",
            "--dry-run=server",
        ],
    )
    .await;
    assert!(
        misspelt.unwrap_err().to_string().contains("imagee"),
        "an unknown value is refused"
    );

    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    helm(&scene.kubeconfig, &["uninstall", "gapless", "--wait"])
        .await
        .unwrap();
    helm(&scene.kubeconfig, &["uninstall", "gapless-crds", "--wait"])
        .await
        .unwrap();
    assert!(
        scene
            .kube
            .get::<Deployment>(SYSTEM, OPERATOR)
            .await
            .unwrap()
            .is_none()
    );
    seconds(5).await;
    assert!(
        scene
            .kube
            .get::<RecorderPair>(NAMESPACE, PAIR)
            .await
            .unwrap()
            .is_some()
    );
    for member in crds::names::members(PAIR) {
        assert!(scene.kube.get::<Pod>(NAMESPACE, &member).await.unwrap().is_some());
        let claim = crds::names::claim(&member);
        assert!(
            scene
                .kube
                .get::<PersistentVolumeClaim>(NAMESPACE, &claim)
                .await
                .unwrap()
                .is_some()
        );
    }
    install(&scene.kubeconfig).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    assert_eq!(members[0].name, before.primary.name);
    let pods = |views: &[e2e::cluster::MemberView]| -> Vec<_> {
        let mut pods: Vec<_> = views
            .iter()
            .map(|view| (view.pod_uid.clone(), view.restarts))
            .collect();
        pods.sort();
        pods
    };
    assert_eq!(
        pods(&members),
        pods(&[before.primary.clone(), before.standby.clone()])
    );
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
}

/// What an older release did not have yet.
const NEW: &str = "converged";

/// Whether the API server knows the new property of a failover.
async fn knows_the_new_property(scene: &Scene) -> Result<bool> {
    let name = "recorderpairs.gapless.video";
    let definition: CustomResourceDefinition = scene.kube.get_global(name).await?.context("no definition")?;
    let text = serde_json::to_string(&definition.spec)?;
    Ok(text.contains(&format!("\"{NEW}\":")))
}

#[tokio::test]
async fn an_upgrade_of_the_chart_upgrades_the_definition() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    let older = tempfile::tempdir().unwrap();
    let (chart, folder) = (chart_folder("gapless-crds"), older.path().join("templates"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(format!("{chart}/Chart.yaml"), older.path().join("Chart.yaml")).unwrap();
    let text = std::fs::read_to_string(format!("{chart}/templates/recorderpair.yaml")).unwrap();
    let without = text.replace(&format!("{NEW}:"), "endedOnce:");
    assert_ne!(text, without, "the older definition lacks something");
    std::fs::write(folder.join("recorderpair.yaml"), without).unwrap();
    let older = older.path().display().to_string();
    helm(&scene.kubeconfig, &["upgrade", "gapless-crds", &older, "--wait"])
        .await
        .unwrap();
    assert!(!knows_the_new_property(&scene).await.unwrap());
    install(&scene.kubeconfig).await.unwrap();
    assert!(knows_the_new_property(&scene).await.unwrap());
    let members = scene.settled(RETURN).await.unwrap();
    assert_eq!(
        members[0].pod_uid, before.primary.pod_uid,
        "nothing was made anew"
    );
    let verdict = scene.judge(before.start, &members).await.unwrap();
    verdict.ensure_perfect().unwrap();
}
