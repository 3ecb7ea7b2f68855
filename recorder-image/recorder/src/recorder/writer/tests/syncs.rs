//! How often the volume is synced. Time is counted in turns of the loop here, so that a busy machine changes nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Twelve seconds.
const TURNS: usize = 120;
/// How far the frames of a camera are apart.
const FRAME: Duration = Duration::from_millis(40);

/// A loop with so many cameras, each of which begins a turn after the one before: so do its fragments and segments.
struct Many {
    bed: Bed,
    cameras: Vec<Camera>,
    synced: Arc<AtomicU64>,
}

impl Many {
    fn new(streams: usize) -> Self {
        let uids = (1..=streams as u128).map(Uuid::from_u128);
        let named: Vec<(String, StreamUid)> =
            uids.map(|uid| (format!("cam-{}", uid.as_u128()), uid)).collect();
        let named: Vec<(&str, StreamUid)> = named.iter().map(|(name, uid)| (name.as_str(), *uid)).collect();
        let bed = Bed::of(&Settings {
            segment: Duration::from_secs(1),
            ..settings(&named)
        });
        let synced = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&synced);
        bed.shared.volume.observe(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let cameras = named.iter().map(|(_, uid)| Camera::new(bed.stream(*uid), fine()));
        let cameras = cameras.collect();
        Self { bed, cameras, synced }
    }

    fn syncs(&self) -> u64 {
        self.synced.load(Ordering::SeqCst)
    }

    /// The cameras send, and the loop takes its turns.
    fn record(&mut self) {
        let begin = now();
        for turn in 0..TURNS {
            let at = begin + TICK * turn as u32;
            for (n, camera) in self.cameras.iter_mut().enumerate() {
                let sends = TICK * turn.saturating_sub(n) as u32;
                while turn >= n && FRAME * camera.n as u32 <= sends {
                    camera.send_at(at);
                }
            }
            let before = self.syncs();
            self.bed.writer.tick_at(at, false);
            assert!(self.syncs() - before <= 1, "I10: one sync at most in each turn");
        }
    }

    /// Syncs of twelve seconds, in which all was written, and each stream ended segments.
    fn measure(mut self) -> u64 {
        self.record();
        for camera in &self.cameras {
            let uid = camera.stream.uid;
            let (held, sealed) = (self.bed.held(uid) as u64, self.bed.files(uid, "mp4").len());
            assert!(held + 10 >= camera.n, "{held} frames of {} of {uid}", camera.n);
            assert!(sealed >= 2, "{sealed} segments of {uid}");
        }
        assert_eq!(
            self.bed.shared.metrics.syncs.get(),
            self.syncs(),
            "all are counted"
        );
        self.syncs()
    }
}

#[tokio::test]
async fn i10_as_many_syncs_for_many_streams_as_for_one() {
    let [one, some, many] = [1, 8, 32].map(|streams| Many::new(streams).measure());
    let most = (TICK * TURNS as u32).div_duration_f64(TICK) as u64 + 1;
    assert!(
        (most / 2..=most).contains(&one),
        "I10: {one} syncs in twelve seconds"
    );
    for (streams, syncs) in [(8, some), (32, many)] {
        assert!(
            syncs.abs_diff(one) <= 2,
            "I10: {syncs} syncs for {streams} streams, {one} for one"
        );
    }
}

/// A loop that is asked to look at its rings each 10 ms takes more turns, and syncs no more often.
#[tokio::test]
async fn i10_who_asks_it_to_look_makes_it_sync_no_more_often() {
    let mut many = Many::new(1);
    let begin = now();
    let turns = 300;
    for turn in 0..turns {
        let at = begin + TICK / 5 * turn;
        if turn.is_multiple_of(4) {
            many.cameras[0].send_at(at);
        }
        many.bed.writer.tick_at(at, false);
    }
    let most = u64::from(turns / 5) + 1;
    assert!(
        (most / 2..=most).contains(&many.syncs()),
        "I10: {} syncs",
        many.syncs()
    );
}
