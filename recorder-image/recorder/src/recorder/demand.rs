//! Asks each stream's session for what is needed of it, where `standby.mode` lets a member rest, and notes what a rest has cost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::pair::Mode;
use segment::StreamUid;

use super::need::Need;
use super::session::Demand;
use super::state::Shared;
use super::stream::Stream;
use crate::clock::boottime_ns;

/// How often it is looked at.
const PERIOD: Duration = Duration::from_millis(20);
/// After a stream woke the peer's last frames are waited for before a gap is noted, ...
const SETTLED: Duration = Duration::from_secs(1);
/// ... and the first own ones, until the gap is noted as one that lasts.
const LASTS: Duration = Duration::from_secs(3);
/// The cause of a gap that a rest has cost.
const CAUSE: &str = "Takeover";

/// One stream.
#[derive(Debug)]
struct Watched {
    stream: Arc<Stream>,
    need: Need,
    /// When it woke, until it is known what that cost.
    woke: Option<Duration>,
}

/// Looks at each stream for ever.
pub async fn follow(shared: Arc<Shared>) {
    let mut watched = BTreeMap::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        look(&shared, &mut watched, Duration::from_nanos(boottime_ns()));
    }
}

fn look(shared: &Arc<Shared>, watched: &mut BTreeMap<StreamUid, Watched>, now: Duration) {
    let rest = match shared.settings().mode {
        Mode::Hot => {
            // The registry has asked; what was looked at meanwhile may have asked for less.
            for (_, known) in std::mem::take(watched) {
                known.stream.ask(Demand::Always);
            }
            return;
        }
        Mode::Warm => Demand::Session,
        Mode::Cold => Demand::Nothing,
    };
    let streams = shared.registry.streams();
    watched.retain(|_, known| streams.iter().any(|s| Arc::ptr_eq(s, &known.stream)));
    for stream in streams {
        let known = watched
            .entry(stream.uid)
            .or_insert_with(|| Watched::new(stream, now));
        known.look(shared, rest, now);
    }
}

impl Watched {
    fn new(stream: Arc<Stream>, now: Duration) -> Self {
        let receives = stream.asked().wants_frames();
        Self {
            need: Need::new(receives, now),
            stream,
            woke: None,
        }
    }

    fn look(&mut self, shared: &Arc<Shared>, rest: Demand, now: Duration) {
        let uid = self.stream.uid;
        let (owns, peer) = (shared.pair.standing(uid, now).owner, shared.pair.peer(uid, now));
        match self.need.look(owns, peer, now) {
            Some(false) => {
                self.stream.ask(rest);
                self.woke = None;
            }
            Some(true) if self.stream.ask(Demand::Needed).rests() => {
                tracing::info!(stream = %self.stream.name, owns, ?peer, "is needed");
                self.woke = Some(now);
            }
            Some(true) | None => {}
        }
        if self.woke.is_some_and(|at| self.is_settled(at, now)) {
            self.woke = None;
            let (shared, stream) = (Arc::clone(shared), Arc::clone(&self.stream));
            tokio::task::spawn_blocking(move || note(&shared, &stream));
        }
    }

    /// Whether it can be told what the rest has cost.
    fn is_settled(&self, woke: Duration, now: Duration) -> bool {
        let (inner, passed) = (self.stream.lock(), now.saturating_sub(woke));
        let counted = inner.first_us().is_some() && inner.interval_us().is_some();
        passed >= if counted { SETTLED } else { LASTS }
    }
}

/// Notes the gap between the end of what the other member recorded and the first frame here; where there is none yet, the
/// gap lasts.
fn note(shared: &Shared, stream: &Stream) {
    let why = "this member was idle, as standby.mode says, when the other one ceased to record";
    let first = stream.lock().first_us();
    let end_us = shared.recorded_before(stream.uid, first.unwrap_or(i64::MAX));
    let mut inner = stream.lock();
    match (end_us, first, inner.first_us()) {
        (Some(end_us), Some(first_us), _) => inner.resumed_after(end_us, first_us, CAUSE, why),
        (Some(end_us), None, None) => inner.resume_after(end_us, CAUSE, why),
        // It came meanwhile.
        (_, None, Some(_)) => {
            drop(inner);
            note(shared, stream);
        }
        (None, ..) => {}
    }
}
