//! What a volume holds, without a cluster: every group of pictures, and of which copies the recording is played.
//!
//! `cargo run -p segment --example groups -- FOLDER [STREAM]`, for a copy of a volume: opening it locks it.

use std::path::Path;

use segment::canonical::{Gop, choose};
use segment::hls::rfc3339;
use segment::parts::{Detail, gops};
use segment::{Catalogue, LedgerReader, Record, Role, Root, SegmentId, Volume};

/// All of time.
const ALL: (i64, i64) = (i64::MIN, i64::MAX);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("usage: groups FOLDER [STREAM]")?;
    let wanted = args.next();
    let volume = Volume::open(Path::new(&folder), Role::Recorder)?;
    let now_s = jiff::Timestamp::now().as_second();
    let (catalogue, report) = Catalogue::load(&volume, now_s)?;
    for (id, why) in &report.unreadable {
        println!("{id} cannot be read: {why}");
    }
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    for (uid, stream) in catalogue.streams().filter(|(_, stream)| is_wanted(&stream.name)) {
        println!("stream {} {uid}", stream.name);
        for record in LedgerReader::new(&volume, *uid, Role::Recorder).poll()? {
            if let Record::Note { at_us, what } = record {
                println!("  {} {what}", rfc3339(at_us));
            }
        }
        let read = |id: &SegmentId, root: &Root| volume.index(id, root);
        let mut gops = gops(&catalogue.parts_of(*uid, ALL, Detail::Groups), ALL, read)?;
        let played = choose(gops.clone());
        gops.sort_by(|a, b| (&a.id, a.offset).cmp(&(&b.id, b.offset)));
        for gop in &gops {
            println!("  {}", line(gop));
        }
        println!("  played:");
        for chosen in played {
            println!("  {} of {} copies", line(&chosen.gop), chosen.copies);
        }
    }
    Ok(())
}

/// Whose it is, its run, when it begins by wall clock and by media time, and its frames.
fn line(gop: &Gop) -> String {
    let key = gop.hashes.first().and_then(|hash| hash.first_chunk());
    format!(
        "{} {:016x}/{} run {:.8} {} {:.3} s + {:.3} s, {} frames from {:08x}{}{}",
        gop.id.member,
        gop.id.incarnation,
        gop.id.sequence,
        gop.run.to_string(),
        rfc3339(gop.start_us),
        gop.dts as f64 / 90_000.0,
        gop.duration as f64 / 90_000.0,
        gop.hashes.len(),
        u32::from_be_bytes(*key.unwrap_or(&[0; 4])),
        if gop.complete { ", complete" } else { "" },
        if gop.owner { ", owner's" } else { "" },
    )
}
