//! The plain answer to a recorder that dies: two `ffmpeg -c copy` recorders of each camera, on a disk each, started again when
//! they end, and a union of their files. There is no authority, no one address and no refill; what is left is whether a frame is
//! in either file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use rustix::process::Signal;
use tempfile::TempDir;
use url::Url;

use super::disk::Disk;
use super::gate::Gate;
use super::plain::{Maker, Plain, all_write};
use crate::cameras::Cameras;
use crate::oracle::Span;

/// How long a recorder that ended waits until it is started again.
const RESTART: Duration = Duration::from_secs(1);
/// How long is recorded before the last frames are counted.
const LAST: Duration = Duration::from_secs(3);
/// Where each finds the cameras, at their own port: the simulator's server has a medium for each port that it is asked at, and the
/// cameras feed one.
const HOSTS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)),
];
/// The size of a disk, bytes.
const DISK: u64 = 4 << 30;

/// What strikes the first of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL for each recorder.
    Kill,
    /// Each is asked to end.
    Stop,
    /// SIGKILL, and what the disk did not sync is gone.
    PowerCut,
    /// They stand still, then go on.
    Freeze,
    /// They do not hear the cameras.
    Cut,
}

/// What was found in the files of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Frames that the cameras pushed.
    pub expected: u64,
    /// Those that are in no file.
    pub missing: u64,
    /// Those that only one of the two has: another fault loses them.
    pub single: u64,
}

/// Both. They end with this value.
#[derive(Debug)]
pub struct PlainPair {
    // The recorders end before their disks do, and the disks before the folder.
    sides: [Vec<Plain>; 2],
    gates: [Gate; 2],
    disks: [Disk; 2],
    _folder: TempDir,
}

impl PlainPair {
    /// Starts recorders of every camera, and waits until all write.
    pub async fn start(cameras: &Cameras) -> Result<Self> {
        let folder = TempDir::with_prefix("gapless-plain-")?;
        let volumes = ["first", "second"].map(|name| folder.path().join(name));
        let disks = [Disk::mount(&volumes[0], DISK)?, Disk::mount(&volumes[1], DISK)?];
        let address = address(cameras)?;
        // Both have one, so that they differ in nothing but in what strikes the first.
        let gate = async |host| Gate::between(SocketAddr::new(host, address.port()), address).await;
        let gates = [gate(HOSTS[0]).await?, gate(HOSTS[1]).await?];
        let sides = [
            side(cameras, &volumes[0], HOSTS[0])?,
            side(cameras, &volumes[1], HOSTS[1])?,
        ];
        let mut pair = Self {
            sides,
            gates,
            disks,
            _folder: folder,
        };
        pair.up().await?;
        Ok(pair)
    }

    async fn up(&mut self) -> Result<()> {
        all_write(self.sides.iter_mut().flatten().collect()).await
    }

    /// Strikes the first recorder of each camera, lets it last for `lasts`, and waits until all record again.
    pub async fn endure(&mut self, blow: Blow, lasts: Duration) -> Result<()> {
        match blow {
            Blow::Kill | Blow::Stop | Blow::PowerCut => self.end(blow).await?,
            Blow::Freeze => self.signal(Signal::STOP)?,
            Blow::Cut => self.gates[0].cut(),
        }
        match blow {
            // A supervisor starts them again; a node has to boot first.
            Blow::Kill | Blow::Stop => {
                tokio::time::sleep(RESTART).await;
                self.up().await?;
                tokio::time::sleep(lasts.saturating_sub(RESTART)).await;
            }
            _ => tokio::time::sleep(lasts).await,
        }
        match blow {
            Blow::Freeze => self.signal(Signal::CONT)?,
            Blow::Cut => self.gates[0].mend(),
            _ => {}
        }
        self.up().await
    }

    async fn end(&mut self, blow: Blow) -> Result<()> {
        let struck = self.sides[0].iter_mut();
        if blow == Blow::Stop {
            try_join_all(struck.map(Plain::stop)).await?;
        } else {
            try_join_all(struck.map(Plain::kill)).await?;
        }
        if blow == Blow::PowerCut {
            self.disks[0].lose_power()?;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.sides[0].iter().try_for_each(|plain| plain.signal(signal))
    }

    /// Holds the union of all files against what the cameras pushed since frame `first`. The recorders end before that, and
    /// are started again after it.
    pub async fn count(&mut self, cameras: &Cameras, first: u64) -> Result<Found> {
        let state = cameras.trusted_state().await?;
        let window = Span {
            first,
            last: state.counter - 1,
        };
        tokio::time::sleep(LAST).await;
        try_join_all(self.sides.iter_mut().flatten().map(Plain::stop)).await?;
        let mut found = Found {
            expected: 0,
            missing: 0,
            single: 0,
        };
        for (camera, (one, other)) in self.sides[0].iter().zip(&self.sides[1]).enumerate() {
            let pushed = state.pushed_within(camera, window);
            let lacking = |spans: Vec<Span>| spans.iter().map(Span::frames).sum::<u64>();
            let (mut union, other) = (one.account()?, other.account()?);
            let once = lacking(union.missing_of(&pushed)) + lacking(other.missing_of(&pushed));
            union.union(&other);
            let missing = lacking(union.missing_of(&pushed));
            found.expected += pushed.iter().map(Span::frames).sum::<u64>();
            found.missing += missing;
            found.single += once - 2 * missing;
        }
        self.up().await?;
        Ok(found)
    }
}

fn side(cameras: &Cameras, volume: &Path, host: IpAddr) -> Result<Vec<Plain>> {
    let one = |camera: usize| {
        let mut url = Url::parse(&cameras.url(camera))?;
        ensure!(url.set_ip_host(host).is_ok(), "{url} takes no host");
        Plain::new(Maker::Ffmpeg, url.as_str(), &volume.join(format!("cam-{camera}")))
    };
    (0..cameras.streams()).map(one).collect()
}

fn address(cameras: &Cameras) -> Result<SocketAddr> {
    let url = Url::parse(&cameras.url(0))?;
    let (host, port) = (url.host_str().context("no host")?, url.port().context("no port")?);
    Ok(SocketAddr::new(host.parse()?, port))
}
