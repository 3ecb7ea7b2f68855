//! The rule as a table, and two replicas at one API server.

use serde_json::Value;
use tokio::time::{advance, sleep};

use super::*;
use crate::fixtures::cluster::Cluster;

const NAMESPACE: &str = "gapless-system";
const NAME: &str = "gapless-operator";
const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/gapless-system/leases/gapless-operator";
const SECOND: Duration = Duration::from_secs(1);

fn at(ms: u64) -> BootTime {
    BootTime::default() + Duration::from_millis(ms)
}

fn held(version: &str, holder: &str) -> Record {
    Record {
        version: version.to_owned(),
        holder: (!holder.is_empty()).then(|| holder.to_owned()),
        duration: DURATION,
        transitions: 3,
    }
}

/// What a rival called `me` does at the last of these reads.
fn last(reads: &[(u64, Option<Record>)]) -> Move {
    let mut rival = Rival::new("me".to_owned());
    let moves = reads.iter().map(|(ms, read)| rival.saw(at(*ms), read.clone()));
    moves.last().unwrap()
}

#[test]
fn a_rival_takes_what_it_saw_unchanged_for_a_whole_duration() {
    let (one, two) = (Some(held("1", "you")), Some(held("2", "you")));
    let mut long = held("1", "you");
    long.duration = Duration::from_secs(9);
    let mut endless = held("1", "you");
    endless.duration = Duration::from_hours(24);
    let (long, endless) = (Some(long), Some(endless));
    let take = |read: &Option<Record>| Move::Take(read.clone().unwrap());
    let cases = [
        ("nothing is there", vec![(0, None)], Move::Create),
        (
            "it was released",
            vec![(0, Some(held("1", "")))],
            Move::Take(held("1", "")),
        ),
        (
            "its own, without a reply",
            vec![(0, Some(held("1", "me")))],
            Move::Take(held("1", "me")),
        ),
        (
            "seen for the first time, however old",
            vec![(900_000, one.clone())],
            Move::Wait,
        ),
        (
            "almost a duration",
            vec![(0, one.clone()), (5_999, one.clone())],
            Move::Wait,
        ),
        (
            "a duration",
            vec![(0, one.clone()), (6_000, one.clone())],
            take(&one),
        ),
        (
            "renewed meanwhile",
            vec![(0, one.clone()), (5_000, two.clone()), (10_999, two.clone())],
            Move::Wait,
        ),
        (
            "a duration after that",
            vec![(0, one.clone()), (5_000, two.clone()), (11_000, two.clone())],
            take(&two),
        ),
        (
            "deleted and made again",
            vec![(0, one.clone()), (5_000, None), (6_000, one.clone())],
            Move::Wait,
        ),
        (
            "a longer one",
            vec![(0, long.clone()), (8_999, long.clone())],
            Move::Wait,
        ),
        (
            "a longer one has passed",
            vec![(0, long.clone()), (9_000, long.clone())],
            take(&long),
        ),
        (
            "one of a day, which somebody wrote by hand",
            vec![(0, endless.clone()), (59_999, endless.clone())],
            Move::Wait,
        ),
        (
            "no longer than a minute",
            vec![(0, endless.clone()), (60_000, endless.clone())],
            take(&endless),
        ),
    ];
    for (what, reads, expected) in cases {
        assert_eq!(last(&reads), expected, "{what}");
    }
}

#[test]
fn a_leader_counts_from_the_sending_of_its_newest_success() {
    let done = || Renewal::Done(held("2", "me"));
    let cases = [
        ("renewed", (1_500, 1_600, done()), Ok(5_500)),
        ("the answer took its time", (1_500, 2_500, done()), Ok(5_500)),
        (
            "the answer came too late",
            (3_900, 4_000, done()),
            Err(Lost::Silence),
        ),
        ("no answer", (1_500, 2_500, Renewal::Unknown), Ok(4_000)),
        (
            "no answer until the end",
            (3_500, 4_000, Renewal::Unknown),
            Err(Lost::Silence),
        ),
        (
            "an earlier one arrived",
            (1_500, 1_600, Renewal::Overtaken(Some(held("5", "me")))),
            Ok(4_000),
        ),
        (
            "another took",
            (1_500, 1_600, Renewal::Overtaken(Some(held("5", "you")))),
            Err(Lost::Taken("you".to_owned())),
        ),
        (
            "somebody released it",
            (1_500, 1_600, Renewal::Overtaken(Some(held("5", "")))),
            Err(Lost::Gone),
        ),
        (
            "somebody deleted it",
            (1_500, 1_600, Renewal::Overtaken(None)),
            Err(Lost::Gone),
        ),
    ];
    for (what, (sent, now, renewal), expected) in cases {
        let mut tenure = Tenure::new("me".to_owned(), at(0), held("1", "me"));
        let result = tenure.renewal(at(sent), at(now), renewal);
        assert_eq!(result.map(|()| tenure.ends()), expected.map(at), "{what}");
    }
}

#[test]
fn a_leader_gives_up_before_a_rival_takes() {
    // The rival sees a version when it is written at the earliest, which is after it was sent. Its clock may run a third faster.
    assert!(GIVE_UP * 4 / 3 < DURATION);
    // A renewal that fails twice is tried a third time before the end.
    assert!(RENEW + 2 * (CALL + AGAIN) > GIVE_UP && RENEW + CALL + AGAIN < GIVE_UP);
}

fn replica(cluster: &Cluster, pod: &str) -> Election {
    Election::new(cluster.client(), NAMESPACE, NAME, pod)
}

fn spec(cluster: &Cluster) -> Value {
    cluster.get(PATH).unwrap()["spec"].clone()
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_the_second_waits_for_its_end() {
    let cluster = Cluster::default();
    let mut first = replica(&cluster, "first").win(|| ()).await;
    assert!(first.holder().starts_with("first_"));
    assert_eq!(spec(&cluster)["holderIdentity"], first.holder());
    let second = replica(&cluster, "second");
    let mut looks = 0;
    tokio::select! {
        lost = first.hold() => panic!("{lost}"),
        _ = second.win(|| looks += 1) => panic!("two lead"),
        () = sleep(60 * SECOND) => (),
    }
    assert!(looks >= 100, "{looks} looks");
    // It dies: nobody renews.
    let died = Instant::now();
    let second = second.win(|| ()).await;
    let after = died.elapsed();
    assert!((DURATION..DURATION + SECOND).contains(&after), "{after:?}");
    assert_eq!(spec(&cluster)["holderIdentity"], second.holder());
    assert_eq!(spec(&cluster)["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_clean_release_is_taken_at_once() {
    let cluster = Cluster::default();
    let first = replica(&cluster, "first").win(|| ()).await;
    let second = replica(&cluster, "second");
    assert!(timeout(2 * SECOND, second.win(|| ())).await.is_err());
    first.release().await;
    assert_eq!(spec(&cluster)["holderIdentity"], Value::Null);
    assert!(timeout(SECOND, second.win(|| ())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_release_takes_nothing_from_another() {
    let cluster = Cluster::default();
    let first = replica(&cluster, "first").win(|| ()).await;
    let second = replica(&cluster, "second").win(|| ()).await;
    first.release().await;
    assert_eq!(spec(&cluster)["holderIdentity"], second.holder());
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_an_api_server_gives_up_in_time() {
    for code in [500, 429, 403] {
        let cluster = Cluster::default();
        let mut lead = replica(&cluster, "first").win(|| ()).await;
        let renewed = Instant::now();
        cluster.refuse("PATCH", "leases", code, "not now");
        assert_eq!(lead.hold().await, Lost::Silence);
        assert!(renewed.elapsed() <= GIVE_UP, "{:?}", renewed.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_failed_is_tried_again() {
    let cluster = Cluster::default();
    let mut lead = replica(&cluster, "first").win(|| ()).await;
    cluster.refuse("PATCH", "leases", 500, "not now");
    assert!(timeout(3 * SECOND, lead.hold()).await.is_err());
    cluster.relent();
    assert!(timeout(60 * SECOND, lead.hold()).await.is_err(), "it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_reply_was_lost_costs_nothing() {
    let cluster = Cluster::default();
    let mut lead = replica(&cluster, "first").win(|| ()).await;
    let mut lease = cluster.get(PATH).unwrap();
    lease["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z".into();
    cluster.put(PATH, lease);
    assert!(timeout(60 * SECOND, lead.hold()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_another_took_ends_at_once() {
    let cluster = Cluster::default();
    let mut first = replica(&cluster, "first").win(|| ()).await;
    advance(Duration::from_millis(3_500)).await;
    let mut lease = cluster.get(PATH).unwrap();
    lease["spec"]["holderIdentity"] = "second".into();
    cluster.put(PATH, lease);
    assert_eq!(first.hold().await, Lost::Taken("second".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_nobody_leads() {
    let cluster = Cluster::default();
    cluster.refuse("GET", "leases", 500, "no quorum");
    let mut looks = 0;
    let won = timeout(60 * SECOND, replica(&cluster, "first").win(|| looks += 1)).await;
    assert!(won.is_err());
    assert_eq!((looks, cluster.get(PATH)), (0, None));
}
