//! Who looks for duplicates, and when.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc::Receiver;

use super::*;
use crate::local::{Authority, Peer, Role, ToRecorder};
use crate::recorder::state::tests::commanded;
use crate::recorder::writer::tests::reclaim::receive;

/// A member whose volume has a duplicate.
struct Bed {
    work: Work,
    shared: Arc<Shared>,
    inbox: Receiver<Command>,
    pin: Pin,
    at: Duration,
    _dir: tempfile::TempDir,
}

impl Bed {
    fn new(received_s: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (shared, inbox) = commanded(dir.path());
        let kept = vec![receive(&shared, 1, 0..60, 1)];
        let duplicate = receive(&shared, 2, 20..40, received_s);
        Self {
            work: Work::default(),
            shared,
            inbox,
            pin: Pin { duplicate, kept },
            at: Duration::from_secs(100),
            _dir: dir,
        }
    }

    /// A round a minute later, in which the peer is heard or not, and authority is here or not.
    fn round(&mut self, heard: bool, role: Role) -> Option<Command> {
        self.at += Duration::from_mins(1);
        let peer = Peer {
            heard,
            ..Peer::default()
        };
        self.shared.hear(ToRecorder::Peer(peer), self.at);
        self.shared.hear(
            ToRecorder::Authority(Authority {
                epoch: 1,
                role,
                deadline_boottime_ns: (self.at.as_nanos() + 1) as u64,
            }),
            self.at,
        );
        self.work.round(&self.shared, self.at, Duration::ZERO);
        // The first thing that the loop was asked but to look at its rings, for what is known of the peer changed.
        self.inbox
            .try_iter()
            .find(|command| !matches!(command, Command::Look))
    }

    fn tell(&self, pin: &Pin) {
        let (pins, anew) = (vec![pin.clone()], false);
        self.shared.hear(ToRecorder::PeerPinned { pins, anew }, self.at);
    }

    fn pins(&self, command: Option<Command>) -> bool {
        matches!(command, Some(Command::Pin(pin)) if pin == self.pin)
    }
}

#[test]
fn the_holder_proposes_what_is_settled() {
    let mut bed = Bed::new(2);
    assert!(bed.round(true, Role::Standby).is_none());
    let found = bed.round(true, Role::Primary);
    assert!(bed.pins(found));
    assert!(bed.round(true, Role::Primary).is_none(), "once");
    // Another start of its authority looks at everything anew.
    assert!(bed.round(true, Role::None).is_none());
    let again = bed.round(true, Role::Primary);
    assert!(bed.pins(again));
    let mut early = Bed::new(i64::MAX / 2);
    assert!(early.round(true, Role::Primary).is_none());
}

#[test]
fn i7_with_the_peer_silent_nothing_is_looked_for() {
    let mut bed = Bed::new(2);
    bed.tell(&bed.pin);
    assert!(bed.round(false, Role::Primary).is_none());
    bed.shared.catalogue().pin(bed.pin.clone(), 0);
    bed.shared.catalogue().pins_synced();
    assert!(bed.round(false, Role::Primary).is_none());
    let heard = bed.round(true, Role::Primary);
    assert!(matches!(heard, Some(Command::Reclaim(proof)) if *proof.pin() == bed.pin));
}

#[test]
fn a_pin_of_the_peer_is_written_only_where_this_side_finds_the_same() {
    let mut bed = Bed::new(2);
    let other = Pin {
        duplicate: bed.pin.kept[0].clone(),
        kept: vec![bed.pin.duplicate.clone()],
    };
    bed.tell(&other);
    assert!(bed.round(true, Role::Standby).is_none());
    bed.tell(&bed.pin);
    let found = bed.round(true, Role::Standby);
    assert!(bed.pins(found));
}
