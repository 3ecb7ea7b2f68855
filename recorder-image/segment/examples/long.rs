//! What a long recording costs a start: the time to read its ledgers and folders, and the memory of its catalogue.
//!
//! `cargo run --release -p segment --example long -- STREAMS DAYS`, with segments of a minute; in a temporary folder.

use std::error::Error;
use std::time::Instant;

use segment::{Catalogue, ClockSource, Extent, Header, Ledger, Record, Role, SealedEntry, SegmentId, Volume};
use uuid::Uuid;

/// A segment, microseconds and 1/90000 s.
const SEGMENT_US: i64 = 60_000_000;
const SEGMENT: i64 = 60 * 90_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let (Some(Ok(streams)), Some(Ok(days))) = (args.next(), args.next()) else {
        return Err("usage: long STREAMS DAYS".into());
    };
    let folder = tempfile::tempdir()?;
    let volume = Volume::open(folder.path(), Role::Recorder)?;
    let mut segments = 0;
    for stream in 0..streams {
        let stream = Uuid::from_u128(u128::from(stream) + 1);
        let (mut ledger, _) = Ledger::open(&volume, stream, Role::Recorder)?;
        for minute in 0..days * 24 * 60 {
            let entry = Box::new(entry(&volume, stream, minute));
            std::fs::write(volume.sealed_path(&entry.header.id), b"")?;
            let received_s = entry.extent.end_us / 1_000_000;
            ledger.append(&Record::Sealed { entry, received_s })?;
            ledger.synced();
            segments += 1;
        }
    }
    let (before, begun) = (resident()?, Instant::now());
    let (catalogue, _) = Catalogue::load(&volume, 0)?;
    let (took, grown) = (begun.elapsed(), resident()? - before);
    println!(
        "{segments} segments: {:.2} s, {} MiB, {} bytes a segment",
        took.as_secs_f64(),
        grown >> 20,
        grown / segments.max(1)
    );
    drop(catalogue);
    Ok(())
}

fn entry(volume: &Volume, stream: Uuid, minute: u64) -> SealedEntry {
    let opened_us = minute as i64 * SEGMENT_US;
    SealedEntry {
        header: Header {
            id: SegmentId {
                stream,
                store: volume.store(),
                member: "front-0".into(),
                incarnation: 1,
                sequence: minute,
            },
            stream_name: "front-door".into(),
            pair_epoch: 1,
            stream_epoch: 1,
            owner: true,
            run: stream,
            opened_us,
            clock: ClockSource::Camera,
            hevc: false,
            audio: None,
        },
        length: 15 << 20,
        root: *blake3::hash(&minute.to_be_bytes()).as_bytes(),
        head_len: 1000,
        extent: Extent {
            start_us: opened_us,
            end_us: opened_us + SEGMENT_US,
            dts: (minute as i64 * SEGMENT, (minute as i64 + 1) * SEGMENT),
            duration: SEGMENT as u64,
            frames: 1500,
            fragments: 600,
            paused: 0,
        },
        signature: None,
    }
}

/// Memory of this process, bytes.
fn resident() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? << 10)
}
