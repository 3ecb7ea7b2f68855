//! The files of a member's volume, to be damaged.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Changes one bit in the middle of a segment's file.
pub fn flip_a_bit(volume: &Path, id: &str) -> Result<()> {
    let file = find(&volume.join("streams"), id)?.with_context(|| format!("no file of {id}"))?;
    let mut data = fs::read(&file)?;
    let middle = data.len() / 2;
    data[middle] ^= 1;
    Ok(fs::write(file, data)?)
}

fn find(folder: &Path, id: &str) -> Result<Option<PathBuf>> {
    let sealed = format!("{id}.mp4");
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, id)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|name| name == sealed.as_str()) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
