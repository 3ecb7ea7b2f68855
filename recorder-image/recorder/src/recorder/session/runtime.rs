//! Where the sessions run: one thread, which looks at its sockets at most once each 5 ms.
//!
//! A camera sends a frame as several packets, one shortly after the other, and each would wake somebody: a thread, then a task,
//! which reads a little and finds nothing more. Here a whole frame has mostly come when the thread looks, of all streams together,
//! so the number of wake-ups a second is bounded by the clock and not by streams and packets.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

/// How long what arrives is left to gather. It is part of the replication lag, and of how far a live view is behind.
const GATHER: Duration = Duration::from_millis(5);

/// Starts the thread. If it ends, all of its tasks do.
///
/// # Errors
/// When the system gives no thread or no event queue.
pub fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_park(|| std::thread::sleep(GATHER))
        .build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("sessions".into())
        .spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}
