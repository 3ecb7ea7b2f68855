//! Duplicates over a real folder: what has to be so before one goes, and what a fault between a check and an act leaves.

use segment::reclaim::{Pin, Proof};
use segment::{Catalogue, Copy, Header, Origin, Sample, SegmentFile, SegmentId};

use super::*;
use crate::fixtures::{header, track};
use crate::local::ToRecorder;

/// Groups of ten frames.
const GROUP: u64 = 10;

fn sample(n: u64) -> Sample {
    let kind = if n.is_multiple_of(GROUP) { 0x65 } else { 0x41 };
    let data: Bytes = [&6u32.to_be_bytes()[..], &[kind], &(n as u32).to_be_bytes(), &[1]]
        .concat()
        .into();
    Sample {
        hash: segment::nal::frame_hash(&data, false),
        data,
        key: n.is_multiple_of(GROUP),
        dts: n * 3600,
        cts: 0,
        duration: 3600,
        wallclock_us: 1_700_000_000_000_000 + n as i64 * 40_000,
    }
}

/// A bed whose volume has frames `0..60` of one writer, and of another one the frames `range` of them.
struct Doubled {
    bed: Bed,
    pin: Pin,
    told: tokio::sync::broadcast::Receiver<Arc<[ToReplicator]>>,
}

impl Doubled {
    fn new(range: std::ops::Range<u64>) -> Self {
        let bed = Bed::new();
        let kept = vec![receive(&bed.shared, 1, 0..60, 100)];
        let duplicate = receive(&bed.shared, 2, range, 500);
        let told = bed.shared.events.subscribe();
        let pin = Pin { duplicate, kept };
        Self { bed, pin, told }
    }

    /// The peer is heard now, and says that it pinned the same.
    fn agree(&self) {
        self.hear(true);
        let (pins, anew) = (vec![self.pin.clone()], false);
        self.bed.shared.hear(ToRecorder::PeerPinned { pins, anew }, now());
    }

    fn hear(&self, heard: bool) {
        let peer = Peer {
            heard,
            ..Peer::default()
        };
        self.bed.shared.pair.set_peer(peer, now());
    }

    fn proof(&self) -> Proof {
        Proof::read(&self.bed.shared.volume, self.pin.clone()).unwrap()
    }

    fn is_here(&self) -> bool {
        let path = self.bed.shared.volume.sealed_path(&self.pin.duplicate);
        let known = self.bed.shared.catalogue().get(&self.pin.duplicate).is_some();
        assert_eq!(path.exists(), known, "the catalogue says what the folder has");
        known
    }

    /// Asks for the removal, and whether the duplicate is there after the next commits.
    fn stays(&mut self) -> bool {
        let proof = self.proof();
        self.bed.writer.reclaim(proof);
        self.bed.run(WHILE);
        self.is_here()
    }

    fn pinned(&mut self) {
        self.bed.writer.pin(self.pin.clone());
        self.bed.run(WHILE);
    }

    /// How often the replicator was told of the pin, and of the removal.
    fn said(&mut self) -> (usize, usize) {
        let mut said = (0, 0);
        while let Ok(messages) = self.told.try_recv() {
            for message in &*messages {
                match message {
                    ToReplicator::Pinned { pins } if pins.contains(&self.pin) => said.0 += 1,
                    ToReplicator::Reclaimed { held } if held.id == self.pin.duplicate => said.1 += 1,
                    _ => {}
                }
            }
        }
        said
    }

    fn loaded(&self) -> (Catalogue, segment::catalogue::LoadReport) {
        Catalogue::load(&self.bed.shared.volume, 1000).unwrap()
    }
}

/// Puts a segment on the volume as if it had come from a peer: with a record of its receipt.
pub(in crate::recorder) fn receive(
    shared: &Shared,
    store: u128,
    range: std::ops::Range<u64>,
    received_s: i64,
) -> SegmentId {
    receive_of(GOOD, shared, store, range, received_s)
}

/// The same of any stream.
pub(in crate::recorder) fn receive_of(
    stream: StreamUid,
    shared: &Shared,
    store: u128,
    range: std::ops::Range<u64>,
    received_s: i64,
) -> SegmentId {
    let id = SegmentId {
        stream,
        store: Uuid::from_u128(store),
        member: format!("m-{store}"),
        incarnation: 1,
        sequence: 0,
    };
    let header = Header {
        stream_name: "good".into(),
        owner: store == 1,
        run: id.store,
        opened_us: sample(range.start).wallclock_us,
        clock: ClockSource::Camera,
        ..header(id.clone())
    };
    let volume = &shared.volume;
    let mut file = SegmentFile::create(volume, header, &track()).unwrap();
    for part in range.map(sample).collect::<Vec<_>>().chunks(5) {
        file.append(part, &[]).unwrap();
    }
    let entry = file.finish().rename().unwrap().entry;
    let (mut ledger, _) = segment::Ledger::open(volume, stream, Role::Replicator).unwrap();
    let record = Record::Received {
        entry: Box::new(entry.clone()),
        received_s,
        from: id.member.clone(),
    };
    ledger.append(&record).unwrap();
    let copy = Copy::from_entry(entry, None, Origin::Peer, received_s);
    shared.catalogue().upsert(copy);
    id
}

#[tokio::test]
async fn a_duplicate_goes_when_both_ledgers_pin_it_and_its_frames_were_read_elsewhere() {
    let mut doubled = Doubled::new(20..40);
    doubled.hear(true);
    assert!(doubled.stays(), "nobody pinned it");
    doubled.agree();
    assert!(doubled.stays(), "only the peer did");
    doubled.bed.shared.peer_pins().clear();
    doubled.pinned();
    assert_eq!(doubled.said(), (1, 0));
    doubled.hear(true);
    assert!(doubled.stays(), "only this side did");
    doubled.agree();
    doubled.hear(false);
    assert!(doubled.stays(), "I7: the peer is silent");
    doubled.agree();
    let length = doubled
        .bed
        .shared
        .catalogue()
        .get(&doubled.pin.duplicate)
        .unwrap()
        .length;
    assert!(!doubled.stays());
    assert_eq!(doubled.said(), (0, 1));
    assert_eq!(doubled.bed.shared.metrics.reclaimed_bytes.get(), length);

    // A restart changes nothing.
    let (catalogue, report) = doubled.loaded();
    assert_eq!((report.missing, report.rebuilt), (vec![], vec![]));
    let held: Vec<_> = catalogue
        .reclaimed()
        .map(|held| (&held.id, held.length))
        .collect();
    assert_eq!(held, [(&doubled.pin.duplicate, length)]);
    let kept = catalogue.get(&doubled.pin.kept[0]).unwrap();
    assert_eq!(kept.received_s, 500, "I11: the later receipt");
    assert_eq!(kept.extent.frames, 60);
    assert!(catalogue.stream(GOOD).unwrap().pins.keeps(&doubled.pin.kept[0]));
}

#[tokio::test]
async fn what_does_not_hold_every_frame_takes_nothing_away() {
    // Four frames are nowhere else.
    let mut doubled = Doubled::new(50..64);
    doubled.pinned();
    doubled.agree();
    assert!(doubled.stays());
    // A byte of what would stay goes bad.
    let mut doubled = Doubled::new(20..40);
    doubled.pinned();
    doubled.agree();
    let path = doubled.bed.shared.volume.sealed_path(&doubled.pin.kept[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    Proof::read(&doubled.bed.shared.volume, doubled.pin.clone()).unwrap_err();
}

#[tokio::test]
async fn whoever_freezes_between_a_check_and_an_act_does_no_harm() {
    // The record is in the ledger, the sync fails, and when the next one works the peer is gone.
    let mut doubled = Doubled::new(20..40);
    doubled.pinned();
    doubled.agree();
    let proof = doubled.proof();
    doubled.bed.writer.reclaim(proof.clone());
    doubled.bed.writer.volume.faults.failing = 1;
    doubled.bed.run(WHILE);
    assert!(doubled.is_here(), "I10: nothing of it is durable");
    doubled.hear(false);
    doubled.bed.run(Duration::from_millis(1500));
    assert!(doubled.is_here());
    let (catalogue, _) = doubled.loaded();
    assert!(
        catalogue.get(&doubled.pin.duplicate).is_some(),
        "the file is the truth"
    );
    assert_eq!(catalogue.reclaimed().count(), 0);
    // What was read before, retention has removed meanwhile.
    doubled.agree();
    let kept = doubled.pin.kept[0].clone();
    doubled.bed.shared.catalogue().evict(&kept, 0);
    doubled.bed.writer.reclaim(proof);
    doubled.bed.run(WHILE);
    assert!(doubled.is_here());
}

#[tokio::test]
async fn a_pin_counts_only_once_it_is_synced_and_none_contradicts_another() {
    let mut doubled = Doubled::new(20..40);
    doubled.agree();
    doubled.bed.writer.volume.sync().unwrap();
    doubled.bed.writer.volume.faults.failing = 1;
    doubled.bed.writer.pin(doubled.pin.clone());
    let proof = doubled.proof();
    doubled.bed.writer.reclaim(proof);
    doubled.bed.run(WHILE);
    assert!(doubled.is_here());
    assert_eq!(doubled.said(), (0, 0), "not synced");
    doubled.bed.run(Duration::from_millis(1500));
    assert_eq!(doubled.said(), (1, 0));
    let crossed = Pin {
        duplicate: doubled.pin.kept[0].clone(),
        kept: vec![doubled.pin.duplicate.clone()],
    };
    doubled.bed.writer.pin(crossed.clone());
    doubled.bed.run(WHILE);
    let pins = doubled.bed.shared.catalogue().durable_pins();
    assert_eq!(pins, [doubled.pin.clone()]);
    // A peer that may give up what stays here is not agreed with.
    doubled.agree();
    let (pins, anew) = (vec![crossed], false);
    doubled
        .bed
        .shared
        .hear(ToRecorder::PeerPinned { pins, anew }, now());
    assert!(doubled.stays());
}
