//! Ten thousand holes of one frame to one hour, from what a session gets to what is told after a restart.

use crate::recorder::merged::Unreadable;
use crate::recorder::metrics::GapLabel;
use crate::recorder::session::classify::Fault;
use crate::recorder::session::clock::Arrival;
use crate::recorder::session::intake::{Intake, Parameters, Taken, Unit};

use super::*;

const HOLES: u64 = 10_000;
/// So many holes come between two turns of the loop.
const TURN: u64 = 50;
/// A frame, microseconds; 25 of them are a group of pictures.
const FRAME_US: i64 = 40_000;
const GROUP: u64 = 25;
const HOUR: u64 = 3600 * GROUP;
/// A session without a frame for so long is given up.
const SESSION: u64 = 50;
const T0: i64 = 1_800_000_000_000_000;

/// Frames `first..end` do not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    first: u64,
    end: u64,
}

impl Hole {
    fn frames(self) -> u64 {
        self.end - self.first
    }

    fn cause(self) -> &'static str {
        if self.frames() < SESSION {
            "PacketLoss"
        } else {
            "Watchdog"
        }
    }
}

/// Holes with a few frames between them; each length is as likely as its double. One that is longer than its group of pictures ends with
/// a key frame: before it nothing can be played.
fn holes() -> Vec<Hole> {
    let mut seed = 7_u64;
    let mut chance = move |of: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % of
    };
    let mut at = 4 * GROUP;
    let hole = |n| {
        let first = at + 1 + chance(GROUP - 1);
        let doublings = (HOUR as f64).log2() * chance(1 << 20) as f64 / f64::from(1 << 20);
        let length = if n % 1000 == 0 {
            HOUR
        } else {
            doublings.exp2().round() as u64
        };
        let end = first + length;
        let is_within = end < first.next_multiple_of(GROUP);
        let end = if is_within {
            end
        } else {
            end.next_multiple_of(GROUP)
        };
        at = end.next_multiple_of(GROUP) + (1 + chance(2)) * GROUP;
        Hole { first, end }
    };
    (0..HOLES).map(hole).collect()
}

/// A camera, and the session with it.
struct Lossy {
    stream: Arc<Stream>,
    intake: Intake,
    /// When frame 0 came.
    began: Duration,
    /// The next frame.
    n: u64,
}

impl Lossy {
    fn new(stream: Arc<Stream>) -> Self {
        Self {
            stream,
            intake: session(),
            began: now(),
            n: 0,
        }
    }

    /// Frames come, the first one after so many lost packets.
    fn send(&mut self, until: u64, mut lost: u16) {
        let mut inner = self.stream.lock();
        for n in self.n..until {
            let kind = if n.is_multiple_of(GROUP) { 0x65 } else { 0x41 };
            let picture = (n as u32).to_be_bytes();
            let unit = Unit {
                data: [&6_u32.to_be_bytes()[..], &[kind], &picture, &[1]]
                    .concat()
                    .into(),
                arrival: Arrival {
                    rtp: n as i64 * 3600,
                    rate: 90_000,
                    own_us: T0 + n as i64 * FRAME_US,
                    mono_us: n as i64 * FRAME_US,
                    late_us: 0,
                },
                lost: std::mem::take(&mut lost),
                received: self.began + Duration::from_micros(n * FRAME_US as u64),
            };
            assert_ne!(self.intake.unit(unit, &mut inner), Taken::Refused);
            inner.receiving();
        }
        self.n = until;
    }

    /// What a hole does to the session.
    fn lose(&mut self, hole: Hole) -> u16 {
        self.n = hole.end;
        if hole.frames() < SESSION {
            return hole.frames() as u16;
        }
        let mut inner = self.stream.lock();
        let error = StreamError {
            code: ErrorCode::Timeout,
            message: "no frame".into(),
        };
        inner.session_ended(Fault::Watchdog(2000).cause(), error);
        self.intake = session();
        0
    }
}

fn session() -> Intake {
    let mut intake = Intake::new(false);
    intake.parameters(Parameters {
        sample_entry: [&8_u32.to_be_bytes()[..], b"test"].concat().into(),
        width: 16,
        height: 16,
    });
    intake
}

type Found = (i64, Option<i64>, String, Option<u64>);

#[tokio::test]
async fn i1_ten_thousand_holes_are_found_exactly_and_no_other() {
    let mut bed = Bed::of(&settings(&[("good", GOOD)]));
    let mut camera = Lossy::new(bed.stream(GOOD));
    let (holes, mut lost) = (holes(), 0);
    for (n, hole) in (1..).zip(&holes) {
        camera.send(hole.first, lost);
        lost = camera.lose(*hole);
        if n % TURN == 0 {
            bed.writer.tick(false);
        }
    }
    camera.send(camera.n + 2 * GROUP, lost);
    bed.writer.tick(true);
    assert_eq!(bed.health(GOOD).gaps, HOLES);
    for cause in ["PacketLoss", "Watchdog"] {
        let of = holes.iter().filter(|hole| hole.cause() == cause);
        let seconds: f64 = of.map(|hole| hole.frames() as f64 * 0.04).sum();
        let stream = "good".into();
        let told = bed
            .shared
            .metrics
            .gap_seconds
            .get_or_create(&GapLabel { stream, cause })
            .get();
        assert!(
            (told - seconds).abs() < 0.01,
            "{told} s of {cause}, not {seconds}"
        );
    }

    let at = |frame: u64| T0 + frame as i64 * FRAME_US;
    let injected = |hole: &Hole| -> Found {
        let frames = Some(hole.frames());
        (at(hole.first), Some(at(hole.end)), hole.cause().into(), frames)
    };
    let injected: Vec<Found> = holes.iter().map(injected).collect();
    let ended = bed.gaps(GOOD).into_iter().filter(|gap| gap.end_us.is_some());
    let noted = ended.map(|gap| (gap.start_us, gap.end_us, gap.cause, gap.frames));
    first_difference("the ledger", noted, &injected);

    // Another process knows what the volume says.
    let Bed { writer, shared, dir } = bed;
    drop((writer, shared, camera));
    let (shared, _inbox) = commanded(dir.path());
    *shared.catalogue() = segment::Catalogue::load(&shared.volume, 0).unwrap().0;
    let told = shared
        .gaps(GOOD, (i64::MIN, i64::MAX), Unreadable::Fails)
        .unwrap_or_else(|_| panic!("the timeline cannot be told"));
    first_difference(
        "the timeline",
        told.into_iter()
            .map(|gap| (gap.start_us, gap.end_us, gap.cause, gap.frames)),
        &injected,
    );
}

/// Fails at the first gap that is not the one that was injected: both lists are long.
fn first_difference(whose: &str, found: impl Iterator<Item = Found>, injected: &[Found]) {
    let found: Vec<Found> = found.collect();
    for (n, (found, injected)) in found.iter().zip(injected).enumerate() {
        assert_eq!(found, injected, "hole {n} of {whose}");
    }
    assert_eq!(found.len(), injected.len());
}
