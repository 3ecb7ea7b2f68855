//! The configuration changes while members run: a stream comes, a password changes, a stream goes.

use std::time::Duration;

use anyhow::Result;
use crds::pair::Transport;
use e2e::api::MemberApi;
use e2e::cameras::{Cameras, Options};
use e2e::judge::{Start, judge, watched};
use e2e::members::{Pair, Program, with_login};
use e2e::wait::until;

use crate::{SOON, primary, seconds, verdict};

#[tokio::test]
async fn changes_touch_no_other_stream() {
    let cameras = Cameras::start(Options::loopback(4).unwrap()).await.unwrap();
    let locked = Cameras::start(Options::loopback(1).unwrap().login("viewer:first"))
        .await
        .unwrap();
    let mut pair = Pair::prepare(&cameras).unwrap();
    let mut protected = pair.config.streams[0].clone();
    (protected.name, protected.url, protected.uid) =
        ("locked".to_owned(), locked.url(0), uuid::Uuid::new_v4());
    with_login(&mut protected, "viewer", "first");
    let added = std::mem::replace(&mut pair.config.streams[3], protected);
    pair.write_config().unwrap();
    pair.start_all().unwrap();
    pair.receiving().await.unwrap();
    let start = Start::now(&cameras).await.unwrap();
    seconds(2).await;

    // A stream comes.
    pair.config.streams.push(added);
    pair.write_config().unwrap();
    pair.receiving().await.unwrap();

    // A password changes: the camera ends its sessions, the old one is refused, the new one is in the configuration later.
    locked.change_password("viewer", "second").await.unwrap();
    locked.disconnect(0).await.unwrap();
    in_state(&pair, "locked", "Unauthorized").await.unwrap();
    let at = pair
        .config
        .streams
        .iter()
        .position(|stream| stream.name == "locked")
        .unwrap();
    with_login(&mut pair.config.streams[at], "viewer", "second");
    pair.write_config().unwrap();
    pair.receiving().await.unwrap();

    // A stream goes: what was recorded of it stays.
    let from = start.at_ms;
    let gone = pair.config.streams.remove(2);
    pair.write_config().unwrap();
    seconds(4).await;
    let apis = pair.apis();
    assert!(!apis[0].segments(&gone.name, from).await.unwrap().is_empty());

    judge(&cameras, &watched(2), start, &apis, &apis[0])
        .await
        .unwrap()
        .ensure_perfect()
        .unwrap();
    for member in &mut pair.members {
        assert!(member.running(Program::Recorder) && member.running(Program::Replicator));
        let logs = member.logs().unwrap();
        assert!(!logs.contains("first\"") && !logs.contains("second\""));
    }
}

#[tokio::test]
async fn another_password_or_transport_costs_no_frame_and_a_wrong_one_stops_one_session() {
    let cameras = Cameras::start(Options::loopback(1).unwrap().login("viewer:first"));
    let cameras = cameras.await.unwrap();
    let arbiter = tempfile::tempdir().unwrap();
    let mut pair = Pair::prepare(&cameras).unwrap();
    pair.arbitrate(arbiter.path()).await.unwrap();
    with_login(&mut pair.config.streams[0], "viewer", "first");
    pair.write_config().unwrap();
    pair.start_all().unwrap();
    pair.receiving().await.unwrap();
    let owner = primary(&pair).await.unwrap();
    let [last, first] = [&pair.members[owner], &pair.members[1 - owner]].map(e2e::members::Member::api);
    let start = Start::now(&cameras).await.unwrap();
    let reconfigured = async |api: &MemberApi, count: usize| {
        until("it has gone over", SOON, async || {
            let gaps = api.timeline("cam-0", start.at_ms).await?.gaps;
            let found = gaps.iter().filter(|gap| gap.cause == "Reconfigured").count();
            Ok((found >= count).then_some(()))
        })
        .await
        .unwrap();
    };

    // A typo: the member that does not own the stream tries it, and the owner does not follow.
    with_login(&mut pair.config.streams[0], "viewer", "tpyo");
    pair.write_config().unwrap();
    until("one is refused", SOON, async || {
        let error = first.stream("cam-0").await?.error;
        Ok(error.filter(|error| error.code == "Unauthorized").map(drop))
    })
    .await
    .unwrap();
    seconds(12).await;
    let kept = last.stream("cam-0").await.unwrap();
    assert!(kept.error.is_none(), "{:?}", kept.error);

    // The right one, and the camera has it.
    cameras.change_password("viewer", "second").await.unwrap();
    with_login(&mut pair.config.streams[0], "viewer", "second");
    pair.write_config().unwrap();
    pair.receiving().await.unwrap();
    reconfigured(&last, 1).await;
    pair.receiving().await.unwrap();

    // Another way for its packets.
    pair.config.streams[0].transport = Transport::Udp;
    pair.write_config().unwrap();
    reconfigured(&last, 2).await;
    pair.receiving().await.unwrap();
    let state = cameras.state().await.unwrap();
    let asked = state.transports(0).iter().rev().take(2);
    assert!(asked.clone().all(|asked| !asked.contains("TCP")), "{asked:?}");
    seconds(3).await;
    let verdict = verdict(&cameras, &pair, start).await.unwrap();
    verdict.ensure_perfect().unwrap();
}

async fn in_state(pair: &Pair, stream: &str, code: &str) -> Result<()> {
    for api in pair.apis() {
        until(
            &format!("{stream} says {code}"),
            Duration::from_secs(20),
            async || {
                let error = api.stream(stream).await?.error;
                Ok(error.filter(|error| error.code == code).map(drop))
            },
        )
        .await?;
    }
    Ok(())
}
