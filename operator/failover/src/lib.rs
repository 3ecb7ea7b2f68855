//! Who holds authority: pure decisions over what was observed.
//!
//! Authority decides which member *serves* and which *proposes*; it never decides whether a frame is recorded.
//! [`Member`] is the state machine of one replicator; [`plan()`] is what the operator does about what it sees.
//! Both take time as an argument and give effects as data: there is no client, clock, file, task or chance here.

pub mod effect;
pub mod event;
pub mod lease;
pub mod member;
pub mod message;
pub mod name;
pub mod plan;
pub mod report;
mod rules;
pub mod settings;
#[cfg(feature = "sim")]
pub mod sim;
pub mod streams;
pub mod time;

pub use effect::{Authority, Effect, LossReason, Note, StandDown};
pub use event::{Event, OpId, OrderOutcome, ReadResult, SwapResult, TakeOrder, TakeReason};
pub use lease::{LONGEST_LEASH, Lease, LeaseError, LeaseRecord, recreate_lease};
pub use member::{Config, Member};
pub use message::{Answer, Health, Release, Request};
pub use name::{Epoch, Incarnation, MemberName, MemberRef, NameError, StoreId, Version};
pub use plan::{Decision, Observed, plan};
pub use report::{PeerReport, Report, Role};
#[cfg(feature = "sabotage")]
pub use rules::Sabotage;
pub use settings::{Settings, SettingsError};
pub use time::BootTime;
