//! Starts the camera simulator of `tests/cameras` and drives its remote control.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::oracle::Span;

/// Making the clip takes some seconds, once per machine.
const READY: Duration = Duration::from_secs(90);
/// How often something is measured at most, see [`Cameras::on_time`].
const ATTEMPTS: usize = 3;
/// Debian's Python: another one lacks the bindings.
const PYTHON: &str = "/usr/bin/python3";

/// What a camera sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// H.264, a key frame each second, 25 frames a second.
    #[default]
    H264,
    /// With B-frames: frames do not come in the order in which they are shown.
    BFrames,
    /// A key frame each 10 s.
    LongGroups,
    /// 25, 0.8, 12.5 and 2 frames a second in turn: it pauses from one frame to the next.
    VariableRate,
    /// Each session gets an encode of its own.
    OwnEncodes,
    /// Of another size after each time it was off.
    Sizes,
    /// Each session gets the same frames in packets of its own.
    Apart,
    /// H.265, closed groups of pictures.
    H265,
    /// H.265, open groups of pictures: CRA pictures with RASL pictures after them.
    H265Open,
    /// H.264 with AAC beside it.
    Aac,
    /// H.264 with AAC in packets that nobody can read.
    BrokenAac,
    /// H.264 with mu-law G.711 beside it.
    Pcmu,
    /// H.264 with A-law G.711 beside it.
    Pcma,
}

impl Kind {
    /// All of which everything is recorded.
    pub const ALL: [Self; 11] = [
        Self::H264,
        Self::BFrames,
        Self::LongGroups,
        Self::VariableRate,
        Self::OwnEncodes,
        Self::Apart,
        Self::H265,
        Self::H265Open,
        Self::Aac,
        Self::Pcmu,
        Self::Pcma,
    ];

    /// As the simulator calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::BFrames => "h264-b",
            Self::LongGroups => "h264-long",
            Self::VariableRate => "h264-vfr",
            Self::OwnEncodes => "h264-own",
            Self::Sizes => "h264-sizes",
            Self::Apart => "h264-apart",
            Self::H265 => "h265",
            Self::H265Open => "h265-open",
            Self::Aac => "h264-aac",
            Self::BrokenAac => "h264-aac-broken",
            Self::Pcmu => "h264-pcmu",
            Self::Pcma => "h264-pcma",
        }
    }
}

/// What of a second session a camera refuses that allows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuses {
    /// SETUP: there is none beside the first.
    Setup,
    /// PLAY: it may be there, and does not play.
    Play,
}

impl Refuses {
    /// As the simulator calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Play => "play",
        }
    }
}

/// Which cameras to start, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many.
    pub streams: usize,
    /// What the first cameras are; all others are [`Kind::H264`].
    pub kinds: Vec<Kind>,
    /// Address to listen on.
    pub address: String,
    /// Port to listen on.
    pub port: u16,
    /// Network namespace to run in, if not the own one.
    pub netns: Option<String>,
    /// `USER:PASSWORD[@FIRST[-LAST]]`; without any, everybody may watch.
    pub logins: Vec<String>,
    /// What each camera refuses of a second session, if it does.
    pub single: Option<Refuses>,
}

impl Options {
    /// Cameras on loopback, on a free port.
    pub fn loopback(streams: usize) -> Result<Self> {
        let port = crate::net::free_port()?;
        Ok(Self {
            streams,
            kinds: Vec::new(),
            address: "127.0.0.1".to_owned(),
            port,
            netns: None,
            logins: Vec::new(),
            single: None,
        })
    }

    /// Cameras in the test bed's network.
    pub fn test_bed(streams: usize) -> Self {
        // Each camera has an address of its own there, so that the link to one can be cut.
        let (address, netns) = ("0.0.0.0".to_owned(), Some("cams".to_owned()));
        Self {
            streams,
            kinds: Vec::new(),
            address,
            port: 554,
            netns,
            logins: Vec::new(),
            single: None,
        }
    }

    /// Listens on another port: cameras with a login are a simulator of their own.
    #[must_use]
    pub fn on_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The first cameras are of these kinds.
    #[must_use]
    pub fn of_kinds(mut self, kinds: &[Kind]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// Each camera allows one session.
    #[must_use]
    pub fn single(mut self, refuses: Refuses) -> Self {
        self.single = Some(refuses);
        self
    }

    /// Adds a login.
    #[must_use]
    pub fn login(mut self, login: &str) -> Self {
        self.logins.push(login.to_owned());
        self
    }
}

/// What a camera has pushed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pushed {
    /// First and last number, both included.
    #[serde(flatten)]
    pub span: Span,
    /// When the first was sent, in nanoseconds since 1970.
    pub first_ns: u64,
    /// When the last was sent.
    pub last_ns: u64,
}

#[derive(Debug, Deserialize)]
struct CameraState {
    spans: Vec<Pushed>,
    /// Frames that the simulator itself lost.
    leaked: u64,
    /// Frames of which the simulator did not send a packet.
    dropped: Vec<u64>,
    /// What the newest clients wanted in SETUP, the keeper aside.
    transports: Vec<String>,
    /// How many sessions it refused because it had one.
    refused: u64,
    /// When a session got the first picture that it had before, Unix nanoseconds.
    #[serde(rename = "repeatsNs")]
    repeats_ns: Option<u64>,
}

/// The simulator was too slow to be believed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("camera starved: a frame leaked, or was up to {late_max_ms} ms late")]
struct Starved {
    late_max_ms: u64,
}

/// The simulator's books.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The number that the next frame gets.
    pub counter: u64,
    /// The latest tick, in milliseconds.
    pub late_max_ms: u64,
    /// Ticks that came too late to look like a camera's.
    late_ticks: u64,
    cameras: Vec<CameraState>,
}

impl State {
    /// How often the simulator was too slow to be believed.
    pub fn slips(&self) -> u64 {
        self.late_ticks + self.cameras.iter().map(|camera| camera.leaked).sum::<u64>()
    }

    /// Fails if the simulator was too slow more often than this: what a recording lacks then proves nothing.
    pub fn ensure_on_time(&self, slips: u64) -> Result<()> {
        let late_max_ms = self.late_max_ms;
        ensure!(self.slips() <= slips, Starved { late_max_ms });
        Ok(())
    }

    /// Numbers pushed by one camera.
    pub fn pushed(&self, camera: usize) -> &[Pushed] {
        &self.cameras[camera].spans
    }

    /// When a camera sent a frame, Unix milliseconds.
    pub fn sent_ms(&self, camera: usize, frame: u64) -> Option<u64> {
        let has = |pushed: &&Pushed| pushed.span.first <= frame && frame <= pushed.span.last;
        let pushed = self.pushed(camera).iter().find(has)?;
        let intervals = (pushed.span.frames() - 1).max(1);
        let since_ns = (pushed.last_ns - pushed.first_ns) / intervals * (frame - pushed.span.first);
        Some((pushed.first_ns + since_ns) / 1_000_000)
    }

    /// Frames of a camera of which a packet was not sent, on purpose.
    pub fn dropped(&self, camera: usize) -> &[u64] {
        &self.cameras[camera].dropped
    }

    /// The Transport headers of the clients of a camera (RFC 2326, 12.39), the newest last.
    pub fn transports(&self, camera: usize) -> &[String] {
        &self.cameras[camera].transports
    }

    /// When a camera that was told to stay still sent the first picture that was not new, Unix milliseconds.
    pub fn repeats_since_ms(&self, camera: usize) -> Option<u64> {
        self.cameras[camera].repeats_ns.map(|ns| ns / 1_000_000)
    }

    /// How many sessions a camera refused because it had one.
    pub fn refused(&self, camera: usize) -> u64 {
        self.cameras[camera].refused
    }

    /// Numbers pushed by one camera within a window.
    pub fn pushed_within(&self, camera: usize, window: Span) -> Vec<Span> {
        self.pushed(camera)
            .iter()
            .filter_map(|pushed| pushed.span.intersect(&window))
            .collect()
    }
}

/// A running simulator; it ends with this value, and with this process however that ends.
#[derive(Debug)]
pub struct Cameras {
    child: Child,
    folder: Option<TempDir>,
    control: PathBuf,
    options: Options,
}

impl Cameras {
    /// Starts cameras and returns when each of them plays.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = TempDir::new()?;
        let control = folder.path().join("control");
        let mut command = command(&options, &control);
        let mut child = command
            .stdin(Stdio::piped())
            .arg("--until-eof")
            .spawn()
            .context("cannot start cameras")?;
        wait_ready(&mut child).await?;
        Ok(Self {
            child,
            folder: Some(folder),
            control,
            options,
        })
    }

    /// Starts cameras that go on after this process; their pid file, control socket and log are in `folder`. Cameras
    /// that an earlier call left there are ended first.
    pub async fn start_detached(options: Options, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        end_detached(folder).await?;
        let control = folder.join("control");
        let log = std::fs::File::create(folder.join("log"))?;
        let mut command = command(&options, &control);
        command
            .stdin(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(false);
        let mut child = command.spawn().context("cannot start cameras")?;
        wait_ready(&mut child).await?;
        let pid = child.id().context("cameras ended")?;
        std::fs::write(folder.join("pid"), pid.to_string())?;
        Ok(Self {
            child,
            folder: None,
            control,
            options,
        })
    }

    /// The URL of a camera.
    pub fn url(&self, camera: usize) -> String {
        let (host, port) = (self.host(camera), self.options.port);
        format!("rtsp://{host}:{port}/cam{camera:03}")
    }

    /// The URL of a camera for a client that wants datagrams. Those of all cameras of the test bed come from one address, and a
    /// client takes none from another one than it asked.
    pub fn datagram_url(&self, camera: usize) -> String {
        let host = match self.options.netns {
            None => &self.options.address,
            Some(_) => SENDER,
        };
        format!("rtsp://{host}:{}/cam{camera:03}", self.options.port)
    }

    /// The URL of any mount.
    pub fn url_of(&self, mount: &str) -> String {
        format!("rtsp://{}:{}/{mount}", self.host(0), self.options.port)
    }

    fn host(&self, camera: usize) -> String {
        match self.options.netns {
            None => self.options.address.clone(),
            Some(_) => address_of(camera),
        }
    }

    /// How many there are.
    pub fn streams(&self) -> usize {
        self.options.streams
    }

    /// What a camera is.
    pub fn kind(&self, camera: usize) -> Kind {
        self.options.kinds.get(camera).copied().unwrap_or_default()
    }

    /// The simulator's books.
    pub async fn state(&self) -> Result<State> {
        Ok(serde_json::from_value(self.ask(&json!({"op": "state"})).await?)?)
    }

    /// As [`Cameras::state`], but fails if the simulator was too slow: what is measured then proves nothing, whether a frame lacks or
    /// not.
    pub async fn trusted_state(&self) -> Result<State> {
        let state = self.state().await?;
        state.ensure_on_time(0)?;
        Ok(state)
    }

    /// Measures, and measures again where the simulator was too slow meanwhile, three times in all at most.
    pub async fn on_time<T>(&self, measure: impl AsyncFn() -> Result<T>) -> Result<T> {
        let mut attempt = 1;
        loop {
            self.ask(&json!({"op": "mark"})).await?;
            match measure().await {
                Err(e) if attempt < ATTEMPTS && e.is::<Starved>() => println!("  {e:#}: once more"),
                done => return done,
            }
            attempt += 1;
        }
    }

    /// No frame comes from a camera, though its connections stay.
    pub async fn freeze(&self, camera: usize) -> Result<()> {
        self.ask(&json!({"op": "freeze", "camera": camera}))
            .await
            .map(drop)
    }

    /// It goes on.
    pub async fn thaw(&self, camera: usize) -> Result<()> {
        self.ask(&json!({"op": "thaw", "camera": camera})).await.map(drop)
    }

    /// The camera is gone and its clients are disconnected.
    pub async fn off(&self, camera: usize) -> Result<()> {
        self.ask(&json!({"op": "off", "camera": camera})).await.map(drop)
    }

    /// It is back.
    pub async fn on(&self, camera: usize) -> Result<()> {
        self.ask(&json!({"op": "on", "camera": camera})).await.map(drop)
    }

    /// So many of its slice packets, at random, are not sent from now on.
    pub async fn lose(&self, camera: usize, packets: usize) -> Result<()> {
        self.ask(&json!({"op": "lose", "camera": camera, "packets": packets}))
            .await
            .map(drop)
    }

    /// So many slice packets of one session, counted from 0, of a camera whose sessions are [`Kind::Apart`].
    pub async fn lose_in(&self, camera: usize, session: usize, packets: usize) -> Result<()> {
        self.ask(&json!({"op": "lose", "camera": camera, "packets": packets, "session": session}))
            .await
            .map(drop)
    }

    /// What it sends to this client shows one group of pictures again and again, though the numbers of its frames go on. For a camera
    /// whose sessions are [`Kind::Apart`].
    pub async fn stay_still(&self, camera: usize, client: &str) -> Result<()> {
        self.ask(&json!({"op": "still", "camera": camera, "client": client}))
            .await
            .map(drop)
    }

    /// Its pictures change again.
    pub async fn move_on(&self, camera: usize, client: &str) -> Result<()> {
        self.ask(&json!({"op": "move", "camera": camera, "client": client}))
            .await
            .map(drop)
    }

    /// No slice packet that this client gets can be read. For a camera whose sessions are [`Kind::Apart`].
    pub async fn spoil(&self, camera: usize, client: &str) -> Result<()> {
        self.ask(&json!({"op": "spoil", "camera": camera, "client": client}))
            .await
            .map(drop)
    }

    /// This client of a [`Kind::Apart`] camera gets parameter sets that nobody can decode.
    pub async fn garble(&self, camera: usize, client: &str) -> Result<()> {
        self.ask(&json!({"op": "garble", "camera": camera, "client": client}))
            .await
            .map(drop)
    }

    /// They can be read again.
    pub async fn heal(&self, camera: usize, client: &str) -> Result<()> {
        self.ask(&json!({"op": "heal", "camera": camera, "client": client}))
            .await
            .map(drop)
    }

    /// Its clients are disconnected once.
    pub async fn disconnect(&self, camera: usize) -> Result<()> {
        self.ask(&json!({"op": "disconnect", "camera": camera}))
            .await
            .map(drop)
    }

    /// From now on only the new password is right; sessions that run go on.
    pub async fn change_password(&self, user: &str, password: &str) -> Result<()> {
        self.ask(&json!({"op": "password", "user": user, "password": password}))
            .await
            .map(drop)
    }

    /// Ends the simulator.
    pub async fn stop(mut self) -> Result<()> {
        self.child.kill().await?;
        drop(self.folder.take());
        Ok(())
    }

    async fn ask(&self, request: &Value) -> Result<Value> {
        let exchange = async {
            let mut socket = UnixStream::connect(&self.control).await?;
            socket.write_all(format!("{request}\n").as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            anyhow::Ok(serde_json::from_str::<Value>(&answer)?)
        };
        let answer = timeout(Duration::from_secs(15), exchange)
            .await
            .context("cameras do not answer")??;
        match answer.get("error") {
            Some(error) => bail!("cameras: {request}: {error}"),
            None => Ok(answer),
        }
    }
}

/// The address that datagrams come from in the test bed's network.
const SENDER: &str = "198.18.0.2";

/// The address of a camera in the test bed's network.
pub fn address_of(camera: usize) -> String {
    format!("198.18.0.{}", 64 + camera)
}

fn command(options: &Options, control: &Path) -> Command {
    let script = crate::tests_folder().join("cameras/cameras.py");
    // Cameras are machines of their own: what this one has to do must not make them late. Each of these replaces itself by the
    // next, so the child's pid is the simulator's.
    let mut command = Command::new("nice");
    command.args(["-n", "-10"]);
    if let Some(netns) = &options.netns {
        command.args(["ip", "netns", "exec", netns]);
    }
    command
        .arg(PYTHON)
        .arg(script)
        .args(["--streams", &options.streams.to_string()]);
    command.args(["--address", &options.address, "--port", &options.port.to_string()]);
    command.arg("--control").arg(control);
    for (camera, kind) in options.kinds.iter().enumerate() {
        command.args(["--kind", &format!("{camera}:{}", kind.name())]);
    }
    for camera in 0..options.streams {
        let single = options.single.iter().flat_map(|refuses| {
            let which = format!("{camera}:{}", refuses.name());
            ["--single".to_owned(), which]
        });
        command.args(single);
    }
    for login in &options.logins {
        command.args(["--login", login]);
    }
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn wait_ready(child: &mut Child) -> Result<()> {
    let stdout = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("\"ready\"") {
                return anyhow::Ok(());
            }
            eprintln!("cameras: {line}");
        }
        bail!("the cameras ended before they were ready")
    };
    timeout(READY, ready)
        .await
        .context("the cameras are not ready in time")?
}

/// Ends the cameras whose pid file is in a folder.
pub async fn end_detached(folder: &Path) -> Result<()> {
    let Ok(text) = std::fs::read_to_string(folder.join("pid")) else {
        return Ok(());
    };
    let pid: i32 = text.trim().parse().context("pid file")?;
    let ours =
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("cameras.py"));
    if let Some(pid) = rustix::process::Pid::from_raw(pid).filter(|_| ours) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        crate::wait::until("the old cameras end", Duration::from_secs(5), async || {
            Ok(rustix::process::test_kill_process(pid).is_err().then_some(()))
        })
        .await?;
    }
    Ok(std::fs::remove_file(folder.join("pid"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::oracle;

    async fn record(url: &str, seconds: u32) -> Result<oracle::Account> {
        let args =
            format!("-v error -nostdin -rtsp_transport tcp -i {url} -t {seconds} -c copy -f h264 pipe:1");
        let output = Command::new("ffmpeg")
            .args(args.split(' '))
            .kill_on_drop(true)
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(oracle::annex_b(&output.stdout))
    }

    /// Watches until it is killed. What it gets is in the file.
    fn watch(url: &str) -> Result<(Child, tempfile::NamedTempFile)> {
        let seen = tempfile::NamedTempFile::new()?;
        let args =
            format!("-v error -nostdin -rtsp_transport tcp -i {url} -c copy -flush_packets 1 -f h264 pipe:1");
        let child = Command::new("ffmpeg")
            .args(args.split(' '))
            .stdout(seen.reopen()?)
            .kill_on_drop(true)
            .spawn()?;
        Ok((child, seen))
    }

    fn frames_of(seen: &tempfile::NamedTempFile) -> Result<u64> {
        Ok(oracle::annex_b(&std::fs::read(seen.path())?).frames())
    }

    async fn more_than(seen: &tempfile::NamedTempFile, frames: u64) -> Result<()> {
        crate::wait::until("it goes on watching", Duration::from_secs(20), async || {
            Ok((frames_of(seen)? > frames).then_some(()))
        })
        .await
    }

    #[tokio::test]
    async fn every_frame_is_numbered_and_arrives() {
        let cameras = Cameras::start(Options::loopback(3).unwrap()).await.unwrap();
        let urls = [cameras.url(0), cameras.url(2)];
        let (a, b) = tokio::join!(record(&urls[0], 3), record(&urls[1], 3));
        let state = cameras.state().await.unwrap();
        for (camera, account) in [(0, a.unwrap()), (2, b.unwrap())] {
            assert!(account.frames() >= 50, "{account}");
            assert_eq!(
                (account.missing(), account.surplus(), account.out_of_order.len()),
                (vec![], 0, 0),
                "up to {} ms late",
                state.late_max_ms
            );
            let pushed = state.pushed(camera)[0].span;
            assert!(account.first() >= Some(pushed.first) && account.last() <= Some(pushed.last));
        }
        cameras.stop().await.unwrap();
    }

    #[test]
    fn slowness_counts_from_a_moment_on() {
        let camera = json!({"spans": [], "leaked": 2, "dropped": [], "transports": [], "refused": 0});
        let state = json!({"counter": 9, "lateMaxMs": 700, "lateTicks": 1, "cameras": [camera]});
        let state: State = serde_json::from_value(state).unwrap();
        assert_eq!(state.slips(), 3);
        assert!(state.ensure_on_time(3).is_ok(), "all of it was before");
        assert!(state.ensure_on_time(2).unwrap_err().is::<Starved>());
    }

    #[tokio::test]
    async fn what_was_measured_with_slow_cameras_is_measured_again() {
        let cameras = Cameras::start(Options::loopback(1).unwrap()).await.unwrap();
        let attempts = AtomicUsize::new(0);
        let slow_at_first = async || {
            let slow = attempts.fetch_add(1, Ordering::Relaxed) == 0;
            let found: Result<i32> = if slow {
                Err(Starved { late_max_ms: 600 }.into())
            } else {
                Ok(7)
            };
            found.context("a window")
        };
        assert_eq!(cameras.on_time(slow_at_first).await.unwrap(), 7);
        let others =
            async || -> Result<()> { bail!("something else {}", attempts.fetch_add(1, Ordering::Relaxed)) };
        assert_eq!(
            cameras.on_time(others).await.unwrap_err().to_string(),
            "something else 2"
        );
        let always = async || -> Result<()> { Err(Starved { late_max_ms: 600 }.into()) };
        assert!(cameras.on_time(always).await.unwrap_err().is::<Starved>());
        cameras.stop().await.unwrap();
    }

    #[tokio::test]
    async fn passwords_count_and_change() {
        let options = Options::loopback(1).unwrap().login("u:old");
        let cameras = Cameras::start(options).await.unwrap();
        let url = |login: &str| cameras.url(0).replace("//", &format!("//{login}"));
        assert!(record(&url("u:old@"), 1).await.is_ok());
        for wrong in ["", "u:new@", "x:old@"] {
            let error = record(&url(wrong), 1).await.unwrap_err().to_string();
            assert!(error.contains("401"), "{error}");
        }
        cameras.change_password("u", "new").await.unwrap();
        assert!(record(&url("u:new@"), 1).await.is_ok());
        assert!(record(&url("u:old@"), 1).await.is_err());
    }

    #[tokio::test]
    async fn a_camera_with_one_session_refuses_another() {
        for refuses in [Refuses::Setup, Refuses::Play] {
            let options = Options::loopback(1).unwrap().single(refuses);
            let cameras = Cameras::start(options).await.unwrap();
            let url = cameras.url(0);
            let (mut first, seen) = watch(&url).unwrap();
            more_than(&seen, 0).await.unwrap();
            let error = record(&url, 1).await.unwrap_err().to_string();
            assert!(error.contains("453"), "{error}");
            assert_eq!(cameras.state().await.unwrap().refused(0), 1);
            let had = frames_of(&seen).unwrap();
            more_than(&seen, had + 50).await.unwrap();
            first.kill().await.unwrap();
            let again = async || record(&url, 1).await.map(Some);
            crate::wait::until("the first one is gone", Duration::from_secs(10), again)
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn frozen_camera_pushes_nothing() {
        let cameras = Cameras::start(Options::loopback(2).unwrap()).await.unwrap();
        cameras.freeze(1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        cameras.thaw(1).await.unwrap();
        let two_spans = async || Ok((cameras.state().await?.pushed(1).len() == 2).then_some(()));
        crate::wait::until("the camera goes on", Duration::from_secs(5), two_spans)
            .await
            .unwrap();
        assert_eq!(cameras.state().await.unwrap().pushed(0).len(), 1);
        cameras.off(0).await.unwrap();
        assert!(
            record(&cameras.url(0), 1)
                .await
                .unwrap_err()
                .to_string()
                .contains("404")
        );
        cameras.on(0).await.unwrap();
        assert!(record(&cameras.url(0), 1).await.is_ok());
    }
}
