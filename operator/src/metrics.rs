//! Counters, in the text format of Prometheus.

use failover::ReadResult;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Counters of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Outcome, Counter>,
    status_writes: Counter,
    effects_failed: Counter,
    lease_reads: Family<Outcome, Counter>,
    decisions: Family<DecisionLabels, Counter>,
    phases: Family<PhaseLabels, Histogram, fn() -> Histogram>,
    pairs: Gauge,
    leader: Gauge,
}

/// From a tenth of the promise to an hour of catching up.
const PHASE_SECONDS: [f64; 14] = [
    0.1, 0.15, 0.25, 0.5, 1.0, 1.25, 1.5, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    decision: &'static str,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("gapless_operator"),
            reconciles: Family::default(),
            status_writes: Counter::default(),
            effects_failed: Counter::default(),
            lease_reads: Family::default(),
            decisions: Family::default(),
            phases: Family::new_with_constructor(|| Histogram::new(PHASE_SECONDS)),
            pairs: Gauge::default(),
            leader: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("reconciles", "Reconciles of a pair", self.reconciles.clone());
        registry.register("status_writes", "Writes of a status", self.status_writes.clone());
        registry.register(
            "effects_failed",
            "Objects that could not be written",
            self.effects_failed.clone(),
        );
        registry.register("lease_reads", "Quorum reads of a Lease", self.lease_reads.clone());
        registry.register(
            "decisions",
            "Decisions that were carried out, that have to wait, or that failed",
            self.decisions.clone(),
        );
        registry.register(
            "failover_phase_seconds",
            "From the last word of the old primary to each phase of a failover; of lastFrame, how long before that word it was",
            self.phases.clone(),
        );
        registry.register("pairs", "Pairs that are observed", self.pairs.clone());
        registry.register("leader", "1 while this replica leads", self.leader.clone());
    }

    /// A reconcile ended.
    pub fn reconciled(&self, ok: bool) {
        self.reconciles.get_or_create(&outcome(ok)).inc();
    }

    /// A status was written.
    pub fn status_written(&self) {
        self.status_writes.inc();
    }

    /// So many effects failed.
    pub fn effects_failed(&self, count: usize) {
        self.effects_failed.inc_by(count as u64);
    }

    /// A Lease was read, or not.
    pub fn lease_read(&self, result: &ReadResult) {
        let outcome = match result {
            ReadResult::Found(_) => "found",
            ReadResult::Missing => "missing",
            ReadResult::Unreadable => "unreadable",
            ReadResult::Unavailable => "unavailable",
        };
        self.lease_reads.get_or_create(&Outcome { outcome }).inc();
    }

    /// How a decision ended.
    pub fn decision(&self, decision: &'static str, outcome: &'static str) {
        self.decisions
            .get_or_create(&DecisionLabels { decision, outcome })
            .inc();
    }

    /// A failover reached a phase so many seconds after the last word of the old primary; of its last frame, before it.
    pub fn phase(&self, phase: &'static str, seconds: f64) {
        self.phases.get_or_create(&PhaseLabels { phase }).observe(seconds);
    }

    /// So many pairs are observed.
    pub fn pairs(&self, count: usize) {
        self.pairs.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn outcome(ok: bool) -> Outcome {
    let outcome = if ok { "ok" } else { "error" };
    Outcome { outcome }
}
