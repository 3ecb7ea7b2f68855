//! Watches that hurry reconciles. They see metadata only, except that pods are kept whole for the observers.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crds::{RecorderPair, names};
use futures::channel::mpsc;
use futures::{SinkExt as _, Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::Api;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{Store, reflector, store};
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::observer::PairRef;
use crate::synced::Synced;

/// A pair, perhaps one that cannot be read.
pub type Pair = DeserializeGuard<RecorderPair>;

/// Where to watch and whom to tell.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Watches {
    /// The client.
    pub client: Client,
    /// The only namespace, or all.
    pub namespace: Option<String>,
    /// Asks for a reconcile.
    pub triggers: mpsc::Sender<PairRef>,
    /// Which of them have synced.
    pub synced: Synced,
}

impl Watches {
    /// An API for what is watched.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Watches the pairs: the stream that triggers the controller, and its store.
    pub fn pairs(
        &self,
    ) -> (
        impl Stream<Item = watcher::Result<Pair>> + Send + use<>,
        Store<Pair>,
    ) {
        let (pairs, writer) = store();
        let watched = self.synced.count(watcher(self.api::<Pair>(), Config::default()));
        let touched = reflector(writer, watched).default_backoff();
        (asked_for(touched), pairs)
    }

    /// Watches everything that the operator makes, and the pods whole: those are in the store.
    pub fn start(&self, tasks: &mut JoinSet<&'static str>) -> Store<Pod> {
        self.start_one::<PersistentVolumeClaim>(tasks);
        self.start_one::<Service>(tasks);
        self.start_one::<ServiceAccount>(tasks);
        self.start_one::<EndpointSlice>(tasks);
        self.start_one::<PodDisruptionBudget>(tasks);
        self.start_one::<Role>(tasks);
        self.start_one::<RoleBinding>(tasks);
        let (pods, writer) = store();
        let watched = self.synced.count(watcher(self.api::<Pod>(), ours()));
        let stream = reflector(writer, watched).default_backoff();
        tasks.spawn(
            self.clone()
                .trigger(stream, |pod: Pod| by_label(&pod).into_iter().collect()),
        );
        pods
    }

    fn start_one<K>(&self, tasks: &mut JoinSet<&'static str>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let watched = watcher(self.api::<PartialObjectMeta<K>>(), ours());
        let stream = self.synced.count(watched).default_backoff();
        tasks.spawn(
            self.clone()
                .trigger(stream, |object| by_label(&object).into_iter().collect()),
        );
    }

    /// Watches all Secrets, without what is in them: those of the cameras belong to users.
    pub fn start_secrets(&self, tasks: &mut JoinSet<&'static str>, pairs: Store<Pair>) {
        let watched = watcher(self.api::<PartialObjectMeta<Secret>>(), Config::default());
        let stream = self.synced.count(watched).default_backoff();
        let interested =
            move |secret| by_label(&secret).map_or_else(|| by_reference(&secret, &pairs), |pair| vec![pair]);
        tasks.spawn(self.clone().trigger(stream, interested));
    }

    async fn trigger<K: Send + 'static>(
        mut self,
        stream: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send,
        pairs: impl Fn(K) -> Vec<PairRef> + Send,
    ) -> &'static str {
        let mut stream = std::pin::pin!(
            stream.inspect_err(|error| tracing::warn!(%error, "a watch failed; it is tried again"))
        );
        let mut begun = false;
        while let Some(event) = stream.next().await {
            let object = match event {
                Ok(Event::Apply(object) | Event::Delete(object)) => object,
                // It may have changed while there was no watch.
                Ok(Event::InitApply(object)) if begun => object,
                // What is there at the start is reconciled anyhow.
                Ok(Event::InitDone) => {
                    begun = true;
                    continue;
                }
                _ => continue,
            };
            for pair in pairs(object) {
                if self.triggers.send(pair).await.is_err() {
                    return "the controller is gone";
                }
            }
        }
        "a watch ended"
    }
}

/// The pairs of which a user asked something new, or that are going, or whose status lost the epoch: somebody wiped it. Any other status is
/// the operator's and nothing to reconcile: one that tells of a failure would end the wait after it at once. After a new list all are looked
/// at: what happened before it to what they have, no watch told.
fn asked_for(
    seen: impl Stream<Item = watcher::Result<Event<Pair>>> + Send,
) -> impl Stream<Item = watcher::Result<Pair>> + Send {
    let lists = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&lists);
    let touched = seen.inspect_ok(move |event| {
        if matches!(event, Event::Init) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let metadata = predicates::labels.combine(predicates::annotations);
    let asked = predicates::generation.combine(metadata);
    let rare = is_going.combine(epoch);
    let list = move |_: &Pair| Some(lists.load(Ordering::Relaxed));
    touched
        .touched_objects()
        .predicate_filter(asked.combine(rare).combine(list), PredicateConfig::default())
}

fn is_going(pair: &Pair) -> Option<u64> {
    pair.meta().deletion_timestamp.as_ref().map(|_| 1)
}

fn epoch(pair: &Pair) -> Option<u64> {
    let status = pair.0.as_ref().ok()?.status.as_ref()?;
    status.highest_epoch.and_then(|epoch| epoch.try_into().ok())
}

fn ours() -> Config {
    Config::default().labels(&format!("{}={}", names::LABEL_MANAGED_BY, names::MANAGER))
}

fn by_label(object: &impl ResourceExt) -> Option<PairRef> {
    let pair = object.labels().get(names::LABEL_PAIR)?;
    Some(PairRef::new(pair).within(&object.namespace()?))
}

/// The pairs with a stream whose credentials are there.
fn by_reference(secret: &impl ResourceExt, pairs: &Store<Pair>) -> Vec<PairRef> {
    let (name, namespace) = (secret.name_any(), secret.namespace());
    let names = |pair: &RecorderPair| {
        let mut credentials = pair
            .spec
            .streams
            .iter()
            .filter_map(|stream| stream.credentials.as_ref());
        credentials.any(|credentials| credentials.secret_name == name)
    };
    let concerned = pairs
        .state()
        .into_iter()
        .filter(|pair| pair.namespace() == namespace && pair.0.as_ref().is_ok_and(names));
    concerned.map(|pair| PairRef::from_obj(&*pair)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::{asked, merge};

    #[tokio::test]
    async fn only_what_a_user_asks_for_hurries_a_reconcile() {
        let status = json!({ "status": { "primary": "front-1" }, "metadata": { "resourceVersion": "9" } });
        let wiped = json!({ "status": null });
        let cases = [
            ("nothing", json!({}), false),
            ("a status that the operator wrote", status, false),
            ("a status that somebody wiped", wiped, true),
            ("another spec", json!({ "metadata": { "generation": 4 } }), true),
            (
                "a switchover",
                json!({ "metadata": { "annotations": { names::ANNOTATION_SWITCHOVER: "front-1" } } }),
                true,
            ),
            (
                "a label",
                json!({ "metadata": { "labels": { "app": "shop" } } }),
                true,
            ),
            (
                "its end",
                json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
                true,
            ),
            (
                "another pair of that name",
                json!({ "metadata": { "uid": "uid-of-the-next" } }),
                true,
            ),
        ];
        for (what, change, hurries) in cases {
            let mut before = asked(&json!({}));
            merge(&mut before, &json!({ "status": { "highestEpoch": 7 } }));
            let mut after = before.clone();
            merge(&mut after, &change);
            assert_eq!(
                heard([Seen::Pair(before), Seen::Pair(after)]).await,
                1 + usize::from(hurries),
                "{what}"
            );
        }
    }

    enum Seen {
        Pair(Value),
        List,
    }

    /// How many pairs are heard of what a watch sees.
    async fn heard(seen: impl IntoIterator<Item = Seen>) -> usize {
        let event = |seen| match seen {
            Seen::Pair(pair) => Event::Apply(serde_json::from_value::<Pair>(pair).unwrap()),
            Seen::List => Event::Init,
        };
        let seen: Vec<_> = seen.into_iter().map(|seen| Ok(event(seen))).collect();
        asked_for(futures::stream::iter(seen)).count().await
    }

    #[tokio::test]
    async fn after_a_new_list_every_pair_is_looked_at() {
        let pair = || Seen::Pair(asked(&json!({})));
        assert_eq!(heard([Seen::List, pair(), pair()]).await, 1);
        assert_eq!(heard([Seen::List, pair(), Seen::List, pair(), pair()]).await, 2);
    }
}
