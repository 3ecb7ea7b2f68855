//! Writing.

use bytes::Bytes;
use mp4_atom as mp4;
use mp4_atom::{Decode, Encode};

use super::audio::{self, Audio, AudioTrack, Packet};
use super::{FRAGMENT_BOX, HEADER_BOX, HEADER_BOX_WITH_SOUND, MAX_FRAGMENT, MAX_FRAMES, TIMESCALE, ntp};
use crate::error::{Error, Result};
use crate::hash::FrameHash;
use crate::header::Header;

/// The flags of a sample that others are not needed for (ISO/IEC 14496-12, 8.8.3.1).
pub(super) const BUILT: u32 = 0x0200_0000;
/// The flags of a sample that others are needed for.
const DEPENDENT: u32 = 0x0101_0000;

/// The tracks of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// The sample entry box, `avc1` or `hvc1`, with the parameter sets.
    pub sample_entry: Bytes,
    /// Displayed width, pixels.
    pub width: u16,
    /// Displayed height, pixels.
    pub height: u16,
    /// The sound.
    pub audio: Option<AudioTrack>,
}

/// One frame to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// NAL units, each after its 4-byte length, byte for byte as the camera sent them.
    pub data: Bytes,
    /// Whether decoding can begin here.
    pub key: bool,
    /// Decoding time in its run, 1/90000 s.
    pub dts: u64,
    /// Presentation minus decoding time, 1/90000 s.
    pub cts: i32,
    /// Duration, 1/90000 s.
    pub duration: u32,
    /// Wall clock of the presentation, microseconds since the Unix epoch.
    pub wallclock_us: i64,
    /// Hash of the slice NAL units: [`crate::nal::frame_hash`].
    pub hash: FrameHash,
}

pub(super) fn media<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Error + '_ {
    move |e| Error::Media(format!("{what}: {e}"))
}

/// The head of a segment: `ftyp`, our header box, `moov`.
///
/// # Errors
/// [`Error::Media`] if the sample entry is not one that is kept byte for byte, or the header speaks of other sound than the track.
pub fn write_head(header: &Header, track: &Track) -> Result<Bytes> {
    if header.audio != track.audio.as_ref().map(AudioTrack::audio) {
        return Err(Error::Media("the header is not that of the sound".into()));
    }
    let user_type = match header.audio {
        None => &HEADER_BOX,
        Some(_) => &HEADER_BOX_WITH_SOUND,
    };
    let mut out = ftyp()?;
    let mut cbor = Vec::new();
    ciborium::into_writer(header, &mut cbor).map_err(media("header"))?;
    uuid_box(&mut out, user_type, &cbor);
    out.append(&mut index(track)?);
    Ok(out.into())
}

/// What a live viewer needs before the first fragment: `ftyp` and `moov`. It belongs to no segment, so it has no header.
///
/// # Errors
/// As [`write_head`].
pub fn write_init(track: &Track) -> Result<Bytes> {
    let mut out = ftyp()?;
    out.append(&mut index(track)?);
    Ok(out.into())
}

fn ftyp() -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let ftyp = mp4::Ftyp {
        major_brand: b"iso6".into(),
        minor_version: 0,
        compatible_brands: vec![b"iso6".into(), b"cmfc".into(), b"mp41".into()],
    };
    ftyp.encode(&mut out).map_err(media("ftyp"))?;
    Ok(out)
}

/// The whole `moov`.
fn index(track: &Track) -> Result<Vec<u8>> {
    let mut index = Vec::new();
    moov(track).encode(&mut index).map_err(media("moov"))?;
    insert_sample_entry(&mut index, 0, &track.sample_entry)?;
    if let Some(audio) = &track.audio {
        insert_sample_entry(&mut index, 1, audio.sample_entry())?;
    }
    // What cannot be read again must not be recorded.
    mp4::Moov::decode(&mut &index[..]).map_err(media("sample entry"))?;
    Ok(index)
}

/// The sample entry goes into `stsd` byte for byte, which mp4-atom cannot do: it would decode and encode it again.
fn insert_sample_entry(moov: &mut Vec<u8>, trak: usize, entry: &[u8]) -> Result<()> {
    let wrong = || Error::Media("the sample entry is not one whole box".into());
    super::boxes(entry)
        .next()
        .filter(|b| b.bytes.len() == entry.len())
        .ok_or_else(wrong)?;
    let (mut at, mut end) = (0, moov.len());
    for kind in [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"] {
        let nth = if kind == b"trak" { trak } else { 0 };
        let found = super::boxes(&moov[at..end])
            .filter(|b| &b.kind == kind)
            .nth(nth)
            .ok_or_else(wrong)?;
        let (begin, size) = (at + found.offset, found.bytes.len());
        moov[begin..begin + 4].copy_from_slice(&((size + entry.len()) as u32).to_be_bytes());
        (at, end) = (begin + 8, begin + size);
    }
    // Version and flags, then the number of entries, then the entries (ISO/IEC 14496-12, 8.5.2).
    moov[at + 4..at + 8].copy_from_slice(&1u32.to_be_bytes());
    moov.splice(end..end, entry.iter().copied());
    Ok(())
}

/// What both tracks have, without a media header.
pub(super) fn minf() -> mp4::Minf {
    let stbl = mp4::Stbl {
        stsd: mp4::Stsd::default(),
        stco: Some(mp4::Stco::default()),
        ..Default::default()
    };
    let dref = mp4::Dref {
        entries: vec![mp4::DrefEntry::Url(mp4::Url::default())],
    };
    mp4::Minf {
        dinf: mp4::Dinf { dref },
        stbl,
        ..Default::default()
    }
}

/// The `trak` of the video, without its sample entry.
fn video(track: &Track) -> mp4::Trak {
    let mdhd = mp4::Mdhd {
        timescale: TIMESCALE,
        language: "und".into(),
        ..Default::default()
    };
    let hdlr = mp4::Hdlr {
        handler: b"vide".into(),
        name: "Gapless".into(),
    };
    let minf = mp4::Minf {
        vmhd: Some(mp4::Vmhd::default()),
        ..minf()
    };
    let tkhd = mp4::Tkhd {
        track_id: 1,
        enabled: true,
        in_movie: true,
        width: track.width.into(),
        height: track.height.into(),
        ..Default::default()
    };
    mp4::Trak {
        tkhd,
        mdia: mp4::Mdia { mdhd, hdlr, minf },
        ..Default::default()
    }
}

fn moov(track: &Track) -> mp4::Moov {
    let audio = track.audio.as_ref().map(|track| audio::trak(track.audio()));
    let trak: Vec<mp4::Trak> = std::iter::once(video(track)).chain(audio).collect();
    let trex = |trak: &mp4::Trak| mp4::Trex {
        track_id: trak.tkhd.track_id,
        default_sample_description_index: 1,
        ..Default::default()
    };
    mp4::Moov {
        mvhd: mp4::Mvhd {
            timescale: TIMESCALE,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: trak.len() as u32 + 1,
            ..Default::default()
        },
        mvex: Some(mp4::Mvex {
            mehd: None,
            trex: trak.iter().map(trex).collect(),
        }),
        trak,
        ..Default::default()
    }
}

/// A fragment: `prft`, our fragment box, `moof`, `mdat`, and with `sound` another `moof` and `mdat`. `number` counts the fragments
/// of a file from 0. `paused` is how long after the end of the frame before it begins although none was lost, 1/90000 s; 0 where
/// that is not known. Sound that does not fit is left out.
///
/// # Errors
/// [`Error::Media`] if there are no frames, or too many or too large ones for a fragment.
pub fn write_fragment(
    number: u64,
    paused: u32,
    samples: &[Sample],
    sound: Option<(Audio, &[Packet])>,
) -> Result<Bytes> {
    let first = samples
        .first()
        .ok_or_else(|| Error::Media("a fragment without frames".into()))?;
    let size: usize = samples.iter().map(|s| s.data.len()).sum();
    if samples.len() > MAX_FRAMES || size > MAX_FRAGMENT / 2 {
        return Err(Error::Media(format!(
            "a fragment of {} frames and {size} bytes is too large",
            samples.len()
        )));
    }
    let mut clock = Vec::new();
    let prft = mp4::Prft {
        reference_track_id: 1,
        ntp_timestamp: ntp(first.wallclock_us),
        media_time: first.dts.saturating_add_signed(i64::from(first.cts)),
        utc_time_semantics: mp4::ReferenceTime::Input,
    };
    prft.encode(&mut clock).map_err(media("prft"))?;
    let entries: Vec<mp4::TrunEntry> = samples.iter().map(entry).collect();
    let mut body = moof(number, 1, first.dts, &entries)?;
    body.extend_from_slice(&(8 + size as u32).to_be_bytes());
    body.extend_from_slice(b"mdat");
    for sample in samples {
        body.extend_from_slice(&sample.data);
    }
    if let Some((audio, packets)) = sound {
        body.append(&mut audio::write(number, audio, packets)?);
    }
    let pause = if paused > 0 {
        &paused.to_be_bytes()[..]
    } else {
        &[]
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&clock).update(pause).update(&body);
    let payload = [&number.to_be_bytes()[..], pause, hasher.finalize().as_bytes()].concat();
    uuid_box(&mut clock, &FRAGMENT_BOX, &payload);
    clock.append(&mut body);
    Ok(clock.into())
}

fn entry(s: &Sample) -> mp4::TrunEntry {
    mp4::TrunEntry {
        duration: Some(s.duration),
        size: Some(s.data.len() as u32),
        flags: Some(if s.key { BUILT } else { DEPENDENT }),
        cts: Some(s.cts.into()),
    }
}

/// The `moof` of the samples of one track from `time` on, whose data follows it in one `mdat`.
pub(super) fn moof(number: u64, track_id: u32, time: u64, samples: &[mp4::TrunEntry]) -> Result<Vec<u8>> {
    let trun = |offset| mp4::Trun {
        data_offset: Some(offset),
        samples: samples.to_vec().into(),
    };
    let moof = |offset| mp4::Moof {
        mfhd: mp4::Mfhd {
            // It rises from each moof of a file to the next.
            sequence_number: (2 * number) as u32 + track_id,
        },
        traf: vec![mp4::Traf {
            tfhd: mp4::Tfhd {
                track_id,
                default_base_is_moof: true,
                ..Default::default()
            },
            tfdt: Some(mp4::Tfdt {
                base_media_decode_time: time,
            }),
            trun: vec![trun(offset)],
            ..Default::default()
        }],
    };
    let mut out = Vec::new();
    moof(0).encode(&mut out).map_err(media("moof"))?;
    let offset = out.len() as i32 + 8;
    out.clear();
    moof(offset).encode(&mut out).map_err(media("moof"))?;
    Ok(out)
}

fn uuid_box(out: &mut Vec<u8>, user_type: &[u8; 16], payload: &[u8]) {
    out.extend_from_slice(&(24 + payload.len() as u32).to_be_bytes());
    out.extend_from_slice(b"uuid");
    out.extend_from_slice(user_type);
    out.extend_from_slice(payload);
}
