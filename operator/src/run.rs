//! `operator run`: puts the parts together and ends when any of them does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
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
use crate::leader::Election;
use crate::observer::{Observers, Shared};
use crate::synced::Synced;
use crate::watches::{Pair, Watches};

/// Wishes for a reconcile that wait to be heard.
const TRIGGERS: usize = 1024;
/// How often observers of pairs that are gone are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Longer than anything that a patient client waits for; watches end by themselves before.
const READ_TIMEOUT: Duration = Duration::from_secs(295);

/// Who asks, in audit logs and in the managed fields of what is not applied.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("gapless-operator/", env!("CARGO_PKG_VERSION")));

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Where a part that should run for ever ended, and where the lead is lost.
pub async fn run(options: Run) -> anyhow::Result<()> {
    // Only fails where a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::infer().await.context("find the API server")?;
    config.headers.push((USER_AGENT, AGENT));
    let health = Health::new(Arc::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(health.clone().serve(options.metrics_addr).map(|ended| {
        tracing::error!(?ended, "health and metrics are not served");
        "the server of health and metrics ended"
    }));
    let stop = told_to_stop()?.shared();
    if !options.leader_election {
        return work(options, config, health, &mut tasks, stop).await;
    }
    let election = election(&options, &config)?;
    let won = election.win(|| health.set_ready(true));
    let mut lead = tokio::select! {
        lead = won => lead,
        () = stop.clone() => return Ok(()),
        Some(ended) = tasks.join_next() => bail!("{}", ended.unwrap_or("a task panicked")),
    };
    tracing::info!(leader = lead.holder(), "this replica leads");
    tokio::select! {
        ended = work(options, config, health, &mut tasks, stop) => ended?,
        lost = lead.hold() => bail!("this replica leads no more: {lost}"),
    }
    tasks.shutdown().await;
    lead.release().await;
    Ok(())
}

/// The election by the operator's own Lease.
fn election(options: &Run, config: &Config) -> anyhow::Result<Election> {
    let name = options
        .pod_name
        .as_deref()
        .context("a replica needs a name: set POD_NAME, or --leader-election=false to run it alone")?;
    let namespace = options
        .pod_namespace
        .as_ref()
        .unwrap_or(&config.default_namespace);
    let client = impatient(config.clone())?;
    Ok(Election::new(client, namespace, &options.leader_lease, name))
}

/// What the one that leads does, until it is told to stop.
async fn work(
    options: Run,
    config: Config,
    health: Health,
    tasks: &mut JoinSet<&'static str>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    health.set_ready(false);
    health.metrics().leads(true);
    let metrics = health.metrics();
    let client = patient(config.clone())?;
    let (triggers, wanted) = mpsc::channel(TRIGGERS);
    let watches = Watches {
        client: client.clone(),
        namespace: options.namespace.clone(),
        triggers: triggers.clone(),
        synced: Synced::default(),
    };
    let pods = watches.start(tasks);
    let (touched, pairs) = watches.pairs();
    watches.start_secrets(tasks, pairs.clone());
    let context = Arc::new(Context {
        observers: Observers::new(Shared {
            client: impatient(config.clone())?,
            trials: trials(config)?,
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
    tasks.spawn(say_ready(health, watches.synced));
    let controller = Controller::for_stream(touched, pairs)
        .with_config(ControllerConfig::default().concurrency(options.concurrency))
        .reconcile_on(wanted)
        .graceful_shutdown_on(stop)
        .run(reconcile, on_error, context.clone())
        .for_each(async |_| ());
    tokio::select! {
        () = controller => (),
        Some(ended) = tasks.join_next() => bail!("{}", ended.unwrap_or("a task panicked")),
    }
    context.observers.retain(|_| false);
    Ok(())
}

/// A client for all that may take its time. It retries what the API server turns away, unless it is told not to.
fn patient(mut config: Config) -> anyhow::Result<Client> {
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(READ_TIMEOUT);
    Ok(Client::try_from(config)?)
}

/// A client for trials: a retry would hide what the API server says at the end of its time. Whoever tries does so again.
fn trials(mut config: Config) -> anyhow::Result<Client> {
    config.default_retry = false;
    patient(config)
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
    health.set_ready(true);
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::Error;
    use kube::api::{Api, PostParams};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::fixtures::cluster::{Cluster, paths};

    #[tokio::test]
    async fn what_the_api_server_says_of_a_trial_is_heard_at_once() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::default();
        cluster.refuse("POST", "/pods", 504, "it took too long");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = cluster.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut config = Config::new(url.parse().unwrap());
        // The system's are not needed.
        config.root_cert = Some(Vec::new());
        let pods: Api<Pod> = Api::namespaced(trials(config).unwrap(), "cctv");
        let (params, pod) = (PostParams::default(), Pod::default());
        let done = timeout(Duration::from_secs(10), pods.create(&params, &pod)).await;
        let Ok(Err(Error::Api(status))) = &done else {
            panic!("{done:?}")
        };
        assert_eq!(status.code, 504);
        assert_eq!(
            paths(&cluster.asked("POST")),
            ["/api/v1/namespaces/cctv/pods"],
            "it is not retried"
        );
    }
}
