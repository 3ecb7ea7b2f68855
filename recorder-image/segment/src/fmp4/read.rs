//! Reading: for recovery, for verification of a peer's bytes, for the index. No input makes it panic or allocate beyond
//! the size of the input.

use mp4_atom as mp4;
use mp4_atom::Decode;

use super::audio::{self, Audio};
use super::{FRAGMENT_BOX, HEADER_BOX, HEADER_BOX_WITH_SOUND, MAX_FRAMES, unix_us};
use crate::hash::FrameHash;
use crate::header::Header;
use crate::nal;
use crate::sabotage::{Invariant::I4, breaks};

/// One box of the top level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxRef<'a> {
    /// Its type.
    pub kind: [u8; 4],
    /// Where it begins in the walked bytes.
    pub offset: usize,
    /// All of it, with its 8-byte header.
    pub bytes: &'a [u8],
}

impl<'a> BoxRef<'a> {
    /// What follows the header.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[8..]
    }
}

/// The boxes of the top level, as far as they are whole. Boxes with 64-bit sizes are not written by us and end the walk.
pub fn boxes(data: &[u8]) -> impl Iterator<Item = BoxRef<'_>> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let rest = data.get(offset..)?;
        let (size, tail) = rest.split_first_chunk::<4>()?;
        let kind = *tail.first_chunk::<4>()?;
        let size = u32::from_be_bytes(*size) as usize;
        let bytes = rest.get(..size).filter(|_| size >= 8)?;
        let found = BoxRef { kind, offset, bytes };
        offset += size;
        Some(found)
    })
}

/// The head of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Our header.
    pub header: Header,
    /// Its length, bytes.
    pub len: usize,
}

/// Reads the head at the beginning of `data`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn head(data: &[u8]) -> Result<Head, &'static str> {
    let mut walk = boxes(data);
    let mut next = |kind: &[u8; 4]| walk.next().filter(|b| &b.kind == kind);
    next(b"ftyp").ok_or("does not begin with ftyp")?;
    let uuid = next(b"uuid").ok_or("no header box after ftyp")?;
    let moov = next(b"moov").ok_or("no whole moov after the header box")?;
    let body = uuid.body();
    let plain = body.strip_prefix(&HEADER_BOX[..]);
    let cbor = plain
        .or_else(|| body.strip_prefix(&HEADER_BOX_WITH_SOUND[..]))
        .ok_or("the uuid box is not a Gapless header")?;
    let header: Header = ciborium::from_reader(cbor).map_err(|_| "the header cannot be read")?;
    if header.audio.is_none() != plain.is_some() {
        return Err("the header is of another version than its box");
    }
    let index = mp4::Moov::decode(&mut &*moov.bytes).map_err(|_| "moov cannot be read")?;
    check_tracks(&index, header.audio)?;
    if !header.id.is_valid() {
        return Err("the header names no valid segment");
    }
    Ok(Head {
        header,
        len: moov.offset + moov.bytes.len(),
    })
}

/// Whether `moov` has the tracks that the header names.
fn check_tracks(moov: &mp4::Moov, audio: Option<Audio>) -> Result<(), &'static str> {
    let is_sound = |trak: &mp4::Trak, audio: Audio| {
        let mdia = &trak.mdia;
        audio.is_valid() && mdia.hdlr.handler == b"soun".into() && mdia.mdhd.timescale == audio.rate
    };
    match (&moov.trak[..], audio) {
        ([_], None) => Ok(()),
        ([_, sound], Some(audio)) if is_sound(sound, audio) => Ok(()),
        _ => Err("moov has not the tracks that the header names"),
    }
}

/// What the fragments of a file hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    /// Whether the video is H.265 (else H.264).
    pub hevc: bool,
    /// The sound, where there may be any.
    pub audio: Option<Audio>,
}

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedSample {
    /// Where its data begins in the fragment, and its length.
    pub range: std::ops::Range<usize>,
    /// Whether decoding can begin here.
    pub key: bool,
    /// Duration, 1/90000 s.
    pub duration: u32,
    /// Wall clock, microseconds since the Unix epoch.
    pub wallclock_us: i64,
    /// Hash of the slice NAL units.
    pub hash: FrameHash,
}

/// A fragment as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Its number in the file, from 0.
    pub number: u64,
    /// Its length, bytes.
    pub len: usize,
    /// Decoding time of the first frame in the run, 1/90000 s.
    pub dts: u64,
    /// How long after the frame before it begins although none was lost, 1/90000 s; 0 where that is not known.
    pub paused: u32,
    /// The frames.
    pub samples: Vec<ParsedSample>,
}

/// Reads and proves the fragment at the beginning of `data`: its hash, its structure, its frames' NAL units, its sound's packets.
///
/// # Errors
/// What is wrong with it, in words.
pub fn fragment(data: &[u8], tracks: Tracks) -> Result<Parsed, &'static str> {
    read(data, tracks, Hashes::OfBytes)
}

/// Reads the fragment that this process just made of frames with these hashes. Its structure is checked as that of any other,
/// but no byte is hashed again.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn own_fragment(
    data: &[u8],
    tracks: Tracks,
    hashes: &[FrameHash],
) -> Result<Parsed, &'static str> {
    let parsed = read(data, tracks, Hashes::Known(hashes))?;
    if parsed.samples.len() != hashes.len() {
        return Err("not as many frames as hashes");
    }
    Ok(parsed)
}

/// Where the hashes are from.
#[derive(Clone, Copy)]
enum Hashes<'a> {
    /// The bytes, so that they are proven.
    OfBytes,
    /// Whoever made the bytes: one for each frame.
    Known(&'a [FrameHash]),
}

fn read(data: &[u8], tracks: Tracks, hashes: Hashes<'_>) -> Result<Parsed, &'static str> {
    let mut walk = boxes(data);
    let mut next = |kind: &[u8; 4]| walk.next().filter(|b| &b.kind == kind);
    let prft = next(b"prft").ok_or("no whole prft")?;
    let uuid = next(b"uuid").ok_or("no whole fragment box after prft")?;
    let moof = next(b"moof").ok_or("no whole moof after the fragment box")?;
    let mdat = next(b"mdat").ok_or("no whole mdat after moof")?;
    let sound = match tracks.audio {
        Some(audio) => next(b"moof").zip(next(b"mdat")).map(|part| (audio, part)),
        None => None,
    };
    let media = [moof, mdat]
        .into_iter()
        .chain(sound.map(|(_, part)| [part.0, part.1]).into_iter().flatten());
    let carried = carried(&uuid)?;
    if matches!(hashes, Hashes::OfBytes)
        && hash_of(&prft, carried.paused, media) != *carried.hash
        && !breaks(I4)
    {
        return Err("the hash of the fragment is not that of its bytes");
    }
    if let Some((audio, (moof, mdat))) = &sound {
        audio::read(moof, mdat, *audio)?;
    }
    let clock = mp4::Prft::decode(&mut &*prft.bytes).map_err(|_| "prft cannot be read")?;
    let index = mp4::Moof::decode(&mut &*moof.bytes).map_err(|_| "moof cannot be read")?;
    let mut samples = samples(&index, &moof, &mdat, unix_us(clock.ntp_timestamp), tracks.hevc)?;
    for (n, sample) in samples.iter_mut().enumerate() {
        sample.hash = match hashes {
            Hashes::OfBytes => nal::frame_hash(&data[sample.range.clone()], tracks.hevc),
            Hashes::Known(known) => *known.get(n).ok_or("a frame without a hash")?,
        };
    }
    let dts = index.traf[0]
        .tfdt
        .as_ref()
        .ok_or("no tfdt")?
        .base_media_decode_time;
    Ok(Parsed {
        number: carried.number,
        len: sound.map_or(end(&mdat), |(_, (_, mdat))| end(&mdat)),
        dts,
        paused: carried.paused.map_or(0, |ticks| u32::from_be_bytes(*ticks)),
        samples,
    })
}

/// Where a box ends in the walked bytes.
fn end(found: &BoxRef<'_>) -> usize {
    found.offset + found.bytes.len()
}

/// What a fragment box says.
struct Carried<'a> {
    /// The fragment's number.
    number: u64,
    /// [`Parsed::paused`], where it is not 0.
    paused: Option<&'a [u8; 4]>,
    /// What the fragment's hash should be.
    hash: &'a [u8; 32],
}

fn carried<'a>(uuid: &BoxRef<'a>) -> Result<Carried<'a>, &'static str> {
    let payload = uuid
        .body()
        .strip_prefix(&FRAGMENT_BOX[..])
        .ok_or("the uuid box is not a Gapless fragment")?;
    let short = "a short fragment box";
    let (number, rest) = payload.split_first_chunk::<8>().ok_or(short)?;
    let (paused, hash) = rest.split_last_chunk::<32>().ok_or(short)?;
    let paused = match paused {
        [] => None,
        some => Some(some.try_into().map_err(|_| "a fragment box of no known length")?),
    };
    Ok(Carried {
        number: u64::from_be_bytes(*number),
        paused,
        hash,
    })
}

/// The hash that the fragment at the beginning of `data` carries of all its other bytes, whether or not it is theirs.
pub(crate) fn carried_hash(data: &[u8]) -> Option<[u8; 32]> {
    let uuid = boxes(data).nth(1).filter(|found| &found.kind == b"uuid")?;
    Some(*carried(&uuid).ok()?.hash)
}

fn hash_of<'a>(
    prft: &BoxRef<'_>,
    paused: Option<&[u8; 4]>,
    media: impl Iterator<Item = BoxRef<'a>>,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(prft.bytes);
    hasher.update(paused.map_or(&[], |ticks| &ticks[..]));
    for part in media {
        hasher.update(part.bytes);
    }
    *hasher.finalize().as_bytes()
}

/// The frames, without their hashes.
fn samples(
    index: &mp4::Moof,
    moof: &BoxRef<'_>,
    mdat: &BoxRef<'_>,
    start_us: i64,
    hevc: bool,
) -> Result<Vec<ParsedSample>, &'static str> {
    let [traf] = &index.traf[..] else {
        return Err("not exactly one traf");
    };
    let [trun] = &traf.trun[..] else {
        return Err("not exactly one trun");
    };
    if trun.samples.is_empty() || trun.samples.len() > MAX_FRAMES {
        return Err("no frames, or too many");
    }
    if trun.data_offset != Some((moof.bytes.len() + 8) as i32) {
        return Err("the data does not begin where mdat does");
    }
    let (mut at, mut ticks, mut out) = (0usize, 0i64, Vec::with_capacity(trun.samples.len()));
    let first_cts = trun.samples.get(0).and_then(|s| s.cts).unwrap_or(0);
    for entry in &trun.samples {
        let (Some(size), Some(duration), Some(flags)) = (entry.size, entry.duration, entry.flags) else {
            return Err("a frame without size, duration or flags");
        };
        let data = mdat
            .body()
            .get(at..)
            .and_then(|d| d.get(..size as usize))
            .ok_or("a frame beyond mdat")?;
        nal::check(data, hevc)?;
        let begin = mdat.offset + 8 + at;
        let offset = ticks + entry.cts.unwrap_or(0) - first_cts;
        out.push(ParsedSample {
            range: begin..begin + size as usize,
            key: flags & 0x0001_0000 == 0,
            duration,
            wallclock_us: start_us + offset * 100 / 9,
            hash: FrameHash::default(),
        });
        at += size as usize;
        ticks += i64::from(duration);
    }
    if at < mdat.body().len() {
        return Err("bytes in mdat that belong to no frame");
    }
    Ok(out)
}
