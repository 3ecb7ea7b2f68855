//! The loop over a real folder, tick by tick; streams get their frames by hand.
#![allow(clippy::unwrap_used)]

pub(super) mod disks;
mod holes;
pub(in crate::recorder) mod reclaim;
#[cfg(feature = "sabotage")]
mod syncs;

use std::path::PathBuf;

use bytes::Bytes;
use segment::{ClockSource, Record, Role, StreamUid};
use uuid::Uuid;

use super::*;
use crate::local::{Peer, StreamState, ToRecorder};
use crate::recorder::config::{Retention, Settings, StreamSpec};
use crate::recorder::frame::{Frame, Run};
use crate::recorder::ring::Limits;
use crate::recorder::state::tests::commanded;
use crate::recorder::stream::{GapNotice, Notice, Stream};

const BAD: StreamUid = Uuid::from_u128(1);
const GOOD: StreamUid = Uuid::from_u128(2);

/// A recorder with two streams and without cameras.
struct Bed {
    writer: Writer,
    shared: Arc<Shared>,
    dir: tempfile::TempDir,
}

fn space(total: u64, free: u64) -> segment::Space {
    segment::Space {
        total,
        free,
        ..segment::Space::default()
    }
}

fn settings(names: &[(&str, StreamUid)]) -> Settings {
    Settings {
        streams: names
            .iter()
            .map(|(n, uid)| StreamSpec::open(n, *uid, "none"))
            .collect(),
        segment: Duration::from_mins(1),
        ring: Limits {
            max_bytes: 32 << 20,
            preroll: Duration::from_millis(500),
        },
        mode: crds::pair::Mode::Hot,
        first_member: "m-0".into(),
        retention: Retention::default(),
    }
}

/// Settings by which all media is to leave.
fn that_keep_nothing(names: &[(&str, StreamUid)]) -> Settings {
    Settings {
        retention: Retention {
            max_bytes: Some(0),
            ..Retention::default()
        },
        ..settings(names)
    }
}

impl Bed {
    fn new() -> Self {
        Self::of(&settings(&[("bad", BAD), ("good", GOOD)]))
    }

    /// One that has written some of the good stream.
    fn with_frames() -> Self {
        let mut bed = Self::new();
        Camera::new(bed.stream(GOOD), fine()).send(15);
        bed.run(WHILE);
        bed
    }

    fn of(settings: &Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (shared, inbox) = commanded(dir.path());
        shared.configure(settings);
        let writer = Writer::new(Arc::clone(&shared), inbox, Volume::new(Arc::clone(&shared)));
        Self { writer, shared, dir }
    }

    fn stream(&self, uid: StreamUid) -> Arc<Stream> {
        self.shared.registry.get(uid).unwrap()
    }

    /// Ticks until this much time has passed.
    fn run(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.writer.tick(false);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ticks until something is so.
    fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(Instant::now() < until, "{what}");
            self.run(Duration::from_millis(5));
        }
    }

    /// The same as [`Self::run`], with what the loop is told.
    fn run_with_commands(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.writer.wait();
            self.writer.tick(false);
        }
    }

    fn health(&self, uid: StreamUid) -> crate::local::StreamHealth {
        self.stream(uid).health(now())
    }

    /// Frames in the catalogue.
    fn held(&self, uid: StreamUid) -> usize {
        let catalogue = self.shared.catalogue();
        let stream = catalogue.stream(uid);
        stream.map_or(0, |s| s.copies.values().map(|c| c.extent.frames as usize).sum())
    }

    /// Whether all that is held is.
    fn is_sealed(&self) -> bool {
        let catalogue = self.shared.catalogue();
        catalogue
            .copies()
            .all(|copy| copy.state == segment::State::Sealed)
    }

    fn files(&self, uid: StreamUid, ending: &str) -> Vec<PathBuf> {
        let dir = self.shared.volume.stream_dir(uid);
        let Ok(entries) = std::fs::read_dir(dir) else {
            return Vec::new();
        };
        let paths = entries.map(|e| e.unwrap().path());
        paths
            .filter(|p| p.extension().is_some_and(|e| e == ending))
            .collect()
    }

    fn gaps(&self, uid: StreamUid) -> Vec<segment::Gap> {
        let mut reader = segment::LedgerReader::new(&self.shared.volume, uid, Role::Recorder);
        let records = reader.poll().unwrap().into_iter();
        let gap = |r| match r {
            Record::Gap(gap) => Some(gap),
            _ => None,
        };
        records.filter_map(gap).collect()
    }
}

fn run(sample_entry: Bytes) -> Arc<Run> {
    Arc::new(Run {
        id: Uuid::new_v4(),
        sample_entry,
        width: 16,
        height: 16,
        hevc: false,
        audio: None,
        clock: ClockSource::Camera,
    })
}

/// A run that can be written.
fn fine() -> Arc<Run> {
    run([&8u32.to_be_bytes()[..], b"test"].concat().into())
}

/// A camera of 25 frames a second; groups of ten.
struct Camera {
    stream: Arc<Stream>,
    run: Arc<Run>,
    n: u64,
    /// The wall clock of its first frame, microseconds since the Unix epoch.
    first_us: i64,
}

impl Camera {
    fn new(stream: Arc<Stream>, run: Arc<Run>) -> Self {
        Self {
            stream,
            run,
            n: 0,
            first_us: 1_800_000_000_000_000,
        }
    }

    fn since(&mut self, first_us: i64) {
        self.first_us = first_us;
    }

    fn send(&mut self, frames: u64) {
        for _ in 0..frames {
            self.send_at(now());
        }
    }

    /// A frame that comes at a time.
    fn send_at(&mut self, at: Duration) {
        let kind = if self.n.is_multiple_of(10) { 0x65 } else { 0x41 };
        self.push(kind, at);
    }

    fn send_as(&mut self, kind: u8) {
        self.push(kind, now());
    }

    fn push(&mut self, kind: u8, received: Duration) {
        let n = self.n;
        let data: Bytes = [&6u32.to_be_bytes()[..], &[kind], &(n as u32).to_be_bytes(), &[1]]
            .concat()
            .into();
        let frame = Frame {
            hash: segment::nal::frame_hash(&data, false),
            data,
            key: n.is_multiple_of(10),
            dts: n as i64 * 3600,
            cts: 0,
            wallclock_us: self.first_us + n as i64 * 40_000,
            received,
            follows: false,
            audio: Vec::new(),
            run: Arc::clone(&self.run),
        };
        let mut inner = self.stream.lock();
        inner.push(frame, Some(40_000));
        inner.receiving();
        self.n += 1;
    }
}

/// What the loop sees in a while.
const WHILE: Duration = TICK.saturating_mul(4);

#[tokio::test]
async fn one_bad_frame_costs_its_stream_a_group_and_the_others_nothing() {
    let mut bed = Bed::new();
    let mut bad = Camera::new(bed.stream(BAD), fine());
    let mut good = Camera::new(bed.stream(GOOD), fine());
    bad.send(14);
    // A delimiter without a picture, which no session lets pass.
    bad.send_as(9);
    bad.send(25);
    good.send(40);
    bed.run(Duration::from_millis(700));
    assert_eq!(bed.held(GOOD), 40);
    // The bad one is in a fragment with the frames 13 and 15; the rest of its group goes with them.
    assert_eq!(bed.held(BAD), 33);
    assert!(!bed.writer.guard.report().full);
    assert_eq!(bed.files(BAD, "open").len(), 1);
    bed.writer.tick(true);
    assert_eq!(bed.files(BAD, "open").len(), 0);
    let gaps = bed.gaps(BAD);
    assert!(
        matches!(&gaps[..], [g] if g.cause == "NotHeldHere" && g.frames == Some(7)),
        "{gaps:?}"
    );
    assert_eq!(bed.gaps(GOOD), []);
}

#[tokio::test]
async fn i9_frames_reach_the_disk_without_a_replicator_and_beside_one_that_hangs() {
    let mut bed = Bed::new();
    let mut good = Camera::new(bed.stream(GOOD), fine());
    good.send(21);
    bed.run(WHILE);
    assert!(
        bed.held(GOOD) >= 20,
        "I9: {} frames while nobody listens",
        bed.held(GOOD)
    );
    // It connected, and takes none of the messages that wait for it.
    let hangs = bed.shared.events.subscribe();
    good.send(20);
    bed.run(WHILE);
    good.send(20);
    bed.run(WHILE);
    assert!(
        bed.held(GOOD) >= 60,
        "I9: {} frames beside one that hangs",
        bed.held(GOOD)
    );
    drop(hangs);
}

#[tokio::test]
async fn a_segment_that_got_no_frame_leaves_no_file() {
    let mut bed = Bed::new();
    let mut bad = Camera::new(bed.stream(BAD), fine());
    for _ in 0..5 {
        bad.send_as(9);
        bad.send(9);
    }
    bed.run(WHILE);
    // The newest group is written only once its fragment is due.
    let files = (bed.files(BAD, "open").len(), bed.files(BAD, "mp4").len());
    assert!(files.0 <= 1 && files.1 == 0, "{files:?}");
    bed.run(Duration::from_millis(400));
    assert!(bed.files(BAD, "open").is_empty() && bed.held(BAD) == 0);
    let told: u64 = {
        bed.writer.tick(true);
        bed.gaps(BAD).iter().filter_map(|g| g.frames).sum()
    };
    assert_eq!(told, 50);
}

#[tokio::test]
async fn a_stream_whose_parameters_cannot_be_written_fails_aloud_and_alone() {
    let mut bed = Bed::new();
    let mut bad = Camera::new(bed.stream(BAD), run(Bytes::new()));
    let mut good = Camera::new(bed.stream(GOOD), fine());
    bad.send(35);
    good.send(35);
    bed.run(Duration::from_millis(700));
    let health = bed.health(BAD);
    assert_eq!(
        health.state,
        StreamState::Failed,
        "so the peer does not count on it"
    );
    let error = health.error.unwrap();
    assert!(
        error.message.contains("stream bad is not recorded here"),
        "{error:?}"
    );
    assert_eq!(error.code, ErrorCode::Malformed);
    assert!(bed.files(BAD, "open").is_empty() && bed.files(BAD, "mp4").is_empty());
    assert!(!bed.writer.guard.report().full);
    assert_eq!(
        (bed.held(GOOD), bed.health(GOOD).state),
        (35, StreamState::Receiving)
    );
    // The camera is set right.
    bad.stream.lock().ring.close_gop();
    bad.n = 40;
    bad.run = fine();
    bad.send(20);
    bed.run(WHILE * 3);
    assert_eq!(
        (bed.held(BAD), bed.health(BAD).state),
        (20, StreamState::Receiving)
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_keeps_no_other_stream_from_the_disk() {
    let mut bed = Bed::new();
    let folder = bed.shared.volume.stream_dir(BAD);
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    std::fs::write(&folder, "a file where a folder should be").unwrap();
    let mut bad = Camera::new(bed.stream(BAD), fine());
    let mut good = Camera::new(bed.stream(GOOD), fine());
    bad.send(25);
    for _ in 0..4 {
        good.send(10);
        bed.run(WHILE);
    }
    assert!(bed.held(GOOD) >= 30, "{}", bed.held(GOOD));
    assert!(!bed.writer.guard.report().full);
    assert_eq!(bed.health(BAD).state, StreamState::Failed);
    let attempts = bed.shared.metrics.disk_errors.get();
    assert!(attempts <= 2, "held off, not tried again and again: {attempts}");
    std::fs::remove_file(&folder).unwrap();
    bad.send(5);
    bed.run(Duration::from_millis(1600));
    assert_eq!(bed.held(BAD), 30, "nothing was lost");
    assert_eq!(bed.health(BAD).error, None);
}

#[tokio::test]
async fn a_member_that_began_to_write_stops_while_frames_come() {
    let mut bed = Bed::new();
    let mut good = Camera::new(bed.stream(GOOD), fine());
    good.send(15);
    bed.run(WHILE);
    assert!(bed.health(GOOD).writing, "no peer is heard");
    let peer = Peer {
        heard: true,
        share: crate::local::Share::everything(),
        fit: true,
        ..Peer::default()
    };
    bed.shared.pair.set_peer(peer, now());
    for _ in 0..7 {
        good.send(1);
        bed.run(Duration::from_millis(20));
    }
    assert!(!bed.health(GOOD).writing, "stopped at the border");
    bed.run(WHILE);
    assert_eq!(bed.held(GOOD), 20, "the group that was begun is whole");
    assert!(bed.files(GOOD, "open").is_empty() && bed.files(GOOD, "mp4").len() == 1);
}

#[tokio::test]
async fn a_stream_that_comes_back_while_its_lane_is_busy_is_recorded() {
    let mut bed = Bed::new();
    let mut old = Camera::new(bed.stream(GOOD), fine());
    old.send(15);
    bed.writer.tick(false);
    assert!(!bed.writer.lanes[&GOOD].is_idle());
    // The same UID under another name: another stream to the registry.
    bed.shared.configure(&settings(&[("renamed", GOOD)]));
    let mut new = Camera::new(bed.stream(GOOD), fine());
    new.send(15);
    bed.run(Duration::from_millis(700));
    assert!(Arc::ptr_eq(&bed.writer.lanes[&GOOD].stream, &bed.stream(GOOD)));
    assert_eq!(bed.held(GOOD), 30);
    assert_eq!(bed.files(GOOD, "mp4").len(), 1, "the old one is sealed");
}

#[tokio::test]
async fn i1_a_stream_that_leaves_says_all_that_it_has_to_say() {
    let mut bed = Bed::new();
    let stream = bed.stream(GOOD);
    bed.writer.tick(false);
    let dropped = crate::recorder::ring::Dropped {
        start_us: 1_000_000,
        end_us: 2_000_000,
        frames: 25,
    };
    // More of it may follow, so it would wait a while.
    stream.lock().not_held(dropped, "the ring is full", now());
    bed.writer.tick(false);
    assert_eq!(bed.gaps(GOOD).len(), 0);
    bed.shared.configure(&settings(&[("bad", BAD)]));
    bed.writer.tick(false);
    let gaps = bed.gaps(GOOD);
    assert_eq!(gaps.iter().map(|gap| gap.frames).collect::<Vec<_>>(), [Some(25)]);
    assert!(!bed.writer.lanes.contains_key(&GOOD));
}

/// The clock of retention begins anew with each of these beds, years behind.
#[tokio::test]
async fn what_left_is_not_wanted_back_though_the_clock_of_retention_is_behind() {
    let mut bed = Bed::new();
    let mut good = Camera::new(bed.stream(GOOD), fine());
    good.since(crate::clock::wall_us() - 60_000_000);
    good.send(15);
    bed.run(WHILE);
    bed.shared.configure(&that_keep_nothing(&[]));
    bed.run_until("it is sealed", Bed::is_sealed);
    let end_us = bed.shared.catalogue().copies().next().map(segment::Copy::end_us);
    bed.writer.due.evict = Duration::ZERO;
    bed.run_until("it leaves", |bed| bed.files(GOOD, "mp4").is_empty());
    assert_eq!(bed.shared.catalogue().floors().get(&GOOD).copied(), end_us);
}

#[tokio::test]
async fn a_volume_that_is_smaller_than_its_limit_makes_room_by_itself() {
    let mut bed = Bed::with_frames();
    bed.shared.configure(&settings(&[]));
    bed.run_until("it is sealed", Bed::is_sealed);
    let with_free = |bed: &mut Bed, free| {
        bed.writer.guard.measured(space(20 << 30, free));
        (bed.writer.due.measure, bed.writer.due.evict) = (now(), Duration::ZERO);
        bed.run(WHILE);
        bed.files(GOOD, "mp4").len()
    };
    assert_eq!(
        with_free(&mut bed, 1 << 30),
        1,
        "nothing limits it, and there is room"
    );
    assert_eq!(with_free(&mut bed, 0), 0);
}

#[tokio::test]
async fn i1_gaps_are_written_down_while_the_disk_is_full() {
    let mut bed = Bed::new();
    bed.run(WHILE);
    // Until the next measurement.
    bed.writer.guard.measured(space(20 << 30, 0));
    bed.writer.due.measure = now();
    let gap = GapNotice {
        start_us: 5,
        end_us: Some(9),
        cause: "PacketLoss".into(),
        evidence: String::new(),
        frames: Some(1),
    };
    bed.stream(GOOD).lock().notice(Notice::Gap(gap));
    let mut good = Camera::new(bed.stream(GOOD), fine());
    good.send(15);
    bed.run(Duration::from_millis(100));
    assert!(bed.writer.guard.report().full);
    assert_eq!((bed.gaps(GOOD).len(), bed.held(GOOD)), (1, 0));
}

#[tokio::test]
async fn everything_is_written_at_the_end_however_much_it_is() {
    let mut bed = Bed::new();
    let run = fine();
    let stream = bed.stream(GOOD);
    for n in 0..15u32 {
        let mut data = ((1u32 << 20) - 4).to_be_bytes().to_vec();
        data.extend_from_slice(&[if n == 0 { 0x65 } else { 0x41 }]);
        data.extend_from_slice(&n.to_be_bytes());
        data.resize(1 << 20, 7);
        let frame = Frame {
            hash: segment::nal::frame_hash(&data, false),
            data: data.into(),
            key: n == 0,
            dts: i64::from(n) * 3600,
            cts: 0,
            wallclock_us: i64::from(n) * 40_000,
            received: now(),
            follows: false,
            audio: Vec::new(),
            run: Arc::clone(&run),
        };
        stream.lock().push(frame, Some(40_000));
    }
    bed.shared.registry.stop();
    bed.writer.tick(true);
    assert_eq!(bed.held(GOOD), 15);
    assert_eq!(
        (bed.files(GOOD, "mp4").len(), bed.files(GOOD, "open").len()),
        (1, 0)
    );
    let copy = bed.shared.catalogue().copies().next().map(|c| c.header.clock);
    assert_eq!(copy, Some(ClockSource::Camera), "as the run says");
}

#[tokio::test]
async fn media_leaves_although_the_retention_clock_cannot_be_written() {
    let mut bed = Bed::with_frames();
    bed.shared.configure(&that_keep_nothing(&[]));
    bed.run(WHILE);
    assert_eq!(bed.files(GOOD, "mp4").len(), 1);
    // A folder where its draft belongs, as good as a full disk.
    std::fs::create_dir(bed.dir.path().join("media/.retention-clock")).unwrap();
    assert!(bed.shared.store_clock().is_err());
    bed.writer.due.evict = Duration::ZERO;
    bed.run(WHILE);
    assert!(bed.files(GOOD, "mp4").is_empty());
}

#[tokio::test]
async fn a_ledger_that_takes_nothing_keeps_no_other_stream_from_sealing_or_leaving() {
    let mut bed = Bed::new();
    // The oldest media are of the stream whose ledger takes nothing, and there is more of it than leaves at once.
    for store in 1..=250 {
        reclaim::receive_of(BAD, &bed.shared, store, 0..1, 0);
    }
    reclaim::receive(&bed.shared, 2, 100..110, 0);
    let ledger = bed.shared.volume.stream_dir(BAD).join("recorder.000000.ledger");
    std::fs::create_dir(&ledger).unwrap();
    let mut cameras = [BAD, GOOD].map(|uid| Camera::new(bed.stream(uid), fine()));
    for camera in &mut cameras {
        camera.send(15);
    }
    bed.run(WHILE);
    bed.shared.configure(&that_keep_nothing(&[]));
    bed.writer.due.evict = Duration::ZERO;
    bed.run(WHILE);
    assert!(!bed.writer.guard.report().failing);
    assert_eq!(bed.files(GOOD, "open").len(), 0, "it is sealed");
    bed.writer.due.evict = Duration::ZERO;
    bed.run_until("the other stream's media leave", |bed| {
        bed.files(GOOD, "mp4").is_empty()
    });
    assert_eq!(bed.files(BAD, "mp4").len(), 251, "all of it stays");
}

#[tokio::test]
async fn retention_lets_go_of_a_part_at_a_time() {
    let mut bed = Bed::new();
    for store in 1..=250 {
        reclaim::receive(&bed.shared, store, 0..1, 0);
    }
    bed.shared.configure(&that_keep_nothing(&[("good", GOOD)]));
    bed.writer.due.evict = Duration::ZERO;
    bed.run(WHILE);
    assert_eq!(
        bed.files(GOOD, "mp4").len(),
        50,
        "the loop has other things to do"
    );
    let until = Instant::now() + Duration::from_secs(20);
    while !bed.files(GOOD, "mp4").is_empty() && Instant::now() < until {
        bed.run(WHILE);
    }
    assert!(bed.files(GOOD, "mp4").is_empty(), "the rest a second later");
}

#[tokio::test]
async fn whoever_asks_for_much_does_not_keep_the_loop_from_writing() {
    let mut bed = Bed::new();
    let commands = bed.shared.commands.clone();
    let flood = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until && commands.send(Command::Withdraw(1)).is_ok() {}
    });
    let began = Instant::now();
    assert!(!bed.writer.wait());
    assert!(began.elapsed() < Duration::from_secs(4), "a turn is due");
    drop(bed);
    flood.join().unwrap();
}

#[tokio::test]
async fn what_is_new_of_the_peer_makes_the_loop_look_at_once() {
    let mut bed = Bed::new();
    let peer = |heard| {
        ToRecorder::Peer(Peer {
            heard,
            ..Peer::default()
        })
    };
    for (message, looks) in [
        (peer(true), true),
        (peer(true), false),
        (peer(false), true),
        (peer(true), true),
    ] {
        bed.shared.hear(message, now());
        let commands: Vec<Command> = bed.writer.commands.try_iter().collect();
        assert_eq!(matches!(&commands[..], [Command::Look]), looks, "{commands:?}");
        bed.shared.looks();
    }
    bed.shared.hear(peer(false), now());
    bed.shared.hear(peer(true), now());
    let begun = Instant::now();
    assert!(!bed.writer.wait());
    assert!(begun.elapsed() < TICK, "it does not wait for its time");
    assert!(
        bed.writer.commands.try_recv().is_err(),
        "asked twice, it looks once"
    );
    bed.shared.replicator_gone();
    assert!(matches!(bed.writer.commands.try_recv(), Ok(Command::Look)));
}
