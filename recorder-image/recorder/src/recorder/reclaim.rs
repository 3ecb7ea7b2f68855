//! Looks for duplicates, and for proof that one may go: whatever reads files or takes time, so that the loop that writes has only
//! a few lookups left. With the peer silent nothing is done (I7). Who holds authority proposes; who hears of a pin finds the same
//! by itself, or does not write it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use segment::parts::Detail;
use segment::reclaim::propose::{MARGIN_US, due, kept_instead_of};
use segment::reclaim::{Pin, Proof};
use segment::{SegmentId, State};

use super::merged::Unreadable;
use super::state::Shared;
use super::writer::Command;
use crate::clock::boottime_ns;

/// How often something is done.
const PERIOD: Duration = Duration::from_secs(1);
/// How long one round may take. One file more may be read.
const BUDGET: Duration = Duration::from_millis(100);
/// A segment is looked at when it and all that was written beside it are here for so long.
const SETTLE: Duration = Duration::from_mins(10);
/// All streams are looked at so many times meanwhile.
const LOOKS: u32 = 10;

/// Something to do.
#[derive(Debug)]
enum Job {
    /// Is it a duplicate?
    Judge(SegmentId),
    /// The peer has this pin: is it so?
    Adopt(Pin),
    /// Both have it: read the files.
    Prove(Pin),
}

/// See the module.
#[derive(Debug, Default)]
struct Work {
    jobs: VecDeque<Job>,
    /// What was received until then was looked at, on the retention clock, seconds since the Unix epoch.
    since_s: Option<i64>,
    /// When all streams were looked at last, on `CLOCK_BOOTTIME`.
    looked: Duration,
    /// Duplicates whose files were read, and when.
    read: BTreeMap<SegmentId, Duration>,
}

/// Never returns.
pub async fn follow(shared: Arc<Shared>) {
    let mut work = Work::default();
    loop {
        tokio::time::sleep(PERIOD).await;
        let shared = Arc::clone(&shared);
        let round = tokio::task::spawn_blocking(move || {
            work.round(&shared, Duration::from_nanos(boottime_ns()), patience::settle());
            work
        });
        work = round.await.unwrap_or_else(|e| {
            tracing::error!("the search for duplicates begins anew: {e}");
            Work::default()
        });
    }
}

impl Work {
    fn round(&mut self, shared: &Shared, now: Duration, settle: Duration) {
        if !shared.pair.hears_peer(now) {
            // I7
            *self = Self::default();
            return;
        }
        let begun = Instant::now();
        if self.jobs.is_empty() && now.saturating_sub(self.looked) >= settle / LOOKS {
            self.look(shared, now, settle);
        }
        while begun.elapsed() < BUDGET
            && let Some(job) = self.jobs.pop_front()
        {
            self.take(shared, job, now);
        }
    }

    fn look(&mut self, shared: &Shared, now: Duration, settle: Duration) {
        self.looked = now;
        self.read.retain(|_, at| now.saturating_sub(*at) < settle);
        let (peer, catalogue) = (shared.peer_pins(), shared.catalogue());
        for pin in peer.iter() {
            let stream = catalogue.stream(pin.duplicate.stream);
            let here = catalogue.get(&pin.duplicate);
            let Some(pins) = stream
                .filter(|_| here.is_some_and(|copy| copy.state == State::Sealed))
                .map(|stream| &stream.pins)
            else {
                continue;
            };
            if pins.is_durable(&pin) && !self.read.contains_key(&pin.duplicate) {
                self.jobs.push_back(Job::Prove(pin));
            } else if pins.allows(&pin) {
                self.jobs.push_back(Job::Adopt(pin));
            }
        }
        drop((peer, catalogue));
        if shared.pair.is_holder(now) {
            self.look_for_new(shared, settle);
        } else {
            self.since_s = None;
        }
    }

    fn look_for_new(&mut self, shared: &Shared, settle: Duration) {
        let since_s = self.since_s.unwrap_or(i64::MIN);
        let until_s = shared.now_s().saturating_sub(settle.as_secs().cast_signed());
        let streams: Vec<_> = shared.catalogue().streams().map(|(uid, _)| *uid).collect();
        for uid in streams {
            let catalogue = shared.catalogue();
            let due = catalogue.stream(uid).map(|stream| due(stream, since_s, until_s));
            let new = due.into_iter().flatten().map(|(_, id)| Job::Judge(id));
            self.jobs.extend(new);
        }
        self.since_s = Some(until_s);
    }

    fn take(&mut self, shared: &Shared, job: Job, now: Duration) {
        let command = match job {
            Job::Judge(duplicate) => {
                judged(shared, &duplicate).map(|kept| Command::Pin(Pin { duplicate, kept }))
            }
            Job::Adopt(pin) => judged(shared, &pin.duplicate)
                .filter(|kept| *kept == pin.kept)
                .map(|_| Command::Pin(pin)),
            Job::Prove(pin) => {
                self.read.insert(pin.duplicate.clone(), now);
                prove(shared, pin).map(|proof| Command::Reclaim(Box::new(proof)))
            }
        };
        if let Some(command) = command
            && shared.commands.try_send(command).is_err()
        {
            // All of it is found again.
            *self = Self::default();
        }
    }
}

/// What stays instead of a segment, if it is a duplicate.
fn judged(shared: &Shared, id: &SegmentId) -> Option<Vec<SegmentId>> {
    let (start_us, end_us) = {
        let catalogue = shared.catalogue();
        let copy = catalogue.get(id)?;
        (copy.start_us(), copy.end_us())
    };
    let around = (
        start_us.saturating_sub(MARGIN_US),
        end_us.saturating_add(MARGIN_US),
    );
    let gops = shared.gops(id.stream, around, Detail::Groups, Unreadable::Fails);
    let gops = gops.inspect_err(|e| tracing::warn!(segment = %id, "not looked at: {e}"));
    kept_instead_of(id, &gops.ok()?)
}

fn prove(shared: &Shared, pin: Pin) -> Option<Proof> {
    let duplicate = pin.duplicate.clone();
    let read = Proof::read(&shared.volume, pin);
    read.inspect_err(
        |e| tracing::error!(segment = %duplicate, "a duplicate stays, for a file cannot be read: {e}"),
    )
    .ok()
}

pub use patience::obey;

#[cfg(test)]
mod tests;

/// For how long a segment has to be there.
mod patience {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::SETTLE;
    use crate::trial;

    static SECONDS: AtomicU64 = AtomicU64::new(SETTLE.as_secs());

    /// In a debug build: so many seconds as the file `test-reclaim` on the volume says from now on.
    pub fn obey(media: &Path) {
        trial::follow(media, "test-reclaim", |told| {
            SECONDS.store(told.trim().parse().unwrap_or(SETTLE.as_secs()), Ordering::Relaxed);
        });
    }

    pub(super) fn settle() -> Duration {
        Duration::from_secs(SECONDS.load(Ordering::Relaxed))
    }
}
