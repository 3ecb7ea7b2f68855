//! At rest the operator does nothing but read: no reconciles, no writes. The only write is the primary's renewal. Nobody complains.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{NAMESPACE, OperatorView, RETURN, Scene};
use e2e::wait::until;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::ListParams;

use crate::STREAMS;

/// Longer than the kubelet's probes and its sync of a pod's status are apart.
const SYNC: Duration = Duration::from_secs(12);
const WATCHED_FOR: Duration = Duration::from_secs(20);
/// Until nobody was suspected for a while: a look takes 45 s, and a busy machine may spoil some.
const QUIET: Duration = Duration::from_mins(5);

#[tokio::test]
async fn at_rest_nothing_is_written_but_the_renewal() {
    let scene = Scene::start(STREAMS).await.unwrap();
    scene.settled(RETURN).await.unwrap();
    // The last conditions of a new pair settle.
    until("the pair is ready and reconciled", RETURN, async || {
        let ready = scene.pair.condition("Ready").await?;
        let reconciling = scene.pair.condition("Reconciling").await?;
        let degraded = scene.pair.condition("Degraded").await?;
        for member in crds::names::members("front") {
            ensure_ready(&scene, &member).await?;
        }
        let done =
            (ready.0.as_str(), reconciling.0.as_str(), degraded.0.as_str()) == ("True", "False", "False");
        done.then_some(Some(()))
            .with_context(|| format!("{ready:?} {reconciling:?} {degraded:?}"))
    })
    .await
    .unwrap();
    let Window {
        before,
        after,
        complaints,
    } = until("nobody is suspected for a while", QUIET, async || {
        Window::of(&scene).await
    })
    .await
    .unwrap();
    assert!(complaints.is_empty(), "nothing is wrong, but: {complaints:#?}");
    assert_eq!(before.versions, after.versions, "somebody wrote");
    let reconciles = after.reconciles - before.reconciles;
    assert!(reconciles <= 1.0, "{reconciles} reconciles in {WATCHED_FOR:?}");
    let renewals = after.renewals - before.renewals;
    println!(
        "  in {} s: {reconciles} reconciles, {renewals} renewals",
        WATCHED_FOR.as_secs()
    );
    let most = WATCHED_FOR.as_secs() + WATCHED_FOR.as_secs() / 4;
    assert!((1..=most).contains(&renewals), "{renewals} renewals");
}

/// The kubelet's probes have seen it, too.
async fn ensure_ready(scene: &Scene, member: &str) -> Result<()> {
    let pod = scene.kube.pod(NAMESPACE, member).await?.context("no pod")?;
    let conditions = pod
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let is_ready = conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ensure!(is_ready, "{member} is not ready");
    Ok(())
}

/// What the pair and the operators complain of in their logs.
async fn complaints(scene: &Scene) -> Result<BTreeSet<String>> {
    let told = scene.logs().await?;
    let complains = |line: &&str| line.contains("ERROR") || line.contains("WARN");
    Ok(told.lines().filter(complains).map(str::to_owned).collect())
}

/// A time of rest.
struct Window {
    before: State,
    after: State,
    /// What was complained of meanwhile.
    complaints: Vec<String>,
}

impl Window {
    /// From when nobody writes any more; none where a member was suspected since this began. An alarm is told of and leads viewers
    /// elsewhere, and a false one is no fault.
    async fn of(scene: &Scene) -> Result<Option<Self>> {
        let known = complaints(scene).await?;
        // The kubelet's own last words about new pods come with its next sync.
        until("a new pair comes to rest", RETURN, async || {
            let versions = State::of(scene).await?.versions;
            tokio::time::sleep(SYNC).await;
            Ok((State::of(scene).await?.versions == versions).then_some(()))
        })
        .await?;
        let (before, said) = (State::of(scene).await?, complaints(scene).await?);
        tokio::time::sleep(WATCHED_FOR).await;
        let (after, told) = (State::of(scene).await?, complaints(scene).await?);
        if let Some(alarm) = told.difference(&known).find(|line| line.contains("suspicion")) {
            println!("  no rest: {alarm}");
            return Ok(None);
        }
        Ok(Some(Self {
            before,
            after,
            complaints: told.difference(&said).cloned().collect(),
        }))
    }
}

struct State {
    versions: BTreeMap<String, String>,
    reconciles: f64,
    renewals: u64,
}

impl State {
    async fn of(scene: &Scene) -> Result<Self> {
        let lease: Lease = scene.kube.get(NAMESPACE, "front").await?.context("no Lease")?;
        let counter = lease
            .annotations()
            .get(crds::names::ANNOTATION_COUNTER)
            .context("no counter")?;
        let mut writers = lease
            .managed_fields()
            .iter()
            .filter_map(|entry| entry.manager.as_deref());
        ensure!(
            writers.any(|by| by == "gapless-replicator"),
            "who renews the Lease does not stand in it"
        );
        let pair = scene.kube.pair(NAMESPACE, "front").await?;
        let mut versions = BTreeMap::from([("pair".to_owned(), pair.resource_version().unwrap_or_default())]);
        versions.extend(versions_of::<Pod>(scene).await?);
        versions.extend(versions_of::<Secret>(scene).await?);
        versions.extend(versions_of::<Service>(scene).await?);
        versions.extend(versions_of::<EndpointSlice>(scene).await?);
        Ok(Self {
            versions,
            reconciles: OperatorView::leader(&scene.kube)
                .await?
                .metric("gapless_operator_reconciles_total")
                .await?,
            renewals: counter.parse()?,
        })
    }
}

async fn versions_of<K>(scene: &Scene) -> Result<Vec<(String, String)>>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let all = scene
        .kube
        .api::<K>(NAMESPACE)
        .list(&ListParams::default())
        .await?;
    let version = |object: K| {
        let name = format!("{}/{}", K::kind(&()), object.name_any());
        (name, object.resource_version().unwrap_or_default())
    };
    Ok(all.into_iter().map(version).collect())
}
