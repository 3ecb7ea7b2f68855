//! What a member evicts, by its own policy alone (I11), and the clock it does it by.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::SegmentId;
use crate::volume::Volume;

/// How long media is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Nothing younger than this leaves, whatever else is asked for.
    pub min_age: Duration,
    /// What is older leaves.
    pub max_age: Option<Duration>,
    /// Above this many bytes the oldest leave, down to `min_age`.
    pub max_bytes: Option<u64>,
}

/// What is asked of a sealed (or closed partial) copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The segment.
    pub id: SegmentId,
    /// When this member received it, on the retention clock, seconds since the Unix epoch.
    pub received_s: i64,
    /// Its length, bytes.
    pub length: u64,
}

/// What leaves now, oldest first. Pure.
pub fn evictions(mut held: Vec<Candidate>, now_s: i64, policy: &Policy) -> Vec<SegmentId> {
    held.sort_by(|a, b| (a.received_s, &a.id).cmp(&(b.received_s, &b.id)));
    let mut total: u64 = held.iter().map(|c| c.length).sum();
    let mut out = Vec::new();
    for candidate in held {
        let age = Duration::from_secs(u64::try_from(now_s - candidate.received_s).unwrap_or(0));
        let too_old = policy.max_age.is_some_and(|max| age > max);
        let too_much = policy.max_bytes.is_some_and(|max| total > max);
        // I11: minAge is undercut by nothing.
        if age < policy.min_age || !(too_old || too_much) {
            continue;
        }
        total -= candidate.length;
        out.push(candidate.id);
    }
    out
}

/// A clock that advances no faster than time since boot, so that a wall clock that jumps ahead expires nothing (I11). While
/// the machine is off it stands still: media is then kept longer, never shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionClock {
    /// Seconds since the Unix epoch.
    now_s: i64,
    /// `CLOCK_BOOTTIME` when `now_s` was right, seconds.
    #[serde(skip)]
    boot_s: u64,
}

impl RetentionClock {
    /// The clock as it was persisted on the volume (or the wall clock, on a new one).
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn load(volume: &Volume, wall_s: i64, boot_s: u64) -> Result<Self> {
        let path = volume.root().join("retention-clock");
        let found = match std::fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice::<Self>(&text)
                    .map_err(|e| Error::damaged(&path, e))?
                    .now_s
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => wall_s,
            Err(e) => return Err(Error::io(path, e)),
        };
        Ok(Self { now_s: found, boot_s })
    }

    /// The time now: at most as much later as time since boot advanced, and never later than the wall clock unless it was
    /// before; never back.
    pub fn advance(&mut self, wall_s: i64, boot_s: u64) -> i64 {
        let passed = boot_s.saturating_sub(self.boot_s) as i64;
        self.now_s = self.now_s.max(wall_s.min(self.now_s.saturating_add(passed)));
        self.boot_s = boot_s.max(self.boot_s);
        self.now_s
    }

    /// Writes it to the volume; durable after the next `Volume::sync`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn store(&self, volume: &Volume) -> Result<()> {
        let path = volume.root().join("retention-clock");
        let draft = volume.root().join(".retention-clock");
        let text = serde_json::to_vec(self).map_err(|e| Error::damaged(&path, e))?;
        std::fs::write(&draft, text)
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(|e| Error::io(&path, e))
    }
}
