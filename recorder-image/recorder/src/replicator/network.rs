//! Connections to the peer: dialled for control and for media, accepted for both.

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::net::sockopt;
use rustls::pki_types::{IpAddr, ServerName};
use segment::{SegmentId, Volume};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use uuid::Uuid;

use super::driver::Input;
use super::hub::Hub;
use super::keeper::Work;
use super::tls::{Identity, identity_of};
use super::{receiver, sender};
use crate::accept::accept;
use crate::wire::{Hello, Message, Purpose, Reader, VERSION, WireError, Writer, halves};

const CONNECT: Duration = Duration::from_millis(500);
const HANDSHAKE: Duration = Duration::from_secs(3);
const PAUSE: (u64, u64) = (50, 500);
/// A connection whose bytes are not taken for so long is dead.
const USER_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a silent connection is tried.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// The most connections of strangers that shake hands at once.
const MAX_HANDSHAKES: usize = 32;

/// Who this is, and who the peer is.
#[derive(Debug)]
pub struct Parties {
    /// The UID of the RecorderPair.
    pub pair: String,
    /// This member.
    pub member: String,
    /// This volume.
    pub store: Uuid,
    /// The peer's name.
    pub peer: String,
    /// Where the peer listens. It changes where somebody makes the Service anew.
    pub address: std::sync::Mutex<String>,
    /// Where the certificates are.
    pub tls: PathBuf,
}

impl Parties {
    fn address(&self) -> String {
        self.address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The peer listens elsewhere now.
    pub fn set_address(&self, address: &str) {
        let mut current = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != address {
            tracing::info!(address, "the peer has another address");
            address.clone_into(&mut current);
        }
    }
}

/// What connections lead to.
#[derive(Debug)]
pub struct Network {
    /// Who is who.
    pub parties: Parties,
    /// The driver.
    pub driver: mpsc::Sender<Input>,
    /// What is here.
    pub hub: Arc<Hub>,
    /// The volume.
    pub volume: Arc<Volume>,
    /// What was received goes here.
    pub keeper: SyncSender<Work>,
    /// Acknowledgements of the peer go here.
    pub acks: mpsc::Sender<(SegmentId, u64)>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Tls(#[from] super::tls::TlsError),
    #[error("no answer in time")]
    Timeout,
    #[error("it is {found}, not {expected}")]
    Stranger { found: String, expected: String },
    #[error(
        "it speaks version {0} of the protocol, this side version {VERSION}: update both members to one image"
    )]
    Version(u32),
    #[error("it belongs to another pair")]
    OtherPair,
}

type Dialled = tokio_rustls::client::TlsStream<TcpStream>;

impl Network {
    fn hello(&self, purpose: Purpose) -> Message {
        let p = &self.parties;
        Message::Hello(Hello {
            version: VERSION,
            pair: p.pair.clone(),
            member: p.member.clone(),
            store: p.store,
            purpose,
        })
    }

    fn peer_uri(&self) -> String {
        crds::names::member_uri(&self.parties.pair, &self.parties.peer)
    }

    fn check_peer(&self, found: String) -> Result<(), Failed> {
        let expected = self.peer_uri();
        if found == expected {
            Ok(())
        } else {
            Err(Failed::Stranger { found, expected })
        }
    }

    fn check_hello(&self, message: Message) -> Result<Hello, Failed> {
        let Message::Hello(hello) = message else {
            return Err(WireError::Unexpected("no hello").into());
        };
        if hello.version != VERSION {
            return Err(Failed::Version(hello.version));
        }
        if hello.pair != self.parties.pair || hello.member != self.parties.peer {
            return Err(Failed::OtherPair);
        }
        Ok(hello)
    }

    async fn dial(&self, purpose: Purpose) -> Result<(Reader<Dialled>, Writer<Dialled>), Failed> {
        let address = self.parties.address();
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
        let socket = connected.map_err(|_| Failed::Timeout)??;
        tune(&socket);
        let identity = Identity::load(&self.parties.tls)?;
        let name = ServerName::IpAddress(IpAddr::from(std::net::Ipv4Addr::LOCALHOST));
        let greeted = async {
            let stream = TlsConnector::from(identity.client).connect(name, socket).await?;
            self.check_peer(identity_of(stream.get_ref().1.peer_certificates())?)?;
            let (mut from, mut to) = halves(stream);
            to.send(self.hello(purpose)).await?;
            self.check_hello(from.next().await?.0)?;
            Ok((from, to))
        };
        tokio::time::timeout(HANDSHAKE, greeted)
            .await
            .map_err(|_| Failed::Timeout)?
    }

    /// Keeps a control connection to the peer, over which this side says what it has to say.
    pub async fn control(self: Arc<Self>, mut outbox: mpsc::Receiver<Message>) {
        let mut complaints = Complaints::default();
        loop {
            match self.dial(Purpose::Control).await {
                Ok((_from, mut to)) => {
                    complaints.clear();
                    // What waited meanwhile is old.
                    while outbox.try_recv().is_ok() {}
                    while let Some(message) = outbox.recv().await {
                        let sent = tokio::time::timeout(Duration::from_secs(1), to.send(message)).await;
                        if !matches!(sent, Ok(Ok(()))) {
                            break;
                        }
                    }
                }
                Err(e) => complaints.say("control", &self.parties.peer, &e),
            }
            pause().await;
        }
    }

    /// Keeps a media connection to the peer, over which this side receives.
    pub async fn media(self: Arc<Self>) {
        let mut complaints = Complaints::default();
        loop {
            match self.dial(Purpose::Media).await {
                Ok((from, to)) => {
                    complaints.clear();
                    tracing::info!(peer = self.parties.peer, "receiving media");
                    let peer = self.parties.peer.clone();
                    let ended = receiver::receive(from, to, peer, &self.hub, &self.keeper).await;
                    tracing::info!(peer = self.parties.peer, "no more media: {ended:?}");
                }
                Err(e) => complaints.say("media", &self.parties.peer, &e),
            }
            pause().await;
        }
    }

    /// Accepts the peer's connections. Never returns.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(tokio::sync::Semaphore::new(MAX_HANDSHAKES));
        let complaints = Arc::new(Mutex::new(Complaints::default()));
        loop {
            let (socket, from) = accept("the peer", || listener.accept()).await;
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                continue;
            };
            let (this, complaints) = (Arc::clone(&self), Arc::clone(&complaints));
            tokio::spawn(async move {
                tune(&socket);
                match tokio::time::timeout(HANDSHAKE, this.greet(socket)).await {
                    Ok(Ok((purpose, from, to))) => {
                        drop(permit);
                        this.serve(purpose, from, to).await;
                    }
                    Ok(Err(e)) => complaints.lock().await.say("accepted", &from.to_string(), &e),
                    Err(_) => complaints
                        .lock()
                        .await
                        .say("accepted", &from.to_string(), &Failed::Timeout),
                }
            });
        }
    }

    async fn greet(
        &self,
        socket: TcpStream,
    ) -> Result<(Purpose, Reader<Accepted>, Writer<Accepted>), Failed> {
        let identity = Identity::load(&self.parties.tls)?;
        let stream = TlsAcceptor::from(identity.server).accept(socket).await?;
        self.check_peer(identity_of(stream.get_ref().1.peer_certificates())?)?;
        let (mut from, mut to) = halves(stream);
        let hello = self.check_hello(from.next().await?.0);
        // Said also to one of another version, so that both logs name both numbers.
        to.send(self.hello(Purpose::Control)).await?;
        Ok((hello?.purpose, from, to))
    }

    async fn serve(&self, purpose: Purpose, from: Reader<Accepted>, to: Writer<Accepted>) {
        let ended = match purpose {
            Purpose::Control => self.listen(from).await,
            Purpose::Media => {
                let (volume, hub) = (Arc::clone(&self.volume), Arc::clone(&self.hub));
                sender::serve(from, to, volume, hub, self.acks.clone()).await
            }
        };
        tracing::info!(peer = self.parties.peer, ?purpose, "connection ended: {ended:?}");
    }

    /// Passes the peer's control messages to the driver.
    async fn listen(&self, mut from: Reader<Accepted>) -> Result<(), WireError> {
        loop {
            let (message, _) = from.next().await?;
            let input = match message {
                Message::Request(r) if self.is_peer(&r.from) => {
                    Input::Event(failover::Event::RequestReceived(r))
                }
                Message::Answer(a) if self.is_peer(&a.from) => {
                    Input::Event(failover::Event::AnswerReceived(a))
                }
                Message::Release(r) if self.is_peer(&r.from) => {
                    Input::Event(failover::Event::ReleaseReceived(r))
                }
                Message::Streams(word) => Input::PeerStreams(word),
                _ => return Err(WireError::Unexpected("not a control message of the peer")),
            };
            if self.driver.send(input).await.is_err() {
                return Ok(());
            }
        }
    }

    fn is_peer(&self, from: &failover::MemberRef) -> bool {
        from.member.as_str() == self.parties.peer
    }
}

type Accepted = tokio_rustls::server::TlsStream<TcpStream>;

fn tune(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let millis = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    let _ = sockopt::set_tcp_user_timeout(socket, millis);
    // A connection on which nothing is said has to show, too, that it still leads somewhere.
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE);
    let _ = sockopt::set_tcp_keepintvl(socket, KEEPALIVE);
    let _ = sockopt::set_tcp_keepcnt(socket, 3);
}

async fn pause() {
    let ms = rand::Rng::random_range(&mut rand::rng(), PAUSE.0..PAUSE.1);
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Says a thing once a minute, not at each attempt.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<(String, std::time::Instant)>,
}

impl Complaints {
    fn say(&mut self, what: &str, peer: &str, e: &Failed) {
        let text = e.to_string();
        let said = |(last, at): &(String, std::time::Instant)| {
            *last == text && at.elapsed() < Duration::from_mins(1)
        };
        if !self.last.as_ref().is_some_and(said) {
            tracing::warn!(peer, "{what} connection: {text}");
            self.last = Some((text, std::time::Instant::now()));
        }
    }

    fn clear(&mut self) {
        self.last = None;
    }
}
