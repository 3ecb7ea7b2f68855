//! The API of Gapless: types, names and rules.
