//! A stream that its task does not survive, on either member: it is held off, and no other is hurt.

use std::time::Duration;

use anyhow::Result;
use e2e::api::MemberApi;
use e2e::judge::{Start, judge};
use e2e::members::{Member, Program};
use e2e::wait::until;

use crate::{recording, seconds};

const POISON: &str = "cam-1";
/// Attempts in a row before a stream is held off, for 30 s.
const ATTEMPTS: f64 = 3.0;

/// How many sessions of this stream ended. One of another stream may end, too, where the machine is busy.
async fn failures(api: &MemberApi) -> Result<f64> {
    let label = format!("stream=\"{POISON}\"");
    let failures = api.metric_with("gapless_session_errors_total", &label).await?;
    Ok(failures.unwrap_or(0.0))
}

#[tokio::test]
async fn a_stream_that_crashes_its_task_on_both_members_hurts_no_other() {
    let (cameras, mut pair) = recording(3).await.unwrap();
    let start = Start::now(&cameras).await.unwrap();
    seconds(3).await;
    let before = pair.members.each_ref().map(Member::pids);
    for member in &pair.members {
        member.poison(&[POISON]).unwrap();
    }
    let apis = pair.apis();
    for api in &apis {
        until("the stream is held off", Duration::from_secs(20), async || {
            Ok((failures(api).await? >= ATTEMPTS).then_some(()))
        })
        .await
        .unwrap();
    }
    // Attempts that are not held off come each 5 s at least.
    seconds(11).await;
    for api in &apis {
        let failures = failures(api).await.unwrap();
        assert!(failures <= ATTEMPTS, "{} goes on trying: {failures}", api.base());
        let streams = api.streams().await.unwrap();
        let bad = streams.iter().find(|info| info.name == POISON).unwrap();
        let code = bad.error.as_ref().map(|error| error.code.clone());
        assert_eq!(
            (bad.state.as_str(), code.as_deref()),
            ("failed", Some("TaskFailed"))
        );
    }
    assert_eq!(pair.members.each_ref().map(Member::pids), before);
    for member in &mut pair.members {
        assert!(member.running(Program::Recorder) && member.running(Program::Replicator));
    }
    let others: Vec<_> = pair
        .watched()
        .into_iter()
        .filter(|w| w.stream != POISON)
        .collect();
    let verdict = judge(&cameras, &others, start, &apis, &apis[0]).await.unwrap();
    println!("{verdict}");
    verdict.ensure_perfect().unwrap();
    for member in &pair.members {
        member.poison(&[]).unwrap();
    }
    // The hold-off ends by itself.
    pair.receiving().await.unwrap();
}
