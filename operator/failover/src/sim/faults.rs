//! What goes wrong, and when: drawn from the seed before the schedule runs.

use std::time::Duration;

use crate::settings::Settings;
use crate::sim::rng::Rng;
use crate::sim::{MS, SECOND};

/// One fault. Times in nanoseconds of true time; nodes are 0 and 1.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// Nothing gets from this node to the other.
    CutPeer { from: usize, span: u64 },
    /// Nothing gets from this node to the other, nor back.
    Partition { span: u64 },
    /// This node reaches neither the other nor the API; or one direction of the latter only.
    Isolate {
        node: usize,
        span: u64,
        requests: bool,
        replies: bool,
    },
    /// This node does not reach the API: requests are lost, or replies, or both.
    CutApi {
        node: usize,
        span: u64,
        requests: bool,
        replies: bool,
    },
    /// What this node sends to the other takes longer, by up to so much.
    SlowPeer { from: usize, span: u64, by: u64 },
    /// Calls of this node to the API take longer.
    SlowApi { node: usize, span: u64, by: u64 },
    /// The API server is down.
    ApiDown { span: u64 },
    /// The replicator's process stops, at once or between its next decision and its acts.
    Freeze {
        node: usize,
        span: u64,
        at_decision: bool,
    },
    /// The replicator's process dies and starts again.
    CrashReplicator { node: usize, down: u64 },
    /// The recorder's process dies and starts again.
    CrashRecorder { node: usize, down: u64 },
    /// The recorder hangs.
    HangRecorder { node: usize, span: u64 },
    /// The node loses power, and gets it back.
    PowerOff { node: usize, down: u64 },
    /// The node loses power, and its volume for good; it comes back with a new, empty one.
    LoseVolume { node: usize, down: u64 },
    /// The next syncs of this node take long.
    SlowDisk { node: usize, span: u64 },
    /// Someone deletes the Lease.
    DeleteLease,
    /// The operator is down.
    OperatorDown { span: u64 },
    /// A switchover is asked for, of the primary or through the standby.
    Switchover { through_standby: bool },
    /// This node gets other settings.
    Change { node: usize, settings: Box<Settings> },
}

/// Everything about a schedule that is drawn before it runs.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) settings: Settings,
    pub(super) rates: [u64; 2],
    pub(super) offsets: [u64; 2],
    pub(super) loss: u64,
    pub(super) doubled: u64,
    pub(super) delay: (u64, u64),
    pub(super) api_delay: (u64, u64),
    pub(super) faults: Vec<(u64, Fault)>,
    /// All faults are over by then.
    pub(super) healed: u64,
    pub(super) operator: bool,
}

impl Schedule {
    /// A random schedule.
    pub(super) fn random(rng: &mut Rng) -> Self {
        let settings = settings(rng);
        let end = rng.range(6, 20) * SECOND;
        let (faults, healed) = faults(rng, &settings, end);
        Self {
            rates: rates(rng),
            offsets: [rng.range(0, 1000) * SECOND, rng.range(0, 1000) * SECOND],
            loss: *rng.pick(&[0, 0, 20, 20, 50, 150]),
            doubled: *rng.pick(&[0, 10, 100]),
            delay: *rng.pick(&[(MS / 5, MS), (MS, 20 * MS), (MS, 100 * MS)]),
            api_delay: *rng.pick(&[(MS, 5 * MS), (2 * MS, 30 * MS), (2 * MS, 120 * MS)]),
            settings,
            faults,
            healed,
            operator: rng.chance(800),
        }
    }

    /// Default settings, 2 % loss, and no faults.
    pub(super) fn quiet(rng: &mut Rng) -> Self {
        Self {
            settings: Settings::default(),
            rates: rates(rng),
            offsets: [0, 0],
            loss: 20,
            doubled: 0,
            delay: (MS / 5, MS),
            api_delay: (MS, 4 * MS),
            faults: Vec::new(),
            healed: 3 * SECOND + rng.range(0, 2 * SECOND),
            operator: true,
        }
    }
}

/// At most 1.2 apart.
fn rates(rng: &mut Rng) -> [u64; 2] {
    match rng.range(0, 4) {
        0 => [1000, 1200],
        1 => [1200, 1000],
        2 => [1000, 1000],
        _ => [rng.range(1000, 1201), rng.range(1000, 1201)],
    }
}

fn settings(rng: &mut Rng) -> Settings {
    let quick = rng.chance(600);
    let defaults = Settings::default();
    if !quick {
        return defaults;
    }
    Settings {
        leash: Duration::from_millis(rng.range(300, 900)),
        long_leash: Duration::from_millis(rng.range(2000, 6000)),
        silence_before_long: Duration::from_millis(rng.range(300, 1500)),
        renew_interval: Duration::from_millis(rng.range(300, 2000)),
        ..defaults
    }
}

fn faults(rng: &mut Rng, settings: &Settings, end: u64) -> (Vec<(u64, Fault)>, u64) {
    let mut at = rng.range(0, 2 * SECOND);
    let mut list = Vec::new();
    let mut healed = at;
    let pause = *rng.pick(&[300 * MS, SECOND, 2 * SECOND]);
    while at < end {
        let span = span(rng);
        let fault = fault(rng, settings, span);
        list.push((at, fault));
        healed = healed.max(at + span);
        at += rng.range(0, 2 * pause);
    }
    (list, healed + SECOND)
}

/// Blinks, and outages that outlast a leash.
fn span(rng: &mut Rng) -> u64 {
    match rng.range(0, 10) {
        0..=3 => rng.range(20 * MS, 400 * MS),
        4..=7 => rng.range(400 * MS, 2 * SECOND),
        _ => rng.range(2 * SECOND, 8 * SECOND),
    }
}

fn fault(rng: &mut Rng, settings: &Settings, span: u64) -> Fault {
    let node = rng.range(0, 2) as usize;
    let (requests, replies) = *rng.pick(&[(true, true), (true, false), (false, true)]);
    match rng.range(0, 46) {
        0..=3 => Fault::CutPeer { from: node, span },
        4..=6 => Fault::Partition { span },
        7..=12 => Fault::Isolate {
            node,
            span,
            requests,
            replies,
        },
        13..=15 => Fault::CutApi {
            node,
            span,
            requests,
            replies,
        },
        16..=18 => Fault::SlowPeer {
            from: node,
            span,
            by: rng.range(50 * MS, SECOND),
        },
        19 => Fault::SlowApi {
            node,
            span,
            by: rng.range(50 * MS, 2 * SECOND),
        },
        20..=21 => Fault::ApiDown { span },
        22..=25 => Fault::Freeze {
            node,
            span,
            at_decision: rng.chance(600),
        },
        26..=29 => Fault::CrashReplicator {
            node,
            down: span.min(rng.range(30 * MS, 3 * SECOND)),
        },
        30..=31 => Fault::CrashRecorder {
            node,
            down: span.min(2 * SECOND),
        },
        32..=33 => Fault::HangRecorder { node, span },
        34..=35 => Fault::PowerOff { node, down: span },
        36 => Fault::SlowDisk {
            node,
            span: span.min(SECOND),
        },
        37 => Fault::DeleteLease,
        38 => Fault::OperatorDown { span },
        44 => Fault::LoseVolume { node, down: span },
        39..=41 => Fault::Switchover {
            through_standby: rng.chance(500),
        },
        _ => Fault::Change {
            node,
            settings: Box::new(changed(rng, settings)),
        },
    }
}

fn changed(rng: &mut Rng, settings: &Settings) -> Settings {
    let leash = Duration::from_millis(rng.range(250, 1500));
    let long_leash = settings.long_leash.max(leash);
    Settings {
        leash,
        long_leash,
        ..settings.clone()
    }
}
