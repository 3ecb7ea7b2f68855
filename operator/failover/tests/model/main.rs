//! The rule of authority, explored exhaustively: two members, their recorders and disks, the operator, the Lease, and every order of
//! what can happen between them within three epochs. `conformance` holds the real members to the same rule.
#![cfg(all(feature = "sim", feature = "sabotage"))]
#![allow(missing_docs, unreachable_pub)]

mod conformance;
mod explore;
mod pair;
mod rule;
mod state;
