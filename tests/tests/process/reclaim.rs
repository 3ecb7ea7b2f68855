//! A false alarm: both members record the same time. What one has too often is reclaimed, and nothing else changes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::api::MemberApi;
use e2e::cameras::{Cameras, Options};
use e2e::judge::Start;
use e2e::members::{Pair, Program};
use e2e::wait::{now_ms, until};
use serde_json::Value;
use tempfile::TempDir;

use crate::{SOON, primary, seconds, verdict};

#[tokio::test]
async fn what_a_false_alarm_doubled_is_reclaimed_and_nothing_else_changes() {
    let cameras = Cameras::start(Options::loopback(2).unwrap()).await.unwrap();
    let folder = TempDir::with_prefix("gapless-").unwrap();
    let mut pair = Pair::prepare_in(folder.path(), &cameras).unwrap();
    pair.arbitrate(folder.path()).await.unwrap();
    pair.start_all().unwrap();
    pair.receiving().await.unwrap();
    let standby = 1 - primary(&pair).await.unwrap();
    seconds(4).await;
    let start = Start::now(&cameras).await.unwrap();

    // Its recorder hears of no peer, and writes.
    pair.members[standby].kill(Program::Replicator).await.unwrap();
    seconds(8).await;
    pair.start_all().unwrap();
    pair.caught_up(Duration::from_mins(1)).await.unwrap();
    primary(&pair).await.unwrap();
    let end_ms = now_ms();
    let doubled = Window { start, end_ms };
    let before = alike(&pair, &doubled).await.unwrap();
    let written = doubled.written_by(&pair, standby).await.unwrap();
    assert!(written.len() >= 4, "both wrote: {written:?}");
    let shown = doubled.shown(&pair).await.unwrap();

    for member in &pair.members {
        member.settle_after(2).unwrap();
    }
    until(
        "both have reclaimed the duplicates",
        Duration::from_mins(1),
        async || {
            let left = doubled.written_by(&pair, standby).await?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(Some(()))
        },
    )
    .await
    .unwrap();
    let after = alike(&pair, &doubled).await.unwrap();
    let gone: u64 = written.values().sum();
    assert_eq!(bytes(&before) - bytes(&after), gone);
    for api in pair.apis() {
        // What is gone is counted a moment later. What both wrote while they agreed on a primary may be gone too.
        until("what is gone is counted", SOON, async || {
            let told = api.metric("gapless_reclaimed_bytes_total").await?;
            let enough = told.is_some_and(|told| told as u64 >= gone);
            ensure!(enough, "{told:?} of {gone} bytes");
            Ok(Some(()))
        })
        .await
        .unwrap();
    }
    assert_eq!(
        doubled.shown(&pair).await.unwrap(),
        shown,
        "what is played is the same"
    );
    verdict(&cameras, &pair, start)
        .await
        .unwrap()
        .ensure_perfect()
        .unwrap();

    // Nothing of it comes again.
    for member in [standby, 1 - standby] {
        pair.members[member].stop(Program::Recorder).await.unwrap();
        pair.members[member].stop(Program::Replicator).await.unwrap();
        pair.start_all().unwrap();
        pair.receiving().await.unwrap();
        pair.caught_up(Duration::from_mins(1)).await.unwrap();
        seconds(2).await;
    }
    assert_eq!(alike(&pair, &doubled).await.unwrap(), after);
    assert_eq!(doubled.shown(&pair).await.unwrap(), shown);
    verdict(&cameras, &pair, start)
        .await
        .unwrap()
        .ensure_perfect()
        .unwrap();
}

/// Sealed segments, by stream and identity, with their lengths.
type Sealed = BTreeMap<(String, String), u64>;

fn bytes(sealed: &Sealed) -> u64 {
    sealed.values().sum()
}

/// A stretch of time.
struct Window {
    start: Start,
    end_ms: u64,
}

impl Window {
    async fn sealed(&self, api: &MemberApi, streams: &[String], live: bool) -> Result<Sealed> {
        let mut found = Sealed::new();
        for stream in streams {
            let all = api
                .segments_between(stream, self.start.at_ms, self.end_ms)
                .await?;
            let origin = |segment: &e2e::api::Segment| !live || segment.origin == "live";
            for segment in all.into_iter().filter(origin) {
                ensure!(segment.state == "sealed", "{} is {}", segment.id, segment.state);
                found.insert((stream.clone(), segment.id), segment.length);
            }
        }
        Ok(found)
    }

    /// What a member recorded in it by itself and still has.
    async fn written_by(&self, pair: &Pair, member: usize) -> Result<Sealed> {
        let names = pair.stream_names();
        let [first, second] = pair.apis();
        let api = [first, second].into_iter().nth(member).context("a member")?;
        self.sealed(&api, &names, true).await
    }

    /// The timelines of both members, but for how many copies there are.
    async fn shown(&self, pair: &Pair) -> Result<Vec<Vec<Value>>> {
        let mut shown = Vec::new();
        for api in pair.apis() {
            for stream in pair.stream_names() {
                let timeline = api
                    .timeline_between(&stream, self.start.at_ms, self.end_ms)
                    .await?;
                let mut spans = timeline.spans;
                for span in &mut spans {
                    span.as_object_mut().context("a span")?.remove("doubled");
                }
                shown.push(spans);
            }
        }
        Ok(shown)
    }
}

/// Waits until both members hold the same sealed segments of a time, and returns them.
async fn alike(pair: &Pair, window: &Window) -> Result<Sealed> {
    let names = pair.stream_names();
    until("both hold the same sealed segments", SOON, async || {
        let [first, second] = pair.apis();
        let of_first = window.sealed(&first, &names, false).await?;
        let of_second = window.sealed(&second, &names, false).await?;
        ensure!(of_first == of_second, "{of_first:?} and {of_second:?}");
        Ok(Some(of_first))
    })
    .await
}
