#![allow(clippy::unwrap_used)]

use std::process::Command;

use failover::streams::Fault;
use segment::{Role, SegmentId};
use uuid::Uuid;

use super::super::hub::Writer;
use super::*;
use crate::local::{Disk, GapLengths, StreamHealth};

const SOON: Duration = Duration::from_secs(20);

fn ticket(n: u64) -> ToReplicator {
    ToReplicator::Ticket(Ticket {
        n,
        fit: true,
        disk: Disk::default(),
        ledger_truncations: 0,
        streams: None,
    })
}

/// A volume that is read for as long as nobody opens the other end of a pipe on it.
fn slow_volume(media: &std::path::Path) -> (Arc<Volume>, SegmentId, PathBuf) {
    let volume = Arc::new(Volume::open(media, Role::Replicator).unwrap());
    let id = SegmentId {
        stream: Uuid::from_u128(7),
        store: volume.store(),
        member: "front-0".into(),
        incarnation: 1,
        sequence: 0,
    };
    let folder = volume.create_stream_dir(id.stream).unwrap();
    let pipe = folder.join(format!("{}.open", id.stem()));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    (volume, id, pipe)
}

/// A link of an empty hub, what it tells the driver, and what it asks the keeper for.
fn link(run: &std::path::Path, volume: Arc<Volume>) -> (Link, mpsc::Receiver<Input>, mpsc::Receiver<Work>) {
    let (driver, told) = mpsc::channel(64);
    let (keeper, works) = mpsc::channel(1);
    let link = Link {
        run: run.to_owned(),
        hub: Arc::new(Hub::new(volume.store(), &Catalogue::default())),
        volume,
        driver,
        keeper,
        recorder: Recorder::default(),
        reloads: Arc::default(),
    };
    (link, told, works)
}

#[tokio::test]
async fn tickets_do_not_wait_until_the_volume_is_read_and_all_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let (volume, id, pipe) = slow_volume(&dir.path().join("media"));
    let (link, mut told, _works) = link(dir.path(), volume);
    let hub = Arc::clone(&link.hub);
    let recorder = local::listen(&local::socket_path(dir.path())).unwrap();
    let (_outbox, inbox) = mpsc::unbounded_channel();
    let linked = tokio::spawn(link.run(inbox));
    let (socket, _) = recorder.accept().await.unwrap();
    let (mut to, _from) = local::split::<ToReplicator, ToRecorder>(socket);
    let hello = ToReplicator::Hello {
        member: "front-0".into(),
        store: id.store,
        incarnation: 2,
    };
    for message in [hello, ticket(1), ticket(2)] {
        to.send(&message).await.unwrap();
    }
    for n in 1..=2 {
        let event = timeout(SOON, told.recv()).await.unwrap().unwrap();
        let Input::Event(Event::RecorderProgress { ticket }) = event else {
            panic!("{event:?}");
        };
        assert_eq!(ticket, n);
    }
    assert_eq!(
        hub.writer_of(&id),
        Writer::Unknown,
        "the rest keeps its order behind the volume"
    );
    // The volume is read now.
    let opened = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(pipe));
    drop(timeout(SOON, opened).await.unwrap().unwrap().unwrap());
    timeout(SOON, async {
        while hub.writer_of(&id) == Writer::Unknown {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    linked.abort();
}

fn health(uid: u128, state: StreamState, fault: Option<Fault>) -> StreamHealth {
    StreamHealth {
        name: uid.to_string(),
        uid: Uuid::from_u128(uid),
        state,
        error: None,
        last_frame_unix_ms: None,
        fps: 0.0,
        bitrate: 0,
        writing: false,
        gaps: 0,
        gap_lengths: GapLengths::default(),
        fault,
    }
}

#[tokio::test]
async fn all_streams_of_the_recorder_are_known_and_some_are_not_received_well() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Arc::new(Volume::open(&dir.path().join("media"), Role::Replicator).unwrap());
    let (link, mut told, _works) = link(dir.path(), volume);
    let streams = vec![
        health(1, StreamState::Receiving, None),
        health(2, StreamState::Connecting, Some(Fault::Silent)),
        health(3, StreamState::Idle, None),
    ];
    let ticket = Ticket {
        n: 1,
        fit: false,
        disk: Disk::default(),
        ledger_truncations: 0,
        streams: Some(streams),
    };
    link.ticket(ticket).await;
    let Some(Input::Streams(received)) = told.recv().await else {
        panic!("nothing was told of streams");
    };
    let [one, two, three] = [1, 2, 3].map(Uuid::from_u128);
    let expected = Received {
        known: vec![one, two, three],
        faults: vec![(two, Fault::Silent)],
        idle: vec![three],
    };
    assert_eq!(received, expected);
}

#[cfg(feature = "sabotage")]
#[tokio::test]
async fn i10_reading_the_volume_takes_no_error_from_who_acknowledges() {
    let dir = tempfile::tempdir().unwrap();
    let volume = Arc::new(Volume::open(&dir.path().join("media"), Role::Replicator).unwrap());
    let (link, ..) = link(dir.path(), Arc::clone(&volume));
    volume.lose_writes();
    // It reads until it hears no error.
    timeout(SOON, link.reload()).await.unwrap();
    assert!(volume.sync().is_err(), "the keeper has to hear it");
    assert!(volume.sync().is_ok(), "it is told once");
}
