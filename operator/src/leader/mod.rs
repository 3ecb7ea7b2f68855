//! Which replica of the operator leads: a Lease in the operator's own namespace.
//!
//! Nothing here is needed for safety: whatever the operator does is conditional on what it was decided on, and members
//! follow their own rules. It spares the cluster two operators that do the same work, and lets a second one stand by.

mod rival;
#[cfg(test)]
mod tests;

use std::time::Duration;

use failover::BootTime;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use rival::{
    AGAIN, DURATION, DURATION_SECONDS, GIVE_UP, Lost, Move, RENEW, Record, Renewal, Rival, Tenure,
};

/// A call that takes longer has failed.
const CALL: Duration = Duration::from_secs(1);

/// The way to the Lease. Its client must not retry: a renewal that is sent late is worse than none.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Election {
    api: Api<Lease>,
    name: String,
    me: String,
    started: Instant,
}

/// The lead, while it lasts.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Lead {
    election: Election,
    tenure: Tenure,
}

impl Election {
    /// An election by this Lease. `pod` is part of the name that others see; another start of the same pod has another name.
    pub fn new(client: Client, namespace: &str, name: &str, pod: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me: format!("{pod}_{}", uuid::Uuid::new_v4()),
            started: Instant::now(),
        }
    }

    /// Waits until this replica leads. Calls `looked` after each read that succeeded.
    pub async fn win(&self, mut looked: impl FnMut()) -> Lead {
        let mut rival = Rival::new(self.me.clone());
        loop {
            match self.read().await {
                Ok(read) => {
                    looked();
                    let found = rival.saw(self.now(), read);
                    if let Some(lead) = self.make(found).await {
                        return lead;
                    }
                }
                Err(error) => tracing::warn!(%error, "the Lease of the operator cannot be read"),
            }
            sleep(AGAIN).await;
        }
    }

    async fn make(&self, found: Move) -> Option<Lead> {
        let sent = self.now();
        let taken = match found {
            Move::Wait => return None,
            Move::Create => self.create().await,
            Move::Take(record) => self.write(&record.version, self.taken(&record)).await,
        };
        match taken {
            Ok(record) => Some(Lead {
                election: self.clone(),
                tenure: Tenure::new(self.me.clone(), sent, record),
            }),
            Err(error) => {
                tracing::info!(%error, "the lead was not taken");
                None
            }
        }
    }

    async fn read(&self) -> Result<Option<Record>, Failed> {
        let found = within(self.api.get_opt(&self.name)).await?;
        Ok(found.map(|lease| record(&lease)))
    }

    async fn create(&self) -> Result<Record, Failed> {
        let nobody = Record {
            version: String::new(),
            holder: None,
            duration: DURATION,
            transitions: -1,
        };
        let value = json!({ "metadata": { "name": self.name }, "spec": self.taken(&nobody) });
        let lease: Lease = serde_json::from_value(value).map_err(Error::SerdeError)?;
        let created = within(self.api.create(&PostParams::default(), &lease)).await?;
        Ok(record(&created))
    }

    /// Writes over exactly this version.
    async fn write(&self, version: &str, spec: Value) -> Result<Record, Failed> {
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": spec });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let written = within(self.api.patch(&self.name, &params, &patch)).await?;
        Ok(record(&written))
    }

    fn taken(&self, before: &Record) -> Value {
        let now = wall_clock();
        json!({
            "holderIdentity": self.me,
            "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": before.transitions.saturating_add(1),
        })
    }

    async fn renew(&self, record: &Record) -> Renewal {
        let spec = json!({
            "holderIdentity": self.me,
            "leaseDurationSeconds": DURATION_SECONDS,
            "renewTime": wall_clock(),
        });
        match self.write(&record.version, spec).await {
            Ok(record) => Renewal::Done(record),
            Err(error) if error.overtaken() => match self.read().await {
                Ok(found) => Renewal::Overtaken(found),
                Err(_) => Renewal::Unknown,
            },
            Err(error) => {
                tracing::warn!(%error, "the lead was not renewed");
                Renewal::Unknown
            }
        }
    }

    fn now(&self) -> BootTime {
        BootTime::default() + self.started.elapsed()
    }

    fn instant(&self, at: BootTime) -> Instant {
        self.started + at.since(BootTime::default())
    }
}

impl Lead {
    /// Who leads, as others see it.
    pub fn holder(&self) -> &str {
        &self.election.me
    }

    /// Renews until the lead is lost, and says why it is.
    pub async fn hold(&mut self) -> Lost {
        let Self { election, tenure } = self;
        loop {
            sleep_until(election.instant(tenure.next())).await;
            let sent = election.now();
            let ends = election.instant(tenure.ends());
            let renewal = tokio::time::timeout_at(ends, election.renew(tenure.record())).await;
            let renewal = renewal.unwrap_or(Renewal::Unknown);
            if let Err(lost) = tenure.renewal(sent, election.now(), renewal) {
                return lost;
            }
        }
    }

    /// Gives the lead up, so that another can take it at once. If that fails, the others wait.
    pub async fn release(self) {
        let Self { election, .. } = self;
        // A renewal may be under way: what counts is the version that is there.
        let mine = |record: &Record| record.holder.as_ref() == Some(&election.me);
        let Ok(Some(record)) = election.read().await else {
            return;
        };
        if mine(&record) {
            let spec = json!({ "holderIdentity": null, "renewTime": wall_clock() });
            match election.write(&record.version, spec).await {
                Ok(_) => tracing::info!("the lead is released"),
                Err(error) => tracing::warn!(%error, "the lead was not released"),
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Api(#[from] Error),
    #[error("no answer in {} s", CALL.as_secs())]
    Late,
}

impl Failed {
    /// Whether the answer says that another version, or nothing, is there.
    fn overtaken(&self) -> bool {
        matches!(self, Self::Api(Error::Api(status)) if matches!(status.code, 404 | 409))
    }
}

async fn within<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
    Ok(timeout(CALL, call).await.map_err(|_| Failed::Late)??)
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        version: lease.resource_version().unwrap_or_default(),
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: seconds.map_or(DURATION, Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

/// For people and other tools: nobody here reads it.
fn wall_clock() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}
