//! What the recorder counts, for Prometheus. Names begin with `gapless_`, units are base units.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use segment::gaps::{CAUSES, UNKNOWN};
use std::sync::atomic::AtomicU64;

use crate::local::ErrorCode;

type FloatGauge = Gauge<f64, AtomicU64>;
type FloatCounter = Counter<f64, AtomicU64>;

/// The states of gaps, as labels.
pub const GAP_STATES: [&str; 3] = ["open", "refilled", "lost"];

/// The label of everything that is counted per stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StreamLabel {
    /// Name of the stream.
    pub stream: String,
}

/// A stream and why it lacks frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GapLabel {
    /// Name of the stream.
    pub stream: String,
    /// One of the known causes.
    pub cause: &'static str,
}

/// A stream and how it stands with its gaps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GapStateLabel {
    /// Name of the stream.
    pub stream: String,
    /// `open`, `refilled` or `lost`.
    pub state: &'static str,
}

/// A stream and the code of an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabel {
    /// Name of the stream.
    pub stream: String,
    /// The word for the code, for example `Unauthorized`.
    pub code: &'static str,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Frames from the camera.
    pub frames_received: Family<StreamLabel, Counter>,
    /// Bytes of those frames.
    pub bytes_received: Family<StreamLabel, Counter>,
    /// Access units that cannot be recorded.
    pub units_refused: Family<StreamLabel, Counter>,
    /// Frames whose own write was synced.
    pub frames_written: Family<StreamLabel, Counter>,
    /// Length of the gaps that ended.
    pub gap_seconds: Family<GapLabel, FloatCounter>,
    /// Length of the gaps that this member noted and that are not forgotten, by their state now.
    pub gap_length: Family<GapStateLabel, FloatGauge>,
    /// Gaps that ended.
    pub gaps: Family<GapLabel, Counter>,
    /// Sessions that ended, by error code.
    pub session_errors: Family<ErrorLabel, Counter>,
    /// Bytes in the ring.
    pub ring_bytes: Family<StreamLabel, Gauge>,
    /// 1 while frames come.
    pub stream_up: Family<StreamLabel, Gauge>,
    /// 1 while no frame is expected.
    pub stream_idle: Family<StreamLabel, Gauge>,
    /// 1 while this member writes the stream.
    pub stream_writing: Family<StreamLabel, Gauge>,
    /// 1 while this member owns the stream.
    pub stream_owned: Family<StreamLabel, Gauge>,
    /// Frames a second.
    pub stream_fps: Family<StreamLabel, FloatGauge>,
    /// Live viewers now.
    pub viewers: Family<StreamLabel, Gauge>,
    /// Live viewers that were dropped because they fell behind.
    pub viewers_dropped: Family<StreamLabel, Counter>,
    /// Duration of a group commit.
    pub commit_seconds: Histogram,
    /// Syncs of the volume.
    pub syncs: Counter,
    /// Group commits that failed, and writes that the volume refused.
    pub disk_errors: Counter,
    /// Size of the volume.
    pub disk_total: Gauge,
    /// Free space of the volume.
    pub disk_free: Gauge,
    /// 1 while the volume has no room for frames.
    pub disk_full: Gauge,
    /// 1 while the volume fails.
    pub disk_failing: Gauge,
    /// Segments sealed.
    pub sealed: Counter,
    /// Segments that retention removed.
    pub evicted: Counter,
    /// Bytes of duplicates that were removed.
    pub reclaimed_bytes: Counter,
    /// Bytes of the peer that were refused, as the replicator says.
    pub refused: Counter,
    /// Ledgers whose damaged end was cut.
    pub ledger_truncations: Counter,
    /// 1 while the configuration on disk is not usable.
    pub config_broken: Gauge,
    /// 1 while the viewers' token cannot be read.
    pub viewer_token_broken: Gauge,
    /// 1 while this member holds authority.
    pub authority: Gauge,
    /// Requests that were turned away because too many were in progress.
    pub http_busy: Counter,
}

impl Metrics {
    /// The metrics of `member`.
    pub fn new(member: &str) -> Self {
        let labels = [("member".into(), member.to_owned().into())];
        let mut metrics = Self {
            registry: Registry::with_prefix_and_labels("gapless", labels.into_iter()),
            frames_received: Family::default(),
            bytes_received: Family::default(),
            units_refused: Family::default(),
            frames_written: Family::default(),
            gap_seconds: Family::default(),
            gap_length: Family::default(),
            gaps: Family::default(),
            session_errors: Family::default(),
            ring_bytes: Family::default(),
            stream_up: Family::default(),
            stream_idle: Family::default(),
            stream_writing: Family::default(),
            stream_owned: Family::default(),
            stream_fps: Family::default(),
            viewers: Family::default(),
            viewers_dropped: Family::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            syncs: Counter::default(),
            disk_errors: Counter::default(),
            disk_total: Gauge::default(),
            disk_free: Gauge::default(),
            disk_full: Gauge::default(),
            disk_failing: Gauge::default(),
            sealed: Counter::default(),
            evicted: Counter::default(),
            reclaimed_bytes: Counter::default(),
            refused: Counter::default(),
            ledger_truncations: Counter::default(),
            config_broken: Gauge::default(),
            viewer_token_broken: Gauge::default(),
            authority: Gauge::default(),
            http_busy: Counter::default(),
        };
        metrics.register_streams();
        metrics.register_process();
        metrics
    }

    fn register_streams(&mut self) {
        let r = &mut self.registry;
        r.register(
            "frames_received",
            "Frames from the camera",
            self.frames_received.clone(),
        );
        r.register_with_unit(
            "received",
            "Bytes from the camera",
            Unit::Bytes,
            self.bytes_received.clone(),
        );
        r.register(
            "units_refused",
            "Access units that cannot be recorded",
            self.units_refused.clone(),
        );
        r.register(
            "frames_written",
            "Frames whose own write was synced",
            self.frames_written.clone(),
        );
        r.register_with_unit(
            "stream_gap",
            "Length of gaps that ended",
            Unit::Seconds,
            self.gap_seconds.clone(),
        );
        r.register_with_unit(
            "stream_gap_length",
            "Length of the gaps that this member noted, by their state now",
            Unit::Seconds,
            self.gap_length.clone(),
        );
        r.register("stream_gaps", "Gaps that ended", self.gaps.clone());
        r.register(
            "session_errors",
            "Sessions that ended, by error",
            self.session_errors.clone(),
        );
        r.register_with_unit("ring", "Bytes in the ring", Unit::Bytes, self.ring_bytes.clone());
        r.register("stream_up", "1 while frames come", self.stream_up.clone());
        r.register(
            "stream_idle",
            "1 while no frame is expected, because the other member receives the stream",
            self.stream_idle.clone(),
        );
        r.register(
            "stream_writing",
            "1 while this member writes the stream",
            self.stream_writing.clone(),
        );
        r.register(
            "stream_owned",
            "1 while this member owns the stream",
            self.stream_owned.clone(),
        );
        r.register(
            "stream_frames_per_second",
            "Frames a second",
            self.stream_fps.clone(),
        );
        r.register("viewers", "Live viewers now", self.viewers.clone());
        r.register(
            "viewers_dropped",
            "Live viewers dropped because they fell behind",
            self.viewers_dropped.clone(),
        );
    }

    fn register_process(&mut self) {
        let r = &mut self.registry;
        r.register_with_unit(
            "commit",
            "Duration of a group commit",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        r.register(
            "syncs",
            "Syncs of the volume, all streams together",
            self.syncs.clone(),
        );
        r.register(
            "disk_errors",
            "Writes and syncs that the volume refused",
            self.disk_errors.clone(),
        );
        r.register_with_unit(
            "disk_total",
            "Size of the volume",
            Unit::Bytes,
            self.disk_total.clone(),
        );
        r.register_with_unit(
            "disk_free",
            "Free space of the volume",
            Unit::Bytes,
            self.disk_free.clone(),
        );
        r.register(
            "disk_full",
            "1 while the volume has no room for frames",
            self.disk_full.clone(),
        );
        r.register(
            "disk_failing",
            "1 while the volume fails: I/O errors, or it became read-only",
            self.disk_failing.clone(),
        );
        r.register("segments_sealed", "Segments sealed", self.sealed.clone());
        r.register(
            "segments_evicted",
            "Segments removed by retention",
            self.evicted.clone(),
        );
        r.register_with_unit(
            "reclaimed",
            "Bytes of duplicates that were removed",
            Unit::Bytes,
            self.reclaimed_bytes.clone(),
        );
        r.register("refused", "Refusals of the peer's media", self.refused.clone());
        r.register(
            "ledger_truncations",
            "Ledgers truncated at start",
            self.ledger_truncations.clone(),
        );
        r.register(
            "config_broken",
            "1 while the configuration is not usable",
            self.config_broken.clone(),
        );
        r.register(
            "viewer_token_broken",
            "1 while the viewers' token cannot be read",
            self.viewer_token_broken.clone(),
        );
        r.register(
            "authority",
            "1 while this member holds authority",
            self.authority.clone(),
        );
        r.register("http_busy", "Requests turned away", self.http_busy.clone());
    }

    /// Forgets a stream that left the configuration.
    pub fn forget(&self, stream: &str) {
        let label = label(stream);
        self.frames_received.remove(&label);
        self.bytes_received.remove(&label);
        self.units_refused.remove(&label);
        self.frames_written.remove(&label);
        self.ring_bytes.remove(&label);
        self.stream_up.remove(&label);
        self.stream_idle.remove(&label);
        self.stream_writing.remove(&label);
        self.stream_owned.remove(&label);
        self.stream_fps.remove(&label);
        self.viewers.remove(&label);
        self.viewers_dropped.remove(&label);
        for cause in CAUSES.into_iter().chain([UNKNOWN]) {
            let label = GapLabel {
                stream: stream.to_owned(),
                cause,
            };
            self.gap_seconds.remove(&label);
            self.gaps.remove(&label);
        }
        for code in ErrorCode::ALL {
            let stream = stream.to_owned();
            let code = code.as_str();
            self.session_errors.remove(&ErrorLabel { stream, code });
        }
        for state in GAP_STATES {
            self.gap_length.remove(&gap_state(stream, state));
        }
    }

    /// The text for a scrape.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// The label of a stream and a state of its gaps.
pub fn gap_state(stream: &str, state: &'static str) -> GapStateLabel {
    GapStateLabel {
        stream: stream.to_owned(),
        state,
    }
}

/// The label of a stream.
pub fn label(stream: &str) -> StreamLabel {
    StreamLabel {
        stream: stream.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_prefix_member_and_unit() {
        let metrics = Metrics::new("front-0");
        metrics.frames_received.get_or_create(&label("door")).inc_by(3);
        let gap = GapLabel {
            stream: "door".into(),
            cause: "Watchdog",
        };
        metrics.gap_seconds.get_or_create(&gap).inc_by(1.5);
        let code = ErrorCode::Timeout.as_str();
        let stream = "door".into();
        metrics
            .session_errors
            .get_or_create(&ErrorLabel { stream, code })
            .inc();
        let text = metrics.encode();
        assert!(
            text.contains(r#"gapless_frames_received_total{member="front-0",stream="door"} 3"#),
            "{text}"
        );
        assert!(text.contains(
            r#"gapless_stream_gap_seconds_total{member="front-0",stream="door",cause="Watchdog"} 1.5"#
        ));
        assert!(
            text.contains(r#"gapless_session_errors_total{member="front-0",stream="door",code="Timeout"} 1"#)
        );
        metrics.forget("door");
        let text = metrics.encode();
        assert!(!text.contains(r#"stream="door""#), "{text}");
    }
}
