//! Connections to the peer: dialled for control and for media, accepted for both.

use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use segment::{SegmentId, Volume};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use super::dial::{Dial, Failed, Tls};
use super::driver::Input;
use super::hub::Hub;
use super::keeper::{Peer, Work};
use super::{receiver, sender};
use crate::accept::accept;
use crate::wire::{Hello, Message, Purpose, Reader, VERSION, WireError, Writer, halves};

const HANDSHAKE: Duration = Duration::from_secs(3);
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
pub struct Network<D> {
    /// The way to the peer.
    pub dialler: D,
    /// Who is who.
    pub parties: Parties,
    /// The driver.
    pub driver: mpsc::Sender<Input>,
    /// What is here.
    pub hub: Arc<Hub>,
    /// The volume.
    pub volume: Arc<Volume>,
    /// What was received goes here.
    pub keeper: mpsc::Sender<Work>,
    /// Acknowledgements of the peer go here.
    pub acks: mpsc::Sender<(SegmentId, u64)>,
}

impl<D: Dial> Network<D> {
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

    async fn dial(&self, purpose: Purpose) -> Result<(Hello, Reader<D::Stream>, Writer<D::Stream>), Failed> {
        let greeted = async {
            let stream = self.dialler.dial(self.parties.address()).await?;
            let (mut from, mut to) = halves(stream);
            to.send(self.hello(purpose)).await?;
            let hello = self.check_hello(from.next().await?.0)?;
            Ok((hello, from, to))
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
                Ok((_, _from, mut to)) => {
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
            tokio::time::sleep(self.dialler.pause()).await;
        }
    }

    /// Keeps a media connection to the peer, over which this side receives.
    pub async fn media(self: Arc<Self>) {
        let mut complaints = Complaints::default();
        loop {
            match self.dial(Purpose::Media).await {
                Ok((Hello { member, store, .. }, from, to)) => {
                    complaints.clear();
                    tracing::info!(peer = member, "receiving media");
                    let peer = Peer { member, store };
                    let ended = receiver::receive(from, to, peer, &self.hub, &self.keeper).await;
                    tracing::info!(peer = self.parties.peer, "no more media: {ended:?}");
                }
                Err(e) => complaints.say("media", &self.parties.peer, &e),
            }
            tokio::time::sleep(self.dialler.pause()).await;
        }
    }

    /// Greets who dialled as soon as the connection stands, and returns what it says of itself.
    ///
    /// # Errors
    /// [`Failed`]; [`Failed::Timeout`] where all of it takes too long.
    pub async fn greet<T: AsyncRead + AsyncWrite>(
        &self,
        arriving: impl Future<Output = Result<T, Failed>>,
    ) -> Result<(Hello, Reader<T>, Writer<T>), Failed> {
        let greeted = async {
            let (mut from, mut to) = halves(arriving.await?);
            let hello = self.check_hello(from.next().await?.0);
            // Said also to one of another version, so that both logs name both numbers.
            to.send(self.hello(Purpose::Control)).await?;
            Ok((hello?, from, to))
        };
        tokio::time::timeout(HANDSHAKE, greeted)
            .await
            .map_err(|_| Failed::Timeout)?
    }

    /// Serves a connection that the peer dialled until it ends.
    pub async fn serve<T: AsyncRead + AsyncWrite + Send + 'static>(
        &self,
        Hello { purpose, store, .. }: Hello,
        from: Reader<T>,
        to: Writer<T>,
    ) {
        let ended = match purpose {
            Purpose::Control => self.listen(from).await,
            Purpose::Media => {
                let (volume, hub) = (Arc::clone(&self.volume), Arc::clone(&self.hub));
                sender::serve(from, to, volume, hub, store, self.acks.clone()).await
            }
        };
        tracing::info!(peer = self.parties.peer, ?purpose, "connection ended: {ended:?}");
    }

    /// Passes the peer's control messages to the driver.
    async fn listen<T: AsyncRead>(&self, mut from: Reader<T>) -> Result<(), WireError> {
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

impl Network<Tls> {
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
                match this.greet(this.dialler.accept(socket)).await {
                    Ok((hello, from, to)) => {
                        drop(permit);
                        this.serve(hello, from, to).await;
                    }
                    Err(e) => complaints.lock().await.say("accepted", &from.to_string(), &e),
                }
            });
        }
    }
}

/// Says a thing once a minute, not at each attempt.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<(String, Instant)>,
}

impl Complaints {
    fn say(&mut self, what: &str, peer: &str, e: &Failed) {
        let text = e.to_string();
        let said = |(last, at): &(String, Instant)| *last == text && at.elapsed() < Duration::from_mins(1);
        if !self.last.as_ref().is_some_and(said) {
            tracing::warn!(peer, "{what} connection: {text}");
            self.last = Some((text, Instant::now()));
        }
    }

    fn clear(&mut self) {
        self.last = None;
    }
}
