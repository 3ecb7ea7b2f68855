//! A disk that fails.

use std::path::Path;

use super::*;

/// Syncs that fail as on a disk that does: the page cache drops what was written since the last good one, and the next sync
/// succeeds.
#[derive(Debug, Default)]
pub(in crate::recorder::writer) struct Faults {
    /// So many syncs fail from now on.
    pub(in crate::recorder::writer) failing: usize,
    /// The stream whose ledger cannot be read.
    pub(in crate::recorder::writer) ledger: Option<StreamUid>,
    /// The length of every file at the last good sync.
    durable: BTreeMap<PathBuf, u64>,
}

impl Faults {
    pub(in crate::recorder::writer) fn record(&self, stream: StreamUid) -> segment::Result<()> {
        let path = || PathBuf::from(format!("{stream}/recorder.000000.ledger"));
        let fails = self.ledger == Some(stream);
        if fails {
            Err(Error::io(path(), rustix::io::Errno::IO))
        } else {
            Ok(())
        }
    }

    pub(in crate::recorder::writer) fn sync(&mut self, root: &Path) -> segment::Result<()> {
        let files = files_below(root);
        if self.failing > 0 {
            self.failing -= 1;
            for path in files {
                let durable = self.durable.get(&path).copied().unwrap_or(0) as usize;
                let mut data = std::fs::read(&path).unwrap();
                if data.len() > durable {
                    data[durable..].fill(0);
                    std::fs::write(&path, data).unwrap();
                }
            }
            return Err(Error::io(root, rustix::io::Errno::IO));
        }
        let length = |path: PathBuf| {
            let length = path.metadata().unwrap().len();
            (path, length)
        };
        self.durable = files.into_iter().map(length).collect();
        Ok(())
    }
}

/// What is written without a sync of its own.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(streams) = std::fs::read_dir(root.join("streams")) else {
        return files;
    };
    for stream in streams.filter_map(|s| std::fs::read_dir(s.unwrap().path()).ok()) {
        files.extend(stream.map(|f| f.unwrap().path()));
    }
    files
}

/// Frames in the whole part of every file, in files of a kind.
fn on_disk(bed: &Bed, uid: StreamUid, ending: &str) -> usize {
    let scans = bed
        .files(uid, ending)
        .into_iter()
        .map(|f| segment::scan::scan(&f).unwrap());
    scans.map(|found| found.index.hashes.len()).sum()
}

#[tokio::test]
async fn i2_what_a_failed_sync_lost_is_written_again_into_another_file() {
    let mut bed = Bed::new();
    let mut good = Camera::new(bed.stream(GOOD), fine());
    good.send(25);
    bed.run(WHILE * 3);
    let durable = bed.held(GOOD);
    assert!(durable >= 20, "{durable}");
    bed.writer.volume.faults.failing = 1;
    good.send(20);
    bed.run(WHILE);
    assert_eq!(bed.held(GOOD), durable, "nothing of it counts");
    let disk = bed.writer.guard.report();
    assert_eq!((disk.failing, disk.full), (true, false));
    let error = bed.health(GOOD).error.unwrap();
    assert_eq!(error.code, ErrorCode::DiskFailing);
    assert!(error.message.contains("check the disk"), "{error:?}");
    // By itself.
    bed.run(Duration::from_millis(2500));
    assert!(!bed.writer.guard.report().failing);
    assert_eq!(bed.health(GOOD).error, None);
    bed.writer.tick(true);
    assert_eq!(bed.files(GOOD, "open"), Vec::<PathBuf>::new(), "all are closed");
    // The group that was begun is written again as a whole.
    let told = bed.held(GOOD);
    assert!((45..=54).contains(&told), "{told}");
    assert_eq!(on_disk(&bed, GOOD, "mp4"), told, "what is told is on the disk");
    let sealed = bed
        .shared
        .catalogue()
        .copies()
        .all(|c| c.state == segment::State::Sealed);
    assert!(sealed, "and nobody waits for the rest of any file");
}

#[tokio::test]
async fn a_gap_that_a_failed_sync_lost_is_in_the_ledger_all_the_same() {
    let mut bed = Bed::new();
    let note = |n| {
        Notice::Gap(GapNotice {
            start_us: n,
            end_us: Some(n + 1),
            cause: "PacketLoss".into(),
            evidence: String::new(),
            frames: Some(1),
        })
    };
    bed.stream(GOOD).lock().notice(note(1));
    bed.run(WHILE);
    bed.writer.volume.faults.failing = 1;
    bed.stream(GOOD).lock().notice(note(2));
    bed.run(WHILE);
    assert_eq!(bed.gaps(GOOD).len(), 1, "the second one is lost");
    bed.stream(GOOD).lock().notice(note(3));
    bed.run(Duration::from_millis(1500));
    let starts: Vec<i64> = bed.gaps(GOOD).iter().map(|g| g.start_us).collect();
    assert_eq!(starts, [1, 2, 3]);
}

#[tokio::test]
async fn i2_a_segment_is_named_when_its_name_is_durable() {
    let mut bed = Bed::new();
    let mut events = bed.shared.events.subscribe();
    let mut sealed = move || {
        let mut count = 0;
        while let Ok(messages) = events.try_recv() {
            let sealed = |message: &&ToReplicator| matches!(message, ToReplicator::Sealed { .. });
            count += messages.iter().filter(sealed).count();
        }
        count
    };
    let mut good = Camera::new(bed.stream(GOOD), fine());
    good.send(20);
    bed.run(WHILE * 3);
    // The stream leaves, so its segment ends.
    bed.shared.configure(&settings(&[("bad", BAD)]));
    while bed.files(GOOD, "mp4").is_empty() {
        bed.run(Duration::from_millis(5));
    }
    bed.writer.volume.faults.failing = 1;
    bed.run(WHILE);
    assert_eq!(sealed(), 0);
    bed.run(Duration::from_millis(1500));
    assert_eq!((sealed(), bed.held(GOOD)), (1, 20));
    let mut reader = segment::LedgerReader::new(&bed.shared.volume, GOOD, Role::Recorder);
    let records = reader.poll().unwrap();
    assert!(
        records.iter().any(|r| matches!(r, Record::Sealed { .. })),
        "{records:?}"
    );
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_keeps_no_other_stream_from_retention_and_nothing_from_the_disk() {
    let mut bed = Bed::new();
    let (mut bad, mut good) = (
        Camera::new(bed.stream(BAD), fine()),
        Camera::new(bed.stream(GOOD), fine()),
    );
    bed.writer.volume.faults.ledger = Some(BAD);
    bad.send(15);
    good.send(15);
    bed.run(WHILE);
    bed.shared.configure(&that_keep_nothing(&[]));
    bed.run(WHILE);
    let sealed = |bed: &Bed| (bed.files(BAD, "mp4").len(), bed.files(GOOD, "mp4").len());
    assert_eq!(sealed(&bed), (1, 1));
    assert!(!bed.writer.guard.report().failing, "all else is written");
    assert_eq!(
        (bed.held(BAD), bed.held(GOOD)),
        (15, 15),
        "the next start rebuilds the record"
    );
    bed.writer.due.evict = Duration::ZERO;
    bed.run(WHILE);
    assert_eq!(sealed(&bed), (1, 0), "its own media alone stays");
}

#[tokio::test]
async fn a_segment_that_cannot_be_renamed_is_the_matter_of_its_stream_alone() {
    let mut bed = Bed::new();
    let (mut bad, mut good) = (
        Camera::new(bed.stream(BAD), fine()),
        Camera::new(bed.stream(GOOD), fine()),
    );
    bad.send(15);
    good.send(15);
    bed.run(WHILE);
    // Whoever took it away brings it back later.
    let path = bed.files(BAD, "open").pop().unwrap();
    let away = bed.dir.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    bed.shared.configure(&settings(&[("good", GOOD)]));
    for _ in 0..6 {
        good.send(10);
        bed.run(WHILE);
        assert!(!bed.writer.guard.report().failing, "the volume works");
    }
    assert!(bed.held(GOOD) >= 65, "{}", bed.held(GOOD));
    assert_eq!(bed.shared.metrics.disk_errors.get(), 0);
    std::fs::rename(&away, &path).unwrap();
    let later = now() + Duration::from_mins(2);
    (0..4).for_each(|n| bed.writer.tick_at(later + TICK * n, false));
    assert_eq!(bed.files(BAD, "mp4").len(), 1, "it is tried again");
}

#[tokio::test]
async fn a_tail_that_lacks_what_was_durable_is_not_sealed_but_asked_for() {
    let mut bed = Bed::new();
    let id = SegmentId {
        stream: GOOD,
        store: bed.shared.volume.store(),
        member: "m-0".into(),
        incarnation: bed.shared.incarnation ^ 1,
        sequence: 0,
    };
    let header = crate::fixtures::header(id.clone());
    let mut file = SegmentFile::create(&bed.shared.volume, header, &crate::fixtures::track()).unwrap();
    let mut camera = Camera::new(bed.stream(GOOD), fine());
    let ends: Vec<u64> = (0..2)
        .map(|_| {
            camera.send(1);
            let frame = bed.stream(GOOD).lock().ring.frames().last().cloned().unwrap();
            file.append(&[volume::sample(&frame, 3600)], &[]).unwrap().end
        })
        .collect();
    drop(file);
    let path = bed.shared.volume.open_path(&id);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let mut events = bed.shared.events.subscribe();
    let mut shorter = move || {
        let told = std::iter::from_fn(|| events.try_recv().ok()).flat_map(|m| m.to_vec());
        let shorter = told.filter_map(|m| match m {
            ToReplicator::Shorter { id, end } => Some((id, end)),
            _ => None,
        });
        shorter.collect::<Vec<_>>()
    };
    let told = |bed: &Bed, end| {
        bed.shared
            .hear(ToRecorder::TailComplete { id: id.clone(), end }, now());
    };
    told(&bed, ends[1]);
    bed.run_with_commands(WHILE);
    assert_eq!(shorter(), [(id.clone(), ends[0])]);
    assert!(!bed.shared.volume.sealed_path(&id).exists());
    // The peer has no more of it.
    told(&bed, ends[0]);
    bed.run_with_commands(WHILE);
    assert!(shorter().is_empty() && bed.shared.volume.sealed_path(&id).exists());
}

#[tokio::test]
async fn media_stays_until_it_is_durable_that_it_leaves() {
    let mut bed = Bed::with_frames();
    bed.shared.configure(&that_keep_nothing(&[]));
    bed.run(WHILE);
    assert_eq!(bed.files(GOOD, "mp4").len(), 1);
    bed.writer.volume.faults.failing = 1;
    bed.writer.due.evict = Duration::ZERO;
    bed.run(WHILE);
    assert_eq!(bed.files(GOOD, "mp4").len(), 1);
    bed.run(Duration::from_millis(1500));
    assert!(bed.files(GOOD, "mp4").is_empty());
}

#[tokio::test]
async fn a_volume_that_syncs_nothing_for_a_while_is_left_without_rubbish() {
    let mut bed = Bed::new();
    let mut good = Camera::new(bed.stream(GOOD), fine());
    bed.writer.volume.faults.failing = 3;
    good.send(15);
    bed.run(Duration::from_millis(2600));
    assert_eq!(bed.held(GOOD), 0);
    assert!(
        bed.files(GOOD, "open").len() <= 1,
        "{:?}",
        bed.files(GOOD, "open")
    );
    let attempts = bed.shared.metrics.disk_errors.get();
    assert_eq!(attempts, 3, "one a second");
    bed.run(Duration::from_millis(1200));
    good.send(15);
    bed.run(WHILE * 3);
    assert_eq!(bed.held(GOOD), 30);
    bed.writer.tick(true);
    assert_eq!(
        (bed.files(GOOD, "open").len(), bed.files(GOOD, "mp4").len()),
        (0, 1)
    );
}
