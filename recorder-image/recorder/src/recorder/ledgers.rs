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
        if let Err(e) = tokio::task::spawn_blocking(move || round(&shared)).await {
            tracing::error!("old ledgers stay: {e}");
        }
    }
}

/// Looks at all streams. Reads files. What one stream's ledger refuses keeps no other.
fn round(shared: &Shared) {
    let streams = shared.volume.streams().unwrap_or_else(|e| {
        tracing::warn!("old ledgers stay: {e}");
        Vec::new()
    });
    for (uid, role) in streams
        .into_iter()
        .flat_map(|uid| [(uid, Role::Recorder), (uid, Role::Replicator)])
    {
        if let Err(e) = trim_all(shared, uid, role) {
            tracing::warn!("an old ledger stays: {e}");
        }
    }
}

fn trim_all(shared: &Shared, uid: StreamUid, role: Role) -> segment::Result<()> {
    while trim(&shared.volume, uid, role, |records| spent(shared, uid, records))? {
        tracing::info!(stream = %uid, ledger = role.name(), "a ledger file left: all that it says is gone");
    }
    Ok(())
}

fn spent(shared: &Shared, uid: StreamUid, records: &[segment::Record]) -> bool {
    let catalogue = shared.catalogue();
    catalogue
        .stream(uid)
        .is_some_and(|stream| are_spent(records, stream))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::sync_channel;

    use segment::ledger::ROTATE_BYTES;
    use segment::retention::RetentionClock;
    use segment::{Catalogue, Ledger, Record, SegmentId, Volume};
    use uuid::Uuid;

    use super::*;
    use crate::recorder::metrics::Metrics;
    use crate::recorder::state::Held;

    const STREAM: StreamUid = Uuid::from_u128(1);

    fn files(shared: &Shared) -> usize {
        std::fs::read_dir(shared.volume.stream_dir(STREAM))
            .unwrap()
            .count()
    }

    #[test]
    fn old_files_of_both_ledgers_leave_and_the_newest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::open(dir.path(), Role::Recorder).unwrap();
        for role in [Role::Recorder, Role::Replicator] {
            let (mut ledger, _) = Ledger::open(&volume, STREAM, role).unwrap();
            for at_us in 0..3 {
                let what = "x".repeat(ROTATE_BYTES as usize);
                ledger.append(&Record::Note { at_us, what }).unwrap();
                ledger.synced();
            }
        }
        let held = Held {
            clock: RetentionClock::load(&volume, 0, 0).unwrap(),
            catalogue: Catalogue::default(),
            volume,
        };
        let (metrics, commands) = (Arc::new(Metrics::new("m-0")), sync_channel(1).0);
        let shared = Shared::new("m-0".into(), held, metrics, commands);
        round(&shared);
        assert_eq!(files(&shared), 6, "nothing left by retention yet");
        let id = SegmentId {
            stream: STREAM,
            store: Uuid::nil(),
            member: "m-0".into(),
            incarnation: 1,
            sequence: 0,
        };
        shared.catalogue().evict(&id, 1);
        round(&shared);
        assert_eq!(files(&shared), 4, "what was noted before it left");
        shared.catalogue().evict(&id, 100);
        round(&shared);
        assert_eq!(files(&shared), 2);
    }
}
