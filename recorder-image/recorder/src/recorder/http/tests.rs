#![allow(clippy::unwrap_used)]

mod answers;
mod bytes;

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use segment::retention::RetentionClock;
use segment::{Catalogue, ClockSource, Header, Role, Sample, SegmentFile, Volume};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::*;
use crate::clock::boottime_ns;
use crate::fixtures::{header, track};
use crate::local::{Peer, StreamState, ToRecorder};
use crate::recorder::config::{Retention, Settings, StreamSpec};
use crate::recorder::frame::{Frame, Run};
use crate::recorder::metrics::Metrics;
use crate::recorder::ring;
use crate::recorder::state::Held;
use crate::recorder::stream::Stream;

const SECOND: i64 = 1_000_000;

/// A recorder's state over a new volume, and the token `t`.
fn shared(dir: &std::path::Path) -> (Arc<Shared>, Arc<Token>) {
    std::fs::write(dir.join("token"), "t").unwrap();
    let token = Arc::new(Token::new(&dir.join("token")));
    token.reload().unwrap();
    let volume = Volume::open(&dir.join("media"), Role::Recorder).unwrap();
    let held = Held {
        clock: RetentionClock::load(&volume, 0, 0).unwrap(),
        catalogue: Catalogue::default(),
        volume,
    };
    let (metrics, commands) = (Arc::new(Metrics::new("m-0")), sync_channel(1).0);
    (
        Arc::new(Shared::new("m-0".into(), held, metrics, commands)),
        token,
    )
}

/// A segment of the peer.
fn id(sequence: u64) -> SegmentId {
    SegmentId {
        stream: Uuid::from_u128(1),
        store: Uuid::nil(),
        member: "m-1".into(),
        incarnation: 1,
        sequence,
    }
}

/// A segment whose first frame is of `start_us`.
fn open(shared: &Shared, id: &SegmentId, start_us: i64) -> SegmentFile {
    let header = Header {
        run: Uuid::from_u128(u128::from(id.sequence)),
        opened_us: start_us,
        ..header(id.clone())
    };
    SegmentFile::create(&shared.volume, header, &track()).unwrap()
}

/// Frames of a second each, all of them key frames.
fn append(file: &mut SegmentFile, start_us: i64, seconds: std::ops::Range<i64>) {
    for n in seconds {
        let data = [&5u32.to_be_bytes()[..], &[0x65, n as u8, 1, 2, 3]].concat();
        let sample = Sample {
            hash: segment::nal::frame_hash(&data, false),
            data: data.into(),
            key: true,
            dts: (n * 90_000).cast_unsigned(),
            cts: 0,
            duration: 90_000,
            wallclock_us: start_us + n * SECOND,
        };
        file.append(&[sample], &[]).unwrap();
    }
}

fn seal(shared: &Shared, file: SegmentFile) {
    let entry = Box::new(file.finish().rename().unwrap().entry);
    shared.hear(ToRecorder::ReceivedSealed { entry }, Duration::ZERO);
}

async fn server(shared: &Arc<Shared>, token: &Arc<Token>, limits: Limits) -> std::net::SocketAddr {
    serving(&api(Arc::clone(shared)), token, limits).await
}

async fn serving(api: &Api, token: &Arc<Token>, limits: Limits) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routers = Routers {
        all: router(api.clone(), Arc::clone(token)),
        crowded: crowded(api.clone()),
    };
    tokio::spawn(listen::serve(listener, "a viewer", routers, limits));
    address
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    ask(address, path, "").await
}

/// The answer to a request with a header more.
async fn ask(address: std::net::SocketAddr, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_request_without_from_is_about_an_hour() {
    let span = |query: &str| Span::of(Some(query), 7_200 * SECOND).unwrap();
    let table = [
        ("", 3_600, None),
        ("to=5000000", 1_400, Some(5_000)),
        ("from=0", 0, None),
        ("from=1000&to=2000", 1, Some(2)),
    ];
    for (query, from_s, to_s) in table {
        let found = span(query);
        assert_eq!(found.from_us, from_s * SECOND, "{query}");
        assert_eq!(found.to_us, to_s.map_or(i64::MAX, |s| s * SECOND), "{query}");
        assert_eq!(
            (found.begun, found.ended),
            (query.contains("from"), to_s.is_some())
        );
    }
}

#[tokio::test]
async fn a_live_playlist_has_a_beginning_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let now_us = jiff::Timestamp::now().as_microsecond();
    let (old, new) = (id(0), id(1));
    for (id, start_us) in [(&old, now_us - 9_000 * SECOND), (&new, now_us - 60 * SECOND)] {
        let mut file = open(&shared, id, start_us);
        append(&mut file, start_us, 0..20);
        seal(&shared, file);
    }
    let address = server(&shared, &token, Limits::default()).await;
    let first = get(address, "/v1/streams/door/hls.m3u8?token=t").await;
    let uri = first.lines().find(|l| l.starts_with("hls.m3u8?from=")).unwrap();
    assert!(
        first.contains("#EXT-X-STREAM-INF:BANDWIDTH=") && uri.ends_with("&token=t"),
        "{first}"
    );
    let live = get(address, &format!("/v1/streams/door/{uri}")).await;
    assert!(
        live.contains("EXT-X-PLAYLIST-TYPE:EVENT") && live.contains(&new.stem()),
        "{live}"
    );
    assert!(!live.contains(&old.stem()), "an hour, no more");
    let all = get(address, "/v1/streams/door/segments?from=0&token=t").await;
    assert!(all.contains(&old.stem()) && all.contains(&new.stem()));
    let hour = get(address, "/v1/streams/door/segments?token=t").await;
    assert!(!hour.contains(&old.stem()) && hour.contains(&new.stem()));
    let timeline = get(address, "/v1/streams/door/timeline?from=0&token=t").await;
    assert_eq!(timeline.matches("\"owner\"").count(), 2, "{timeline}");
    let bytes = get(
        address,
        &format!("/v1/streams/door/segments/{}.mp4?token=t", new.stem()),
    )
    .await;
    assert!(bytes.starts_with("HTTP/1.1 200") && bytes.contains("gapless-header-1"));
    let entry = get(
        address,
        &format!("/v1/streams/door/segments/{}/entry?token=t", new.stem()),
    )
    .await;
    assert!(entry.contains("\"frameHashes\""));
}

#[tokio::test]
async fn a_playlist_of_more_than_two_days_of_media_is_refused_and_a_timeline_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let id = id(0);
    let mut file = open(&shared, &id, 0);
    append(&mut file, 0, 0..3);
    seal(&shared, file);
    let address = server(&shared, &token, Limits::default()).await;
    for (hours, status) in [(47, "HTTP/1.1 200"), (49, "HTTP/1.1 400")] {
        let mut copy = shared.catalogue().get(&id).cloned().unwrap();
        copy.extent.end_us = hours * 3600 * SECOND;
        shared.catalogue().upsert(copy);
        let playlist = get(address, "/v1/streams/door/hls.m3u8?from=0&token=t").await;
        assert!(playlist.starts_with(status), "{hours} h: {playlist}");
        assert_eq!(playlist.contains("TooLong"), hours > 48, "{playlist}");
        let timeline = get(address, "/v1/streams/door/timeline?from=0&token=t").await;
        assert!(timeline.starts_with("HTTP/1.1 200"), "{timeline}");
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_takes_no_other_along() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let (bad, good) = (id(0), id(1));
    for (id, start_us) in [(&bad, 0), (&good, 60 * SECOND)] {
        let mut file = open(&shared, id, start_us);
        append(&mut file, start_us, 0..20);
        seal(&shared, file);
    }
    std::fs::remove_file(shared.volume.index_path(&bad)).unwrap();
    let file = shared.volume.sealed_path(&bad);
    std::fs::remove_file(&file).unwrap();
    // A read of it fails, and not for its absence.
    std::fs::create_dir(&file).unwrap();
    let address = server(&shared, &token, Limits::default()).await;
    let playlist = get(address, "/v1/streams/door/hls.m3u8?from=1000&to=100000&token=t").await;
    assert!(playlist.starts_with("HTTP/1.1 200"), "{playlist}");
    assert!(
        playlist.contains(&good.stem()) && !playlist.contains(&bad.stem()),
        "{playlist}"
    );
    let timeline = get(address, "/v1/streams/door/timeline?from=1000&to=100000&token=t").await;
    assert_eq!(timeline.matches("\"owner\"").count(), 2, "{timeline}");
    let strict = shared.gops(bad.stream, (0, 100 * SECOND), Detail::Groups, Unreadable::Fails);
    assert!(
        matches!(strict, Err(super::super::merged::NotRead::Volume(_))),
        "{strict:?}"
    );
}

/// A segment that is sealed, and the one after it, which is not.
fn sealed_and_growing(shared: &Shared) -> [SegmentId; 2] {
    let (sealed, goes_on) = (id(0), id(1));
    let mut file = open(shared, &sealed, 0);
    append(&mut file, 0, 0..3);
    seal(shared, file);
    let mut file = open(shared, &goes_on, 3 * SECOND);
    append(&mut file, 3 * SECOND, 0..3);
    tell_durable(shared, &goes_on, &file);
    [sealed, goes_on]
}

/// The replicator tells that all of this file is durable.
fn tell_durable(shared: &Shared, id: &SegmentId, file: &SegmentFile) {
    let (id, end, frames) = (id.clone(), file.end(), Vec::new());
    shared.hear(ToRecorder::ReceivedDurable { id, end, frames }, Duration::ZERO);
}

/// How many frames of a segment are known to who asks now.
fn frames_known(shared: &Shared, id: &SegmentId) -> Option<u64> {
    let catalogue = shared.fresh_catalogue(id.stream);
    catalogue.get(id).map(|copy| copy.extent.frames)
}

#[test]
fn a_received_segment_that_grew_is_read_further() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, _) = shared(dir.path());
    let id = id(0);
    let mut file = open(&shared, &id, 0);
    let mut grow = |seconds: std::ops::Range<i64>| {
        append(&mut file, 0, seconds);
        tell_durable(&shared, &id, &file);
        file.end()
    };
    for seconds in [0..3, 3..4, 4..9] {
        let (to, end) = (seconds.end, grow(seconds));
        let catalogue = shared.fresh_catalogue(id.stream);
        let copy = catalogue.get(&id).unwrap();
        assert_eq!((copy.length, copy.extent.frames as i64), (end, to));
    }
    // A part that was read before is not read again: even if it is gone.
    let path = shared.volume.open_path(&id);
    let known = std::fs::metadata(&path).unwrap().len();
    grow(9..10);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..known as usize].fill(0);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(frames_known(&shared, &id), Some(10));
}

#[test]
fn a_received_segment_that_nobody_told_to_be_sealed_is_there() {
    for read_before in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (shared, _) = shared(dir.path());
        let id = id(0);
        let mut file = open(&shared, &id, 0);
        append(&mut file, 0, 0..2);
        tell_durable(&shared, &id, &file);
        if read_before {
            assert_eq!(frames_known(&shared, &id), Some(2));
            append(&mut file, 0, 2..3);
            tell_durable(&shared, &id, &file);
        }
        file.finish().rename().unwrap();
        let there = if read_before { 3 } else { 2 };
        assert_eq!(frames_known(&shared, &id), Some(there));
    }
}

#[test]
fn who_asks_at_once_sees_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, _) = shared(dir.path());
    let id = id(0);
    let mut file = open(&shared, &id, 0);
    for n in 0..50 {
        append(&mut file, 0, n..n + 1);
        tell_durable(&shared, &id, &file);
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| frames_known(&shared, &id)))
                .collect();
            for asked in asked {
                assert_eq!(asked.join().unwrap(), Some(n as u64 + 1));
            }
        });
    }
}

#[tokio::test]
async fn connections_above_the_limit_are_for_probes() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let limits = Limits {
        connections: 1,
        spare: 1,
        ..Limits::default()
    };
    let address = server(&shared, &token, limits).await;
    let held = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(
        get(address, "/v1/streams?token=t")
            .await
            .starts_with("HTTP/1.1 503")
    );
    drop(held);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(
        get(address, "/v1/streams?token=t")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let limits = Limits {
        idle: Duration::from_millis(200),
        ..Limits::default()
    };
    let address = server(&shared, &token, limits).await;
    for said in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let began = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "{said:?} is kept open");
        assert!(began.elapsed() >= Duration::from_millis(150));
    }
}

/// A sample entry of H.264, High profile, level 3.1.
fn sample_entry() -> axum::body::Bytes {
    let mut entry = vec![0; 86];
    entry[4..8].copy_from_slice(b"avc1");
    entry.extend_from_slice(b"\0\0\0\x0favcC\x01\x64\x00\x1f\xff\xe0\x00");
    let size = (entry.len() as u32).to_be_bytes();
    entry[..4].copy_from_slice(&size);
    entry.into()
}

/// A stream `door` whose camera has no usable address, so that only the test feeds it.
fn watched(shared: &Shared) -> Arc<Stream> {
    let settings = Settings {
        streams: vec![StreamSpec::open("door", Uuid::from_u128(1), "none:")],
        segment: Duration::from_secs(3),
        ring: ring::Limits {
            max_bytes: 1 << 20,
            preroll: Duration::from_secs(2),
        },
        mode: crds::pair::Mode::Hot,
        first_member: "m-0".into(),
        retention: Retention::default(),
    };
    shared.configure(&settings);
    shared.registry.named("door").unwrap()
}

fn feed(stream: &Stream, run: &Arc<Run>, n: i64) {
    let frame = Frame {
        data: [
            &2u32.to_be_bytes()[..],
            &[if n == 0 { 0x65 } else { 0x41 }, n as u8],
        ]
        .concat()
        .into(),
        key: n == 0,
        hash: [0; 16],
        dts: n * 3600,
        cts: 0,
        wallclock_us: n * 40_000,
        received: Duration::from_nanos(boottime_ns()),
        follows: false,
        audio: Vec::new(),
        run: Arc::clone(run),
    };
    stream.lock().push(frame, Some(40_000));
}

/// Reads what comes until it holds `until`.
async fn read_until(stream: &mut TcpStream, until: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    let reading = async {
        while !got.windows(until.len()).any(|w| w == until) {
            assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0, "it ended");
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reading)
        .await
        .unwrap();
    got
}

#[tokio::test]
async fn a_start_is_ready_when_it_is_configured_and_receives_what_its_peer_receives() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let address = server(&shared, &token, Limits::default()).await;
    let ready = async || {
        let now = Duration::from_nanos(boottime_ns());
        let peer = Peer {
            heard: true,
            ..Peer::default()
        };
        shared.alive(now);
        shared.hear(ToRecorder::Peer(peer), now);
        get(address, "/readyz").await
    };
    let says = |answer: String, status: u16, what: &str| {
        let is_that = answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(what);
        assert!(is_that, "{answer}");
    };
    says(ready().await, 503, "its configuration");
    let stream = watched(&shared);
    says(ready().await, 503, "stream \"door\"");
    // It cannot have a session; from then on only the test says how it is.
    while stream.health(Duration::ZERO).state != StreamState::Failed {
        tokio::task::yield_now().await;
    }
    stream.lock().receiving();
    says(ready().await, 200, "ok");
}

#[tokio::test]
async fn a_live_answer_begins_at_once_and_goes_on_frame_by_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let stream = watched(&shared);
    let run = Arc::new(Run {
        id: Uuid::nil(),
        sample_entry: sample_entry(),
        width: 16,
        height: 16,
        hevc: false,
        audio: None,
        clock: ClockSource::Own,
    });
    let address = server(&shared, &token, Limits::default()).await;
    let dark = get(address, "/v1/streams/door/live?token=t").await;
    assert!(
        dark.starts_with("HTTP/1.1 503") && dark.contains("NoPicture"),
        "{dark}"
    );
    feed(&stream, &run, 0);
    let mut viewer = TcpStream::connect(address).await.unwrap();
    let request = "GET /v1/streams/door/live?token=t HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    viewer.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(&mut viewer, &[0, 0, 0, 2, 0x65, 0]).await;
    let text = String::from_utf8_lossy(&head);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(
        text.contains("content-type: video/mp4; codecs=\"avc1.64001f\""),
        "{text}"
    );
    for n in 1..4 {
        feed(&stream, &run, n);
        read_until(&mut viewer, &[0, 0, 0, 2, 0x41, n as u8]).await;
    }
    assert!(
        shared
            .metrics
            .encode()
            .contains("gapless_viewers{member=\"m-0\",stream=\"door\"} 1")
    );
    shared.registry.stop();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), viewer.read_to_end(&mut rest));
    ended.await.unwrap().unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
}

#[tokio::test]
async fn a_live_view_is_for_viewers_of_configured_streams() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    watched(&shared);
    let address = server(&shared, &token, Limits::default()).await;
    for what in ["live", "watch"] {
        let (door, gate) = (
            format!("/v1/streams/door/{what}"),
            format!("/v1/streams/gate/{what}?token=t"),
        );
        assert!(get(address, &door).await.starts_with("HTTP/1.1 401"));
        assert!(get(address, &gate).await.starts_with("HTTP/1.1 404"));
    }
    let page = get(address, "/v1/streams/door/watch?token=t").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("content-type: text/html"));
    let nonce = page
        .split("script-src 'nonce-")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    assert!(page.contains(&format!("<script nonce=\"{nonce}\">")) && !page.contains("{{nonce}}"));
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "nothing from elsewhere"
    );
}
