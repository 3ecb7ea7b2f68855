//! The part of a view that status shows. Only when it changes is there anything to reconcile.

use crate::world::View;

/// A view without what changes all the time.
pub(super) fn shown(view: &View) -> View {
    let mut view = view.clone();
    if let Some(lease) = &mut view.lease {
        lease.counter = 0;
        lease.leash_ms = 0;
    }
    for seen in view.reports.values_mut() {
        let report = &mut seen.report;
        report.authority_until_ms = None;
        report.replication.lag_ms = bucket(report.replication.lag_ms);
        report.replication.lag_bytes = 0;
        report.replication.backfill_bytes = report.replication.backfill_bytes.min(1);
        report.replication.refused = 0;
        report.disk.free_bytes = 0;
        report.ledger_truncations = report.ledger_truncations.min(1);
        report.peer = crds::member::PeerReport::default();
        for stream in &mut report.streams {
            stream.last_frame_ms = None;
            stream.fps = 0.0;
            stream.bitrate = 0;
            stream.writing = false;
            stream.gaps = 0;
        }
    }
    view
}

/// The same steps as in status.
fn bucket(lag_ms: u64) -> u64 {
    let steps = [1_000, 5_000, 30_000, 300_000];
    steps
        .into_iter()
        .filter(|step| lag_ms >= *step)
        .max()
        .unwrap_or(0)
}
