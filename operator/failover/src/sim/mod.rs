//! A seeded simulation: two machines, an operator, an API server, and everything that goes wrong between them.
//!
//! Every schedule is decided by its seed alone. After every event the checks look at the *true* timeline: what each
//! replicator and each recorder would act on at that moment by its own clock, frozen or not.

mod api;
mod apply;
mod check;
mod faults;
mod manager;
mod measure;
mod network;
mod node;
mod rng;
mod world;

use std::time::Duration;

pub use check::Violation;
pub use measure::{Cause, Takeover, quiet, takeover};

use faults::Schedule;
use rng::Rng;
use world::World;

/// A millisecond of true time.
const MS: u64 = 1_000_000;
/// A second of true time.
const SECOND: u64 = 1000 * MS;

/// How a schedule is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Whether to keep a trace.
    pub trace: bool,
    /// The rule that is broken, if any.
    #[cfg(feature = "sabotage")]
    pub sabotage: Option<crate::Sabotage>,
}

impl Options {
    /// The rules as they are, on the schedule of this seed.
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// With a trace.
    #[must_use]
    pub fn traced(self) -> Self {
        Self { trace: true, ..self }
    }
}

/// What came of a schedule.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What was found broken, if anything.
    pub violation: Option<Violation>,
    /// How often authority began.
    pub takeovers: u64,
    /// For how long somebody held it.
    pub held: Duration,
    /// How long the schedule was.
    pub length: Duration,
    /// How long after the last fault authority was held for good.
    pub recovered: Duration,
    /// Events that were handled.
    pub events: u64,
    /// What happened, where it was asked for.
    pub trace: Vec<String>,
}

/// Runs one random schedule.
pub fn run(options: Options) -> Outcome {
    let mut rng = Rng::new(options.seed);
    let schedule = Schedule::random(&mut rng);
    let mut world = World::new(options, rng, schedule);
    let violation = world.run_schedule().err();
    world.outcome(violation)
}
