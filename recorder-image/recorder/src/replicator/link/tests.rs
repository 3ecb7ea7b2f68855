#![allow(clippy::unwrap_used)]

use std::process::Command;

use segment::{Role, SegmentId};
use uuid::Uuid;

use super::super::hub::Writer;
use super::*;
use crate::local::Disk;

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

#[tokio::test]
async fn tickets_do_not_wait_until_the_volume_is_read_and_all_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let (volume, id, pipe) = slow_volume(&dir.path().join("media"));
    let hub = Arc::new(Hub::new(volume.store(), &Catalogue::default()));
    let (driver, mut told) = mpsc::channel(64);
    let (keeper, _works) = mpsc::channel(1);
    let link = Link {
        run: dir.path().to_owned(),
        volume,
        hub: Arc::clone(&hub),
        driver,
        keeper,
        recorder: Recorder::default(),
    };
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
