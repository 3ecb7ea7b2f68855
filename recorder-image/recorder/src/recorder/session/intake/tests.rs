use std::collections::BTreeMap;

use super::*;
use crate::local::StreamUid;
use crate::recorder::metrics::Metrics;
use crate::recorder::ring::Limits;
use crate::recorder::stream::Stream;

const T0: i64 = 1_800_000_000_000_000;

fn stream() -> Stream {
    let limits = Limits {
        max_bytes: 1 << 20,
        preroll: Duration::from_mins(1),
    };
    Stream::new(
        "door".into(),
        StreamUid::default(),
        limits,
        &Arc::new(Metrics::new("front-0")),
    )
}

fn unit(n: i64) -> Unit {
    let nal_type = if n % 25 == 0 { 0x65 } else { 0x41 };
    let arrival = Arrival {
        rtp: n * 3600,
        rate: 90_000,
        own_us: T0 + n * 40_000,
        mono_us: n * 40_000,
        late_us: 0,
    };
    let data = Bytes::from(vec![0, 0, 0, 3, nal_type, n as u8, (n >> 8) as u8]);
    Unit {
        data,
        arrival,
        lost: 0,
        received: Duration::from_millis(n as u64 * 40),
    }
}

fn parameters(width: u16) -> Parameters {
    Parameters {
        sample_entry: Bytes::new(),
        width,
        height: 90,
    }
}

fn fed(numbers: impl Iterator<Item = i64>) -> (Stream, Intake) {
    let (stream, mut intake) = (stream(), Intake::new(false));
    intake.parameters(parameters(160));
    for n in numbers {
        intake.unit(unit(n), &mut stream.lock());
    }
    (stream, intake)
}

fn notes(stream: &Stream) -> Vec<Notice> {
    stream.lock().take_notices(Duration::MAX)
}

fn runs(stream: &Stream) -> usize {
    let inner = stream.lock();
    let ids: std::collections::HashSet<_> = inner.ring.frames().map(|f| f.run.id).collect();
    ids.len()
}

#[test]
fn loss_before_the_first_key_frame_is_no_gap() {
    let (stream, mut intake) = (stream(), Intake::new(false));
    intake.parameters(parameters(160));
    let mut taken = |n| intake.unit(Unit { lost: 7, ..unit(n) }, &mut stream.lock());
    assert_eq!(taken(20), Taken::TooEarly);
    assert_eq!(taken(25), Taken::Frame { key: true });
    assert!(notes(&stream).iter().all(|n| matches!(n, Notice::Note(_))));
}

#[test]
fn lost_packets_and_missing_frames_are_gaps() {
    let (stream, mut intake) = fed(0..60);
    notes(&stream);
    intake.unit(Unit { lost: 2, ..unit(60) }, &mut stream.lock());
    intake.unit(Unit { lost: 9, ..unit(64) }, &mut stream.lock());
    let gaps = notes(&stream);
    let [Notice::Gap(lost), Notice::Gap(missing)] = &gaps[..] else {
        panic!("{gaps:?}")
    };
    assert_eq!((lost.cause.as_str(), lost.frames), ("PacketLoss", None));
    assert_eq!((missing.cause.as_str(), missing.frames), ("PacketLoss", Some(3)));
    assert_eq!(
        (missing.start_us, missing.end_us),
        (T0 + 61 * 40_000, Some(T0 + 64 * 40_000))
    );
}

#[test]
fn an_rtp_jump_inside_a_group_loses_no_frame_and_begins_a_run_at_the_next_key_frame() {
    let (stream, mut intake) = fed(0..60);
    for n in 60..100 {
        let mut u = unit(n);
        u.arrival.rtp += 90_000 * 3600;
        assert_eq!(
            intake.unit(u, &mut stream.lock()),
            Taken::Frame { key: n % 25 == 0 }
        );
    }
    let inner = stream.lock();
    assert_eq!(inner.ring.frames().count(), 100);
    let dts: Vec<_> = inner.ring.frames().map(|f| f.dts).collect();
    assert!(
        dts.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] < 9000),
        "{dts:?}"
    );
    drop(inner);
    assert_eq!(runs(&stream), 2);
    assert!(
        notes(&stream).iter().all(|n| matches!(n, Notice::Note(_))),
        "a jump is not a gap"
    );
}

#[test]
fn an_own_clock_step_keeps_the_wall_clock_until_the_next_run() {
    let (stream, mut intake) = fed(0..60);
    for n in 60..80 {
        let mut u = unit(n);
        u.arrival.own_us -= 3_600_000_000;
        intake.unit(u, &mut stream.lock());
    }
    let walls: Vec<_> = stream.lock().ring.frames().map(|f| f.wallclock_us).collect();
    assert_eq!(walls[74], T0 + 74 * 40_000, "same run");
    assert_eq!(walls[75], T0 + 75 * 40_000 - 3_600_000_000, "new run");
}

#[test]
fn new_parameters_begin_a_run_at_the_key_frame() {
    let (stream, mut intake) = fed(0..25);
    intake.parameters(parameters(320));
    intake.unit(unit(25), &mut stream.lock());
    assert_eq!(runs(&stream), 2);
    intake.parameters(parameters(320));
    intake.unit(unit(50), &mut stream.lock());
    assert_eq!(runs(&stream), 2);
}

fn nal(kind: u8) -> Bytes {
    Bytes::from(vec![0, 0, 0, 2, kind, 1])
}

#[test]
fn a_unit_without_picture_data_is_refused_and_noted_ever_more_rarely() {
    let (stream, mut intake) = fed(0..60);
    notes(&stream);
    for n in 60..160 {
        // A delimiter or a message between the frames, with a time of its own.
        let empty = Unit {
            data: nal(9),
            lost: u16::from(n == 60),
            ..unit(n)
        };
        assert_eq!(intake.unit(empty, &mut stream.lock()), Taken::Refused);
        intake.unit(unit(n), &mut stream.lock());
    }
    assert_eq!(stream.lock().ring.frames().count(), 160);
    let (gaps, remarks): (Vec<_>, Vec<_>) = notes(&stream)
        .into_iter()
        .partition(|n| matches!(n, Notice::Gap(_)));
    assert_eq!(remarks.len(), 7, "1, 2, 4 ... 64: {remarks:?}");
    assert!(
        matches!(&gaps[..], [Notice::Gap(g)] if g.cause == "PacketLoss"),
        "what was lost before it is not forgotten: {gaps:?}"
    );
}

#[test]
fn a_broken_frame_is_a_gap_of_one_frame() {
    let (stream, mut intake) = fed(0..60);
    notes(&stream);
    for data in [
        Bytes::from_static(&[0, 0, 0, 2, 0xc1, 1, 0, 0, 0, 2, 0x41, 1]),
        Bytes::from_static(&[0, 0, 0, 2, 0x41, 1, 0, 0, 0, 9, 1]),
    ] {
        let n = stream.lock().ring.frames().count() as i64;
        let broken = Unit { data, ..unit(n) };
        assert_eq!(intake.unit(broken, &mut stream.lock()), Taken::Refused);
        intake.unit(unit(n + 1), &mut stream.lock());
        let gaps: Vec<_> = notes(&stream)
            .into_iter()
            .filter_map(|n| match n {
                Notice::Gap(gap) => Some(gap),
                Notice::Note(_) => None,
            })
            .collect();
        assert!(
            matches!(&gaps[..], [g] if g.cause == "Malformed" && g.frames == Some(1)),
            "{gaps:?}"
        );
    }
    let huge = vec![0; MAX_UNIT + 1];
    assert!(recordable(&huge, false).is_err());
}

#[test]
fn a_camera_that_halves_its_rate_at_night_has_no_gap_for_ever() {
    let (stream, mut intake) = fed(0..60);
    notes(&stream);
    for n in (60..1060).step_by(2) {
        intake.unit(unit(n), &mut stream.lock());
    }
    let said = notes(&stream);
    let gaps = said.iter().filter(|n| matches!(n, Notice::Gap(_))).count();
    let remarks: Vec<_> = said.iter().filter(|n| matches!(n, Notice::Note(_))).collect();
    assert_eq!(gaps, 0, "{said:?}");
    assert!(
        matches!(remarks[..], [.., Notice::Note(words)] if words.contains("from 25.0 to 12.5")),
        "{remarks:?}"
    );
}

/// A sender report at frame `n` of a camera whose clock is ahead.
fn report(intake: &mut Intake, stream: &Stream, n: i64, ahead_us: i64) {
    let now = unit(n).arrival;
    let report = Report {
        rtp: now.rtp,
        wall_us: now.own_us + ahead_us,
    };
    intake.report(report, now, &mut stream.lock());
}

fn walls(stream: &Stream) -> Vec<i64> {
    stream.lock().ring.frames().map(|f| f.wallclock_us).collect()
}

#[test]
fn a_camera_with_a_wrong_clock_moves_nothing_and_is_told_once() {
    let (stream, mut intake) = fed(0..10);
    notes(&stream);
    for n in 10..200 {
        if n % 20 == 0 {
            report(&mut intake, &stream, n, 40_000_000);
        }
        intake.unit(unit(n), &mut stream.lock());
    }
    assert_eq!(runs(&stream), 1);
    let said = notes(&stream);
    assert!(
        matches!(&said[..], [Notice::Note(words)] if words.contains("40.0 s ahead")),
        "{said:?}"
    );
    assert_eq!(
        stream.lock().ring.frames().next().unwrap().run.clock,
        ClockSource::Own
    );
}

#[test]
fn a_reconnect_stays_on_the_clock_of_the_camera() {
    let (stream, mut intake) = fed(0..10);
    report(&mut intake, &stream, 10, 800_000);
    for n in 10..50 {
        intake.unit(unit(n), &mut stream.lock());
    }
    assert_eq!(walls(&stream)[25], T0 + 25 * 40_000 + 800_000);
    let mut again = Intake::new(false);
    again.parameters(parameters(160));
    for n in 50..110 {
        if n == 60 {
            report(&mut again, &stream, n, 800_000);
        }
        again.unit(unit(n), &mut stream.lock());
    }
    let walls = walls(&stream);
    assert!(walls[25..].windows(2).all(|w| w[1] - w[0] == 40_000), "{walls:?}");
    assert_eq!(runs(&stream), 3, "own, camera, and the second session");
    let last = stream.lock().ring.frames().last().map(|f| f.run.clock);
    assert_eq!(last, Some(ClockSource::Camera));
}

#[test]
fn a_recorder_that_stood_still_goes_on_with_its_run() {
    let (stream, mut intake) = fed(0..10);
    report(&mut intake, &stream, 10, 300_000);
    for n in 10..400 {
        let mut u = unit(n);
        // What was sent in 6 s comes at once, and a sender report in it.
        let held_us = if (100..250).contains(&n) {
            (250 - n) * 40_000
        } else {
            0
        };
        (u.arrival.own_us, u.arrival.mono_us) = (u.arrival.own_us + held_us, u.arrival.mono_us + held_us);
        if n == 150 {
            let report = Report {
                rtp: u.arrival.rtp,
                wall_us: unit(n).arrival.own_us + 300_000,
            };
            intake.report(report, u.arrival, &mut stream.lock());
        }
        intake.unit(u, &mut stream.lock());
    }
    assert_eq!(runs(&stream), 2, "own, and camera");
    let walls = walls(&stream);
    assert!(
        (25..400).all(|n| walls[n] == T0 + n as i64 * 40_000 + 300_000),
        "{walls:?}"
    );
}

#[test]
fn a_report_from_before_an_rtp_jump_is_not_used_after_it() {
    let (stream, mut intake) = fed(0..10);
    report(&mut intake, &stream, 10, 100_000);
    for n in 10..200 {
        let mut u = unit(n);
        // It comes back with another random start, near enough to look plausible.
        u.arrival.rtp += if n >= 60 { 90_000 * 11 } else { 0 };
        intake.unit(u, &mut stream.lock());
    }
    let walls = walls(&stream);
    assert_eq!(runs(&stream), 3);
    assert_eq!(walls[199], T0 + 199 * 40_000 + 100_000);
}

#[test]
fn a_gap_over_a_reconnect_is_counted_in_the_stream_s_own_frames() {
    let (stream, _) = fed((0..120).step_by(3));
    stream.lock().begin_gap("Disconnected", "gone");
    notes(&stream);
    let mut again = Intake::new(false);
    again.parameters(parameters(160));
    again.unit(with_message(300), &mut stream.lock());
    let said = notes(&stream);
    let gap = said.iter().find_map(|n| match n {
        Notice::Gap(gap) => Some(gap),
        Notice::Note(_) => None,
    });
    // The last frame was 117, the next would have been 120: 60 frames of 3 steps each.
    assert_eq!(gap.and_then(|g| g.frames), Some(60));
}

#[test]
fn a_pause_without_a_lost_packet_is_no_gap() {
    let (stream, mut intake) = fed(0..60);
    notes(&stream);
    for n in [64, 65, 90, 91, 92, 140] {
        intake.unit(unit(n), &mut stream.lock());
    }
    let said = notes(&stream);
    assert!(said.iter().all(|n| matches!(n, Notice::Note(_))), "{said:?}");
    assert_eq!(said.len(), 2, "told once, and the second time: {said:?}");
}

/// Whether each frame is known to follow the one before, by its number.
fn follow(stream: &Stream, first_us: i64) -> BTreeMap<i64, bool> {
    let inner = stream.lock();
    let number = |f: &Arc<Frame>| (f.wallclock_us - first_us + 20_000) / 40_000;
    inner.ring.frames().map(|f| (number(f), f.follows)).collect()
}

#[test]
fn i1_only_what_comes_when_it_was_sent_is_known_to_follow_after_a_pause() {
    let (stream, mut intake) = fed(0..60);
    for n in [110, 111] {
        intake.unit(unit(n), &mut stream.lock());
    }
    // For two seconds nothing is taken; the camera holds three frames, and throws away what has no room.
    for n in (112..115).chain(162..170) {
        let mut u = unit(n);
        let held_us = if n < 162 { (162 - n) * 40_000 } else { 0 };
        (u.arrival.own_us, u.arrival.mono_us) = (u.arrival.own_us + held_us, u.arrival.mono_us + held_us);
        intake.unit(u, &mut stream.lock());
    }
    let mut lossy = unit(170);
    lossy.lost = 1;
    intake.unit(lossy, &mut stream.lock());
    let known = follow(&stream, T0);
    let not: Vec<i64> = known
        .iter()
        .filter(|(_, follows)| !**follows)
        .map(|(n, _)| *n)
        .collect();
    assert_eq!(not, [0, 162, 170], "{known:?}");
    let said = notes(&stream);
    let told = |what: &str| {
        said.iter()
            .any(|n| matches!(n, Notice::Note(note) if note.contains(what)))
    };
    assert!(told("none was lost") && told("thrown some away"), "{said:?}");
}

/// A unit with a message before its picture.
fn with_message(n: i64) -> Unit {
    let unit = unit(n);
    let data = [&[0, 0, 0, 2, 0x06, 0x05], &unit.data[..]].concat();
    Unit {
        data: data.into(),
        ..unit
    }
}

#[test]
fn a_session_does_not_begin_with_a_unit_whose_first_packets_it_missed() {
    let (stream, mut intake) = (stream(), Intake::new(false));
    intake.parameters(parameters(160));
    let frames = |from: i64, to: i64| (from..to).map(with_message);
    let joined = std::iter::once(unit(0)).chain(frames(1, 30));
    let taken: Vec<Taken> = joined.map(|unit| intake.unit(unit, &mut stream.lock())).collect();
    assert!(
        taken[..25].iter().all(|taken| *taken == Taken::TooEarly),
        "{taken:?}"
    );
    assert!(
        taken[25..]
            .iter()
            .all(|taken| matches!(taken, Taken::Frame { .. })),
        "{taken:?}"
    );
    // Where nothing ever stands before a picture, nothing is missed.
    let (bare, _) = fed(0..3);
    let mut inner = bare.lock();
    assert_eq!(inner.ring.start(), None);
    assert_eq!(inner.ring.take(usize::MAX).len(), 3);
    // And a first unit that is whole is taken at once.
    let mut whole = Intake::new(false);
    whole.parameters(parameters(160));
    assert_eq!(
        whole.unit(with_message(0), &mut self::stream().lock()),
        Taken::Frame { key: true }
    );
}

#[test]
fn sound_goes_with_the_frames_and_changes_none() {
    let track = AudioTrack::g711(segment::Audio {
        codec: segment::AudioCodec::Pcma,
        rate: 8000,
        channels: 1,
    })
    .unwrap();
    let (stream, intake) = (stream(), Intake::new(false));
    let mut intake = intake.with_sound(track.clone());
    intake.parameters(parameters(160));
    for n in 0..60 {
        intake.unit(unit(n), &mut stream.lock());
        for half in 0..2 {
            intake.heard(Heard {
                data: vec![1; 160].into(),
                rtp: (2 * n + half) * 160,
                duration: 160,
                mono_us: n * 40_000 + half * 20_000 + 10_000,
            });
        }
    }
    let frames = |s: &Stream| -> Vec<_> {
        let inner = s.lock();
        inner.ring.frames().map(|f| (f.hash, f.dts, f.key)).collect()
    };
    assert_eq!(frames(&stream).len(), 60);
    assert_eq!(
        frames(&stream).iter().map(|f| f.0).collect::<Vec<_>>(),
        frames(&fed(0..60).0).iter().map(|f| f.0).collect::<Vec<_>>()
    );
    let inner = stream.lock();
    let packets: Vec<_> = inner.ring.frames().flat_map(|f| f.audio.clone()).collect();
    assert!(packets.len() >= 112, "{}", packets.len());
    assert!(packets.windows(2).all(|w| w[1].time == w[0].time + 160));
    assert!(inner.ring.frames().all(|f| f.run.audio.as_ref() == Some(&track)));
}
