//! Sound beside the video, as players find it: ffprobe and ffmpeg judge.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use segment::fmp4::{boxes, sound_in_fragment, sound_in_head};
use segment::receive::Receiving;
use segment::{Audio, AudioCodec, AudioTrack, Header, Packet, Role, SegmentFile, Track, Volume};

use crate::common::{clip, decode_errors, header, sample};

/// Seconds of media.
const SECONDS: u64 = 4;

fn ffmpeg(args: &str) -> Vec<u8> {
    let out = Command::new("ffmpeg").args(args.split(' ')).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// A tone as G.711 in packets of 20 ms.
fn g711(codec: AudioCodec) -> (AudioTrack, Vec<Packet>) {
    let name = if codec == AudioCodec::Pcmu {
        "mulaw"
    } else {
        "alaw"
    };
    let tone = ffmpeg(&format!(
        "-v error -f lavfi -i sine=frequency=440:duration={SECONDS} -ar 8000 -ac 1 -f {name} -"
    ));
    let audio = Audio {
        codec,
        rate: 8000,
        channels: 1,
    };
    (AudioTrack::g711(audio).unwrap(), packets(tone.chunks(160), 160))
}

/// A tone as AAC.
fn aac() -> (AudioTrack, Vec<Packet>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tone.mp4");
    let made = format!(
        "-v error -f lavfi -i sine=frequency=440:duration={SECONDS}:sample_rate=48000 -ac 1 -c:a aac {}",
        path.display()
    );
    ffmpeg(&made);
    let data = std::fs::read(&path).unwrap();
    let at = data.windows(4).position(|w| w == b"mp4a").unwrap() - 4;
    let len = u32::from_be_bytes(*data[at..].first_chunk().unwrap()) as usize;
    let audio = Audio {
        codec: AudioCodec::Aac,
        rate: 48_000,
        channels: 1,
    };
    let track = AudioTrack::new(audio, Bytes::copy_from_slice(&data[at..at + len])).unwrap();
    // ADTS frames (ISO/IEC 13818-7, 6.2): seven bytes of header with a length of 13 bits.
    let adts = ffmpeg(&format!("-v error -i {} -c copy -f adts -", path.display()));
    let mut units = Vec::new();
    let mut rest = &adts[..];
    while rest.len() > 7 {
        let len = usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5] >> 5);
        units.push(&rest[7..len]);
        rest = &rest[len..];
    }
    (track, packets(units.into_iter(), 1024))
}

fn packets<'a>(units: impl Iterator<Item = &'a [u8]>, duration: u32) -> Vec<Packet> {
    let packet = |(n, data): (u64, &[u8])| Packet {
        data: Bytes::copy_from_slice(data),
        time: n * u64::from(duration),
        duration,
    };
    (0..).zip(units).map(packet).collect()
}

fn head_of(track: &AudioTrack, volume: &Volume) -> Header {
    Header {
        audio: Some(track.audio()),
        ..header(1, volume.store(), "front-0", 1, 0, 0)
    }
}

/// A sealed segment of four seconds, five frames in a fragment with the sound of their time.
fn recorded(
    volume: &Volume,
    track: &AudioTrack,
    all: &[Packet],
) -> (std::path::PathBuf, segment::SealedEntry, segment::Index) {
    let tracks = Track {
        audio: Some(track.clone()),
        ..clip().track.clone()
    };
    let mut file = SegmentFile::create(volume, head_of(track, volume), &tracks).unwrap();
    let rate = u64::from(track.audio().rate);
    for n in (0..SECONDS * 25).step_by(5) {
        let samples: Vec<_> = (n..n + 5).map(sample).collect();
        let within = |p: &&Packet| (n * rate / 25..(n + 5) * rate / 25).contains(&p.time);
        let sound: Vec<Packet> = all.iter().filter(within).cloned().collect();
        file.append(&samples, &sound).unwrap();
    }
    volume.sync().unwrap();
    let finished = file.finish();
    let index = finished.index().clone();
    let entry = finished.rename().unwrap().entry;
    (volume.sealed_path(&entry.header.id), entry, index)
}

/// Codec, packets and seconds of each stream, as ffprobe finds them.
fn probed(path: &Path) -> Vec<(String, u64, f64)> {
    let args = "-v error -count_packets -show_entries stream=codec_name,nb_read_packets:packet=stream_index,duration_time -of json";
    let out = Command::new("ffprobe")
        .args(args.split(' '))
        .arg(path)
        .output()
        .unwrap();
    assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let seconds = |index: u64| -> f64 {
        let packets = found["packets"].as_array().unwrap();
        let of = packets.iter().filter(|p| p["stream_index"] == index);
        of.map(|p| p["duration_time"].as_str().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    let streams = found["streams"].as_array().unwrap();
    let stream = |(index, s): (u64, &serde_json::Value)| {
        let count = s["nb_read_packets"].as_str().unwrap().parse().unwrap();
        (
            s["codec_name"].as_str().unwrap().to_owned(),
            count,
            seconds(index),
        )
    };
    (0..).zip(streams).map(stream).collect()
}

#[test]
fn players_find_the_sound_and_hiding_it_leaves_the_video() {
    let made = [
        ("pcm_mulaw", g711(AudioCodec::Pcmu)),
        ("pcm_alaw", g711(AudioCodec::Pcma)),
        ("aac", aac()),
    ];
    for (name, (track, all)) in made {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::open(&dir.path().join("media"), Role::Recorder).unwrap();
        let (path, entry, index) = recorded(&volume, &track, &all);
        let found = probed(&path);
        assert_eq!((&found[0].0[..], found[0].1), ("h264", SECONDS * 25), "{name}");
        assert_eq!(found[1].0, name);
        assert!((found[1].2 - SECONDS as f64).abs() < 0.1, "{name}: {found:?}");
        assert_eq!(decode_errors(&path), "", "{name}");
        let mut data = std::fs::read(&path).unwrap();
        let mut hidden: Vec<usize> = sound_in_head(&data[..entry.head_len as usize]);
        assert_eq!(hidden.len(), 2);
        for f in &index.fragments {
            let header = |at: u64| data[at as usize..].first_chunk().copied().ok_or(());
            let found = sound_in_fragment(f.offset, f.end(), header).unwrap();
            hidden.extend(found.into_iter().map(|at| at as usize));
        }
        for at in hidden {
            data[at..at + 4].copy_from_slice(b"free");
        }
        let silent = dir.path().join("silent.mp4");
        std::fs::write(&silent, &data).unwrap();
        let found = probed(&silent);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!((&found[0].0[..], found[0].1), ("h264", SECONDS * 25), "{name}");
        assert_eq!(decode_errors(&silent), "", "{name}");
    }
}

#[test]
fn i4_a_copy_with_sound_is_proven_and_sealed_by_its_keeper() {
    let (track, all) = g711(AudioCodec::Pcmu);
    let dir = tempfile::tempdir().unwrap();
    let volume = |name: &str, role| Volume::open(&dir.path().join(name), role).unwrap();
    let (own, peer) = (volume("own", Role::Recorder), volume("peer", Role::Replicator));
    let (path, entry, index) = recorded(&own, &track, &all);
    let data = std::fs::read(&path).unwrap();
    let head = &data[..entry.head_len as usize];
    let id = &entry.header.id;
    let mut copy = Receiving::create(&peer, id, head).unwrap();
    let mut chain = segment::hash::chain_start(head);
    for f in &index.fragments {
        let bytes = &data[f.offset as usize..f.end() as usize];
        chain = segment::hash::chain_next(&chain, bytes);
        copy.append(f.offset, &chain, bytes).unwrap();
    }
    peer.sync().unwrap();
    let finished = copy.finish(entry.length, &entry.root).unwrap();
    assert_eq!(finished.index(), &index);
    assert_eq!(finished.rename().unwrap().entry, entry);
    let scanned = segment::scan::scan(&peer.sealed_path(id)).unwrap();
    assert_eq!((scanned.torn, scanned.end), (None, entry.length));
    // A program that knows nothing of sound takes the head for none of its own.
    let kinds: Vec<_> = boxes(head).map(|b| b.body()[..16].to_vec()).collect();
    assert_eq!(kinds[1], b"gapless-header-2");
}

#[test]
fn a_segment_with_sound_is_cut_after_its_last_whole_fragment() {
    let (track, all) = g711(AudioCodec::Pcma);
    let dir = tempfile::tempdir().unwrap();
    let volume = Volume::open(&dir.path().join("media"), Role::Recorder).unwrap();
    let (path, entry, index) = recorded(&volume, &track, &all);
    let data = std::fs::read(&path).unwrap();
    let last = index.fragments.last().unwrap();
    for cut in [1, 200, u64::from(last.len) - 1] {
        let torn = &data[..(entry.length - cut) as usize];
        let found = segment::scan::scan_bytes(torn).unwrap();
        assert_eq!(
            (found.end, found.torn.is_some()),
            (last.offset, true),
            "cut by {cut}"
        );
    }
}
