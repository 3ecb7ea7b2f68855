//! The sidecar: talks to the peer and to the API server. It appends what it received and proved, and contains no call
//! that removes media (I3).

pub mod hub;
pub mod keeper;
pub mod receiver;
pub mod sender;
pub mod tls;
