//! Whether the volume takes frames. Pure: its size is passed in.

use std::time::Duration;

use segment::Error;

use crate::local::Disk;

/// The reserve that frames never use: ledgers, epochs and seals must always fit. 1/200 of the volume, within these
/// bounds, bytes.
const RESERVE: (u64, u64) = (16 << 20, 1 << 30);
/// Below this many times the reserve old media is to leave, before frames have to be refused.
const ROOM: u64 = 2;
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
#[derive(Debug, Default)]
pub struct Guard {
    total: u64,
    free: u64,
    refused: Option<Refusal>,
    low: bool,
}

impl Guard {
    /// The volume has `total` bytes, of which `free` are free. Below the reserve frames are refused; they are taken
    /// again above one and a half of it.
    pub fn measured(&mut self, total: u64, free: u64) {
        (self.total, self.free) = (total, free);
        let reserve = self.reserve();
        self.low = if self.low {
            free < reserve + reserve / 2
        } else {
            free < reserve
        };
    }

    fn reserve(&self) -> u64 {
        (self.total / 200).clamp(RESERVE.0, RESERVE.1).min(self.total / 4)
    }

    /// How many bytes have to leave the volume so that it goes on taking frames: whatever its size was asked to be, it is as large as it is.
    /// None before it was measured.
    pub fn short(&self) -> u64 {
        (self.reserve() * ROOM).saturating_sub(self.free)
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
            format!(
                "the volume has {} MiB left, which is its reserve; {FULL}",
                self.free >> 20
            )
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
            total_bytes: self.total,
            free_bytes: self.free,
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

    #[test]
    fn old_media_is_to_leave_before_frames_are_refused() {
        let short = |total, free| {
            let mut guard = Guard::default();
            guard.measured(total, free);
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
            guard.measured(20 * GB, 10 * GB);
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
        guard.measured(20 * GB, 10 * GB);
        assert!(guard.takes(S) && guard.why().is_none());
        guard.measured(20 * GB, GB / 11);
        assert!(!guard.takes(S) && guard.report().full);
        guard.measured(20 * GB, GB / 9);
        assert!(!guard.takes(S), "not yet");
        guard.measured(20 * GB, GB / 6);
        assert!(guard.takes(S));
    }

    #[test]
    fn a_refusal_is_retried_and_forgotten_after_success() {
        let mut guard = Guard::default();
        guard.measured(20 * GB, 10 * GB);
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
        guard.measured(20 * GB, 10 * GB);
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
        guard.measured(40 << 20, 11 << 20);
        assert!(guard.takes(S));
        guard.measured(40 << 20, 9 << 20);
        assert!(!guard.takes(S));
    }
}
