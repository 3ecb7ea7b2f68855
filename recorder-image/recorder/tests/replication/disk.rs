//! What is durable on a volume, and what a power cut leaves of it: every file as it was at the newest sync, and of what was written since
//! nothing, all, or a torn part.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::Rng;

/// The files of a folder, by their names in it.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// All files below `root`, as they were at one moment: a file that has another name meanwhile would be in none of two looks.
pub fn read(root: &Path) -> Files {
    let mut names = names(root);
    loop {
        let read = |path: &PathBuf| Some((path.strip_prefix(root).ok()?.to_owned(), fs::read(path).ok()?));
        let files: Files = names.iter().filter_map(read).collect();
        let now = self::names(root);
        if now == names {
            return files;
        }
        names = now;
    }
}

fn names(root: &Path) -> BTreeSet<PathBuf> {
    let (mut names, mut folders) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                names.insert(path);
            }
        }
    }
    names
}

/// Writes what a power cut leaves into the empty folder `to`.
pub fn cut(durable: &Files, written: &Files, to: &Path, rng: &mut Rng) {
    for (name, bytes) in after(durable, written, rng) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn after(durable: &Files, written: &Files, rng: &mut Rng) -> Files {
    let mut left = durable.clone();
    for (name, bytes) in written {
        match durable.get(name) {
            Some(old) if bytes.starts_with(old) => {
                left.insert(name.clone(), [&old[..], &torn(&bytes[old.len()..], rng)].concat());
            }
            Some(_) => {}
            None => appear(&mut left, name, bytes, rng),
        }
    }
    left
}

/// A name that was not durable: a file that was renamed, or that is new.
fn appear(left: &mut Files, name: &Path, bytes: &[u8], rng: &mut Rng) {
    let before = name.with_extension("open");
    let renamed = name.extension().is_some_and(|e| e == "mp4");
    match rng.below(2) {
        0 => {}
        _ if renamed => {
            // The name may be there before what it names is complete.
            let durable = left.remove(&before).unwrap_or_default();
            left.insert(name.to_owned(), durable);
        }
        _ => {
            // What a file has beyond its newest sync it has in order from its beginning.
            let part = rng.below(bytes.len() as u64 + 1) as usize;
            left.insert(name.to_owned(), bytes[..part].to_vec());
        }
    }
}

/// A part of it, perhaps with a block that never reached the disk.
fn torn(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut part = bytes[..rng.below(bytes.len() as u64 + 1) as usize].to_vec();
    if rng.below(2) == 0 && !part.is_empty() {
        let from = rng.below(part.len() as u64) as usize;
        let to = part.len().min(from + 512);
        part[from..to].fill(0);
    }
    part
}
