//! What holds for one member whatever happens to it, in whatever order.
#![allow(clippy::unwrap_used, reason = "a test")]

mod rig;

use failover::{
    Config, Effect, Epoch, Event, Health, LONGEST_LEASH, Lease, LeaseRecord, Member, MemberRef, OpId,
    ReadResult, Release, Request, Settings, StoreId, SwapResult, TakeOrder, TakeReason, Version,
    recreate_lease,
};
use proptest::prelude::*;
use rig::{MS, answer_to, lease, member, store};

/// Something that happens, as numbers: what it is, and its details.
type Happening = (u8, u64, bool);

struct Driver {
    member: Member,
    now: failover::BootTime,
    sequence: u64,
    version: u64,
    asked: Option<Request>,
    op: Option<(OpId, Option<LeaseRecord>)>,
    persist: Option<Epoch>,
    synced: Epoch,
    served: Epoch,
    settings: Settings,
}

impl Driver {
    fn new() -> Self {
        let now = failover::BootTime(5_000_000_000);
        let settings = Settings::default();
        let config = Config {
            me: member("left"),
            peers: vec![member("right").member],
            synced: Epoch(3),
            settings: settings.clone(),
        };
        Self {
            member: Member::new(now, config),
            now,
            sequence: 0,
            version: 50,
            asked: None,
            op: None,
            persist: None,
            synced: Epoch(3),
            served: Epoch(0),
            settings,
        }
    }

    /// One that holds authority in epoch 5 already.
    fn primary() -> Self {
        let mut driver = Self::new();
        let effects = driver
            .member
            .step(driver.now, Event::RecorderProgress { ticket: 9 });
        for effect in &effects {
            driver.check(effect, None);
        }
        driver.now = driver.now + MS * 150;
        driver.tell(Event::Tick);
        let (op, _) = driver.op.take().expect("a read");
        let result = ReadResult::Found(lease(40, 4, Some("right"), Some("left")));
        driver.tell(Event::LeaseRead { op, result });
        driver.now = driver.now + MS * 750;
        driver.tell(Event::RecorderProgress { ticket: 10 });
        driver.tell(Event::Tick);
        let (op, record) = driver.op.take().expect("a swap");
        let lease = Lease {
            version: Version::new("41"),
            record: record.expect("a swap"),
        };
        driver.tell(Event::LeaseSwapped {
            op,
            result: SwapResult::Swapped(lease),
        });
        driver.synced = driver.persist.take().expect("an epoch to sync");
        driver.tell(Event::EpochPersisted(driver.synced));
        assert!(driver.member.authority(driver.now).is_some());
        driver
    }

    fn event(&mut self, (kind, detail, flag): Happening) -> Event {
        self.sequence += 1;
        self.version += 1;
        match kind % 18 {
            0 => Event::Tick,
            1 | 2 => Event::RequestReceived(self.request(detail, flag)),
            3..=7 => self
                .asked
                .take()
                .map_or(Event::Tick, |request| Event::AnswerReceived(answer_to(&request))),
            14 => Event::ReleaseReceived(self.release(detail)),
            8 | 9 => self.result(detail, flag),
            10 => self.persist.take().map_or(Event::Tick, |epoch| {
                self.synced = self.synced.max(epoch);
                Event::EpochPersisted(epoch)
            }),
            11..=13 => Event::RecorderProgress {
                ticket: self.sequence,
            },
            15 if flag => Event::RecorderDied,
            15 => Event::RecorderWithdrawn {
                epoch: Epoch(detail % 10),
            },
            16 if flag => Event::SwitchoverOrder {
                epoch: Epoch(detail % 10),
            },
            16 => Event::TakeOrder(TakeOrder {
                epoch: Epoch(detail % 10),
                reason: TakeReason::Expired,
            }),
            _ => {
                let leash = MS * (300 + (detail % 900) as u32);
                self.settings = Settings {
                    leash,
                    ..Settings::default()
                };
                Event::SettingsChanged(self.settings.clone())
            }
        }
    }

    fn request(&self, detail: u64, claims: bool) -> Request {
        Request {
            from: member("right"),
            epoch: Epoch(detail % 10),
            sequence: self.sequence,
            claims,
            leash_ms: detail,
            health: if detail.is_multiple_of(5) {
                Health::Unfit
            } else {
                Health::Fit
            },
            wants: detail.is_multiple_of(7).then_some(Epoch(detail % 10)),
        }
    }

    fn release(&self, detail: u64) -> Release {
        Release {
            from: member("right"),
            to: store("left"),
            sequence: self.sequence,
            epoch: Epoch(detail % 10),
            version: Version::new(&self.version.to_string()),
        }
    }

    fn result(&mut self, detail: u64, flag: bool) -> Event {
        let version = Version::new(&self.version.to_string());
        match self.op.take() {
            None => Event::Tick,
            Some((op, None)) => Event::LeaseRead {
                op,
                result: self.read(detail),
            },
            Some((op, Some(record))) if flag => Event::LeaseSwapped {
                op,
                result: SwapResult::Swapped(Lease { version, record }),
            },
            Some((op, _)) => {
                let results = [SwapResult::Conflict, SwapResult::NotSent, SwapResult::InDoubt];
                Event::LeaseSwapped {
                    op,
                    result: results[detail as usize % 3].clone(),
                }
            }
        }
    }

    fn read(&self, detail: u64) -> ReadResult {
        let epoch = detail % 10;
        match detail % 6 {
            0 => ReadResult::Missing,
            1 => ReadResult::Unavailable,
            2 => ReadResult::Found(lease(self.version, epoch, Some("left"), Some("right"))),
            3 => ReadResult::Found(lease(self.version, epoch, None, None)),
            _ => ReadResult::Found(lease(self.version, epoch, Some("right"), Some("left"))),
        }
    }

    fn step(&mut self, happening: Happening) {
        let event = self.event(happening);
        self.tell(event);
    }

    fn tell(&mut self, event: Event) {
        let before = self.member.authority(self.now);
        let synced = self.member.synced_epoch();
        let effects = self.member.step(self.now, event);
        assert!(effects.len() < 20, "bounded: {effects:?}");
        assert!(self.member.synced_epoch() >= synced, "I5");
        for effect in &effects {
            self.check(effect, before);
        }
        self.check_authority();
        let due = self.member.next_deadline().expect("a heartbeat is always due");
        assert!(due > self.now, "a tick is due only when time has passed");
        assert!(due <= self.now + self.settings.heartbeat_interval);
    }

    fn check_authority(&mut self) {
        if let Some(held) = self.member.authority(self.now) {
            assert!(held.epoch <= self.synced, "I5: served before it was synced");
            assert!(held.epoch >= self.served, "I5: served a lower epoch");
            assert!(held.until <= self.now + LONGEST_LEASH, "I6");
            self.served = held.epoch;
        }
    }

    fn check(&mut self, effect: &Effect, before: Option<failover::Authority>) {
        match effect {
            Effect::GrantRecorder(grant) => {
                let held = self
                    .member
                    .authority(self.now)
                    .expect("I6: granted without authority");
                assert!(
                    grant.until <= held.until && grant.until <= self.now + self.settings.leash,
                    "I6"
                );
            }
            Effect::SwapLease { op, record, .. } => {
                assert!(record.epoch >= self.served, "I5: swapped to a lower epoch");
                self.op = Some((*op, Some(record.clone())));
            }
            Effect::ReadLease { op } => self.op = Some((*op, None)),
            Effect::PersistEpoch { epoch } => {
                assert!(*epoch > self.synced, "I5");
                self.persist = Some(*epoch);
            }
            Effect::SendRequest { request, .. } => {
                let held = self.member.authority(self.now).or(before);
                assert!(
                    !request.claims || held.is_some(),
                    "I6: claimed without a deadline"
                );
                self.asked = Some(request.clone());
            }
            Effect::SendAnswer { answer, .. } => assert!(answer.epoch >= answer.synced, "I5"),
            _ => {}
        }
    }
}

fn happenings() -> impl Strategy<Value = Vec<(Happening, u64)>> {
    let happening = (any::<u8>(), any::<u64>(), any::<bool>());
    // Mostly quick steps, so that every state is reached; sometimes a leash passes at once.
    let pause = prop_oneof![15 => 0..40_u64, 1 => 0..900_u64];
    prop::collection::vec((happening, pause), 1..400)
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._-]{1,40}"
}

prop_compose! {
    fn a_member()(member in name(), store in name(), incarnation in any::<u64>()) -> MemberRef {
        MemberRef {
            member: member.parse().unwrap(),
            store: store.parse().unwrap(),
            incarnation: failover::Incarnation(incarnation),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn i5_i6_hold_for_a_member_whatever_happens(primary in any::<bool>(), happenings in happenings()) {
        let mut driver = if primary { Driver::primary() } else { Driver::new() };
        for (happening, pause) in happenings {
            driver.now = driver.now + MS * pause as u32;
            driver.step(happening);
        }
    }

    #[test]
    fn a_lease_survives_its_annotations(
        epoch in 0..=Epoch::MAX.0,
        leash_ms in any::<u64>(),
        counter in any::<u64>(),
        holder in prop::option::of(a_member()),
        follower in prop::option::of(name()),
    ) {
        let follower = follower.map(|text| StoreId::new(&text).unwrap());
        let record = LeaseRecord { epoch: Epoch(epoch), leash_ms, counter, holder, follower };
        let identity = record.holder_identity();
        let read = LeaseRecord::parse(&record.annotations(), identity.as_deref());
        prop_assert_eq!(read, Ok(record));
    }

    #[test]
    fn i5_a_recreated_lease_is_above_all_that_is_known(known in prop::collection::vec(0..1_000_000_u64, 0..8)) {
        let record = recreate_lease(known.iter().copied().map(Epoch));
        let highest = known.iter().max().copied().unwrap_or(0);
        prop_assert!(record.epoch.0 >= highest + 1000);
        prop_assert_eq!(record.holder, None);
    }
}

#[test]
fn what_cannot_be_a_lease_says_why() {
    let good = lease(1, 7, Some("left"), Some("right")).record;
    let cases = [
        (
            "gapless.video/epoch",
            "-1",
            "annotation gapless.video/epoch is \"-1\"",
        ),
        (
            "gapless.video/epoch",
            "99999999999999999",
            "expected a number from 0 to 9007199254740992",
        ),
        (
            "gapless.video/leash-ms",
            "soon",
            "annotation gapless.video/leash-ms is \"soon\"",
        ),
        ("gapless.video/follower-store", "a/b", "store \"a/b\" must be"),
    ];
    for (key, value, expected) in cases {
        let mut annotations = good.annotations();
        annotations.insert(key.to_owned(), value.to_owned());
        let wrong = LeaseRecord::parse(&annotations, None).unwrap_err().to_string();
        assert!(wrong.contains(expected), "{wrong}");
    }
    let wrong = LeaseRecord::parse(&good.annotations(), Some("left"))
        .unwrap_err()
        .to_string();
    assert_eq!(wrong, "holder identity \"left\" is not member/store/incarnation");
    let wrong = LeaseRecord::parse(&std::collections::BTreeMap::new(), None)
        .unwrap_err()
        .to_string();
    assert_eq!(wrong, "annotation gapless.video/epoch is missing");
}
