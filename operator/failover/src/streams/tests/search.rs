//! A search for a stream that both members claim (I6).

use std::cell::Cell;
use std::collections::VecDeque;

use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Say {
        primary: bool,
    },
    Arrive {
        primary: bool,
        lost: bool,
    },
    Faults {
        primary: bool,
        blind: bool,
    },
    Idle {
        primary: bool,
        idle: bool,
    },
    Leash {
        primary: bool,
        long: bool,
    },
    /// The Lease has another leash.
    Lease {
        long: bool,
    },
    Suspect(bool),
    /// The primary is another process that knows nothing, and takes after the leash of the Lease and a quarter.
    Restart,
    /// All words arrive for a while.
    Quiet,
    /// The primary loses authority and takes it again; a while may pass between the two.
    Again {
        pause: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u64..700).prop_map(Step::Wait),
        8 => any::<bool>().prop_map(|primary| Step::Say { primary }),
        8 => (any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(primary, lost)| Step::Arrive { primary, lost }),
        5 => (any::<bool>(), any::<bool>()).prop_map(|(primary, blind)| Step::Faults { primary, blind }),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(primary, idle)| Step::Idle { primary, idle }),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(primary, long)| Step::Leash { primary, long }),
        1 => any::<bool>().prop_map(|long| Step::Lease { long }),
        1 => any::<bool>().prop_map(Step::Suspect),
        1 => Just(Step::Restart),
        1 => prop_oneof![Just(0), 1_u64..700].prop_map(|pause| Step::Again { pause }),
        4 => Just(Step::Quiet),
    ]
}

/// Words are delayed, lost and out of order with time; the follower's clock is slower by a fifth.
struct Search {
    primary: Streams<u8>,
    standby: Streams<u8>,
    to_standby: VecDeque<Word<u8>>,
    to_primary: VecDeque<Word<u8>>,
    at: u64,
    held: Standing,
    /// The starts of both members.
    starts: u64,
}

/// Streams return soon in the search.
const SOON: Policy = Policy {
    failback_after: Some(Duration::from_millis(500)),
};

impl Search {
    fn new() -> Self {
        let mut primary = streams(1);
        primary.configure(SOON, LEASH);
        Self {
            primary,
            standby: streams(2),
            to_standby: VecDeque::new(),
            to_primary: VecDeque::new(),
            at: 0,
            held: holder(),
            starts: 2,
        }
    }

    fn clock(&self, primary: bool) -> BootTime {
        if primary {
            ms(self.at)
        } else {
            BootTime(self.at * 1_000_000 * 5 / 6)
        }
    }

    fn member(&mut self, primary: bool) -> &mut Streams<u8> {
        if primary {
            &mut self.primary
        } else {
            &mut self.standby
        }
    }

    /// What is on its way to a member.
    fn inbox(&mut self, primary: bool) -> &mut VecDeque<Word<u8>> {
        if primary {
            &mut self.to_primary
        } else {
            &mut self.to_standby
        }
    }

    fn take(&mut self, step: &Step) -> TestCaseResult {
        match *step {
            Step::Wait(passed) => self.at += passed,
            Step::Say { primary } => {
                let now = self.clock(primary);
                let word = self.member(primary).word(now);
                self.inbox(!primary).push_back(word);
            }
            Step::Arrive { primary, lost } => {
                let now = self.clock(primary);
                if let Some(word) = self.inbox(primary).pop_front().filter(|_| !lost) {
                    self.member(primary).hear(word, now);
                }
            }
            Step::Faults { primary, blind } => {
                let now = self.clock(primary);
                let silent = blind.then_some((S, Fault::Silent));
                self.member(primary).set_faults(silent, now);
            }
            Step::Idle { primary, idle } => self.member(primary).set_idle(idle.then_some(S)),
            Step::Leash { primary, long } => {
                let leash = if long { LEASH * 3 } else { LEASH };
                self.member(primary).configure(SOON, leash);
            }
            Step::Lease { long } => {
                let leash = if long { LEASH * 3 } else { LEASH };
                // A member does not write a shorter one before.
                if long || self.primary.delegated_until() <= ms(self.at) + leash * 5 / 4 {
                    self.held.leash = leash;
                }
            }
            Step::Suspect(suspected) => self.held.peer_suspected = suspected,
            Step::Restart => self.restart(),
            Step::Again { pause } => self.lose_and_take(pause),
            Step::Quiet => return self.quiet(),
        }
        self.check()
    }

    fn lose_and_take(&mut self, pause: u64) {
        if pause > 0 {
            let lost = Standing {
                held: None,
                ..self.held
            };
            self.primary.advance(ms(self.at), lost);
            // A shorter leash counts for what is delegated from now on.
            self.primary.configure(SOON, LEASH);
            self.at += pause;
        }
        self.next_epoch();
    }

    fn restart(&mut self) {
        self.at += self.held.leash.as_millis() as u64 * 5 / 4;
        self.starts += 1;
        self.primary = streams(self.starts);
        self.primary.configure(SOON, LEASH);
        self.next_epoch();
    }

    fn next_epoch(&mut self) {
        let epoch = self.held.held.map(|epoch| Epoch(epoch.0 + 1));
        self.held = Standing {
            held: epoch,
            floor: epoch.unwrap_or_default(),
            ..self.held
        };
    }

    fn quiet(&mut self) -> TestCaseResult {
        for _ in 0..12 {
            self.take(&Step::Wait(100))?;
            for primary in [true, false] {
                self.take(&Step::Say { primary })?;
                let waits = self.inbox(!primary).len();
                for _ in 0..waits {
                    let (primary, lost) = (!primary, false);
                    self.take(&Step::Arrive { primary, lost })?;
                }
            }
        }
        Ok(())
    }

    fn check(&mut self) -> TestCaseResult {
        let [mine, theirs] = [true, false].map(|primary| self.clock(primary));
        self.primary.advance(mine, self.held);
        self.standby.advance(theirs, follower());
        let both = self.primary.share(mine).claims(S) && self.standby.share(theirs).claims(S);
        prop_assert!(!both, "both at {}", self.at);
        Ok(())
    }
}

#[test]
fn i6_no_stream_is_claimed_by_both() {
    let config = ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(2000)
    };
    let moves = Cell::new(0);
    let searched = TestRunner::new(config).run(&prop::collection::vec(step(), 1..200), |steps| {
        let mut search = Search::new();
        steps.iter().try_for_each(|step| search.take(step))?;
        moves.set(moves.get() + search.primary.moves());
        Ok(())
    });
    searched.unwrap();
    assert!(moves.get() > 200, "{} moves", moves.get());
}
