//! Where the sessions run: one thread, which looks at its sockets at most once each 20 ms.
//!
//! A camera sends a frame as several packets, one shortly after the other, and each would wake somebody: a thread, then a task,
//! which reads a little and finds nothing more. Here whole frames have mostly come when the thread looks, of all streams together,
//! so the number of wake-ups a second is bounded by the clock and not by streams and packets.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

/// How long what arrives is left to gather. It is part of the replication lag, and of how far a live view is behind.
const CALM: Duration = Duration::from_millis(20);
/// The same where a camera sends datagrams: what a socket's buffer has no room for meanwhile is lost.
const HASTY: Duration = Duration::from_millis(5);

/// For how long what arrives is left to gather.
#[derive(Debug, Default)]
pub struct Gather(AtomicBool);

impl Gather {
    /// Whether there are datagrams among it.
    pub fn set(&self, datagrams: bool) {
        self.0.store(datagrams, Ordering::Relaxed);
    }

    fn time(&self) -> Duration {
        if self.0.load(Ordering::Relaxed) {
            HASTY
        } else {
            CALM
        }
    }
}

/// Starts the thread. If it ends, all of its tasks do.
///
/// # Errors
/// When the system gives no thread or no event queue.
pub fn start(gather: Arc<Gather>) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || std::thread::sleep(gather.time()))
        .build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("sessions".into())
        .spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}
