//! The replicator's end of the local protocol.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use failover::streams::Received;
use failover::{Epoch, Event};
use segment::{Catalogue, Volume};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use super::driver::Input;
use super::hub::Hub;
use super::keeper::Work;
use crate::clock;
use crate::local::{self, LocalError, Receiver, StreamState, Ticket, ToRecorder, ToReplicator};

const PAUSE: Duration = Duration::from_millis(100);
/// After so long a volume that could not be read is read again.
const RELOAD: Duration = Duration::from_secs(1);
/// The most messages that go to the recorder at once.
const AT_ONCE: usize = 256;
/// A recorder that takes nothing for so long is left and dialled again, so that what waits for it does not pile up.
const STALLED: Duration = Duration::from_secs(10);

/// So many messages of the recorder wait until the volume is read.
const MAX_WAITING: usize = 1 << 18;

/// The newest ticket's health, for the report.
pub type Recorder = Arc<Mutex<Option<Ticket>>>;

/// See the module.
#[derive(Debug)]
pub struct Link {
    /// The folder of the socket.
    pub run: PathBuf,
    /// The volume.
    pub volume: Arc<Volume>,
    /// What is here.
    pub hub: Arc<Hub>,
    /// The driver.
    pub driver: mpsc::Sender<Input>,
    /// The keeper.
    pub keeper: mpsc::Sender<Work>,
    /// The newest health.
    pub recorder: Recorder,
    /// How often the volume was read, or began to be.
    pub reloads: Arc<AtomicU64>,
}

impl Link {
    /// Keeps the connection to the recorder, and sends what `outbox` has. Never returns.
    pub async fn run(self, mut outbox: mpsc::UnboundedReceiver<ToRecorder>) {
        loop {
            if let Ok((mut to, from)) =
                local::dial::<ToRecorder, ToReplicator>(&local::socket_path(&self.run)).await
            {
                tracing::info!("connected to the recorder");
                let speaking = async {
                    let mut messages = Vec::new();
                    while outbox.recv_many(&mut messages, AT_ONCE).await > 0 {
                        timeout(STALLED, to.send_all(&messages))
                            .await
                            .unwrap_or(Err(LocalError::Stalled))?;
                        messages.clear();
                    }
                    Ok::<(), LocalError>(())
                };
                tokio::select! {
                    ended = speaking => tracing::warn!("the recorder takes no more: {ended:?}"),
                    ended = self.listen(from) => tracing::warn!("the recorder says no more: {ended:?}"),
                }
                *self.recorder.lock().unwrap_or_else(PoisonError::into_inner) = None;
                // A recorder gives up all authority before it closes the connection; a dead one acts on nothing.
                self.tell(Event::RecorderDied).await;
            }
            // What nobody hears is not kept: a recorder that comes looks at the volume itself.
            while outbox.try_recv().is_ok() {}
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What was sealed or evicted while nobody told: the volume knows, as soon as it can be read.
    async fn reload(&self) {
        let generation = self.reloads.fetch_add(1, Ordering::SeqCst) + 1;
        loop {
            let (volume, hub, newest) = (
                Arc::clone(&self.volume),
                Arc::clone(&self.hub),
                Arc::clone(&self.reloads),
            );
            let loading = move || {
                let (_, catalogue, _) = Catalogue::open(&volume, clock::wall_s(), clock::boot_s())?;
                // I10: what a process wrote that ended counts as durable only now.
                volume.sync_apart()?;
                // The thread goes on when the connection is gone: the next one may have read more already.
                if newest.load(Ordering::SeqCst) == generation {
                    hub.load(&catalogue);
                }
                Ok::<_, segment::Error>(())
            };
            match tokio::task::spawn_blocking(loading).await {
                Ok(Ok(())) => return,
                Ok(Err(e)) => tracing::error!("the volume cannot be read; it is tried again: {e}"),
                Err(e) => tracing::error!("reading the volume failed; it is tried again: {e}"),
            }
            tokio::time::sleep(RELOAD).await;
        }
    }

    /// Takes what the recorder says, in its order; what it says while the volume is read waits for that. Only its tickets do not: a
    /// large volume takes long to read, and who is alive must not wait for that.
    async fn listen(&self, mut from: Receiver<ToReplicator>) -> Result<(), LocalError> {
        let mut waiting = VecDeque::new();
        let mut reading = pin!(self.reload());
        loop {
            tokio::select! {
                () = &mut reading => break,
                message = from.recv() => match message? {
                    Some(ToReplicator::Ticket(ticket)) => self.ticket(ticket).await,
                    Some(_) if waiting.len() >= MAX_WAITING => return Err(LocalError::Stalled),
                    Some(message) => waiting.push_back(message),
                    None => return Ok(()),
                },
            }
        }
        while let Some(message) = waiting.pop_front() {
            self.take(message).await;
        }
        while let Some(message) = from.recv().await? {
            self.take(message).await;
        }
        Ok(())
    }

    async fn take(&self, message: ToReplicator) {
        match message {
            ToReplicator::Hello { incarnation, .. } => {
                self.hub.set_alive(incarnation);
                self.hub.forget_pins();
                self.ask_keeper(Work::RecorderStarted);
            }
            ToReplicator::Ticket(ticket) => self.ticket(ticket).await,
            ToReplicator::Opened { id, head_len } => {
                self.hub.grew(&id, head_len, false);
                let _ = self.driver.send(Input::Opened).await;
            }
            ToReplicator::Appended { id, end, .. } => self.hub.grew(&id, end, false),
            ToReplicator::Sealed { held } => self.hub.sealed(&held),
            ToReplicator::Partial { id, len, .. } => self.hub.grew(&id, len, true),
            ToReplicator::Shorter { id, end } => self.ask_keeper(Work::Shorter(id, end)),
            ToReplicator::Evicted { id, end_us } => self.hub.evicted(&id, end_us),
            ToReplicator::Pinned { pins } => self.hub.pinned(pins),
            ToReplicator::Reclaimed { held } => self.hub.reclaimed(held),
            ToReplicator::Withdrawn { epoch } => {
                self.tell(Event::RecorderWithdrawn { epoch: Epoch(epoch) }).await;
            }
        }
    }

    /// A keeper that takes nothing, because the volume is full, hears it when it does again: nobody waits for it here.
    fn ask_keeper(&self, work: Work) {
        if let Err(TrySendError::Full(work)) = self.keeper.try_send(work) {
            let keeper = self.keeper.clone();
            tokio::spawn(async move { keeper.send(work).await });
        }
    }

    async fn ticket(&self, ticket: Ticket) {
        if ticket.fit {
            self.tell(Event::RecorderProgress { ticket: ticket.n }).await;
        }
        if let Some(streams) = &ticket.streams {
            let idle = streams.iter().filter(|s| s.state == StreamState::Idle);
            let received = Received {
                known: streams.iter().map(|s| s.uid).collect(),
                faults: streams.iter().filter_map(|s| Some((s.uid, s.fault?))).collect(),
                idle: idle.map(|s| s.uid).collect(),
            };
            let _ = self.driver.send(Input::Streams(received)).await;
            *self.recorder.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
        }
    }

    async fn tell(&self, event: Event) {
        let _ = self.driver.send(Input::Event(event)).await;
    }
}

#[cfg(test)]
mod tests;
