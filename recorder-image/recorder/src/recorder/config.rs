//! The rendered configuration and its hot reload.
//!
//! The kubelet swaps the whole folder of a mounted Secret by a symlink. The file is small, so it is simply read once
//! a second and compared: no event can be missed. A configuration that cannot be used is reported, and the last good
//! one stays in force.

use std::path::PathBuf;
use std::time::Duration;

use super::ring::Limits;
use crate::local::StreamUid;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what the operator renders. Says where, never what: the file holds credentials.
    #[error("{path} is not a configuration: {kind} at line {line}, column {column}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The kind of error.
        kind: &'static str,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// The file is well formed, but cannot be used.
    #[error("{path}: {why}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// One configured stream. Its `Debug` says nothing of credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Name in the pair.
    pub name: String,
    /// UID.
    pub uid: StreamUid,
    /// Address; may hold credentials.
    pub url: String,
    /// User name beside the URL.
    pub username: Option<String>,
    password: Option<String>,
}

impl std::fmt::Debug for StreamSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamSpec")
            .field("name", &self.name)
            .field("uid", &self.uid)
            .finish_non_exhaustive()
    }
}

impl StreamSpec {
    /// The password beside the URL.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

/// How long media stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Never removed before this age.
    pub min_age: Duration,
    /// Removed after this age.
    pub max_age: Option<Duration>,
    /// Removed, oldest first, above this size, but never before `min_age`.
    pub max_bytes: Option<u64>,
}

/// What the recorder needs of the rendered configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The streams.
    pub streams: Vec<StreamSpec>,
    /// Target length of a segment.
    pub segment: Duration,
    /// Limits of each ring.
    pub ring: Limits,
    /// How long media stays.
    pub retention: Retention,
}
