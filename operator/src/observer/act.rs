//! Carries the plan's decisions out. Each is conditional on what it was decided on; one that fails is decided anew.

use std::time::Duration;

use crds::RecorderPair;
use crds::member::{PairIdentity, TakeReason as MemberReason, TakeRequest};
use crds::names;
use failover::plan::ServeTarget;
use failover::{Decision, Epoch, LeaseRecord, MemberName, TakeOrder, TakeReason};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;
use tokio::time::timeout;

use super::member::MemberClient;
use super::rehearsal::Rehearsal;
use super::state::State;
use super::{Setup, Shared, lease, restart, translate};
use crate::world::Held;

/// One decision may take so long.
const DEADLINE: Duration = Duration::from_secs(2);

type Outcome = anyhow::Result<String>;

/// Carries out each decision, and counts and tells how it ended. What is to be tried first waits for that, for some rounds.
pub(super) async fn carry_out(
    shared: &Shared,
    setup: &Setup,
    state: &mut State,
    clients: &mut [MemberClient; 2],
    rehearsal: &mut Rehearsal,
    decisions: Vec<Decision>,
) {
    for decision in decisions {
        let Some(tried) = rehearsal.of(shared, setup, &decision) else {
            continue;
        };
        let done = match tried {
            Ok(()) => timeout(DEADLINE, one(shared, setup, state, clients, decision.clone())).await,
            Err(error) => Ok(Err(error)),
        };
        let done = done.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {} s", DEADLINE.as_secs())));
        let failed = done.as_ref().err();
        match &decision {
            Decision::RestartMember { member, .. } => state.holds(member, failed.map(held)),
            Decision::RecreateLease { record } => state.lacks_lease(record.epoch, failed.map(said)),
            _ => (),
        }
        let outcome = told(&setup.id, &decision, &done);
        shared.metrics.decision(name(&decision), outcome);
    }
}

/// Tells how a decision ended, and names it for the counter. That something has to wait, as for a disruption budget, is no error.
fn told(id: &PairIdentity, decision: &Decision, done: &Outcome) -> &'static str {
    let (pair, namespace) = (&id.name, &id.namespace);
    match done {
        Ok(outcome) => {
            tracing::info!(%pair, %namespace, ?decision, %outcome, "decided");
            "ok"
        }
        Err(error) if matches!(error.downcast_ref(), Some(Held::NotYet(_))) => {
            tracing::info!(%pair, %namespace, ?decision, %error, "a decision waits");
            "waits"
        }
        Err(error) => {
            tracing::warn!(%pair, %namespace, ?decision, %error, "a decision was not carried out");
            "error"
        }
    }
}

/// Why a pod was not replaced.
fn held(error: &anyhow::Error) -> Held {
    let known = error.downcast_ref::<Held>().cloned();
    known.unwrap_or_else(|| Held::NotYet(format!("it could not be replaced yet: {error}")))
}

/// What the API server said, or why it said nothing.
fn said(error: &anyhow::Error) -> String {
    match error.downcast_ref() {
        Some(Error::Api(status)) => status.message.clone(),
        _ => error.to_string(),
    }
}

fn name(decision: &Decision) -> &'static str {
    match decision {
        Decision::TakeIt { .. } => "take",
        Decision::RecreateLease { .. } => "recreate_lease",
        Decision::NameFollower { .. } => "name_follower",
        Decision::RestartMember { .. } => "restart_member",
        Decision::Serve(_) => "serve",
    }
}

async fn one(
    shared: &Shared,
    setup: &Setup,
    state: &mut State,
    clients: &mut [MemberClient; 2],
    decision: Decision,
) -> Outcome {
    match decision {
        Decision::TakeIt { member, order } => take_it(shared, setup, clients, &member, order).await,
        Decision::RecreateLease { record } => recreate(shared, setup, &record).await,
        Decision::NameFollower {
            member,
            expected,
            record,
        } => {
            lease::swap(shared, &setup.id, &expected, &record).await?;
            Ok(format!("{member} is the follower"))
        }
        Decision::RestartMember { member, pod_uid, why } => {
            restart::evict(shared, setup, member.as_str(), &pod_uid).await?;
            Ok(format!("{why:?}"))
        }
        Decision::Serve(target) => serve(shared, setup, state, target).await,
    }
}

async fn take_it(
    shared: &Shared,
    setup: &Setup,
    clients: &mut [MemberClient; 2],
    member: &MemberName,
    order: TakeOrder,
) -> Outcome {
    let pod = translate::find(&shared.pods, &setup.id, member.as_str());
    let client = clients.iter_mut().find(|client| client.name() == member.as_str());
    let client = client.ok_or_else(|| anyhow::anyhow!("no such member"))?;
    let request = TakeRequest {
        epoch: order.epoch.0,
        reason: match order.reason {
            TakeReason::Expired => MemberReason::Expired,
            TakeReason::ContainerTerminated => MemberReason::ContainerTerminated,
            TakeReason::Switchover => MemberReason::Switchover,
            TakeReason::Failback => MemberReason::Failback,
            TakeReason::NoHolder => MemberReason::NoHolder,
        },
    };
    let outcome = client.take(setup, pod.as_deref(), &request).await?;
    Ok(format!("{outcome:?}"))
}

/// The epoch is in status before it is in the Lease: whoever forgot it might create the next one below it (I5).
async fn recreate(shared: &Shared, setup: &Setup, record: &LeaseRecord) -> Outcome {
    let pairs: Api<RecorderPair> = Api::namespaced(shared.client.clone(), &setup.id.namespace);
    let patch = json!({ "metadata": { "uid": setup.id.uid }, "status": { "highestEpoch": record.epoch.0 } });
    pairs
        .patch_status(&setup.id.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    lease::create(shared, &setup.id, setup.policy.lease_duration.as_secs(), record).await?;
    Ok(format!("epoch {}", record.epoch))
}

/// Points the primary's slice at this member, unless it leads to a higher epoch already (I5).
async fn serve(shared: &Shared, setup: &Setup, state: &mut State, target: ServeTarget) -> Outcome {
    let slices: Api<EndpointSlice> = Api::namespaced(shared.client.clone(), &setup.id.namespace);
    let name = names::primary_service(&setup.id.name);
    let Some(slice) = slices.get_opt(&name).await? else {
        state.serves(None);
        anyhow::bail!("there is no EndpointSlice {name}");
    };
    if !setup.id.owns("EndpointSlice", &slice.metadata) {
        state.serves(None);
        anyhow::bail!("EndpointSlice {name} is somebody else's");
    }
    if let Some(epoch) = epoch_of(&slice).filter(|epoch| *epoch >= target.epoch) {
        state.serves(Some(ServeTarget { epoch, ..target }));
        return Ok(format!("it leads to epoch {epoch} already"));
    }
    let pod = translate::find(&shared.pods, &setup.id, target.member.as_str());
    let status = pod.as_deref().and_then(|pod| pod.status.as_ref());
    let address = status.and_then(|status| status.pod_ip.as_deref());
    let address = address.ok_or_else(|| anyhow::anyhow!("the pod of {} has no address", target.member))?;
    let node = pod
        .as_deref()
        .and_then(|pod| pod.spec.as_ref()?.node_name.as_deref());
    let endpoint =
        crate::build::endpoint_of(address, target.member.as_str(), Some(&setup.id.namespace), node);
    let patch = json!({
        "metadata": {
            "resourceVersion": slice.resource_version(),
            "annotations": { names::ANNOTATION_EPOCH: target.epoch.to_string() },
        },
        "endpoints": [endpoint],
    });
    slices
        .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    let outcome = format!("epoch {} leads to {}", target.epoch, target.member);
    state.serves(Some(target));
    Ok(outcome)
}

/// The epoch that the slice leads to. An empty slice leads to none, whatever it says, and so does one whose epoch makes no sense: members
/// write it, too.
fn epoch_of(slice: &EndpointSlice) -> Option<Epoch> {
    slice.endpoints.as_ref()?.first()?;
    let epoch = slice.annotations().get(names::ANNOTATION_EPOCH)?;
    translate::believed(epoch.parse().ok()?)
}
