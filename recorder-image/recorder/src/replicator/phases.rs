//! When each phase of the last takeovers was, for people: wall-clock milliseconds since the Unix epoch.

use std::time::Duration;

use crds::member::FailoverReport;
use failover::{BootTime, Epoch, Note, TakeOrder, TakeReason};

/// How many takeovers are remembered.
const REMEMBERED: usize = 5;
/// What did not come of an order within this time does not come of it any more: the peer did not hand over. Whoever is to take from
/// one that is silent waits for 12.5 s at most.
const ORDER_HOLDS: Duration = Duration::from_secs(20);

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
    /// The epoch that is to end.
    ends: Epoch,
    until: BootTime,
    /// The peer was suspected, or taking was given up: a takeover may have another cause.
    in_doubt: bool,
}

impl Order {
    /// Whether it is what the end of this epoch is for. In doubt it is where the holder did what was ordered: it handed over.
    fn explains(&self, found: Found, ends: Epoch) -> bool {
        let followed = self.reason.is_planned() && found == Found::Released;
        self.ends == ends && (followed || !self.in_doubt)
    }
}

/// In one word why a takeover came about.
fn why(order: Option<Order>, found: Option<(Found, Epoch)>) -> &'static str {
    let Some((found, ends)) = found else { return "" };
    let order = order.filter(|order| order.explains(found, ends));
    match order {
        Some(order) if found != Found::NoHolder => order.reason.as_str(),
        _ => found.as_str(),
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

/// See the module. Every moment is passed in. What people are told is by the wall clock; nothing is decided by it.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    done: Vec<FailoverReport>,
    last_heard: Option<u64>,
    pending: Pending,
    /// It is used up by the next takeover: it is not what a later one is for.
    order: Option<Order>,
    /// And the epoch that ends.
    found: Option<(Found, Epoch)>,
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

    /// A takeover was ordered, and the order was accepted.
    pub fn ordered(&mut self, order: TakeOrder, now: BootTime) {
        self.order = Some(Order {
            reason: order.reason,
            ends: order.epoch,
            until: now + ORDER_HOLDS,
            // It may be that it takes already.
            in_doubt: self.pending.suspected.is_some(),
        });
    }

    /// Time passed: an order of long ago is no reason any more.
    pub fn lapse(&mut self, now: BootTime) {
        self.order = self.order.filter(|order| now < order.until);
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
            // This member's own swap, whose reply did not come: it took what was found before.
            Note::Read { mine: true, .. } if self.found.is_some() => self.pending.read = now,
            Note::Read {
                epoch,
                held,
                released,
                ..
            } => {
                self.pending.read = now;
                let found = match (held, released) {
                    (false, _) => Found::NoHolder,
                    (true, true) => Found::Released,
                    (true, false) => Found::Held,
                };
                self.found = Some((found, *epoch));
            }
            Note::Released { epoch } => self.found = Some((Found::Released, *epoch)),
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
        let why = why(self.order.take(), self.found.take());
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
    use failover::StandDown;

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

    const NOW: BootTime = BootTime(0);

    fn order(reason: TakeReason, epoch: u64) -> TakeOrder {
        let epoch = Epoch(epoch);
        TakeOrder { epoch, reason }
    }

    fn read(epoch: u64, held: bool, released: bool) -> Note {
        Note::Read {
            epoch: Epoch(epoch),
            until: NOW,
            held,
            released,
            mine: false,
        }
    }

    /// What this member's own swap wrote, of which it did not hear.
    fn read_mine(epoch: u64) -> Note {
        Note::Read {
            epoch: Epoch(epoch),
            until: NOW,
            held: true,
            released: false,
            mine: true,
        }
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
        phases.ordered(order(TakeReason::NoHolder, 1), NOW);
        let stood_down = Note::StoodDown {
            why: StandDown::PrimaryHeard,
        };
        let serving = Note::Serving { epoch: Epoch(2) };
        for note in [stood_down, Note::Suspected, read(1, true, false), serving] {
            phases.note(&note, 1, None);
        }
        assert_eq!(phases.all()[0].why, "PeerSuspected");
    }

    #[test]
    fn an_order_is_the_reason_of_the_takeover_that_comes_of_it_and_of_no_other() {
        let mut phases = Phases::default();
        // Of the epoch that ends, and what is told. Somebody set the clock back.
        let taken = |phases: &mut Phases, ends: u64, released: bool| {
            phases.note(&read(ends, true, released), 2, None);
            let epoch = Epoch(ends + 1);
            phases.note(&Note::Serving { epoch }, 1, None);
            phases.all().last().unwrap().why.clone()
        };
        phases.ordered(order(TakeReason::Switchover, 1), NOW);
        assert_eq!(taken(&mut phases, 1, true), "Switchover");
        assert_eq!(taken(&mut phases, 2, true), "HandedOver");
        // Accepted, and the peer did not hand over: later it dies.
        phases.ordered(order(TakeReason::Switchover, 3), NOW);
        phases.note(&Note::Suspected, 5, None);
        assert_eq!(taken(&mut phases, 3, false), "PeerSuspected");
        // The same, and the one that took instead hands over for a reason of its own.
        phases.ordered(order(TakeReason::Failback, 4), NOW);
        assert_eq!(taken(&mut phases, 5, true), "HandedOver");
        // The same, and it does so itself, long after.
        phases.ordered(order(TakeReason::Failback, 6), NOW);
        phases.lapse(NOW + ORDER_HOLDS);
        assert_eq!(taken(&mut phases, 6, true), "HandedOver");
        // It is slow.
        phases.ordered(order(TakeReason::Failback, 7), NOW);
        phases.lapse(NOW + ORDER_HOLDS / 2);
        assert_eq!(taken(&mut phases, 7, true), "Failback");
    }

    /// What is told of a takeover that was ordered between these notes.
    fn told_of(reason: TakeReason, before: &[Note], after: &[Note]) -> String {
        let mut phases = Phases::default();
        for note in before {
            phases.note(note, 1, None);
        }
        phases.ordered(order(reason, 1), NOW);
        for note in after {
            phases.note(note, 1, None);
        }
        phases.note(&Note::Serving { epoch: Epoch(2) }, 2, None);
        phases.all()[0].why.clone()
    }

    #[test]
    fn a_handover_that_was_ordered_is_told_as_such_whoever_was_suspected_meanwhile() {
        use Note::{Released, StoodDown, Suspected};
        let [held, given] = [false, true].map(|released| read(1, true, released));
        let vacant = read(1, false, false);
        let released = Released { epoch: Epoch(1) };
        let heard_again = StoodDown {
            why: StandDown::PrimaryHeard,
        };
        let (suspected, over) = (Some("PeerSuspected"), Some("HandedOver"));
        let planned = [TakeReason::Switchover, TakeReason::Failback];
        let lost = [TakeReason::Expired, TakeReason::ContainerTerminated];
        // What was noted before the order, and after it, and what is told of one that was planned, and of one because of a loss; `None`:
        // what was ordered.
        let cases = [
            (vec![], vec![given.clone()], None, None),
            (vec![], vec![held.clone()], None, None),
            (vec![], vec![vacant], Some("NoHolder"), Some("NoHolder")),
            (vec![], vec![Suspected, given.clone()], None, over),
            (
                vec![],
                vec![Suspected, held.clone(), released.clone()],
                None,
                over,
            ),
            (
                vec![],
                vec![Suspected, heard_again.clone(), given.clone()],
                None,
                over,
            ),
            (vec![], vec![Suspected, held.clone()], suspected, suspected),
            (
                vec![],
                vec![heard_again, Suspected, held.clone()],
                suspected,
                suspected,
            ),
            (
                vec![],
                vec![Suspected, held.clone(), released.clone(), held.clone()],
                suspected,
                suspected,
            ),
            (vec![Suspected], vec![held.clone()], suspected, suspected),
            (vec![Suspected, held.clone()], vec![], suspected, suspected),
            (vec![Suspected, held.clone()], vec![released], None, over),
            (vec![Suspected], vec![given.clone()], None, over),
            // The reply to the swap is lost.
            (vec![], vec![given.clone(), read_mine(2)], None, None),
            (vec![], vec![Suspected, given, read_mine(2)], None, over),
            (vec![], vec![Suspected, held, read_mine(2)], suspected, suspected),
            // It was the holder before it started.
            (vec![Suspected], vec![read_mine(1)], suspected, suspected),
        ];
        for (before, after, of_planned, of_lost) in cases {
            let orders = planned.map(|order| (order, of_planned));
            for (order, expected) in orders.into_iter().chain(lost.map(|order| (order, of_lost))) {
                let told = told_of(order, &before, &after);
                let expected = expected.unwrap_or(order.as_str());
                assert_eq!(told, expected, "{order:?}, {before:?}, {after:?}");
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
