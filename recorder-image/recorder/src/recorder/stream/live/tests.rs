#![allow(clippy::unwrap_used)]

use super::*;
use crate::local::StreamUid;
use crate::recorder::metrics::{Metrics, label};
use crate::recorder::ring::Limits;

fn run(sample_entry: &'static [u8]) -> Arc<Run> {
    Arc::new(Run {
        id: uuid::Uuid::new_v4(),
        sample_entry: Bytes::from_static(sample_entry),
        width: 16,
        height: 16,
        hevc: false,
        audio: None,
        clock: segment::ClockSource::Own,
    })
}

fn now() -> Duration {
    Duration::from_nanos(crate::clock::boottime_ns())
}

/// Frame `n` of a stream with a key frame at each multiple of 25. A slice of `len` bytes.
fn frame(run: &Arc<Run>, n: u64, len: usize) -> Frame {
    let mut data = (len as u32).to_be_bytes().to_vec();
    data.push(if n.is_multiple_of(25) { 0x65 } else { 0x41 });
    data.resize(4 + len, 1);
    Frame {
        data: data.into(),
        key: n.is_multiple_of(25),
        hash: [0; 16],
        dts: n as i64 * 3600,
        cts: 0,
        wallclock_us: n as i64 * 40_000,
        received: now(),
        follows: false,
        audio: Vec::new(),
        run: Arc::clone(run),
    }
}

struct Scene {
    stream: Arc<Stream>,
    metrics: Arc<Metrics>,
    run: Arc<Run>,
}

impl Scene {
    fn new() -> Self {
        let limits = Limits {
            max_bytes: 64 << 20,
            preroll: Duration::from_secs(2),
        };
        let metrics = Arc::new(Metrics::new("m-0"));
        Self {
            stream: Arc::new(Stream::new("door".into(), StreamUid::default(), limits, &metrics)),
            metrics,
            run: run(b"entry"),
        }
    }

    fn push(&self, numbers: std::ops::Range<u64>) {
        for n in numbers {
            self.stream.lock().push(frame(&self.run, n, 100), Some(40_000));
        }
    }

    fn watch(&self) -> Viewer {
        self.stream.watch(now()).unwrap()
    }

    fn counted(&self) -> (i64, u64) {
        let label = label("door");
        (
            self.metrics.viewers.get_or_create(&label).get(),
            self.metrics.viewers_dropped.get_or_create(&label).get(),
        )
    }
}

fn numbers(frames: &[Arc<Frame>]) -> Vec<u64> {
    frames.iter().map(|f| (f.dts / 3600).cast_unsigned()).collect()
}

/// What waits for a viewer, without waiting for more.
async fn seen(viewer: &mut Viewer) -> Result<Vec<u64>, End> {
    let mut all = Vec::new();
    loop {
        let next = tokio::select! {
            biased;
            next = viewer.next() => next,
            () = std::future::ready(()) => return Ok(all),
        };
        match next {
            Ok(frames) => all.extend(numbers(&frames)),
            Err(end) if all.is_empty() => return Err(end),
            Err(_) => return Ok(all),
        }
    }
}

#[tokio::test]
async fn a_viewer_begins_with_the_newest_key_frame_and_gets_every_frame_once_in_order() {
    let scene = Scene::new();
    scene.push(0..60);
    let mut viewer = scene.watch();
    scene.push(60..140);
    assert_eq!(seen(&mut viewer).await.unwrap(), (50..140).collect::<Vec<_>>());
    scene.push(140..141);
    assert_eq!(seen(&mut viewer).await.unwrap(), [140]);
    assert_eq!(seen(&mut viewer).await.unwrap(), [0; 0]);
}

#[tokio::test]
async fn a_viewer_that_falls_behind_is_dropped_and_the_others_miss_nothing() {
    let scene = Scene::new();
    scene.push(0..1);
    let (mut slow, mut quick) = (scene.watch(), scene.watch());
    assert_eq!(scene.counted(), (2, 0));
    let mut got = Vec::new();
    for n in 1..2 * MAX_FRAMES as u64 {
        scene.push(n..n + 1);
        got.extend(seen(&mut quick).await.unwrap());
    }
    assert_eq!(got, (0..2 * MAX_FRAMES as u64).collect::<Vec<_>>());
    assert_eq!(scene.counted(), (1, 1));
    assert_eq!(
        seen(&mut slow).await,
        Err(End::Behind),
        "nothing is held for it any more, not even what it was to begin with"
    );
}

#[tokio::test]
async fn bytes_are_bounded_and_one_large_frame_passes() {
    let scene = Scene::new();
    scene.push(0..1);
    let mut viewer = scene.watch();
    let large = |n| {
        let frame = frame(&scene.run, n, MAX_BYTES + 1);
        scene.stream.lock().push(frame, Some(40_000));
    };
    large(1);
    assert_eq!(seen(&mut viewer).await.unwrap(), [0, 1]);
    large(2);
    large(3);
    assert_eq!(seen(&mut viewer).await, Err(End::Behind));
}

#[tokio::test]
async fn what_a_viewer_is_handed_at_once_is_bounded() {
    let scene = Scene::new();
    let push = |numbers: std::ops::Range<u64>| {
        for n in numbers {
            let frame = frame(&scene.run, n, if n == 33 { 2 * PART } else { PART / 10 });
            scene.stream.lock().push(frame, Some(40_000));
        }
    };
    push(0..50);
    let mut viewer = scene.watch();
    push(50..75);
    let mut got = Vec::new();
    while got.len() < 50 {
        let part = viewer.next().await.unwrap();
        let bytes: usize = part.iter().map(|frame| frame.cost()).sum();
        assert!(bytes <= PART || part.len() == 1, "{bytes} bytes at once");
        got.extend(numbers(&part));
    }
    assert_eq!(got, (25..75).collect::<Vec<_>>());
    push(75..80);
    assert_eq!(seen(&mut viewer).await.unwrap(), (75..80).collect::<Vec<_>>());
    let rest = viewer.seat.lock().bytes;
    assert_eq!(rest, 0, "what was taken is not counted any more");
}

#[tokio::test]
async fn who_takes_nothing_for_seconds_is_behind_and_slow_streams_are_not() {
    let scene = Scene::new();
    scene.push(0..1);
    let mut viewer = scene.watch();
    let begun = now();
    let at = |n: u64, seconds: u64| {
        let mut frame = frame(&scene.run, n, 9);
        frame.received = begun + Duration::from_secs(seconds);
        scene.stream.lock().push(frame, Some(40_000));
    };
    at(1, 9);
    assert_eq!(seen(&mut viewer).await.unwrap(), [0, 1]);
    at(2, 18);
    at(3, 23);
    assert_eq!(seen(&mut viewer).await.unwrap(), [2, 3]);
    at(4, 30);
    at(5, 36);
    assert_eq!(seen(&mut viewer).await, Err(End::Behind));
}

#[tokio::test]
async fn other_parameters_end_it_and_the_same_ones_do_not() {
    let mut scene = Scene::new();
    scene.push(0..30);
    let mut viewer = scene.watch();
    scene.stream.lock().ring.close_gop();
    scene.run = run(b"entry");
    scene.push(50..60);
    let expected: Vec<_> = (25..30).chain(50..60).collect();
    assert_eq!(
        seen(&mut viewer).await.unwrap(),
        expected,
        "another session, the same camera"
    );
    scene.run = run(b"other");
    scene.push(75..80);
    assert_eq!(seen(&mut viewer).await, Err(End::Parameters));
    assert_eq!(
        seen(&mut scene.watch()).await.unwrap(),
        (75..80).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn without_an_open_group_the_next_key_frame_is_waited_for() {
    let scene = Scene::new();
    scene.push(0..30);
    scene.stream.lock().ring.close_gop();
    let mut viewer = scene.watch();
    scene.push(30..60);
    let expected: Vec<_> = (25..30).chain(50..60).collect();
    assert_eq!(seen(&mut viewer).await.unwrap(), expected);
}

#[tokio::test]
async fn there_is_a_most_of_viewers_and_whoever_leaves_makes_room() {
    let scene = Scene::new();
    scene.push(0..1);
    let mut viewers: Vec<_> = (0..MAX_VIEWERS).map(|_| scene.watch()).collect();
    assert_eq!(scene.stream.watch(now()).err(), Some(Refused::TooMany));
    viewers.pop();
    assert_eq!(scene.counted(), (MAX_VIEWERS as i64 - 1, 0));
    assert!(scene.stream.watch(now()).is_ok());
}

#[tokio::test]
async fn without_a_picture_there_is_a_reason() {
    let scene = Scene::new();
    let refused = |why: &str| Some(Refused::NoPicture(why.to_owned()));
    let dark = |at| scene.stream.watch(at).err();
    assert_eq!(dark(now()), refused("no frame has come from the camera yet"));
    scene.push(0..1);
    assert_eq!(dark(now()), None);
    let later = now() + SILENCE;
    assert_eq!(dark(later), refused("no frame has come from the camera for 5 s"));
    scene.stream.lock().push(frame(&scene.run, 1, 9), Some(3_000_000));
    assert_eq!(dark(later), None, "slow streams are given longer");
}

#[tokio::test]
async fn silence_ends_it_and_so_does_the_end_of_the_stream() {
    let scene = Scene::new();
    scene.push(0..1);
    let mut viewer = scene.watch();
    let mut old = frame(&scene.run, 1, 9);
    old.received = now().saturating_sub(SILENCE * 2);
    scene.stream.lock().push(old, Some(40_000));
    assert_eq!(seen(&mut viewer).await.unwrap(), [0, 1]);
    assert_eq!(viewer.next().await, Err(End::NoPicture));
    scene.push(2..3);
    let mut viewer = scene.watch();
    scene.stream.lock().viewers.end(End::Gone);
    assert_eq!(seen(&mut viewer).await.unwrap(), [0, 1, 2]);
    assert_eq!(viewer.next().await, Err(End::Gone));
    assert_eq!(scene.counted(), (0, 0));
}

#[test]
fn fragments_have_every_frame_with_its_time() {
    let run = run(b"entry");
    let frames: Vec<_> = (0..50).map(|n| Arc::new(frame(&run, n, 20))).collect();
    let mut muxer = Muxer::default();
    let mut bytes = muxer.fragments(frames[..40].to_vec()).unwrap().to_vec();
    for late in &frames[40..] {
        bytes.extend_from_slice(&muxer.fragments(vec![Arc::clone(late)]).unwrap());
    }
    let (mut at, mut number, mut times) = (0, 0, Vec::new());
    while at < bytes.len() {
        let parsed = fmp4::fragment(&bytes[at..], fmp4::Tracks::default()).unwrap();
        assert_eq!(parsed.number, number);
        let starts = parsed.samples.iter().scan(parsed.dts, |dts, s| {
            let start = *dts;
            *dts += u64::from(s.duration);
            Some(start)
        });
        times.extend(starts);
        (at, number) = (at + parsed.len, number + 1);
    }
    assert_eq!(times, (0..50).map(|n| n * 3600).collect::<Vec<u64>>());
}
