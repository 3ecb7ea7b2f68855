//! The process: its options, its parts, its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crds::member::{KnownStream, RenderedConfig};
use failover::streams::{Policy, Streams};
use failover::{
    BootTime, Config, Epoch, Event, Incarnation, Member, MemberName, MemberRef, Settings, StoreId,
};
use segment::{Catalogue, EpochSlots, Role, SegmentId, StreamUid, Volume};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::dial::Tls;
use super::driver::{Driver, Input, LeaseApi, NoLease, Outputs, Standing, persist};
use super::hub::Hub;
use super::keeper::{Keeper, Work};
use super::kube_lease::{KubeLease, client};
use super::link::Link;
use super::network::{Network, Parties};
use super::readers::{self, Sight};
use super::report::{Reporter, known_streams};
use super::server::{self, Control};
use super::{patience, slice};
use crate::clock;
use crate::clock::boottime_ns;
use crate::early;
use crate::local::ToRecorder;
use crate::wire::Message;

/// How often the configuration is looked at.
const FOLLOW: Duration = Duration::from_secs(1);
/// How long a process that is told to end waits for another primary. Kubernetes gives a pod 10 s.
const LEAVE: Duration = Duration::from_secs(3);
/// After how much time in which it hears nobody it waits no more: a word or two may be late.
const ALONE: Duration = Duration::from_millis(500);
/// How often it looks.
const LEAVE_PERIOD: Duration = Duration::from_millis(20);
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
    /// The node of this pod, for the same
    #[arg(long, env = "NODE_NAME")]
    node: Option<String>,
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

/// When a stream that moved returns.
fn policy(config: &RenderedConfig) -> Policy {
    Policy {
        failback_after: config.failover.stream_failback_ms.map(Duration::from_millis),
    }
}

fn settings(config: &RenderedConfig) -> anyhow::Result<Settings> {
    let ms = Duration::from_millis;
    let failover = &config.failover;
    let settings = Settings {
        takes_unasked: !patience::waits(),
        ..Settings::with(ms(failover.leash_ms), ms(failover.suspect_after_ms))
    };
    settings.check()?;
    Ok(settings)
}

/// Follows the configuration: what authority goes by, and where the peer is. Never returns.
async fn follow(options: &Options, network: &Network<Tls>, driver: &mpsc::Sender<Input>) {
    let mut in_force = None;
    loop {
        tokio::time::sleep(FOLLOW).await;
        let found = match read_config(&options.config).await {
            Ok(config) => settings(&config).map(|settings| (settings, config)),
            Err(e) => Err(e),
        };
        let Ok((settings, config)) =
            found.inspect_err(|e| tracing::warn!("the last good configuration stays: {e}"))
        else {
            continue;
        };
        if let Some(peer) = config.members.iter().find(|m| m.name != options.member) {
            network.parties.set_address(&peer.peer);
        }
        network.hub.configure(config.replication.clone());
        let policy = policy(&config);
        if in_force.as_ref() != Some(&(settings.clone(), policy)) {
            let _ = driver.send(Input::Policy(policy, settings.leash)).await;
            let _ = driver
                .send(Input::Event(Event::SettingsChanged(settings.clone())))
                .await;
            in_force = Some((settings, policy));
        }
    }
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
        clock::obey(media);
        patience::obey(media);
        let volume = Arc::new(Volume::open(media, Role::Replicator)?);
        let slots = EpochSlots::open(&volume)?;
        let (_, catalogue, found) = Catalogue::open(&volume, clock::wall_s(), clock::boot_s())?;
        // I10: what an earlier process wrote is durable only now. A disk that fails must not keep the replicator from starting.
        if let Err(e) = volume.sync() {
            tracing::error!("the volume cannot be synced: {e}");
        }
        let hub = Arc::new(Hub::new(volume.store(), &catalogue));
        for cut in catalogue.record_rebuilt(&volume, &found, Role::Replicator) {
            hub.truncated();
            tracing::error!(path = %cut.path.display(), kept = cut.kept, lost = cut.lost, "a damaged ledger was cut after its last whole record");
        }
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
        let member = Member::new(
            BootTime(boottime_ns()),
            Config {
                me,
                peers,
                synced,
                settings,
            },
        );
        #[cfg(feature = "sabotage")]
        let member = super::driver::sabotaged(member);
        Ok(member)
    }
}

/// The ends of the queues between the parts that the parts themselves do not keep.
struct Inboxes {
    recorder: mpsc::UnboundedReceiver<ToRecorder>,
    peer: mpsc::Receiver<Message>,
    acks: mpsc::Receiver<(SegmentId, u64)>,
    /// Also when it panicked, as the next.
    keeper_ended: oneshot::Receiver<()>,
    driver_ended: oneshot::Receiver<()>,
}

/// The parts, connected.
struct Parts {
    link: Link,
    network: Arc<Network<Tls>>,
    control: Control,
    to_recorder: mpsc::UnboundedSender<ToRecorder>,
    inboxes: Inboxes,
}

/// Runs until SIGTERM or SIGINT, and hands authority over before it ends. The end of any part is the end of the process.
///
/// # Errors
/// What kept the process from starting, or which part ended.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let config = read_config(&options.config).await?;
    let (probes, early) = early::listen(options.listen_status).context("cannot listen for probes")?;
    let parts = connect(&options, &config).await?;
    let peers = TcpListener::bind(options.listen_peer)
        .await
        .context("cannot listen for the peer")?;
    let orders = TcpListener::bind(options.listen_control)
        .await
        .context("cannot listen for the operator")?;
    drop(early);
    let operator = crds::names::operator_uri(&config.pair.uid);
    let Parts {
        link,
        network,
        control,
        to_recorder,
        mut inboxes,
    } = parts;
    let (reporter, driver) = (control.reporter.clone(), control.driver.clone());
    let leaving = reporter.clone();
    let passing = async move {
        while let Some((id, end)) = inboxes.acks.recv().await {
            let _ = to_recorder.send(ToRecorder::PeerAcknowledged { id, end });
        }
    };
    // Tasks of their own: a heartbeat waits neither for a large inventory nor for the recorder's messages.
    let heartbeats = tokio::spawn(Arc::clone(&network).control(inboxes.peer));
    let media = tokio::spawn(Arc::clone(&network).media());
    let link = tokio::spawn(link.run(inboxes.recorder));
    tokio::select! {
        () = leave(&driver, &leaving) => Ok(()),
        r = link => anyhow::bail!("the link to the recorder ended: {r:?}"),
        r = heartbeats => anyhow::bail!("the control connection ended: {r:?}"),
        r = media => anyhow::bail!("the media connection ended: {r:?}"),
        () = passing => anyhow::bail!("acknowledgements ended"),
        _ = inboxes.keeper_ended => anyhow::bail!("the keeper ended"),
        _ = inboxes.driver_ended => anyhow::bail!("authority is not driven any more"),
        () = follow(&options, &network, &driver) => anyhow::bail!("following the configuration ended"),
        () = Arc::clone(&network).accept(peers) => anyhow::bail!("the peer's listener ended"),
        () = server::control(orders, control, options.tls.clone(), operator) => anyhow::bail!("the operator's listener ended"),
        r = server::status(probes, reporter, options.tls.clone()) => anyhow::bail!("the probes' listener ended: {r:?}"),
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
        address: Mutex::new(peer.peer.clone()),
    })
}

fn dialler(options: &Options, parties: &Parties) -> Tls {
    Tls {
        folder: options.tls.clone(),
        peer: crds::names::member_uri(&parties.pair, &parties.peer),
    }
}

/// Opens the volume, starts the keeper and the driver, and connects all parts.
async fn connect(options: &Options, config: &RenderedConfig) -> anyhow::Result<Parts> {
    let settings = settings(config)?;
    let opened = Opened::open(&options.media)?;
    opened.hub.configure(config.replication.clone());
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
    let (sight, sights) = watch::channel(None);
    let (acks, acks_inbox) = mpsc::channel(QUEUE);
    let (keeper_inbox, work) = mpsc::channel(QUEUE);
    let (standing, recorder) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));

    let keeper = Keeper::new(Arc::clone(&volume), Arc::clone(&hub), to_recorder.clone())?;
    let keeper_ended = spawn(keeper, work)?;
    let outputs = Outputs {
        peer: to_peer,
        recorder: to_recorder.clone(),
        serving,
        sight,
        standing: Arc::clone(&standing),
        hub: Arc::clone(&hub),
        persist,
    };
    let streams = Streams::new(Incarnation(incarnation), policy(config), settings.leash);
    let channels = (driver.clone(), driver_inbox);
    let driver_ended = if options.no_lease {
        drive(member, streams, Arc::new(NoLease), slots, outputs, channels)?
    } else {
        let lease = lease(options, config, served, sights).await?;
        drive(member, streams, Arc::new(lease), slots, outputs, channels)?
    };
    let link = Link {
        run: options.run.clone(),
        volume: Arc::clone(&volume),
        hub: Arc::clone(&hub),
        driver: driver.clone(),
        keeper: keeper_inbox.clone(),
        recorder: Arc::clone(&recorder),
        reloads: Arc::default(),
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
        dialler: dialler(options, &parties),
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
            keeper_ended,
            driver_ended,
        },
    })
}

/// Runs the keeper on a thread of its own. The result says when it ended.
fn spawn(keeper: Keeper, work: mpsc::Receiver<Work>) -> std::io::Result<oneshot::Receiver<()>> {
    let (ended, keeper_ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    std::thread::Builder::new().name("keeper".into()).spawn(move || {
        runtime.block_on(keeper.run(work));
        let _ = ended.send(());
    })?;
    Ok(keeper_ended)
}

/// The Lease in the API server; and the EndpointSlices follow the epochs that are served and what is seen of the peer.
async fn lease(
    options: &Options,
    config: &RenderedConfig,
    served: mpsc::UnboundedReceiver<u64>,
    sights: watch::Receiver<Option<Sight>>,
) -> anyhow::Result<KubeLease> {
    let client = client().await?;
    let duration = config.failover.lease_duration_seconds;
    let lease = KubeLease::new(client.clone(), config.pair.clone(), &config.lease, duration);
    let me = slice::Me {
        member: options.member.clone(),
        pair: config.pair.clone(),
        ip: options.pod_ip.clone().context("POD_IP is not set")?,
        node: options.node.clone(),
    };
    let read_slice = crds::names::read_service(&config.pair.name);
    tokio::spawn(readers::follow(client.clone(), read_slice, me.clone(), sights));
    tokio::spawn(slice::follow(client, config.primary_slice.clone(), me, served));
    Ok(lease)
}

/// Starts the driver on a thread of its own. The result says when it ended.
fn drive<A: LeaseApi>(
    member: Member,
    streams: Streams<StreamUid>,
    api: Arc<A>,
    slots: EpochSlots,
    outputs: Outputs,
    channels: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
) -> anyhow::Result<oneshot::Receiver<()>> {
    let (ended, driver_ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let clock = Arc::new(|| BootTime(boottime_ns()));
    std::thread::Builder::new()
        .name("authority".into())
        .spawn(move || {
            runtime.block_on(Driver::new(member, streams, api, slots, outputs, channels, clock).run());
            let _ = ended.send(());
        })?;
    Ok(driver_ended)
}

/// Waits for SIGTERM or SIGINT. Then hands authority over where it is held and a follower can take it, so that a planned
/// end costs nobody the wait for a leash. Ends when another primary is heard, nobody was there to be one for [`ALONE`], or [`LEAVE`]
/// is over: then the leash runs out, as when the process is killed.
async fn leave(driver: &mpsc::Sender<Input>, reporter: &Reporter) {
    signalled().await;
    let handed_over = async {
        let mut accompanied = Instant::now();
        while let Some(Standing { report, .. }) = reporter.standing() {
            if report.peers.iter().any(|peer| !peer.suspected) {
                accompanied = Instant::now();
            }
            match report.serving_epoch {
                _ if accompanied.elapsed() >= ALONE => return,
                None if report.hears_primary => return,
                None => {}
                Some(epoch) => {
                    let (answer, _) = oneshot::channel();
                    let order = Input::Order(Event::SwitchoverOrder { epoch }, answer);
                    let _ = driver.send(order).await;
                }
            }
            tokio::time::sleep(LEAVE_PERIOD).await;
        }
    };
    if tokio::time::timeout(LEAVE, handed_over).await.is_err() {
        tracing::warn!("ending without another primary");
    }
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}
