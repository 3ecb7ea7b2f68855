//! Live viewers of both members: each gets every frame from its first one on, and one that does not read disturbs nobody.

use std::time::Duration;

use e2e::browser;
use e2e::members::{Pair, TOKEN};
use e2e::viewer::Viewer;
use e2e::wait::until;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::{recording, seconds};

/// How long the newest frame may take to be shown, and some load.
const SHOWN: Duration = Duration::from_secs(5);
/// What one member may take more while a viewer does not read, bytes: its queue, and what a process takes as it likes.
const MORE: u64 = 48 << 20;

/// One that waits as long as it takes: no member dies here.
fn viewer(pair: &Pair, member: usize, stream: &str) -> Viewer {
    let url = pair.members[member].api().live_url(stream).unwrap();
    Viewer::start_patient(url, TOKEN).unwrap()
}

#[tokio::test]
async fn live_both_members_show_every_frame_at_once() {
    let (cameras, pair) = recording(2).await.unwrap();
    let viewers: Vec<_> = [(0, 0), (0, 1), (1, 0), (1, 1)]
        .into_iter()
        .map(|(member, camera)| (camera, viewer(&pair, member, &format!("cam-{camera}"))))
        .collect();
    seconds(8).await;
    // From whenever it began, which a busy machine may make late.
    for (_, viewer) in &viewers {
        until("a viewer sees seven seconds", SHOWN, async || {
            Ok((viewer.seen().account.frames() >= 7 * 25).then_some(()))
        })
        .await
        .unwrap();
    }
    let state = cameras.state().await.unwrap();
    for (camera, viewer) in &viewers {
        let newest = state.pushed(*camera).last().unwrap().span.last;
        let seen = viewer.saw(newest, SHOWN).await.unwrap();
        let account = &seen.account;
        println!(
            "camera {camera}: {account}, longest silence {:?}",
            seen.longest_silence
        );
        assert_eq!(
            (seen.missed(), account.surplus(), seen.connections),
            (0, 0, 1),
            "{}; cameras up to {} ms late",
            seen.last_end,
            state.late_max_ms
        );
        assert_eq!((account.out_of_order.len(), seen.steps_back), (0, 0));
        let first = account.first().unwrap();
        assert_eq!(account.unreadable_after(first), 0);
    }
}

/// Asks for a live view, and takes no byte of it.
async fn one_that_does_not_read(pair: &Pair, stream: &str) -> TcpStream {
    let base = pair.members[0].api().base().clone();
    let address = format!("{}:{}", base.host_str().unwrap(), base.port().unwrap());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!("GET /v1/streams/{stream}/live?token={TOKEN} HTTP/1.1\r\nhost: x\r\n\r\n");
    stalled.write_all(request.as_bytes()).await.unwrap();
    stalled
}

#[tokio::test]
async fn live_a_viewer_that_does_not_read_is_dropped_and_disturbs_nobody() {
    let (cameras, pair) = recording(1).await.unwrap();
    let api = pair.members[0].api();
    let memory = || pair.members[0].memory().unwrap();
    let other = viewer(&pair, 0, "cam-0");
    other.saw(1, SHOWN).await.unwrap();
    let before = memory();
    let stalled = one_that_does_not_read(&pair, "cam-0").await;
    until("it is dropped", Duration::from_mins(2), async || {
        let dropped = api.metric("gapless_viewers_dropped_total").await?;
        Ok((dropped == Some(1.0)).then_some(()))
    })
    .await
    .unwrap();
    let after = memory();
    assert!(after < before + MORE, "{before} bytes became {after}");
    let state = cameras.state().await.unwrap();
    let seen = other.saw(state.pushed(0)[0].span.last, SHOWN).await.unwrap();
    assert_eq!(
        (seen.missed(), seen.connections),
        (0, 1),
        "{}; cameras up to {} ms late",
        seen.last_end,
        state.late_max_ms
    );
    assert_eq!(api.metric("gapless_viewers").await.unwrap(), Some(1.0));
    drop(stalled);
}

#[tokio::test]
async fn live_a_browser_shows_it() {
    let (_cameras, pair) = recording(1).await.unwrap();
    let url = pair.members[1].api().watch_url("cam-0").unwrap();
    let shown = browser::watch(&url, Duration::from_secs(4)).await.unwrap();
    println!("{shown:?}");
    assert_eq!(
        (shown.state.as_str(), shown.errors.len()),
        ("live", 0),
        "{:?}",
        shown.errors
    );
    assert!(shown.to_s - shown.from_s > 3.0 && shown.frames > 75, "{shown:?}");
    assert!(shown.behind_s < 1.5, "{shown:?}");
}
