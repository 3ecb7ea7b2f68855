//! Searches random schedules for two holders of authority.
fn main() {}
