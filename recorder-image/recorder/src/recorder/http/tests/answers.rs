//! Answers that wait for their viewers, and what caches are told of them.

use super::*;
use crate::recorder::http::answer::PIECE;

/// Segments in the catalogue, of a second each, of which the first is on the volume.
fn list(shared: &Shared, count: usize) {
    let mut file = open(shared, &id(0), 0);
    append(&mut file, 0, 0..1);
    seal(shared, file);
    (1..count as u64).for_each(|sequence| list_one(shared, sequence));
}

fn list_one(shared: &Shared, sequence: u64) {
    let mut catalogue = shared.catalogue();
    let mut copy = catalogue.get(&id(0)).cloned().unwrap();
    copy.header.id.sequence = sequence;
    copy.extent.start_us = sequence.cast_signed() * SECOND;
    copy.extent.end_us = copy.extent.start_us + SECOND;
    catalogue.upsert(copy);
}

#[tokio::test]
async fn a_list_of_too_many_segments_is_refused_and_a_part_of_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let address = server(&shared, &token, Limits::default()).await;
    list(&shared, MAX_SEGMENTS);
    let all = async || get(address, "/v1/streams/door/segments?from=0&token=t").await;
    let most = all().await;
    assert!(most.starts_with("HTTP/1.1 200"), "{}", &most[..200]);
    list_one(&shared, MAX_SEGMENTS as u64);
    let more = all().await;
    assert!(
        more.starts_with("HTTP/1.1 400") && more.contains("TooLong"),
        "{}",
        &more[..200]
    );
    let part = get(address, "/v1/streams/door/segments?from=1000&to=4000&token=t").await;
    assert_eq!(part.matches("entryHref").count(), 3, "{part}");
}

#[tokio::test]
async fn an_answer_keeps_its_place_until_its_viewer_took_it() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    list(&shared, MAX_SEGMENTS);
    let api = api(shared);
    let address = serving(&api, &token, Limits::default()).await;
    let mut viewer = TcpStream::connect(address).await.unwrap();
    let request =
        "GET /v1/streams/door/segments?from=0&token=t HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    viewer.write_all(request.as_bytes()).await.unwrap();
    viewer.readable().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(api.permits.available_permits(), MAX_REQUESTS - 1);
    let mut answer = Vec::new();
    viewer.read_to_end(&mut answer).await.unwrap();
    let head = String::from_utf8_lossy(&answer[..400]);
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    assert!(
        head.contains("content-length: ") && answer.ends_with(b"}]"),
        "{head}"
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(api.permits.available_permits(), MAX_REQUESTS);
}

#[tokio::test]
async fn answers_that_wait_are_bounded_in_bytes_and_short_ones_always_pass() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    list(&shared, 1_000);
    let api = api(shared);
    let address = serving(&api, &token, Limits::default()).await;
    let long = async || get(address, "/v1/streams/door/segments?from=0&token=t").await;
    let others = Arc::clone(&api.pieces);
    let others = others.try_acquire_many_owned(MAX_PIECES as u32).unwrap();
    assert!(long().await.starts_with("HTTP/1.1 503"));
    assert!(
        api.shared
            .metrics
            .encode()
            .contains("gapless_http_busy_total{member=\"m-0\"} 1")
    );
    let short = get(address, "/v1/streams/door/segments?from=0&to=9000&token=t").await;
    assert!(short.starts_with("HTTP/1.1 200"), "{short}");
    drop(others);
    let long = long().await;
    assert!(
        long.starts_with("HTTP/1.1 200") && long.len() > PIECE,
        "{}",
        long.len()
    );
}

/// What caches are told of each answer.
fn told(answer: &str) -> Vec<&str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    let lines = head.lines();
    lines.filter_map(|l| l.strip_prefix("cache-control: ")).collect()
}

#[tokio::test]
async fn no_cache_keeps_what_may_change_nor_any_error() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    watched(&shared);
    let [sealed, goes_on] = sealed_and_growing(&shared);
    let address = server(&shared, &token, Limits::default()).await;
    let (sealed, goes_on) = (sealed.stem(), goes_on.stem());
    let table = [
        ("/v1/streams?token=t", 200),
        ("/v1/streams", 401),
        ("/v1/nothing?token=t", 404),
        ("/v1/streams/door/timeline?token=t", 200),
        ("/v1/streams/door/timeline?from=x&token=t", 400),
        ("/v1/streams/gate/timeline?token=t", 404),
        ("/v1/streams/door/segments?token=t", 200),
        ("/v1/streams/door/segments/x?token=t", 404),
        (&format!("/v1/streams/door/segments/{goes_on}?token=t"), 200),
        (&format!("/v1/streams/door/segments/{sealed}/entry?token=t"), 200),
        ("/v1/streams/door/hls.m3u8?from=0&token=t", 200),
        ("/v1/streams/door/live?token=t", 503),
        ("/v1/streams/door/watch?token=t", 200),
    ];
    for (path, status) in table {
        let answer = get(address, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
        assert_eq!(told(&answer), ["no-store"], "{path}");
    }
    let path = format!("/v1/streams/door/segments/{sealed}?token=t");
    for (range, kept) in [
        ("", "private, max-age=86400, immutable"),
        ("range: bytes=0-9\r\n", "private, max-age=86400, immutable"),
        ("range: bytes=999999-\r\n", "no-store"),
    ] {
        assert_eq!(told(&ask(address, &path, range).await), [kept], "{range}");
    }
    let full = Limits {
        connections: 0,
        ..Limits::default()
    };
    let address = server(&shared, &token, full).await;
    let busy = get(address, "/v1/streams?token=t").await;
    assert!(busy.starts_with("HTTP/1.1 503"), "{busy}");
    assert_eq!(told(&busy), ["no-store"]);
}
