//! Sound beside the video: a second track, whose packets follow the frames of a fragment in a `moof` and an `mdat` of their own.
//! It is best effort: what does not fit is left out, and never keeps a frame from the disk.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use mp4_atom as mp4;
use mp4_atom::Decode;
use serde::{Deserialize, Serialize};

use super::write::{BUILT, media};
use super::{BoxRef, boxes};
use crate::error::{Error, Result};

/// The most bytes of sound in a fragment.
pub const MAX_AUDIO: usize = 1 << 20;
/// The most packets of sound in a fragment.
const MAX_PACKETS: usize = 4096;
/// The most bytes of a sample entry.
const MAX_ENTRY: usize = 4096;
/// The longest time from one packet to the next within a fragment, seconds.
const MAX_SECONDS: u32 = 60;
/// The track of the sound.
const TRACK: u32 = 2;

/// How sound is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AudioCodec {
    /// AAC (ISO/IEC 14496-3).
    Aac,
    /// G.711, mu-law.
    Pcmu,
    /// G.711, A-law.
    Pcma,
}

/// The sound of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audio {
    /// How it is coded.
    pub codec: AudioCodec,
    /// Samples a second; also the ticks of its media time in a second. 1 to 65535.
    pub rate: u32,
    /// Channels, 1 to 8.
    pub channels: u16,
}

impl Audio {
    /// Whether it can be written.
    pub fn is_valid(self) -> bool {
        (1..=u32::from(u16::MAX)).contains(&self.rate) && (1..=8).contains(&self.channels)
    }

    /// Whether a packet can be of this sound: of G.711 each sample is a byte, an AAC packet is shorter than 8 KiB for each channel.
    /// `duration` is the time to the next packet, which is longer where some lack.
    fn allows(self, size: usize, duration: u32) -> bool {
        let channels = usize::from(self.channels);
        let fits = match self.codec {
            AudioCodec::Aac => size < channels << 13,
            AudioCodec::Pcmu | AudioCodec::Pcma => {
                size.is_multiple_of(channels) && size / channels <= duration as usize
            }
        };
        fits && size > 0 && duration > 0 && duration <= MAX_SECONDS * self.rate
    }
}

/// The track of a run's sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioTrack {
    audio: Audio,
    sample_entry: Bytes,
}

impl AudioTrack {
    /// A track with the sample entry box `sample_entry`, kept byte for byte.
    ///
    /// # Errors
    /// [`Error::Media`] if a head with it could not be read again.
    pub fn new(audio: Audio, sample_entry: Bytes) -> Result<Self> {
        let whole = boxes(&sample_entry).next().map(|b| b.bytes.len()) == Some(sample_entry.len());
        if !whole || sample_entry.len() > MAX_ENTRY || !audio.is_valid() {
            return Err(Error::Media("the sound is none that can be written".into()));
        }
        mp4::Codec::decode(&mut &sample_entry[..]).map_err(media("sample entry of the sound"))?;
        Ok(Self { audio, sample_entry })
    }

    /// The track of G.711, with the sample entry of QuickTime: `ulaw` or `alaw` (QTFF, "Sound Sample Descriptions", version 0).
    ///
    /// # Errors
    /// [`Error::Media`] if it is not G.711, or its rate or channels are out of range.
    pub fn g711(audio: Audio) -> Result<Self> {
        let kind = match audio.codec {
            AudioCodec::Pcmu => b"ulaw",
            AudioCodec::Pcma => b"alaw",
            AudioCodec::Aac => return Err(Error::Media("AAC has a sample entry of its own".into())),
        };
        let mut entry = 36u32.to_be_bytes().to_vec();
        entry.extend_from_slice(kind);
        // Reserved, data reference 1, version, revision and vendor.
        entry.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        entry.extend_from_slice(&audio.channels.to_be_bytes());
        // Bits of a sample when it is decoded, no compression of a sample description's own.
        entry.extend_from_slice(&[0, 16, 0, 0, 0, 0]);
        entry.extend_from_slice(&(audio.rate << 16).to_be_bytes());
        Self::new(audio, entry.into())
    }

    /// What it is.
    pub fn audio(&self) -> Audio {
        self.audio
    }

    /// The sample entry.
    pub(super) fn sample_entry(&self) -> &[u8] {
        &self.sample_entry
    }
}

/// One packet of sound: an AAC access unit, or some samples of G.711.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its bytes.
    pub data: Bytes,
    /// Its time in the run, ticks of the sound's rate, offset to the Unix epoch as the frames' are.
    pub time: u64,
    /// Its duration, the same ticks.
    pub duration: u32,
}

/// The `trak` of the sound, without its sample entry.
pub(super) fn trak(audio: Audio) -> mp4::Trak {
    let mdhd = mp4::Mdhd {
        timescale: audio.rate,
        language: "und".into(),
        ..Default::default()
    };
    let hdlr = mp4::Hdlr {
        handler: b"soun".into(),
        name: "Gapless".into(),
    };
    let minf = mp4::Minf {
        smhd: Some(mp4::Smhd::default()),
        ..super::write::minf()
    };
    let tkhd = mp4::Tkhd {
        track_id: TRACK,
        enabled: true,
        in_movie: true,
        volume: 1.into(),
        ..Default::default()
    };
    mp4::Trak {
        tkhd,
        mdia: mp4::Mdia { mdhd, hdlr, minf },
        ..Default::default()
    }
}

/// The second part of a fragment: `moof` and `mdat` of the packets that fit; nothing where none does.
pub(super) fn write(number: u64, audio: Audio, packets: &[Packet]) -> Result<Vec<u8>> {
    let kept = fitting(audio, packets);
    let Some((first, _)) = kept.first() else {
        return Ok(Vec::new());
    };
    let entry = |(packet, duration): &(&Packet, u32)| mp4::TrunEntry {
        duration: Some(*duration),
        size: Some(packet.data.len() as u32),
        flags: Some(BUILT),
        cts: None,
    };
    let samples: Vec<mp4::TrunEntry> = kept.iter().map(entry).collect();
    let mut out = super::write::moof(number, TRACK, first.time, &samples)?;
    let size: usize = kept.iter().map(|(packet, _)| packet.data.len()).sum();
    out.extend_from_slice(&(8 + size as u32).to_be_bytes());
    out.extend_from_slice(b"mdat");
    for (packet, _) in &kept {
        out.extend_from_slice(&packet.data);
    }
    Ok(out)
}

/// The packets that one fragment can hold, one after the other in time, each with the time to the next.
fn fitting(audio: Audio, packets: &[Packet]) -> Vec<(&Packet, u32)> {
    let mut kept: Vec<(&Packet, u32)> = Vec::with_capacity(packets.len());
    let (mut end, mut bytes) = (0, 0);
    for packet in packets.iter().take(MAX_PACKETS) {
        bytes += packet.data.len();
        if bytes > MAX_AUDIO {
            break;
        }
        if packet.time < end || !audio.allows(packet.data.len(), packet.duration) {
            continue;
        }
        if let Some((before, duration)) = kept.last_mut() {
            let apart = packet.time - before.time;
            match u32::try_from(apart) {
                Ok(apart) if apart <= MAX_SECONDS * audio.rate => *duration = apart,
                _ => break,
            }
        }
        end = packet.time + u64::from(packet.duration);
        kept.push((packet, packet.duration));
    }
    kept
}

/// Proves the second part of a fragment (I4).
pub(super) fn read(
    moof: &BoxRef<'_>,
    mdat: &BoxRef<'_>,
    audio: Audio,
) -> std::result::Result<(), &'static str> {
    let index = mp4::Moof::decode(&mut &*moof.bytes).map_err(|_| "the moof of the sound cannot be read")?;
    let [traf] = &index.traf[..] else {
        return Err("not exactly one traf of sound");
    };
    let [trun] = &traf.trun[..] else {
        return Err("not exactly one trun of sound");
    };
    if traf.tfhd.track_id != TRACK || traf.tfdt.is_none() {
        return Err("the sound is not of its track, or has no time");
    }
    if trun.data_offset != Some((moof.bytes.len() + 8) as i32) {
        return Err("the sound does not begin where its mdat does");
    }
    let (mut count, mut bytes) = (0, 0usize);
    for entry in &trun.samples {
        let (Some(size), Some(duration)) = (entry.size, entry.duration) else {
            return Err("a packet of sound without size or duration");
        };
        if !audio.allows(size as usize, duration) {
            return Err("a packet that is none of its sound");
        }
        (count, bytes) = (count + 1, bytes + size as usize);
        if count > MAX_PACKETS || bytes > MAX_AUDIO {
            return Err("too much sound");
        }
    }
    match (count, bytes == mdat.body().len()) {
        (0, _) => Err("a part for sound without any"),
        (_, false) => Err("the packets of sound are not those of their mdat"),
        (_, true) => Ok(()),
    }
}

/// How many packets of sound a fragment has.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn packets(fragment: &[u8]) -> std::result::Result<usize, &'static str> {
    let Some(moof) = boxes(fragment).filter(|b| &b.kind == b"moof").nth(1) else {
        return Ok(0);
    };
    let index = mp4::Moof::decode(&mut &*moof.bytes).map_err(|_| "the moof of the sound cannot be read")?;
    let runs = index.traf.iter().flat_map(|traf| &traf.trun);
    Ok(runs.map(|trun| trun.samples.len()).sum())
}

/// Where in a head the types of the boxes stand that tell of sound: who writes `free` over each has a head of the same length
/// without sound.
pub fn sound_in_head(head: &[u8]) -> Vec<usize> {
    let Some(moov) = boxes(head).find(|b| &b.kind == b"moov") else {
        return Vec::new();
    };
    let second = |within: &BoxRef<'_>, kind: &[u8; 4]| {
        let found = boxes(within.body()).filter(|b| &b.kind == kind).nth(1);
        found.map(|b| within.offset + 8 + b.offset + 4)
    };
    let mvex = boxes(moov.body()).find(|b| &b.kind == b"mvex").map(|b| BoxRef {
        offset: moov.offset + 8 + b.offset,
        ..b
    });
    let trex = mvex.and_then(|mvex| second(&mvex, b"trex"));
    second(&moov, b"trak").into_iter().chain(trex).collect()
}

/// The same of a fragment from `begin` to `end` of a file; `header` reads the first eight bytes of a box.
///
/// # Errors
/// Those of `header`.
pub fn sound_in_fragment<E>(
    begin: u64,
    end: u64,
    mut header: impl FnMut(u64) -> std::result::Result<[u8; 8], E>,
) -> std::result::Result<Vec<u64>, E> {
    let (mut at, mut moofs, mut found) = (begin, 0, Vec::new());
    while at + 8 <= end {
        let [a, b, c, d, kind @ ..] = header(at)?;
        moofs += usize::from(&kind == b"moof");
        if moofs > 1 {
            found.push(at + 4);
        }
        at += u64::from(u32::from_be_bytes([a, b, c, d])).max(8);
    }
    Ok(found)
}
