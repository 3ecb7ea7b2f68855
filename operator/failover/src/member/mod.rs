//! The state machine of one replicator's authority.

use crate::effect::{Authority, Effect};
use crate::event::Event;
use crate::name::{Epoch, MemberName, MemberRef};
use crate::report::{Report, Role};
use crate::settings::Settings;
use crate::time::BootTime;

/// What a member is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Itself, with an incarnation that is new at every start.
    pub me: MemberRef,
    /// The others, in the order in which they are preferred as followers.
    pub peers: Vec<MemberName>,
    /// The epoch that is synced on the volume; 0 on a new one.
    pub synced: Epoch,
    /// The times.
    pub settings: Settings,
}

/// The authority of one replicator: events and time in, effects out.
#[derive(Debug, Clone)]
pub struct Member {
    config: Config,
}

impl Member {
    /// A member that has just started. It counts its start as its last answer, and holds nothing: even the
    /// holder that the Lease names takes again. Call [`Member::step`] with [`Event::Tick`] next.
    pub fn new(now: BootTime, config: Config) -> Self {
        let _ = now;
        Self { config }
    }

    /// Takes note of an event at `now`, which must not go back, and says what to do.
    ///
    /// `now` is read *before* the effects are carried out: deadlines count from then. Every effect is to be
    /// carried out, in order.
    pub fn step(&mut self, now: BootTime, event: Event) -> Vec<Effect> {
        let _ = (now, event);
        Vec::new()
    }

    /// When [`Event::Tick`] is due at the latest. A later event before it makes it due anew.
    pub fn next_deadline(&self) -> Option<BootTime> {
        None
    }

    /// The authority that this member holds at `now`: ask again before each act on it.
    pub fn authority(&self, now: BootTime) -> Option<Authority> {
        let _ = now;
        None
    }

    /// What it does about authority.
    pub fn role(&self) -> Role {
        Role::Standby
    }

    /// What it says of itself.
    pub fn report(&self, now: BootTime) -> Report {
        let _ = now;
        unimplemented!("member {}", self.config.me)
    }
}
