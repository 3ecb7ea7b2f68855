//! What the benches measure with, and the plain recorders that they measure against.

pub mod disk;
mod gate;
pub mod gathered;
pub mod load;
pub mod plain;
pub mod plain_pair;
pub mod spread;
pub mod usage;
