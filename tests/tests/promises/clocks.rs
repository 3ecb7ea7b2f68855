//! Clocks that jump, and clocks that run at other rates, cost no frame and never make two holders.

use std::time::Duration;

use e2e::cluster::{Endured, RETURN, Scene, Skew, Times, Trouble, Whom};

use crate::{STREAMS, seconds};

/// Microseconds.
const HOUR: i64 = 3_600_000_000;
/// The rates of two clocks may be this far apart.
const RATE: f64 = 1.2;

#[tokio::test]
async fn clocks_that_jump_by_an_hour_or_run_apart_lose_no_frame() {
    let scene = Scene::start(STREAMS).await.unwrap();
    let before = scene.record(Duration::from_secs(5)).await.unwrap();
    for (member, hours) in [(&before.primary, 1), (&before.standby, -1)] {
        let skew = Skew {
            ahead_us: hours * HOUR,
            ..Skew::default()
        };
        scene.make_clocks_wrong(member, skew).await.unwrap();
        seconds(4).await;
    }
    for member in [&before.primary, &before.standby] {
        scene.make_clocks_wrong(member, Skew::default()).await.unwrap();
        seconds(4).await;
    }
    let members = scene.settled(RETURN).await.unwrap();
    let verdict = scene.judge(before.start, &members).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    assert_eq!(
        scene.pair.epoch().await.unwrap(),
        before.epoch,
        "authority asks no wall clock"
    );
    scene.ensure_well(&before, &members).await.unwrap();
    for report in scene.pair.reports(RETURN).await.unwrap() {
        assert!(report.streams.iter().all(|stream| stream.gaps == 0), "{report:?}");
    }

    // The standby's clock is the fast one: it waits least before it takes what the frozen primary held.
    let fast = Skew {
        rate: RATE,
        ..Skew::default()
    };
    scene.make_clocks_wrong(&members[1], fast).await.unwrap();
    seconds(2).await;
    let frozen = Trouble::FreezeReplicator(Whom::Primary);
    let Endured { verdict, broken } = scene.endure(&[frozen], Times::default()).await.unwrap();
    println!("{verdict}");
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(scene.pair.epoch().await.unwrap() > before.epoch, "it took");
}
