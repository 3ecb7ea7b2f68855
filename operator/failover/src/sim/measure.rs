//! Scripted schedules at default settings with 2 % of the messages lost: how long a takeover takes.

use std::time::Duration;

use crate::event::Event;
use crate::sim::check::Violation;
use crate::sim::faults::Schedule;
use crate::sim::rng::Rng;
use crate::sim::world::World;
use crate::sim::{MS, Options, Outcome, SECOND};

/// Why authority moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The primary's node loses power.
    PowerOff,
    /// The primary's recorder dies.
    RecorderCrash,
    /// The primary's recorder hangs.
    RecorderHang,
    /// The primary's replicator dies and is back after a second.
    ReplicatorCrash,
    /// A switchover is asked for.
    Switchover,
}

/// How long authority took to move.
#[derive(Debug, Clone, Copy)]
pub struct Takeover {
    /// Until the swap was stored.
    pub swapped: Duration,
    /// Until the other member held authority.
    pub serving: Duration,
}

/// Moves authority once; `None` where the other member did not hold it within 30 s.
///
/// # Errors
/// [`Violation`], as for a random schedule.
pub fn takeover(seed: u64, cause: Cause) -> Result<Option<Takeover>, Violation> {
    let mut world = quiet_world(seed);
    world.run_until(world.schedule.healed)?;
    let Some(primary) = primary_of(&world) else {
        return Ok(None);
    };
    strike(&mut world, cause, primary);
    watch(&mut world, 1 - primary)
}

fn quiet_world(seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let schedule = Schedule::quiet(&mut rng);
    let options = Options::of(seed);
    World::new(options, rng, schedule)
}

fn primary_of(world: &World) -> Option<usize> {
    (0..2).find(|node| world.nodes[*node].authority(world.now).is_some())
}

fn strike(world: &mut World, cause: Cause, primary: usize) {
    match cause {
        Cause::PowerOff => world.power_off(primary, 600 * SECOND),
        Cause::RecorderCrash => world.crash_recorder(primary, 2 * SECOND),
        Cause::RecorderHang => world.nodes[primary].recorder.hung_until = world.now + 600 * SECOND,
        Cause::ReplicatorCrash => world.crash_replicator(primary, SECOND),
        Cause::Switchover => {
            let epoch = world.api.highest;
            world.deliver(primary, Event::SwitchoverOrder { epoch });
        }
    }
}

fn watch(world: &mut World, other: usize) -> Result<Option<Takeover>, Violation> {
    let (begun, epoch) = (world.now, world.api.highest);
    let mut swapped = None;
    while world.now < begun + 30 * SECOND {
        world.step()?;
        let since = Duration::from_nanos(world.now - begun);
        if world.api.highest > epoch {
            swapped.get_or_insert(since);
        }
        if world.nodes[other].authority(world.now).is_some() {
            return Ok(Some(Takeover {
                swapped: swapped.unwrap_or(since),
                serving: since,
            }));
        }
    }

    Ok(None)
}

/// Runs a minute without a fault, except that the API is down for the second half where `api_fails`, and says what
/// happened from the moment at which somebody held authority first.
///
/// # Errors
/// [`Violation`], as for a random schedule.
pub fn quiet(seed: u64, api_fails: bool) -> Result<Outcome, Violation> {
    let mut world = quiet_world(seed);
    while primary_of(&world).is_none() {
        let next = world.now + 100 * MS;
        world.run_until(next)?;
    }
    world.outcome = Outcome::default();
    let begun = world.now;
    world.run_until(begun + 30 * SECOND)?;
    if api_fails {
        world.api_down_until = begun + 60 * SECOND;
    }
    world.run_until(begun + 60 * SECOND)?;
    Ok(Outcome {
        length: Duration::from_nanos(world.now - begun),
        ..world.outcome
    })
}
