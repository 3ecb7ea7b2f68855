//! A stream fails alone: it moves to the member that receives it well, the others see nothing, and it returns by policy.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use crds::member::StreamState;
use crds::pair::MovedStream;
use e2e::cameras::{Cameras, Kind, Options};
use e2e::cluster::{
    Arrived, Before, Capture, MemberView, NAMESPACE, PAIR, PairSpec, RETURN, Scene, Trouble, Whom,
};
use e2e::judge::Verdict;
use e2e::wait::{now_ms, until};

use crate::STREAMS;

/// The camera that fails.
const BAD: usize = 1;
/// From the last good frame until the stream is with the other member.
const PROMISE: Duration = Duration::from_secs(2);
/// Until a stream that nobody receives has a gap: the watchdog of two seconds, and a look.
const KNOWN: Duration = Duration::from_secs(5);
/// For how long a stream that is to hold is watched: more than twice what another one stays.
const HOLDS: Duration = Duration::from_secs(12);
/// Frames of two groups of pictures.
const TWO_GROUPS: u64 = 52;

/// The stream as status tells it, once it is there.
async fn moved(scene: &Scene, limit: Duration) -> Result<MovedStream> {
    until("a stream is with the standby", limit, async || {
        let status = scene.pair.status().await?;
        Ok(status.streams.and_then(|streams| streams.moved.first().cloned()))
    })
    .await
}

async fn none_is_away(scene: &Scene) -> Result<()> {
    until("all streams are with the primary", RETURN, async || {
        let status = scene.pair.status().await?;
        Ok(status.streams.filter(|streams| streams.away == 0).map(drop))
    })
    .await
}

/// The member that had the stream writes it no more, and the other one has the last of it. Before, the newest second of its playlist
/// is still on the way.
async fn gave_it_back(scene: &Scene, member: &MemberView, stream: &str) -> Result<()> {
    until("the stream is given back", RETURN, async || {
        let view = scene.pair.view(&member.name).await?;
        let report = view.report.context("it does not answer")?;
        let writes = report
            .streams
            .iter()
            .any(|told| told.name == stream && told.writing);
        let lag = report.replication.lag_bytes;
        ensure!(!writes && lag == 0, "writes: {writes}, {lag} bytes on the way");
        Ok(Some(()))
    })
    .await
}

/// When the primary says that the stream moved, Unix milliseconds.
async fn told(scene: &Scene, primary: &MemberView) -> Result<u64> {
    let (operator, address) = (
        scene.pair.operator().await?,
        scene.pair.control_address(&primary.name).await?,
    );
    until(
        "the primary moves a stream",
        Duration::from_secs(10),
        async || {
            let moved = !operator.report(&address).await?.moved.is_empty();
            Ok(moved.then(now_ms))
        },
    )
    .await
}

/// Waits until the primary says that no stream is away.
async fn taken_back(scene: &Scene, primary: &MemberView) -> Result<()> {
    let (operator, address) = (
        scene.pair.operator().await?,
        scene.pair.control_address(&primary.name).await?,
    );
    until("the primary takes the stream back", KNOWN, async || {
        let moved = operator.report(&address).await?.moved;
        ensure!(moved.is_empty(), "{moved:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn a_stream_that_its_owner_does_not_receive_moves_alone_and_returns() {
    let failover = serde_json::json!({"streams": {"failbackAfter": "10s"}});
    let scene = Scene::with(e2e::cameras::Options::test_bed(STREAMS), |spec| {
        spec.other["failover"] = failover;
    })
    .await
    .unwrap();
    let before = scene.record(Duration::from_secs(6)).await.unwrap();
    let bad = scene.watched[BAD].stream.clone();
    let link = format!("camera:{}", scene.watched[BAD].camera);
    let node = &before.primary.node;
    let captures = capture(&scene, &before).await.unwrap();
    let fault = scene.bed.cut(node, &link).await.unwrap();
    let at = told(&scene, &before.primary).await.unwrap();
    let after = Duration::from_millis(at.saturating_sub(fault.at_ms()));
    println!("the stream moved {after:?} after its camera's link was cut");
    assert!(after <= PROMISE, "moved after {after:?}");
    ensure_moved(&scene, &before, &bad, "Silent").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    scene.bed.mend_link(node, &link).await.unwrap();
    let Returned { arrived, verdict } = returned(&scene, &before, &bad, captures).await.unwrap();
    verdict.ensure_perfect().unwrap();
    let camera = scene.watched[BAD].camera;
    // What was lost on the way is sent again when the link is mended, so frames need not lack; but that session was given up.
    let disturbed = arrived[0].ensure_undisturbed(camera).is_err();
    assert!(disturbed, "its link was cut indeed");
    arrived[1].ensure_undisturbed(camera).unwrap();
}

/// Waits until a member receives a stream.
async fn receives(scene: &Scene, member: &MemberView, stream: &str) -> Result<()> {
    until("the stream is received again", RETURN, async || {
        let view = scene.pair.view(&member.name).await?;
        let report = view.report.context("it does not answer")?;
        let told = report.streams.iter().find(|told| told.name == stream);
        let state = told.context("it does not know the stream")?.state;
        ensure!(state == StreamState::Receiving, "{state:?}");
        Ok(Some(()))
    })
    .await
}

/// Waits until the recorder of a member knows that it owns a stream.
async fn owns(member: &MemberView, stream: &str) -> Result<()> {
    until("the recorder owns the stream", KNOWN, async || {
        let label = format!("stream=\"{stream}\"");
        let owned = member.api.metric_with("gapless_stream_owned", &label).await?;
        Ok((owned == Some(1.0)).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_stream_that_is_to_hold_stays_until_the_other_member_fails_at_it() {
    let scene = Scene::with(Options::test_bed(STREAMS), |spec| {
        let streams = serde_json::json!({"failback": "Hold", "failbackAfter": "5s"});
        spec.other["failover"] = serde_json::json!({"streams": streams});
    })
    .await
    .unwrap();
    let before = scene.record(Duration::from_secs(6)).await.unwrap();
    let [primary, standby] = [&before.primary, &before.standby];
    let bad = scene.watched[BAD].stream.clone();
    let link = format!("camera:{}", scene.watched[BAD].camera);
    // A recorder that starts while nothing changes hears of the epoch all the same.
    let trouble = Trouble::KillRecorder(Whom::Standby);
    trouble.strike(&scene, &before).await.unwrap();
    scene.settled(RETURN).await.unwrap();
    scene.bed.cut(&primary.node, &link).await.unwrap();
    ensure_moved(&scene, &before, &bad, "Silent").await.unwrap();
    owns(standby, &bad).await.unwrap();
    scene.bed.mend_link(&primary.node, &link).await.unwrap();
    receives(&scene, primary, &bad).await.unwrap();
    let well = Instant::now();
    while well.elapsed() < HOLDS {
        let streams = scene.pair.status().await.unwrap().streams.unwrap();
        assert_eq!(streams.away, 1, "it returned after {:?}", well.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let fault = scene.bed.cut(&standby.node, &link).await.unwrap();
    taken_back(&scene, primary).await.unwrap();
    println!(
        "the stream returned {} ms after the other one failed",
        now_ms() - fault.at_ms()
    );
    none_is_away(&scene).await.unwrap();
    scene.bed.mend_link(&standby.node, &link).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    assert_eq!(scene.pair.epoch().await.unwrap(), before.epoch, "authority moved");
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    events(&scene, &bad).await.unwrap();
    scene.ensure_well(&before, &members).await.unwrap();
}

/// A pair of which each member has a medium of its own of the camera that fails, so that one of them alone can get it badly.
struct Apart {
    scene: Scene,
    before: Before,
    bad: String,
    camera: usize,
    /// The primary, as the camera knows it.
    client: String,
    captures: [Capture; 2],
}

impl Apart {
    async fn start(change: impl FnOnce(&mut PairSpec)) -> Result<Self> {
        let options = Options::test_bed(STREAMS).of_kinds(&[Kind::H264, Kind::Apart]);
        let scene = Scene::with(options, |spec| {
            spec.other["failover"] = serde_json::json!({"streams": {"failbackAfter": "10s"}});
            change(spec);
        })
        .await?;
        let before = scene.record(Duration::from_secs(6)).await?;
        let client = before.primary.api.base().host_str().context("no address")?;
        Ok(Self {
            bad: scene.watched[BAD].stream.clone(),
            camera: scene.watched[BAD].camera,
            client: client.to_owned(),
            captures: capture(&scene, &before).await?,
            scene,
            before,
        })
    }
}

#[tokio::test]
async fn a_stream_whose_pictures_do_not_change_moves_alone_and_returns() {
    let Apart {
        scene,
        before,
        bad,
        camera,
        client,
        captures,
    } = Apart::start(|spec| spec.streams[BAD].detect_frozen = true)
        .await
        .unwrap();
    scene.cameras.stay_still(camera, &client).await.unwrap();
    let at = told(&scene, &before.primary).await.unwrap();
    let state = scene.cameras.state().await.unwrap();
    let repeats_ms = state.repeats_since_ms(camera).unwrap();
    let after = Duration::from_millis(at.saturating_sub(repeats_ms));
    println!("the stream moved {after:?} after its first picture that was not new");
    assert!(after <= PROMISE, "moved after {after:?}");
    ensure_moved(&scene, &before, &bad, "Frozen").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    scene.cameras.move_on(camera, &client).await.unwrap();
    let Returned { arrived, verdict } = returned(&scene, &before, &bad, captures).await.unwrap();
    for found in &verdict.streams {
        let lost = (
            found.missing.len(),
            found.canonical_missing.len(),
            found.unreadable,
        );
        assert_eq!(lost, (0, 0, 0), "{found:?}");
        // Until the stream moved both wrote what they got, and a group at each end of that.
        let both = u64::try_from(after.as_millis()).unwrap() / 40 + TWO_GROUPS;
        let doubled = if found.stream == bad { both } else { 0 };
        assert!(found.doubled <= doubled, "{found:?}");
    }
    let timeline = scene.pair.view(&before.primary.name).await.unwrap().api;
    let timeline = timeline.timeline(&bad, before.start.at_ms).await.unwrap();
    let others = timeline
        .spans
        .iter()
        .filter(|s| s["member"] == *before.standby.name);
    let frames: u64 = others.filter_map(|span| span["frames"].as_u64()).sum();
    assert!(
        frames > 5 * 25,
        "the pictures that change are played: {:?}",
        timeline.spans
    );
    for one in &arrived {
        one.ensure_undisturbed(camera).unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_its_owner_cannot_read_moves_alone_and_returns() {
    let spoil = async |cameras: &Cameras, camera, client: &str| cameras.spoil(camera, client).await;
    cannot_read(spoil, Duration::ZERO).await;
}

#[tokio::test]
async fn a_stream_whose_parameter_sets_its_owner_cannot_decode_moves_alone_and_returns() {
    let garble = async |cameras: &Cameras, camera, client: &str| cameras.garble(camera, client).await;
    // They come with a key frame: the group of pictures that has begun is still good.
    cannot_read(garble, Duration::from_secs(1)).await;
}

/// The primary cannot read what it gets of a camera, by this and so much later.
async fn cannot_read(strike: impl AsyncFnOnce(&Cameras, usize, &str) -> Result<()>, later: Duration) {
    let Apart {
        scene,
        before,
        bad,
        camera,
        client,
        captures,
    } = Apart::start(|_| {}).await.unwrap();
    let asked = now_ms();
    strike(&scene.cameras, camera, &client).await.unwrap();
    let at = told(&scene, &before.primary).await.unwrap();
    let after = Duration::from_millis(at.saturating_sub(asked));
    println!("the stream moved {after:?} after its packets could be read no more ({later:?} later at most)");
    assert!(after <= PROMISE + later, "moved after {after:?}");
    ensure_moved(&scene, &before, &bad, "Broken").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    scene.cameras.heal(camera, &client).await.unwrap();
    let Returned { verdict, .. } = returned(&scene, &before, &bad, captures).await.unwrap();
    verdict.ensure_perfect().unwrap();
}

/// The status tells that this stream is with the standby, and why.
async fn ensure_moved(scene: &Scene, before: &Before, bad: &str, reason: &str) -> Result<()> {
    let status = moved(scene, Duration::from_secs(10)).await?;
    let told = (&status.name[..], &status.member[..], &status.reason[..]);
    ensure!(told == (bad, &before.standby.name[..], reason), "{status:?}");
    Ok(())
}

/// What was found when the stream was with the primary again.
struct Returned {
    arrived: [Arrived; 2],
    verdict: Verdict,
}

/// Waits until the stream is with the primary again. Fails unless authority stayed, both moves were told, no other stream saw
/// anything, and all that arrived is recorded.
async fn returned(scene: &Scene, before: &Before, bad: &str, captures: [Capture; 2]) -> Result<Returned> {
    none_is_away(scene).await?;
    gave_it_back(scene, &before.standby, bad).await?;
    let members = scene.settled(RETURN).await?;
    let arrived = arrived(captures).await?;
    ensure!(scene.pair.epoch().await? == before.epoch, "authority moved");
    let verdict = scene.judge(before.start, &members).await?;
    println!("{verdict}");
    events(scene, bad).await?;
    others_saw_nothing(scene, bad, &arrived).await?;
    scene.ensure_recorded(&arrived, before.start, &members).await?;
    scene.ensure_well(before, &members).await?;
    Ok(Returned { arrived, verdict })
}

/// Both moves are told where a user looks, or soon: an event is written after the status that it tells of.
async fn events(scene: &Scene, bad: &str) -> Result<()> {
    until("both moves are told", RETURN, async || {
        let told = scene.kube.events(NAMESPACE, PAIR).await?.join("\n");
        for (reason, words) in [
            ("StreamMoved", format!("stream {bad:?} is recorded by")),
            ("StreamReturned", format!("stream {bad:?} is no longer with")),
        ] {
            ensure!(told.contains(&words), "no event {reason}: {told}");
        }
        Ok(Some(()))
    })
    .await
}

/// What arrives at the primary, and what at the standby, from now on.
async fn capture(scene: &Scene, before: &Before) -> Result<[Capture; 2]> {
    let [primary, standby] = [&before.primary, &before.standby].map(MemberView::pod);
    Ok([
        Capture::begin(&scene.bed, &primary).await?,
        Capture::begin(&scene.bed, &standby).await?,
    ])
}

async fn arrived([primary, standby]: [Capture; 2]) -> Result<[Arrived; 2]> {
    Ok([primary.end().await?, standby.end().await?])
}

/// All frames of each other stream arrived at both members, by the sessions that there were before; and no member noted a gap of it.
async fn others_saw_nothing(scene: &Scene, bad: &str, arrived: &[Arrived]) -> Result<()> {
    for watched in scene.watched.iter().filter(|watched| watched.stream != bad) {
        for one in arrived {
            one.ensure_undisturbed(watched.camera)?;
        }
    }
    for report in scene.pair.reports(RETURN).await? {
        for stream in report.streams.iter().filter(|stream| stream.name != bad) {
            ensure!(
                stream.gaps == 0,
                "{} on {}: {} gaps",
                stream.name,
                report.member,
                stream.gaps
            );
        }
    }
    Ok(())
}

/// How often a stream moved, as the members say.
async fn moves(scene: &Scene) -> u64 {
    let reports = scene.pair.reports(RETURN).await.unwrap();
    reports.iter().map(|report| report.moves).sum()
}

#[tokio::test]
async fn a_camera_that_both_lose_moves_nothing() {
    // Whoever receives it first is better off until the next key frame, a second later.
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(4)).await.unwrap();
    let (bad, camera) = (&scene.watched[BAD].stream, scene.watched[BAD].camera);
    scene.cameras.freeze(camera).await.unwrap();
    for member in [&before.primary, &before.standby] {
        until("the gap is known while it lasts", KNOWN, async || {
            let gaps = member.api.timeline(bad, before.start.at_ms).await?.gaps;
            let [gap] = &gaps[..] else {
                bail!("{} has not one gap: {gaps:?}", member.name)
            };
            ensure!(gap.end.is_none() && gap.state == "open", "{gap:?}");
            ensure!(!gap.cause.is_empty() && gap.cause != "Unknown", "{gap:?}");
            Ok(Some(()))
        })
        .await
        .unwrap();
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(moves(&scene).await, 0, "nobody is better off");
    scene.cameras.thaw(camera).await.unwrap();
    scene.settled(RETURN).await.unwrap();
    // Nobody is connected to a camera at the moment at which it comes back; from then on nothing is lost.
    let after = scene.record(Duration::from_secs(5)).await.unwrap();
    let members = scene.settled(RETURN).await.unwrap();
    let mut verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    for span in std::mem::take(&mut verdict.streams[BAD].missing) {
        assert!(
            span.last < after.start.counter,
            "{span} is missing after it came back"
        );
    }
    verdict.streams[BAD].canonical_missing.clear();
    verdict.ensure_perfect().unwrap();
    scene
        .judge(after.start, &members)
        .await
        .unwrap()
        .ensure_perfect()
        .unwrap();
    assert_eq!(moves(&scene).await, 0, "nor when it came back");
    scene.ensure_well(&before, &members).await.unwrap();
}
