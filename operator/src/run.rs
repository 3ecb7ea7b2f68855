//! `operator run`: puts the parts together and ends when any of them does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::channel::mpsc;
use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::Controller;
use kube::runtime::controller::Config as ControllerConfig;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::Store;
use kube::{Client, Config, Resource as _, ResourceExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::backoff::Backoff;
use crate::cli::Run;
use crate::controller::{Context, on_error, reconcile};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::observer::{Observers, Shared};
use crate::synced::Synced;
use crate::watches::{Pair, Watches};

/// Wishes for a reconcile that wait to be heard.
const TRIGGERS: usize = 1024;
/// How often observers of pairs that are gone are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Longer than anything that a patient client waits for; watches end by themselves before.
const READ_TIMEOUT: Duration = Duration::from_secs(295);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Where a part that should run for ever ended.
pub async fn run(options: Run) -> anyhow::Result<()> {
    // Only fails where a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::infer().await.context("find the API server")?;
    let metrics = Arc::new(Metrics::default());
    let health = Health::new(metrics.clone());
    let client = patient(config.clone())?;
    let (triggers, wanted) = mpsc::channel(TRIGGERS);
    let watches = Watches {
        client: client.clone(),
        namespace: options.namespace.clone(),
        triggers: triggers.clone(),
        synced: Synced::default(),
    };
    let mut tasks = JoinSet::new();
    let pods = watches.start(&mut tasks);
    let (touched, pairs) = watches.pairs();
    watches.start_secrets(&mut tasks, pairs.clone());
    let context = Arc::new(Context {
        observers: Observers::new(Shared {
            client: impatient(config)?,
            pods,
            triggers,
            metrics: metrics.clone(),
        }),
        recorder: Recorder::new(client.clone(), reporter()),
        client,
        image: options.member_image,
        backoff: Backoff::default(),
        metrics,
    });
    tasks.spawn(sweep(context.clone(), pairs.clone(), watches.synced.clone()));
    tasks.spawn(say_ready(health.clone(), watches.synced));
    let serving = health.serve(options.metrics_addr);
    tasks.spawn(serving.map(|ended| {
        tracing::error!(?ended, "health and metrics are not served");
        "the server of health and metrics ended"
    }));
    let controller = Controller::for_stream(touched, pairs)
        .with_config(ControllerConfig::default().concurrency(options.concurrency))
        .reconcile_on(wanted)
        .graceful_shutdown_on(told_to_stop()?)
        .run(reconcile, on_error, context)
        .for_each(async |_| ());
    tokio::select! {
        () = controller => Ok(()),
        Some(ended) = tasks.join_next() => bail!("{}", ended.unwrap_or("a task panicked")),
    }
}

/// A client for all that may take its time. It retries what the API server turns away.
fn patient(mut config: Config) -> anyhow::Result<Client> {
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(READ_TIMEOUT);
    Ok(Client::try_from(config)?)
}

/// A client for what is decided each second: it neither retries nor waits.
fn impatient(mut config: Config) -> anyhow::Result<Client> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_millis(500));
    config.read_timeout = Some(Duration::from_secs(2));
    config.write_timeout = Some(Duration::from_secs(2));
    Ok(Client::try_from(config)?)
}

fn reporter() -> Reporter {
    crds::names::MANAGER.into()
}

/// Ready once every watch has synced; waits for ever then, as all tasks do.
async fn say_ready(health: Health, synced: Synced) -> &'static str {
    synced.all().await;
    health.set_ready();
    tracing::info!("ready");
    std::future::pending().await
}

/// Stops the observers of pairs that are gone.
async fn sweep(context: Arc<Context>, pairs: Store<Pair>, synced: Synced) -> &'static str {
    synced.all().await;
    loop {
        tokio::time::sleep(SWEEP).await;
        let uids: std::collections::HashSet<String> = pairs
            .state()
            .iter()
            .filter(|pair| pair.meta().deletion_timestamp.is_none())
            .filter_map(|pair| pair.uid())
            .collect();
        context.observers.retain(|id| uids.contains(&id.uid));
        context.backoff.retain(|uid| uids.contains(uid));
    }
}

fn told_to_stop() -> anyhow::Result<impl Future<Output = ()> + Send + Sync + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
        tracing::info!("told to stop");
    })
}
