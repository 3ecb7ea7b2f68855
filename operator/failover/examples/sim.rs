//! Searches random schedules for two holders of authority, or replays one of them.
//!
//! `cargo run -p failover --features sim --example sim -- [--seconds N | --schedules N] [--seed N] [--replay SEED]
//! [--takeovers N]`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use failover::sim::{self, Cause, Options};

struct Arguments {
    seconds: Option<u64>,
    schedules: Option<u64>,
    seed: u64,
    replay: Option<u64>,
    takeovers: u64,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seconds: None,
        schedules: None,
        seed: 1,
        replay: None,
        takeovers: 2000,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().and_then(|text| text.parse().ok());
        let value = value.ok_or_else(|| format!("{word} needs a number"))?;
        match word.as_str() {
            "--seconds" => arguments.seconds = Some(value),
            "--schedules" => arguments.schedules = Some(value),
            "--seed" => arguments.seed = value,
            "--replay" => arguments.replay = Some(value),
            "--takeovers" => arguments.takeovers = value,
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("{wrong}; --seconds N, --schedules N, --seed N, --replay SEED, --takeovers N");
            return ExitCode::from(2);
        }
    };
    let fine = match arguments.replay {
        Some(seed) => replay(seed),
        None => search(&arguments) && takeovers(arguments.takeovers),
    };
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn replay(seed: u64) -> bool {
    let outcome = sim::run(Options::of(seed).traced());
    for line in &outcome.trace {
        println!("{line}");
    }
    match &outcome.violation {
        Some(violation) => println!("FOUND: {violation}"),
        None => println!("nothing found"),
    }
    outcome.violation.is_none()
}

#[allow(clippy::disallowed_methods, reason = "the search is bounded by real time")]
fn search(arguments: &Arguments) -> bool {
    let begun = Instant::now();
    let limit = Duration::from_secs(arguments.seconds.unwrap_or(if arguments.schedules.is_some() {
        u64::MAX
    } else {
        20
    }));
    let (mut schedules, mut takeovers, mut events) = (0_u64, 0, 0);
    let (mut held, mut length) = (Duration::ZERO, Duration::ZERO);
    let mut recovered = Vec::new();
    while begun.elapsed() < limit && arguments.schedules.is_none_or(|most| schedules < most) {
        let seed = arguments.seed.wrapping_add(schedules);
        let outcome = sim::run(Options::of(seed));
        if let Some(violation) = outcome.violation {
            println!("FOUND in seed {seed}: {violation}");
            println!("replay: cargo run -p failover --features sim --example sim -- --replay {seed}");
            return false;
        }
        schedules += 1;
        takeovers += outcome.takeovers;
        events += outcome.events;
        held += outcome.held;
        recovered.push(outcome.recovered);
        length += outcome.length;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let share = 100.0 * held.as_secs_f64() / length.as_secs_f64().max(1e-9);
    println!(
        "{schedules} schedules, 0 with two holders; {takeovers} takeovers, {events} events, {seconds:.1} s"
    );
    println!(
        "{:.0} h simulated, authority held {share:.1} % of it under faults",
        length.as_secs_f64() / 3600.0
    );
    print_spread("held again after the last fault", recovered);
    true
}

fn takeovers(count: u64) -> bool {
    let causes = [
        Cause::PowerOff,
        Cause::RecorderCrash,
        Cause::RecorderHang,
        Cause::ReplicatorCrash,
        Cause::Switchover,
    ];
    println!("default settings, 2 % of messages lost, {count} seeds each, until the swap and until serving:");
    causes.into_iter().all(|cause| takeover(count, cause))
}

fn takeover(count: u64, cause: Cause) -> bool {
    let (mut swapped, mut serving, mut stayed) = (Vec::new(), Vec::new(), 0);
    for seed in 0..count {
        match sim::takeover(seed, cause) {
            Ok(Some(takeover)) => {
                swapped.push(takeover.swapped);
                serving.push(takeover.serving);
            }
            Ok(None) => stayed += 1,
            Err(violation) => {
                println!("FOUND in {cause:?}, seed {seed}: {violation}");
                return false;
            }
        }
    }
    println!("{cause:?}, did not move in {stayed}");
    print_spread("swap", swapped);
    print_spread("serving", serving);
    true
}

fn print_spread(what: &str, mut times: Vec<Duration>) {
    if times.is_empty() {
        return;
    }
    times.sort();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1000].as_secs_f64();
    println!(
        "  {what}: p10 {:.3} s, p50 {:.3} s, p90 {:.3} s, p99 {:.3} s, max {:.3} s",
        at(100),
        at(500),
        at(900),
        at(990),
        at(1000)
    );
}
