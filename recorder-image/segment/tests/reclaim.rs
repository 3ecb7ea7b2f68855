//! Duplicates on a real volume: pins in the ledger, files that are read again, restarts at every moment.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use bytes::Bytes;
use segment::parts::{Detail, gops};
use segment::reclaim::propose::{MARGIN_US, kept_instead_of};
use segment::reclaim::{PeerPins, Pin, Proof, Stays, may_remove};
use segment::{
    Audio, AudioCodec, AudioTrack, Catalogue, Ledger, Packet, Record, Role, Root, SealedEntry, SegmentFile,
    SegmentId, Track, Volume,
};
use uuid::Uuid;

use crate::common::{clip, folder, header, sample};

const STREAM: Uuid = Uuid::from_u128(1);
/// Of two seconds.
const DOUBLED: std::ops::Range<u64> = 75..125;

/// A volume with five seconds of one writer, and two of them of another one.
struct Bed {
    _dir: tempfile::TempDir,
    volume: Volume,
    ledger: Ledger,
    pin: Pin,
}

/// A sealed segment with sound in the frames that `sounds` allows.
fn sealed(
    volume: &Volume,
    store: u128,
    range: std::ops::Range<u64>,
    sounds: Option<fn(u64) -> bool>,
) -> SealedEntry {
    let audio = Audio {
        codec: AudioCodec::Pcmu,
        rate: 8000,
        channels: 1,
    };
    let mut head = header(
        1,
        Uuid::from_u128(store),
        &format!("m-{store}"),
        store as u64,
        0,
        range.start,
    );
    (head.owner, head.audio) = (store == 1, sounds.map(|_| audio));
    let track = Track {
        audio: sounds.map(|_| AudioTrack::g711(audio).unwrap()),
        ..clip().track.clone()
    };
    let mut file = SegmentFile::create(volume, head, &track).unwrap();
    for n in range.step_by(5) {
        let samples: Vec<_> = (n..n + 5).map(sample).collect();
        let packet = |n: u64| Packet {
            data: Bytes::from(vec![7; 320]),
            time: n * 320,
            duration: 320,
        };
        let heard = (n..n + 5).filter(|n| sounds.is_some_and(|sounds| sounds(*n)));
        file.append(&samples, &heard.map(packet).collect::<Vec<_>>())
            .unwrap();
    }
    volume.sync().unwrap();
    file.finish().rename().unwrap().entry
}

impl Bed {
    fn new(kept: Option<fn(u64) -> bool>, duplicate: Option<fn(u64) -> bool>) -> Self {
        let (dir, path) = folder();
        let volume = Volume::open(&path, Role::Recorder).unwrap();
        let (mut ledger, _) = Ledger::open(&volume, STREAM, Role::Recorder).unwrap();
        let kept = sealed(&volume, 1, 0..125, kept);
        let duplicate = sealed(&volume, 2, DOUBLED, duplicate);
        let pin = Pin {
            duplicate: duplicate.header.id.clone(),
            kept: vec![kept.header.id.clone()],
        };
        for (entry, received_s) in [(kept, 100), (duplicate, 900)] {
            let entry = Box::new(entry);
            ledger.append(&Record::Sealed { entry, received_s }).unwrap();
        }
        let mut bed = Self {
            _dir: dir,
            volume,
            ledger,
            pin,
        };
        bed.write(&Record::Pinned {
            duplicate: bed.pin.duplicate.clone(),
            kept: bed.pin.kept.clone(),
            received_s: 900,
        });
        bed
    }

    fn write(&mut self, record: &Record) {
        self.ledger.append(record).unwrap();
        self.volume.sync().unwrap();
    }

    fn load(&self) -> Catalogue {
        let (mut catalogue, report) = Catalogue::load(&self.volume, 5000).unwrap();
        assert_eq!((report.missing, report.rebuilt), (vec![], vec![]));
        catalogue.pins_synced();
        catalogue
    }

    fn asked(&self) -> Result<(), Stays> {
        let Ok(proof) = Proof::read(&self.volume, self.pin.clone()) else {
            return Err(Stays::Changed);
        };
        let mut peer = PeerPins::default();
        peer.hear([self.pin.clone()]);
        may_remove(&proof, &self.load(), &peer, true, |_| false)
    }
}

#[test]
fn a_restart_knows_what_is_pinned_and_what_is_gone() {
    let mut bed = Bed::new(None, None);
    let before = bed.load();
    let copy = before.get(&bed.pin.duplicate).unwrap().clone();
    let around = (copy.start_us() - MARGIN_US, copy.end_us() + MARGIN_US);
    let read = |id: &SegmentId, root: &Root| bed.volume.index(id, root);
    let gops = gops(&before.parts_of(STREAM, around, Detail::Groups), around, read).unwrap();
    assert_eq!(
        kept_instead_of(&bed.pin.duplicate, &gops),
        Some(bed.pin.kept.clone())
    );
    assert!(before.stream(STREAM).unwrap().pins.is_durable(&bed.pin));
    assert_eq!(before.get(&bed.pin.kept[0]).unwrap().received_s, 900, "I11");
    assert_eq!(bed.asked(), Ok(()));

    // Killed after the record, before the removal: the file is the truth.
    bed.write(&Record::Reclaimed {
        id: bed.pin.duplicate.clone(),
        kept: bed.pin.kept.clone(),
        length: copy.length,
        root: copy.root.unwrap(),
        span_us: (copy.start_us(), copy.end_us()),
    });
    let noted = bed.load();
    assert_eq!(noted.get(&bed.pin.duplicate).map(|c| c.received_s), Some(900));
    assert_eq!(noted.reclaimed().count(), 0);
    assert_eq!(bed.asked(), Ok(()), "and it is found again");

    let path = bed.volume.sealed_path(&bed.pin.duplicate);
    std::fs::remove_file(path).unwrap();
    let after = bed.load();
    let gone: Vec<_> = after.reclaimed().collect();
    assert_eq!(
        (gone.len(), &gone[0].id, gone[0].root),
        (1, &bed.pin.duplicate, copy.root)
    );
    let line = after
        .inventory()
        .into_iter()
        .find(|held| held.id == bed.pin.duplicate);
    assert!(line.is_some_and(|held| held.reclaimed && held.length == copy.length));
    assert!(after.stream(STREAM).unwrap().pins.keeps(&bed.pin.kept[0]));

    // Once retention reached its time nobody has to know of it any more.
    let (id, end_us) = (bed.pin.kept[0].clone(), 60_000_000);
    bed.write(&Record::Evicted { id, end_us });
    std::fs::remove_file(bed.volume.sealed_path(&bed.pin.kept[0])).unwrap();
    let (last, _) = Catalogue::load(&bed.volume, 5000).unwrap();
    assert_eq!((last.reclaimed().count(), last.durable_pins().len()), (0, 0));
}

#[test]
fn a_pin_does_not_count_while_what_it_keeps_is_not_here() {
    let bed = Bed::new(None, None);
    std::fs::remove_file(bed.volume.sealed_path(&bed.pin.kept[0])).unwrap();
    let (mut catalogue, report) = Catalogue::load(&bed.volume, 5000).unwrap();
    assert_eq!(report.missing, bed.pin.kept);
    catalogue.pins_synced();
    assert!(!catalogue.stream(STREAM).unwrap().pins.is_durable(&bed.pin));
    Proof::read(&bed.volume, bed.pin.clone()).unwrap_err();
}

#[test]
fn one_bad_byte_anywhere_in_what_stays_keeps_the_duplicate() {
    let bed = Bed::new(None, None);
    let path = bed.volume.sealed_path(&bed.pin.kept[0]);
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(good.len() / 200) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        std::fs::write(&path, bad).unwrap();
        assert!(bed.asked().is_err(), "byte {at} of {}", good.len());
    }
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(bed.asked().is_err(), "cut");
    std::fs::write(&path, &good).unwrap();
    assert_eq!(bed.asked(), Ok(()));
}

#[test]
fn a_duplicate_with_more_sound_stays() {
    let always: Option<fn(u64) -> bool> = Some(|_| true);
    let stops: Option<fn(u64) -> bool> = Some(|n| n < 90);
    let cases = [
        ("both have all", always, always, Ok(())),
        ("only what stays has any", always, None, Ok(())),
        (
            "only the duplicate has any",
            None,
            always,
            Err(Stays::OtherTracks),
        ),
        ("it stops in what stays", stops, always, Err(Stays::OtherTracks)),
        ("it stops in the duplicate", always, stops, Ok(())),
    ];
    for (what, kept, duplicate, expected) in cases {
        assert_eq!(Bed::new(kept, duplicate).asked(), expected, "{what}");
    }
}

#[test]
fn pins_of_duplicates_that_are_gone_make_room() {
    let mut peer = PeerPins::default();
    let id = |n: u64| SegmentId {
        sequence: n,
        ..header(1, uuid::Uuid::from_u128(1), "a", 1, 0, 0).id
    };
    let pin = |n: u64| Pin {
        duplicate: id(n),
        kept: vec![id(n + 1_000_000)],
    };
    let most = (0..1_u64 << 20).find(|n| {
        peer.hear([pin(*n)]);
        peer.is_full()
    });
    let next = pin(most.unwrap() + 1);
    peer.hear([next.clone()]);
    assert!(!peer.has(&next), "as many as it may remember");
    peer.forget(|duplicate| duplicate.sequence < 10);
    peer.hear([next.clone()]);
    assert!(peer.has(&next) && peer.has(&pin(10)) && !peer.has(&pin(9)));
}
