//! Which ledger files say nothing any more of what is here: they leave, so that a volume's ledgers are as long as its media, and not
//! as its life.

use crate::catalogue::Stream;
use crate::copy::Copy;
use crate::error::{Error, Result};
use crate::id::{SegmentId, StreamUid};
use crate::ledger::{Record, old_file};
use crate::volume::{Role, Volume};

/// Removes the oldest file of a ledger, if it has successors and each of its records is spent. Returns whether it did. Only the recorder
/// removes anything; `spent` asks its catalogue, as [`are_spent`] does.
///
/// # Errors
/// [`Error::Io`].
pub fn trim(volume: &Volume, uid: StreamUid, role: Role, spent: impl Fn(&[Record]) -> bool) -> Result<bool> {
    let Some((path, records)) = old_file(volume, uid, role)? else {
        return Ok(false);
    };
    if !spent(&records) {
        return Ok(false);
    }
    std::fs::remove_file(&path).map_err(|e| Error::io(path, e))?;
    Ok(true)
}

/// Whether a stream needs none of these records: they are of segments that are gone, and of a time before all that is here. Pure.
pub fn are_spent(records: &[Record], stream: &Stream) -> bool {
    let Some(floor_us) = stream.floor_us else {
        return false;
    };
    let begins = stream.copies.values().map(Copy::start_us).min();
    let horizon_us = begins.map_or(floor_us, |begins| begins.min(floor_us));
    // What a clock that was ahead stamped is of no time that is here either.
    let newest_us = stream.copies.values().map(Copy::end_us).max();
    let is_of_none = |start_us, end_us| end_us < horizon_us || newest_us.is_some_and(|us| start_us > us);
    let gone = |id: &SegmentId| !stream.copies.contains_key(id);
    records.iter().all(|record| match record {
        Record::Opened { id } | Record::Partial { id, .. } | Record::Quarantined { id, .. } => gone(id),
        Record::Sealed { entry, .. } | Record::Received { entry, .. } => gone(&entry.header.id),
        // One that lasts is here still, and ends it.
        Record::Gap(gap) => {
            let end_us = gap.end_us.unwrap_or(gap.start_us);
            is_of_none(gap.start_us, end_us) && stream.gaps.open_since() != Some(gap.start_us)
        }
        Record::Note { at_us, .. } => is_of_none(*at_us, *at_us),
        // The newest of them is the floor.
        Record::Evicted { end_us, .. } => *end_us < floor_us,
        // What is kept inherited the time of receipt from this record.
        Record::Pinned { kept, .. } => kept.iter().all(gone),
        Record::Reclaimed { id, .. } => gone(id) && !stream.reclaimed.contains_key(id),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use uuid::Uuid;

    use super::*;
    use crate::catalogue::Catalogue;
    use crate::copy::Origin;
    use crate::entry::{Extent, SealedEntry};
    use crate::header::{ClockSource, Header};
    use crate::inventory::Held;
    use crate::ledger::Gap;
    use crate::reclaim::Pin;

    const STREAM: Uuid = Uuid::from_u128(1);

    fn id(sequence: u64) -> SegmentId {
        SegmentId {
            stream: STREAM,
            store: Uuid::nil(),
            member: "front-0".into(),
            incarnation: 1,
            sequence,
        }
    }

    /// A segment of ten seconds.
    fn entry(sequence: u64) -> SealedEntry {
        let opened_us = sequence as i64 * 10_000_000;
        let header = Header {
            id: id(sequence),
            stream_name: "door".into(),
            pair_epoch: 0,
            stream_epoch: 0,
            owner: true,
            run: Uuid::nil(),
            opened_us,
            clock: ClockSource::Own,
            hevc: false,
            audio: None,
        };
        SealedEntry {
            extent: Extent {
                end_us: opened_us + 10_000_000,
                ..Extent::begun(opened_us)
            },
            header,
            length: 10,
            root: [sequence as u8; 32],
            head_len: 1,
            signature: None,
        }
    }

    fn sealed(sequence: u64) -> Record {
        Record::Sealed {
            entry: Box::new(entry(sequence)),
            received_s: 0,
        }
    }

    fn evicted(sequence: u64) -> Record {
        Record::Evicted {
            id: id(sequence),
            end_us: entry(sequence).extent.end_us,
        }
    }

    fn gap(start_s: i64, end_s: Option<i64>) -> Record {
        Record::Gap(Gap {
            start_us: start_s * 1_000_000,
            end_us: end_s.map(|s| s * 1_000_000),
            cause: "Watchdog".into(),
            evidence: String::new(),
            frames: None,
        })
    }

    fn note(at_s: i64) -> Record {
        Record::Note {
            at_us: at_s * 1_000_000,
            what: String::new(),
        }
    }

    fn pinned(duplicate: u64, kept: u64) -> Record {
        Record::Pinned {
            duplicate: id(duplicate),
            kept: vec![id(kept)],
            received_s: 900,
        }
    }

    fn reclaimed(sequence: u64) -> Record {
        let extent = entry(sequence).extent;
        Record::Reclaimed {
            id: id(sequence),
            kept: vec![id(99)],
            length: 10,
            root: [0; 32],
            span_us: (extent.start_us, extent.end_us),
        }
    }

    /// Segments 5 and 6 are here; 0 to 3 left, so the floor is at 40 s; 7 was a duplicate and may be asked for yet.
    fn here() -> Catalogue {
        let mut catalogue = Catalogue::default();
        for sequence in [5, 6] {
            catalogue.upsert(Copy::from_entry(entry(sequence), None, Origin::Live, 0));
        }
        (0..4).for_each(|sequence| catalogue.apply(STREAM, evicted(sequence)));
        catalogue.apply(STREAM, reclaimed(7));
        catalogue
    }

    #[test]
    fn a_record_is_spent_when_nothing_that_is_here_needs_it() {
        let mut catalogue = here();
        catalogue.apply(STREAM, gap(12, None));
        let table = [
            ("of a segment that left", sealed(2), true),
            ("of one that is here", sealed(5), false),
            ("opened, and left", Record::Opened { id: id(2) }, true),
            ("opened, and here", Record::Opened { id: id(6) }, false),
            ("a gap of a time that left", gap(5, Some(8)), true),
            ("one that lasts", gap(12, None), false),
            ("one that reaches into what is here", gap(30, Some(41)), false),
            ("a note of a time that left", note(5), true),
            ("a note since", note(45), false),
            ("a note of a clock that was ahead", note(1 << 40), true),
            ("a gap of the same", gap(1 << 40, Some((1 << 40) + 1)), true),
            ("an eviction before the newest", evicted(2), true),
            ("the newest eviction: it is the floor", evicted(3), false),
            ("a pin for what left", pinned(1, 2), true),
            ("a pin whose time of receipt counts on", pinned(1, 5), false),
            ("a duplicate of a time that left", reclaimed(1), true),
            ("a duplicate that the peer may hold", reclaimed(7), false),
        ];
        let stream = catalogue.stream(STREAM).unwrap();
        for (what, record, spent) in table {
            assert_eq!(are_spent(&[note(1), record], stream), spent, "{what}");
        }
        let mut nothing_left = Catalogue::default();
        nothing_left.apply(STREAM, sealed(5));
        assert!(!are_spent(&[note(1)], nothing_left.stream(STREAM).unwrap()));
    }

    #[test]
    fn media_older_than_the_floor_keep_the_records_of_their_time() {
        let mut catalogue = here();
        // From the peer, after what was beside it here had left.
        catalogue.upsert(Copy::from_entry(entry(1), None, Origin::Peer, 500));
        let stream = catalogue.stream(STREAM).unwrap();
        assert!(are_spent(&[gap(3, Some(8)), note(9)], stream));
        assert!(!are_spent(&[gap(12, Some(14))], stream));
        assert!(!are_spent(&[note(11)], stream));
    }

    /// Copies, reclaimed duplicates, the floor, pins and gaps.
    type Found = (Vec<Copy>, Vec<Held>, Option<i64>, Vec<Pin>, Vec<Gap>);

    /// What a start finds, but for what is no more of interest.
    fn found(catalogue: &Catalogue) -> Found {
        let mut catalogue = catalogue.clone();
        catalogue.pins_synced();
        let stream = catalogue.stream(STREAM).unwrap();
        let begins = stream
            .copies
            .values()
            .map(Copy::start_us)
            .min()
            .unwrap_or(i64::MAX);
        let later = stream
            .gaps
            .iter()
            .filter(|gap| gap.end_us.is_none_or(|end| end >= begins));
        (
            stream.copies.values().cloned().collect(),
            catalogue.reclaimed().cloned().collect(),
            stream.floor_us,
            catalogue.durable_pins(),
            later.cloned().collect(),
        )
    }

    /// Days of a stream: what a start finds is the same before and after old files leave, and they do leave.
    #[test]
    fn a_start_finds_the_same_after_old_files_left() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::open(dir.path(), Role::Recorder).unwrap();
        let (mut ledger, _) = crate::Ledger::open(&volume, STREAM, Role::Recorder).unwrap();
        let mut write = |record: Record| {
            ledger.append(&record).unwrap();
            ledger.synced();
        };
        let kept = 40;
        let numbers = || {
            let names = crate::volume::file_names(&volume.stream_dir(STREAM)).unwrap();
            names.into_iter().filter(|name| name.ends_with(".ledger")).count()
        };
        let mut most = 0;
        for sequence in 0..400 {
            let second = sequence as i64 * 10;
            let file = volume.sealed_path(&id(sequence));
            std::fs::write(&file, b"").unwrap();
            write(sealed(sequence));
            write(Record::Note {
                at_us: second * 1_000_000,
                what: "x".repeat(100_000),
            });
            match sequence % 10 {
                3 => write(gap(second + 2, None)),
                4 => write(gap(second - 8, Some(second - 3))),
                6 => write(pinned(sequence - 1, sequence)),
                7 => {
                    std::fs::remove_file(volume.sealed_path(&id(sequence - 2))).unwrap();
                    write(reclaimed(sequence - 2));
                }
                _ => {}
            }
            if let Some(old) = sequence.checked_sub(kept) {
                write(evicted(old));
                let _ = std::fs::remove_file(volume.sealed_path(&id(old)));
            }
            if sequence % 50 == 49 {
                let (before, _) = Catalogue::load(&volume, i64::from(i32::MAX)).unwrap();
                let stream = before.stream(STREAM).unwrap();
                while trim(&volume, STREAM, Role::Recorder, |records| {
                    are_spent(records, stream)
                })
                .unwrap()
                {}
                let (after, report) = Catalogue::load(&volume, i64::from(i32::MAX)).unwrap();
                assert_eq!(found(&after), found(&before));
                assert_eq!(report.missing, []);
                most = most.max(numbers());
            }
        }
        // A tenth of it is kept, and what was begun.
        assert!(most <= 8, "{most} files of 40");
    }
}
