//! Tests of the promises of Gapless, on a real cluster.
