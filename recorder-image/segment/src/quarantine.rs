//! Where refused bytes go: kept as evidence, within a quota, counted by no catalogue.

use std::fs;

use crate::error::{Error, Result};
use crate::id::SegmentId;
use crate::volume::{Volume, file_names};

/// The most files in quarantine.
const MAX_FILES: usize = 64;
/// The most bytes kept of one refusal.
const MAX_BYTES: usize = 1 << 20;

/// Keeps (the beginning of) refused bytes. Where the quota is used up they are not kept; what is there stays, because the
/// first refusals tell most.
///
/// # Errors
/// [`Error::Io`].
pub fn keep(volume: &Volume, id: &SegmentId, reason: &str, bytes: &[u8]) -> Result<bool> {
    let dir = volume.root().join("quarantine");
    fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, e))?;
    let held = file_names(&dir)?;
    if held.len() >= MAX_FILES {
        return Ok(false);
    }
    let path = dir.join(format!(
        "{:04}.{}.{}.{reason}",
        held.len(),
        id.stream.simple(),
        id.stem()
    ));
    fs::write(&path, &bytes[..bytes.len().min(MAX_BYTES)]).map_err(|e| Error::io(&path, e))?;
    Ok(true)
}
