//! What debug builds of recorder and replicator obey: files on the volume of a member.

use std::fs;
use std::path::Path;

use anyhow::Result;

/// Puts a text into a file of a volume, all of it at once.
///
/// # Errors
/// Where the volume's folder cannot be written.
pub fn tell(volume: &Path, name: &str, text: &str) -> Result<()> {
    let scratch = volume.join(format!("{name}.next"));
    fs::write(&scratch, text)?;
    Ok(fs::rename(scratch, volume.join(name))?)
}
