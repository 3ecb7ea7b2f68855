//! The own segments of dead incarnations: who may write to them, and until when.

use super::*;

/// What the peer says that it holds of a segment.
fn names(made: &Made, length: usize) -> Vec<Held> {
    vec![Held {
        id: made.id.clone(),
        length: length as u64,
        root: None,
        span_us: None,
        reclaimed: false,
    }]
}

/// A bed with the first half of an own segment that a dead incarnation left, which was not looked at yet.
fn bed(root: &Path) -> (Bed, Made) {
    let (mut bed, mut made) = Bed::over(root, |own| {
        let dead = Made::new(own, DEAD, 0);
        let half = dead.half();
        vec![(dead, half)]
    });
    // What was told of it on the first connection is another recorder's matter.
    bed.hub.set_alive(ALIVE + 1);
    bed.complete();
    (bed, made.pop().unwrap())
}

impl Bed {
    /// The ends at which the recorder was told to seal something since the last look.
    fn complete(&mut self) -> Vec<u64> {
        let told = std::iter::from_fn(|| self.told.try_recv().ok());
        let ends = told.filter_map(|message| match message {
            ToRecorder::TailComplete { end, .. } => Some(end),
            _ => None,
        });
        ends.collect()
    }

    fn length(&self, made: &Made) -> u64 {
        self.volume.open_path(&made.id).metadata().unwrap().len()
    }
}

#[test]
fn i2_nothing_comes_into_an_own_segment_that_the_recorder_may_be_sealing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, made) = bed(dir.path());
    let half = made.half() as u64;
    bed.connect(names(&made, made.half()));
    assert_eq!(bed.complete(), [half], "the peer has no more of it");
    bed.keeper.take(made.append(2));
    bed.keeper.commit();
    assert_eq!(bed.length(&made), half, "I2");
    assert_eq!(
        bed.acknowledged(),
        [(made.id.clone(), half)],
        "that is all there is"
    );
    // A peer that says something else now, while the recorder seals.
    bed.connect(names(&made, made.bytes.len()));
    bed.keeper.take(made.append(2));
    bed.keeper.commit();
    assert_eq!((bed.length(&made), bed.complete()), (half, vec![half]), "I2");
    // Another recorder knows of nothing.
    bed.hub.set_alive(ALIVE + 2);
    bed.keeper.take(Work::RecorderStarted);
    bed.keeper.take(made.append(2));
    bed.keeper.commit();
    assert_eq!(bed.length(&made), made.fragments[3].0);
}

#[test]
fn i2_a_file_that_another_may_seal_is_not_open_here() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, made) = bed(dir.path());
    bed.connect(names(&made, made.bytes.len()));
    bed.keeper.take(made.append(2));
    bed.keeper.commit();
    let end = made.fragments[3].0;
    assert_eq!(
        (bed.length(&made), bed.complete()),
        (end, vec![]),
        "one is lacking"
    );
    // A connection that replaced the first one, of which the end was not heard.
    bed.connect(names(&made, end as usize));
    assert_eq!(bed.complete(), [end]);
    bed.keeper.take(made.append(3));
    bed.keeper.commit();
    assert_eq!(bed.length(&made), end, "I2");
}

#[test]
fn a_tail_is_complete_when_all_of_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, made) = bed(dir.path());
    let all = made.bytes.len();
    bed.connect(names(&made, all));
    bed.keeper.take(made.append(2));
    bed.keeper.take(made.append(3));
    bed.keeper.take(made.seal());
    bed.keeper.commit();
    assert_eq!(
        (bed.complete(), bed.length(&made)),
        (vec![all as u64], all as u64)
    );
}

#[test]
fn an_own_segment_that_is_gone_here_comes_back_and_is_sealed_by_the_recorder() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, _) = Bed::over(dir.path(), |_| Vec::new());
    let made = Made::new(bed.volume.store(), DEAD, 0);
    bed.connect(names(&made, made.bytes.len()));
    bed.keeper.take(Work::Opened(made.id.clone(), made.head.clone()));
    bed.keeper.commit();
    (0..4).for_each(|n| bed.keeper.take(made.append(n)));
    bed.keeper.commit();
    assert_eq!(bed.complete(), [made.bytes.len() as u64]);
}

#[test]
fn a_tail_that_the_recorder_found_shorter_is_asked_for_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bed, made) = bed(dir.path());
    let (half, all) = (made.half() as u64, made.bytes.len());
    bed.connect(names(&made, made.half()));
    assert_eq!(bed.complete(), [half]);
    let end = made.fragments[1].0;
    std::fs::write(bed.volume.open_path(&made.id), &made.bytes[..end as usize]).unwrap();
    bed.keeper.take(Work::Shorter(made.id.clone(), end));
    assert!(matches!(bed.replies().last(), Some(Reply::Again(_))));
    assert_eq!(bed.hub.inventory()[0].length, end);
    bed.connect(names(&made, all));
    assert!(bed.complete().is_empty());
    bed.keeper.take(made.append(1));
    bed.keeper.commit();
    // The recorder was told twice before, and answers twice.
    bed.keeper.take(Work::Shorter(made.id.clone(), end));
    assert!(!bed.replies().iter().any(|reply| matches!(reply, Reply::Again(_))));
    (2..4).for_each(|n| bed.keeper.take(made.append(n)));
    bed.keeper.commit();
    assert_eq!(bed.complete(), [all as u64]);
}
