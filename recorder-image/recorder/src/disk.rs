//! Whether the volume takes frames. Pure: its size is passed in.

use std::time::Duration;

use segment::{Error, Space};

use crate::local::Disk;

/// The reserve that frames never use: ledgers, epochs and seals must always fit. 1/200 of the volume, within these
/// bounds, bytes.
const RESERVE: (u64, u64) = (16 << 20, 1 << 30);
/// Below this many times the reserve old media is to leave, before frames have to be refused.
const ROOM: u64 = 2;
/// Below which part of the reserve a volume takes nothing more, and above which it does again, quarters. Copies of the peer's media
/// leave room for what this member records by itself.
const LIVE: (u64, u64) = (4, 6);
const COPIES: (u64, u64) = (6, 7);
/// How long to wait before the next attempt after a refusal.
const RETRY: Duration = Duration::from_secs(1);

/// The cures.
const FULL: &str = "free space, or lower spec.storage.retention";
const FAILING: &str = "check the disk of its node, and replace the volume if this lasts";

/// A write or a sync that failed.
#[derive(Debug)]
struct Refusal {
    at: Duration,
    why: String,
    /// The disk does not work, rather than having no room.
    failing: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Guard {
    bounds: (u64, u64),
    space: Space,
    refused: Option<Refusal>,
    low: bool,
}

impl Default for Guard {
    /// Of frames that this member records.
    fn default() -> Self {
        Self {
            bounds: LIVE,
            space: Space::default(),
            refused: None,
            low: false,
        }
    }
}

impl Guard {
    /// Of media that come from the peer.
    pub fn of_copies() -> Self {
        Self {
            bounds: COPIES,
            ..Self::default()
        }
    }

    /// How full the volume is. Below the reserve frames are refused; they are taken again above one and a half of it. Copies are refused
    /// below that, and taken again above one and three quarters.
    pub fn measured(&mut self, space: Space) {
        self.space = space;
        let (below, above) = self.bounds;
        let quarters = if self.low { above } else { below };
        self.low = space.usable() < self.reserve() / 4 * quarters;
    }

    fn reserve(&self) -> u64 {
        let total = self.space.total;
        (total / 200).clamp(RESERVE.0, RESERVE.1).min(total / 4)
    }

    /// How many bytes have to leave the volume so that it goes on taking frames: whatever its size was asked to be, it is as large as it is.
    /// None before it was measured.
    pub fn short(&self) -> u64 {
        (self.reserve() * ROOM).saturating_sub(self.space.usable())
    }

    /// A write or a sync failed at `now`.
    pub fn refused(&mut self, now: Duration, error: &Error) {
        self.refused = Some(Refusal {
            at: now,
            why: error.steady(),
            failing: !error.is_volume_full(),
        });
    }

    /// A group of writes was synced: the volume works.
    pub fn worked(&mut self) {
        self.refused = None;
    }

    /// A sync succeeded at `now`, whatever was written before it. That proves something only where frames were taken again
    /// since the refusal: syncs succeed on a volume that takes no bytes.
    pub fn synced(&mut self, now: Duration) {
        if self.is_to_prove(now) {
            self.worked();
        }
    }

    /// Whether there was a refusal, but frames are taken again at `now`.
    pub fn is_to_prove(&self, now: Duration) -> bool {
        self.refused
            .as_ref()
            .is_some_and(|r| now.saturating_sub(r.at) >= RETRY)
    }

    /// Whether there was a refusal, and it is too early for another attempt at `now`.
    pub fn holds_off(&self, now: Duration) -> bool {
        self.refused.is_some() && !self.is_to_prove(now)
    }

    /// Whether frames may be written now. After a refusal there is an attempt each second.
    pub fn takes(&self, now: Duration) -> bool {
        !self.low && !self.holds_off(now)
    }

    /// Why frames are refused, and the cure, for people.
    pub fn why(&self) -> Option<String> {
        let low = || {
            let Space { free, free_files, .. } = self.space;
            let left = if self.space.usable() < free {
                format!("room for {free_files} files")
            } else {
                format!("{} MiB", free >> 20)
            };
            format!("the volume has {left} left, which is its reserve; {FULL}")
        };
        let refused = |r: &Refusal| {
            let cure = if r.failing { FAILING } else { FULL };
            format!("the volume refuses writes: {}; {cure}", r.why)
        };
        self.refused.as_ref().map(refused).or(self.low.then(low))
    }

    /// For the ticket.
    pub fn report(&self) -> Disk {
        let failing = self.refused.as_ref().is_some_and(|r| r.failing);
        Disk {
            total_bytes: self.space.total,
            free_bytes: self.space.free,
            full: self.low || (self.refused.is_some() && !failing),
            failing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;
    const MB: u64 = 1 << 20;
    const S: Duration = Duration::from_secs(1);

    fn space(total: u64, free: u64) -> Space {
        Space {
            total,
            free,
            ..Space::default()
        }
    }

    #[test]
    fn old_media_is_to_leave_before_frames_are_refused() {
        let short = |total, free| {
            let mut guard = Guard::default();
            guard.measured(space(total, free));
            guard.short()
        };
        assert_eq!(
            Guard::default().short(),
            0,
            "nothing leaves before it is measured"
        );
        assert_eq!(short(400 * GB, 3 * GB), 0);
        assert_eq!(short(400 * GB, 2 * GB), 0);
        assert_eq!(short(400 * GB, 2 * GB - 1), 1);
        assert_eq!(short(400 * GB, 0), 2 * GB);
        assert_eq!(short(GB, 20 * MB), 12 * MB);
    }

    fn error(code: rustix::io::Errno) -> Error {
        Error::io("/media", code)
    }

    fn no_space() -> Error {
        error(rustix::io::Errno::NOSPC)
    }

    #[test]
    fn a_full_disk_and_a_failing_one_are_told_apart() {
        use rustix::io::Errno;
        let table = [
            (Errno::NOSPC, (true, false), FULL),
            (Errno::DQUOT, (true, false), FULL),
            (Errno::IO, (false, true), FAILING),
            (Errno::ROFS, (false, true), FAILING),
        ];
        for (code, (full, failing), cure) in table {
            let mut guard = Guard::default();
            guard.measured(space(20 * GB, 10 * GB));
            guard.refused(S, &error(code));
            let disk = guard.report();
            assert_eq!((disk.full, disk.failing), (full, failing), "{code}");
            let why = guard.why().unwrap();
            assert!(why.contains("/media") && why.ends_with(cure), "{why}");
            guard.worked();
            let disk = guard.report();
            assert_eq!((disk.full, disk.failing, guard.why()), (false, false, None));
        }
    }

    #[test]
    fn the_reserve_has_hysteresis() {
        let mut guard = Guard::default();
        guard.measured(space(20 * GB, 10 * GB));
        assert!(guard.takes(S) && guard.why().is_none());
        guard.measured(space(20 * GB, GB / 11));
        assert!(!guard.takes(S) && guard.report().full);
        guard.measured(space(20 * GB, GB / 9));
        assert!(!guard.takes(S), "not yet");
        guard.measured(space(20 * GB, GB / 6));
        assert!(guard.takes(S));
    }

    #[test]
    fn copies_leave_room_for_what_is_recorded() {
        // The reserve is 1 GiB.
        let table = [
            // Free, MiB, and who takes then: the recorder, the keeper of copies.
            (2000, true, true),
            (1500, true, false),
            (1025, true, false),
            (1000, false, false),
            (1500, false, false),
            (1600, true, false),
            (1800, true, true),
            (1600, true, true),
        ];
        let (mut live, mut copies) = (Guard::default(), Guard::of_copies());
        for (free, records, takes) in table {
            for guard in [&mut live, &mut copies] {
                guard.measured(space(400 * GB, free * MB));
            }
            assert_eq!((live.takes(S), copies.takes(S)), (records, takes), "{free} MiB");
        }
    }

    #[test]
    fn a_volume_without_files_has_no_room() {
        let mut guard = Guard::default();
        let full = Space {
            files: 26_000_000,
            free_files: 1000,
            ..space(400 * GB, 200 * GB)
        };
        guard.measured(full);
        assert!(!guard.takes(S) && guard.report().full && guard.short() > GB);
        let why = guard.why().unwrap();
        assert!(why.contains("room for 1000 files"), "{why}");
        guard.measured(Space { files: 0, ..full });
        assert!(guard.takes(S), "their number is not fixed");
        guard.measured(Space {
            free_files: 13_000_000,
            ..full
        });
        assert!(guard.takes(S) && guard.short() == 0);
    }

    #[test]
    fn a_refusal_is_retried_and_forgotten_after_success() {
        let mut guard = Guard::default();
        guard.measured(space(20 * GB, 10 * GB));
        guard.refused(S, &no_space());
        assert!(!guard.takes(S) && guard.report().full);
        assert!(guard.takes(S * 2));
        assert!(guard.report().full, "until it worked");
        guard.worked();
        assert!(!guard.report().full);
    }

    #[test]
    fn a_sync_right_after_a_refusal_proves_nothing() {
        let mut guard = Guard::default();
        guard.measured(space(20 * GB, 10 * GB));
        guard.refused(S, &no_space());
        guard.synced(S + S / 20);
        assert!(guard.report().full && !guard.takes(S + S / 10));
        assert!(guard.takes(S * 2) && guard.is_to_prove(S * 2));
        guard.refused(S * 2, &no_space());
        guard.synced(S * 2);
        assert!(guard.report().full, "refused again");
        guard.synced(S * 3);
        assert!(!guard.report().full && !guard.is_to_prove(S * 9));
    }

    #[test]
    fn a_tiny_volume_has_a_small_reserve() {
        let mut guard = Guard::default();
        guard.measured(space(40 << 20, 11 << 20));
        assert!(guard.takes(S));
        guard.measured(space(40 << 20, 9 << 20));
        assert!(!guard.takes(S));
    }
}
