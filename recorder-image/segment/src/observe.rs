//! Who is told of each sync in a test build, so that a simulated power cut knows what is durable, and which of them fail. Other builds
//! have none of this.

use std::path::Path;

#[cfg(feature = "sabotage")]
pub(crate) use told::Syncs;
#[cfg(not(feature = "sabotage"))]
pub(crate) use untold::Syncs;

#[cfg(feature = "sabotage")]
mod told {
    use std::fs::File;
    use std::os::fd::{AsRawFd, RawFd};
    use std::sync::{Arc, Mutex, PoisonError};

    use super::Path;

    type Observer = Box<dyn Fn(Option<&Path>) + Send>;

    /// The syncs of one volume.
    #[derive(Clone, Default)]
    pub(crate) struct Syncs {
        observer: Arc<Mutex<Option<Observer>>>,
        /// Open files that have an error to tell.
        failing: Arc<Mutex<Vec<RawFd>>>,
    }

    impl std::fmt::Debug for Syncs {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Syncs")
        }
    }

    impl Syncs {
        pub(crate) fn observe(&self, observer: impl Fn(Option<&Path>) + Send + 'static) {
            *self.observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(observer));
        }

        /// One file was synced, or all.
        pub(crate) fn tell(&self, file: Option<&Path>) {
            if let Some(observer) = &*self.observer.lock().unwrap_or_else(PoisonError::into_inner) {
                observer(file);
            }
        }

        /// Each of these tells once that write-back failed.
        pub(crate) fn lose(&self, files: &[&File]) {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            *failing = files.iter().map(|file| file.as_raw_fd()).collect();
        }

        /// Fails where this file has an error to tell.
        pub(crate) fn lost(&self, file: &File) -> std::io::Result<()> {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            let before = failing.len();
            failing.retain(|fd| *fd != file.as_raw_fd());
            if failing.len() < before {
                return Err(std::io::Error::other("write-back failed"));
            }
            Ok(())
        }
    }
}

#[cfg(not(feature = "sabotage"))]
mod untold {
    use std::fs::File;

    use super::Path;

    /// Nobody is told.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Syncs(());

    impl Syncs {
        #[allow(clippy::unused_self, reason = "the same call as in a test build")]
        pub(crate) const fn tell(&self, _file: Option<&Path>) {}

        #[allow(
            clippy::unused_self,
            clippy::unnecessary_wraps,
            reason = "the same call as in a test build"
        )]
        pub(crate) const fn lost(&self, _file: &File) -> std::io::Result<()> {
            Ok(())
        }
    }
}
