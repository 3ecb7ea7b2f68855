//! The receiving side of a media connection: it dials, says what it holds, and passes what comes to the keeper.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use segment::reclaim::Pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::hub::Hub;
use super::keeper::{Reply, Work};
use super::sender::{read_inventory, send_inventory};
use crate::wire::{Message, PINS_PAGE, Reader, WireError, Writer};

/// How many payload bytes may be on their way.
const CREDIT: u64 = 16 << 20;

/// Receives on one connection until it ends. The peer was greeted.
///
/// # Errors
/// Why it ended.
pub async fn receive<T: AsyncRead + AsyncWrite + Send + 'static>(
    mut from: Reader<T>,
    mut to: Writer<T>,
    peer: String,
    hub: &Arc<Hub>,
    keeper: &SyncSender<Work>,
) -> Result<(), WireError> {
    send_inventory(&mut to, hub).await?;
    let held = read_inventory(&mut from).await?.held;
    let (replies, mut outbox) = mpsc::unbounded_channel();
    pass(keeper, Work::Connected { peer, held, replies }).await?;
    to.send(Message::Credit(CREDIT)).await?;
    let speaking = async move {
        while let Some(reply) = outbox.recv().await {
            let message = match reply {
                Reply::Ack(ends) => Message::Ack(ends),
                Reply::Credit(bytes) => Message::Credit(bytes),
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
        heard = hear(&mut from, keeper) => heard,
        spoken = speaking => spoken,
    };
    pass(keeper, Work::Disconnected).await?;
    outcome
}

async fn hear<T: AsyncRead>(from: &mut Reader<T>, keeper: &SyncSender<Work>) -> Result<(), WireError> {
    loop {
        let work = match from.next().await? {
            (Message::Opened { id }, head) => Work::Opened(id, head),
            (Message::Append { id, offset, chain }, bytes) => Work::Append(id, offset, chain, bytes),
            (Message::Seal { entry }, _) => Work::Seal(entry),
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
pub(super) async fn pass(keeper: &SyncSender<Work>, work: Work) -> Result<(), WireError> {
    let keeper = keeper.clone();
    let sent = tokio::task::spawn_blocking(move || keeper.send(work).is_ok()).await;
    if sent.unwrap_or(false) {
        Ok(())
    } else {
        Err(WireError::Unexpected("the keeper is gone"))
    }
}
