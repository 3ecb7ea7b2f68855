//! What members tell each other that they hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hash::Root;
use crate::id::SegmentId;

/// One line of an inventory: what one side holds of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The segment.
    pub id: SegmentId,
    /// Bytes held.
    pub length: u64,
    /// The root, if it is sealed there.
    pub root: Option<Root>,
    /// When it begins and ends, if it is sealed there, microseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_us: Option<(i64, i64)>,
    /// Whether it was a duplicate and is gone: its frames are held in other segments, and nobody waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reclaimed: bool,
}

/// What the side that holds `theirs` has and the side that holds `ours` lacks, with the offset from where. Pure.
pub fn missing(ours: &[Held], theirs: &[Held]) -> Vec<(SegmentId, u64)> {
    let held: BTreeMap<&SegmentId, &Held> = ours.iter().map(|h| (&h.id, h)).collect();
    let here = theirs.iter().filter(|theirs| !theirs.reclaimed);
    here.filter_map(|theirs| match held.get(&theirs.id) {
        None => Some((theirs.id.clone(), 0)),
        Some(ours) if ours.root.is_some() => None,
        Some(ours) if theirs.root.is_some() || theirs.length > ours.length => {
            Some((theirs.id.clone(), ours.length))
        }
        Some(_) => None,
    })
    .collect()
}
