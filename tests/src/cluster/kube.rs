//! The cluster's API: plain objects as JSON, and the few types that tests look into.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crds::RecorderPair;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret,
};
use kube::api::{Api, DeleteParams, DynamicObject, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Client, Config, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::wait::until;

const MANAGER: &str = "gapless-e2e";
/// An eviction that is not granted within this is refused.
const REFUSED: Duration = Duration::from_secs(5);

/// A client of the cluster.
#[derive(Clone)]
pub struct Kube {
    client: Client,
    /// Without an end of patience: a watch is silent as long as nothing changes.
    watching: Client,
}

impl Kube {
    /// Connects with a kubeconfig.
    pub async fn connect(kubeconfig: &Path) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = Kubeconfig::read_from(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(Duration::from_secs(20));
        let client = Client::try_from(config.clone())?;
        config.read_timeout = None;
        let watching = Client::try_from(config)?;
        Ok(Self { client, watching })
    }

    /// Objects of a kind in a namespace, to be watched.
    pub fn watched<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.watching.clone(), namespace)
    }

    /// All objects of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// One object.
    pub async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        Ok(self.api::<K>(namespace).get_opt(name).await?)
    }

    /// One object that is in no namespace.
    pub async fn get_global<K>(&self, name: &str) -> Result<Option<K>>
    where
        K: Resource<Scope = k8s_openapi::ClusterResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        Ok(Api::<K>::all(self.client.clone()).get_opt(name).await?)
    }

    /// A pair, which has to be there.
    pub async fn pair(&self, namespace: &str, name: &str) -> Result<RecorderPair> {
        self.get(namespace, name)
            .await?
            .with_context(|| format!("no RecorderPair {name}"))
    }

    /// A pod, if it is there.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>> {
        self.get(namespace, name).await
    }

    /// One value of a Secret.
    pub async fn secret(&self, namespace: &str, name: &str, key: &str) -> Result<Vec<u8>> {
        let secret: Secret = self
            .get(namespace, name)
            .await?
            .with_context(|| format!("no Secret {name}"))?;
        let value = secret.data.unwrap_or_default().remove(key);
        Ok(value.with_context(|| format!("no {key} in Secret {name}"))?.0)
    }

    /// The epoch that a Lease says.
    pub async fn epoch(&self, namespace: &str, lease: &str) -> Result<u64> {
        let lease: Lease = self.get(namespace, lease).await?.context("no Lease")?;
        let annotations = lease.metadata.annotations.unwrap_or_default();
        let text = annotations
            .get(crds::names::ANNOTATION_EPOCH)
            .context("a Lease without epoch")?;
        Ok(text.parse()?)
    }

    /// The PersistentVolume that a claim is bound to.
    pub async fn volume_of(&self, namespace: &str, claim: &str) -> Result<String> {
        let claim: PersistentVolumeClaim = self.get(namespace, claim).await?.context("no claim")?;
        claim
            .spec
            .and_then(|spec| spec.volume_name)
            .context("a claim without a volume")
    }

    /// Waits until no PersistentVolume is bound to a claim that is gone: the cluster tells that of a volume a moment later.
    pub async fn released(&self, namespace: &str, claim: &str, limit: Duration) -> Result<()> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        until(&format!("the volume of {claim} is released"), limit, async || {
            for volume in volumes.list(&ListParams::default()).await? {
                let of = volume.spec.and_then(|spec| spec.claim_ref).unwrap_or_default();
                let of = (of.namespace.as_deref(), of.name.as_deref());
                let phase = volume.status.and_then(|status| status.phase);
                let bound = of == (Some(namespace), Some(claim)) && phase.as_deref() == Some("Bound");
                ensure!(!bound, "{:?} is bound", volume.metadata.name);
            }
            Ok(Some(()))
        })
        .await
    }

    /// All events about an object, as `Reason: message`.
    pub async fn events(&self, namespace: &str, name: &str) -> Result<Vec<String>> {
        let params = ListParams::default().fields(&format!("involvedObject.name={name}"));
        let events = self.api::<Event>(namespace).list(&params).await?;
        let text = |event: Event| {
            format!(
                "{}: {}",
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            )
        };
        Ok(events.into_iter().map(text).collect())
    }

    /// Applies an object of any kind, on the server's side.
    pub async fn apply(&self, object: &Value) -> Result<()> {
        let (api, name) = self.dynamic(object)?;
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(object)).await?;
        Ok(())
    }

    /// The API server's refusal of an object; fails if it is accepted. Nothing is stored.
    pub async fn refusal(&self, object: &Value) -> Result<String> {
        let (api, name) = self.dynamic(object)?;
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match api
            .create(&params, &serde_json::from_value(object.clone())?)
            .await
        {
            Ok(_) => bail!("{name} was accepted"),
            Err(kube::Error::Api(status)) => Ok(status.message.clone()),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes parts of an object (RFC 7386).
    pub async fn merge<K>(&self, namespace: &str, name: &str, change: &Value) -> Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        self.api::<K>(namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(change))
            .await?;
        Ok(())
    }

    /// Makes the status of an object empty.
    pub async fn wipe_status<K>(&self, namespace: &str, name: &str) -> Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let wiped = Patch::Merge(json!({"status": null}));
        self.api::<K>(namespace)
            .patch_status(name, &PatchParams::default(), &wiped)
            .await?;
        Ok(())
    }

    /// Deletes an object if it is there; does not wait.
    pub async fn delete<K>(&self, namespace: &str, name: &str) -> Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        match self
            .api::<K>(namespace)
            .delete(name, &DeleteParams::default())
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets no new pod run on a node.
    pub async fn cordon(&self, node: &str) -> Result<()> {
        Api::<Node>::all(self.client.clone()).cordon(node).await?;
        Ok(())
    }

    /// Lets pods run on every node.
    pub async fn uncordon_all(&self) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        for node in nodes.list(&ListParams::default()).await? {
            let cordoned = node.spec.and_then(|spec| spec.unschedulable) == Some(true);
            if let (true, Some(name)) = (cordoned, node.metadata.name) {
                nodes.uncordon(&name).await?;
            }
        }
        Ok(())
    }

    /// Deletes a namespace with all that is in it, and waits until it is gone.
    pub async fn delete_namespace(&self, name: &str, limit: Duration) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(name, &DeleteParams::default()).await?;
        until(&format!("namespace {name} is gone"), limit, async || {
            Ok(namespaces.get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    /// Means a volume for a claim of this name that there is not yet, whatever claim it was of.
    pub async fn mean_for(&self, volume: &str, namespace: &str, claim: &str) -> Result<()> {
        let of = json!({"namespace": namespace, "name": claim, "uid": null, "resourceVersion": null});
        let change = json!({"spec": {"claimRef": of}});
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        volumes
            .patch(volume, &PatchParams::default(), &Patch::Merge(&change))
            .await?;
        Ok(())
    }

    /// Evicts a pod, as a drain does. False where a PodDisruptionBudget refuses it.
    pub async fn evict(&self, namespace: &str, pod: &str) -> Result<bool> {
        let pods: Api<Pod> = self.api(namespace);
        let params = EvictParams::default();
        // The client asks again for as long as the budget says "later".
        match tokio::time::timeout(REFUSED, pods.evict(pod, &params)).await {
            Ok(evicted) => Ok(evicted.map(|_| true)?),
            Err(_) => Ok(false),
        }
    }

    /// Waits until an object is gone.
    pub async fn gone<K>(&self, namespace: &str, name: &str, limit: Duration) -> Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        until(&format!("{name} is gone"), limit, async || {
            Ok(self.get::<K>(namespace, name).await?.is_none().then_some(()))
        })
        .await
    }

    /// What a container has logged.
    pub async fn logs(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        let params = kube::api::LogParams {
            container: Some(container.to_owned()),
            ..kube::api::LogParams::default()
        };
        Ok(self.api::<Pod>(namespace).logs(pod, &params).await?)
    }

    /// The names of all objects of a kind.
    pub async fn names_of<K>(&self, namespace: &str) -> Result<Vec<String>>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let all = self.api::<K>(namespace).list(&ListParams::default()).await?;
        Ok(all
            .into_iter()
            .filter_map(|object| object.meta().name.clone())
            .collect())
    }

    /// Sets how many pods a Deployment has.
    pub async fn scale(&self, namespace: &str, deployment: &str, replicas: u32) -> Result<()> {
        use k8s_openapi::api::apps::v1::Deployment;
        self.merge::<Deployment>(namespace, deployment, &json!({"spec": {"replicas": replicas}}))
            .await?;
        until(
            &format!("{deployment} has {replicas} pods"),
            Duration::from_mins(2),
            async || {
                let found: Deployment = self.get(namespace, deployment).await?.context("no Deployment")?;
                let status = found.status.unwrap_or_default();
                let (ready, all) = (
                    status.available_replicas.unwrap_or(0),
                    status.replicas.unwrap_or(0),
                );
                ensure!(
                    ready == replicas.cast_signed() && all == ready,
                    "{ready} of {all} are ready"
                );
                Ok(Some(()))
            },
        )
        .await
    }

    fn dynamic(&self, object: &Value) -> Result<(Api<DynamicObject>, String)> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let version = text("/apiVersion").context("no apiVersion")?;
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, text("/kind").context("no kind")?);
        let resource = ApiResource::from_gvk(&kind);
        let name = text("/metadata/name").context("no name")?.to_owned();
        let api = match text("/metadata/namespace") {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        Ok((api, name))
    }
}
