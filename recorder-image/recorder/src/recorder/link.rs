//! The recorder's end of the local protocol: tells the replicator what happens on the volume, and takes in what it
//! knows of authority, the peer and received media. Its death changes nothing for the recording (I9).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::state::Shared;
use crate::accept::accept;
use crate::clock::boottime_ns;
use crate::local::{self, LocalError, Receiver, Sender, ToRecorder, ToReplicator};

/// Why a connection of the replicator ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error("the replicator read too slowly and missed what {0} turns said; it gets a new snapshot")]
    Lagged(u64),
    #[error("the replicator closed the connection")]
    Closed,
    #[error("the recorder's writer loop ended")]
    WriterGone,
}

/// Serves the socket in the folder `run` for ever. A new connection ends the one before it.
///
/// # Errors
/// When the socket cannot be bound.
pub async fn serve(shared: Arc<Shared>, run: &Path) -> Result<(), LocalError> {
    let listener = local::listen(&local::socket_path(run))?;
    let mut current: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        let (socket, _) = accept("the replicator", || listener.accept()).await;
        if let Some(old) = current.take() {
            old.abort();
            let _ = old.await;
        }
        tracing::info!("the replicator is connected");
        let shared = Arc::clone(&shared);
        current = Some(tokio::spawn(async move {
            let ended = converse(&shared, socket).await;
            tracing::warn!("connection to the replicator ended: {ended}");
        }));
    }
}

async fn converse(shared: &Arc<Shared>, socket: UnixStream) -> Ended {
    let (mut tx, mut rx) = local::split(socket);
    // Dropped before the socket is, however this ends: whoever sees it closed knows that no authority is left here.
    let _gone = Gone(shared);
    let shown = Arc::clone(shared);
    match tokio::task::spawn_blocking(move || shown.look_again()).await {
        Ok(Ok(())) => {}
        failed => tracing::error!("the volume cannot be read again: {failed:?}"),
    }
    // Subscribed before the snapshot is taken: a message may then come twice, but none is missed.
    let events = shared.events.subscribe();
    tokio::select! {
        ended = talk(shared, &mut tx, events) => ended,
        ended = listen(shared, &mut rx) => ended,
    }
}

/// Gives up what the replicator handed to this process.
struct Gone<'a>(&'a Shared);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.replicator_gone();
    }
}

async fn talk(
    shared: &Shared,
    tx: &mut Sender<ToReplicator>,
    mut events: broadcast::Receiver<Arc<[ToReplicator]>>,
) -> Ended {
    let mut next = Ok(shared.snapshot().into());
    loop {
        let messages: Arc<[ToReplicator]> = match next {
            Ok(messages) => messages,
            Err(RecvError::Lagged(n)) => return Ended::Lagged(n),
            Err(RecvError::Closed) => return Ended::WriterGone,
        };
        if let Err(e) = tx.send_all(&messages).await {
            return e.into();
        }
        next = events.recv().await;
    }
}

async fn listen(shared: &Shared, rx: &mut Receiver<ToRecorder>) -> Ended {
    loop {
        match rx.recv().await {
            Ok(Some(message)) => shared.hear(message, Duration::from_nanos(boottime_ns())),
            Ok(None) => return Ended::Closed,
            Err(e) => return e.into(),
        }
    }
}
