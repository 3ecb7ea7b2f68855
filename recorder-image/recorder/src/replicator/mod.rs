//! The sidecar: talks to the peer and to the API server. It appends what it received and proved, and contains no call
//! that removes media (I3).

pub mod admission;
pub mod app;
pub mod dial;
pub mod driver;
pub mod hub;
pub mod keeper;
pub mod kube_lease;
pub mod link;
pub mod network;
pub mod pace;
pub mod patience;
mod phases;
mod pins;
pub mod readers;
pub mod receiver;
pub mod report;
pub mod sender;
pub mod server;
pub mod slice;
pub mod tls;
