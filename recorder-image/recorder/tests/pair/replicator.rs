//! The replicator of one machine: its real parts, on a simulated network.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use failover::streams::{Policy, Streams};
use failover::{Config, Epoch, Incarnation, Member, MemberName, MemberRef, Settings, StoreId};
use recorder::local::ToRecorder;
use recorder::replicator::dial::{Dial, Failed};
use recorder::replicator::driver::{Call, Driver, Input, Outputs, fence, sabotaged};
use recorder::replicator::hub::Hub;
use recorder::replicator::keeper::{Keeper, Work};
use recorder::replicator::network::{Network, Parties};
use segment::{Catalogue, EpochSlots, Role, SegmentId, Volume};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use turmoil::net::{TcpListener, TcpStream};

use crate::lease::{Api, Client};
use crate::machine::{Clock, Disk, Now};
use crate::{MS, Rng, name};

const QUEUE: usize = 256;
const PORT: u16 = 7443;

/// What the replicator and its recorder have of each other.
pub struct Link {
    pub hub: Arc<Hub>,
    pub work: mpsc::Sender<Work>,
    pub driver: mpsc::Sender<Input>,
    pub told: mpsc::UnboundedReceiver<ToRecorder>,
    pub acks: mpsc::Receiver<(SegmentId, u64)>,
    pub volume: Arc<Volume>,
}

impl Link {
    /// The acknowledgements that wait are not heard.
    pub fn forget_acks(&mut self) {
        while self.acks.try_recv().is_ok() {}
    }
}

/// What a start of the process finds.
#[derive(Clone)]
pub struct Place {
    pub index: usize,
    pub now: Now,
    pub disk: Arc<Mutex<Disk>>,
    pub clock: Arc<Mutex<Clock>>,
    pub api: Arc<Mutex<Api>>,
    /// This machine's ends of the connections of now: where bytes were lost they end after a while.
    pub connections: Arc<Mutex<CancellationToken>>,
    pub rng: Arc<Mutex<Rng>>,
    pub settings: Settings,
    /// Where the recorder finds it.
    pub door: Arc<Mutex<Option<Link>>>,
    /// How often it was started.
    pub starts: Arc<Mutex<u64>>,
}

/// Runs until the process or the machine ends.
pub async fn run(place: Place) -> turmoil::Result {
    let mut parts = JoinSet::new();
    let link = start(&place, &mut parts).await?;
    *place.door.lock().unwrap() = Some(link);
    let ended = parts.join_next().await;
    if place.disk.lock().unwrap().is_off() {
        // The schedule deals with that.
        std::future::pending::<()>().await;
    }
    Err(format!("a part of {} ended: {ended:?}", name(place.index)).into())
}

/// Not on a thread beside: a seed decides in which order the syncs are. It takes a while, now and then a long one, in which other things
/// happen.
fn persist(slots: Arc<Mutex<EpochSlots>>, epoch: Epoch) -> Call<Result<(), String>> {
    let takes_ms = [2, 40, 10, 250][(epoch.0 % 4) as usize];
    Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(takes_ms)).await;
        fence(&slots, epoch).map_err(|e| e.to_string())
    })
}

/// Starts all parts, as the process does.
async fn start(place: &Place, parts: &mut JoinSet<()>) -> turmoil::Result<Link> {
    let volume = Arc::new(place.disk.lock().unwrap().open(Role::Replicator));
    let slots = EpochSlots::open(&volume)?;
    let (catalogue, found) = Catalogue::load(&volume, 0)?;
    catalogue.record_rebuilt(&volume, &found, Role::Replicator);
    if catch_unwind(AssertUnwindSafe(|| volume.sync())).is_err() {
        // The power went with it: the schedule deals with that.
        std::future::pending::<()>().await;
    }
    let hub = Arc::new(Hub::new(volume.store(), &catalogue));
    let (driver, driver_inbox) = mpsc::channel(QUEUE);
    let (to_peer, peer_inbox) = mpsc::channel(QUEUE);
    let (to_recorder, told) = mpsc::unbounded_channel();
    let (acks, acknowledged) = mpsc::channel(1 << 16);
    let (work, works) = mpsc::channel(QUEUE);
    let keeper = Keeper::new(Arc::clone(&volume), Arc::clone(&hub), to_recorder.clone())?;
    let outputs = Outputs {
        peer: to_peer,
        recorder: to_recorder,
        serving: mpsc::unbounded_channel().0,
        sight: watch::channel(None).0,
        standing: Arc::default(),
        hub: Arc::clone(&hub),
        persist,
    };
    let authority = place.authority(&volume, slots, outputs, (driver.clone(), driver_inbox))?;
    let network = Arc::new(Network {
        dialler: Dialler(place.clone()),
        parties: Parties {
            pair: "pair".into(),
            member: name(place.index).into(),
            store: volume.store(),
            peer: name(1 - place.index).into(),
            address: Mutex::new(format!("{}:{PORT}", name(1 - place.index))),
        },
        driver: driver.clone(),
        hub: Arc::clone(&hub),
        volume: Arc::clone(&volume),
        keeper: work.clone(),
        acks,
    });
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    parts.spawn(keeper.run(works));
    parts.spawn(authority.run());
    parts.spawn(Arc::clone(&network).control(peer_inbox));
    parts.spawn(Arc::clone(&network).media());
    parts.spawn(accept(listener, network, place.clone()));
    Ok(Link {
        hub,
        work,
        driver,
        told,
        acks: acknowledged,
        volume,
    })
}

async fn accept(listener: TcpListener, network: Arc<Network<Dialler>>, place: Place) {
    while let Ok((socket, _)) = listener.accept().await {
        let (network, connection) = (Arc::clone(&network), place.connection(socket));
        tokio::spawn(async move {
            if let Ok((hello, from, to)) = network.greet(async { Ok(connection) }).await {
                network.serve(hello, from, to).await;
            }
        });
    }
}

impl Place {
    /// What drives authority.
    fn authority(
        &self,
        volume: &Volume,
        slots: EpochSlots,
        outputs: Outputs,
        channels: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    ) -> turmoil::Result<Driver<Client>> {
        let mut starts = self.starts.lock().unwrap();
        *starts += 1;
        let incarnation = Incarnation(*starts * 2 + self.index as u64);
        let (clock, now) = (Arc::clone(&self.clock), Arc::clone(&self.now));
        let clock = move || clock.lock().unwrap().at(now.load(Ordering::SeqCst));
        let config = Config {
            me: MemberRef {
                member: MemberName::new(name(self.index))?,
                store: StoreId::new(&volume.store().to_string())?,
                incarnation,
            },
            peers: vec![MemberName::new(name(1 - self.index))?],
            synced: Epoch(slots.epoch()),
            settings: self.settings.clone(),
        };
        let member = sabotaged(Member::new(clock(), config));
        let lease = Client {
            api: Arc::clone(&self.api),
            who: self.index,
        };
        let streams = Streams::new(incarnation, Policy::default(), self.settings.leash);
        let (lease, clock) = (Arc::new(lease), Arc::new(clock));
        Ok(Driver::new(
            member, streams, lease, slots, outputs, channels, clock,
        ))
    }

    fn connection(&self, socket: TcpStream) -> Connection {
        let token = self.connections.lock().unwrap().clone();
        Connection {
            socket,
            ended: Box::pin(token.cancelled_owned()),
        }
    }
}

/// The way to the peer.
pub struct Dialler(Place);

impl Dial for Dialler {
    type Stream = Connection;

    async fn dial(&self, address: String) -> Result<Connection, Failed> {
        let connected = timeout(Duration::from_millis(500), TcpStream::connect(address)).await;
        Ok(self.0.connection(connected.map_err(|_| Failed::Timeout)??))
    }

    fn pause(&self) -> Duration {
        Duration::from_nanos((50 + self.0.rng.lock().unwrap().below(450)) * MS)
    }
}

/// A connection that ends some time after the link was cut, as by `TCP_USER_TIMEOUT`: what was lost meanwhile is not sent again here.
pub struct Connection {
    socket: TcpStream,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
