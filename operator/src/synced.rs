//! Which watches have synced.
//!
//! `Store::wait_until_ready` wakes only one of several waiters, and a controller is one. So the events of the watches
//! themselves are counted.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use kube::runtime::watcher::{Event, Result};
use tokio::sync::watch;

/// How many watches have not synced yet.
#[derive(Debug, Clone)]
pub struct Synced(Arc<watch::Sender<usize>>);

impl Default for Synced {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Synced {
    /// Counts the watch behind this stream: it has synced once it listed all there is.
    pub fn count<K, S>(&self, stream: S) -> impl Stream<Item = Result<Event<K>>> + use<K, S>
    where
        S: Stream<Item = Result<Event<K>>>,
    {
        self.0.send_modify(|left| *left += 1);
        let (left, mut done) = (self.0.clone(), false);
        stream.inspect(move |event| {
            if !done && matches!(event, Ok(Event::InitDone)) {
                done = true;
                left.send_modify(|left| *left -= 1);
            }
        })
    }

    /// Waits until every watch has synced.
    pub async fn all(&self) {
        // The sender is in `self`: it does not end.
        let _ = self.0.subscribe().wait_for(|left| *left == 0).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn all_have_synced_when_each_has() {
        let synced = Synced::default();
        let events = || stream::iter([Ok(Event::<()>::Init), Ok(Event::InitDone), Ok(Event::InitDone)]);
        let (one, two) = (synced.count(events()), synced.count(events()));
        assert!(synced.all().now_or_never().is_none());
        one.for_each(async |_| ()).await;
        assert!(synced.all().now_or_never().is_none());
        let waiters =
            [synced.clone(), synced.clone()].map(|synced| tokio::spawn(async move { synced.all().await }));
        two.for_each(async |_| ()).await;
        for waiter in waiters {
            waiter.await.unwrap();
        }
    }
}
