//! What a failed sync leaves in doubt: nothing of it is taken for durable, and what is written again is whole.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{clip, folder, header, sample};
use segment::{Error, Ledger, LedgerReader, Record, Role, Sample, SegmentFile, Volume};
use uuid::Uuid;

fn volume(path: &Path) -> Volume {
    Volume::open(path, Role::Recorder).unwrap()
}

fn pictures(range: std::ops::Range<u64>) -> Vec<Sample> {
    range.map(sample).collect()
}

/// What a page cache may do with a file after a failed sync: the bytes from `durable` on are not those written.
fn forget(path: &Path, durable: usize) {
    let mut data = std::fs::read(path).unwrap();
    data[durable..].fill(0);
    std::fs::write(path, data).unwrap();
}

#[test]
fn a_ledger_writes_again_what_a_failed_sync_lost() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let uid = Uuid::from_u128(1);
    let note = |at_us| Record::Note {
        at_us,
        what: "x".repeat(100),
    };
    let file = volume.stream_dir(uid).join("recorder.000000.ledger");
    let length = || std::fs::metadata(&file).unwrap().len() as usize;
    let records = || {
        let mut reader = LedgerReader::new(&volume, uid, Role::Recorder);
        reader.poll().unwrap()
    };
    let (mut ledger, _) = Ledger::open(&volume, uid, Role::Recorder).unwrap();
    // Not even the head was synced.
    ledger.append(&note(0)).unwrap();
    forget(&file, 0);
    ledger.rewrite().unwrap();
    assert_eq!(records(), [note(0)]);
    ledger.synced();
    let durable = length();
    ledger.append(&note(1)).unwrap();
    ledger.append(&note(2)).unwrap();
    forget(&file, durable);
    ledger.append(&note(3)).unwrap();
    assert_eq!(records(), [note(0)], "the others lie behind a hole");
    ledger.rewrite().unwrap();
    assert_eq!(records(), [note(0), note(1), note(2), note(3)]);
    ledger.synced();
    ledger.rewrite().unwrap();
    assert_eq!(records().len(), 4, "nothing to write again");
}

#[test]
fn a_ledger_that_is_never_synced_stays_within_memory() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let (mut ledger, _) = Ledger::open(&volume, Uuid::from_u128(1), Role::Recorder).unwrap();
    let mut note = || {
        let what = "x".repeat(8 << 20);
        ledger.append(&Record::Note { at_us: 0, what })
    };
    let refused = (0..8).find_map(|_| note().err());
    assert!(matches!(refused, Some(Error::NotSynced { .. })), "{refused:?}");
}

#[test]
fn i2_a_segment_is_closed_as_what_was_durable_before_a_failed_sync() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let mut file =
        SegmentFile::create(&volume, header(1, volume.store(), "a", 1, 0, 0), &clip().track).unwrap();
    let id = file.header().id.clone();
    let path = volume.open_path(&id);
    file.append(&pictures(0..25), &[]).unwrap();
    let (durable, chain) = (file.end(), file.chain());
    file.append(&pictures(25..50), &[]).unwrap();
    drop(file);
    // It can still be read; nobody may count on it.
    let resumed = SegmentFile::resume_durable(&volume, &id, durable).unwrap();
    assert_eq!((resumed.end(), resumed.chain()), (durable, chain));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), durable);
    let entry = resumed.finish().rename().unwrap().entry;
    assert_eq!(entry.extent.frames, 25);
    // Durable bytes that are gone are not made up.
    let mut file =
        SegmentFile::create(&volume, header(1, volume.store(), "a", 1, 1, 0), &clip().track).unwrap();
    let id = file.header().id.clone();
    file.append(&pictures(0..25), &[]).unwrap();
    let (head, durable) = (file.head_len(), file.end());
    forget(&volume.open_path(&id), head as usize);
    let resumed = SegmentFile::resume_durable(&volume, &id, durable).unwrap();
    assert_eq!(resumed.end(), head);
}

#[test]
fn i2_bytes_behind_the_end_of_a_segment_are_not_sealed() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let mut file =
        SegmentFile::create(&volume, header(1, volume.store(), "a", 1, 0, 0), &clip().track).unwrap();
    let id = file.header().id.clone();
    file.append(&pictures(0..25), &[]).unwrap();
    // A refused write that could not be cut off again.
    let open = volume.open_path(&id);
    let mut torn = std::fs::read(&open).unwrap();
    let end = torn.len() as u64;
    torn.extend([1; 9]);
    std::fs::write(&open, torn).unwrap();
    assert!(matches!(file.finish().rename(), Err(Error::Damaged { .. })));
    assert!(!volume.sealed_path(&id).exists());
    let closed = SegmentFile::resume_durable(&volume, &id, end).unwrap();
    assert_eq!(closed.finish().rename().unwrap().entry.length, end);
}
