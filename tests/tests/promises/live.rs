//! Viewers on the unchanged URL of the read Service: when the primary's node loses power they see again within a second or so,
//! and the dead member is led to no more.

use std::time::Duration;

use e2e::api::MemberApi;
use e2e::cluster::{Before, NAMESPACE, PAIR, RETURN, Scene};
use e2e::judge::Watched;
use e2e::oracle::{Span, play};
use e2e::viewer::Viewer;
use e2e::wait::{now_ms, until};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use url::Url;

use crate::{STREAMS, seconds};

/// Frames that a viewer may miss from the cut on, in the median over the streams, and at most.
const MISSED: [u64; 2] = [25, 75];
/// From the suspicion until the Service leads to the dead member no more, milliseconds.
const OUT_MS: u64 = 2_000;
/// From the cut until all that was recorded before was played, from its beginning to its end, milliseconds.
const PLAYS_MS: u64 = 5_000;
/// How long a player waits for a playlist and all its media, before it begins anew.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many frames before the cut may not be in a whole group yet.
const NEWEST: u64 = 75;
/// How long all viewers may take to see again.
const AGAIN: Duration = Duration::from_secs(20);

/// The members that the read Service leads to.
async fn led_to(scene: &Scene) -> anyhow::Result<Vec<String>> {
    let name = crds::names::read_service(PAIR);
    let slice: Option<EndpointSlice> = scene.kube.get(NAMESPACE, &name).await?;
    let endpoints = slice.and_then(|slice| slice.endpoints).unwrap_or_default();
    let names = endpoints
        .into_iter()
        .filter_map(|endpoint| endpoint.target_ref?.name);
    Ok(names.collect())
}

/// The address of the read Service. Nodes route it, and this machine is on their network.
async fn service(scene: &Scene) -> Url {
    let name = crds::names::read_service(PAIR);
    let service: Option<Service> = scene.kube.get(NAMESPACE, &name).await.unwrap();
    let ip = service.unwrap().spec.unwrap().cluster_ip.unwrap();
    Url::parse(&format!("http://{ip}:{}/", crds::names::PORT_HTTP)).unwrap()
}

/// What was recorded before, by way of the read Service, as a player plays it that gives up on what does not come and asks again.
struct Earlier {
    playlists: Vec<(Url, Vec<Span>)>,
}

impl Earlier {
    async fn of(scene: &Scene, before: &Before, base: &Url, token: &str) -> anyhow::Result<Self> {
        let state = scene.cameras.state().await?;
        let (service, end_ms) = (MemberApi::at(base, token), now_ms());
        // The end of the window is in the middle of a group, and may be on its way to the disk.
        let window = Span {
            first: before.start.counter,
            last: state.counter - NEWEST,
        };
        let one = |watched: &Watched| {
            let url = service.playlist_url(&watched.stream, before.start.at_ms, Some(end_ms))?;
            Ok((url, state.pushed_within(watched.camera, window)))
        };
        let playlists = scene.watched.iter().map(one).collect::<anyhow::Result<_>>()?;
        Ok(Self { playlists })
    }

    /// Plays every stream whole; says when the last one was.
    async fn plays(&self) -> anyhow::Result<u64> {
        for (url, pushed) in &self.playlists {
            until("what was recorded before plays", AGAIN, async || {
                let account = tokio::time::timeout(PATIENCE, play(url.as_str())).await??;
                let missing = account.missing_of(pushed);
                anyhow::ensure!(missing.is_empty(), "{missing:?} are missing");
                Ok(Some(()))
            })
            .await?;
        }
        Ok(now_ms())
    }
}

#[tokio::test]
async fn a_viewer_on_the_same_url_sees_on_when_the_primary_loses_power() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(4)).await.unwrap();
    // Cluster addresses are routed by way of a node: by one that stays.
    scene.bed.route(&before.standby.node).await.unwrap();
    let (base, token) = (service(&scene).await, scene.pair.token().await.unwrap());
    let view = |stream: &String| {
        let url = base.join(&format!("v1/streams/{stream}/live")).unwrap();
        Viewer::start(url, &token).unwrap()
    };
    let viewers: Vec<_> = scene.streams().iter().map(view).collect();
    // One that was suspected for a moment is led to again when it is heard.
    until("both members are led to", AGAIN, async || {
        let mut members = led_to(&scene).await?;
        members.sort();
        Ok((members == crds::names::members(PAIR)).then_some(()))
    })
    .await
    .unwrap();
    seconds(5).await;

    let alive = vec![before.standby.name.clone()];
    let earlier = Earlier::of(&scene, &before, &base, &token).await.unwrap();
    let cut = scene.cameras.state().await.unwrap().counter;
    let fault = scene.bed.power_off(&before.primary.node).await.unwrap();
    let out = until("the dead member is led to no more", AGAIN, async || {
        let members = led_to(&scene).await?;
        Ok((members == alive).then(now_ms))
    });
    let (out_ms, played_ms) = tokio::try_join!(out, earlier.plays()).unwrap();
    let again_ms = played_ms.saturating_sub(fault.at_ms());
    println!("  what was recorded before plays to its end {again_ms} ms after the cut");
    assert!(again_ms <= PLAYS_MS, "{again_ms} ms");
    let outcome = scene.failed_over(fault, &before).await.unwrap();
    let suspected_ms = outcome.suspected_ms.unwrap_or(fault.at_ms());
    let left_ms = out_ms.saturating_sub(suspected_ms);
    println!("  led to no more {left_ms} ms after the suspicion");
    assert!(left_ms <= OUT_MS, "{left_ms} ms");

    let state = scene.cameras.state().await.unwrap();
    let mut missed = Vec::new();
    for viewer in &viewers {
        let seen = viewer.saw(state.counter, AGAIN).await.unwrap();
        println!(
            "  missed {} and {} before, the longest hole {} frames, dark for {:?}, {} connections",
            seen.missed_since(cut),
            seen.missed() - seen.missed_since(cut),
            seen.longest_hole(),
            seen.longest_silence,
            seen.connections
        );
        assert_eq!(seen.steps_back, 0, "time goes on within a connection");
        // What the cut cost: a stall of a busy machine before it may have cost a viewer a connection, too.
        missed.push(seen.missed_since(cut));
    }
    missed.sort_unstable();
    let few = missed[missed.len() / 2] <= MISSED[0] && missed[missed.len() - 1] <= MISSED[1];
    if !few {
        before.start.ensure_on_time(&state).unwrap();
    }
    assert!(few, "{missed:?}");

    // It stays out while it is dead, and is led to again when it is back.
    seconds(4).await;
    assert_eq!(led_to(&scene).await.unwrap(), alive);
    scene.bed.power_on(&before.primary.node).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    until("both members are led to", RETURN, async || {
        Ok((led_to(&scene).await?.len() == 2).then_some(()))
    })
    .await
    .unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    verdict.ensure_perfect().unwrap();
    scene.ensure_well(&before, &members).await.unwrap();
}
