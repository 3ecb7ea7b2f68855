//! A reconcile: observe, validate, build, apply, report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::member::PairIdentity;
use crds::pair::Span;
use crds::{RecorderPair, RecorderPairStatus, names};
use failover::plan::{Policy, Switchover};
use failover::{Epoch, MemberName, StoreId};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio::time::timeout;

use crate::apply::Progress;
use crate::backoff::Backoff;
use crate::build::{Built, build};
use crate::metrics::Metrics;
use crate::mint::{Minted, is_lost, mint};
use crate::observer::{Access, Observers, Setup};
use crate::pki::PkiError;
use crate::report::{Known, Note, RECONCILE, notes, reached, status};
use crate::validate::validate;
use crate::world::World;
use crate::{apply, observe};

/// Certificates and the like are looked at so often even if nothing happens.
const AT_REST: Duration = Duration::from_mins(10);
/// While something is waited for that no watch tells of.
const WAITING: Duration = Duration::from_secs(5);

/// All reads of a reconcile, and all that it tells, may take so long each: its client tries again what the API server turns away.
const DEADLINE: Duration = Duration::from_secs(20);

/// The API server takes an event's note of 1 KiB.
const MAX_NOTE: usize = 1000;

/// What every reconcile needs.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Context {
    /// A client with patience.
    pub client: Client,
    /// The image of members whose spec names none.
    pub image: Option<String>,
    /// The observers.
    pub observers: Observers,
    /// Publishes events.
    pub recorder: Recorder,
    /// Who failed how often.
    pub backoff: Backoff,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Why a reconcile ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// A certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The API server, in its silence.
    #[error("the API server did not answer in {} s while {what}: it may be busy, or out of reach. It is tried again", DEADLINE.as_secs())]
    Late {
        /// What was asked of it.
        what: &'static str,
    },
}

/// An answer that comes in time.
async fn in_time<T>(
    what: &'static str,
    asked: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ReconcileError> {
    let answer = timeout(DEADLINE, asked).await;
    Ok(answer.map_err(|_| ReconcileError::Late { what })??)
}

/// Brings what exists closer to what was asked for, once.
#[allow(clippy::needless_pass_by_value, reason = "the controller calls it with these")]
pub async fn reconcile(
    guarded: Arc<DeserializeGuard<RecorderPair>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let seen = in_time("the pair and what it has were read", look(&context, &guarded));
    let Some((world, looked)) = seen.await? else {
        return Ok(Action::await_change());
    };
    let image = world.pair.spec.image.clone().or_else(|| context.image.clone());
    let mut problems = validate(&world, image.as_deref());
    let minted = mint(&world)?;
    let built = build(&world, &minted, image.as_deref());
    let applied = apply::apply(&context.client, &world.id, &built.effects).await;
    context
        .observers
        .set_up(setup(&world, &minted, &built, applied.progress));
    context.metrics.effects_failed(applied.problems.len());
    problems.extend(applied.problems);
    let known = Known {
        world: &world,
        built: &built,
        problems: &problems,
        progress: applied.progress,
    };
    // An operator that has just begun to lead knows nothing of the members yet: what the one before it told stands until then.
    if looked {
        report(&context, &world, status(known, Timestamp::now())).await?;
    }
    context.metrics.reconciled(true);
    Ok(next(&context, &world.id, &built, applied.progress))
}

/// What exists of a pair that stays, and whether its observer has looked yet.
async fn look(
    context: &Context,
    guarded: &DeserializeGuard<RecorderPair>,
) -> Result<Option<(World, bool)>, kube::Error> {
    // The pair as it is now: what follows is decided on its status, too, which a cache may not have yet.
    let pair = current(context, guarded).await?;
    let Some(pair) = pair.filter(|pair| pair.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let id = id(&pair);
    context.observers.ask(&id.uid, switchover(&pair).as_ref());
    let view = context.observers.view(&id.uid);
    let looked = view.is_some();
    let world = observe::observe(&context.client, Arc::new(pair), id, view.unwrap_or_default()).await?;
    Ok(Some((world, looked)))
}

fn next(context: &Context, id: &PairIdentity, built: &Built, progress: Progress) -> Action {
    if progress != Progress::Done {
        return Action::requeue(context.backoff.failed(&id.uid));
    }
    context.backoff.succeeded(&id.uid);
    Action::requeue(if built.waiting.is_some() { WAITING } else { AT_REST })
}

/// After an error: wait longer each time.
#[allow(clippy::needless_pass_by_value, reason = "the controller calls it with these")]
pub fn on_error(
    guarded: Arc<DeserializeGuard<RecorderPair>>,
    error: &ReconcileError,
    context: Arc<Context>,
) -> Action {
    let uid = guarded.meta().uid.clone().unwrap_or_default();
    tracing::warn!(pair = %guarded.name_any(), %error, "a reconcile failed");
    context.metrics.reconciled(false);
    Action::requeue(context.backoff.failed(&uid))
}

/// The pair as it is now. One that cannot be read is told so, and left alone: its members go on as they are.
async fn current(
    context: &Context,
    guarded: &DeserializeGuard<RecorderPair>,
) -> Result<Option<RecorderPair>, kube::Error> {
    let namespace = guarded.namespace().unwrap_or_default();
    let api: Api<DeserializeGuard<RecorderPair>> = Api::namespaced(context.client.clone(), &namespace);
    let Some(found) = api.get_opt(&guarded.name_any()).await? else {
        return Ok(None);
    };
    match found.0 {
        Ok(pair) => Ok(Some(pair)),
        Err(invalid) => {
            let message = format!("this RecorderPair cannot be read: {}", invalid.error);
            tracing::warn!(pair = %guarded.name_any(), %message);
            let note = Note {
                warning: true,
                reason: "InvalidSpec".to_owned(),
                action: RECONCILE.to_owned(),
                message,
            };
            let regarding = reference(&guarded.name_any(), &namespace, invalid.metadata.uid);
            publish(context, &regarding, note).await;
            Ok(None)
        }
    }
}

/// A pair of which no more is known than this.
fn reference(name: &str, namespace: &str, uid: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some(RecorderPair::api_version(&()).into_owned()),
        kind: Some(RecorderPair::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid,
        ..ObjectReference::default()
    }
}

fn id(pair: &RecorderPair) -> PairIdentity {
    PairIdentity {
        namespace: pair.namespace().unwrap_or_default(),
        name: pair.name_any(),
        uid: pair.uid().unwrap_or_default(),
    }
}

/// What the observer needs to know. No member is made anew where that would not happen.
fn setup(world: &World, minted: &Minted, built: &Built, progress: Progress) -> Setup {
    let pair = &world.pair;
    let status = pair.status.clone().unwrap_or_default();
    let highest = Epoch(u64::try_from(status.highest_epoch.unwrap_or_default()).unwrap_or_default());
    // Status will tell this one, too, and nobody comes back to hear it.
    let read = world.view.lease.as_ref().map(|lease| lease.epoch);
    let lost = |member: &&crds::pair::MemberStatus| world.claims.get(&member.name).is_some_and(is_lost);
    let stores = status
        .members
        .iter()
        .filter(lost)
        .filter_map(|member| member.store.as_deref());
    Setup {
        id: world.id.clone(),
        access: access(world, minted, progress),
        policy: Policy {
            lease_duration: pair.spec.failover.lease_duration.get(),
            ..Policy::default()
        },
        outdated: match progress {
            Progress::Stopped => BTreeMap::new(),
            Progress::Done | Progress::Retrying => built.outdated.clone(),
        },
        known_epoch: read.map_or(highest, |read| read.max(highest)),
        switchover: switchover(pair),
        preferred: pair
            .spec
            .preferred_primary
            .as_ref()
            .and_then(|name| MemberName::new(name).ok()),
        failback_after: pair.spec.failover.failback_after.map(Span::get),
        lost: stores.filter_map(|store| StoreId::new(store).ok()).collect(),
    }
}

/// An authority that was not written is nobody's: the keys that are there go on.
fn access(world: &World, minted: &Minted, progress: Progress) -> Option<Access> {
    let (authority, identity) = match progress {
        Progress::Stopped => (world.keys.authority.as_ref()?, world.keys.operator.as_ref()?),
        Progress::Done | Progress::Retrying => (&minted.authority, &minted.operator),
    };
    Some(Access {
        authority: authority.0.cert.clone(),
        identity: identity.clone(),
    })
}

/// The switchover that the pair's annotation asks for: to a member by name.
fn switchover(pair: &RecorderPair) -> Option<Switchover> {
    let to = pair.annotations().get(names::ANNOTATION_SWITCHOVER)?;
    let to = MemberName::new(to).ok()?;
    Some(Switchover {
        to: Some(to),
        unclean: false,
    })
}

/// Writes the status where it differs, publishes what changed, and clears a switchover that is done.
async fn report(context: &Context, world: &World, after: RecorderPairStatus) -> Result<(), ReconcileError> {
    let before = world.pair.status.clone().unwrap_or_default();
    let api: Api<RecorderPair> = Api::namespaced(context.client.clone(), &world.id.namespace);
    let mut version = world.pair.resource_version();
    if world.pair.status.as_ref() != Some(&after) {
        let written = write_status(&api, world, &after).await?;
        version = written.resource_version();
        context.metrics.status_written();
        for (phase, seconds) in reached(&before, &after) {
            context.metrics.phase(phase, seconds);
        }
        // It has a time of its own: what changed is told now or never.
        let published = in_time("its events were published", async {
            for note in notes(&before, &after) {
                publish(context, &world.pair.object_ref(&()), note).await;
            }
            Ok(())
        });
        if let Err(error) = published.await {
            tracing::warn!(pair = %world.id.name, %error, "not all events were published");
        }
    }
    if let (Some(asked), Some(primary)) = (switchover(&world.pair), world.view.primary())
        && asked.to.is_some_and(|to| to.as_str() == primary.member)
    {
        // Conditional, too: what was asked for meanwhile is another wish.
        let patch = json!({ "metadata": {
            "resourceVersion": version,
            "annotations": { names::ANNOTATION_SWITCHOVER: null },
        } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let cleared = api.patch(&world.id.name, &params, &patch);
        in_time("the switchover that is done was cleared", cleared).await?;
    }
    Ok(())
}

/// Writes the status. Where the answer was lost, or that to a retry says that the first one did it, it is there all the same: what it changed
/// has to be told, and the next pass would find nothing new.
async fn write_status(
    api: &Api<RecorderPair>,
    world: &World,
    after: &RecorderPairStatus,
) -> Result<RecorderPair, ReconcileError> {
    // Conditional: a status that was written meanwhile, a recreated Lease's epoch in it, is not undone.
    let patch = json!({ "metadata": { "resourceVersion": world.pair.resource_version() }, "status": after });
    let params = PatchParams {
        field_manager: Some(names::MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(&patch);
    let writing = api.patch_status(&world.id.name, &params, &patch);
    let error = match in_time("the status of the pair was written", writing).await {
        Ok(written) => return Ok(written),
        Err(error) => error,
    };
    let found = in_time("the status of the pair was read again", api.get(&world.id.name)).await;
    found
        .ok()
        .filter(|found| found.status.as_ref() == Some(after))
        .ok_or(error)
}

/// An event that is not published is a pity, not an error.
async fn publish(context: &Context, regarding: &ObjectReference, note: Note) {
    tracing::info!(pair = ?regarding.name, reason = %note.reason, message = %note.message, "event");
    let mut message = note.message;
    message.truncate(message.floor_char_boundary(MAX_NOTE));
    let event = Event {
        type_: if note.warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: note.reason,
        note: Some(message),
        action: note.action,
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, regarding).await {
        tracing::warn!(%error, "an event was not published");
    }
}

#[cfg(test)]
mod tests;
