//! Ledger files that say nothing any more of what is here leave: of both processes, for only the recorder removes anything.

use std::sync::Arc;
use std::time::Duration;

use segment::trim::{are_spent, trim};
use segment::{Role, StreamUid};

use super::state::Shared;

/// How often it is looked.
const PERIOD: Duration = Duration::from_mins(10);

/// Never returns.
pub async fn follow(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let shared = Arc::clone(&shared);
        let round = tokio::task::spawn_blocking(move || round(&shared));
        if let Ok(Err(e)) = round.await {
            tracing::warn!("old ledgers stay: {e}");
        }
    }
}

/// Looks at all streams. Reads files.
///
/// # Errors
/// When the volume refuses.
pub fn round(shared: &Shared) -> segment::Result<()> {
    for uid in shared.volume.streams()? {
        for role in [Role::Recorder, Role::Replicator] {
            while trim(&shared.volume, uid, role, |records| spent(shared, uid, records))? {
                tracing::info!(stream = %uid, ledger = role.name(), "a ledger file left: all that it says is gone");
            }
        }
    }
    Ok(())
}

fn spent(shared: &Shared, uid: StreamUid, records: &[segment::Record]) -> bool {
    let catalogue = shared.catalogue();
    catalogue
        .stream(uid)
        .is_some_and(|stream| are_spent(records, stream))
}
