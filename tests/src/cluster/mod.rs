//! A real cluster to break: the test bed, the objects on it, and the pair under test.

mod capture;
mod chart;
mod clocks;
mod faults;
mod holders;
mod kube;
mod operator;
mod pair;
mod phases;
mod scene;
mod told;
mod trouble;
mod watch;

pub use self::kube::Kube;
pub use capture::{Arrived, Capture};
pub use chart::{
    NEXT, OPERATOR, OPERATOR_IMAGE, OPERATOR_LEASE, OPERATORS, RECORDER_IMAGE, SYSTEM, TAG, chart_folder,
    helm, install, install_tagged,
};
pub use clocks::Skew;
pub use faults::{Direction, Fault, Testbed, cache};
pub use holders::{Claim, Holders, violations};
pub use operator::OperatorView;
pub use pair::{MemberView, NAMESPACE, PAIR, PairSpec, PairUnderTest, StreamSpec, peer_of};
pub use phases::Phases;
pub use scene::{Before, Outcome, RETURN, Report, Scene, TAKEOVER, demo_cameras, stage};
pub use told::Told;
pub use trouble::{Endured, Jump, Times, Trouble, Whom};
pub use watch::{Served, Watcher};
