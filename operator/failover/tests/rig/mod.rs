//! A member, its clock, and an obedient driver: what the tests of one member share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::time::Duration;

use failover::{
    Answer, BootTime, Config, Effect, Epoch, Event, Health, Incarnation, Lease, LeaseRecord, Member,
    MemberName, MemberRef, OpId, ReadResult, Release, Request, Settings, StoreId, SwapResult, Version,
};

pub const MS: Duration = Duration::from_millis(1);

pub fn member(name: &str) -> MemberRef {
    MemberRef {
        member: MemberName::new(name).unwrap(),
        store: store(name),
        incarnation: Incarnation(if name == "left" { 1 } else { 2 }),
    }
}

pub fn store(name: &str) -> StoreId {
    StoreId::new(&format!("store-{name}")).unwrap()
}

/// A Lease of "left" or "right", or of nobody.
pub fn lease(version: u64, epoch: u64, holder: Option<&str>, follower: Option<&str>) -> Lease {
    let record = LeaseRecord {
        epoch: Epoch(epoch),
        leash_ms: 600,
        counter: 1,
        holder: holder.map(member),
        follower: follower.map(store),
    };
    Lease {
        version: Version::new(&version.to_string()),
        record,
    }
}

/// A member that breaks the rule which this process is told to break.
#[cfg(feature = "sabotage")]
#[allow(clippy::disallowed_methods, reason = "what to break is set from outside")]
fn as_told(member: Member) -> Member {
    let switch = std::env::var("GAPLESS_SABOTAGE").unwrap_or_default();
    match failover::Sabotage::of(&switch) {
        Some(rule) => member.sabotaged(rule),
        None => member,
    }
}

/// A member, as it is in a product.
#[cfg(not(feature = "sabotage"))]
fn as_told(member: Member) -> Member {
    member
}

/// The member "left" and its driver; the test plays "right" and the API.
pub struct Rig {
    pub member: Member,
    pub now: BootTime,
    /// Everything that was asked for and not looked at.
    pub effects: Vec<Effect>,
    ticket: u64,
    sequence: u64,
    versions: u64,
    next_progress: BootTime,
}

impl Rig {
    pub fn new(synced: u64) -> Self {
        Self::with(synced, Settings::default())
    }

    pub fn with(synced: u64, settings: Settings) -> Self {
        settings.check().unwrap();
        let now = BootTime(1_000_000_000);
        let peers = vec![member("right").member];
        let member = as_told(Member::new(
            now,
            Config {
                me: member("left"),
                peers,
                synced: Epoch(synced),
                settings,
            },
        ));
        let mut rig = Self {
            member,
            now,
            effects: Vec::new(),
            ticket: 0,
            sequence: 0,
            versions: 100,
            next_progress: now,
        };
        rig.progress();
        rig
    }

    pub fn step(&mut self, event: Event) {
        let effects = self.member.step(self.now, event);
        self.effects.extend(effects);
    }

    pub fn progress(&mut self) {
        self.ticket += 1;
        self.next_progress = self.now + MS * 100;
        self.step(Event::RecorderProgress { ticket: self.ticket });
    }

    /// Lets time pass, with a tick at each deadline and progress every 100 ms.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;

        loop {
            let due = self.member.next_deadline().unwrap_or(end).min(self.next_progress);
            if due > end {
                break;
            }
            self.now = due.max(self.now);
            if due == self.next_progress {
                self.progress();
            } else {
                self.step(Event::Tick);
            }
        }
        self.now = end;
        self.step(Event::Tick);
    }

    /// Lets time pass without the recorder's progress.
    pub fn pass_hung(&mut self, span: Duration) {
        let end = self.now + span;
        while self.member.next_deadline().is_some_and(|due| due <= end) {
            self.now = self.member.next_deadline().unwrap();
            self.step(Event::Tick);
        }
        self.now = end;
        self.step(Event::Tick);
    }

    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The newest read that was asked for.
    pub fn read(&mut self) -> Option<OpId> {
        let read = |effect: &Effect| {
            if let Effect::ReadLease { op } = effect {
                Some(*op)
            } else {
                None
            }
        };
        let found = self.effects.iter().filter_map(read).next_back();
        self.effects.retain(|effect| read(effect).is_none());
        found
    }

    /// The newest swap that was asked for.
    pub fn swap(&mut self) -> Option<(OpId, Version, LeaseRecord)> {
        let swap = |effect: &Effect| match effect {
            Effect::SwapLease { op, expected, record } => Some((*op, expected.clone(), record.clone())),
            _ => None,
        };
        let found = self.effects.iter().filter_map(swap).next_back();
        self.effects.retain(|effect| swap(effect).is_none());
        found
    }

    pub fn answer_read(&mut self, lease: Lease) {
        let op = self.read().expect("a read was asked for");
        self.step(Event::LeaseRead {
            op,
            result: ReadResult::Found(lease),
        });
    }

    /// Stores the swap that was asked for.
    pub fn store_swap(&mut self) -> Lease {
        let (op, _, record) = self.swap().expect("a swap was asked for");
        self.versions += 1;
        let lease = Lease {
            version: Version::new(&self.versions.to_string()),
            record,
        };
        self.step(Event::LeaseSwapped {
            op,
            result: SwapResult::Swapped(lease.clone()),
        });
        lease
    }

    pub fn end_swap(&mut self, result: SwapResult) {
        let (op, _, _) = self.swap().expect("a swap was asked for");
        self.step(Event::LeaseSwapped { op, result });
    }

    pub fn sync(&mut self) {
        let asked = |effect: &Effect| match effect {
            Effect::PersistEpoch { epoch } => Some(*epoch),
            _ => None,
        };
        let epoch = self
            .effects
            .iter()
            .filter_map(asked)
            .next_back()
            .expect("an epoch is to be synced");
        self.effects.retain(|effect| asked(effect).is_none());
        self.step(Event::EpochPersisted(epoch));
    }

    /// A request of "right".
    pub fn request(&mut self, epoch: u64, claims: bool) {
        let request = self.make_request(epoch, claims);
        self.step(Event::RequestReceived(request));
    }

    pub fn make_request(&mut self, epoch: u64, claims: bool) -> Request {
        self.sequence += 1;
        Request {
            from: member("right"),
            epoch: Epoch(epoch),
            sequence: self.sequence,
            claims,
            leash_ms: 600,
            health: Health::Fit,
            wants: None,
        }
    }

    pub fn release(&mut self, epoch: u64, version: u64) {
        self.sequence += 1;
        let release = Release {
            from: member("right"),
            to: store("left"),
            sequence: self.sequence,
            epoch: Epoch(epoch),
            version: Version::new(&version.to_string()),
        };
        self.step(Event::ReleaseReceived(release));
    }

    /// "right" answers the newest request; false where there is none.
    pub fn answer(&mut self) -> bool {
        let newest = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::SendRequest { request, .. } => Some(request.clone()),
            _ => None,
        });
        let Some(request) = newest else { return false };
        self.effects
            .retain(|effect| !matches!(effect, Effect::SendRequest { .. }));
        self.step(Event::AnswerReceived(answer_to(&request)));
        true
    }

    /// Lets time pass with a follower that answers each request after 5 ms and is fit.
    pub fn pass_answered(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.pass(MS * 45);
            self.request(0, false);
            self.pass(MS * 5);
            self.answer();
        }
    }

    pub fn answers(&self) -> usize {
        self.effects
            .iter()
            .filter(|effect| matches!(effect, Effect::SendAnswer { .. }))
            .count()
    }

    /// "left" takes from a Lease that names it the follower: epoch 8 then.
    pub fn become_primary(&mut self) {
        self.pass(MS * 150);
        self.answer_read(lease(7, 7, Some("right"), Some("left")));
        self.pass(MS * 750);
        self.store_swap();
        self.sync();
        assert!(self.member.authority(self.now).is_some());
    }

    pub fn remaining(&self) -> Duration {
        self.member
            .authority(self.now)
            .map_or(Duration::ZERO, |held| held.until.since(self.now))
    }
}

pub fn answer_to(request: &Request) -> Answer {
    Answer {
        from: member("right"),
        to: request.from.incarnation,
        sequence: request.sequence,
        epoch: request.epoch,
        synced: request.epoch,
    }
}
