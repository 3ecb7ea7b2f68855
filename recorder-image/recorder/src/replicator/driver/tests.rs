//! When the driver calls the API, and what it says of that: over simulated time, beside a peer that is well or silent.
#![allow(clippy::unwrap_used)]

use failover::{Config, Incarnation, Lease, MemberName, MemberRef, Request, Settings, StoreId};
use segment::{Catalogue, Role as Writer, Volume};
use tokio::time::{Instant, sleep};

use super::*;

const BEAT: Duration = Duration::from_millis(50);
const STORE: &str = "store-front-0";

/// A Lease that answers, or does not, and counts what it is asked.
struct Api {
    lease: Option<Lease>,
    works: bool,
    timeout: Duration,
    reads: u64,
    swaps: u64,
}

impl Api {
    /// How a call ends: at once, or when its time is over.
    fn answer<T: Send + 'static>(&self, works: T, fails: T) -> Call<T> {
        let (works, timeout) = (if self.works { Ok(works) } else { Err(fails) }, self.timeout);
        Box::pin(async move {
            match works {
                Ok(answer) => answer,
                Err(answer) => {
                    sleep(timeout).await;
                    answer
                }
            }
        })
    }

    fn swapped(&mut self, record: LeaseRecord) -> SwapResult {
        let version = Version::new(&self.swaps.to_string());
        let lease = Lease { version, record };
        self.lease = Some(lease.clone());
        SwapResult::Swapped(lease)
    }
}

impl LeaseApi for Mutex<Api> {
    fn read(&self, _patience: Duration) -> Call<ReadResult> {
        let mut api = self.lock().unwrap();
        api.reads += 1;
        let found = api.lease.clone().map_or(ReadResult::Missing, ReadResult::Found);
        api.answer(found, ReadResult::Unavailable)
    }

    fn swap(&self, expected: Version, record: LeaseRecord, _patience: Duration) -> Call<SwapResult> {
        let mut api = self.lock().unwrap();
        api.swaps += 1;
        let is_newest = api.lease.as_ref().is_some_and(|lease| lease.version == expected);
        let result = if is_newest && api.works {
            api.swapped(record)
        } else {
            SwapResult::Conflict
        };
        api.answer(result, SwapResult::InDoubt)
    }
}

/// A driver that runs, and all that it is told and tells.
struct Scene {
    api: Arc<Mutex<Api>>,
    standing: Arc<Mutex<Option<Standing>>>,
    inputs: mpsc::Sender<Input>,
    sent: mpsc::Receiver<Message>,
    sequence: u64,
    primary: bool,
    _dir: tempfile::TempDir,
}

fn named(member: &str, store: &str) -> MemberRef {
    MemberRef {
        member: MemberName::new(member).unwrap(),
        store: StoreId::new(store).unwrap(),
        incarnation: Incarnation(1),
    }
}

/// Not on a thread beside: simulated time would not wait for it.
fn at_once(slots: Arc<Mutex<EpochSlots>>, epoch: Epoch) -> Call<Result<(), String>> {
    Box::pin(async move { fence(&slots, epoch).map_err(|e| e.to_string()) })
}

fn member(settings: &Settings) -> Member {
    let config = Config {
        me: named("front-1", "store-front-1"),
        peers: vec![MemberName::new("front-0").unwrap()],
        synced: Epoch(0),
        settings: settings.clone(),
    };
    Member::new(BootTime(0), config)
}

impl Scene {
    /// A member that has just started, whose API server answers or not. It hears a primary, or nobody.
    fn new(works: bool, primary: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume::open(dir.path(), Writer::Replicator).unwrap();
        let settings = Settings::default();
        let api = Arc::new(Mutex::new(Api {
            lease: Some(Lease {
                version: Version::new("0"),
                record: LeaseRecord::first(settings.leash),
            }),
            works,
            timeout: settings.api_timeout,
            reads: 0,
            swaps: 0,
        }));
        let (inputs, inbox) = mpsc::channel(256);
        let (peer, sent) = mpsc::channel(1 << 16);
        let standing = Arc::default();
        let outputs = Outputs {
            peer,
            recorder: mpsc::unbounded_channel().0,
            serving: mpsc::unbounded_channel().0,
            sight: watch::channel(None).0,
            standing: Arc::clone(&standing),
            hub: Arc::new(Hub::new(volume.store(), &Catalogue::default())),
            persist: at_once,
        };
        let start = Instant::now();
        let driver = Driver::new(
            member(&settings),
            Streams::new(Incarnation(1), Policy::default(), settings.leash),
            Arc::clone(&api),
            EpochSlots::open(&volume).unwrap(),
            outputs,
            (inputs.clone(), inbox),
            Arc::new(move || BootTime(0) + start.elapsed()),
        );
        tokio::spawn(driver.run());
        Self {
            api,
            standing,
            inputs,
            sent,
            sequence: 0,
            primary,
            _dir: dir,
        }
    }

    /// So much time passes, in which its recorder makes progress and its peer, if it is there, claims authority.
    async fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / BEAT.as_millis() {
            self.sequence += 1;
            let ticket = self.sequence;
            self.tell(Event::RecorderProgress { ticket }).await;
            if self.primary {
                self.tell(Event::RequestReceived(self.claim())).await;
            }
            sleep(BEAT).await;
        }
    }

    async fn tell(&self, event: Event) {
        self.inputs.send(Input::Event(event)).await.unwrap();
    }

    /// A primary's heartbeat, in an epoch that needs no read.
    fn claim(&self) -> Request {
        Request {
            from: named("front-0", STORE),
            epoch: Epoch(0),
            sequence: self.sequence,
            claims: true,
            leash_ms: 600,
            health: Health::Fit,
            wants: None,
        }
    }

    fn works(&self, works: bool) {
        self.api.lock().unwrap().works = works;
    }

    fn standing(&self) -> Standing {
        self.standing.lock().unwrap().clone().unwrap()
    }

    fn reaches(&self) -> bool {
        self.standing().api_reachable
    }

    /// How often the Lease was read and swapped since the last time.
    fn calls(&self) -> (u64, u64) {
        let mut api = self.api.lock().unwrap();
        (std::mem::take(&mut api.reads), std::mem::take(&mut api.swaps))
    }

    /// How many requests its peer was sent since the last time.
    fn beats(&mut self) -> usize {
        let sent = std::iter::from_fn(|| self.sent.try_recv().ok());
        sent.filter(|message| matches!(message, Message::Request(_)))
            .count()
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// A call that fails does so at the end of its time, and a word of it comes with the next beat.
const SOON: Duration = Duration::from_millis(300);

#[tokio::test(start_paused = true)]
async fn a_standby_says_within_a_look_that_it_cannot_reach_the_api_server_and_five_seconds_after_it_can() {
    let mut scene = Scene::new(true, true);
    scene.pass(SOON).await;
    assert!(scene.reaches(), "it looks when it starts");
    for after in [0, 7, 29].map(Duration::from_secs) {
        scene.pass(LOOK + after).await;
        assert!(scene.reaches());
        scene.works(false);
        scene.pass(LOOK + SOON).await;
        assert!(!scene.reaches(), "{after:?}");
        scene.pass(after).await;
        scene.works(true);
        scene.pass(LOOK_AGAIN).await;
        assert!(scene.reaches(), "{after:?}");
    }
    assert_eq!(scene.standing().report.role, Role::Standby);
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_starts_without_an_api_server_says_so() {
    let mut scene = Scene::new(false, true);
    scene.pass(SOON).await;
    assert!(!scene.reaches());
    scene.works(true);
    scene.pass(LOOK_AGAIN).await;
    assert!(scene.reaches());
}

#[tokio::test(start_paused = true)]
async fn a_standby_looks_seldom_and_more_often_while_it_cannot() {
    let mut scene = Scene::new(true, true);
    scene.pass(10 * LOOK + SOON).await;
    assert_eq!(scene.calls(), (11, 0), "at its start, too");
    scene.works(false);
    scene.pass(LOOK + SOON).await;
    scene.calls();
    scene.pass(60 * SECOND).await;
    assert_eq!(scene.calls(), (12, 0));
}

#[tokio::test(start_paused = true)]
async fn i9_no_heartbeat_waits_for_a_look() {
    let mut scene = Scene::new(true, true);
    scene.pass(SECOND).await;
    scene.beats();
    scene.pass(60 * SECOND).await;
    let usual = scene.beats();
    scene.api.lock().unwrap().timeout = 4 * SECOND;
    scene.works(false);
    scene.pass(60 * SECOND).await;
    assert_eq!(scene.beats(), usual);
    assert!(!scene.reaches());
    assert_eq!(scene.standing().report.role, Role::Standby);
}

#[tokio::test(start_paused = true)]
async fn i5_a_look_tells_the_member_nothing() {
    let mut scene = Scene::new(true, true);
    let mut record = LeaseRecord::first(LOOK);
    record.epoch = Epoch(1000);
    scene.api.lock().unwrap().swapped(record);
    scene.pass(2 * LOOK + SOON).await;
    assert_eq!(scene.calls(), (3, 0));
    let report = scene.standing().report;
    assert_eq!((report.synced_epoch, report.lease_epoch), (Epoch(0), None));
    assert!(report.hears_primary, "it is answered as before: {report:?}");
}

#[tokio::test(start_paused = true)]
async fn who_renews_the_lease_does_not_look() {
    let mut scene = Scene::new(true, false);
    scene.pass(5 * SECOND).await;
    assert_eq!(scene.standing().report.role, Role::Primary);
    scene.calls();
    scene.pass(10 * LOOK).await;
    let (reads, swaps) = scene.calls();
    assert_eq!(reads, 0);
    assert!(swaps > 60, "{swaps}");
    scene.works(false);
    scene.pass(5 * SECOND).await;
    assert!(!scene.reaches(), "its own calls tell as much");
}
