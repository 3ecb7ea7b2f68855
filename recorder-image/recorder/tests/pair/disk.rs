//! What is durable on a volume, and what a power cut leaves of it: every file as it was at the newest sync, and of what was written since
//! nothing, all, or a torn part.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::Rng;

/// A file as it was at one moment.
#[derive(Clone, Debug)]
pub struct File {
    /// Which file it was, its length, and when it was changed last. The kernel gives a change that follows a look a time of its own.
    stamp: (u64, u64, i64, i64),
    bytes: Arc<Vec<u8>>,
}

/// The files of a folder, by their names in it.
pub type Files = BTreeMap<String, File>;

/// All files below `root`. What did not change since `before` is not read again.
pub fn read(root: &Path, before: &Files) -> Files {
    let mut files = Files::new();
    read_below(root, "", before, &mut files);
    files
}

fn read_below(folder: &Path, name: &str, before: &Files, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = name.to_owned() + entry.file_name().to_str().unwrap();
        if entry.file_type().unwrap().is_dir() {
            read_below(&entry.path(), &(name + "/"), before, files);
            continue;
        }
        let stamp = stamp(&entry.metadata().unwrap());
        let same = before.get(&name).filter(|file| file.stamp == stamp);
        let bytes = match same {
            Some(file) => Arc::clone(&file.bytes),
            None => Arc::new(fs::read(entry.path()).unwrap()),
        };
        files.insert(name, File { stamp, bytes });
    }
}

/// What tells these files from others. Of ledgers only their length: they tell the real time of receipt.
pub fn digest(files: &Files) -> blake3::Hash {
    let mut digest = blake3::Hasher::new();
    for (name, File { bytes, .. }) in files {
        digest.update(format!("{name} {} ", bytes.len()).as_bytes());
        let told_time = name.ends_with(".ledger") || name.ends_with("retention-clock");
        digest.update(if told_time { &[] } else { bytes });
    }
    digest.finalize()
}

/// One file below `root`, and its name there.
pub fn read_one(root: &Path, path: &Path) -> Option<(String, File)> {
    let (stamp, bytes) = (stamp(&fs::metadata(path).ok()?), Arc::new(fs::read(path).ok()?));
    Some((
        path.strip_prefix(root).ok()?.to_str()?.to_owned(),
        File { stamp, bytes },
    ))
}

fn stamp(about: &fs::Metadata) -> (u64, u64, i64, i64) {
    (about.ino(), about.len(), about.ctime(), about.ctime_nsec())
}

/// Writes what a power cut leaves into the empty folder `to`.
pub fn cut(durable: &Files, written: &Files, to: &Path, rng: &mut Rng) {
    for (name, bytes) in after(durable, written, rng) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn after(durable: &Files, written: &Files, rng: &mut Rng) -> BTreeMap<String, Vec<u8>> {
    let synced = durable
        .iter()
        .map(|(name, file)| (name.clone(), file.bytes.to_vec()));
    let mut left: BTreeMap<String, Vec<u8>> = synced.collect();
    for (name, File { bytes, .. }) in written {
        match durable.get(name).map(|file| &*file.bytes) {
            Some(old) if bytes.starts_with(old) => {
                left.insert(name.clone(), [&old[..], &torn(&bytes[old.len()..], rng)].concat());
            }
            Some(old) if old.len() == bytes.len() => {
                left.insert(name.clone(), overwritten(old, bytes, rng));
            }
            Some(_) => {}
            None => appear(&mut left, name, bytes, rng),
        }
    }
    left
}

/// A name that was not durable: a file that was renamed, or that is new.
fn appear(left: &mut BTreeMap<String, Vec<u8>>, name: &str, bytes: &[u8], rng: &mut Rng) {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let before = format!("{stem}.open");
    let (renamed, is_aside) = (ending == "mp4", ending == "damaged");
    match rng.below(2) {
        0 => {}
        _ if is_aside => {
            // It was there under the other name, and is not there under both.
            if let Some(bytes) = left.remove(&before) {
                left.insert(name.to_owned(), bytes);
            }
        }
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

/// Written in place: each block is the old one or the new one.
fn overwritten(old: &[u8], new: &[u8], rng: &mut Rng) -> Vec<u8> {
    let blocks = old.chunks(512).zip(new.chunks(512));
    blocks
        .flat_map(|(old, new)| if rng.below(2) == 0 { old } else { new })
        .copied()
        .collect()
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
