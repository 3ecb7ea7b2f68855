//! What a segment says of itself, in a `uuid` box at its head.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fmp4::{Audio, Tracks};
use crate::id::SegmentId;

/// Where the wall-clock times of a run come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClockSource {
    /// RTCP sender reports of the camera.
    Camera,
    /// The receiving member's own clock.
    #[default]
    Own,
}

/// The header of a segment. It is written once, at opening, and is part of the file's hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The identity.
    pub id: SegmentId,
    /// The stream's name when the segment was opened.
    pub stream_name: String,
    /// The pair's epoch that the writer knew at opening.
    pub pair_epoch: u64,
    /// The stream's epoch under it.
    pub stream_epoch: u64,
    /// Whether the writer owned the stream at opening.
    pub owner: bool,
    /// The run: media time is continuous over all segments of a run.
    pub run: Uuid,
    /// Wall clock of the first frame, microseconds since the Unix epoch.
    pub opened_us: i64,
    /// Where wall-clock times come from.
    pub clock: ClockSource,
    /// Whether the video is H.265 (else H.264).
    pub hevc: bool,
    /// The sound beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<Audio>,
}

impl Header {
    /// What its fragments hold.
    pub fn tracks(&self) -> Tracks {
        Tracks {
            hevc: self.hevc,
            audio: self.audio,
        }
    }
}
