//! Who leads: pure decisions over what was read, with `now` on this replica's own monotonic clock.
//!
//! No two machines' clocks are compared. A leader gives up [`GIVE_UP`] after the *sending* of its newest successful
//! renewal. A rival takes once it has seen one version of the record for a whole duration, counted from the *receipt* of
//! the read that first showed it: by then the leader has given up, even if its clock runs a third slower.

use std::time::Duration;

use failover::BootTime;

/// What the Lease says of itself, in seconds.
pub const DURATION_SECONDS: u32 = 6;
/// A rival waits so long.
pub const DURATION: Duration = Duration::from_secs(DURATION_SECONDS as u64);
/// No longer, whatever the Lease says: one that somebody wrote by hand would leave all pairs without an operator.
const LONGEST: Duration = Duration::from_mins(1);
/// Between two renewals.
pub const RENEW: Duration = Duration::from_millis(1500);
/// A leader without a successful renewal for so long leads no more.
pub const GIVE_UP: Duration = Duration::from_secs(4);
/// Between two looks of a rival, and before a renewal that failed is tried again.
pub const AGAIN: Duration = Duration::from_millis(500);

/// The Lease, as it was read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its version: each write has its own.
    pub version: String,
    /// Who leads; nobody after a clean release.
    pub holder: Option<String>,
    /// How long others are asked to wait.
    pub duration: Duration,
    /// How often the lead changed.
    pub transitions: i32,
}

/// What a rival does about what it read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// There is no Lease: make one. It must not exist.
    Create,
    /// Write oneself into it, over exactly this version.
    Take(Record),
    /// Look again later.
    Wait,
}

/// One that would lead.
#[derive(Debug)]
pub struct Rival {
    me: String,
    seen: Option<(String, BootTime)>,
}

impl Rival {
    /// One that has seen nothing yet.
    pub fn new(me: String) -> Self {
        Self { me, seen: None }
    }

    /// What to do about a read that was answered at `now`; `None` where there is no Lease. A read that failed is not told:
    /// a version that is the same before and after it did not change meanwhile.
    pub fn saw(&mut self, now: BootTime, read: Option<Record>) -> Move {
        let Some(record) = read else {
            self.seen = None;
            return Move::Create;
        };
        let known = self.seen.take().filter(|(version, _)| *version == record.version);
        let since = known.map_or(now, |(_, since)| since);
        self.seen = Some((record.version.clone(), since));
        // The reply to a write of one's own was lost: nobody else has this name.
        let mine = record.holder.as_ref().is_none_or(|holder| *holder == self.me);
        let expired = now.since(since) >= record.duration.clamp(DURATION, LONGEST);
        if mine || expired {
            Move::Take(record)
        } else {
            Move::Wait
        }
    }
}

/// What became of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// It was written.
    Done(Record),
    /// Another version was in place, and this is the Lease now, if there is one.
    Overtaken(Option<Record>),
    /// Nobody knows: no answer, or one that says nothing about it.
    Unknown,
}

/// Why the lead is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another leads.
    #[error("{0} leads now")]
    Taken(String),
    /// Somebody released or deleted the Lease.
    #[error("the Lease was taken away")]
    Gone,
    /// No renewal succeeded in time.
    #[error("no renewal of the lead succeeded for {} s", GIVE_UP.as_secs())]
    Silence,
}

/// One that leads.
#[derive(Debug)]
pub struct Tenure {
    me: String,
    record: Record,
    renewed: BootTime,
    next: BootTime,
}

impl Tenure {
    /// Begins with a write that was sent at `sent` and answered with this record.
    pub fn new(me: String, sent: BootTime, record: Record) -> Self {
        Self {
            me,
            record,
            renewed: sent,
            next: sent + RENEW,
        }
    }

    /// The record to renew.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// When to renew.
    pub fn next(&self) -> BootTime {
        self.next.min(self.ends())
    }

    /// When it is over, unless it is renewed before.
    pub fn ends(&self) -> BootTime {
        self.renewed + GIVE_UP
    }

    /// Takes note of a renewal that was sent at `sent` and ended at `now`.
    ///
    /// # Errors
    /// Why the lead is lost.
    pub fn renewal(&mut self, sent: BootTime, now: BootTime, renewal: Renewal) -> Result<(), Lost> {
        match renewal {
            // An answer that came too late: others may have counted to the end.
            _ if now >= self.ends() => return Err(Lost::Silence),
            Renewal::Done(record) => {
                (self.record, self.renewed, self.next) = (record, sent, sent + RENEW);
            }
            // An earlier renewal arrived after all.
            Renewal::Overtaken(Some(record)) if record.holder.as_ref() == Some(&self.me) => {
                (self.record, self.next) = (record, now);
            }
            Renewal::Overtaken(found) => {
                return Err(found
                    .and_then(|record| record.holder)
                    .map_or(Lost::Gone, Lost::Taken));
            }
            Renewal::Unknown => self.next = now + AGAIN,
        }
        Ok(())
    }
}
