//! How long each phase of a scenario took.

use std::fmt;
use std::time::{Duration, Instant};

/// Phases in their order.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    list: Vec<(String, Duration)>,
    since: Option<Instant>,
}

impl Phases {
    /// Begins to measure.
    pub fn start() -> Self {
        Self {
            list: Vec::new(),
            since: Some(Instant::now()),
        }
    }

    /// The phase that ends now.
    pub fn ended(&mut self, phase: &str) {
        let since = self.since.replace(Instant::now());
        let took = since.map_or(Duration::ZERO, |since| since.elapsed());
        eprintln!("  {phase}: {:.1} s", took.as_secs_f64());
        self.list.push((phase.to_owned(), took));
    }

    /// A time that was measured otherwise.
    pub fn note(&mut self, what: &str, took_ms: u64) {
        self.list.push((what.to_owned(), Duration::from_millis(took_ms)));
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (phase, took) in &self.list {
            writeln!(f, "  {phase:<52} {:>8.2} s", took.as_secs_f64())?;
        }
        Ok(())
    }
}
