#![allow(clippy::unwrap_used)]
use mp4_atom::Encode;
use proptest::prelude::*;

use super::*;
use crate::fmp4::{Sample, Tracks, fragment, write_fragment};

const PCMU: Audio = Audio {
    codec: AudioCodec::Pcmu,
    rate: 8000,
    channels: 1,
};
const AAC: Audio = Audio {
    codec: AudioCodec::Aac,
    rate: 48_000,
    channels: 2,
};

fn tracks(audio: Audio) -> Tracks {
    Tracks {
        hevc: false,
        audio: Some(audio),
    }
}

fn picture() -> Sample {
    let data = &[0, 0, 0, 2, 0x65, 1];
    Sample {
        hash: crate::nal::frame_hash(data, false),
        data: Bytes::from_static(data),
        key: true,
        dts: 90_000,
        cts: 0,
        duration: 3600,
        wallclock_us: 1_000_000,
    }
}

fn packet(time: u64, size: usize, duration: u32) -> Packet {
    Packet {
        data: vec![7; size].into(),
        time,
        duration,
    }
}

fn written(audio: Audio, packets: &[Packet]) -> Bytes {
    write_fragment(0, 0, &[picture()], Some((audio, packets))).unwrap()
}

/// The `moof` of the sound in a fragment.
fn index(bytes: &[u8]) -> Option<mp4::Moof> {
    let moof = boxes(bytes).filter(|b| &b.kind == b"moof").nth(1)?;
    Some(mp4::Moof::decode(&mut &*moof.bytes).unwrap())
}

/// Sizes and durations of the packets in a fragment.
fn packets(bytes: &[u8]) -> Vec<(u32, u32)> {
    let Some(index) = index(bytes) else {
        return Vec::new();
    };
    let trun = &index.traf[0].trun[0];
    let entry = |i| {
        trun.samples
            .get(i)
            .map(|e| (e.size.unwrap(), e.duration.unwrap()))
    };
    (0..).map_while(entry).collect()
}

#[test]
fn sound_is_read_as_it_was_written_and_costs_no_frame() {
    let bytes = written(PCMU, &[packet(8000, 160, 160), packet(8160, 160, 160)]);
    let parsed = fragment(&bytes, tracks(PCMU)).unwrap();
    assert_eq!((parsed.len, parsed.samples.len()), (bytes.len(), 1));
    assert_eq!(packets(&bytes), [(160, 160), (160, 160)]);
    let time = index(&bytes).unwrap().traf[0]
        .tfdt
        .as_ref()
        .unwrap()
        .base_media_decode_time;
    assert_eq!(time, 8000);
    // The frame is the same as without.
    let plain = write_fragment(0, 0, &[picture()], None).unwrap();
    let alone = fragment(&plain, tracks(PCMU)).unwrap();
    assert_eq!(alone.samples, parsed.samples);
    assert_eq!(fragment(&plain, Tracks::default()).unwrap(), alone);
}

#[test]
fn a_hole_is_bridged_and_what_plays_over_another_is_left_out() {
    let list = [packet(0, 160, 160), packet(100, 160, 160), packet(480, 160, 160)];
    assert_eq!(packets(&written(PCMU, &list)), [(160, 480), (160, 160)]);
}

#[test]
fn sound_that_cannot_be_written_is_left_out_and_the_frame_stays() {
    let day = 86_400 * 8000;
    let table: [(&str, Vec<Packet>, usize); 6] = [
        ("empty", vec![packet(0, 0, 160)], 0),
        ("no time", vec![packet(0, 160, 0)], 0),
        ("longer than its time", vec![packet(0, 161, 160)], 0),
        ("a jump", vec![packet(0, 160, 160), packet(day, 160, 160)], 1),
        (
            "too many",
            (0..9000).map(|n| packet(n * 2, 1, 2)).collect(),
            MAX_PACKETS,
        ),
        (
            "too much",
            (0..40).map(|n| packet(n << 15, 1 << 15, 1 << 15)).collect(),
            32,
        ),
    ];
    for (what, list, kept) in table {
        let bytes = written(PCMU, &list);
        let parsed = fragment(&bytes, tracks(PCMU)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!((parsed.samples.len(), packets(&bytes).len()), (1, kept), "{what}");
    }
}

/// A fragment whose sound was changed, with the right hash over it.
fn forged(change: impl Fn(&mut mp4::Moof), rest: &[u8]) -> Vec<u8> {
    let good = written(PCMU, &[packet(8000, 160, 160), packet(8160, 160, 160)]);
    let all: Vec<BoxRef<'_>> = boxes(&good).collect();
    let mut moof = index(&good).unwrap();
    change(&mut moof);
    let mut sound = Vec::new();
    moof.encode(&mut sound).unwrap();
    sound.extend_from_slice(&(8 + rest.len() as u32).to_be_bytes());
    sound.extend_from_slice(b"mdat");
    sound.extend_from_slice(rest);
    let hash = blake3::Hasher::new()
        .update(all[0].bytes)
        .update(all[2].bytes)
        .update(all[3].bytes)
        .update(&sound)
        .finalize();
    let mut uuid = all[1].bytes.to_vec();
    let at = uuid.len() - 32;
    uuid[at..].copy_from_slice(hash.as_bytes());
    [all[0].bytes, &uuid, all[2].bytes, all[3].bytes, &sound].concat()
}

#[test]
fn i4_sound_of_a_peer_that_is_not_whole_is_refused() {
    let data = [7; 320];
    assert!(
        fragment(&forged(|_| {}, &data), tracks(PCMU)).is_ok(),
        "as it was"
    );
    let set = |size: u32, duration: u32| {
        move |moof: &mut mp4::Moof| {
            let entry = mp4::TrunEntry {
                duration: Some(duration),
                size: Some(size),
                flags: Some(BUILT),
                cts: None,
            };
            moof.traf[0].trun[0].samples = vec![entry; 2].into();
        }
    };
    let table: [(&str, Vec<u8>); 9] = [
        ("more data than packets", forged(|_| {}, &[7; 321])),
        ("less data than packets", forged(|_| {}, &[7; 319])),
        ("another track", forged(|m| m.traf[0].tfhd.track_id = 1, &data)),
        ("no time", forged(|m| m.traf[0].tfdt = None, &data)),
        ("no traf", forged(|m| m.traf.clear(), &data)),
        ("no trun", forged(|m| m.traf[0].trun.clear(), &data)),
        (
            "no packet",
            forged(|m| m.traf[0].trun[0].samples = Vec::new().into(), &[]),
        ),
        ("samples without time", forged(set(160, 80), &data)),
        ("longer than a minute", forged(set(160, 61 * 8000), &data)),
    ];
    for (what, bytes) in table {
        assert!(fragment(&bytes, tracks(PCMU)).is_err(), "{what}");
    }
    let good = forged(|_| {}, &data);
    for cut in [1, 100, 328] {
        let torn = &good[..good.len() - cut];
        assert!(fragment(torn, tracks(PCMU)).is_err(), "torn by {cut}");
    }
    assert!(
        fragment(&good, Tracks::default()).is_err(),
        "sound in a file without"
    );
    assert!(
        fragment(&forged(|_| {}, &data), tracks(AAC)).is_ok(),
        "AAC says nothing of its length"
    );
}

#[test]
fn a_track_is_one_that_can_be_read_again() {
    assert!(AudioTrack::g711(PCMU).is_ok());
    assert!(AudioTrack::g711(AAC).is_err());
    for (rate, channels) in [(0, 1), (65_536, 1), (8000, 0), (8000, 9)] {
        let audio = Audio {
            rate,
            channels,
            ..PCMU
        };
        assert!(AudioTrack::g711(audio).is_err(), "{rate} {channels}");
    }
    for entry in [&b""[..], b"\0\0\0\x09mp4a", b"\0\0\0\x08mp4a", &[9; 40]] {
        assert!(
            AudioTrack::new(AAC, Bytes::copy_from_slice(entry)).is_err(),
            "{entry:?}"
        );
    }
}

#[test]
fn hidden_sound_is_gone_and_nothing_else_moved() {
    let mut bytes = written(PCMU, &[packet(8000, 160, 160)]).to_vec();
    let len = bytes.len() as u64;
    let header = |at: u64| bytes[at as usize..].first_chunk().copied().ok_or(());
    let places = sound_in_fragment(0, len, header).unwrap();
    assert_eq!(places.len(), 2);
    for place in places {
        bytes[place as usize..][..4].copy_from_slice(b"free");
    }
    let kinds: Vec<[u8; 4]> = boxes(&bytes).map(|b| b.kind).collect();
    assert_eq!(
        kinds,
        [*b"prft", *b"uuid", *b"moof", *b"mdat", *b"free", *b"free"]
    );
}

proptest! {
    /// Whatever a camera sends as sound, the frame is written, and read again.
    #[test]
    fn no_sound_costs_a_frame(
        aac: bool,
        list in prop::collection::vec((any::<u64>(), 0usize..9000, any::<u32>()), 0..40),
        steps in prop::collection::vec((0u64..2000, 0usize..400, 0u32..2000), 0..40),
    ) {
        let audio = if aac { AAC } else { PCMU };
        let mut at = 0;
        let near = steps.into_iter().map(|(step, size, duration)| {
            at += step;
            packet(at, size, duration)
        });
        let near: Vec<Packet> = near.collect();
        let far: Vec<Packet> = list.into_iter().map(|(time, size, duration)| packet(time, size, duration)).collect();
        for packets in [near, far] {
            let bytes = written(audio, &packets);
            let parsed = fragment(&bytes, tracks(audio)).unwrap();
            prop_assert_eq!((parsed.len, parsed.samples.len()), (bytes.len(), 1));
        }
    }

    /// No bytes of a peer make the reader panic, or count as sound by chance.
    #[test]
    fn i4_changed_bytes_are_refused(at in 0usize..600, bit in 0u8..8) {
        let mut bytes = written(PCMU, &[packet(8000, 160, 160), packet(8160, 160, 160)]).to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        // The number is not hashed: one out of order is refused by who knows the one before.
        let taken = fragment(&bytes, tracks(PCMU)).is_ok_and(|parsed| parsed.number == 0);
        prop_assert!(!taken);
    }
}
