//! One member: two processes, a volume, and what is mounted into its containers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::member::RenderedConfig;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::TOKEN;
use super::pki::Authority;
use crate::api::MemberApi;
use crate::bench::usage;
use crate::faulty::Faulty;
use crate::net::free_port;
use crate::trial::tell;

/// One of a member's two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Streams in, segments out, playback.
    Recorder,
    /// Replication, heartbeats.
    Replicator,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Recorder => "recorder",
            Self::Replicator => "replicator",
        }
    }
}

/// A member.
pub struct Member {
    name: String,
    folder: PathBuf,
    http: u16,
    status: u16,
    peer: u16,
    control: u16,
    kubeconfig: Option<PathBuf>,
    children: [Option<Child>; 2],
    faulty: Option<Faulty>,
}

impl Member {
    pub(super) fn prepare(folder: &Path, name: &str, authority: &Authority, uid: &str) -> Result<Self> {
        let folder = folder.join(name);
        for inner in ["media", "run", "config", "tls"] {
            fs::create_dir_all(folder.join(inner))?;
        }
        let identity = authority.issue(&crds::names::member_uri(uid, name))?;
        let tls = folder.join("tls");
        fs::write(tls.join("tls.crt"), identity.certificate)?;
        fs::write(tls.join("tls.key"), identity.key)?;
        fs::write(tls.join("ca.crt"), authority.certificate())?;
        fs::write(folder.join("token"), TOKEN)?;
        let [http, status, peer, control] = [free_port()?, free_port()?, free_port()?, free_port()?];
        let children = [None, None];
        Ok(Self {
            name: name.to_owned(),
            folder,
            http,
            status,
            peer,
            control,
            kubeconfig: None,
            children,
            faulty: None,
        })
    }

    /// Puts its volume on a disk that fails on demand. To be done before its programs start.
    pub async fn put_on_faulty_disk(&mut self) -> Result<()> {
        let disk = self.folder.join("disk");
        fs::create_dir(&disk)?;
        self.faulty = Some(Faulty::mount(&disk, &self.media()).await?);
        Ok(())
    }

    /// The disk that fails on demand.
    pub fn disk(&self) -> Result<&Faulty> {
        self.faulty.as_ref().context("the volume is on no faulty disk")
    }

    /// From now on its tasks that receive these streams, and no others, fail at their next frame.
    pub fn poison(&self, streams: &[&str]) -> Result<()> {
        tell(&self.media(), "test-poison", &streams.join(" "))
    }

    /// From now on it takes a segment that is here for so many seconds for settled, and looks whether it is a duplicate.
    pub fn settle_after(&self, seconds: u64) -> Result<()> {
        tell(&self.media(), "test-reclaim", &seconds.to_string())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its volume.
    pub fn media(&self) -> PathBuf {
        media_in(&self.folder)
    }

    pub(super) fn set_kubeconfig(&mut self, path: &Path) {
        self.kubeconfig = Some(path.to_owned());
    }

    /// Its API.
    pub fn api(&self) -> MemberApi {
        MemberApi::new(&format!("127.0.0.1:{}", self.http), TOKEN).expect("an address")
    }

    /// Where its replicator listens for the operator.
    pub fn control_address(&self) -> String {
        format!("127.0.0.1:{}", self.control)
    }

    pub(super) fn peer_address(&self) -> String {
        format!("127.0.0.1:{}", self.peer)
    }

    pub(super) fn write_config(&self, config: &RenderedConfig) -> Result<()> {
        let (scratch, file) = (
            self.folder.join("config/.next"),
            self.folder.join("config/config.json"),
        );
        fs::write(&scratch, serde_json::to_vec_pretty(config)?)?;
        Ok(fs::rename(scratch, file)?)
    }

    /// Starts a program, unless it runs.
    pub fn start(&mut self, program: Program) -> Result<()> {
        if self.running(program) {
            return Ok(());
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path(program))?;
        let mut command = Command::new(binary(program.name())?);
        command.args(["--member", &self.name]);
        for (flag, inner) in [
            ("--media", "media"),
            ("--run", "run"),
            ("--config", "config/config.json"),
        ] {
            command.arg(flag).arg(self.folder.join(inner));
        }
        match program {
            Program::Recorder => {
                command.arg("--viewer-token").arg(self.folder.join("token"));
                command.args(["--listen", &format!("127.0.0.1:{}", self.http)]);
            }
            Program::Replicator => {
                match &self.kubeconfig {
                    Some(path) => command.env("KUBECONFIG", path).args(["--pod-ip", "127.0.0.1"]),
                    None => command.arg("--no-lease"),
                };
                command.arg("--tls").arg(self.folder.join("tls"));
                let ports = [
                    ("peer", self.peer),
                    ("control", self.control),
                    ("status", self.status),
                ];
                for (kind, port) in ports {
                    command.args([format!("--listen-{kind}"), format!("127.0.0.1:{port}")]);
                }
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        self.children[program as usize] = Some(command.spawn().context(program.name())?);
        Ok(())
    }

    /// Whether a program runs.
    pub fn running(&mut self, program: Program) -> bool {
        let child = &mut self.children[program as usize];
        child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The process of a program that runs.
    pub fn pid(&self, program: Program) -> Result<u32> {
        let child = self.children[program as usize].as_ref().and_then(Child::id);
        child.with_context(|| format!("the {} of {} does not run", program.name(), self.name))
    }

    /// Memory that the recorder has, bytes.
    pub fn memory(&self) -> Result<u64> {
        Ok(usage::of(self.pid(Program::Recorder)?)?.memory)
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self, program: Program) -> Result<()> {
        if let Some(mut child) = self.children[program as usize].take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub async fn stop(&mut self, program: Program) -> Result<()> {
        let Some(mut child) = self.children[program as usize].take() else {
            return Ok(());
        };
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, Signal::TERM)?;
        }
        let ended = tokio::time::timeout(Duration::from_secs(15), child.wait()).await;
        ensure!(
            ended.is_ok(),
            "{} {} does not end after SIGTERM",
            self.name,
            program.name()
        );
        Ok(())
    }

    /// The processes that run, by their ids.
    pub fn pids(&self) -> Vec<Option<u32>> {
        let pid = |child: &Option<Child>| child.as_ref().and_then(Child::id);
        self.children.iter().map(pid).collect()
    }

    /// Both programs' logs.
    pub fn logs(&self) -> Result<String> {
        let read = |program| fs::read_to_string(self.log_path(program));
        Ok(read(Program::Recorder)? + &read(Program::Replicator)?)
    }

    fn log_path(&self, program: Program) -> PathBuf {
        self.folder.join(format!("{}.log", program.name()))
    }
}

/// The volume of the member whose files are in a folder.
pub(super) fn media_in(folder: &Path) -> PathBuf {
    folder.join("media")
}

/// Where a program under test is: in `GAPLESS_BIN_DIR`, or beside this test's own program.
fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("GAPLESS_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe()?
            .ancestors()
            .nth(2)
            .context("no target folder")?
            .to_owned(),
    };
    let path = folder.join(name);
    ensure!(path.exists(), "{} is not built: run 'make build'", path.display());
    Ok(path)
}
