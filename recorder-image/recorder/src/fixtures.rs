//! What the tests of several modules make segments of.

use segment::{ClockSource, Header, SegmentId, Track};
use uuid::Uuid;

/// The header of the owner of a stream, which opened the segment at the Unix epoch.
pub(crate) fn header(id: SegmentId) -> Header {
    Header {
        id,
        stream_name: "door".into(),
        pair_epoch: 1,
        stream_epoch: 0,
        owner: true,
        run: Uuid::nil(),
        opened_us: 0,
        clock: ClockSource::Own,
        hevc: false,
        audio: None,
    }
}

/// Pictures of a codec that nobody knows, without sound.
pub(crate) fn track() -> Track {
    Track {
        sample_entry: [&8u32.to_be_bytes()[..], b"test"].concat().into(),
        width: 16,
        height: 16,
        audio: None,
    }
}
