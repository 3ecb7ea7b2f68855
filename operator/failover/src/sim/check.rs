//! What must be true after every event.

use std::fmt;

use crate::name::Epoch;
use crate::sim::node::Node;

/// What was found broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Two members hold authority at one moment of true time.
    I6 {
        /// When, in nanoseconds of true time.
        at: u64,
        /// What each holds it by.
        held: [String; 2],
    },
    /// An epoch fell, was served twice, or was served before it was synced.
    I5 {
        /// When, in nanoseconds of true time.
        at: u64,
        /// What fell.
        what: String,
    },
    /// After every fault was over, nobody held authority for good.
    NobodyHolds {
        /// When it was given up, in nanoseconds of true time.
        at: u64,
    },
    /// A member asked for one tick after the other without time passing.
    Busy {
        /// When, in nanoseconds of true time.
        at: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |at: &u64| *at as f64 / 1e9;
        match self {
            Self::I6 { at, held } => write!(f, "I6 at {:.4} s: {} and {}", seconds(at), held[0], held[1]),
            Self::I5 { at, what } => write!(f, "I5 at {:.4} s: {what}", seconds(at)),
            Self::NobodyHolds { at } => write!(f, "nobody holds authority at {:.1} s", seconds(at)),
            Self::Busy { at } => write!(f, "a member spins at {:.4} s", seconds(at)),
        }
    }
}

/// Epochs that were served, by whom.
#[derive(Debug, Default)]
pub(super) struct Checks {
    served: Epoch,
    server: usize,
}

impl Checks {
    /// I5 and I6 over both machines at one moment of true time.
    pub(super) fn after(&mut self, now: u64, nodes: &[Node; 2]) -> Result<(), Violation> {
        let held = [holds(&nodes[0], now), holds(&nodes[1], now)];
        if let [Some(a), Some(b)] = &held {
            return Err(Violation::I6 {
                at: now,
                held: [format!("0 by {a}"), format!("1 by {b}")],
            });
        }
        for (index, node) in nodes.iter().enumerate() {
            self.epochs(now, index, node)?;
        }
        Ok(())
    }

    fn epochs(&mut self, now: u64, index: usize, node: &Node) -> Result<(), Violation> {
        let Some(authority) = node.authority(now) else {
            return Ok(());
        };
        let epoch = authority.epoch;
        let wrong = |what: String| Err(Violation::I5 { at: now, what });
        if epoch > node.disk {
            return wrong(format!("{index} serves epoch {epoch} with {} synced", node.disk));
        }
        if epoch < self.served || (epoch == self.served && index != self.server) {
            return wrong(format!(
                "{index} serves epoch {epoch} after {} served {}",
                self.server, self.served
            ));
        }
        (self.served, self.server) = (epoch, index);
        Ok(())
    }
}

fn holds(node: &Node, now: u64) -> Option<&'static str> {
    if node.authority(now).is_some() {
        return Some("its replicator");
    }
    node.granted(now).map(|_| "its recorder")
}
