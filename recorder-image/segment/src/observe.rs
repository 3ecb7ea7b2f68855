//! Who is told of each sync in a test build, so that a simulated power cut knows what is durable. Other builds have none of this.

use std::path::Path;

#[cfg(feature = "sabotage")]
pub(crate) use told::Syncs;
#[cfg(not(feature = "sabotage"))]
pub(crate) use untold::Syncs;

#[cfg(feature = "sabotage")]
mod told {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::Path;

    type Observer = Box<dyn Fn(Option<&Path>) + Send>;

    /// The syncs of one volume.
    #[derive(Clone, Default)]
    pub(crate) struct Syncs(Arc<Mutex<Option<Observer>>>);

    impl std::fmt::Debug for Syncs {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Syncs")
        }
    }

    impl Syncs {
        pub(crate) fn observe(&self, observer: impl Fn(Option<&Path>) + Send + 'static) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(observer));
        }

        /// One file was synced, or all.
        pub(crate) fn tell(&self, file: Option<&Path>) {
            if let Some(observer) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
                observer(file);
            }
        }
    }
}

#[cfg(not(feature = "sabotage"))]
mod untold {
    use super::Path;

    /// Nobody is told.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Syncs(());

    impl Syncs {
        #[allow(clippy::unused_self, reason = "the same call as in a test build")]
        pub(crate) const fn tell(&self, _file: Option<&Path>) {}
    }
}
