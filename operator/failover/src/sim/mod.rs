//! A seeded simulation: two machines, an operator, an API server, and everything that goes wrong between them.
//!
//! Every schedule is decided by its seed alone. After every event the checks look at the *true* timeline: what each
//! replicator and each recorder would act on at that moment by its own clock, frozen or not.

mod api;
mod apply;
mod check;
mod faults;
mod manager;
mod network;
mod node;
mod rng;
mod world;

use std::time::Duration;

pub use check::Violation;

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

/// How long a takeover took after the primary's power was cut.
#[derive(Debug, Clone, Copy)]
pub struct Takeover {
    /// Until the swap was stored.
    pub swapped: Duration,
    /// Until the other member held authority.
    pub serving: Duration,
}

/// Cuts the primary's power at default settings with 2 % of the messages lost; `None` where nobody took over in 30 s.
///
/// # Errors
/// [`Violation`], as for a random schedule.
pub fn power_cut(seed: u64) -> Result<Option<Takeover>, Violation> {
    let mut rng = Rng::new(seed);
    let schedule = Schedule::power_cut(&mut rng);
    let options = Options {
        seed,
        ..Options::default()
    };
    World::new(options, rng, schedule).run_power_cut()
}
