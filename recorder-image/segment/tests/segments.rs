//! Segments written, read back, received and indexed; ffprobe and ffmpeg are the outside judges.

#![allow(clippy::unwrap_used)]

mod common;

use common::{clip, decode_errors, folder, gops, header, probed_frames, sample, write};
use segment::canonical::choose;
use segment::receive::Receiving;
use segment::{
    Catalogue, Error, Ledger, Record, Refusal, Role, Sample, SegmentFile, State, Volume, fmp4, hls, scan,
};

fn volume(path: &std::path::Path) -> Volume {
    Volume::open(path, Role::Recorder).unwrap()
}

#[test]
fn players_take_every_frame() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    assert_eq!(clip().frames.len(), 250);
    let file = write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..250);
    let id = file.header().id.clone();
    assert_eq!(probed_frames(&volume.open_path(&id)), 250, "while it is open");
    volume.sync().unwrap();
    let entry = file.finish().rename().unwrap().entry;
    let sealed = volume.sealed_path(&id);
    assert_eq!(
        (probed_frames(&sealed), decode_errors(&sealed)),
        (250, String::new())
    );
    assert_eq!(
        entry.root,
        *blake3::hash(&std::fs::read(&sealed).unwrap()).as_bytes()
    );
    assert_eq!((entry.extent.start_us, entry.extent.end_us), (0, 10_000_000));
}

#[test]
fn i2_a_sealed_segment_is_never_replaced() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let first = header(1, volume.store(), "a", 1, 0, 0);
    write(&volume, first.clone(), 0..25).finish().rename().unwrap();
    let again = SegmentFile::create(&volume, first.clone(), &clip().track);
    assert!(matches!(again, Err(Error::Exists(_))), "{again:?}");
}

#[test]
fn i2_a_seal_replaces_nothing() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let id = header(1, volume.store(), "a", 1, 0, 0);
    let first = write(&volume, id.clone(), 0..25);
    // Another process had the same identity, and was faster.
    std::fs::write(volume.sealed_path(&id.id), b"sealed before").unwrap();
    let sealed = first.finish().rename();
    assert!(matches!(sealed, Err(Error::Exists(_))), "{sealed:?}");
    let kept = std::fs::read(volume.sealed_path(&id.id)).unwrap();
    assert_eq!(kept, b"sealed before", "and the other file stays as it is");
    assert!(volume.open_path(&id.id).exists());
}

#[test]
fn frames_behind_a_block_that_was_lost_are_kept() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let file = write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..25);
    let (id, path) = (file.header().id.clone(), volume.open_path(&file.header().id));
    let ends: Vec<u64> = file.fragments().iter().map(segment::Fragment::end).collect();
    let whole = std::fs::read(&path).unwrap();
    let beside = || {
        let all = std::fs::read_dir(path.parent().unwrap()).unwrap();
        let all = all.map(|entry| entry.unwrap().path());
        all.filter(|path| path.extension().is_some_and(|end| end == "damaged"))
            .collect::<Vec<_>>()
    };
    // The second fragment is lost, and those behind it are whole.
    let mut damaged = whole.clone();
    damaged[ends[0] as usize + 64..ends[1] as usize].fill(0);
    for _ in 0..2 {
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(SegmentFile::resume(&volume, &id).unwrap().end(), ends[0]);
        let [kept] = &beside()[..] else {
            panic!("{:?}", beside())
        };
        let kept = std::fs::read(kept).unwrap();
        assert!(kept == damaged[ends[0] as usize..], "{} bytes", kept.len());
    }
    std::fs::remove_file(&beside()[0]).unwrap();
    // Nothing lies behind the last one.
    let mut torn = whole;
    let last = ends[ends.len() - 2] as usize;
    torn[last + 64..].fill(0);
    std::fs::write(&path, &torn).unwrap();
    assert_eq!(SegmentFile::resume(&volume, &id).unwrap().end(), last as u64);
    assert_eq!(beside().len(), 0);
}

#[test]
fn a_torn_tail_is_cut_after_the_last_whole_fragment() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let file = write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..25);
    let (id, path) = (file.header().id.clone(), volume.open_path(&file.header().id));
    let (ends, whole) = (
        file.fragments()
            .iter()
            .map(segment::Fragment::end)
            .collect::<Vec<_>>(),
        std::fs::read(&path).unwrap(),
    );
    for cut in (file.head_len() as usize..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let resumed = SegmentFile::resume(&volume, &id).unwrap();
        let expected = ends
            .iter()
            .copied()
            .filter(|e| *e <= cut as u64)
            .max()
            .unwrap_or(file.head_len());
        assert_eq!(resumed.end(), expected);
    }
    std::fs::write(&path, &whole).unwrap();
    let read_back = SegmentFile::resume(&volume, &id).unwrap();
    assert_eq!(
        (
            read_back.fragments(),
            read_back.hashes(),
            read_back.chain(),
            read_back.root()
        ),
        (file.fragments(), file.hashes(), file.chain(), file.root()),
        "what the writer noted is what its bytes say"
    );
    let mut flipped = whole.clone();
    flipped[ends[2] as usize + 300] ^= 1;
    let found = scan::scan_bytes(&flipped).unwrap();
    assert_eq!(
        (found.index.fragments.len(), found.torn.is_some()),
        (3, true),
        "a flipped bit is seen"
    );
}

/// A file is read a part at a time: fragments that are shorter and longer than what is read at once, and torn at each border.
#[test]
fn a_file_is_read_as_it_was_written_whatever_its_fragments_are_like() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let id = header(1, volume.store(), "a", 1, 0, 0);
    let mut file = SegmentFile::create(&volume, id, &clip().track).unwrap();
    let lengths = [
        100,
        300 << 10,
        5 << 20,
        100 << 10,
        200 << 10,
        4 << 20,
        9 << 20,
        10,
    ];
    for (n, length) in lengths.into_iter().cycle().take(20).enumerate() {
        let data = picture(length, n as u8);
        let sample = Sample {
            hash: segment::nal::frame_hash(&data, false),
            data,
            key: true,
            dts: n as u64 * 3600,
            cts: 0,
            duration: 3600,
            wallclock_us: n as i64 * 40_000,
        };
        file.append(&[sample], &[]).unwrap();
    }
    let path = volume.open_path(&file.header().id);
    let found = scan::scan(&path).unwrap();
    assert_eq!(
        (found.end, found.chain, found.torn),
        (file.end(), file.chain(), None)
    );
    assert_eq!(found.index.fragments, file.fragments());
    assert_eq!(found.index.hashes, file.hashes());
    assert_eq!(found.hasher.finalize().as_bytes(), &file.root());
    for fragment in file.fragments().iter().rev() {
        for cut in [fragment.end() - 1, fragment.offset + 1, fragment.offset] {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(cut).unwrap();
            let found = scan::scan(&path).unwrap();
            let expected = (fragment.offset, cut > fragment.offset);
            assert_eq!((found.end, found.torn.is_some()), expected);
        }
    }
}

/// A key frame of so many bytes and two.
fn picture(length: usize, n: u8) -> bytes::Bytes {
    let mut data = (length as u32 + 2).to_be_bytes().to_vec();
    data.extend([0x65, n]);
    data.extend((0..length).map(|i| (i % 251) as u8 | 1));
    data.into()
}

#[test]
fn i4_received_bytes_count_only_after_they_were_proven() {
    let ((_d1, p1), (_d2, p2)) = (folder(), folder());
    let (writer, keeper) = (volume(&p1), volume(&p2));
    let file = write(&writer, header(1, writer.store(), "a", 1, 0, 0), 0..50);
    let id = file.header().id.clone();
    let bytes = std::fs::read(writer.open_path(&id)).unwrap();
    let part = |f: &segment::Fragment| &bytes[f.offset as usize..f.end() as usize];
    let fragments = file.fragments().to_vec();
    let mut chain = segment::hash::chain_start(&bytes[..file.head_len() as usize]);
    let mut copy = Receiving::create(&keeper, &id, &bytes[..file.head_len() as usize]).unwrap();
    for (i, f) in fragments.iter().enumerate() {
        chain = segment::hash::chain_next(&chain, part(f));
        let mut bad = part(f).to_vec();
        bad[f.len as usize / 2] ^= 4;
        let later = segment::hash::chain_next(&chain, part(f));
        assert!(matches!(
            copy.append(f.offset, &later, part(f)),
            Err(Refusal::BrokenChain(_))
        ));
        // The chain is of the hash that a fragment carries, and so is as good as that.
        assert_eq!(segment::hash::chain_next(&copy.file().chain(), &bad), chain);
        assert!(
            matches!(
                copy.append(f.offset, &chain, &bad),
                Err(Refusal::Malformed { .. })
            ),
            "fragment {i}"
        );
        assert!(matches!(
            copy.append(f.offset + 1, &chain, part(f)),
            Err(Refusal::WrongOffset { .. })
        ));
        assert_eq!(
            copy.append(f.offset, &chain, part(f)).unwrap().frames.len(),
            f.frames as usize
        );
    }
    let entry = file.finish().entry().clone();
    let mut wrong = entry.root;
    wrong[0] ^= 1;
    for (length, root) in [(entry.length, wrong), (entry.length - 1, entry.root)] {
        assert!(copy.finish(length, &root).unwrap_err().blames_peer());
        copy = Receiving::resume(&keeper, &id).unwrap();
    }
    let sealed = copy.finish(entry.length, &entry.root).unwrap().rename().unwrap();
    assert_eq!(sealed.entry, entry);
    let second = Receiving::create(&keeper, &id, &bytes[..entry.head_len as usize]).unwrap_err();
    assert!(matches!(second, Refusal::SecondContent(_)));
}

/// Asks of a peer that says anything, at any place: what is here stays, byte for byte.
#[test]
fn i3_no_message_takes_away_a_byte_of_a_copy() {
    let ((_d1, p1), (_d2, p2)) = (folder(), folder());
    let (writer, keeper) = (volume(&p1), volume(&p2));
    let file = write(&writer, header(1, writer.store(), "a", 1, 0, 0), 0..50);
    let id = file.header().id.clone();
    let bytes = std::fs::read(writer.open_path(&id)).unwrap();
    let mut copy = Receiving::create(&keeper, &id, &bytes[..file.head_len() as usize]).unwrap();
    let mut chains = vec![copy.file().chain()];
    for f in file.fragments() {
        let part = &bytes[f.offset as usize..f.end() as usize];
        chains.push(segment::hash::chain_next(&chains[chains.len() - 1], part));
        copy.append(f.offset, &chains[chains.len() - 1], part).unwrap();
    }
    for (i, f) in file.fragments().iter().enumerate() {
        let part = &bytes[f.offset as usize..f.end() as usize];
        for (offset, chain) in [
            (f.offset, chains[i + 1]),
            (f.offset, chains[i]),
            (0, chains[0]),
            (f.end() - 1, [0; 32]),
        ] {
            let said = copy.append(offset, &chain, part);
            let here = std::fs::read(keeper.open_path(&id)).unwrap();
            assert!(here == bytes, "bytes that were here are gone");
            assert!(matches!(said, Err(Refusal::WrongOffset { .. })), "{said:?}");
        }
    }
}

/// A power cut leaves a copy without its head, or with a part of it: the peer's media is not refused for that, and nothing is replaced.
#[test]
fn i1_i3_a_copy_that_was_only_begun_is_gone_on_with() {
    let ((_d1, p1), (_d2, p2)) = (folder(), folder());
    let (writer, keeper) = (volume(&p1), volume(&p2));
    let file = write(&writer, header(1, writer.store(), "a", 1, 0, 0), 0..5);
    let id = file.header().id.clone();
    let head = file.read_at(0, file.head_len() as usize).unwrap();
    keeper.create_stream_dir(id.stream).unwrap();
    for kept in [0, 1, 100, head.len() - 1] {
        std::fs::write(keeper.open_path(&id), &head[..kept]).unwrap();
        let copy = Receiving::create(&keeper, &id, &head).unwrap();
        assert_eq!(copy.file().end(), head.len() as u64);
        assert_eq!(std::fs::read(keeper.open_path(&id)).unwrap(), head);
    }
    std::fs::write(keeper.open_path(&id), &head).unwrap();
    let refusal = Receiving::create(&keeper, &id, &head).unwrap_err();
    assert!(matches!(refusal, Refusal::SecondContent(_)), "{refusal}");
    assert_eq!(std::fs::read(keeper.open_path(&id)).unwrap(), head);
}

/// A file system that lost the block of the head, and not what was written after it.
#[test]
fn i1_i3_a_copy_whose_head_is_lost_is_set_aside_once() {
    let ((_d1, p1), (_d2, p2)) = (folder(), folder());
    let (writer, keeper) = (volume(&p1), volume(&p2));
    let file = write(&writer, header(1, writer.store(), "a", 1, 0, 0), 0..5);
    let id = file.header().id.clone();
    let whole = std::fs::read(writer.open_path(&id)).unwrap();
    let head = &whole[..file.head_len() as usize];
    let mut damaged = whole.clone();
    damaged[..512].fill(0);
    keeper.create_stream_dir(id.stream).unwrap();
    std::fs::write(keeper.open_path(&id), &damaged).unwrap();
    let copy = Receiving::create(&keeper, &id, head).unwrap();
    assert_eq!(copy.file().end(), head.len() as u64);
    let aside = keeper.open_path(&id).with_extension("damaged");
    assert_eq!(std::fs::read(&aside).unwrap(), damaged);
    assert_eq!(std::fs::read(keeper.open_path(&id)).unwrap(), head);

    std::fs::write(keeper.open_path(&id), b"something else").unwrap();
    let refusal = Receiving::create(&keeper, &id, head).unwrap_err();
    assert!(matches!(refusal, Refusal::SecondContent(_)), "{refusal}");
    assert_eq!(std::fs::read(keeper.open_path(&id)).unwrap(), b"something else");
    assert_eq!(std::fs::read(&aside).unwrap(), damaged);
}

#[test]
fn i8_the_index_is_rebuilt_from_the_media_alone() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let mut ledger = Ledger::open(&volume, uuid::Uuid::from_u128(1), Role::Recorder)
        .unwrap()
        .0;
    for sequence in 0..3 {
        let from = sequence * 50;
        let file = write(
            &volume,
            header(1, volume.store(), "a", 1, sequence, from),
            from..from + 50,
        );
        let entry = Box::new(file.finish().rename().unwrap().entry);
        ledger.append(&Record::Sealed { entry, received_s: 7 }).unwrap();
    }
    drop(write(
        &volume,
        header(1, volume.store(), "a", 1, 3, 150),
        150..160,
    ));
    let (known, report) = Catalogue::load(&volume, 7).unwrap();
    assert_eq!((report.rebuilt.len(), report.partial.len()), (0, 1));
    std::fs::remove_file(
        volume
            .stream_dir(uuid::Uuid::from_u128(1))
            .join("recorder.000000.ledger"),
    )
    .unwrap();
    let (mut rebuilt, report) = Catalogue::load(&volume, 7).unwrap();
    assert_eq!((report.rebuilt.len(), report.partial.len()), (3, 1));
    for copy in known.copies().filter(|c| c.state == State::Sealed) {
        let mut found = rebuilt.get(copy.id()).unwrap().clone();
        found.chain = None;
        assert_eq!(&found, copy);
        rebuilt.upsert(found);
    }
    let frames: usize = choose(gops(&rebuilt, &volume))
        .iter()
        .map(|c| c.gop.hashes.len())
        .sum();
    assert_eq!(frames, 160);
}

#[test]
fn one_playlist_plays_over_the_seam_of_two_writers() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    // One member died in the middle of a group of pictures; the other has everything from the second before.
    let died = write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..110);
    let went_on = write(
        &volume,
        header(1, uuid::Uuid::from_u128(9), "b", 2, 0, 75),
        75..250,
    );
    drop((died, went_on));
    let (catalogue, _) = Catalogue::load(&volume, 0).unwrap();
    let chosen = choose(gops(&catalogue, &volume));
    let frames: usize = chosen.iter().map(|c| c.gop.hashes.len()).sum();
    assert_eq!(frames, 250);
    let text = hls::playlist(
        &chosen,
        &hls::Kind::Ended,
        |id| volume.open_path(id).to_string_lossy().replace(".open", ".mp4"),
        |id| catalogue.get(id).unwrap().head_len,
    );
    for copy in catalogue.copies() {
        std::fs::rename(volume.open_path(copy.id()), volume.sealed_path(copy.id())).unwrap();
    }
    let playlist = path.join("x.m3u8");
    std::fs::write(&playlist, &text).unwrap();
    assert_eq!(text.matches("EXT-X-GAP").count(), 0);
    assert_eq!(text.matches("EXT-X-MAP").count(), 2, "{text}");
    assert_eq!(probed_frames(&playlist), 250, "{text}");
}

#[test]
fn a_hole_is_said_in_the_playlist() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    drop(write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..50));
    drop(write(
        &volume,
        header(1, volume.store(), "a", 2, 0, 150),
        150..200,
    ));
    let (catalogue, _) = Catalogue::load(&volume, 0).unwrap();
    let chosen = choose(gops(&catalogue, &volume));
    let text = hls::playlist(&chosen, &hls::Kind::Ended, segment::SegmentId::stem, |_| 1);
    assert_eq!(text.matches("#EXT-X-GAP\n#EXTINF:4.000000,").count(), 1, "{text}");
    let gaps = segment::timeline::gaps(&chosen, &[], volume.store(), &segment::Compared::default());
    assert_eq!(
        (gaps.len(), gaps[0].start_us, gaps[0].end_us),
        (1, 2_000_000, Some(6_000_000))
    );
    assert_eq!(segment::timeline::spans(&chosen).len(), 2);
}

#[test]
fn i8_a_damaged_ledger_is_cut_and_says_so() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let uid = uuid::Uuid::from_u128(1);
    let note = |at_us| Record::Note {
        at_us,
        what: "x".repeat(100),
    };
    let file = volume.stream_dir(uid).join("recorder.000000.ledger");
    let (mut ledger, cut) = Ledger::open(&volume, uid, Role::Recorder).unwrap();
    assert!(cut.is_empty());
    for i in 0..10 {
        ledger.append(&note(i)).unwrap();
    }
    drop(ledger);
    let whole = std::fs::read(&file).unwrap();
    for at in [whole.len() - 1, whole.len() / 2, 45] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&file, &damaged).unwrap();
        let (mut ledger, cut) = Ledger::open(&volume, uid, Role::Recorder).unwrap();
        assert_eq!(cut.len(), 1);
        assert_eq!(cut[0].kept + cut[0].lost, whole.len() as u64);
        ledger.append(&note(99)).unwrap();
        let records = segment::LedgerReader::new(&volume, uid, Role::Recorder)
            .poll()
            .unwrap();
        assert_eq!(records.last(), Some(&note(99)));
    }
}

#[test]
fn a_ledger_is_read_as_it_grows_over_rotations() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let uid = uuid::Uuid::from_u128(1);
    let (mut ledger, _) = Ledger::open(&volume, uid, Role::Replicator).unwrap();
    let mut reader = segment::LedgerReader::new(&volume, uid, Role::Replicator);
    let mut read = 0;
    for i in 0..40 {
        ledger
            .append(&Record::Note {
                at_us: i,
                what: "x".repeat(1 << 16),
            })
            .unwrap();
        ledger.synced();
        for record in reader.poll().unwrap() {
            assert!(matches!(record, Record::Note { at_us, .. } if at_us == read));
            read += 1;
        }
    }
    assert_eq!(read, 40);
    assert_eq!(std::fs::read_dir(volume.stream_dir(uid)).unwrap().count(), 3);
}

#[test]
fn i5_epochs_only_rise_and_survive_a_torn_slot() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let mut slots = segment::EpochSlots::open(&volume).unwrap();
    for epoch in [1, 2, 7] {
        slots.raise(epoch).unwrap();
        assert!(slots.raise(epoch).is_err());
        assert_eq!(segment::EpochSlots::open(&volume).unwrap().epoch(), epoch);
    }
    let file = path.join("epoch");
    let whole = std::fs::read(&file).unwrap();
    for torn in [0, 4096] {
        let mut data = whole.clone();
        data[torn + 12] ^= 0xff;
        std::fs::write(&file, &data).unwrap();
        assert!([2, 7].contains(&segment::EpochSlots::open(&volume).unwrap().epoch()));
    }
}

#[test]
fn a_volume_has_one_process_of_each_role() {
    let (_dir, path) = folder();
    let recorder = volume(&path);
    assert!(matches!(
        Volume::open(&path, Role::Recorder),
        Err(Error::Locked { .. })
    ));
    let replicator = Volume::open(&path, Role::Replicator).unwrap();
    assert_eq!(recorder.store(), replicator.store());
    std::fs::write(
        path.join("store.json"),
        r#"{"format":9,"store":"00000000-0000-0000-0000-000000000000"}"#,
    )
    .unwrap();
    drop(recorder);
    assert!(matches!(
        Volume::open(&path, Role::Recorder),
        Err(Error::UnknownFormat { found: 9, .. })
    ));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    /// No bytes make the readers panic.
    #[test]
    fn any_bytes_are_read_without_a_panic(seed in 0usize..4000, flips in proptest::collection::vec((0usize..4000, 0u8..), 0..8)) {
        let head = fmp4::write_head(&header(1, uuid::Uuid::nil(), "a", 1, 0, 0), &clip().track).unwrap();
        let mut data = [&head[..], &fmp4::write_fragment(0, 0, &[sample(0), sample(1)], None).unwrap()].concat();
        for (at, value) in flips {
            let len = data.len();
            data[at % len] ^= value;
        }
        data.truncate(data.len() - seed % data.len());
        if let Ok(found) = scan::scan_bytes(&data) {
            proptest::prop_assert!(found.end <= data.len() as u64);
        }
        let _ = fmp4::fragment(&data, fmp4::Tracks::default());
        let _ = fmp4::head(&data[seed.min(data.len())..]);
    }
}

/// Seven streams share the numbers of an incarnation's segments.
#[test]
fn the_next_segment_of_a_stream_is_not_always_one_higher() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    drop(write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..25));
    drop(write(&volume, header(2, volume.store(), "a", 1, 1, 0), 0..25));
    drop(write(&volume, header(1, volume.store(), "a", 1, 7, 25), 25..50));
    let mut other_run = header(1, volume.store(), "a", 1, 9, 50);
    other_run.run = uuid::Uuid::from_u128(99);
    drop(write(&volume, other_run, 50..75));
    let (catalogue, _) = Catalogue::load(&volume, 0).unwrap();
    let complete: Vec<bool> = gops(&catalogue, &volume).iter().map(|g| g.complete).collect();
    assert_eq!(complete, [true, false, false]);
}

#[test]
fn a_gap_that_a_killed_recorder_left_open_ends_with_its_next_frame() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let uid = uuid::Uuid::from_u128(1);
    let (mut ledger, _) = Ledger::open(&volume, uid, Role::Recorder).unwrap();
    let gap = segment::Gap {
        start_us: 1_000_000,
        end_us: None,
        cause: "Disconnected".into(),
        evidence: String::new(),
        frames: None,
    };
    ledger.append(&Record::Gap(gap)).unwrap();
    drop(write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..25));
    // What the peer recorded meanwhile does not end it.
    drop(write(
        &volume,
        header(1, uuid::Uuid::from_u128(9), "b", 2, 0, 25),
        25..100,
    ));
    let (catalogue, _) = Catalogue::load(&volume, 0).unwrap();
    assert_eq!(catalogue.stream(uid).unwrap().gaps[0].end_us, None);
    drop(write(&volume, header(1, volume.store(), "a", 3, 0, 75), 75..100));
    let (catalogue, _) = Catalogue::load(&volume, 0).unwrap();
    assert_eq!(catalogue.stream(uid).unwrap().gaps[0].end_us, Some(3_000_000));
}

#[test]
fn a_file_that_grew_is_read_from_where_it_was_known() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let mut file = write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..50);
    let id = file.header().id.clone();
    let read = || segment::copy::read_copy(&volume, &id, false, 0).unwrap();
    let mut known = read();
    let more =
        |known: &segment::Copy| scan::scan_more(&volume.open_path(&id), known.place().unwrap()).unwrap();
    assert!(more(&known).is_empty());
    file.append(&[sample(50), sample(51)], &[]).unwrap();
    file.append(&[sample(52)], &[]).unwrap();
    let torn = std::fs::OpenOptions::new()
        .append(true)
        .open(volume.open_path(&id));
    std::io::Write::write_all(&mut torn.unwrap(), b"torn").unwrap();
    let mut catalogue = Catalogue::default();
    catalogue.upsert(known.clone());
    for (fragment, hashes, chain) in more(&known) {
        catalogue.extend(&id, fragment, &hashes, chain);
    }
    known = catalogue.get(&id).unwrap().clone();
    assert_eq!(known, read());
    assert_eq!(known.extent.frames, 53);
}

#[test]
fn i8_what_was_rebuilt_from_files_is_in_the_ledger_from_then_on() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let uid = uuid::Uuid::from_u128(1);
    let peer = uuid::Uuid::from_u128(9);
    for (store, member, role) in [
        (volume.store(), "a", Role::Recorder),
        (peer, "b", Role::Replicator),
    ] {
        let file = write(&volume, header(1, store, member, 1, 0, 0), 0..25);
        let id = file.finish().rename().unwrap().entry.header.id;
        let (catalogue, report) = Catalogue::load(&volume, 7).unwrap();
        assert_eq!(report.rebuilt.first(), Some(&id));
        let cuts = catalogue.record_rebuilt(&volume, &report, role);
        assert!(cuts.is_empty());
        // Later starts know when it came, so that it ages (I11).
        let (catalogue, report) = Catalogue::load(&volume, 5000).unwrap();
        assert_eq!(
            (report.rebuilt.len(), catalogue.get(&id).unwrap().received_s),
            (0, 7)
        );
    }
    let received = segment::LedgerReader::new(&volume, uid, Role::Replicator)
        .poll()
        .unwrap();
    assert!(matches!(&received[..], [Record::Received { from, received_s: 7, .. }] if from == "b"));
}

#[test]
fn a_sealed_file_that_rotted_is_unreadable_and_has_no_root() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let file = write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..50);
    let offset = file.fragments()[4].offset as usize;
    let entry = file.finish().rename().unwrap().entry;
    let sealed = volume.sealed_path(&entry.header.id);
    let whole = std::fs::read(&sealed).unwrap();
    let mut flipped = whole.clone();
    flipped[offset + 300] ^= 1;
    let mut longer = whole.clone();
    longer.extend_from_slice(b"more");
    for rotten in [&flipped[..], &longer, &whole[..whole.len() - 1]] {
        std::fs::write(&sealed, rotten).unwrap();
        let (catalogue, report) = Catalogue::load(&volume, 0).unwrap();
        assert_eq!((report.rebuilt.len(), report.unreadable.len()), (0, 1));
        assert!(catalogue.get(&entry.header.id).is_none());
    }
    std::fs::write(&sealed, &whole).unwrap();
    assert_eq!(Catalogue::load(&volume, 0).unwrap().1.rebuilt.len(), 1);
}

#[test]
fn a_floor_in_the_future_is_capped_at_the_start() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let uid = uuid::Uuid::from_u128(1);
    let (mut ledger, _) = Ledger::open(&volume, uid, Role::Recorder).unwrap();
    let id = header(1, volume.store(), "a", 1, 0, 0).id;
    let end_us = 4_000_000_000_000_000;
    ledger.append(&Record::Evicted { id, end_us }).unwrap();
    let (_, catalogue, _) = Catalogue::open(&volume, 2000, 0).unwrap();
    assert_eq!(catalogue.floors()[&uid], 2_000_000_000);
}

#[test]
fn a_record_that_no_reader_would_take_is_refused() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let uid = uuid::Uuid::from_u128(1);
    let note = |len: usize| Record::Note {
        at_us: 0,
        what: "x".repeat(len),
    };
    let (mut ledger, _) = Ledger::open(&volume, uid, Role::Recorder).unwrap();
    let refused = ledger.append(&note(segment::ledger::MAX_RECORD));
    assert!(
        matches!(refused, Err(Error::RecordTooLarge { .. })),
        "{refused:?}"
    );
    ledger.append(&note(1)).unwrap();
    let mut reader = segment::LedgerReader::new(&volume, uid, Role::Recorder);
    assert_eq!(reader.poll().unwrap(), [note(1)]);
}

#[test]
fn a_rotation_that_failed_is_tried_again() {
    let uid = uuid::Uuid::from_u128(1);
    let note = |at_us| Record::Note {
        at_us,
        what: "x".repeat(1 << 16),
    };
    // What a full disk, or another hand, left in the place of the next file.
    for left in [0, 17, 60] {
        let (_dir, path) = folder();
        let volume = volume(&path);
        let (mut ledger, _) = Ledger::open(&volume, uid, Role::Recorder).unwrap();
        let next = volume.stream_dir(uid).join("recorder.000001.ledger");
        std::fs::write(&next, vec![7; left]).unwrap();
        for at_us in 0..20 {
            ledger.append(&note(at_us)).unwrap();
            ledger.synced();
        }
        drop(ledger);
        let (mut ledger, cut) = Ledger::open(&volume, uid, Role::Recorder).unwrap();
        assert!(cut.is_empty());
        ledger.append(&note(20)).unwrap();
        let mut reader = segment::LedgerReader::new(&volume, uid, Role::Recorder);
        assert_eq!(reader.poll().unwrap().len(), 21, "{left} bytes were left");
    }
}

#[test]
fn a_file_without_a_head_is_begun_again_with_the_chain_before_it() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let uid = uuid::Uuid::from_u128(1);
    let note = Record::Note {
        at_us: 1,
        what: String::new(),
    };
    Ledger::open(&volume, uid, Role::Recorder)
        .unwrap()
        .0
        .append(&note)
        .unwrap();
    let first = std::fs::read(volume.stream_dir(uid).join("recorder.000000.ledger")).unwrap();
    let next = volume.stream_dir(uid).join("recorder.000001.ledger");
    std::fs::write(&next, []).unwrap();
    let (mut ledger, cut) = Ledger::open(&volume, uid, Role::Recorder).unwrap();
    assert!(cut.is_empty(), "nothing was lost");
    ledger.append(&note).unwrap();
    assert_eq!(std::fs::read(&next).unwrap()[8..40], first[first.len() - 32..]);
}

#[test]
fn i8_an_index_that_is_gone_or_damaged_is_read_from_the_segment_again() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let file = write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..50);
    let finished = file.finish();
    let whole = finished.index().clone();
    let sealed = finished.rename().unwrap();
    assert_eq!(sealed.index, None, "it is beside the file");
    let (id, root) = (sealed.entry.header.id, sealed.entry.root);
    let beside = volume.index_path(&id);
    let kept = std::fs::read(&beside).unwrap();
    for damaged in [None, Some(&kept[..kept.len() / 2]), Some(&b""[..])] {
        match damaged {
            Some(bytes) => std::fs::write(&beside, bytes).unwrap(),
            None => std::fs::remove_file(&beside).unwrap(),
        }
        assert_eq!(volume.index(&id, &root).unwrap().as_ref(), Some(&whole));
        assert_eq!(std::fs::read(&beside).unwrap(), kept, "and is there again");
    }
    std::fs::remove_file(&beside).unwrap();
    let mut rotten = std::fs::read(volume.sealed_path(&id)).unwrap();
    rotten.pop();
    std::fs::write(volume.sealed_path(&id), rotten).unwrap();
    let rotted = volume.index(&id, &root);
    assert!(matches!(rotted, Err(Error::Damaged { .. })), "{rotted:?}");
    std::fs::remove_file(volume.sealed_path(&id)).unwrap();
    assert_eq!(volume.index(&id, &root).unwrap(), None);
}

#[test]
fn an_index_without_its_segment_is_a_stray() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let stream = uuid::Uuid::from_u128(1);
    let seal = |sequence, frames: std::ops::Range<u64>| {
        let file = write(
            &volume,
            header(1, volume.store(), "a", 1, sequence, frames.start),
            frames,
        );
        file.finish().rename().unwrap().entry.header.id
    };
    let (stays, leaves) = (seal(0, 0..25), seal(1, 25..50));
    assert_eq!(
        volume.stray_indexes(stream).unwrap(),
        Vec::<std::path::PathBuf>::new()
    );
    std::fs::remove_file(volume.sealed_path(&leaves)).unwrap();
    assert_eq!(
        volume.stray_indexes(stream).unwrap(),
        [volume.index_path(&leaves)]
    );
    assert!(volume.index_path(&stays).exists());
}

#[test]
fn i8_what_of_one_stream_cannot_be_read_keeps_no_other_one_out() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    for stream in [1, 2] {
        let file = write(&volume, header(stream, volume.store(), "a", 1, 0, 0), 0..25);
        file.finish().rename().unwrap();
    }
    let uids = volume.streams().unwrap();
    let [bad, good] = uids[..] else { panic!("{uids:?}") };
    let loaded = || {
        let (catalogue, report) = Catalogue::load(&volume, 0).unwrap();
        let failed: Vec<_> = report.failed.into_iter().map(|(uid, _)| uid).collect();
        let copies = |uid| catalogue.copies().filter(|copy| copy.id().stream == uid).count();
        (failed, copies(bad), copies(good))
    };
    assert_eq!(loaded(), (vec![], 1, 1));
    let ledger = volume.stream_dir(bad).join("recorder.000000.ledger");
    std::fs::create_dir(&ledger).unwrap();
    assert_eq!(loaded(), (vec![bad], 1, 1), "a ledger that cannot be read");
    let (catalogue, report) = Catalogue::load(&volume, 0).unwrap();
    assert_eq!(report.rebuilt.len(), 2);
    catalogue.record_rebuilt(&volume, &report, Role::Recorder);
    let (_, report) = Catalogue::load(&volume, 0).unwrap();
    assert_eq!(report.rebuilt.len(), 1, "the other one is in its ledger");
    std::fs::rename(volume.stream_dir(bad), path.join("away")).unwrap();
    std::fs::write(volume.stream_dir(bad), "no folder").unwrap();
    let (failed, of_bad, of_good) = loaded();
    assert_eq!((of_bad, of_good), (0, 1));
    assert!(failed.iter().all(|uid| *uid == bad), "{failed:?}");
}

#[test]
fn i8_damage_inside_an_older_ledger_is_said_and_what_follows_counts() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let uid = uuid::Uuid::from_u128(1);
    let (mut ledger, _) = Ledger::open(&volume, uid, Role::Recorder).unwrap();
    for at_us in 0..40 {
        let what = "x".repeat(1 << 16);
        ledger.append(&Record::Note { at_us, what }).unwrap();
        ledger.synced();
    }
    let read = || {
        let mut reader = segment::LedgerReader::new(&volume, uid, Role::Recorder);
        (reader.poll().unwrap().len(), reader.damage())
    };
    assert_eq!(read(), (40, vec![]));
    let middle = volume.stream_dir(uid).join("recorder.000001.ledger");
    let mut bytes = std::fs::read(&middle).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&middle, bytes).unwrap();
    let (rest, damage) = read();
    assert!((20..40).contains(&rest), "{rest}: what follows it counts");
    assert!(
        damage[0].contains("recorder.000001.ledger is damaged"),
        "{damage:?}"
    );
    let (_, report) = Catalogue::load(&volume, 0).unwrap();
    assert_eq!(report.failed, [(uid, damage[0].clone())]);
}

#[test]
fn i11_what_was_to_leave_and_is_still_there_is_as_old_as_it_was() {
    let (_dir, path) = folder();
    let volume = volume(&path);
    let file = write(&volume, header(1, volume.store(), "a", 1, 0, 0), 0..25);
    let entry = Box::new(file.finish().rename().unwrap().entry);
    let id = entry.header.id.clone();
    let (mut ledger, _) = Ledger::open(&volume, id.stream, Role::Recorder).unwrap();
    ledger.append(&Record::Sealed { entry, received_s: 5 }).unwrap();
    let gone = id.clone();
    ledger.append(&Record::Evicted { id: gone, end_us: 0 }).unwrap();
    // The power went before the file was gone for good; the next start writes down what it found.
    for start in 0..2 {
        let (catalogue, report) = Catalogue::load(&volume, 1000).unwrap();
        assert_eq!(catalogue.get(&id).unwrap().received_s, 5, "start {start}");
        catalogue.record_rebuilt(&volume, &report, Role::Recorder);
    }
}
