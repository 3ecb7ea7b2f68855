//! What the replicator has to know of duplicates: what went never comes again, and the recorder knows what the peer pinned.

use super::*;

/// The line of an inventory of a segment.
fn held(made: &Made, reclaimed: bool) -> Held {
    Held {
        id: made.id.clone(),
        length: made.bytes.len() as u64,
        root: Some(made.entry.root),
        span_us: Some((made.entry.extent.start_us, made.entry.extent.end_us)),
        reclaimed,
    }
}

#[test]
fn what_was_reclaimed_counts_as_held_and_never_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, made) = Bed::over(dir.path(), |_| {
        let gone = Made::new(PEER, 1, 0);
        let all = gone.bytes.len();
        vec![(gone, all)]
    });
    let gone = &made[0];
    std::fs::remove_file(bed.volume.sealed_path(&gone.id)).unwrap();
    bed.hub.reclaimed(held(gone, true));
    assert_eq!(bed.hub.get(&gone.id), None);
    assert_eq!(bed.hub.inventory(), [held(gone, true)]);
    // The peer has it, and sends it: nobody waits for it, and nobody writes it.
    bed.connect(vec![held(gone, false)]);
    assert_eq!(bed.hub.lacking(), []);
    bed.keeper.take(Work::Opened(gone.id.clone(), gone.head.clone()));
    for n in 0..gone.fragments.len() {
        bed.keeper.take(gone.append(n));
    }
    bed.keeper.take(gone.seal());
    bed.keeper.commit();
    let acks = bed.acknowledged();
    assert!(
        acks.contains(&(gone.id.clone(), gone.bytes.len() as u64)),
        "{acks:?}"
    );
    assert_eq!(bed.volume.segments(STREAM).unwrap(), []);
    // What the peer has reclaimed is not to come, from either side.
    let other = Made::new(PEER, 1, 1);
    bed.connect(vec![held(&other, true)]);
    assert_eq!(bed.hub.lacking(), []);
    let theirs = [held(&other, true)];
    assert_eq!(segment::inventory::missing(&[], &theirs), []);
    assert_eq!(segment::inventory::missing(&theirs, &[held(&other, false)]), []);
    // It is here again, whoever brought it.
    bed.hub.sealed(&gone.entry.held());
    assert_eq!(bed.hub.inventory(), [held(gone, false)]);
}

#[test]
fn a_tail_that_the_peer_reclaimed_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, made) = Bed::over(dir.path(), |own| {
        let dead = Made::new(own, DEAD, 0);
        let half = dead.half();
        vec![(dead, half)]
    });
    let complete = |bed: &mut Bed| {
        std::iter::from_fn(|| bed.told.try_recv().ok())
            .any(|m| matches!(m, ToRecorder::TailComplete { id, .. } if id == made[0].id))
    };
    // A recorder that was not told anything yet.
    bed.hub.set_alive(ALIVE + 1);
    complete(&mut bed);
    bed.connect(vec![held(&made[0], false)]);
    assert!(!complete(&mut bed), "the peer has more of it");
    bed.connect(vec![held(&made[0], true)]);
    assert!(complete(&mut bed));
}

#[test]
fn the_recorder_knows_the_pins_of_this_connection_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, _) = Bed::over(dir.path(), |_| Vec::new());
    let pin = |sequence| Pin {
        duplicate: Made::new(PEER, 1, sequence).id,
        kept: vec![Made::new(PEER, 1, 9).id],
    };
    // What the recorder knows after all that it was told.
    let mut known = PeerPins::default();
    let mut told = |bed: &mut Bed| {
        while let Ok(message) = bed.told.try_recv() {
            if let ToRecorder::PeerPinned { pins, anew } = message {
                if anew {
                    known.clear();
                }
                known.hear(pins);
            }
        }
        known.iter().collect::<Vec<_>>()
    };
    bed.keeper.take(Work::Pinned(vec![pin(0)]));
    bed.keeper.take(Work::Pinned(vec![pin(1)]));
    assert_eq!(told(&mut bed), [pin(0), pin(1)]);
    // Another recorder has to be told again.
    bed.keeper.take(Work::RecorderStarted);
    assert_eq!(told(&mut bed), [pin(0), pin(1)]);
    bed.connect(Vec::new());
    assert_eq!(told(&mut bed), []);
    bed.keeper.take(Work::Pinned(vec![pin(2)]));
    assert_eq!(told(&mut bed), [pin(2)]);
    bed.keeper.take(Work::Disconnected);
    bed.keeper.take(Work::Pinned(vec![pin(3)]));
    assert_eq!(told(&mut bed), []);
}
