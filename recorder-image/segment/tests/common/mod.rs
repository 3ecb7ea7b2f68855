//! Pictures for tests: a clip that the real encoder made, cut into frames.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bytes::Bytes;
use segment::canonical::Gop;
use segment::parts::Detail;
use segment::{Catalogue, ClockSource, Header, Sample, SegmentFile, SegmentId, Track, Volume};
use uuid::Uuid;

/// The clip: its sample entry and its frames, 25 a second, a key frame each second.
pub struct Clip {
    pub track: Track,
    pub frames: Vec<(Bytes, bool)>,
}

/// Ten seconds of pictures.
pub fn clip() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clip.mp4");
        let made = Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                "testsrc2=size=160x120:rate=25:duration=10",
            ])
            .args([
                "-c:v",
                "libx264",
                "-g",
                "25",
                "-bf",
                "0",
                "-sc_threshold",
                "0",
                "-pix_fmt",
                "yuv420p",
            ])
            .arg(&path)
            .status()
            .expect("ffmpeg");
        assert!(made.success());
        let data = std::fs::read(&path).unwrap();
        let annexb = Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(&path)
            .args([
                "-c",
                "copy",
                "-bsf:v",
                "h264_mp4toannexb,h264_metadata=aud=insert",
                "-f",
                "h264",
                "-",
            ])
            .output()
            .unwrap();
        Clip {
            track: Track {
                sample_entry: sample_entry(&data),
                width: 160,
                height: 120,
                audio: None,
            },
            frames: frames(&annexb.stdout),
        }
    })
}

/// The `avc1` box in the bytes of an MP4 file.
fn sample_entry(data: &[u8]) -> Bytes {
    let stsd = data.windows(4).position(|w| w == b"stsd").unwrap();
    let at = stsd + data[stsd..].windows(4).position(|w| w == b"avc1").unwrap() - 4;
    let len = u32::from_be_bytes(data[at..at + 4].try_into().unwrap()) as usize;
    Bytes::copy_from_slice(&data[at..at + len])
}

/// Access units, without parameter sets, each NAL unit after its length.
fn frames(stream: &[u8]) -> Vec<(Bytes, bool)> {
    let starts: Vec<usize> = (0..stream.len() - 3)
        .filter(|i| stream[*i..*i + 3] == [0, 0, 1])
        .collect();
    let mut out: Vec<(Vec<u8>, bool)> = Vec::new();
    for (i, start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(stream.len());
        let unit = &stream[start + 3..end];
        let unit = if i + 1 < starts.len() && unit.ends_with(&[0]) {
            &unit[..unit.len() - 1]
        } else {
            unit
        };
        match unit[0] & 31 {
            9 => out.push((Vec::new(), false)),
            7 | 8 => {}
            kind => {
                let frame = out.last_mut().unwrap();
                frame.0.extend_from_slice(&(unit.len() as u32).to_be_bytes());
                frame.0.extend_from_slice(unit);
                frame.1 |= kind == 5;
            }
        }
    }
    out.into_iter().map(|(data, key)| (data.into(), key)).collect()
}

/// Sample `n` of an endless recording of the clip that begins at the Unix epoch plus `n` frames.
pub fn sample(n: u64) -> Sample {
    let (data, key) = &clip().frames[n as usize % clip().frames.len()];
    Sample {
        data: data.clone(),
        key: *key,
        dts: n * 3600,
        cts: 0,
        duration: 3600,
        wallclock_us: n as i64 * 40_000,
        hash: segment::nal::frame_hash(data, false),
    }
}

/// The header of segment `sequence` of a writer.
pub fn header(
    stream: u128,
    store: Uuid,
    member: &str,
    incarnation: u64,
    sequence: u64,
    first: u64,
) -> Header {
    Header {
        id: SegmentId {
            stream: Uuid::from_u128(stream),
            store,
            member: member.into(),
            incarnation,
            sequence,
        },
        stream_name: format!("cam-{stream}"),
        pair_epoch: 1,
        stream_epoch: 0,
        owner: true,
        run: Uuid::from_u128(u128::from(incarnation)),
        opened_us: first as i64 * 40_000,
        clock: ClockSource::Camera,
        hevc: false,
        audio: None,
    }
}

/// Writes samples `range` into a new segment, five in a fragment.
pub fn write(volume: &Volume, header: Header, range: std::ops::Range<u64>) -> SegmentFile {
    let mut file = SegmentFile::create(volume, header, &clip().track).unwrap();
    let samples: Vec<Sample> = range.map(sample).collect();
    for part in samples.chunks(5) {
        file.append(part, &[]).unwrap();
    }
    file
}

/// Frames that ffprobe finds in a file; fails on any complaint.
/// All groups of pictures of stream 1.
pub fn gops(catalogue: &Catalogue, volume: &Volume) -> Vec<Gop> {
    let all = (i64::MIN, i64::MAX);
    let parts = catalogue.parts_of(Uuid::from_u128(1), all, Detail::Groups);
    segment::parts::gops(&parts, all, |id, root| volume.index(id, root)).unwrap()
}

pub fn probed_frames(path: &Path) -> u64 {
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_packets",
            "-show_entries",
            "stream=nb_read_packets",
            "-of",
            "csv=p=0",
        ])
        .arg(path)
        .output()
        .unwrap();
    assert!(
        out.stderr.is_empty(),
        "ffprobe: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    // A playlist lists its stream once for the programme and once more by itself.
    let text = String::from_utf8_lossy(&out.stdout);
    text.lines()
        .next()
        .unwrap()
        .trim_end_matches(',')
        .parse()
        .expect("a number")
}

/// Decodes a file; returns what the decoder complains of.
pub fn decode_errors(path: &Path) -> String {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// A folder for a volume.
pub fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}
