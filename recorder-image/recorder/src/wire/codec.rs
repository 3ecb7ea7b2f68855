//! Framing: length of the CBOR (u32), length of the payload (u32), the CBOR, the payload. Big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio_util::codec::{Decoder, Encoder, FramedRead, FramedWrite};

use super::Message;

/// The most bytes of a message without its payload.
pub const MAX_CBOR: usize = 8 << 20;
/// The most bytes of a payload: one fragment.
pub const MAX_PAYLOAD: usize = segment::fmp4::MAX_FRAGMENT;
const HEADER: usize = 8;

/// A message and what it carries.
pub type Frame = (Message, Bytes);

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection failed.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    /// A length beyond the limits.
    #[error("a message of {cbor} and {payload} bytes is too large")]
    TooLarge {
        /// Bytes of CBOR.
        cbor: usize,
        /// Bytes of payload.
        payload: usize,
    },
    /// Bytes that are no message of this version.
    #[error("not a message of this protocol: {0}")]
    Malformed(String),
    /// The peer said something that it may not say now.
    #[error("unexpected: {0}")]
    Unexpected(&'static str),
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
}

/// See the module.
#[derive(Debug, Default)]
struct Codec;

impl Decoder for Codec {
    type Item = Frame;
    type Error = WireError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        if src.len() < HEADER {
            return Ok(None);
        }
        let cbor = u32::from_be_bytes([src[0], src[1], src[2], src[3]]) as usize;
        let payload = u32::from_be_bytes([src[4], src[5], src[6], src[7]]) as usize;
        if cbor > MAX_CBOR || payload > MAX_PAYLOAD {
            return Err(WireError::TooLarge { cbor, payload });
        }
        if src.len() < HEADER + cbor + payload {
            src.reserve(HEADER + cbor + payload - src.len());
            return Ok(None);
        }
        src.advance(HEADER);
        let body = src.split_to(cbor);
        let payload = src.split_to(payload).freeze();
        let message = ciborium::from_reader(&body[..]).map_err(|e| WireError::Malformed(e.to_string()))?;
        Ok(Some((message, payload)))
    }
}

impl Encoder<Frame> for Codec {
    type Error = WireError;

    fn encode(&mut self, (message, payload): Frame, dst: &mut BytesMut) -> Result<(), WireError> {
        let mut cbor = Vec::new();
        ciborium::into_writer(&message, &mut cbor).map_err(|e| WireError::Malformed(e.to_string()))?;
        if cbor.len() > MAX_CBOR || payload.len() > MAX_PAYLOAD {
            return Err(WireError::TooLarge {
                cbor: cbor.len(),
                payload: payload.len(),
            });
        }
        dst.reserve(HEADER + cbor.len() + payload.len());
        dst.put_u32(cbor.len() as u32);
        dst.put_u32(payload.len() as u32);
        dst.put_slice(&cbor);
        dst.put_slice(&payload);
        Ok(())
    }
}

/// The half of a connection that messages come from.
pub struct Reader<T>(FramedRead<ReadHalf<T>, Codec>);

/// The half of a connection that messages go to.
pub struct Writer<T>(FramedWrite<WriteHalf<T>, Codec>);

impl<T> std::fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl<T> std::fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

/// Splits a connection.
pub fn halves<T: AsyncRead + AsyncWrite>(connection: T) -> (Reader<T>, Writer<T>) {
    let (read, write) = split(connection);
    (
        Reader(FramedRead::new(read, Codec)),
        Writer(FramedWrite::new(write, Codec)),
    )
}

impl<T: AsyncRead> Reader<T> {
    /// The next message.
    ///
    /// # Errors
    /// [`WireError`]; [`WireError::Closed`] at the end.
    pub async fn next(&mut self) -> Result<Frame, WireError> {
        self.0.next().await.unwrap_or(Err(WireError::Closed))
    }
}

impl<T: AsyncWrite> Writer<T> {
    /// Sends a message without a payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub async fn send(&mut self, message: Message) -> Result<(), WireError> {
        self.0.send((message, Bytes::new())).await
    }

    /// Sends a message with a payload.
    ///
    /// # Errors
    /// [`WireError`].
    pub async fn send_with(&mut self, message: Message, payload: Bytes) -> Result<(), WireError> {
        self.0.send((message, payload)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_cross_with_their_payload() {
        let (a, b) = tokio::io::duplex(64);
        let ((_, mut to), (mut from, _)) = (halves(a), halves(b));
        let sent = tokio::spawn(async move {
            to.send_with(Message::Credit(7), Bytes::from_static(b"payload"))
                .await
                .unwrap();
            to.send(Message::Credit(1)).await.unwrap();
        });
        assert_eq!(
            from.next().await.unwrap(),
            (Message::Credit(7), Bytes::from_static(b"payload"))
        );
        assert_eq!(from.next().await.unwrap(), (Message::Credit(1), Bytes::new()));
        sent.await.unwrap();
        assert!(matches!(
            from.next().await,
            Err(WireError::Closed | WireError::Io(_))
        ));
    }

    proptest::proptest! {
        /// No bytes of a peer make it panic, or take memory beyond the limits.
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut src = BytesMut::from(&bytes[..]);
            let _ = Codec.decode(&mut src);
        }
    }
}
