//! The bytes of a segment, and what is said where there are none.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::symlink;

use super::*;
use crate::recorder::http::bytes::find;

/// What is answered to who asks for the bytes of a segment.
async fn asked_for(shared: &Arc<Shared>, token: &Arc<Token>, id: &SegmentId) -> String {
    let address = server(shared, token, Limits::default()).await;
    get(
        address,
        &format!("/v1/streams/door/segments/{}?token=t", id.stem()),
    )
    .await
}

#[tokio::test]
async fn a_segment_that_is_gone_is_not_found_and_one_that_the_disk_does_not_give_is_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let [sealed, goes_on] = sealed_and_growing(&shared);
    let paths = [
        (&sealed, shared.volume.sealed_path(&sealed)),
        (&goes_on, shared.volume.open_path(&goes_on)),
    ];
    for (id, path) in paths {
        assert!(asked_for(&shared, &token, id).await.starts_with("HTTP/1.1 200"));
        std::fs::remove_file(&path).unwrap();
        let gone = asked_for(&shared, &token, id).await;
        assert!(
            gone.starts_with("HTTP/1.1 404") && gone.contains("SegmentNotFound"),
            "{gone}"
        );
        symlink(&path, &path).unwrap();
        let cannot_be_opened = asked_for(&shared, &token, id).await;
        assert!(
            cannot_be_opened.starts_with("HTTP/1.1 500") && cannot_be_opened.contains("Unreadable"),
            "{cannot_be_opened}"
        );
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let cannot_be_read = asked_for(&shared, &token, id).await;
        assert!(
            cannot_be_read.starts_with("HTTP/1.1 500") && cannot_be_read.contains("Unreadable"),
            "{cannot_be_read}"
        );
    }
}

#[tokio::test]
async fn what_was_sealed_a_moment_ago_is_served_as_what_it_was_known_as() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let id = id(0);
    let mut file = open(&shared, &id, 0);
    append(&mut file, 0, 0..3);
    tell_durable(&shared, &id, &file);
    let known = file.end();
    assert_eq!(frames_known(&shared, &id), Some(3));
    append(&mut file, 0, 3..6);
    file.finish().rename().unwrap();
    let answer = asked_for(&shared, &token, &id).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains(&format!("content-length: {known}\r\n")),
        "{answer}"
    );
    assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
}

#[test]
fn what_is_sealed_before_or_after_the_first_try_is_found() {
    for sealed_first in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (shared, _) = shared(dir.path());
        let id = id(0);
        let mut file = open(&shared, &id, 0);
        append(&mut file, 0, 0..3);
        tell_durable(&shared, &id, &file);
        let copy = shared.fresh_catalogue(id.stream).get(&id).cloned().unwrap();
        let waits = Cell::new(Some(file.finish()));
        let seal = || waits.take().map(|file| file.rename().unwrap());
        let found = find(&shared.volume, &copy, |path| {
            let _ = sealed_first.then(seal);
            let opened = File::open(path);
            let _ = seal();
            opened
        });
        assert!(found.unwrap().is_some(), "{sealed_first}");
    }
}

#[test]
fn what_is_known_to_be_sealed_is_opened_by_no_other_name() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, _) = shared(dir.path());
    let id = id(0);
    let mut file = open(&shared, &id, 0);
    append(&mut file, 0, 0..3);
    seal(&shared, file);
    let copy = shared.catalogue().get(&id).cloned().unwrap();
    // Nothing makes it, but it would be sent as what never changes.
    std::fs::write(shared.volume.open_path(&id), "other bytes").unwrap();
    std::fs::remove_file(shared.volume.sealed_path(&id)).unwrap();
    let found = find(&shared.volume, &copy, |path| File::open(path));
    assert!(found.unwrap().is_none());
}

#[tokio::test]
async fn a_range_outside_of_a_segment_is_told_how_long_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, token) = shared(dir.path());
    let id = id(0);
    let mut file = open(&shared, &id, 0);
    append(&mut file, 0, 0..3);
    let length = file.end();
    seal(&shared, file);
    let address = server(&shared, &token, Limits::default()).await;
    let path = format!("/v1/streams/door/segments/{}?token=t", id.stem());
    let outside = ask(address, &path, "range: bytes=999999-\r\n").await;
    assert!(outside.starts_with("HTTP/1.1 416"), "{outside}");
    assert!(
        outside.contains(&format!("content-range: bytes */{length}\r\n")),
        "{outside}"
    );
    let inside = ask(address, &path, "range: bytes=0-9\r\n").await;
    assert!(inside.starts_with("HTTP/1.1 206"), "{inside}");
    assert!(
        inside.contains(&format!("content-range: bytes 0-9/{length}\r\n")),
        "{inside}"
    );
}
