//! The sending side of a media connection: live first, then backfill newest first, of everything that the peer lacks.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::future::Future;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use segment::hash::{chain_next, chain_start};
use segment::inventory::{Held, missing};
use segment::{Chain, SegmentId, StreamUid, Volume, fmp4};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;
use uuid::Uuid;

use super::hub::{Change, Hub, Known};
use super::pace::Pace;
use super::pins::Telling;
use crate::clock;
use crate::wire::{INVENTORY_PAGE, Message, Reader, WireError, Writer};

/// The most segments of an inventory: a year of minutes of fifty streams.
const MAX_HELD: usize = 32 << 20;
/// The most segments that a peer does not want.
const MAX_DECLINED: usize = 1 << 16;
/// The most streams of which media left a peer.
const MAX_FLOORS: usize = 1 << 16;
/// How much of what the receiver says may wait for the end of a turn; then the receiver waits.
const HEARD: usize = 256;
/// Too far behind: the peer dials again and says what it holds.
const FELL_BEHIND: &str = "this side fell behind its own recorder";
/// Bytes read of a file at once.
const READ: usize = 1 << 20;
/// What of a live segment is sent before another one gets its turn, bytes.
const LIVE_TURN: u64 = 4 << 20;
/// What of a backfilled segment is sent before live media gets its turn again, bytes.
const BACKFILL_TURN: u64 = 256 << 10;
/// Credit that backfill leaves to live media, bytes.
const LIVE_CREDIT: i64 = 4 << 20;
/// How often the receiver is told that it has all that is new, and the limit of backfill is looked at.
const LEVEL_PERIOD: Duration = Duration::from_secs(1);

/// What a peer holds, and what it does not want.
#[derive(Debug, Default)]
pub struct Inventory {
    /// What it holds.
    pub held: Vec<Held>,
    /// What it refused.
    declined: BTreeSet<SegmentId>,
    /// What began before this left it by retention.
    floors: BTreeMap<StreamUid, i64>,
    /// Whether it takes [`Message::Level`].
    levels: bool,
    /// Whether it takes [`Message::Pinned`].
    pins: bool,
}

/// Reads a peer's whole inventory.
///
/// # Errors
/// [`WireError`].
pub async fn read_inventory<T: AsyncRead>(from: &mut Reader<T>) -> Result<Inventory, WireError> {
    let mut all = Inventory::default();
    loop {
        let (message, _) = from.next().await?;
        let Message::Inventory {
            held,
            declined,
            floors,
            last,
            levels,
            pins,
        } = message
        else {
            return Err(WireError::Unexpected("something else than an inventory"));
        };
        all.held.extend(held);
        all.declined.extend(declined);
        all.floors.extend(floors);
        all.levels |= levels;
        all.pins |= pins;
        if all.held.len() > MAX_HELD || all.declined.len() > MAX_DECLINED || all.floors.len() > MAX_FLOORS {
            return Err(WireError::Unexpected("an inventory without an end"));
        }
        if last {
            return Ok(all);
        }
    }
}

/// Sends this side's inventory.
///
/// # Errors
/// [`WireError`].
pub async fn send_inventory<T: AsyncWrite>(to: &mut Writer<T>, hub: &Hub) -> Result<(), WireError> {
    let held = hub.inventory();
    let (mut declined, mut floors) = (hub.declined(), hub.floors());
    let mut pages = held.chunks(INVENTORY_PAGE).map(<[Held]>::to_vec).peekable();
    loop {
        let page = pages.next().unwrap_or_default();
        let last = pages.peek().is_none();
        to.send(Message::Inventory {
            held: page,
            declined: std::mem::take(&mut declined),
            floors: std::mem::take(&mut floors),
            last,
            levels: true,
            pins: true,
        })
        .await?;
        if last {
            return Ok(());
        }
    }
}

/// How far a segment was sent.
#[derive(Debug)]
struct Progress {
    file: Option<File>,
    offset: u64,
    chain: Option<Chain>,
    sealed: bool,
}

/// How long a segment waits that could not be read.
const READ_RETRY: Duration = Duration::from_secs(10);

/// The state of one connection.
struct Sending<T> {
    to: Writer<T>,
    volume: Arc<Volume>,
    hub: Arc<Hub>,
    sent: BTreeMap<SegmentId, Progress>,
    declined: BTreeSet<SegmentId>,
    live: BTreeSet<SegmentId>,
    /// The live segment that had the last turn.
    turn: Option<SegmentId>,
    backfill: Vec<SegmentId>,
    /// Segments that could not be read, and when they are tried again: the disk may have failed for a moment only.
    unreadable: BTreeMap<SegmentId, Instant>,
    /// Payload bytes that may be sent; less than none after a payload that was longer than what was left.
    credit: i64,
    /// Payload bytes that were sent.
    bytes: u64,
    pace: Pace,
    /// What the pace counts from.
    began: Instant,
    /// Whether the receiver takes [`Message::Level`], and when it was said last.
    levels: bool,
    levelled: Option<Instant>,
    pins: Telling,
}

/// Serves one media connection until it ends. The peer was greeted; `peer` is its volume.
///
/// # Errors
/// Why it ended.
pub async fn serve<T: AsyncRead + AsyncWrite + Send + 'static>(
    mut from: Reader<T>,
    mut to: Writer<T>,
    volume: Arc<Volume>,
    hub: Arc<Hub>,
    peer: Uuid,
    acks: mpsc::Sender<(SegmentId, u64)>,
) -> Result<(), WireError> {
    let theirs = read_inventory(&mut from).await?;
    // What changes from now on is not in the inventory that the peer gets: it is sent before the peer is told that it has all.
    let (mut changes, mut changed) = (hub.subscribe(), BTreeSet::new());
    let is_news = |change| news(change, hub.store, peer);
    let mut take = |change| changed.extend(is_news(change));
    meanwhile(send_inventory(&mut to, &hub), &mut changes, &mut take).await??;
    let (levels, pins) = (theirs.levels, Telling::to(theirs.pins, &theirs.held));
    let here = Arc::clone(&hub);
    let comparing = beside(move || compare(&here, theirs));
    let compared = meanwhile(comparing, &mut changes, &mut take).await?;
    let lacking = compared.map_err(|_| WireError::Unexpected("two inventories that cannot be compared"))?;
    let mut sending = Sending {
        to,
        volume,
        hub: Arc::clone(&hub),
        sent: lacking.sent,
        declined: lacking.declined,
        live: lacking.live,
        turn: None,
        backfill: lacking.backfill,
        unreadable: BTreeMap::new(),
        credit: 0,
        bytes: 0,
        pace: Pace::default(),
        began: Instant::now(),
        levels,
        levelled: None,
        pins,
    };
    sending.changed(std::mem::take(&mut changed));
    let (tell, mut heard) = mpsc::channel(HEARD);
    let listening = tokio::spawn(listen(from, Arc::clone(&hub), acks, tell));
    let connection = hub.connected();
    let outcome = loop {
        if let Err(e) = sending.level(changes.is_empty()).await {
            break Err(e);
        }
        if sending.may_send() {
            let turn = meanwhile(sending.turn(), &mut changes, |change| {
                changed.extend(is_news(change));
            });
            if let Err(e) = turn.await.and_then(|turned| turned) {
                break Err(e);
            }
            // Whatever came meanwhile is taken in before the next turn.
            while let Ok(more) = heard.try_recv() {
                sending.hear(more);
            }
            sending.changed(std::mem::take(&mut changed));
            sending.look_again(Instant::now());
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            biased;
            more = heard.recv() => match more {
                Some(more) => sending.hear(more),
                None => break Err(WireError::Closed),
            },
            change = changes.recv() => match change {
                Ok(change) => sending.changed(is_news(change)),
                Err(RecvError::Lagged(_)) => break Err(WireError::Unexpected(FELL_BEHIND)),
                Err(RecvError::Closed) => break Ok(()),
            },
            () = tokio::time::sleep(sending.pause()) => {}
            () = tokio::time::sleep(READ_RETRY), if !sending.unreadable.is_empty() => {}
        }
        sending.look_again(Instant::now());
    };
    hub.disconnected(connection);
    listening.abort();
    outcome
}

/// Does what takes long on a thread of its own. In a runtime of one thread it is done here: what a simulation does must not hang on another
/// thread's time.
async fn beside<O: Send + 'static>(work: impl FnOnce() -> O + Send + 'static) -> Result<O, JoinError> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    spawn_blocking(work).await
}

/// Waits for something that may take long, and takes in what changes meanwhile: that may be more than [`broadcast`] keeps.
/// Fails where changes were missed.
async fn meanwhile<O>(
    work: impl Future<Output = O>,
    changes: &mut broadcast::Receiver<Change>,
    mut take: impl FnMut(Change),
) -> Result<O, WireError> {
    let (mut work, mut open) = (pin!(work), true);
    loop {
        tokio::select! {
            biased;
            change = changes.recv(), if open => match change {
                Ok(change) => take(change),
                Err(RecvError::Lagged(_)) => return Err(WireError::Unexpected(FELL_BEHIND)),
                // It is seen again when there is nothing else to do.
                Err(RecvError::Closed) => open = false,
            },
            done = &mut work => return Ok(done),
        }
    }
}

/// What of a change is news to the peer: what is written here, and what came from a volume that it had before. The rest it sent itself.
fn news(change: Change, here: Uuid, peer: Uuid) -> Option<SegmentId> {
    let is_news = match change.from {
        Some(from) => from != peer,
        None => change.id.store == here,
    };
    is_news.then_some(change.id)
}

/// What the receiver says besides its acknowledgements.
#[derive(Debug)]
enum Heard {
    Credit(u64),
    Declined(SegmentId),
}

/// Takes in credit, acknowledgements and refusals.
async fn listen<T: AsyncRead>(
    mut from: Reader<T>,
    hub: Arc<Hub>,
    acks: mpsc::Sender<(SegmentId, u64)>,
    tell: mpsc::Sender<Heard>,
) {
    loop {
        match from.next().await {
            Ok((Message::Credit(more), _)) => {
                if tell.send(Heard::Credit(more)).await.is_err() {
                    return;
                }
            }
            Ok((Message::Inventory { declined, .. }, _)) => {
                for id in declined {
                    if tell.send(Heard::Declined(id)).await.is_err() {
                        return;
                    }
                }
            }
            Ok((Message::Ack(ends), _)) => {
                for (id, end) in ends {
                    hub.acknowledge(&id, end);
                    let _ = acks.send((id, end)).await;
                }
            }
            Ok(_) => {
                tracing::warn!("the peer said something that a receiver may not say");
                return;
            }
            Err(e) => {
                tracing::info!("the peer takes no more media: {e}");
                return;
            }
        }
    }
}

/// What a peer lacks.
struct Lacking {
    /// How far it is with what it holds a part of.
    sent: BTreeMap<SegmentId, Progress>,
    declined: BTreeSet<SegmentId>,
    live: BTreeSet<SegmentId>,
    /// The newest is the last one.
    backfill: Vec<SegmentId>,
}

/// What a peer lacks. An archive is large: not for an async task.
fn compare(hub: &Hub, theirs: Inventory) -> Lacking {
    let ours = hub.inventory();
    let Inventory {
        held,
        declined,
        floors,
        ..
    } = theirs;
    // Of what is sealed there nothing more is to be sent.
    let parts = held.iter().filter(|held| held.root.is_none());
    let sent = parts.map(|held| (held.id.clone(), Progress::at(held.length)));
    let start = |id: &SegmentId| {
        hub.get(id)
            .and_then(|k| k.sealed)
            .map_or(i64::MAX, |sealed| sealed.span_us.0)
    };
    let below = |id: &SegmentId| floors.get(&id.stream).is_some_and(|floor| start(id) < *floor);
    let mut lacking = missing(&held, &ours);
    lacking.retain(|(id, _)| !declined.contains(id) && !below(id));
    // Newest last, because it is taken from the end.
    lacking.sort_by_cached_key(|(id, _)| start(id));
    let is_live = |id: &SegmentId| hub.get(id).is_some_and(|k| !k.partial && k.sealed.is_none());
    let (live, backfill): (Vec<_>, Vec<_>) = lacking.into_iter().partition(|(id, _)| is_live(id));
    let found = Lacking {
        sent: sent.collect(),
        declined,
        live: live.into_iter().map(|(id, _)| id).collect(),
        backfill: backfill.iter().map(|(id, _)| id.clone()).collect(),
    };
    hub.set_backfill(backfill.into_iter().collect());
    found
}

impl<T: AsyncWrite> Sending<T> {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes in what changed meanwhile.
    fn changed(&mut self, news: impl IntoIterator<Item = SegmentId>) {
        let wanted = |id: &SegmentId| !self.declined.contains(id);
        self.live.extend(news.into_iter().filter(wanted));
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Credit(more) => self.credit = self.credit.saturating_add_unsigned(more),
            Heard::Declined(id) => self.give_up(id),
        }
    }

    fn give_up(&mut self, id: SegmentId) {
        self.hub.give_up(&id);
        self.live.remove(&id);
        // Its file may leave by retention, and must not stay open then.
        self.sent.remove(&id);
        if self.declined.len() < MAX_DECLINED {
            self.declined.insert(id);
        }
    }

    /// What could not be read a while ago has another turn; what left meanwhile is unknown to the hub by then.
    fn look_again(&mut self, now: Instant) {
        let due = |(id, at): (&SegmentId, &Instant)| (*at <= now).then(|| id.clone());
        let due: Vec<SegmentId> = self.unreadable.iter().filter_map(due).collect();
        for id in due {
            self.unreadable.remove(&id);
            self.backfill.push(id);
        }
    }

    /// The live segment after the one that had the last turn, round and round: no stream starves another.
    fn next_live(&mut self) -> Option<SegmentId> {
        let after = |last: &SegmentId| self.live.range((Bound::Excluded(last), Bound::Unbounded)).next();
        let next = self
            .turn
            .as_ref()
            .and_then(after)
            .or_else(|| self.live.first())?
            .clone();
        self.live.remove(&next);
        self.turn = Some(next.clone());
        Some(next)
    }

    /// Whether there is something to send now: live media, or older media as far as the limit allows.
    fn may_send(&self) -> bool {
        let live = !self.live.is_empty() && self.credit > 0;
        live || self.may_backfill() && self.pace.wait(self.now()).is_zero()
    }

    fn may_backfill(&self) -> bool {
        self.live.is_empty() && !self.backfill.is_empty() && self.credit > LIVE_CREDIT
    }

    /// For how long there is nothing to do, if nothing is heard.
    fn pause(&self) -> Duration {
        let backfill = self.may_backfill().then(|| self.pace.wait(self.now()));
        backfill.map_or(LEVEL_PERIOD, |wait| wait.min(LEVEL_PERIOD))
    }

    /// Once a second: puts the limit of this time of the day in force, and tells the receiver where it has all that is new.
    /// `settled` says that no change waits.
    async fn level(&mut self, settled: bool) -> Result<(), WireError> {
        if self.levelled.is_some_and(|at| at.elapsed() < LEVEL_PERIOD) {
            return Ok(());
        }
        let now = self.now();
        self.pace.set(self.hub.limit(clock::wall_s()), now);
        for page in self.pins.pages(&self.hub) {
            self.to.send(Message::Pinned(page)).await?;
        }
        if !self.live.is_empty() {
            return Ok(());
        }
        self.levelled = Some(Instant::now());
        if settled {
            // Nobody asks again how far those were sent.
            self.sent.retain(|_, progress| !progress.sealed);
        }
        if self.levels {
            self.to.send(Message::Level).await?;
        }
        Ok(())
    }

    /// Sends all that is new of the live segments, or a piece of the newest that is lacking.
    async fn turn(&mut self) -> Result<(), WireError> {
        if let Some(id) = self.next_live() {
            if !self.advance(&id, LIVE_TURN).await? {
                self.live.insert(id);
            }
            return Ok(());
        }
        if let Some(id) = self.backfill.pop() {
            let before = self.bytes;
            if !self.advance(&id, self.pace.turn(BACKFILL_TURN)).await? {
                self.backfill.push(id);
            }
            self.pace.sent(self.bytes - before, self.now());
        }
        Ok(())
    }

    /// Sends up to `most` bytes of a segment. Returns whether it is done with what is here now.
    async fn advance(&mut self, id: &SegmentId, most: u64) -> Result<bool, WireError> {
        let Some(known) = self.hub.get(id) else {
            return Ok(true);
        };
        if self.declined.contains(id) {
            return Ok(true);
        }
        let mut turn = 0;
        loop {
            let progress = self.sent.entry(id.clone()).or_insert_with(|| Progress::at(0));
            if progress.sealed || self.unreadable.contains_key(id) {
                return Ok(true);
            }
            if progress.offset >= known.end && (progress.offset > 0 || known.end == 0) {
                self.hub.readable(id);
                if let Some(sealed) = known.sealed {
                    progress.sealed = true;
                    progress.file = None;
                    let message = Message::Seal {
                        id: id.clone(),
                        length: known.end,
                        root: sealed.root,
                    };
                    self.to.send(message).await?;
                }
                return Ok(true);
            }
            if self.credit <= 0 || turn >= most {
                return Ok(false);
            }
            match progress.next(&self.volume, id, &known) {
                Ok((message, payload)) => {
                    turn += payload.len() as u64;
                    self.credit -= payload.len() as i64;
                    self.bytes += payload.len() as u64;
                    self.to.send_with(message, payload).await?;
                }
                Err(what) => {
                    // It may have been evicted, or be damaged (it is never repaired in place), or the disk fails.
                    tracing::error!(segment = %id, "cannot be sent: {what}");
                    if let Some(progress) = self.sent.get_mut(id) {
                        progress.file = None;
                    }
                    self.live.remove(id);
                    // Nobody waits for it: planned moves, away from a failing disk above all, do not hang on one segment.
                    self.hub.unreadable(id);
                    self.unreadable.insert(id.clone(), Instant::now() + READ_RETRY);
                    return Ok(true);
                }
            }
        }
    }
}

impl Progress {
    fn at(offset: u64) -> Self {
        Self {
            file: None,
            offset,
            chain: None,
            sealed: false,
        }
    }

    /// The next message of the segment: its head, or a fragment.
    fn next(&mut self, volume: &Volume, id: &SegmentId, known: &Known) -> Result<(Message, Bytes), String> {
        if self.file.is_none() {
            let open = |path| File::open(path);
            let opened = open(volume.open_path(id)).or_else(|_| open(volume.sealed_path(id)));
            self.file = Some(opened.map_err(|e| e.to_string())?);
        }
        let Some(file) = &self.file else {
            return Err("not open".into());
        };
        let head = read(file, 0, fmp4::MAX_HEAD, known.end)?;
        let head_len = fmp4::head(&head)?.len;
        let head = head.slice(..head_len);
        if self.offset == 0 {
            self.offset = head_len as u64;
            self.chain = Some(chain_start(&head));
            return Ok((Message::Opened { id: id.clone() }, head));
        }
        let before = match self.chain {
            Some(chain) => chain,
            None => chain_at(file, &head, self.offset)?,
        };
        let fragment = next_fragment(file, self.offset, known.end)?;
        let chain = chain_next(&before, &fragment);
        let message = Message::Append {
            id: id.clone(),
            offset: self.offset,
            chain,
        };
        self.chain = Some(chain);
        self.offset += fragment.len() as u64;
        Ok((message, fragment))
    }
}

/// The running hash at `offset`, from the bytes before it.
fn chain_at(file: &File, head: &[u8], offset: u64) -> Result<Chain, String> {
    let (mut at, mut chain) = (head.len() as u64, chain_start(head));
    while at < offset {
        let fragment = next_fragment(file, at, offset)?;
        chain = chain_next(&chain, &fragment);
        at += fragment.len() as u64;
    }
    Ok(chain)
}

/// The bytes of the fragment at `offset`.
fn next_fragment(file: &File, offset: u64, end: u64) -> Result<Bytes, String> {
    let mut size = READ;
    loop {
        let data = read(file, offset, size, end)?;
        if let Some(len) = fragment_len(&data, offset + data.len() as u64 == end) {
            return Ok(data.slice(..len));
        }
        if data.len() < size || size > fmp4::MAX_FRAGMENT {
            return Err(format!("no whole fragment at byte {offset}"));
        }
        size *= 4;
    }
}

/// How long the fragment is that begins with `data`, if all of it is here: four boxes, and with sound another `moof` and `mdat`.
/// `last` says that nothing follows `data`.
fn fragment_len(data: &[u8], last: bool) -> Option<usize> {
    let boxes: Vec<_> = fmp4::boxes(data).take(6).collect();
    let end = |index: usize| boxes.get(index).map(|b| b.offset + b.bytes.len());
    let video = end(3)?;
    match data.get(video + 4..video + 8) {
        Some(b"moof") => end(5),
        Some(_) => Some(video),
        None => last.then_some(video),
    }
}

fn read(file: &File, offset: u64, most: usize, end: u64) -> Result<Bytes, String> {
    let mut data = vec![0; most.min(end.saturating_sub(offset) as usize)];
    file.read_exact_at(&mut data, offset).map_err(|e| e.to_string())?;
    Ok(data.into())
}
