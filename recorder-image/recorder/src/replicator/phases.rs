//! When each phase of the last takeovers was, for people: wall-clock milliseconds since the Unix epoch.

use crds::member::FailoverReport;
use failover::{Note, TakeReason};

/// How many takeovers are remembered.
const REMEMBERED: usize = 5;
/// What did not come of an order within this time does not come of it any more, milliseconds: the peer did not hand over.
const ORDER_HOLDS_MS: u64 = 30_000;
/// What the Lease said before it was taken, and the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nobody held it, whoever ordered what.
    NoHolder,
    /// The holder released it.
    Released,
    /// It was held, and its wait ran out.
    Held,
}

impl Found {
    /// The word for a takeover that nobody ordered.
    fn as_str(self) -> &'static str {
        match self {
            Self::NoHolder => TakeReason::NoHolder.as_str(),
            Self::Released => "HandedOver",
            Self::Held => "PeerSuspected",
        }
    }
}

/// What the next takeover was ordered for.
#[derive(Clone, Copy, Debug)]
struct Order {
    reason: TakeReason,
    at: u64,
    /// Since then the peer was suspected, or taking was given up: a takeover may have another cause.
    in_doubt: bool,
}

impl Order {
    /// Whether it is what a takeover at this moment is for. In doubt it is where the holder did what was ordered: it handed over.
    fn explains(&self, at: u64, found: Option<Found>) -> bool {
        let followed = self.reason.is_planned() && found == Some(Found::Released);
        at.saturating_sub(self.at) <= ORDER_HOLDS_MS && (followed || !self.in_doubt)
    }
}

/// In one word why a takeover came about.
fn why(order: Option<Order>, found: Option<Found>, at: u64) -> &'static str {
    let order = order.filter(|order| order.explains(at, found));
    match (found, order) {
        (Some(Found::NoHolder), _) | (_, None) => found.map_or("", Found::as_str),
        (_, Some(order)) => order.reason.as_str(),
    }
}

/// What is known of a takeover before it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pending {
    suspected: Option<u64>,
    recording: Option<u64>,
    read: Option<u64>,
    taken: Option<u64>,
}

/// See the module. Every moment is passed in.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    done: Vec<FailoverReport>,
    last_heard: Option<u64>,
    pending: Pending,
    /// It is used up by the next takeover: it is not what a later one is for.
    order: Option<Order>,
    found: Option<Found>,
}

impl Phases {
    /// The peer was heard.
    pub fn heard(&mut self, at: u64) {
        self.last_heard = Some(at);
    }

    /// This member's recorder began to write a stream. What follows the suspicion, or the taking where there was none, counts.
    pub fn opened(&mut self, at: u64) {
        if self.pending.suspected.is_some() {
            self.pending.recording.get_or_insert(at);
        } else if let Some(last) = self.done.last_mut() {
            last.recording.get_or_insert(at);
        }
    }

    /// A takeover was ordered, for this reason, and the order was accepted.
    pub fn ordered(&mut self, reason: TakeReason, at: u64) {
        self.order = Some(Order {
            reason,
            at,
            in_doubt: false,
        });
    }

    /// Takes a note of the member in. `last_frame` is when media of the peer was last made durable here.
    pub fn note(&mut self, note: &Note, at: u64, last_frame: Option<u64>) {
        let now = Some(at);
        match note {
            Note::Suspected => {
                self.doubt();
                self.pending = Pending {
                    suspected: now,
                    ..Pending::default()
                };
            }
            Note::Read { held, released, .. } => {
                self.pending.read = now;
                self.found = Some(match (held, released) {
                    (false, _) => Found::NoHolder,
                    (true, true) => Found::Released,
                    (true, false) => Found::Held,
                });
            }
            Note::Released { .. } => self.found = Some(Found::Released),
            Note::Swapped { .. } => self.pending.taken = now,
            Note::Serving { epoch } => self.serving(epoch.0, at, last_frame),
            Note::StoodDown { .. } => {
                self.pending = Pending::default();
                self.doubt();
            }
            Note::Lost { .. } | Note::LeaseMissing => {}
        }
    }

    fn doubt(&mut self) {
        if let Some(order) = &mut self.order {
            order.in_doubt = true;
        }
    }

    fn serving(&mut self, epoch: u64, at: u64, last_frame: Option<u64>) {
        let why = why(self.order.take(), self.found.take(), at);
        let pending = std::mem::take(&mut self.pending);
        self.done.push(FailoverReport {
            epoch,
            why: why.to_owned(),
            last_frame,
            last_heard: self.last_heard.filter(|_| pending.suspected.is_some()),
            suspected: pending.suspected,
            recording: pending.recording,
            read: pending.read,
            taken: pending.taken,
            serving: Some(at),
        });
        let extra = self.done.len().saturating_sub(REMEMBERED);
        self.done.drain(..extra);
    }

    /// The last takeovers, oldest first.
    pub fn all(&self) -> Vec<FailoverReport> {
        self.done.clone()
    }
}

#[cfg(test)]
mod tests {
    use failover::{Epoch, StandDown};

    use super::*;

    fn told(steps: &[(u64, Step)]) -> Vec<FailoverReport> {
        let mut phases = Phases::default();
        for (at, step) in steps {
            match step {
                Step::Heard => phases.heard(*at),
                Step::Opened => phases.opened(*at),
                Step::Suspected => phases.note(&Note::Suspected, *at, None),
                Step::Serving(epoch) => {
                    let note = Note::Serving { epoch: Epoch(*epoch) };
                    phases.note(&note, *at, Some(90));
                }
            }
        }
        phases.all()
    }

    enum Step {
        Heard,
        Opened,
        Suspected,
        Serving(u64),
    }

    #[test]
    fn what_is_written_first_after_the_suspicion_counts() {
        use Step::{Heard, Opened, Serving, Suspected};
        let all = told(&[
            (50, Opened),
            (100, Heard),
            (250, Suspected),
            (260, Opened),
            (261, Opened),
            (1100, Serving(7)),
            (1200, Opened),
        ]);
        let [failover] = &all[..] else { panic!("{all:?}") };
        let phases = [failover.last_frame, failover.last_heard, failover.suspected];
        assert_eq!(phases, [Some(90), Some(100), Some(250)]);
        assert_eq!((failover.recording, failover.serving), (Some(260), Some(1100)));
    }

    #[test]
    fn after_a_handover_the_first_that_is_written_counts() {
        use Step::{Heard, Opened, Serving};
        let all = told(&[(100, Heard), (150, Serving(7)), (180, Opened), (3180, Opened)]);
        assert_eq!(all[0].recording, Some(180));
        assert_eq!(all[0].last_heard, None, "nobody was suspected");
    }

    #[test]
    fn an_order_that_came_to_nothing_is_no_reason_of_a_later_takeover() {
        let mut phases = Phases::default();
        phases.ordered(TakeReason::NoHolder, 0);
        let read = Note::Read {
            epoch: Epoch(1),
            until: failover::BootTime(0),
            held: true,
            released: false,
        };
        let stood_down = Note::StoodDown {
            why: StandDown::PrimaryHeard,
        };
        let serving = Note::Serving { epoch: Epoch(2) };
        for note in [stood_down, Note::Suspected, read, serving] {
            phases.note(&note, 1, None);
        }
        assert_eq!(phases.all()[0].why, "PeerSuspected");
    }

    #[test]
    fn an_order_is_the_reason_of_the_takeover_that_comes_of_it_and_of_no_other() {
        let mut phases = Phases::default();
        let served = |phases: &mut Phases, epoch, at| {
            phases.note(&Note::Serving { epoch: Epoch(epoch) }, at, None);
        };
        phases.ordered(TakeReason::Switchover, 1);
        served(&mut phases, 2, 2);
        served(&mut phases, 3, 3);
        // Accepted, and the peer did not hand over: later it dies.
        phases.ordered(TakeReason::Switchover, 4);
        phases.note(&Note::Suspected, 5, None);
        served(&mut phases, 4, 6);
        // The same, and later it hands over for a reason of its own.
        phases.ordered(TakeReason::Failback, 7);
        served(&mut phases, 5, 8 + ORDER_HOLDS_MS);
        let why: Vec<String> = phases.all().into_iter().map(|one| one.why).collect();
        assert_eq!(why, ["Switchover", "", "", ""]);
    }

    #[test]
    fn a_handover_that_was_ordered_is_told_as_such_whoever_was_suspected_meanwhile() {
        use Note::{Released, StoodDown, Suspected};
        let read = |held, released| Note::Read {
            epoch: Epoch(1),
            until: failover::BootTime(0),
            held,
            released,
        };
        let released = Released { epoch: Epoch(1) };
        let heard_again = StoodDown {
            why: StandDown::PrimaryHeard,
        };
        let planned = [TakeReason::Switchover, TakeReason::Failback];
        let lost = [TakeReason::Expired, TakeReason::ContainerTerminated];
        // What was noted between the order and the takeover, and what is told of one that was planned, and of one because of a loss;
        // `None`: what was ordered.
        let cases = [
            (vec![read(true, true)], None, None),
            (vec![read(true, false)], None, None),
            (vec![read(false, false)], Some("NoHolder"), Some("NoHolder")),
            (vec![Suspected, read(true, true)], None, Some("HandedOver")),
            (
                vec![Suspected, read(true, false), released.clone()],
                None,
                Some("HandedOver"),
            ),
            (
                vec![Suspected, heard_again.clone(), read(true, true)],
                None,
                Some("HandedOver"),
            ),
            (
                vec![Suspected, read(true, false)],
                Some("PeerSuspected"),
                Some("PeerSuspected"),
            ),
            (
                vec![heard_again, Suspected, read(true, false)],
                Some("PeerSuspected"),
                Some("PeerSuspected"),
            ),
            (
                vec![Suspected, read(true, false), released, read(true, false)],
                Some("PeerSuspected"),
                Some("PeerSuspected"),
            ),
        ];
        for (notes, of_planned, of_lost) in cases {
            let orders = planned.map(|order| (order, of_planned));
            for (order, expected) in orders.into_iter().chain(lost.map(|order| (order, of_lost))) {
                let mut phases = Phases::default();
                phases.ordered(order, 0);
                for note in &notes {
                    phases.note(note, 1, None);
                }
                phases.note(&Note::Serving { epoch: Epoch(2) }, 2, None);
                let told = &phases.all()[0].why;
                assert_eq!(told, expected.unwrap_or(order.as_str()), "{order:?}, {notes:?}");
            }
        }
    }

    #[test]
    fn five_takeovers_are_remembered() {
        let steps: Vec<(u64, Step)> = (1..=9).map(|n| (n * 100, Step::Serving(n))).collect();
        let epochs: Vec<u64> = told(&steps).iter().map(|one| one.epoch).collect();
        assert_eq!(epochs, [5, 6, 7, 8, 9]);
    }
}
