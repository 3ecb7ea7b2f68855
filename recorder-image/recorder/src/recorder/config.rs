//! The rendered configuration and its hot reload.
//!
//! The kubelet swaps the whole folder of a mounted Secret by a symlink. The file is small, so it is simply read once
//! a second and compared: no event can be missed. A configuration that cannot be used is reported, and the last good
//! one stays in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crds::member::RenderedConfig;
use crds::pair::{Audio, Mode, Transport};

use super::http::auth::Token;
use super::ring::Limits;
use super::state::Shared;
use crate::local::StreamUid;

/// How often the file is read.
const PERIOD: Duration = Duration::from_secs(1);

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
    /// Whether pictures that do not change are a fault.
    pub detect_frozen: bool,
    /// How its packets come.
    pub transport: Transport,
    /// What becomes of its sound.
    pub audio: Audio,
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
    /// A stream that needs no credentials.
    #[cfg(test)]
    pub(crate) fn open(name: &str, uid: StreamUid, url: &str) -> Self {
        let (name, url) = (name.to_owned(), url.to_owned());
        let (username, password) = (None, None);
        Self {
            name,
            uid,
            url,
            username,
            password,
            detect_frozen: false,
            transport: Transport::default(),
            audio: Audio::default(),
        }
    }

    /// Whether it has the camera of another one, and is received as that is.
    pub fn is_same_but_login(&self, other: &Self) -> bool {
        let source = |spec: &Self| (spec.url.clone(), spec.transport, spec.audio);
        source(self) == source(other)
    }

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The streams.
    pub streams: Vec<StreamSpec>,
    /// Target length of a segment.
    pub segment: Duration,
    /// Limits of each ring.
    pub ring: Limits,
    /// What this member does of whom no frames are needed.
    pub mode: Mode,
    /// The pair's first member; it goes last where none has the say.
    pub first_member: String,
    /// How long media stays.
    pub retention: Retention,
}

/// Reads the file at `path`.
///
/// # Errors
/// [`ConfigError`]; never with what the file says, for it holds credentials.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    let read = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read(path).map_err(read)?;
    let rendered: RenderedConfig = serde_json::from_slice(&text).map_err(|e| parse_error(path, &e))?;
    if rendered.version != RenderedConfig::VERSION {
        let why = format!(
            "version {}, this recorder reads version {}",
            rendered.version,
            RenderedConfig::VERSION
        );
        return Err(ConfigError::Invalid {
            path: path.to_owned(),
            why,
        });
    }
    Ok(settings(rendered))
}

fn parse_error(path: &Path, e: &serde_json::Error) -> ConfigError {
    let kind = match e.classify() {
        serde_json::error::Category::Data => "a field is missing or of the wrong type",
        serde_json::error::Category::Eof => "it ends too early",
        _ => "it is not JSON",
    };
    ConfigError::Parse {
        path: path.to_owned(),
        kind,
        line: e.line(),
        column: e.column(),
    }
}

fn settings(rendered: RenderedConfig) -> Settings {
    let spec = |s: crds::member::StreamConfig| StreamSpec {
        name: s.name,
        uid: s.uid,
        url: s.url,
        username: s.username,
        password: s.password.map(|p| p.expose().to_owned()),
        detect_frozen: s.detect_frozen,
        transport: s.transport,
        audio: s.audio,
    };
    Settings {
        streams: rendered.streams.into_iter().map(spec).collect(),
        segment: Duration::from_millis(rendered.segment.target_ms),
        ring: Limits {
            max_bytes: usize::try_from(rendered.ring.max_bytes_per_stream).unwrap_or(usize::MAX),
            preroll: Duration::from_millis(rendered.ring.preroll_ms),
        },
        mode: rendered.standby_mode,
        first_member: rendered
            .members
            .into_iter()
            .next()
            .map_or_else(String::new, |m| m.name),
        retention: Retention {
            min_age: Duration::from_secs(rendered.retention.min_age_seconds),
            max_age: rendered.retention.max_age_seconds.map(Duration::from_secs),
            max_bytes: rendered.retention.max_bytes,
        },
    }
}

/// Follows the file: puts each new configuration in force, keeps the last good one, and says when one is broken. The
/// viewers' token is read again too. Never returns.
pub async fn follow(shared: Arc<Shared>, token: Arc<Token>, path: PathBuf) {
    let mut follower = Follower::new(shared, token, path);
    loop {
        follower.look();
        tokio::time::sleep(PERIOD).await;
    }
}

struct Follower {
    shared: Arc<Shared>,
    token: Arc<Token>,
    path: PathBuf,
    in_force: Option<Settings>,
    config_complaint: Complaint,
    token_complaint: Complaint,
}

/// What is wrong with a file; said when it changes.
#[derive(Default)]
struct Complaint(Option<String>);

impl Complaint {
    /// Returns whether there is one.
    fn say(&mut self, what: &str, now: Option<String>) -> bool {
        if let Some(why) = now.as_ref().filter(|_| self.0 != now) {
            tracing::error!("{what}: {why}");
        }
        self.0 = now;
        self.0.is_some()
    }
}

impl Follower {
    fn new(shared: Arc<Shared>, token: Arc<Token>, path: PathBuf) -> Self {
        Self {
            shared,
            token,
            path,
            in_force: None,
            config_complaint: Complaint::default(),
            token_complaint: Complaint::default(),
        }
    }

    /// Reads both files. Neither waits for the other: recording needs no token.
    fn look(&mut self) {
        let (settings, why) = match load(&self.path) {
            Ok(settings) => (Some(settings), None),
            Err(e) => (None, Some(e.to_string())),
        };
        let what = "the configuration cannot be used, the last good one stays";
        let broken = self.config_complaint.say(what, why);
        let why = self.token.reload().err().map(|e| e.to_string());
        let what = "the viewers' token cannot be read; without one that was read before, viewers are refused";
        let no_token = self.token_complaint.say(what, why);
        let metrics = &self.shared.metrics;
        metrics.config_broken.set(i64::from(broken));
        metrics.viewer_token_broken.set(i64::from(no_token));
        if settings.is_some() && settings != self.in_force {
            self.in_force = settings;
            self.in_force.iter().for_each(|s| self.shared.configure(s));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::recorder::state::tests::shared;

    fn config() -> Vec<u8> {
        let config = serde_json::json!({
            "version": 1,
            "pair": { "namespace": "n", "name": "p", "uid": "u" },
            "lease": "p",
            "primarySlice": "p-primary",
            "members": [],
            "streams": [{ "name": "door", "uid": uuid::Uuid::from_u128(1), "url": "none" }],
            "segment": { "targetMs": 10_000 },
            "ring": { "prerollMs": 1000, "maxBytesPerStream": 1_000_000 },
            "failover": { "leashMs": 600, "suspectAfterMs": 150, "leaseDurationSeconds": 6 },
            "retention": { "minAgeSeconds": 0 },
        });
        serde_json::to_vec(&config).unwrap()
    }

    #[tokio::test]
    async fn a_missing_viewer_token_keeps_no_stream_from_being_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let (config, token) = (dir.path().join("config.json"), dir.path().join("token"));
        std::fs::write(&config, self::config()).unwrap();
        let shared = shared(dir.path());
        let viewers = Arc::new(Token::new(&token));
        let mut follower = Follower::new(Arc::clone(&shared), Arc::clone(&viewers), config.clone());
        for text in [None, Some(" \n")] {
            if let Some(text) = text {
                std::fs::write(&token, text).unwrap();
            }
            follower.look();
            assert!(shared.registry.named("door").is_some());
            assert_eq!(shared.metrics.viewer_token_broken.get(), 1);
            assert_eq!(shared.metrics.config_broken.get(), 0);
            assert!(!viewers.allows("") && !viewers.allows("t"));
        }
        std::fs::write(&token, "t").unwrap();
        std::fs::write(&config, "{").unwrap();
        follower.look();
        assert!(viewers.allows("t"), "and the other way round");
        assert_eq!(shared.metrics.viewer_token_broken.get(), 0);
        assert_eq!(shared.metrics.config_broken.get(), 1);
        assert!(shared.registry.named("door").is_some());
    }
}
