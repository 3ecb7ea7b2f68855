//! The oracle judged: it finds what was done to a recording, and nothing in a clean one.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;
use url::Url;

use super::*;

const START: [u8; 4] = [0, 0, 0, 1];

/// 75 s of small video, as access units.
fn clip() -> &'static [Vec<u8>] {
    static CLIP: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    CLIP.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("clip.h264");
        let mut command = Command::new("ffmpeg");
        command.args("-loglevel error -f lavfi -i testsrc2=size=128x72:rate=25:duration=75".split(' '));
        command.args("-c:v libx264 -preset ultrafast -g 25 -sc_threshold 0 -bf 0".split(' '));
        command.args("-x264-params repeat-headers=1:aud=1 -f h264".split(' '));
        assert!(command.arg(&file).status().unwrap().success());
        units(&std::fs::read(file).unwrap())
    })
}

/// Cuts before each access unit delimiter (NAL type 9).
fn units(stream: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> = (0..stream.len() - 4)
        .filter(|at| stream[*at..].starts_with(&START) && stream[at + 4] & 31 == 9)
        .chain([stream.len()])
        .collect();
    starts
        .windows(2)
        .map(|pair| stream[pair[0]..pair[1]].to_vec())
        .collect()
}

/// A frame of the clip with its number, as camera 7 sends it.
fn numbered(n: u64) -> Vec<u8> {
    let unit = &clip()[n as usize % clip().len()];
    let text = format!("gapless-frame-idcam=007 n={n:012} t={:020}", n * 40_000_000);
    // the delimiter is the first 6 bytes
    let mut out = unit[..6].to_vec();
    out.extend(START);
    out.extend([6, 5, text.len() as u8]);
    out.extend(text.bytes());
    out.push(0x80);
    out.extend(&unit[6..]);
    out
}

/// A recording of these frames: fragmented MP4 made by ffmpeg, without transcoding.
fn recording(folder: &Path, numbers: &[u64]) -> PathBuf {
    let (raw, mp4) = (folder.join("raw.h264"), folder.join("recording.mp4"));
    std::fs::write(
        &raw,
        numbers.iter().flat_map(|n| numbered(*n)).collect::<Vec<u8>>(),
    )
    .unwrap();
    let mut command = Command::new("ffmpeg");
    command
        .args("-y -loglevel error -r 25 -f h264 -i".split(' '))
        .arg(raw);
    command.args("-c copy -movflags +frag_keyframe+empty_moov+default_base_moof".split(' '));
    assert!(command.arg(&mp4).status().unwrap().success());
    mp4
}

/// What the oracle and ffmpeg find in a recording of these frames; both have to agree.
async fn judged(numbers: &[u64]) -> Account {
    let folder = TempDir::new().unwrap();
    let file = recording(folder.path(), numbers);
    let found = frames(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(found.torn, 0);
    assert!(found.stamps.iter().flatten().all(|stamp| stamp.camera == 7));
    let mut account = Account::default();
    found.account(&mut account);
    assert_eq!(account, play(file.to_str().unwrap()).await.unwrap());
    account
}

fn span(first: u64, last: u64) -> Span {
    Span { first, last }
}

#[tokio::test]
async fn clean_recording_raises_no_alarm() {
    let account = judged(&(1000..1250).collect::<Vec<_>>()).await;
    assert_eq!(
        (account.first(), account.last(), account.frames()),
        (Some(1000), Some(1249), 250)
    );
    assert_eq!((account.missing(), account.doubled()), (vec![], vec![]));
    assert_eq!(
        (
            account.out_of_order.len(),
            account.unreadable_after(0),
            account.surplus()
        ),
        (0, 0, 0)
    );
    assert_eq!(account.missing_of(&[span(1000, 1249)]), []);
}

#[tokio::test]
async fn finds_one_dropped_frame() {
    let account = judged(&(0..100).filter(|n| *n != 57).collect::<Vec<_>>()).await;
    assert_eq!(account.missing(), [span(57, 57)]);
    assert_eq!(
        (account.frames(), account.surplus(), account.out_of_order.len()),
        (99, 0, 0)
    );
}

#[tokio::test]
async fn finds_one_repeated_frame() {
    let account = judged(&(0..=40).chain(40..100).collect::<Vec<_>>()).await;
    assert_eq!((account.doubled(), account.surplus()), (vec![span(40, 40)], 1));
    assert_eq!((account.missing(), account.out_of_order.len()), (vec![], 0));
}

#[tokio::test]
async fn finds_one_swapped_pair() {
    let mut numbers: Vec<u64> = (0..100).collect();
    numbers.swap(60, 61);
    let account = judged(&numbers).await;
    assert_eq!(account.out_of_order, [(61, 60)]);
    assert_eq!((account.missing(), account.surplus()), (vec![], 0));
}

#[tokio::test]
async fn finds_a_lost_minute() {
    let account = judged(&(0..50).chain(1550..1650).collect::<Vec<_>>()).await;
    assert_eq!(account.missing(), [span(50, 1549)]);
    assert_eq!(account.missing()[0].frames(), 60 * 25);
}

#[tokio::test]
async fn finds_loss_at_either_end() {
    let account = judged(&(25..75).collect::<Vec<_>>()).await;
    assert_eq!(account.missing(), []);
    assert_eq!(
        account.missing_of(&[span(20, 30), span(70, 77)]),
        [span(20, 24), span(75, 77)]
    );
}

#[test]
fn union_has_a_frame_if_either_has_it() {
    let (mut left, right) = (Account::of(0..50), Account::of((45..60).chain(62..80)));
    left.union(&right);
    assert_eq!((left.missing(), left.surplus()), (vec![span(60, 61)], 0));
}

#[test]
fn torn_tail_is_not_counted() {
    let folder = TempDir::new().unwrap();
    let file = recording(folder.path(), &(0..75).collect::<Vec<_>>());
    let data = std::fs::read(file).unwrap();
    // ffmpeg writes an index of random access points (mfra) last; well before it lies the last fragment's mdat
    let cut = frames(&data[..data.len() - 300]).unwrap();
    assert_eq!(cut.stamps.len(), 50);
    assert!(cut.torn > 1000);
}

#[test]
fn sample_without_a_number_is_told() {
    let folder = TempDir::new().unwrap();
    let file = recording(folder.path(), &(0..25).collect::<Vec<_>>());
    let mut data = std::fs::read(file).unwrap();
    let at = data
        .windows(16)
        .position(|window| window == b"gapless-frame-id")
        .unwrap();
    data[at] = b'G';
    let mut account = Account::default();
    frames(&data).unwrap().account(&mut account);
    assert_eq!((account.frames(), account.unreadable_after(0)), (24, 1));
}

#[test]
fn frames_without_a_number_count_from_where_the_judgement_begins() {
    let mut account = Account::default();
    account.frames_in_order([None, Some(7), Some(8), None, Some(10), None]);
    let from = |first| account.unreadable_after(first);
    assert_eq!((from(0), from(7), from(9), from(10)), (3, 2, 2, 1));
    // One between 8 and 10 is where a session joined; one at the end is not.
    let joins = |first, last| account.unreadable_beside(0, &[Span { first, last }]);
    assert_eq!((joins(8, 9), joins(8, 10), joins(20, 30)), (2, 2, 3));
    let mut union = Account::of([7]);
    union.union(&account);
    assert_eq!(union.unreadable_after(0), 3);
}

#[test]
fn a_span_without_another_one() {
    let span = |first, last| Span { first, last };
    let without = |first, last| span(10, 20).without(&span(first, last));
    assert_eq!(without(12, 18), [span(10, 11), span(19, 20)]);
    assert_eq!(without(5, 10), [span(11, 20)]);
    assert_eq!(without(20, 30), [span(10, 19)]);
    assert_eq!(without(21, 30), [span(10, 20)]);
    assert_eq!(without(10, 20), []);
}

/// Writes recordings of these spans and a playlist over them, each second by byte range, gaps marked.
fn playlist(folder: &Path, parts: &[Span]) -> Url {
    let mut text =
        String::from("#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:60\n#EXT-X-PLAYLIST-TYPE:VOD\n");
    let mut end: Option<u64> = None;
    for part in parts {
        if let Some(end) = end.filter(|end| *end < part.first) {
            let seconds = (part.first - end) as f64 / 25.0;
            let _ = write!(
                text,
                "#EXT-X-DISCONTINUITY\n#EXT-X-GAP\n#EXTINF:{seconds:.3},\ngap.mp4\n#EXT-X-DISCONTINUITY\n"
            );
        } else if end.is_some() {
            text += "#EXT-X-DISCONTINUITY\n";
        }
        let inner = folder.join(part.first.to_string());
        std::fs::create_dir(&inner).unwrap();
        let data = std::fs::read(recording(&inner, &(part.first..=part.last).collect::<Vec<_>>())).unwrap();
        let uri = format!("{}/recording.mp4", part.first);
        text += &ranges(&uri, &data);
        end = Some(part.last + 1);
    }
    let file = folder.join("index.m3u8");
    std::fs::write(&file, text + "#EXT-X-ENDLIST\n").unwrap();
    Url::from_file_path(file).unwrap()
}

/// One entry for each moof and its mdat.
fn ranges(uri: &str, data: &[u8]) -> String {
    let boxes: Vec<(usize, usize, [u8; 4])> = top_level(data);
    let head = boxes.iter().find(|found| &found.2 == b"moof").unwrap().0;
    let mut out = format!("#EXT-X-MAP:URI=\"{uri}\",BYTERANGE=\"{head}@0\"\n");
    for pair in boxes.windows(2).filter(|pair| &pair[0].2 == b"moof") {
        let (from, to) = (pair[0].0, pair[1].1);
        writeln!(
            out,
            "#EXTINF:1.000,\n#EXT-X-BYTERANGE:{}@{from}\n{uri}",
            to - from
        )
        .unwrap();
    }
    out
}

fn top_level(data: &[u8]) -> Vec<(usize, usize, [u8; 4])> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let len = u32::from_be_bytes(data[at..at + 4].try_into().unwrap()) as usize;
        out.push((at, at + len, data[at + 4..at + 8].try_into().unwrap()));
        at += len;
    }
    out
}

#[tokio::test]
async fn playlist_without_fault_raises_no_alarm() {
    let folder = TempDir::new().unwrap();
    let url = playlist(folder.path(), &[span(0, 74), span(75, 149)]);
    let (list, account) = canonical(&Source::new(), &url).await.unwrap();
    assert_eq!(
        (list.entries.len(), list.ended, list.entries[3].discontinuity),
        (6, true, true)
    );
    assert_eq!(
        (account.frames(), account.missing(), account.surplus()),
        (150, vec![], 0)
    );
    assert_eq!(
        play(url.to_file_path().unwrap().to_str().unwrap()).await.unwrap(),
        account
    );
}

#[tokio::test]
async fn playlist_that_repeats_a_second_is_found() {
    let folder = TempDir::new().unwrap();
    let url = playlist(folder.path(), &[span(0, 74), span(50, 149)]);
    let (_, account) = canonical(&Source::new(), &url).await.unwrap();
    assert_eq!((account.doubled(), account.surplus()), (vec![span(50, 74)], 25));
    assert_eq!(account.out_of_order, [(74, 50)]);
}

#[tokio::test]
async fn marked_gap_is_missing_but_no_error() {
    let folder = TempDir::new().unwrap();
    let url = playlist(folder.path(), &[span(0, 74), span(125, 199)]);
    let (list, account) = canonical(&Source::new(), &url).await.unwrap();
    assert_eq!((account.missing(), account.surplus()), (vec![span(75, 124)], 0));
    let gaps: Vec<_> = list.entries.iter().filter(|entry| entry.gap).collect();
    assert_eq!((gaps.len(), gaps[0].discontinuity), (1, true));
    assert!((list.gap_seconds() - 2.0).abs() < 1e-6);
    assert_eq!(
        play(url.to_file_path().unwrap().to_str().unwrap()).await.unwrap(),
        account
    );
}

#[tokio::test]
async fn segment_that_is_not_there_is_an_error() {
    let folder = TempDir::new().unwrap();
    let url = playlist(folder.path(), &[span(0, 74)]);
    std::fs::remove_file(folder.path().join("0/recording.mp4")).unwrap();
    assert!(canonical(&Source::new(), &url).await.is_err());
}

#[test]
fn byte_range_without_offset_goes_on() {
    let text = "#EXTM3U\n#EXT-X-MAP:URI=\"a?token=x\",BYTERANGE=\"9@0\"\n#EXTINF:1,\n#EXT-X-BYTERANGE:10@9\na\n\
                #EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n#EXTINF:1,\n#EXT-X-BYTERANGE:5\na\n";
    let list = Playlist::parse(text).unwrap();
    assert_eq!(list.entries[1].range, Some(19..24));
    assert_eq!(list.entries[1].date_time.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(
        (list.entries[0].map.as_deref(), list.ended),
        (Some("a?token=x"), false)
    );
    assert!(Playlist::parse("<html>").is_err());
}
