//! The process: its options, its parts, its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use crds::member::{KnownStream, RenderedConfig};
use failover::{BootTime, Config, Epoch, Incarnation, Member, MemberName, MemberRef, Settings, StoreId};
use segment::{Catalogue, EpochSlots, Role, SegmentId, Volume};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::driver::{Driver, Input, LeaseApi, NoLease, Outputs};
use super::hub::Hub;
use super::keeper::Keeper;
use super::kube_lease::{KubeLease, client};
use super::link::Link;
use super::network::{Network, Parties};
use super::report::{Reporter, known_streams};
use super::server::{self, Control};
use super::slice;
use crate::local::{ToRecorder, boottime_ns};
use crate::wire::Message;

/// Messages that wait for the driver, the peer, the keeper.
const QUEUE: usize = 256;

/// Replicates media, and holds a member's authority.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Options {
    /// The name of this member, for example front-0
    #[arg(long, env = "GAPLESS_MEMBER")]
    member: String,
    /// The media volume
    #[arg(long, env = "GAPLESS_MEDIA", default_value = "/media")]
    media: PathBuf,
    /// The folder of the recorder's socket
    #[arg(long, env = "GAPLESS_RUN", default_value = "/run/gapless")]
    run: PathBuf,
    /// The rendered configuration
    #[arg(
        long,
        env = "GAPLESS_CONFIG",
        default_value = "/etc/gapless/config/config.json"
    )]
    config: PathBuf,
    /// The folder with tls.crt, tls.key and ca.crt
    #[arg(long, env = "GAPLESS_TLS", default_value = "/etc/gapless/tls")]
    tls: PathBuf,
    /// Where the peer is served
    #[arg(long, env = "GAPLESS_LISTEN_PEER", default_value = "0.0.0.0:7443")]
    listen_peer: SocketAddr,
    /// Where the operator is served
    #[arg(long, env = "GAPLESS_LISTEN_CONTROL", default_value = "0.0.0.0:7444")]
    listen_control: SocketAddr,
    /// Where probes and metrics are served
    #[arg(long, env = "GAPLESS_LISTEN_STATUS", default_value = "0.0.0.0:8081")]
    listen_status: SocketAddr,
    /// The address of this pod, for the -primary Service
    #[arg(long, env = "POD_IP")]
    pod_ip: Option<String>,
    /// No API server: nobody holds authority, and both members write
    #[arg(long, env = "GAPLESS_NO_LEASE")]
    no_lease: bool,
}

async fn read_config(path: &PathBuf) -> anyhow::Result<RenderedConfig> {
    let text = tokio::fs::read(path)
        .await
        .with_context(|| path.display().to_string())?;
    // Without the text of the error: it may quote the file.
    serde_json::from_slice(&text)
        .map_err(|e| anyhow::anyhow!("{} is not a configuration, line {}", path.display(), e.line()))
}

fn settings(config: &RenderedConfig) -> anyhow::Result<Settings> {
    let leash = Duration::from_millis(config.failover.leash_ms);
    let usual = Settings::default();
    let settings = Settings {
        leash,
        suspect_after: Duration::from_millis(config.failover.suspect_after_ms),
        // What fits a usual leash must fit a shorter one.
        heartbeat_interval: usual.heartbeat_interval.min(leash / 4),
        alone_interval: usual.alone_interval.min(leash / 2),
        api_timeout: usual.api_timeout.min(leash),
        ..usual
    };
    settings.check()?;
    Ok(settings)
}

/// What was found on the volume, and the identity that it gives this start.
struct Opened {
    volume: Arc<Volume>,
    slots: EpochSlots,
    hub: Arc<Hub>,
    known: Arc<Vec<KnownStream>>,
    incarnation: u64,
}

impl Opened {
    fn open(media: &Path) -> anyhow::Result<Self> {
        let volume = Arc::new(Volume::open(media, Role::Replicator)?);
        let slots = EpochSlots::open(&volume)?;
        let (catalogue, _) = Catalogue::load(&volume, jiff::Timestamp::now().as_second())?;
        let hub = Arc::new(Hub::new(volume.store(), &catalogue));
        let known = Arc::new(known_streams(&catalogue));
        Ok(Self {
            volume,
            slots,
            hub,
            known,
            incarnation: rand::random(),
        })
    }

    fn member(&self, name: &str, peer: &str, settings: Settings) -> anyhow::Result<Member> {
        let me = MemberRef {
            member: MemberName::new(name)?,
            store: StoreId::new(&self.volume.store().to_string())?,
            incarnation: Incarnation(self.incarnation),
        };
        let (peers, synced) = (vec![MemberName::new(peer)?], Epoch(self.slots.epoch()));
        Ok(Member::new(
            BootTime(boottime_ns()),
            Config {
                me,
                peers,
                synced,
                settings,
            },
        ))
    }
}

/// The ends of the queues between the parts that the parts themselves do not keep.
struct Inboxes {
    recorder: mpsc::UnboundedReceiver<ToRecorder>,
    peer: mpsc::Receiver<Message>,
    acks: mpsc::Receiver<(SegmentId, u64)>,
}

/// The parts, connected.
struct Parts {
    link: Link,
    network: Arc<Network>,
    control: Control,
    to_recorder: mpsc::UnboundedSender<ToRecorder>,
    inboxes: Inboxes,
}

/// Runs until SIGTERM or SIGINT. The end of any part is the end of the process.
///
/// # Errors
/// What kept the process from starting, or which part ended.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let config = read_config(&options.config).await?;
    let parts = connect(&options, &config).await?;
    let peers = TcpListener::bind(options.listen_peer)
        .await
        .context("cannot listen for the peer")?;
    let orders = TcpListener::bind(options.listen_control)
        .await
        .context("cannot listen for the operator")?;
    let probes = TcpListener::bind(options.listen_status)
        .await
        .context("cannot listen for probes")?;
    let operator = crds::names::operator_uri(&config.pair.uid);
    let Parts {
        link,
        network,
        control,
        to_recorder,
        mut inboxes,
    } = parts;
    let reporter = control.reporter.clone();
    let passing = async move {
        while let Some((id, end)) = inboxes.acks.recv().await {
            let _ = to_recorder.send(ToRecorder::PeerAcknowledged { id, end });
        }
    };
    tokio::select! {
        () = signalled() => Ok(()),
        () = link.run(inboxes.recorder) => anyhow::bail!("the link to the recorder ended"),
        () = Arc::clone(&network).control(inboxes.peer) => anyhow::bail!("the control connection ended"),
        () = Arc::clone(&network).media() => anyhow::bail!("the media connection ended"),
        () = passing => anyhow::bail!("acknowledgements ended"),
        r = network.accept(peers) => anyhow::bail!("the peer's listener ended: {r:?}"),
        r = server::control(orders, control, options.tls, operator) => anyhow::bail!("the operator's listener ended: {r:?}"),
        r = server::status(probes, reporter) => anyhow::bail!("the probes' listener ended: {r:?}"),
    }
}

/// Who this is, and who the peer is.
fn parties(options: &Options, config: &RenderedConfig, store: Uuid) -> anyhow::Result<Parties> {
    let mut others = config.members.iter().filter(|m| m.name != options.member);
    let peer = others.next().context("no peer is configured")?;
    Ok(Parties {
        pair: config.pair.uid.clone(),
        member: options.member.clone(),
        store,
        peer: peer.name.clone(),
        address: peer.peer.clone(),
        tls: options.tls.clone(),
    })
}

/// Opens the volume, starts the keeper and the driver, and connects all parts.
async fn connect(options: &Options, config: &RenderedConfig) -> anyhow::Result<Parts> {
    let settings = settings(config)?;
    let opened = Opened::open(&options.media)?;
    let parties = parties(options, config, opened.volume.store())?;
    let member = opened.member(&options.member, &parties.peer, settings.clone())?;
    let Opened {
        volume,
        slots,
        hub,
        known,
        incarnation,
    } = opened;

    let (driver, driver_inbox) = mpsc::channel::<Input>(QUEUE);
    let (to_peer, peer_inbox) = mpsc::channel(QUEUE);
    let (to_recorder, recorder_inbox) = mpsc::unbounded_channel::<ToRecorder>();
    let (serving, served) = mpsc::unbounded_channel();
    let (acks, acks_inbox) = mpsc::channel(QUEUE);
    let (keeper_inbox, work) = sync_channel(QUEUE);
    let (standing, recorder) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));

    let keeper = Keeper::new(Arc::clone(&volume), Arc::clone(&hub), to_recorder.clone());
    std::thread::Builder::new()
        .name("keeper".into())
        .spawn(move || keeper.run(&work))?;
    let outputs = Outputs {
        peer: to_peer.clone(),
        recorder: to_recorder.clone(),
        serving,
        standing: Arc::clone(&standing),
    };
    let channels = (driver.clone(), driver_inbox);
    if options.no_lease {
        drive(member, Arc::new(NoLease), slots, outputs, channels)?;
    } else {
        let lease = lease(options, config, &settings, served).await?;
        drive(member, Arc::new(lease), slots, outputs, channels)?;
    }
    let link = Link {
        run: options.run.clone(),
        volume: Arc::clone(&volume),
        hub: Arc::clone(&hub),
        driver: driver.clone(),
        peer: to_peer,
        recorder: Arc::clone(&recorder),
    };
    let reporter = Reporter {
        member: options.member.clone(),
        incarnation,
        standing,
        recorder,
        hub: Arc::clone(&hub),
        known,
    };
    let network = Network {
        parties,
        driver: driver.clone(),
        hub,
        volume,
        keeper: keeper_inbox,
        acks,
    };
    Ok(Parts {
        link,
        network: Arc::new(network),
        control: Control { reporter, driver },
        to_recorder,
        inboxes: Inboxes {
            recorder: recorder_inbox,
            peer: peer_inbox,
            acks: acks_inbox,
        },
    })
}

/// The Lease in the API server; and the EndpointSlice follows the epochs that are served.
async fn lease(
    options: &Options,
    config: &RenderedConfig,
    settings: &Settings,
    served: mpsc::UnboundedReceiver<u64>,
) -> anyhow::Result<KubeLease> {
    let client = client(settings.api_timeout).await?;
    let namespace = config.pair.namespace.clone();
    let duration = config.failover.lease_duration_seconds;
    let lease = KubeLease::new(
        client.clone(),
        &namespace,
        &config.lease,
        duration,
        settings.api_timeout,
    );
    let ip = options.pod_ip.clone().context("POD_IP is not set")?;
    tokio::spawn(slice::follow(
        client,
        namespace,
        config.primary_slice.clone(),
        ip,
        served,
    ));
    Ok(lease)
}

/// Starts the driver on a thread of its own.
fn drive<A: LeaseApi>(
    member: Member,
    api: Arc<A>,
    slots: EpochSlots,
    outputs: Outputs,
    channels: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("authority".into())
        .spawn(move || {
            runtime.block_on(Driver::new(member, api, slots, outputs, channels).run());
            tracing::error!("authority is not driven any more, ending");
            std::process::exit(1);
        })?;
    Ok(())
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}
