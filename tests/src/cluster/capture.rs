//! What arrives at a member's pod from the cameras, read from its network interface by `testbed capture`: nobody has to believe a
//! member's word of what it received.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use super::faults::Testbed;
use super::pair::MemberView;
use super::scene::Scene;
use crate::cameras::address_of;
use crate::judge::Start;
use crate::oracle::{Span, spans};

/// How long it may take to begin, and to end.
const LIMIT: Duration = Duration::from_secs(10);

/// A capture that goes on until it is ended.
pub struct Capture {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What arrived.
#[derive(Debug, Deserialize)]
pub struct Arrived {
    connections: Vec<Connection>,
    dropped: u64,
}

/// One connection from a camera.
#[derive(Debug, Deserialize)]
struct Connection {
    from: String,
    begun: bool,
    ended: bool,
    frames: Vec<(u64, u64)>,
    skipped: u64,
}

impl Capture {
    /// Sees what arrives at a pod from now on.
    ///
    /// # Errors
    /// When the test bed cannot.
    pub async fn begin(bed: &Testbed, pod: &str) -> Result<Self> {
        let mut child = bed.spawn(&["capture", "--pod", pod])?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = timeout(LIMIT, lines.next_line()).await.context("no capture")??;
        ensure!(
            ready.is_some_and(|line| line.contains("ready")),
            "no capture of {pod}"
        );
        Ok(Self { child, lines })
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the capture itself lost packets: then it proves nothing.
    pub async fn end(mut self) -> Result<Arrived> {
        drop(self.child.stdin.take());
        let line = timeout(LIMIT, self.lines.next_line()).await;
        let line = line.context("the capture does not end")??;
        let arrived: Arrived = serde_json::from_str(&line.context("the capture says nothing")?)?;
        ensure!(
            arrived.dropped == 0,
            "the capture lost {} packets",
            arrived.dropped
        );
        Ok(arrived)
    }
}

impl Arrived {
    fn of(&self, camera: usize) -> impl Iterator<Item = &Connection> {
        let address = address_of(camera);
        self.connections.iter().filter(move |c| c.from == address)
    }

    /// The numbers of the frames of a camera that arrived.
    pub fn frames(&self, camera: usize) -> Vec<Span> {
        let numbers = self.of(camera).flat_map(|c| &c.frames);
        let numbers: BTreeSet<u64> = numbers.flat_map(|(first, last)| *first..=*last).collect();
        spans(numbers)
    }

    /// Fails unless one connection brought all frames of a camera, without a hole, from the beginning of the capture to its end.
    ///
    /// # Errors
    /// What was not so.
    pub fn ensure_undisturbed(&self, camera: usize) -> Result<()> {
        let all: Vec<&Connection> = self.of(camera).collect();
        let [one] = all[..] else {
            bail!("camera {camera} has {} connections", all.len());
        };
        // A connection that was cut lacks what was never sent again; this one lacks no byte.
        let whole = one.frames.len() == 1 && !one.begun && !one.ended && one.skipped == 0;
        ensure!(whole, "camera {camera}: {one:?}");
        Ok(())
    }
}

impl Scene {
    /// Fails unless each frame that arrived at one of these members since `start` is in what they serve together.
    ///
    /// # Errors
    /// Which are not there.
    pub async fn ensure_recorded(
        &self,
        arrived: &[Arrived],
        start: Start,
        members: &[MemberView],
    ) -> Result<()> {
        let apis: Vec<_> = members.iter().map(|member| member.api.clone()).collect();
        let mut library = crate::judge::Library::default();
        for watched in &self.watched {
            let from_ms = start.at_ms.saturating_sub(5_000);
            let union = library.union(&apis, &watched.stream, from_ms).await?;
            for one in arrived {
                let of_window = Span {
                    first: start.counter,
                    last: union.last().unwrap_or_default(),
                };
                let frames = one.frames(watched.camera);
                let wanted: Vec<Span> = frames.iter().filter_map(|s| s.intersect(&of_window)).collect();
                ensure!(!wanted.is_empty(), "nothing of {} arrived", watched.stream);
                let missing = union.missing_of(&wanted);
                ensure!(
                    missing.is_empty(),
                    "{} lacks {missing:?}, which arrived",
                    watched.stream
                );
            }
        }
        Ok(())
    }
}
