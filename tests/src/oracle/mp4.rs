//! A small independent reader of fragmented MP4 (ISO/IEC 14496-12): just enough to find every frame.

use anyhow::{Context, Result, bail, ensure};

use super::{Account, Stamp};

/// The frames of a piece of fragmented MP4.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// Their stamps in order; `None` where a sample has no picture, no stamp, or more than one.
    pub stamps: Vec<Option<Stamp>>,
    /// Bytes at the end that do not make a whole box or fragment: a torn tail.
    pub torn: usize,
}

impl Frames {
    /// Adds these frames to an account.
    pub fn account(&self, into: &mut Account) {
        into.frames_in_order(self.stamps.iter().map(|stamp| stamp.map(|s| s.counter)));
    }
}

/// Finds the frames of a file, or of a byte range that begins at a box.
pub fn frames(data: &[u8]) -> Result<Frames> {
    let mut out = Frames::default();
    let mut pending: Option<(usize, Vec<Sample>)> = None;
    let mut at = 0;
    while at < data.len() {
        let Some(found) = box_at(data, at) else { break };
        match &found.kind {
            b"moof" => pending = Some((at, moof(found.body)?)),
            b"mdat" => {
                let (moof_at, samples) = pending.take().context("mdat without moof")?;
                for sample in samples {
                    let from = moof_at
                        .checked_add_signed(sample.offset)
                        .context("offset before the file")?;
                    let bytes = data
                        .get(from..from + sample.len)
                        .context("a sample lies outside its mdat")?;
                    out.stamps.push(stamp(bytes)?);
                }
            }
            _ => {}
        }
        at = found.end;
    }
    let whole = pending.map_or(at, |(moof_at, _)| moof_at);
    out.torn = data.len() - whole;
    Ok(out)
}

/// The media time at which each fragment begins (`tfdt`, 8.8.12), in the ticks of the track.
pub fn times(data: &[u8]) -> Result<Vec<u64>> {
    let mut times = Vec::new();
    for fragment in children(data).filter(|found| &found.kind == b"moof") {
        for track in children(fragment.body).filter(is_video) {
            let tfdt = children(track.body).find(|found| &found.kind == b"tfdt");
            times.push(
                tfdt.and_then(|tfdt| start(tfdt.body))
                    .context("a fragment without a time")?,
            );
        }
    }
    Ok(times)
}

fn start(tfdt: &[u8]) -> Option<u64> {
    match tfdt.first()? {
        1 => Some(u64::from_be_bytes(tfdt.get(4..12)?.try_into().ok()?)),
        _ => u32_at(tfdt, 4).map(u64::from),
    }
}

struct Box<'a> {
    kind: [u8; 4],
    body: &'a [u8],
    end: usize,
}

/// The box at an offset, or `None` if it is not whole. A size of 1 means that 64 bits follow, 0 the rest of the file.
fn box_at(data: &[u8], at: usize) -> Option<Box<'_>> {
    let head = data.get(at..at + 8)?;
    let kind = head[4..8].try_into().ok()?;
    let (header, len) = match u32_at(head, 0)? {
        0 => (8, data.len() - at),
        1 => (
            16,
            usize::try_from(u64::from_be_bytes(data.get(at + 8..at + 16)?.try_into().ok()?)).ok()?,
        ),
        len => (8, len as usize),
    };
    let end = at.checked_add(len)?;
    Some(Box {
        kind,
        body: data.get(at + header..end)?,
        end,
    })
}

struct Sample {
    /// From the first byte of the moof.
    offset: isize,
    len: usize,
}

fn moof(body: &[u8]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for traf in children(body).filter(is_video) {
        let mut default_len = None;
        for child in children(traf.body) {
            match &child.kind {
                b"tfhd" => default_len = tfhd(child.body)?,
                b"trun" => trun(child.body, default_len, &mut samples)?,
                _ => {}
            }
        }
    }
    Ok(samples)
}

/// Whether a box is a track fragment of the video, which is the first track; sound is judged by others.
fn is_video(found: &Box<'_>) -> bool {
    let mut within = children(found.body);
    let tfhd = within.find(|child| &child.kind == b"tfhd");
    &found.kind == b"traf" && tfhd.and_then(|tfhd| u32_at(tfhd.body, 4)) == Some(1)
}

fn children(body: &[u8]) -> impl Iterator<Item = Box<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let found = box_at(body, at)?;
        at = found.end;
        Some(found)
    })
}

/// The default sample size of a track fragment header (8.8.7).
fn tfhd(body: &[u8]) -> Result<Option<usize>> {
    let flags = u32_at(body, 0).context("tfhd is cut")?;
    ensure!(
        flags & 0x01 == 0,
        "tfhd with a base data offset: offsets have to count from the moof"
    );
    // flags, track id, then optional: description index (0x02), duration (0x08), size (0x10)
    let skip = 8 + 4 * (flags >> 1 & 1) + 4 * (flags >> 3 & 1);
    Ok((flags & 0x10 != 0).then(|| u32_at(body, skip as usize).unwrap_or(0) as usize))
}

/// The samples of a track run (8.8.8), after those of the runs before it.
fn trun(body: &[u8], default_len: Option<usize>, samples: &mut Vec<Sample>) -> Result<()> {
    let flags = u32_at(body, 0).context("trun is cut")?;
    let count = u32_at(body, 4).context("trun is cut")?;
    let mut at = 8;
    let mut offset = match (flags & 0x01 != 0, samples.last()) {
        (true, _) => u32_at(body, at).context("trun is cut")?.cast_signed() as isize,
        (false, Some(before)) => before.offset + before.len as isize,
        (false, None) => bail!("trun without a data offset"),
    };
    at += 4 * (flags & 1) as usize + 4 * (flags >> 2 & 1) as usize;
    let before_len = 4 * (flags >> 8 & 1) as usize;
    let after_len = 4 * ((flags >> 10 & 1) + (flags >> 11 & 1)) as usize;
    for _ in 0..count {
        at += before_len;
        let len = if flags & 0x200 == 0 {
            default_len.context("a sample without a size")?
        } else {
            at += 4;
            u32_at(body, at - 4).context("trun is cut")? as usize
        };
        at += after_len;
        samples.push(Sample { offset, len });
        offset += len as isize;
    }
    Ok(())
}

/// The stamp of one sample, whose NAL units each follow their length in 4 bytes. The stamp's own unit tells the codec:
/// type 6 of H.264, or 39 of H.265 (ITU-T H.264 and H.265, table 7-1).
fn stamp(sample: &[u8]) -> Result<Option<Stamp>> {
    let (mut at, mut slices, mut stamps) = (0, [0, 0], Vec::new());
    while at < sample.len() {
        let len = u32_at(sample, at).context("a NAL unit's length is cut")? as usize;
        let nal = sample
            .get(at + 4..at + 4 + len)
            .context("a NAL unit is longer than its sample")?;
        let first = nal.first().copied().unwrap_or(0xff);
        let (avc, hevc) = (first & 31, first >> 1 & 63);
        slices[0] += u32::from((1..=5).contains(&avc));
        slices[1] += u32::from(hevc < 32);
        if avc == 6 || hevc == 39 {
            let found = Stamp::find_all(nal).into_iter();
            stamps.extend(found.map(|stamp| (stamp, usize::from(hevc == 39))));
        }
        at += 4 + len;
    }
    Ok(match stamps[..] {
        [(stamp, codec)] if slices[codec] > 0 => Some(stamp),
        _ => None,
    })
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}
