//! Sees from outside when a failover happened: watches the Lease and the EndpointSlice of the primary.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::kube::Kube;
use crate::wait::{now_ms, until};

/// Epochs, each with the moment (Unix, milliseconds) at which it was first seen.
type Seen = Arc<Mutex<Vec<(u64, u64)>>>;

/// When a new epoch was seen, in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The epoch.
    pub epoch: u64,
    /// The Lease had it.
    pub taken_ms: u64,
    /// The Service led to the new primary.
    pub serving_ms: u64,
}

/// Watches a pair's Lease and its `-primary` slice until it is dropped.
pub struct Watcher {
    lease: Seen,
    slice: Seen,
    tasks: [JoinHandle<()>; 2],
}

impl Watcher {
    /// Begins to watch.
    pub fn start(kube: &Kube, namespace: &str, pair: &str) -> Self {
        let (lease, slice) = (Seen::default(), Seen::default());
        let tasks = [
            follow::<Lease>(kube.watched(namespace), &crds::names::lease(pair), lease.clone()),
            follow::<EndpointSlice>(
                kube.watched(namespace),
                &crds::names::primary_service(pair),
                slice.clone(),
            ),
        ];
        Self { lease, slice, tasks }
    }

    /// Waits until an epoch above `before` is served.
    pub async fn served(&self, before: u64, limit: Duration) -> Result<Served> {
        until(&format!("an epoch above {before} is served"), limit, async || {
            let serving = first_above(&self.slice, before).context("the primary's slice is what it was")?;
            let taken = first_above(&self.lease, before).context("the Lease is what it was")?;
            Ok(Some(Served {
                epoch: serving.0,
                taken_ms: taken.1,
                serving_ms: serving.1,
            }))
        })
        .await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// How soon a watch that broke is made again: what is seen is counted in milliseconds.
struct Soon;

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(50))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {}
}

fn first_above(seen: &Seen, epoch: u64) -> Option<(u64, u64)> {
    seen.lock()
        .ok()?
        .iter()
        .find(|(found, _)| *found > epoch)
        .copied()
}

fn follow<K>(api: Api<K>, name: &str, seen: Seen) -> JoinHandle<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let config = Config::default().fields(&format!("metadata.name={name}"));
    tokio::spawn(async move {
        let mut objects = watcher(api, config).backoff(Soon).applied_objects().boxed();
        let mut broke = false;
        while let Some(found) = objects.next().await {
            let object = match found {
                Ok(object) => object,
                Err(e) => {
                    if !std::mem::replace(&mut broke, true) {
                        println!("  a watch broke, and what changes meanwhile is seen late: {e}");
                    }
                    continue;
                }
            };
            broke = false;
            let epoch = object
                .annotations()
                .get(crds::names::ANNOTATION_EPOCH)
                .and_then(|text| text.parse().ok());
            if let (Some(epoch), Ok(mut seen)) = (epoch, seen.lock())
                && seen.last().is_none_or(|(before, _)| *before < epoch)
            {
                seen.push((epoch, now_ms()));
            }
        }
    })
}
