//! How members reach each other: over TCP, and over TLS on it, which proves who is at the other end.

use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::pki_types::{IpAddr, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::tls::{Identity, TlsError, identity_of};
use crate::wire::{VERSION, WireError};

const CONNECT: Duration = Duration::from_millis(500);
const PAUSE_MS: std::ops::Range<u64> = 50..500;
/// A connection whose bytes are not taken for so long is dead.
const USER_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a silent connection is tried.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It broke while both sides greeted.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// No connection, or no TLS on it.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// This side has no identity, or the peer has none.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nothing came.
    #[error("no answer in time")]
    Timeout,
    /// Somebody else is there.
    #[error("it is {found}, not {expected}")]
    Stranger {
        /// Who.
        found: String,
        /// Who should be.
        expected: String,
    },
    /// The peer runs another image.
    #[error(
        "it speaks version {0} of the protocol, this side version {VERSION}: update both members to one image"
    )]
    Version(u32),
    /// The peer is configured otherwise.
    #[error("it belongs to another pair")]
    OtherPair,
}

/// A way to the peer.
pub trait Dial: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + 'static;

    /// A connection to the peer at `address`, which has proven who it is.
    fn dial(&self, address: String) -> impl Future<Output = Result<Self::Stream, Failed>> + Send;

    /// How long to wait before the next attempt: by chance, so that two members do not keep meeting.
    fn pause(&self) -> Duration;
}

/// TLS over TCP, with the certificates of the pair's own authority.
#[derive(Debug)]
pub struct Tls {
    /// The folder with `tls.crt`, `tls.key` and `ca.crt`; read for each connection, since they are replaced.
    pub folder: PathBuf,
    /// The URI in the peer's certificate.
    pub peer: String,
}

impl Tls {
    /// The connection that came over `socket`, from the peer.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn accept(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, Failed> {
        tune(&socket);
        let identity = Identity::load(&self.folder)?;
        let stream = TlsAcceptor::from(identity.server).accept(socket).await?;
        self.proven(stream.into())
    }

    fn proven(&self, stream: TlsStream<TcpStream>) -> Result<TlsStream<TcpStream>, Failed> {
        let found = identity_of(stream.get_ref().1.peer_certificates())?;
        if found == self.peer {
            return Ok(stream);
        }
        let expected = self.peer.clone();
        Err(Failed::Stranger { found, expected })
    }
}

impl Dial for Tls {
    type Stream = TlsStream<TcpStream>;

    async fn dial(&self, address: String) -> Result<Self::Stream, Failed> {
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
        let socket = connected.map_err(|_| Failed::Timeout)??;
        tune(&socket);
        let identity = Identity::load(&self.folder)?;
        let name = ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST));
        let stream = TlsConnector::from(identity.client).connect(name, socket).await?;
        self.proven(stream.into())
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(rand::Rng::random_range(&mut rand::rng(), PAUSE_MS))
    }
}

/// A connection ends soon after it leads nowhere any more.
pub(super) fn tune(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let millis = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    let _ = sockopt::set_tcp_user_timeout(socket, millis);
    // A connection on which nothing is said has to show, too, that it still leads somewhere.
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE);
    let _ = sockopt::set_tcp_keepintvl(socket, KEEPALIVE);
    let _ = sockopt::set_tcp_keepcnt(socket, 3);
}
