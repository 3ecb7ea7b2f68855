//! What is read again, and what a replicator is told.

#![allow(clippy::unwrap_used)]
use std::sync::mpsc::{Receiver, sync_channel};

use segment::{Extent, Sample, SegmentFile};
use uuid::Uuid;

use super::*;
use crate::fixtures::{header, track};

/// A recorder's state over a new volume in `dir`. Nobody takes its commands.
pub(crate) fn shared(dir: &std::path::Path) -> Arc<Shared> {
    commanded(dir).0
}

/// The same, with what its writer loop is told.
pub(crate) fn commanded(dir: &std::path::Path) -> (Arc<Shared>, Receiver<Command>) {
    let volume = Volume::open(&dir.join("media"), segment::Role::Recorder).unwrap();
    let held = Held {
        clock: RetentionClock::load(&volume, 0, 0).unwrap(),
        catalogue: Catalogue::default(),
        volume,
    };
    let (commands, inbox) = sync_channel(8);
    let metrics = Arc::new(Metrics::new("m-0"));
    (
        Arc::new(Shared::new("m-0".into(), held, metrics, commands)),
        inbox,
    )
}

fn entry(store: Uuid, sequence: u64) -> SealedEntry {
    let id = SegmentId {
        stream: Uuid::from_u128(7),
        store,
        member: "m-0".into(),
        incarnation: 1,
        sequence,
    };
    let start_us = 1_000 * sequence.cast_signed();
    SealedEntry {
        header: header(id),
        length: 100,
        root: [1; 32],
        head_len: 10,
        extent: Extent {
            start_us,
            end_us: start_us + 1_000,
            dts: (0, 90),
            duration: 90,
            frames: 1,
            fragments: 1,
            paused: 0,
        },
        signature: None,
    }
}

/// A segment of the peer on the volume, which goes on.
fn received(shared: &Shared, sequence: u64) -> SegmentId {
    let header = entry(Uuid::from_u128(9), sequence).header;
    let id = header.id.clone();
    let mut file = SegmentFile::create(&shared.volume, header, &track()).unwrap();
    let data: bytes::Bytes = [0, 0, 0, 2, 0x65, 1].to_vec().into();
    let sample = Sample {
        hash: segment::nal::frame_hash(&data, false),
        data,
        key: true,
        dts: 0,
        cts: 0,
        duration: 3600,
        wallclock_us: 0,
    };
    file.append(&[sample], &[]).unwrap();
    id
}

fn state(shared: &Shared, id: &SegmentId) -> Option<State> {
    shared.fresh_catalogue(id.stream).get(id).map(|copy| copy.state)
}

#[test]
fn what_cannot_be_read_for_a_moment_is_read_when_somebody_asks_again() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(dir.path());
    let id = received(&shared, 0);
    let (path, away) = (shared.volume.open_path(&id), dir.path().join("away"));
    std::fs::rename(&path, &away).unwrap();
    std::fs::create_dir(&path).unwrap();
    shared.grew(id.clone());
    assert_eq!(state(&shared, &id), None);
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&away, &path).unwrap();
    assert_eq!(state(&shared, &id), Some(State::Open));
    shared.grew(SegmentId { sequence: 1, ..id });
    state(&shared, &entry(Uuid::nil(), 0).header.id);
    assert!(shared.stale().is_empty(), "what is gone is not waited for");
}

#[test]
fn a_copy_that_was_closed_before_anyone_read_it_is_no_open_one() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(dir.path());
    let close = |id: &SegmentId| {
        let id = id.clone();
        shared.hear(ToRecorder::ReceivedPartial { id, len: 1 }, Duration::ZERO);
    };
    let (unread, read) = (received(&shared, 0), received(&shared, 1));
    shared.grew(unread.clone());
    close(&unread);
    assert_eq!(state(&shared, &unread), Some(State::Partial));
    shared.grew(read.clone());
    assert_eq!(state(&shared, &read), Some(State::Open));
    close(&read);
    assert_eq!(state(&shared, &read), Some(State::Partial));
    let sealed = entry(Uuid::from_u128(9), 2);
    let id = sealed.header.id.clone();
    shared.received_sealed(sealed);
    shared.stale().insert(id.clone(), State::Partial);
    assert_eq!(state(&shared, &id), Some(State::Sealed));
}

#[test]
fn i9_a_loop_that_could_not_be_asked_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, inbox) = commanded(dir.path());
    (0..9).for_each(|epoch| shared.hear(ToRecorder::Withdraw { epoch }, Duration::ZERO));
    shared.replicator_gone();
    let looks = |inbox: &Receiver<Command>| {
        let asked = inbox.try_iter().filter(|c| matches!(c, Command::Look));
        asked.count()
    };
    assert_eq!(looks(&inbox), 0, "it takes no more");
    shared.replicator_gone();
    shared.replicator_gone();
    assert_eq!(looks(&inbox), 1, "once until it looks");
}

#[test]
fn a_new_replicator_is_told_of_the_newest_of_what_was_written_here() {
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(dir.path());
    let (here, elsewhere) = (shared.volume.store(), Uuid::from_u128(9));
    let of_both = (0..100).flat_map(|sequence| [entry(here, sequence), entry(elsewhere, sequence)]);
    for entry in of_both {
        let origin = shared.origin(&entry.header.id);
        let copy = Copy::from_entry(entry, None, origin, 0);
        shared.catalogue().upsert(copy);
    }
    let told = shared.snapshot();
    assert!(matches!(&told[0], ToReplicator::Hello { store, .. } if *store == here));
    let sealed = told[1..].iter().map(|message| match message {
        ToReplicator::Sealed { held } => (held.id.store, held.id.sequence),
        other => panic!("{other:?}"),
    });
    let newest: Vec<(Uuid, u64)> = (36..100).rev().map(|sequence| (here, sequence)).collect();
    assert_eq!(sealed.collect::<Vec<_>>(), newest);
}
