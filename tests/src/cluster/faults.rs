//! The commands of `tests/cluster`: faults, and what reverts them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};

/// The longest command is to start a whole cluster.
const LIMIT: Duration = Duration::from_mins(5);

/// Which packets of a link are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those to the node.
    In,
    /// Those from the node.
    Out,
    /// All of them.
    Both,
}

/// When a fault began.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Fault {
    #[serde(rename = "t0_unix_ns")]
    t0_unix_ns: u64,
}

impl Fault {
    /// Unix milliseconds, on the clock that all nodes share.
    pub fn at_ms(self) -> u64 {
        self.t0_unix_ns / 1_000_000
    }

    /// A fault that begins now.
    pub fn now() -> Self {
        Self {
            t0_unix_ns: crate::wait::now_ms() * 1_000_000,
        }
    }
}

/// Gapless' cache of programs and clips.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/gapless");
    std::env::var_os("GAPLESS_CACHE").map_or_else(home, PathBuf::from)
}

/// What a link dropped.
#[derive(Deserialize)]
struct Dropped {
    dropped: u64,
}

/// What is said where faults of a disk begin.
#[derive(Deserialize)]
struct FaultsSet {
    before: Struck,
}

/// What faults of a disk did.
#[derive(Deserialize)]
struct Struck {
    failed: BTreeMap<String, u64>,
    stalled: u64,
}

/// The line of a command's output that says this.
fn told<T: DeserializeOwned>(output: &str) -> Result<T> {
    let told = output.lines().find_map(|line| serde_json::from_str(line).ok());
    told.with_context(|| format!("not what was expected: {output}"))
}

/// The test bed.
#[derive(Clone, Debug)]
pub struct Testbed {
    program: PathBuf,
}

impl Testbed {
    /// Finds the launcher and makes the cluster whole.
    pub async fn up() -> Result<Self> {
        let bed = Self {
            program: cache().join("bin/testbed"),
        };
        ensure!(
            bed.program.exists(),
            "{} is not built: run 'make cluster-up'",
            bed.program.display()
        );
        bed.mend().await?;
        Ok(bed)
    }

    /// Where the kubeconfig is.
    pub async fn kubeconfig(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(self.run(&["kubeconfig"]).await?.trim()))
    }

    /// Makes broken parts whole: nodes on, links mended, disks free, containers thawed. One that cannot be mended is left as it is:
    /// a new cluster would lack the images.
    pub async fn mend(&self) -> Result<()> {
        self.run(&["up", "--keep"]).await.map(drop)
    }

    /// Imports an image on every node.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        self.run(&["load-image", &archive.to_string_lossy()])
            .await
            .map(drop)
    }

    /// Gives an image another name on every node.
    pub async fn tag_image(&self, name: &str, other: &str) -> Result<()> {
        self.run(&["tag-image", name, other]).await.map(drop)
    }

    /// SIGKILL for every process of a pod at once.
    pub async fn kill_pod(&self, pod: &str) -> Result<Fault> {
        self.fault(&["pod", "kill", "--pod", pod]).await
    }

    /// SIGKILL for every process of a container.
    pub async fn kill_container(&self, pod: &str, container: &str) -> Result<Fault> {
        self.container("kill", pod, container).await
    }

    /// Stops every process of a container from running.
    pub async fn freeze_container(&self, pod: String, container: &str) -> Result<()> {
        self.container("freeze", &pod, container).await.map(drop)
    }

    /// Lets them run again.
    pub async fn thaw_container(&self, pod: String, container: &str) -> Result<()> {
        self.container("thaw", &pod, container).await.map(drop)
    }

    /// Cuts a node's power: processes, link and page cache are gone.
    pub async fn power_off(&self, node: &str) -> Result<Fault> {
        self.fault(&["node", "power-off", node]).await
    }

    /// Starts a node and waits until it is Ready.
    pub async fn power_on(&self, node: &str) -> Result<()> {
        self.run(&["node", "power-on", node]).await.map(drop)
    }

    /// Cuts a node's power and loses its disks.
    pub async fn destroy(&self, node: &str) -> Result<Fault> {
        self.fault(&["node", "destroy", node]).await
    }

    /// A node with new, empty disks.
    pub async fn create(&self, node: &str) -> Result<()> {
        self.run(&["node", "create", node]).await.map(drop)
    }

    /// Drops the packets of one link of a node: `api`, `operator`, `peer:NODE`, `cameras`, `camera:N` or `all`.
    pub async fn cut(&self, node: &str, link: &str) -> Result<Fault> {
        self.cut_towards(node, link, Direction::Both).await
    }

    /// Drops the packets of one link that go one way.
    pub async fn cut_towards(&self, node: &str, link: &str, direction: Direction) -> Result<Fault> {
        let direction = match direction {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Both => "both",
        };
        self.fault(&["link", "cut", "--direction", direction, node, link])
            .await
    }

    /// Drops some of the packets of one link of a node, at random: a share above 0 to 1 of them.
    pub async fn lose(&self, node: &str, link: &str, share: f64) -> Result<Fault> {
        let share = share.to_string();
        self.fault(&["link", "cut", "--share", &share, node, link]).await
    }

    /// Freezes or thaws a program of the control plane.
    pub async fn control(&self, what: &str, program: &str) -> Result<()> {
        self.run(&["control", what, program]).await.map(drop)
    }

    /// Lets them pass again, and says how many were dropped.
    pub async fn mend_link(&self, node: &str, link: &str) -> Result<u64> {
        let told: Dropped = told(&self.run(&["link", "mend", node, link]).await?)?;
        Ok(told.dropped)
    }

    /// Fills a volume to the last byte.
    pub async fn fill(&self, node: &str, volume: &str) -> Result<Fault> {
        self.run(&["disk", "fill", node, volume]).await?;
        Ok(Fault::now())
    }

    /// Gives the space back.
    pub async fn free(&self, node: &str, volume: &str) -> Result<()> {
        self.run(&["disk", "free", node, volume]).await.map(drop)
    }

    /// Puts a node's volume on a disk that fails on demand, if no pod uses it yet, and begins faults there in place of those
    /// before: flags of `testbed faulty set`; none: it works. Says how many calls the faults before failed or delayed.
    pub async fn disk_faults(&self, node: &str, volume: &str, faults: &[&str]) -> Result<(Fault, u64)> {
        let args = [&["volume", "faulty", node, volume], faults].concat();
        let output = self.run(&args).await?;
        let set: FaultsSet = told(&output)?;
        let struck = set.before.failed.values().sum::<u64>() + set.before.stalled;
        Ok((told(&output)?, struck))
    }

    /// Makes all volumes that nobody claims new and empty.
    pub async fn reset_volumes(&self) -> Result<()> {
        self.run(&["volumes", "reset"]).await.map(drop)
    }

    /// Lets the host reach services through a node.
    pub async fn route(&self, node: &str) -> Result<()> {
        self.run(&["route", node]).await.map(drop)
    }

    /// Copies logs and objects.
    pub async fn collect_logs(&self, folder: &Path) -> Result<()> {
        self.run(&["logs", "collect", &folder.to_string_lossy()])
            .await
            .map(drop)
    }

    /// Where the host finds the files of a node's volume.
    pub fn volume_folder(node: &str, volume: &str) -> PathBuf {
        let state = std::env::var_os("GAPLESS_STATE").unwrap_or_else(|| "/var/lib/gapless-testbed".into());
        PathBuf::from(state)
            .join("nodes")
            .join(node)
            .join("volumes")
            .join(volume)
    }

    async fn container(&self, what: &str, pod: &str, container: &str) -> Result<Fault> {
        self.fault(&["container", what, "--pod", pod, "--container", container])
            .await
    }

    async fn fault(&self, args: &[&str]) -> Result<Fault> {
        told(&self.run(args).await?)
    }

    /// Starts a command that goes on until its standard input ends.
    pub(super) fn spawn(&self, args: &[&str]) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(command.kill_on_drop(true).spawn()?)
    }

    async fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, command.output()).await;
        let output = output.with_context(|| format!("testbed {args:?} does not end"))??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "testbed {}: {}",
            args.join(" "),
            said.trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}
