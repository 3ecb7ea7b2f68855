//! One observer per pair: each second, and at once when what it must know of its pair changes, it reads the Lease and asks
//! both members, decides, and acts.
//!
//! Timers and direct reads decide; watches only hurry reconciles. Nothing here is needed for safety: members follow
//! their own rules, and every act is conditional on what it was decided on.

mod act;
mod lease;
mod member;
mod rehearsal;
mod restart;
mod shown;
mod state;
mod task;
mod tls;
mod translate;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::RecorderPair;
use crds::member::PairIdentity;
use failover::plan::{Policy, Switchover};
use failover::{Epoch, MemberName, StoreId};
use futures::channel::mpsc;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::build::Object;
use crate::metrics::Metrics;
use crate::pki::Identity;
use crate::world::View;

/// A pair, as the controller knows it.
pub type PairRef = ObjectRef<DeserializeGuard<RecorderPair>>;

/// What an observer needs to know of its pair. It changes while the observer runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// Which pair.
    pub id: PairIdentity,
    /// How its members are asked. An observer that is told of none keeps what it has.
    pub access: Option<Access>,
    /// The operator's times.
    pub policy: Policy,
    /// Members whose pod is of an old template, each with the pod that is wanted.
    pub outdated: BTreeMap<String, Object>,
    /// The highest epoch that status tells.
    pub known_epoch: Epoch,
    /// The switchover that was asked for.
    pub switchover: Option<Switchover>,
    /// The member that is to be primary.
    pub preferred: Option<MemberName>,
    /// It becomes primary again after so long without a change; by itself never where there is none.
    pub failback_after: Option<Duration>,
    /// Stores whose volumes are lost.
    pub lost: BTreeSet<StoreId>,
}

/// How members are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// The pair's authority: the certificate, PEM.
    pub authority: String,
    /// Who the operator is to the members.
    pub identity: Identity,
}

/// What all observers share.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Shared {
    /// A client that neither retries nor waits: for the Lease and what depends on it.
    pub client: Client,
    /// A client that does not retry, but waits: for the trials of pods, which no round waits for.
    pub trials: Client,
    /// The members' pods, as last seen.
    pub pods: Store<Pod>,
    /// Asks for a reconcile.
    pub triggers: mpsc::Sender<PairRef>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The observers that run, by the pair's UID.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Observers {
    shared: Shared,
    running: Mutex<HashMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    id: PairIdentity,
    setup: watch::Sender<Setup>,
    view: watch::Receiver<Option<Arc<View>>>,
    task: AbortHandle,
}

impl Observers {
    /// None yet.
    pub fn new(shared: Shared) -> Self {
        let running = Mutex::default();
        Self { shared, running }
    }

    /// What the pair's observer saw last; none before it has looked once.
    pub fn view(&self, uid: &str) -> Option<Arc<View>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(uid)?.view.borrow().clone()
    }

    /// Starts the pair's observer, or tells it what changed.
    pub fn set_up(&self, mut setup: Setup) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // One that panicked has ended, too: it is started anew.
        let alive = running.get(&setup.id.uid).filter(|one| !one.task.is_finished());
        if let Some(one) = alive {
            one.setup.send_if_modified(|old| {
                setup.access = setup.access.take().or_else(|| old.access.clone());
                let differs = *old != setup;
                if differs {
                    *old = setup;
                }
                differs
            });
            return;
        }
        let id = setup.id.clone();
        let (setup, setup_seen) = watch::channel(setup);
        let (view_out, view) = watch::channel(None);
        let task = tokio::spawn(task::run(self.shared.clone(), setup_seen, view_out)).abort_handle();
        let one = Running {
            id: id.clone(),
            setup,
            view,
            task,
        };
        running.insert(id.uid, one);
    }

    /// Tells the pair's observer, if it runs, which switchover is asked for, before anything else that a reconcile does: a
    /// user waits for it, and it needs none of that.
    pub fn ask(&self, uid: &str, switchover: Option<&Switchover>) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(one) = running.get(uid) else { return };
        one.setup.send_if_modified(|setup| {
            let differs = setup.switchover.as_ref() != switchover;
            if differs {
                setup.switchover = switchover.cloned();
            }
            differs
        });
    }

    /// Stops the observers of every pair that does not satisfy `keep`.
    pub fn retain(&self, keep: impl Fn(&PairIdentity) -> bool) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, one| {
            let stays = keep(&one.id);
            if !stays {
                one.task.abort();
            }
            stays
        });
        self.shared.metrics.pairs(running.len());
    }
}
