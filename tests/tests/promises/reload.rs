//! A stream is added and a password rotated: the other streams lose nothing, and no pod restarts.

use crds::pair::Transport;
use e2e::cameras::{Cameras, Options};
use e2e::cluster::{RETURN, Scene, StreamSpec};
use e2e::wait::until;

use crate::{STREAMS, pods, seconds};

const FIRST: &str = "f1rst-passw0rd";
const SECOND: &str = "sec0nd-passw0rd";

#[tokio::test]
async fn a_new_stream_and_a_new_password_touch_nothing_else() {
    // One of the cameras is there from the beginning, and comes later as a stream.
    let mut scene = Scene::with(Options::test_bed(STREAMS - 1), |spec| {
        spec.streams.truncate(STREAMS - 2);
    })
    .await
    .unwrap();
    let locked = Options::test_bed(1)
        .on_port(555)
        .login(&format!("viewer:{FIRST}"));
    let locked = Cameras::start(locked).await.unwrap();
    let settled = scene.settled(RETURN).await.unwrap();
    let before = scene.record(std::time::Duration::from_secs(4)).await.unwrap();

    // Two streams come: one for everybody, one behind a login.
    scene.pair.set_login("door-login", "viewer", FIRST).await.unwrap();
    let stream = |name: &str, url: String, secret: Option<&str>| StreamSpec {
        name: name.to_owned(),
        url,
        secret: secret.map(str::to_owned),
        detect_frozen: false,
        transport: Transport::default(),
    };
    let added = [
        stream("late", scene.cameras.url(STREAMS - 2), None),
        stream("locked", locked.url(0), Some("door-login")),
    ];
    scene.spec.streams.extend(added);
    scene.pair.apply(&scene.spec).await.unwrap();
    let limit = std::time::Duration::from_secs(30);
    until("both members receive all streams", limit, async || {
        scene.pair.well(STREAMS).await.map(Some)
    })
    .await
    .unwrap();

    // The password changes on the camera, and later in the Secret.
    locked.change_password("viewer", SECOND).await.unwrap();
    locked.disconnect(0).await.unwrap();
    until("the status says that the password is wrong", limit, async || {
        let status = scene.pair.status().await?;
        let failing = status.streams.unwrap_or_default().failing;
        let named = failing.iter().find(|failing| failing.name == "locked");
        Ok(named
            .filter(|failing| failing.reason == "Unauthorized")
            .map(|_| ()))
    })
    .await
    .unwrap();
    scene
        .pair
        .set_login("door-login", "viewer", SECOND)
        .await
        .unwrap();
    until("both members receive all streams again", limit, async || {
        scene.pair.well(STREAMS).await.map(Some)
    })
    .await
    .unwrap();
    seconds(3).await;

    let after = scene.settled(RETURN).await.unwrap();
    assert_eq!(pods(&settled), pods(&after), "no pod was replaced or restarted");
    let verdict = scene.judge(before.start, &after).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    let told = scene.everything_told().await.unwrap();
    for password in [FIRST, SECOND] {
        assert!(
            !told.contains(password),
            "a password is in a log, status or event"
        );
    }
}
