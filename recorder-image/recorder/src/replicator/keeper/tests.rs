//! What a peer can do to this volume, and what it cannot: message by message, over a real folder.
#![allow(clippy::unwrap_used)]

mod reclaim;
mod tails;

use std::path::{Path, PathBuf};
use std::process::Command;
#[cfg(feature = "sabotage")]
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use segment::hash::{chain_next, chain_start};
use segment::{Catalogue, LedgerReader, Sample, SegmentFile, scan};
use uuid::Uuid;

use super::super::receiver::REPLIES;
use super::*;
use crate::fixtures::{header, track};

const STREAM: StreamUid = Uuid::from_u128(7);
const PEER: Uuid = Uuid::from_u128(99);
/// Starts of this member's recorder.
const DEAD: u64 = 1;
const ALIVE: u64 = 2;

/// A whole segment, and how its writer tells of it.
struct Made {
    id: SegmentId,
    bytes: Bytes,
    head: Bytes,
    fragments: Vec<(u64, Chain, Bytes)>,
    entry: SealedEntry,
}

impl Made {
    /// Segment `sequence` of a store: 20 frames in 4 fragments, two groups of pictures.
    fn new(store: Uuid, incarnation: u64, sequence: u64) -> Self {
        Self::of(STREAM, store, incarnation, sequence)
    }

    fn of(stream: StreamUid, store: Uuid, incarnation: u64, sequence: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::open(dir.path(), Role::Recorder).unwrap();
        let id = SegmentId {
            stream,
            store,
            member: "front-1".into(),
            incarnation,
            sequence,
        };
        let mut file = SegmentFile::create(&volume, header(id.clone()), &track()).unwrap();
        let frames: Vec<Sample> = (0..20).map(|n| sample(sequence * 20 + n)).collect();
        for part in frames.chunks(5) {
            file.append(part, &[]).unwrap();
        }
        let bytes = Bytes::from(std::fs::read(volume.open_path(&id)).unwrap());
        let head = bytes.slice(..file.head_len() as usize);
        let mut chain = chain_start(&head);
        let mut fragments = Vec::new();
        for f in file.fragments() {
            let part = bytes.slice(f.offset as usize..f.end() as usize);
            chain = chain_next(&chain, &part);
            fragments.push((f.offset, chain, part));
        }
        let entry = file.finish().entry().clone();
        Self {
            id,
            bytes,
            head,
            fragments,
            entry,
        }
    }

    /// The end of the first two fragments.
    fn half(&self) -> usize {
        self.fragments[2].0 as usize
    }

    fn seal(&self) -> Work {
        Work::Seal(self.id.clone(), self.entry.length, self.entry.root)
    }

    fn append(&self, n: usize) -> Work {
        let (offset, chain, bytes) = self.fragments[n].clone();
        Work::Append(self.id.clone(), offset, chain, bytes)
    }
}

fn sample(n: u64) -> Sample {
    let key = n.is_multiple_of(10);
    let kind = if key { 0x65 } else { 0x41 };
    let mut data = 600_u32.to_be_bytes().to_vec();
    data.push(kind);
    data.extend_from_slice(&(n as u32 + 1).to_be_bytes());
    data.resize(604, 7);
    Sample {
        hash: segment::nal::frame_hash(&data, false),
        data: data.into(),
        key,
        dts: n * 3600,
        cts: 0,
        duration: 3600,
        wallclock_us: n as i64 * 40_000,
    }
}

/// A keeper over the volume in a folder; the peer's and the recorder's ends of it are here.
struct Bed {
    keeper: Keeper,
    volume: Arc<Volume>,
    hub: Arc<Hub>,
    told: mpsc::UnboundedReceiver<ToRecorder>,
    replies: mpsc::Receiver<Reply>,
}

impl Bed {
    /// `parts` are on the volume already: so many bytes of each, sealed where it is all of them.
    fn over(root: &Path, parts: impl FnOnce(Uuid) -> Vec<(Made, usize)>) -> (Self, Vec<Made>) {
        let volume = Arc::new(Volume::open(root, Role::Replicator).unwrap());
        let dir = volume.create_stream_dir(STREAM).unwrap();
        let mut made = Vec::new();
        for (segment, length) in parts(volume.store()) {
            let ending = if length == segment.bytes.len() {
                "mp4"
            } else {
                "open"
            };
            let path = dir.join(format!("{}.{ending}", segment.id.stem()));
            if length > 0 {
                std::fs::write(path, &segment.bytes[..length]).unwrap();
            }
            made.push(segment);
        }
        let (catalogue, _) = Catalogue::load(&volume, 0).unwrap();
        let hub = Arc::new(Hub::new(volume.store(), &catalogue));
        hub.set_alive(ALIVE);
        let (recorder, told) = mpsc::unbounded_channel();
        let keeper = Keeper::new(Arc::clone(&volume), Arc::clone(&hub), recorder).unwrap();
        let mut bed = Self {
            keeper,
            volume,
            hub,
            told,
            replies: mpsc::channel(1).1,
        };
        bed.connect(Vec::new());
        (bed, made)
    }

    fn connect(&mut self, held: Vec<Held>) {
        let (replies, heard) = mpsc::channel(REPLIES);
        self.replies = heard;
        let peer = Peer {
            member: "front-1".into(),
            store: PEER,
        };
        self.keeper.take(Work::Connected { peer, held, replies });
    }

    fn replies(&mut self) -> Vec<Reply> {
        std::iter::from_fn(|| self.replies.try_recv().ok()).collect()
    }

    /// The durable ends that the peer was told since the last look.
    fn acknowledged(&mut self) -> Vec<(SegmentId, u64)> {
        let acks = |reply| match reply {
            Reply::Ack(ends) => ends,
            _ => Vec::new(),
        };
        self.replies().into_iter().flat_map(acks).collect()
    }

    /// Whether the recorder was told of durable frames since the last look.
    fn told_durable(&mut self) -> bool {
        let told: Vec<_> = std::iter::from_fn(|| self.told.try_recv().ok()).collect();
        told.iter()
            .any(|m| matches!(m, ToRecorder::ReceivedDurable { .. }))
    }

    /// Every file of the volume but its locks.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.volume.root().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else if !entry.file_name().to_string_lossy().starts_with('.') {
                    found.insert(entry.path(), std::fs::read(entry.path()).unwrap());
                }
            }
        }
        found
    }
}

/// A message of a peer that says what it likes: what, of which segment, how much of it, and how it is twisted.
type Message = (u8, usize, usize, u8);

fn work(made: &[Made], (what, which, n, twist): Message) -> Work {
    let (this, other) = (&made[which], &made[(which + 1) % made.len()]);
    let (offset, chain, bytes) = this.fragments[n].clone();
    let mut flipped = bytes.to_vec();
    flipped[twist as usize * 20] ^= 1;
    match (what, twist) {
        (0, 0) => Work::Opened(this.id.clone(), other.head.clone()),
        (0, _) => Work::Opened(this.id.clone(), this.head.clone()),
        (1, 0) => Work::Append(this.id.clone(), 0, chain_start(&this.head), bytes),
        (1, 1) => Work::Append(this.id.clone(), offset - 1, chain, bytes),
        (1, 2) => Work::Append(this.id.clone(), offset, [0; 32], bytes),
        (1, 3) => Work::Append(this.id.clone(), offset, chain, flipped.into()),
        (1, 4) => Work::Append(this.id.clone(), offset, chain, Bytes::new()),
        (1, _) => this.append(n),
        (2, 0) => Work::Seal(this.id.clone(), offset, this.entry.root),
        (2, 1) => Work::Seal(this.id.clone(), this.entry.length, other.entry.root),
        (2, _) => this.seal(),
        (3, _) => Work::Disconnected,
        (4, _) => Work::Pinned(vec![Pin {
            duplicate: this.id.clone(),
            kept: vec![other.id.clone()],
        }]),
        _ => Work::RecorderStarted,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    /// I3: whatever a peer says, in whatever order, of segments that are sealed, cut off, unknown or its own business here:
    /// every byte that was on this volume is there.
    #[test]
    fn i3_nothing_that_a_peer_says_takes_a_byte_away(
        said in prop::collection::vec((prop_oneof![1 => Just(0u8), 6 => Just(1), 2 => Just(2), 1 => 3u8..6], 0usize..6, 0usize..4, 0u8..7), 1..16),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut bed, made) = Bed::over(dir.path(), |own| {
            let sealed = |made: Made| { let all = made.bytes.len(); (made, all) };
            let half = |made: Made| { let half = made.half(); (made, half) };
            vec![
                sealed(Made::new(PEER, 1, 0)),
                half(Made::new(PEER, 1, 1)),
                (Made::new(PEER, 1, 2), 0),
                sealed(Made::new(own, DEAD, 0)),
                half(Made::new(own, DEAD, 1)),
                half(Made::new(own, ALIVE, 0)),
            ]
        });
        let mut before = bed.files();
        for word in said {
            bed.keeper.take(work(&made, word));
            if word.0 >= 2 {
                bed.keeper.commit();
            }
            if bed.keeper.replies.is_none() {
                let longer = |m: &Made| Held { id: m.id.clone(), length: m.bytes.len() as u64, root: None, span_us: None, reclaimed: false };
                bed.connect(made.iter().map(longer).collect());
            }
            let after = bed.files();
            for (path, bytes) in &before {
                let found = after.get(path).or_else(|| after.get(&path.with_extension("mp4")));
                let kept = found.is_some_and(|now| now.starts_with(bytes));
                prop_assert!(kept, "I3: {word:?} took bytes of {}", path.display());
                let sealed = path.extension().is_some_and(|e| e == "mp4");
                prop_assert!(!sealed || found == Some(bytes), "I2: {word:?} changed {}", path.display());
            }
            before = after;
        }
    }
}

#[test]
fn i4_what_fails_is_kept_as_evidence_counted_and_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, _) = Bed::over(dir.path(), |_| Vec::new());
    let made = Made::new(PEER, 1, 0);
    bed.keeper.take(Work::Opened(made.id.clone(), made.head.clone()));
    bed.keeper.take(made.append(0));
    bed.keeper.commit();
    let good = made.fragments[1].0;
    assert_eq!(bed.acknowledged(), [(made.id.clone(), good)]);
    // A picture that changed on the way, and a chain that is right for what came.
    let (offset, _, bytes) = made.fragments[1].clone();
    let mut bad = bytes.to_vec();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    let chain = chain_next(&made.fragments[0].1, &bad);
    bed.keeper
        .take(Work::Append(made.id.clone(), offset, chain, bad.clone().into()));
    bed.keeper.commit();
    let replies = bed.replies();
    assert!(
        replies.contains(&Reply::Declined(made.id.clone())),
        "I4: taken: {replies:?}"
    );
    assert!(!replies.iter().any(|r| matches!(r, Reply::Ack(_))), "{replies:?}");
    let figures = bed.hub.figures();
    let reason = figures.last_refusal.map(|refusal| refusal.reason);
    assert_eq!((figures.refused, reason.as_deref()), (1, Some("Malformed")));
    let told: Vec<_> = std::iter::from_fn(|| bed.told.try_recv().ok()).collect();
    assert!(
        told.iter().any(|m| matches!(m, ToRecorder::Refused { .. })),
        "{told:?}"
    );
    let evidence = std::fs::read_dir(dir.path().join("quarantine")).unwrap();
    let evidence: Vec<_> = evidence
        .map(|e| std::fs::read(e.unwrap().path()).unwrap())
        .collect();
    assert_eq!(evidence, [bad]);
    let records = LedgerReader::new(&bed.volume, STREAM, Role::Replicator)
        .poll()
        .unwrap();
    assert!(
        matches!(&records[..], [Record::Quarantined { id, .. }] if *id == made.id),
        "{records:?}"
    );
    let here = scan::scan(&bed.volume.open_path(&made.id)).unwrap();
    assert_eq!((here.end, here.torn), (good, None), "what was proven stays");
}

#[test]
fn a_folder_that_cannot_be_written_keeps_no_other_stream_from_being_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, _) = Bed::over(dir.path(), |_| Vec::new());
    let (good, bad) = (Made::new(PEER, 1, 0), Made::of(Uuid::from_u128(8), PEER, 1, 0));
    let folder = bed.volume.open_path(&bad.id).parent().unwrap().to_owned();
    std::fs::write(folder, "a file where the folder of the stream belongs").unwrap();
    for n in 0..2 {
        bed.keeper.take(Work::Opened(bad.id.clone(), bad.head.clone()));
        bed.keeper.take(Work::Opened(good.id.clone(), good.head.clone()));
        bed.keeper.take(good.append(n));
        bed.keeper.commit();
    }
    let end = good.fragments[2].0;
    let replies = bed.replies();
    assert!(replies.contains(&Reply::Declined(bad.id.clone())), "{replies:?}");
    assert!(
        replies.contains(&Reply::Ack(vec![(good.id.clone(), end)])),
        "{replies:?}"
    );
    assert!(
        !replies.iter().any(|reply| matches!(reply, Reply::Again(_))),
        "{replies:?}"
    );
    let told = bed.hub.figures().last_refusal.unwrap();
    assert_eq!(
        (told.id, told.reason.as_str()),
        (bad.id, "VolumeFailed"),
        "somebody is told"
    );
}

#[test]
fn a_ledger_that_cannot_be_opened_keeps_no_other_stream_from_being_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, _) = Bed::over(dir.path(), |_| Vec::new());
    let (good, bad) = (Made::new(PEER, 1, 0), Made::of(Uuid::from_u128(8), PEER, 1, 0));
    let folder = bed.volume.create_stream_dir(bad.id.stream).unwrap();
    std::fs::create_dir(folder.join("replicator.000000.ledger")).unwrap();
    for one in [&bad, &good] {
        bed.keeper.take(Work::Opened(one.id.clone(), one.head.clone()));
        (0..4).for_each(|n| bed.keeper.take(one.append(n)));
        bed.keeper.take(one.seal());
    }
    bed.keeper.commit();
    bed.acknowledged();
    bed.keeper.commit();
    let mut acks = bed.acknowledged();
    acks.sort();
    let whole = |one: &Made| (one.id.clone(), one.entry.length);
    assert_eq!(
        acks,
        [whole(&good), whole(&bad)],
        "the next start rebuilds the record"
    );
    assert!(bed.keeper.replies.is_some() && bed.keeper.guard.why().is_none());
}

/// A copy of the peer's segment of which the file ends before what is known.
#[test]
fn a_copy_that_became_shorter_is_asked_for_from_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let half = |made: Made| {
        let half = made.half();
        (made, half)
    };
    let (mut bed, made) = Bed::over(dir.path(), |_| vec![half(Made::new(PEER, 1, 0))]);
    let one = &made[0];
    let path = bed.volume.open_path(&one.id);
    let end = one.fragments[1].0;
    for last in [one.append(2), one.seal()] {
        bed.hub.grew(&one.id, one.half() as u64, true);
        std::fs::write(&path, &one.bytes[..one.half() - 1]).unwrap();
        bed.connect(Vec::new());
        bed.keeper.take(last);
        let replies = bed.replies();
        assert!(
            matches!(replies.last(), Some(Reply::Again(_))),
            "nobody is blamed: {replies:?}"
        );
        assert_eq!(bed.hub.inventory()[0].length, end);
    }
    bed.connect(Vec::new());
    (1..4).for_each(|n| bed.keeper.take(one.append(n)));
    bed.keeper.take(one.seal());
    bed.keeper.commit();
    bed.keeper.commit();
    assert_eq!(
        bed.acknowledged().last(),
        Some(&(one.id.clone(), one.entry.length))
    );
}

#[test]
fn what_the_peer_wrote_after_its_inventory_and_was_refused_here_is_not_told_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, _) = Bed::over(dir.path(), |_| Vec::new());
    let made = Made::new(PEER, 1, 0);
    let (offset, _, bytes) = made.fragments[0].clone();
    assert_eq!(bed.hub.lacking(), []);
    bed.keeper.take(Work::Opened(made.id.clone(), made.head.clone()));
    bed.keeper
        .take(Work::Append(made.id.clone(), offset, [0; 32], bytes));
    assert_eq!(bed.hub.lacking(), [(STREAM, vec![(0, i64::MAX)])]);
    bed.hub.sealed(&made.entry.held());
    assert_eq!(bed.hub.lacking(), []);
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_asked_for_again_after_a_while_on_a_connection_that_stands() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, made) = Bed::over(dir.path(), |_| vec![(Made::new(PEER, 1, 0), 0)]);
    let one = &made[0];
    let (offset, chain, bytes) = one.fragments[0].clone();
    let asks_again = |bed: &mut Bed| {
        bed.keeper.look_around();
        let replies = bed.replies();
        replies.iter().any(|reply| matches!(reply, Reply::Again(_)))
    };
    bed.keeper.take(Work::Opened(one.id.clone(), one.head.clone()));
    bed.keeper
        .take(Work::Append(one.id.clone(), offset, [0; 32], bytes.clone()));
    tokio::time::advance(Duration::from_mins(9)).await;
    assert!(!asks_again(&mut bed));
    assert_eq!(bed.hub.declined(), std::slice::from_ref(&one.id));
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(asks_again(&mut bed) && bed.hub.declined().is_empty());
    bed.connect(Vec::new());
    bed.keeper
        .take(Work::Append(one.id.clone(), offset, chain, bytes));
    bed.keeper.commit();
    assert_eq!(bed.acknowledged(), [(one.id.clone(), one.fragments[1].0)]);
    tokio::time::advance(Duration::from_hours(1)).await;
    assert!(!asks_again(&mut bed), "once");
}

#[cfg(feature = "sabotage")]
#[test]
fn i10_segments_that_end_together_are_sealed_with_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, _) = Bed::over(dir.path(), |_| Vec::new());
    let made: Vec<Made> = (0..20)
        .map(|n| Made::of(Uuid::from_u128(100 + n), PEER, 1, 0))
        .collect();
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&syncs);
    bed.volume
        .observe(move |_| _ = counted.fetch_add(1, Ordering::Relaxed));
    for one in &made {
        bed.keeper.take(Work::Opened(one.id.clone(), one.head.clone()));
        (0..one.fragments.len()).for_each(|n| bed.keeper.take(one.append(n)));
        bed.keeper.take(one.seal());
    }
    assert_eq!(syncs.load(Ordering::Relaxed), 0);
    let sealed = |bed: &Bed| {
        made.iter()
            .filter(|one| bed.volume.sealed_path(&one.id).exists())
            .count()
    };
    bed.keeper.commit();
    assert_eq!(
        (sealed(&bed), bed.acknowledged().len()),
        (20, 20),
        "their bytes are durable"
    );
    bed.keeper.commit();
    let ends = made.iter().map(|one| (one.id.clone(), one.entry.length));
    assert!(bed.acknowledged().into_iter().eq(ends), "and their names");
    assert_eq!(syncs.load(Ordering::Relaxed), 2);
}

#[test]
fn what_the_own_recorder_gave_up_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, made) = Bed::over(dir.path(), |own| vec![(Made::new(own, ALIVE, 0), 0)]);
    bed.keeper
        .take(Work::Opened(made[0].id.clone(), made[0].head.clone()));
    assert_eq!(bed.replies(), [Reply::Declined(made[0].id.clone())]);
    assert_eq!(bed.hub.figures().refused, 0, "nobody is blamed");
}

/// Needs root and loop devices.
#[test]
fn i10_what_is_acknowledged_survives_a_power_cut() {
    let disk = Disk::create();
    let (mut bed, _) = Bed::over(&disk.media(), |_| Vec::new());
    let made = Made::new(PEER, 1, 0);
    bed.keeper.take(Work::Opened(made.id.clone(), made.head.clone()));
    for n in 0..made.fragments.len() {
        bed.keeper.take(made.append(n));
        assert_eq!(bed.acknowledged(), [], "not synced yet");
        assert!(
            !bed.told_durable(),
            "I12: the recorder would let go of what is not synced"
        );
        bed.keeper.commit();
        assert!(bed.told_durable());
        let (offset, _, bytes) = &made.fragments[n];
        let end = offset + bytes.len() as u64;
        assert_eq!(bed.acknowledged(), [(made.id.clone(), end)]);
        let after = disk.as_if_the_power_failed();
        let left = std::fs::read(after.place_of(&bed.volume.open_path(&made.id), &disk));
        let left = left.unwrap_or_default();
        assert!(
            left.get(..end as usize) == Some(&made.bytes[..end as usize]),
            "I10: acknowledged, and gone"
        );
    }
    bed.keeper.take(made.seal());
    bed.keeper.commit();
    assert_eq!(bed.acknowledged(), [], "renamed, and not synced since");
    bed.keeper.commit();
    assert_eq!(
        bed.acknowledged().last(),
        Some(&(made.id.clone(), made.entry.length))
    );
    let after = disk.as_if_the_power_failed();
    let left = std::fs::read(after.place_of(&bed.volume.sealed_path(&made.id), &disk));
    assert!(
        left.is_ok_and(|bytes| bytes == made.bytes),
        "I10: the seal is gone"
    );
}

/// An ext4 file system on a loop device.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn create() -> Self {
        let disk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::File::create(disk.image())
            .unwrap()
            .set_len(32 << 20)
            .unwrap();
        run("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &disk.image()]);
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    fn mounted(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn media(&self) -> PathBuf {
        self.mounted().join("media")
    }

    /// Where something of another disk is on this one.
    fn place_of(&self, path: &Path, of: &Self) -> PathBuf {
        self.mounted().join(path.strip_prefix(of.mounted()).unwrap())
    }

    fn mount(&self) {
        std::fs::create_dir(self.mounted()).unwrap();
        run("mount", &[Path::new("-oloop"), &self.image(), &self.mounted()]);
    }

    /// What a machine that lost its power now would find when it is started again: what is on the device, and no more.
    fn as_if_the_power_failed(&self) -> Self {
        let copy = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::copy(self.image(), copy.image()).unwrap();
        copy.mount();
        copy
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazy, also after a failed assertion: the loop device is detached with its last user.
        let _ = Command::new("umount").arg("-l").arg(self.mounted()).status();
    }
}

fn run(program: &str, args: &[&Path]) {
    let done = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {args:?}: {said}");
}

/// It is answered each time that it sends what is here.
#[test]
fn a_peer_that_takes_no_answers_loses_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let whole = |store| {
        let made = Made::new(store, DEAD, 1);
        let length = made.bytes.len();
        vec![(made, length)]
    };
    let (mut bed, made) = Bed::over(dir.path(), whole);
    bed.replies();
    for _ in 0..REPLIES {
        bed.keeper.take(made[0].append(0));
    }
    assert!(bed.keeper.replies.is_some());
    bed.keeper.take(made[0].append(0));
    assert!(bed.keeper.replies.is_none());
    assert_eq!(bed.replies().len(), REPLIES, "and no more waits");
}
