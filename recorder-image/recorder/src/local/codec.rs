//! The framing of [`super`]: a length, then CBOR.

use std::io;
use std::marker::PhantomData;
use std::path::Path;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// The longest message, in bytes. The longest that is sent has the health of all streams, or the marks of frames that were made durable
/// together: some hundred KB.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Why a local connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The socket failed, or a message was longer than [`MAX_MESSAGE`].
    #[error("local socket: {0}")]
    Io(#[from] io::Error),
    /// The other process sent something that is no message of this version.
    #[error("local message cannot be read: {0}")]
    Decode(String),
    /// A message could not be written as CBOR.
    #[error("local message cannot be written: {0}")]
    Encode(String),
    /// The other process takes nothing.
    #[error("the other process takes nothing")]
    Stalled,
}

/// The sending half of a local connection.
#[derive(Debug)]
pub struct Sender<T> {
    sink: FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>,
    what: PhantomData<fn(T)>,
}

impl<T: Serialize> Sender<T> {
    /// Sends one message and flushes it. Not cancel safe: drop the connection if this future is dropped.
    ///
    /// # Errors
    /// When the other process is gone.
    pub async fn send(&mut self, message: &T) -> Result<(), LocalError> {
        self.sink.send(encode(message)?).await?;
        Ok(())
    }

    /// Sends messages with as few writes as they fit in. Not cancel safe, as [`Self::send`].
    ///
    /// # Errors
    /// When the other process is gone.
    pub async fn send_all(&mut self, messages: &[T]) -> Result<(), LocalError> {
        for message in messages {
            self.sink.feed(encode(message)?).await?;
        }
        // The item type must be named: the codec is a sink of anything that is a buffer.
        SinkExt::<Bytes>::flush(&mut self.sink).await?;
        Ok(())
    }
}

/// The receiving half of a local connection.
#[derive(Debug)]
pub struct Receiver<T> {
    stream: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    what: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Receiver<T> {
    /// The next message, or `None` when the other process closed the connection. Cancel safe.
    ///
    /// # Errors
    /// When the socket fails or a message cannot be read; the connection is of no more use then.
    pub async fn recv(&mut self) -> Result<Option<T>, LocalError> {
        match self.stream.next().await {
            None => Ok(None),
            Some(frame) => Ok(Some(decode(&frame?)?)),
        }
    }
}

fn encode<T: Serialize>(message: &T) -> Result<Bytes, LocalError> {
    let mut out = Vec::with_capacity(256);
    ciborium::into_writer(message, &mut out).map_err(|e| LocalError::Encode(e.to_string()))?;
    Ok(out.into())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LocalError> {
    ciborium::from_reader(bytes).map_err(|e| LocalError::Decode(e.to_string()))
}

/// Splits a connected socket into its two typed halves.
pub fn split<S, R>(socket: UnixStream) -> (Sender<S>, Receiver<R>) {
    let (read, write) = socket.into_split();
    let codec = || {
        LengthDelimitedCodec::builder()
            .max_frame_length(MAX_MESSAGE)
            .new_codec()
    };
    (
        Sender {
            sink: FramedWrite::new(write, codec()),
            what: PhantomData,
        },
        Receiver {
            stream: FramedRead::new(read, codec()),
            what: PhantomData,
        },
    )
}

/// Dials the socket at `path`.
///
/// # Errors
/// When nobody listens there.
pub async fn dial<S, R>(path: &Path) -> Result<(Sender<S>, Receiver<R>), LocalError> {
    Ok(split(UnixStream::connect(path).await?))
}

/// Listens at `path`; a socket file left by a dead process is removed first.
///
/// # Errors
/// When the folder is missing or not writable.
pub fn listen(path: &Path) -> Result<UnixListener, LocalError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    Ok(UnixListener::bind(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::{Authority, Role, ToRecorder, ToReplicator};

    #[tokio::test]
    async fn messages_cross_the_socket_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = crate::local::socket_path(dir.path());
        let listener = listen(&path).unwrap();
        let (mut tx, rx) = dial::<ToRecorder, ToReplicator>(&path).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let (_tx2, mut rx2) = split::<ToReplicator, ToRecorder>(socket);
        let authority = ToRecorder::Authority(Authority {
            epoch: 7,
            role: Role::Primary,
            deadline_boottime_ns: 9,
        });
        let both = [authority.clone(), ToRecorder::Withdraw { epoch: 7 }];
        tx.send_all(&both).await.unwrap();
        assert_eq!(rx2.recv().await.unwrap(), Some(authority));
        assert_eq!(rx2.recv().await.unwrap(), Some(ToRecorder::Withdraw { epoch: 7 }));
        drop((tx, rx));
        assert_eq!(rx2.recv().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_stale_socket_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = crate::local::socket_path(dir.path());
        drop(listen(&path).unwrap());
        listen(&path).unwrap();
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(matches!(
            decode::<ToRecorder>(b"\xffgarbage"),
            Err(LocalError::Decode(_))
        ));
    }
}
