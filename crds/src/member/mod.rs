//! What the operator and the members say to each other.
//!
//! All of it is JSON in camelCase. Times are milliseconds; moments are Unix milliseconds and are only shown, never
//! compared with another machine's. Fields that a reader does not know are ignored, and missing ones have defaults
//! where that is safe, so that the two programs may be of different age.

mod config;
mod order;
mod report;

pub use config::{
    BackfillWindow, FailoverConfig, MemberAddress, PairIdentity, RenderedConfig, ReplicationConfig,
    RetentionConfig, RingConfig, SegmentConfig, StreamConfig,
};
pub use order::{SwitchoverRequest, TakeOutcome, TakeReason, TakeRequest, TakeResponse};
pub use report::{
    DiskReport, FailoverReport, KnownStream, LastRefusal, LeaseReport, MemberReport, MovedStream, PeerReport,
    RecorderState, ReplicationReport, Role, StreamError, StreamErrorCode, StreamReport, StreamState,
};

/// Path of a member's report, by GET on the control port.
pub const PATH_REPORT: &str = "/v1/report";
/// Path of the order to take, by POST on the control port.
pub const PATH_TAKE: &str = "/v1/take";
/// Path of the order to hand over, by POST on the control port.
pub const PATH_SWITCHOVER: &str = "/v1/switchover";
