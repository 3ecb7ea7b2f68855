//! Listeners that outlive their errors.

use std::io;
use std::time::Duration;

/// How long to wait after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// The next connection. An error, of a connection that ended meanwhile or because no descriptors are left, ends nothing: it is said
/// once that `who` cannot connect, and the next one may work.
pub async fn accept<T, F: Future<Output = io::Result<T>>>(who: &str, next: impl Fn() -> F) -> T {
    let mut failed = false;
    loop {
        match next().await {
            Ok(connection) => return connection,
            Err(e) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!("{who} cannot connect: {e}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn the_connection_after_an_error_counts() {
        let tries = Cell::new(0);
        let got = accept("nobody", || {
            tries.set(tries.get() + 1);
            let out_of_descriptors = || io::Error::from_raw_os_error(24);
            std::future::ready((tries.get() == 3).then_some(3).ok_or_else(out_of_descriptors))
        });
        assert_eq!(got.await, 3);
    }
}
