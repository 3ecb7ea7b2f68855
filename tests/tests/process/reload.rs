//! The configuration changes while members run: a stream comes, a password changes, a stream goes.

use std::time::Duration;

use anyhow::Result;
use e2e::cameras::{Cameras, Options};
use e2e::judge::{Start, judge, watched};
use e2e::members::{Pair, Program, with_login};
use e2e::wait::until;

use crate::seconds;

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
