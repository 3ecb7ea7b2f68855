//! Drives [`failover::Member`]: waits in one place, steps synchronously, carries its effects out in order. It runs on a
//! thread of its own, so that bulk work cannot delay a heartbeat.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use failover::streams::{self, Fault, Policy, Received, Streams, Why, Word};
use failover::{
    BootTime, Effect, Epoch, Event, Health, LeaseRecord, Member, Note, OpId, OrderOutcome, ReadResult,
    Report, Role, SwapResult, Version,
};
use segment::{EpochSlots, StreamUid};
use tokio::sync::{mpsc, oneshot, watch};

use super::hub::Hub;
use super::phases::Phases;
use super::readers::Sight;
use crate::clock::wall_ms;
use crate::local::{self, Share, ToRecorder};
use crate::wire::Message;

/// How often the recorder is told of the peer, at least.
const PEER_PERIOD: Duration = Duration::from_millis(250);

/// After how long a volume that did not take an epoch is asked again.
const PERSIST_AGAIN: Duration = Duration::from_secs(1);

/// How often the peer is told of streams, at least. Delegations last a leash beyond.
const STREAMS_PERIOD: Duration = Duration::from_millis(100);

/// A member that made no call to the API for so long looks whether it could: a standby whose primary is well has nothing to ask, and
/// would else find out when it has to take.
const LOOK: Duration = Duration::from_secs(30);

/// The same where the newest call failed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A call to the API that is under way.
pub type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The Lease in the API. Each call ends within its time-out, and is never retried.
pub trait LeaseApi: Send + Sync + 'static {
    /// A quorum read, given up after `patience`.
    fn read(&self, patience: Duration) -> Call<ReadResult>;
    /// A conditional swap, in doubt after `patience`.
    fn swap(&self, expected: Version, record: LeaseRecord, patience: Duration) -> Call<SwapResult>;
}

/// What the driver is told.
#[derive(Debug)]
pub enum Input {
    /// For the member.
    Event(Event),
    /// How a look at the Lease ended, and when it began.
    Looked(BootTime, ReadResult),
    /// An order of the operator, and where its outcome goes.
    Order(Event, oneshot::Sender<OrderOutcome>),
    /// What the peer says of streams.
    PeerStreams(Word<StreamUid>),
    /// How this member's recorder receives its streams.
    Streams(Received<StreamUid>),
    /// The recorder opened a segment: it writes.
    Opened,
    /// When streams return, and the leash by which they are delegated.
    Policy(Policy, Duration),
}

/// What others may look at at any time.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The member's own words.
    pub report: Report,
    /// When they were said.
    pub at: BootTime,
    /// The last failovers.
    pub phases: Phases,
    /// Whether the newest call to the API that ended succeeded.
    pub api_reachable: bool,
    /// The streams that the follower owns, as the holder knows.
    pub moved: Vec<Moved>,
    /// How many moves this member decided since it started.
    pub moves: u64,
}

/// A stream that is not with the holder of authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Which.
    pub stream: StreamUid,
    /// The member that owns it.
    pub owner: String,
    /// Why it moved, in one word.
    pub why: &'static str,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// What was said of streams last, to whom.
#[derive(Debug, Default)]
struct Spoken {
    /// To the peer: its claims, its faults, what it rests from and what it does not know, and when.
    word: Option<(Share, [Vec<StreamUid>; 4], BootTime)>,
    /// To the recorder.
    owned: Option<local::Owned>,
}

/// What shows `CLOCK_BOOTTIME`, or a clock of a test.
pub type Clock = Arc<dyn Fn() -> BootTime + Send + Sync>;

/// How an epoch is made durable: [`persist`], or what a test has instead. Else it says why it could not be.
pub type Persist = fn(Arc<Mutex<EpochSlots>>, Epoch) -> Call<Result<(), String>>;

/// Where effects go.
pub struct Outputs {
    /// To the peer, over the control connection; where it is full, messages are lost as on a bad link.
    pub peer: mpsc::Sender<Message>,
    /// To the recorder.
    pub recorder: mpsc::UnboundedSender<ToRecorder>,
    /// A new epoch is served from here on.
    pub serving: mpsc::UnboundedSender<u64>,
    /// How the peer is seen, once it is heard or suspected.
    pub sight: watch::Sender<Option<Sight>>,
    /// What others look at.
    pub standing: Arc<Mutex<Option<Standing>>>,
    /// What was received of the peer.
    pub hub: Arc<Hub>,
    /// Who makes an epoch durable.
    pub persist: Persist,
}

/// See the module.
pub struct Driver<A> {
    member: Member,
    api: Arc<A>,
    slots: Arc<Mutex<EpochSlots>>,
    outputs: Outputs,
    inputs: mpsc::Receiver<Input>,
    own: mpsc::Sender<Input>,
    clock: Clock,
    phases: Phases,
    suspected: bool,
    streams: Streams<StreamUid>,
    spoken: Spoken,
    told: Option<(local::Peer, BootTime)>,
    api_reachable: bool,
    /// When a call to the API began last.
    called: Option<BootTime>,
}

/// Makes sure that `epoch` or a higher one is durable. Check and write are one step: of those who fence at once, none undoes what
/// another was told.
///
/// # Errors
/// When it cannot be made durable.
pub fn fence(slots: &Mutex<EpochSlots>, epoch: Epoch) -> segment::Result<()> {
    let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
    if slots.epoch() >= epoch.0 {
        return Ok(());
    }
    // I5
    slots.raise(epoch.0)
}

/// [`fence`] on a thread beside: a disk that is slow keeps nobody's heartbeat waiting.
pub fn persist(slots: Arc<Mutex<EpochSlots>>, epoch: Epoch) -> Call<Result<(), String>> {
    Box::pin(async move {
        let fenced = tokio::task::spawn_blocking(move || fence(&slots, epoch)).await;
        fenced.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    })
}

/// The member with the rule broken that this process is to break.
#[cfg(feature = "sabotage")]
pub fn sabotaged(member: Member) -> Member {
    let rule = segment::sabotage::broken().and_then(|rule| failover::Sabotage::of(&format!("{rule:?}")));
    match rule {
        Some(rule) => member.sabotaged(rule),
        None => member,
    }
}

impl<A: LeaseApi> Driver<A> {
    /// A driver of `member`. `own` leads to `inputs`.
    pub fn new(
        member: Member,
        streams: Streams<StreamUid>,
        api: Arc<A>,
        slots: EpochSlots,
        outputs: Outputs,
        (own, inputs): (mpsc::Sender<Input>, mpsc::Receiver<Input>),
        clock: Clock,
    ) -> Self {
        Self {
            member,
            api,
            slots: Arc::new(Mutex::new(slots)),
            outputs,
            inputs,
            own,
            clock,
            phases: Phases::default(),
            suspected: false,
            streams,
            spoken: Spoken::default(),
            told: None,
            api_reachable: false,
            called: None,
        }
    }

    fn now(&self) -> BootTime {
        (self.clock)()
    }

    /// Runs for ever (or until nobody can tell it anything).
    pub async fn run(mut self) {
        self.step(Event::Tick, None);
        loop {
            let now = self.now();
            self.look(now);
            let latest = (now + PEER_PERIOD).min(self.look_due());
            let due = self.member.next_deadline().unwrap_or(latest).min(latest);
            let wait = due.since(now);
            let input = tokio::time::timeout(wait, self.inputs.recv()).await;
            match input {
                Ok(None) => return,
                Ok(Some(Input::Event(event))) => self.step(event, None),
                // A call that began later knows better.
                Ok(Some(Input::Looked(began, result))) if self.called == Some(began) => {
                    self.api_reachable = is_reached(&result);
                }
                Ok(Some(Input::Looked(..))) => {}
                Ok(Some(Input::Order(event, answer))) => self.step(event, Some(answer)),
                Ok(Some(Input::PeerStreams(word))) => self.streams.hear(word, self.now()),
                Ok(Some(Input::Streams(received))) => self.streams.set_received(received, self.now()),
                Ok(Some(Input::Opened)) => self.phases.opened(wall_ms()),
                Ok(Some(Input::Policy(policy, leash))) => self.streams.configure(policy, leash),
                Err(_) => self.step(Event::Tick, None),
            }
            let (at, report) = self.report();
            self.move_streams(at, &report);
            self.tell_recorder(at, &report);
            self.publish(at, report);
        }
    }

    fn step(&mut self, event: Event, mut answer: Option<oneshot::Sender<OrderOutcome>>) {
        match &event {
            Event::LeaseRead { result, .. } => self.api_reachable = is_reached(result),
            Event::LeaseSwapped { result, .. } => self.api_reachable = !matches!(result, SwapResult::InDoubt),
            Event::RequestReceived(_) | Event::AnswerReceived(_) => self.phases.heard(wall_ms()),
            Event::RecorderDied => self.streams.recorder_died(),
            _ => {}
        }
        let ordered = match &event {
            Event::TakeOrder(order) => Some(*order),
            _ => None,
        };
        let now = self.now();
        let effects = self.member.step(now, event);
        self.phases.lapse(now);
        let is_accepted = effects.contains(&Effect::OrderAnswered(OrderOutcome::Accepted));
        if let Some(order) = ordered.filter(|_| is_accepted) {
            self.phases.ordered(order, now);
        }
        for effect in effects {
            self.carry_out(effect, &mut answer);
        }
    }

    fn carry_out(&mut self, effect: Effect, answer: &mut Option<oneshot::Sender<OrderOutcome>>) {
        match effect {
            Effect::SendRequest { request, .. } => self.send(Message::Request(request)),
            Effect::SendAnswer { answer, .. } => self.send(Message::Answer(answer)),
            Effect::SendRelease { release, .. } => self.send(Message::Release(release)),
            Effect::ReadLease { op } => self.read(op),
            Effect::SwapLease { op, expected, record } => self.swap(op, expected, record),
            Effect::PersistEpoch { epoch } => self.persist(epoch),
            Effect::GrantRecorder(grant) => self.grant(grant.epoch, local::Role::Primary, grant.until),
            Effect::RevokeRecorder { epoch } => self.recorder(ToRecorder::Withdraw { epoch: epoch.0 }),
            Effect::RoleChanged { role, epoch } => self.changed(role, epoch),
            Effect::Suspect { suspected, peer } => {
                tracing::warn!(%peer, suspected, "suspicion");
                self.suspected = suspected;
                self.told = None;
                let (at, report) = self.report();
                self.tell_recorder(at, &report);
            }
            Effect::OrderAnswered(outcome) => {
                if let Some(answer) = answer.take() {
                    let _ = answer.send(outcome);
                }
            }
            Effect::Note(note) => self.note(&note),
        }
    }

    fn send(&self, message: Message) {
        let _ = self.outputs.peer.try_send(message);
    }

    fn recorder(&self, message: ToRecorder) {
        let _ = self.outputs.recorder.send(message);
    }

    fn grant(&self, epoch: Epoch, role: local::Role, until: BootTime) {
        self.recorder(ToRecorder::Authority(local::Authority {
            epoch: epoch.0,
            role,
            deadline_boottime_ns: until.0,
        }));
    }

    /// When a look is due. Every call counts as one: who calls by itself never looks.
    fn look_due(&self) -> BootTime {
        let period = if self.api_reachable { LOOK } else { LOOK_AGAIN };
        self.called.map_or(BootTime(0), |called| called + period)
    }

    /// Reads the Lease where nothing was asked of the API for long, only to know whether it answers. The member is not told what the
    /// Lease says: it would have that epoch synced, and answer nobody below it (I5). That it does where it had a reason of its own to
    /// read, never because time passed.
    fn look(&mut self, now: BootTime) {
        if now >= self.look_due() {
            let reading = self.api.read(self.patience());
            self.call(reading, Input::Looked);
        }
    }

    fn patience(&self) -> Duration {
        self.member.settings().api_timeout
    }

    fn read(&mut self, op: OpId) {
        let reading = self.api.read(self.patience());
        self.call(reading, move |_, result| {
            Input::Event(Event::LeaseRead { op, result })
        });
    }

    fn swap(&mut self, op: OpId, expected: Version, record: LeaseRecord) {
        let swapping = self.api.swap(expected, record, self.patience());
        self.call(swapping, move |_, result| {
            Input::Event(Event::LeaseSwapped { op, result })
        });
    }

    /// A call to the API, for which nothing here waits: when it began and how it ended comes as an input.
    fn call<T: Send + 'static>(
        &mut self,
        call: Call<T>,
        ended: impl FnOnce(BootTime, T) -> Input + Send + 'static,
    ) {
        let (own, began) = (self.own.clone(), self.now());
        self.called = Some(began);
        tokio::spawn(async move {
            let _ = own.send(ended(began, call.await)).await;
        });
    }

    /// I5: an epoch counts once it is synced. A volume that does not take it is asked again: until it does, nobody acts on the
    /// epoch, and the member goes on telling what is wrong.
    fn persist(&self, epoch: Epoch) {
        let (slots, own, persist) = (Arc::clone(&self.slots), self.own.clone(), self.outputs.persist);
        tokio::spawn(async move {
            while let Err(why) = persist(Arc::clone(&slots), epoch).await {
                tracing::error!(%epoch, "cannot make an epoch durable yet: {why}");
                tokio::time::sleep(PERSIST_AGAIN).await;
            }
            let _ = own.send(Input::Event(Event::EpochPersisted(epoch))).await;
        });
    }

    fn changed(&mut self, role: Role, epoch: Epoch) {
        tracing::info!(?role, %epoch, "role");
        if role != Role::Primary {
            self.stand_by(role, epoch);
        }
    }

    /// Tells the recorder that this member holds nothing.
    fn stand_by(&self, role: Role, epoch: Epoch) {
        let role = if role == Role::Standby {
            local::Role::Standby
        } else {
            local::Role::None
        };
        self.grant(epoch, role, BootTime(0));
    }

    fn note(&mut self, note: &Note) {
        tracing::info!(?note, "authority");
        let last_frame = self.outputs.hub.received_ms();
        self.phases.note(note, wall_ms(), last_frame);
        if let Note::Serving { epoch } = note {
            let _ = self.outputs.serving.send(epoch.0);
        }
    }

    /// What the member says of itself now.
    fn report(&self) -> (BootTime, Report) {
        let at = self.now();
        (at, self.member.report(at))
    }

    /// Moves the streams that are to move, and says what changed.
    fn move_streams(&mut self, at: BootTime, report: &Report) {
        let held = self.member.authority(at).map(|authority| authority.epoch);
        let peer = report.peers.first();
        let standing = streams::Standing {
            held,
            floor: report.synced_epoch.max(report.lease_epoch.unwrap_or_default()),
            leash: Duration::from_millis(report.leash_ms),
            peer_fit: peer.is_some_and(|p| p.health == Some(Health::Fit)),
            peer_suspected: peer.is_some_and(|p| p.suspected),
            peer_claims: report.hears_primary && held.is_none(),
        };
        for moved in self.streams.advance(at, standing) {
            tracing::info!(stream = %moved.stream, to_follower = moved.to_follower, why = ?moved.why, "a stream moves");
        }
        self.speak(at);
    }

    /// To the peer and to the recorder, at each change; to the peer also each [`STREAMS_PERIOD`].
    fn speak(&mut self, at: BootTime) {
        let share = self.streams.share(at);
        let received = [
            self.streams.own_faults().collect(),
            self.streams.own_idle().collect(),
            self.streams.own_unknown().collect(),
            self.streams.own_asked().collect(),
        ];
        let said = self.spoken.word.as_ref().is_some_and(|(before, how, when)| {
            *before == share && *how == received && at.since(*when) < STREAMS_PERIOD
        });
        if !said {
            let word = self.streams.word(at);
            self.send(Message::Streams(word));
            self.spoken.word = Some((share, received, at));
        }
        let owned = self.owned(at);
        if self.spoken.owned.as_ref() != Some(&owned) {
            self.recorder(ToRecorder::Owned(owned.clone()));
            self.spoken.owned = Some(owned);
        }
        self.member.delegates_until(self.streams.delegated_until());
    }

    fn owned(&self, at: BootTime) -> local::Owned {
        local::Owned {
            share: self.streams.share(at),
            until_boottime_ns: self.streams.until().map_or(0, |until| until.0),
        }
    }

    fn moved(&self, report: &Report) -> Vec<Moved> {
        let (at, wall) = (self.now(), wall_ms());
        let peer = report
            .peers
            .first()
            .map(|p| p.member.to_string())
            .unwrap_or_default();
        let moved = |away: streams::Away<StreamUid>| Moved {
            stream: away.stream,
            owner: peer.clone(),
            why: word_for(away.why),
            // In whole seconds: the same moment each time that it is told.
            since_ms: (wall / 1000 * 1000).saturating_sub(at.since(away.since).as_millis() as u64),
        };
        self.streams.away().into_iter().map(moved).collect()
    }

    /// The peer, at each change and a few times a second.
    fn tell_recorder(&mut self, at: BootTime, report: &Report) {
        let peer = report.peers.first();
        let heard = peer.is_some_and(|p| p.silent_ms.is_some()) && !self.suspected;
        let view = local::Peer {
            heard,
            suspected: self.suspected,
            share: self.streams.peer_share(at),
            fit: peer.is_some_and(|p| p.health == Some(Health::Fit)),
            broken_streams: self.streams.not_with_peer().collect(),
        };
        let stale = self
            .told
            .as_ref()
            .is_none_or(|(told, when)| *told != view || at.since(*when) >= PEER_PERIOD);
        if stale {
            // A recorder that has just started was told nothing yet.
            if matches!(report.role, Role::Standby | Role::Taking) {
                self.stand_by(report.role, report.synced_epoch);
            }
            self.recorder(ToRecorder::Owned(self.owned(at)));
            self.recorder(ToRecorder::Peer(view.clone()));
            self.told = Some((view, at));
        }
    }

    fn publish(&self, at: BootTime, report: Report) {
        let moved = self.moved(&report);
        if let Some(sight) = report.peers.first().and_then(Sight::of) {
            let sight = Some(sight);
            self.outputs.sight.send_if_modified(|seen| {
                let changed = *seen != sight;
                seen.clone_from(&sight);
                changed
            });
        }
        let standing = Standing {
            report,
            at,
            phases: self.phases.clone(),
            api_reachable: self.api_reachable,
            moved,
            moves: self.streams.moves(),
        };
        *self
            .outputs
            .standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(standing);
    }
}

/// Whether the API answered, whatever it said.
fn is_reached(result: &ReadResult) -> bool {
    !matches!(result, ReadResult::Unavailable)
}

fn word_for(why: Why) -> &'static str {
    match why {
        Why::Fault(Fault::Silent) => "Silent",
        Why::Fault(Fault::Broken) => "Broken",
        Why::Fault(Fault::Frozen) => "Frozen",
        Why::Fault(Fault::Unwritable) => "Unwritable",
        Why::FollowerSilent => "FollowerSilent",
        Why::Returned => "Returned",
    }
}

/// No API server: the pair has no holder, and every member writes what it receives (I7).
#[derive(Debug)]
pub struct NoLease;

impl LeaseApi for NoLease {
    fn read(&self, _patience: Duration) -> Call<ReadResult> {
        Box::pin(async { ReadResult::Unavailable })
    }

    fn swap(&self, _expected: Version, _record: LeaseRecord, _patience: Duration) -> Call<SwapResult> {
        Box::pin(async { SwapResult::NotSent })
    }
}

#[cfg(test)]
mod tests;
