//! The receiving side of a media connection: it dials, says what it holds, and passes what comes to the keeper.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use segment::reclaim::Pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::hub::Hub;
use super::keeper::{Peer, Reply, Work};
use super::sender::{read_inventory, send_inventory};
use crate::wire::{Message, PINS_PAGE, Reader, WireError, Writer};

/// How many payload bytes may be on their way.
const CREDIT: u64 = 16 << 20;
/// The most answers that wait for the peer.
pub(super) const REPLIES: usize = 4096;

/// Payload bytes that the peer may send yet. One payload may be longer than what is left.
#[derive(Debug, Default)]
struct Allowance(AtomicI64);

impl Allowance {
    fn give(&self, bytes: u64) {
        self.0.fetch_add(bytes.cast_signed(), Ordering::Relaxed);
    }

    /// Whether the peer was allowed to send this.
    fn take(&self, payload: &Bytes) -> bool {
        payload.is_empty() || self.0.fetch_sub(payload.len() as i64, Ordering::Relaxed) > 0
    }
}

/// Receives on one connection until it ends. The peer was greeted.
///
/// # Errors
/// Why it ended.
pub async fn receive<T: AsyncRead + AsyncWrite + Send + 'static>(
    mut from: Reader<T>,
    mut to: Writer<T>,
    peer: Peer,
    hub: &Arc<Hub>,
    keeper: &mpsc::Sender<Work>,
) -> Result<(), WireError> {
    send_inventory(&mut to, hub).await?;
    let held = read_inventory(&mut from).await?.held;
    let (replies, mut outbox) = mpsc::channel(REPLIES);
    pass(keeper, Work::Connected { peer, held, replies }).await?;
    let allowance = Allowance::default();
    allowance.give(CREDIT);
    let speaking = async {
        to.send(Message::Credit(CREDIT)).await?;
        while let Some(reply) = outbox.recv().await {
            let message = match reply {
                Reply::Ack(ends) => Message::Ack(ends),
                Reply::Credit(bytes) => {
                    allowance.give(bytes);
                    Message::Credit(bytes)
                }
                Reply::Declined(id) => Message::Inventory {
                    held: Vec::new(),
                    declined: vec![id],
                    floors: Vec::new(),
                    last: true,
                    levels: true,
                    pins: true,
                },
                Reply::Again(why) => return Err(WireError::Unexpected(why)),
            };
            to.send(message).await?;
        }
        Err(WireError::Closed)
    };
    let outcome = tokio::select! {
        biased;
        heard = hear(&mut from, keeper, &allowance) => heard,
        spoken = speaking => spoken,
    };
    pass(keeper, Work::Disconnected).await?;
    outcome
}

async fn hear<T: AsyncRead>(
    from: &mut Reader<T>,
    keeper: &mpsc::Sender<Work>,
    allowance: &Allowance,
) -> Result<(), WireError> {
    loop {
        let (message, payload) = from.next().await?;
        if !allowance.take(&payload) {
            return Err(WireError::Unexpected("more bytes than this side gave credit for"));
        }
        let work = match (message, payload) {
            (Message::Opened { id }, head) => Work::Opened(id, head),
            (Message::Append { id, offset, chain }, bytes) => Work::Append(id, offset, chain, bytes),
            (Message::Seal { id, length, root }, _) => Work::Seal(id, length, root),
            (Message::Level, _) => Work::Level,
            (Message::Pinned(pins), _) if is_page(&pins) => Work::Pinned(pins),
            _ => return Err(WireError::Unexpected("something that a sender may not say")),
        };
        pass(keeper, work).await?;
    }
}

fn is_page(pins: &[Pin]) -> bool {
    pins.len() <= PINS_PAGE && pins.iter().all(Pin::is_valid)
}

/// The keeper's queue is bounded: a slow volume slows the peer down, through its credit.
async fn pass(keeper: &mpsc::Sender<Work>, work: Work) -> Result<(), WireError> {
    let gone = |_| WireError::Unexpected("the keeper is gone");
    keeper.send(work).await.map_err(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_may_go_over_its_credit_by_one_payload() {
        let (allowance, bytes) = (Allowance::default(), |n| Bytes::from(vec![0; n]));
        assert!(!allowance.take(&bytes(1)), "before any was given");
        allowance.give(11);
        assert!(allowance.take(&bytes(9)) && allowance.take(&bytes(100)));
        assert!(allowance.take(&bytes(0)), "what has no payload costs nothing");
        assert!(!allowance.take(&bytes(1)));
        allowance.give(102);
        assert!(allowance.take(&bytes(1)), "what it went over counts");
    }
}
