//! What a user could build instead: one process per camera that copies the stream into files, without a pair.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::oracle::{self, Account};
use crate::wait::until;

/// Length of a file, seconds.
pub const SEGMENT_SECONDS: u32 = 10;
/// How long recorders may take to write.
const UP: Duration = Duration::from_mins(1);
/// How long one may take to end when it is asked to.
const END: Duration = Duration::from_secs(15);

/// The program that records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// `ffmpeg -c copy -f segment`.
    Ffmpeg,
    /// `gst-launch-1.0 rtspsrc ! … ! splitmuxsink`.
    GStreamer,
}

/// A recorder of one camera.
#[derive(Debug)]
pub struct Plain {
    maker: Maker,
    url: String,
    folder: PathBuf,
    starts: u32,
    child: Option<Child>,
}

impl Plain {
    /// A recorder that does not run yet, and writes into a folder of its own, which is made.
    pub fn new(maker: Maker, url: &str, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            maker,
            url: url.to_owned(),
            folder: folder.to_owned(),
            starts: 0,
            child: None,
        })
    }

    /// Starts it, again too: each start writes files of its own.
    pub fn start(&mut self) -> Result<()> {
        self.starts += 1;
        let files = self.folder.join(format!("{:03}-%05d.mp4", self.starts));
        let files = files.to_str().context("the folder's name is no text")?;
        let mut command = match self.maker {
            Maker::Ffmpeg => ffmpeg(&self.url, files),
            Maker::GStreamer => gstreamer(&self.url, files),
        };
        let log = fs::File::create(self.folder.join(format!("{:03}.log", self.starts)))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(
            command
                .kill_on_drop(true)
                .spawn()
                .context("a plain recorder does not start")?,
        );
        Ok(())
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        let pid = self.child.as_ref().and_then(Child::id);
        pid.with_context(|| format!("the recorder of {} does not run", self.url))
    }

    /// Whether it runs.
    pub fn running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether the present start wrote something.
    pub fn writes(&self) -> Result<bool> {
        let of_this_start = format!("{:03}-", self.starts);
        let mut files = self.files()?.into_iter();
        let newest = files.rfind(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&of_this_start))
        });
        let Some(newest) = newest else { return Ok(false) };
        Ok(fs::metadata(newest)?.len() > 0)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid()?.cast_signed()).context("no process")?;
        Ok(kill_process(pid, signal)?)
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Asks it to end as a user would, so that its last file is whole, and waits until it has. One that does not is killed, as a
    /// supervisor does it.
    pub async fn stop(&mut self) -> Result<()> {
        if self.running() {
            self.signal(Signal::INT)?;
        }
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        if tokio::time::timeout(END, child.wait()).await.is_err() {
            eprintln!("  the recorder of {} does not end and is killed", self.url);
            child.kill().await?;
        }
        Ok(())
    }

    /// Every frame in its files, as far as they can be read.
    pub fn account(&self) -> Result<Account> {
        let mut account = Account::default();
        for path in self.files()? {
            let data = fs::read(&path)?;
            match self.maker {
                Maker::Ffmpeg => oracle::frames(&data)
                    .with_context(|| path.display().to_string())?
                    .account(&mut account),
                // Not fragmented, and ended as it should be: samples are whole, wherever they are.
                Maker::GStreamer => {
                    let stamps = oracle::Stamp::find_all(&data);
                    account.frames_in_order(stamps.into_iter().map(|stamp| Some(stamp.counter)));
                }
            }
        }
        Ok(account)
    }

    /// What it said, of all starts.
    pub fn said(&self) -> String {
        let log = |start| fs::read_to_string(self.folder.join(format!("{start:03}.log"))).unwrap_or_default();
        (1..=self.starts).map(log).collect()
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder)?.collect::<std::io::Result<Vec<_>>>()?;
        let paths = entries.into_iter().map(|entry| entry.path());
        let mut files: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|kind| kind == "mp4"))
            .collect();
        files.sort();
        Ok(files)
    }
}

/// Starts what does not run, and waits until all of them write.
pub async fn all_write(mut all: Vec<&mut Plain>) -> Result<()> {
    until("every plain recorder writes", UP, async || {
        for plain in &mut all {
            if !plain.running() {
                plain.start()?;
            }
        }
        for plain in &all {
            ensure!(
                plain.writes()?,
                "{} is not written yet: {}",
                plain.url,
                plain.said()
            );
        }
        Ok(Some(()))
    })
    .await
}

/// Fragmented, because of any other MP4 file a dead process leaves nothing that plays.
fn ffmpeg(url: &str, files: &str) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args([
        "-hide_banner",
        "-loglevel",
        "warning",
        "-nostdin",
        "-rtsp_transport",
        "tcp",
    ]);
    command.args(["-timeout", "5000000", "-i", url, "-map", "0:v:0", "-c", "copy"]);
    command.args(["-f", "segment", "-segment_time", &SEGMENT_SECONDS.to_string()]);
    command.args(["-reset_timestamps", "1", "-segment_format", "mp4"]);
    command.args([
        "-segment_format_options",
        "movflags=frag_keyframe+empty_moov+default_base_moof",
    ]);
    command.arg(files);
    command
}

fn gstreamer(url: &str, files: &str) -> Command {
    let mut command = Command::new("gst-launch-1.0");
    command.args([
        "-q",
        "-e",
        "rtspsrc",
        "protocols=tcp",
        "latency=0",
        &format!("location={url}"),
    ]);
    command.args([
        "!",
        "rtph264depay",
        "!",
        "h264parse",
        "!",
        "splitmuxsink",
        "muxer-factory=mp4mux",
    ]);
    let length_ns = u64::from(SEGMENT_SECONDS) * 1_000_000_000;
    command.args([
        &format!("location={files}"),
        &format!("max-size-time={length_ns}"),
    ]);
    command
}
