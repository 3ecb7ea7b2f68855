//! The API of Gapless: types, names and rules.
//!
//! [`RecorderPair`] is what a user writes; [`member`] is what the operator and the members say to each other;
//! [`names`] is how everything that belongs to a pair is called, and [`member::PairIdentity::owns`] how it is known as the pair's.

pub mod generate;
pub mod member;
pub mod names;
mod owner;
pub mod pair;
pub mod secret;

pub use pair::{RecorderPair, RecorderPairSpec, RecorderPairStatus};
pub use secret::Secret;
