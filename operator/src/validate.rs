//! What is wrong with what was asked for, beyond what the API server checks.

use failover::Settings;

use crate::problem::{Problem, Reason};
use crate::world::World;

/// Everything that is wrong; what is right is done all the same.
pub fn validate(world: &World, image: Option<&str>) -> Vec<Problem> {
    let credentials = world
        .credentials
        .values()
        .filter_map(|found| found.as_ref().err().cloned());
    let mut problems: Vec<Problem> = credentials.collect();
    if let Err(error) = settings(world).check() {
        let message = format!("spec.failover cannot work: {error}; take a longer leash");
        problems.push(Problem::new(Reason::InvalidSpec, "failover", message));
    }
    if image.is_none() {
        let message = "no image: set spec.image, or start the operator with --member-image".to_owned();
        problems.push(Problem::new(Reason::InvalidSpec, "image", message));
    }
    problems
}

/// The times that a member derives from the spec.
fn settings(world: &World) -> Settings {
    let failover = &world.pair.spec.failover;
    let leash = failover.leash.get();
    let usual = Settings::default();
    Settings {
        leash,
        suspect_after: failover.suspect_after.get(),
        heartbeat_interval: usual.heartbeat_interval.min(failover.suspect_after.get() / 3),
        long_leash: usual.long_leash.max(leash),
        alone_interval: usual.alone_interval.min(leash / 3),
        api_timeout: usual.api_timeout.min(leash / 2),
        silence_before_long: usual.silence_before_long.max(failover.suspect_after.get()),
        ..usual
    }
}
