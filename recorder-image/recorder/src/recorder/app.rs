//! The process: its options, its parts, its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::Context as _;
use segment::{Catalogue, Role, Volume};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::http::{self, auth::Token};
use super::metrics::Metrics;
use super::state::{Held, Shared};
use super::writer::{self, Command, Writer};
use super::{config, demand, gap_account, ledgers, link, reclaim, registry, session};
use crate::local::LocalError;
use crate::{clock, early};

/// How many commands may wait for the writer loop.
const COMMANDS: usize = 4096;
/// How long the writer loop may take to seal what is open when the process is told to end.
const GOODBYE: Duration = Duration::from_secs(3);

/// Records streams, and plays them back.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Options {
    /// The name of this member, for example front-0
    #[arg(long, env = "GAPLESS_MEMBER")]
    member: String,
    /// The media volume
    #[arg(long, env = "GAPLESS_MEDIA", default_value = "/media")]
    media: PathBuf,
    /// The folder of the socket for the replicator
    #[arg(long, env = "GAPLESS_RUN", default_value = "/run/gapless")]
    run: PathBuf,
    /// The rendered configuration
    #[arg(
        long,
        env = "GAPLESS_CONFIG",
        default_value = "/etc/gapless/config/config.json"
    )]
    config: PathBuf,
    /// The file with the viewers' token
    #[arg(
        long,
        env = "GAPLESS_VIEWER_TOKEN",
        default_value = "/etc/gapless/viewer/token"
    )]
    viewer_token: PathBuf,
    /// Where viewers and probes are served
    #[arg(long, env = "GAPLESS_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

/// Runs until SIGTERM or SIGINT. The end of any part is the end of the process.
///
/// # Errors
/// What kept the process from starting, or which part ended.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let (listener, early) = early::listen(options.listen).context("cannot listen for viewers")?;
    clock::obey(&options.media);
    session::poison::obey(&options.media);
    reclaim::obey(&options.media);
    let volume = Volume::open(&options.media, Role::Recorder)?;
    let (clock, catalogue, found) = Catalogue::open(&volume, clock::wall_s(), clock::boot_s())?;
    tracing::info!(
        store = %volume.store(), rebuilt = found.rebuilt.len(), partial = found.partial.len(),
        missing = found.missing.len(), "volume opened"
    );
    for (segment, why) in &found.unreadable {
        tracing::error!(%segment, "a file cannot be read and is left alone: {why}");
    }
    for (stream, why) in &found.failed {
        tracing::error!(%stream, "a ledger or a folder cannot be read: {why}");
    }
    let metrics = Arc::new(Metrics::new(&options.member));
    for cut in catalogue.record_rebuilt(&volume, &found, Role::Recorder) {
        metrics.ledger_truncations.inc();
        tracing::error!(path = %cut.path.display(), kept = cut.kept, lost = cut.lost, "a damaged ledger was cut after its last whole record");
    }
    let (commands, inbox) = sync_channel(COMMANDS);
    let held = Held {
        volume,
        catalogue,
        clock,
    };
    let shared = Arc::new(Shared::new(options.member, held, metrics, commands));
    let token = Arc::new(Token::new(&options.viewer_token));
    let (ended, mut writer_ended) = oneshot::channel::<()>();
    let writer = Writer::new(
        Arc::clone(&shared),
        inbox,
        writer::volume::Volume::new(Arc::clone(&shared)),
    );
    std::thread::Builder::new().name("writer".into()).spawn(move || {
        writer.run();
        let _ = ended.send(());
    })?;
    drop(early);
    let mut viewers = tokio::spawn(http::serve(listener, Arc::clone(&shared), Arc::clone(&token)));
    // It starts the sessions, which run where it does.
    let sessions = session::runtime::start(Arc::clone(&shared.registry.gather))?;
    let mut follow = sessions.spawn(config::follow(Arc::clone(&shared), token, options.config));
    let mut sources = sessions.spawn(registry::follow_sources(Arc::clone(&shared)));
    let mut demand = tokio::spawn(demand::follow(Arc::clone(&shared)));
    let mut account = tokio::spawn(gap_account::follow(Arc::clone(&shared)));
    let mut old = tokio::spawn(ledgers::follow(Arc::clone(&shared)));
    let mut duplicates = tokio::spawn(reclaim::follow(Arc::clone(&shared)));
    let mut replicator = start_link(Arc::clone(&shared), options.run)?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        _ = &mut writer_ended => anyhow::bail!("the writer loop ended"),
        r = &mut viewers => anyhow::bail!("the viewers' server ended: {r:?}"),
        r = &mut account => anyhow::bail!("the account of gaps ended: {r:?}"),
        r = &mut duplicates => anyhow::bail!("the search for duplicates ended: {r:?}"),
        r = &mut old => anyhow::bail!("looking for old ledgers ended: {r:?}"),
        r = &mut demand => anyhow::bail!("following what is needed ended: {r:?}"),
        r = &mut follow => anyhow::bail!("following the configuration ended: {r:?}"),
        r = &mut sources => anyhow::bail!("following the sources of streams ended: {r:?}"),
        r = &mut replicator => anyhow::bail!("the replicator's socket ended: {r:?}"),
    }
    tracing::info!("told to end: sealing what is open");
    shared.registry.stop();
    let _ = shared.commands.try_send(Command::Stop);
    let _ = tokio::time::timeout(GOODBYE, writer_ended).await;
    Ok(())
}

/// Serves the replicator on a thread of its own: authority does not wait for viewers. The receiver hears how that ended.
fn start_link(
    shared: Arc<Shared>,
    run: PathBuf,
) -> std::io::Result<oneshot::Receiver<Result<(), LocalError>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name("link".into()).spawn(move || {
        let _ = ended.send(runtime.block_on(link::serve(shared, &run)));
    })?;
    Ok(end)
}

/// What both programs do first.
pub fn prepare() {
    log();
    if let Err(e) = crate::descriptors::raise() {
        tracing::warn!("the limit of open files stays as it is: {e}");
    }
}

/// Sends the log to standard error; `RUST_LOG` chooses what, `GAPLESS_LOG=json` how. Warnings of the RTSP library name
/// whole URLs, which may hold credentials.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,retina=error"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::env::var("GAPLESS_LOG").as_deref() == Ok("json") {
        builder.json().init();
    } else {
        builder.with_ansi(false).init();
    }
}
