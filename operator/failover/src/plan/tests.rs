//! What the operator decides, state by state.
