//! Switches that break an invariant on purpose, so that it can be shown that the tests would notice. They exist with the
//! feature `sabotage` alone, which no product has: everywhere else [`breaks`] is `false` when the program is compiled.

/// An invariant, by its number in docs/ARCHITECTURE.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their meaning is docs/ARCHITECTURE.md's")]
pub enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
    I6,
    I7,
    I8,
    I9,
    I10,
    I11,
    I12,
}

/// Whether this build was told to break `invariant`.
#[cfg(not(feature = "sabotage"))]
pub const fn breaks(_invariant: Invariant) -> bool {
    false
}

#[cfg(feature = "sabotage")]
pub use switched::{breaks, broken};

#[cfg(feature = "sabotage")]
mod switched {
    use std::sync::OnceLock;

    use super::Invariant::{self, I1, I2, I3, I4, I5, I6, I7, I8, I9, I10, I11, I12};

    #[cfg(not(debug_assertions))]
    compile_error!("the feature `sabotage` is for tests: a release build never has it");

    const ALL: [Invariant; 12] = [I1, I2, I3, I4, I5, I6, I7, I8, I9, I10, I11, I12];

    /// Whether this build was told to break `invariant`.
    pub fn breaks(invariant: Invariant) -> bool {
        broken() == Some(invariant)
    }

    /// What this build was told to break: `GAPLESS_SABOTAGE=I3`, for the whole life of the process.
    ///
    /// # Panics
    /// If there is no such invariant: a switch that is misspelt must not look like a test that found nothing.
    pub fn broken() -> Option<Invariant> {
        static BROKEN: OnceLock<Option<Invariant>> = OnceLock::new();
        *BROKEN.get_or_init(|| {
            let name = std::env::var("GAPLESS_SABOTAGE").unwrap_or_default();
            let found = ALL.into_iter().find(|i| format!("{i:?}") == name);
            assert!(
                found.is_some() || name.is_empty(),
                "GAPLESS_SABOTAGE={name}: no such invariant, I1 to I12 are"
            );
            found
        })
    }
}
