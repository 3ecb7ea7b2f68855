//! Media for tests: frames whose content depends on their number.

use segment::{ClockSource, Header, Sample, SegmentFile, SegmentId, Track, Volume};
use uuid::Uuid;

/// A new segment of this volume: which one of this start of a recorder.
pub fn file(volume: &Volume, incarnation: u64, sequence: u64) -> SegmentFile {
    let id = SegmentId {
        stream: Uuid::from_u128(1),
        store: volume.store(),
        member: "front-0".into(),
        incarnation,
        sequence,
    };
    let header = Header {
        id,
        stream_name: "gate".into(),
        pair_epoch: 1,
        stream_epoch: 0,
        owner: true,
        run: Uuid::nil(),
        opened_us: 0,
        clock: ClockSource::Own,
        hevc: false,
        audio: None,
    };
    let sample_entry = [&8u32.to_be_bytes()[..], b"test"].concat().into();
    let track = Track {
        sample_entry,
        width: 1,
        height: 1,
        audio: None,
    };
    SegmentFile::create(volume, header, &track).unwrap()
}

/// A frame of 0.1 to 0.8 KB.
pub fn sample(n: u64, key: bool) -> Sample {
    let len = 100 + (n * 7919 % 700) as usize;
    let mut data = (len as u32).to_be_bytes().to_vec();
    data.push(if key { 0x65 } else { 0x41 });
    data.extend((1..len).map(|i| ((i as u64 * (n + 3)) >> 3) as u8 | 4));
    Sample {
        hash: segment::nal::frame_hash(&data, false),
        data: data.into(),
        key,
        dts: n * 3600,
        cts: 0,
        duration: 3600,
        wallclock_us: n as i64 * 40_000,
    }
}
