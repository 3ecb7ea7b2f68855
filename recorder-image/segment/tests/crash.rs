//! Crashes: a writer that is killed, and a writer whose machine loses power, a hundred times each, at random moments. What
//! was acknowledged is there, no sealed segment changes, no ledger is unreadable, no epoch falls.
//!
//! A power cut is real: the file system of a loop device is shut down without flushing its log, so that what was not synced
//! is gone. Needs root and loop devices. `GAPLESS_POWER_CUTS` and `GAPLESS_KILLS` set how many, `GAPLESS_SEED` where to begin.
#![allow(clippy::unwrap_used, unsafe_code)] // one ioctl, and asserts instead of errors

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use segment::{
    Catalogue, ClockSource, EpochSlots, Header, Ledger, LedgerReader, Record, Role, Sample, SegmentFile,
    SegmentId, Track, Volume, scan,
};
use uuid::Uuid;

const STREAMS: u128 = 3;
const WRITER: &str = "GAPLESS_TEST_WRITER";

// ---- the writer: this test binary, started again

/// Not a test by itself: what the other tests start. Writes until it is stopped, and says what is durable.
#[test]
fn writer_process() {
    if let Ok(dir) = std::env::var(WRITER) {
        write_for_ever(Path::new(&dir));
    }
}

fn write_for_ever(dir: &Path) -> ! {
    let volume = Volume::open(dir, Role::Recorder).unwrap();
    let mut slots = EpochSlots::open(&volume).unwrap();
    let incarnation = u64::from_be_bytes(Uuid::new_v4().as_bytes()[..8].try_into().unwrap());
    let mut ledgers: Vec<Ledger> = (0..STREAMS)
        .map(|s| {
            Ledger::open(&volume, Uuid::from_u128(s), Role::Recorder)
                .unwrap()
                .0
        })
        .collect();
    for round in 0u64.. {
        let mut open: Vec<SegmentFile> = (0..STREAMS)
            .map(|s| begin(&volume, s, incarnation, round))
            .collect();
        for n in 0..6 {
            for file in &mut open {
                file.append(&[sample(round * 6 + n, n == 0)], &[]).unwrap();
            }
            volume.sync().unwrap();
            for file in &open {
                say(&format!(
                    "held {} {} {}",
                    file.header().id,
                    file.end(),
                    hex::encode(file.chain())
                ));
            }
        }
        let mut sealed = Vec::new();
        for (file, ledger) in open.into_iter().zip(&mut ledgers) {
            let entry = file.finish().rename().unwrap().entry;
            ledger
                .append(&Record::Sealed {
                    entry: Box::new(entry.clone()),
                    received_s: 0,
                })
                .unwrap();
            sealed.push(entry);
        }
        volume.sync().unwrap();
        ledgers.iter_mut().for_each(Ledger::synced);
        for entry in sealed {
            say(&format!("sealed {} {}", entry.header.id, hex::encode(entry.root)));
        }
        slots.raise(slots.epoch() + 1).unwrap();
        say(&format!("epoch {}", slots.epoch()));
    }
    unreachable!()
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "SAID {what}").and_then(|()| out.flush()).unwrap();
}

fn begin(volume: &Volume, stream: u128, incarnation: u64, sequence: u64) -> SegmentFile {
    let id = SegmentId {
        stream: Uuid::from_u128(stream),
        store: volume.store(),
        member: "m".into(),
        incarnation,
        sequence,
    };
    let header = Header {
        id,
        stream_name: "cam".into(),
        pair_epoch: 1,
        stream_epoch: 0,
        owner: true,
        run: Uuid::nil(),
        opened_us: 0,
        clock: ClockSource::Own,
        hevc: false,
        audio: None,
    };
    let sample_entry = [&8u32.to_be_bytes()[..], b"test"].concat().into();
    SegmentFile::create(
        volume,
        header,
        &Track {
            sample_entry,
            width: 1,
            height: 1,
            audio: None,
        },
    )
    .unwrap()
}

/// A frame of 1 to 40 KB whose content depends on its number.
fn sample(n: u64, key: bool) -> Sample {
    let len = 1000 + (n * 7919 % 39_000) as usize;
    let mut data = (len as u32).to_be_bytes().to_vec();
    data.push(if key { 0x65 } else { 0x41 });
    data.extend((1..len).map(|i| ((i as u64 * (n + 3)) >> 3) as u8));
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

// ---- what the writer said must be true

#[derive(Default)]
struct Said {
    held: BTreeMap<SegmentId, (u64, String)>,
    sealed: BTreeMap<SegmentId, String>,
    epoch: u64,
}

impl Said {
    fn take(&mut self, line: &str) {
        let Some((_, said)) = line.split_once("SAID ") else {
            return;
        };
        let words: Vec<&str> = said.split(' ').collect();
        match words[..] {
            ["held", id, end, chain] => {
                self.held.insert(parse(id), (end.parse().unwrap(), chain.into()));
            }
            ["sealed", id, root] => {
                self.sealed.insert(parse(id), root.into());
            }
            ["epoch", epoch] => self.epoch = epoch.parse().unwrap(),
            _ => {}
        }
    }

    /// What is not as it was said, in words.
    fn violations(&self, dir: &Path) -> Vec<String> {
        let volume = Volume::open(dir, Role::Recorder).unwrap();
        let mut wrong = Vec::new();
        for (id, root) in &self.sealed {
            match fs::read(volume.sealed_path(id)) {
                Ok(data) if &hex::encode(blake3::hash(&data).as_bytes()) == root => {}
                Ok(_) => wrong.push(format!("{id}: a sealed segment changed")),
                Err(e) => wrong.push(format!("{id}: a sealed segment is gone: {e}")),
            }
        }
        for (id, (end, chain)) in &self.held {
            if chain_at(&volume, id, *end).as_ref() != Some(chain) {
                wrong.push(format!("{id}: {end} acknowledged bytes are not there"));
            }
        }
        for stream in (0..STREAMS).map(Uuid::from_u128) {
            let listed = sealed_in_ledger(&volume, stream);
            let lost = self
                .sealed
                .keys()
                .filter(|id| id.stream == stream && !listed.contains(id));
            wrong.extend(lost.map(|id| format!("{id}: not in the ledger")));
        }
        if EpochSlots::open(&volume).unwrap().epoch() < self.epoch {
            wrong.push(format!("epoch {} is lost", self.epoch));
        }
        wrong.extend(Catalogue::load(&volume, 0).err().map(|e| e.to_string()));
        wrong
    }
}

fn parse(id: &str) -> SegmentId {
    let (stream, stem) = id.split_once('/').unwrap();
    SegmentId::from_stem(stream.parse().unwrap(), stem).unwrap()
}

fn sealed_in_ledger(volume: &Volume, stream: Uuid) -> Vec<SegmentId> {
    drop(Ledger::open(volume, stream, Role::Recorder).unwrap());
    let records = LedgerReader::new(volume, stream, Role::Recorder).poll().unwrap();
    let id = |r: Record| match r {
        Record::Sealed { entry, .. } => Some(entry.header.id),
        _ => None,
    };
    records.into_iter().filter_map(id).collect()
}

fn chain_at(volume: &Volume, id: &SegmentId, end: u64) -> Option<String> {
    let sealed = volume.sealed_path(id);
    let path = if sealed.exists() {
        sealed
    } else {
        volume.open_path(id)
    };
    let data = fs::read(path).ok()?;
    let found = scan::scan_bytes(data.get(..end as usize)?).ok()?;
    (found.end == end).then(|| hex::encode(found.chain))
}

// ---- crashes

/// Starts the writer on `dir`, lets it work until `moment`, stops it with `stop`, and takes in all that it said.
fn run_writer(dir: &Path, said: &mut Said, moment: Moment, stop: impl FnOnce(&mut Child)) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["writer_process", "--exact", "--nocapture"])
        .env(WRITER, dir)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let first = lines.by_ref().find(|l| l.contains("SAID")).unwrap_or_else(|| {
        let said = std::io::read_to_string(child.stderr.take().unwrap());
        panic!("the writer ended without a word: {said:?}")
    });
    said.take(&first);
    lines
        .by_ref()
        .take(moment.words)
        .for_each(|line| said.take(&line));
    std::thread::sleep(moment.after);
    stop(&mut child);
    lines.for_each(|line| said.take(&line));
    let _ = child.wait();
}

/// One test at a time: a process that another thread is about to start holds, until it runs its own program, whatever this
/// one has open, and a file system with an open file cannot be unmounted.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn times(variable: &str) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(100)
}

/// When a writer is stopped: by what it did, so that a slow disk is given its time.
#[derive(Clone, Copy)]
struct Moment {
    /// After so many words more than the first: 22 of them are three segments, from their beginning to their seal.
    words: usize,
    /// And so much later: somewhere on the way to the next one.
    after: Duration,
}

/// Moments at random, the same for the same seed.
fn moments() -> impl Iterator<Item = Moment> {
    let seed = std::env::var("GAPLESS_SEED")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(1u64);
    println!("GAPLESS_SEED={seed}");
    (0u64..).map(move |i| {
        let hash = blake3::hash(&[seed.to_be_bytes(), i.to_be_bytes()].concat());
        let (numbers, _) = hash.as_bytes().as_chunks();
        let number = |at: usize, below: u64| u64::from_be_bytes(numbers[at]) % below;
        Moment {
            words: number(0, 66) as usize,
            after: Duration::from_micros(number(1, 3000)),
        }
    })
}

#[test]
fn a_hundred_kills_lose_nothing_acknowledged() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (mut said, began) = (Said::default(), Instant::now());
    let kills = times("GAPLESS_KILLS");
    for (n, moment) in (0..kills).zip(moments()) {
        if n % 20 == 0 {
            said = Said::default();
            fs::remove_dir_all(dir.path()).unwrap();
        }
        run_writer(dir.path(), &mut said, moment, |child| child.kill().unwrap());
        assert_eq!(said.violations(dir.path()), Vec::<String>::new(), "kill {n}");
    }
    println!("{kills} kills in {:.1} s", began.elapsed().as_secs_f32());
}

#[test]
fn i10_a_hundred_power_cuts_lose_nothing_acknowledged() {
    let _alone = alone();
    let (cuts, began) = (times("GAPLESS_POWER_CUTS"), Instant::now());
    let sealed = cut_power(cuts, |wrong, n| {
        assert_eq!(wrong, Vec::<String>::new(), "power cut {n}");
    });
    assert!(sealed > 0, "the writer never came to seal a segment");
    println!(
        "{cuts} power cuts, {sealed} sealed segments in {:.1} s",
        began.elapsed().as_secs_f32()
    );
}

/// Cuts the power `cuts` times, gives what is wrong after each to `judge`, returns how many segments were sealed.
fn cut_power(cuts: u64, mut judge: impl FnMut(Vec<String>, u64)) -> usize {
    let mut sealed = 0;
    let mut disk = Disk::create();
    let mut said = Said::default();
    for (n, moment) in (0..cuts).zip(moments()) {
        if n % 20 == 19 {
            (said, disk) = (Said::default(), Disk::create());
        }
        let before = said.sealed.len();
        run_writer(&disk.mounted(), &mut said, moment, |child| {
            disk.shut_down();
            child.kill().unwrap();
        });
        sealed += said.sealed.len() - before;
        disk.unmount();
        disk.mount();
        judge(said.violations(&disk.mounted()), n);
    }
    sealed
}

/// An ext4 file system on a loop device, mounted in a temporary folder.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn create() -> Self {
        let disk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        File::create(disk.image()).unwrap().set_len(256 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", disk.image().to_str().unwrap()]);
        fs::create_dir(disk.mount_point()).unwrap();
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    fn mount_point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn mounted(&self) -> PathBuf {
        self.mount_point().join("media")
    }

    fn mount(&self) {
        run(
            "mount",
            &[
                "-o",
                "loop",
                self.image().to_str().unwrap(),
                self.mount_point().to_str().unwrap(),
            ],
        );
    }

    fn unmount(&self) {
        run("umount", &[self.mount_point().to_str().unwrap()]);
    }

    /// From here on nothing reaches the disk, and what is in memory only is lost.
    fn shut_down(&self) {
        const EXT4_IOC_SHUTDOWN: u64 = 0x8004_587d;
        const NO_LOG_FLUSH: u32 = 2;
        let folder = File::open(self.mount_point()).unwrap();
        let result = unsafe { libc::ioctl(folder.as_raw_fd(), EXT4_IOC_SHUTDOWN, &NO_LOG_FLUSH) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also after a failed assertion: a lazy unmount detaches the loop device with the last user.
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.mount_point())
            .stderr(Stdio::null())
            .status();
    }
}

fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(
        done.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}
