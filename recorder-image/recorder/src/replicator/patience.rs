//! A standby that waits for the operator, so that a failover by nothing but an expired Lease can be measured.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::trial;

static WAITS: AtomicBool = AtomicBool::new(false);

/// In a debug build: this member takes only when it is told to while the file `test-waits-for-order` on the volume is not empty.
pub fn obey(media: &Path) {
    trial::follow(media, "test-waits-for-order", |told| {
        WAITS.store(!told.is_empty(), Ordering::Relaxed);
    });
}

/// Whether a test told it to wait.
pub fn waits() -> bool {
    WAITS.load(Ordering::Relaxed)
}
