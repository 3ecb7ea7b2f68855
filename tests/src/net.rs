//! Ports on loopback.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

/// Below those that the kernel gives to outgoing connections: one that is free now stays so until its program listens.
const PORTS: Range<u16> = 20_000..30_000;

/// A port that nobody listens on now, and that is given to nobody else in this process.
pub fn free_port() -> Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Test programs that run at the same time begin at other ones.
    let first = std::process::id().wrapping_mul(97) % count;
    for _ in 0..count {
        let number = (first + GIVEN.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(number)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("every port of {PORTS:?} is taken")
}
