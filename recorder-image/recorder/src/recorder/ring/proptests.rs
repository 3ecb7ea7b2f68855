//! What holds for every sequence of events.

use std::collections::HashSet;

use proptest::prelude::*;

use super::tests::{frame, run};
use super::*;

#[derive(Clone, Debug)]
enum Event {
    Frame { key: bool, len: usize },
    Close,
    Start,
    Stop,
    Take(usize),
    Sync,
    Refuse,
    Received { back: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => (prop::bool::weighted(0.2), 0usize..2000).prop_map(|(key, len)| Event::Frame { key, len }),
        1 => Just(Event::Close),
        2 => Just(Event::Start),
        1 => Just(Event::Stop),
        4 => (0usize..20_000).prop_map(Event::Take),
        3 => Just(Event::Sync),
        1 => Just(Event::Refuse),
        2 => (0usize..4).prop_map(|back| Event::Received { back }),
    ]
}

/// Where each frame that was pushed is known to be.
#[derive(Default)]
struct World {
    pushed: Vec<Frame>,
    safe: HashSet<[u8; 16]>,
    lost: u64,
    taken: Vec<(u64, [u8; 16])>,
}

impl World {
    /// The groups that were closed, as a peer would send them.
    fn groups(&self) -> Vec<WholeGop> {
        let mut groups: Vec<WholeGop> = Vec::new();
        for f in &self.pushed {
            match groups.last_mut() {
                Some(g) if !f.key => g.hashes.push(f.hash),
                _ => groups.push(WholeGop {
                    start_us: f.wallclock_us,
                    hashes: vec![f.hash],
                }),
            }
        }
        groups.pop();
        groups
    }

    fn step(&mut self, ring: &mut Ring, n: u64, event: &Event) {
        match event {
            Event::Frame { key, len } => {
                let f = frame(&run(), n, *key, *len);
                let dropped = ring.push(f.clone()).map_or(0, |d| d.frames);
                self.lost += dropped;
                self.pushed.push(f);
            }
            Event::Close => ring.close_gop(),
            Event::Start if !ring.is_writing() => self.lost += ring.start().map_or(0, |d| d.frames),
            Event::Start => {}
            Event::Stop => {
                if ring.stop() {
                    self.sync(ring);
                }
            }
            Event::Take(max) => self
                .taken
                .extend(ring.take(*max).into_iter().map(|(s, f)| (s, f.hash))),
            Event::Sync => self.sync(ring),
            Event::Refuse => {
                self.taken.clear();
                self.lost += ring.rewind().map_or(0, |d| d.frames);
            }
            Event::Received { back } => {
                if let Some(gop) = self.groups().into_iter().rev().nth(*back) {
                    self.safe.extend(&gop.hashes);
                    ring.received(gop);
                }
            }
        }
    }

    fn sync(&mut self, ring: &mut Ring) {
        for (seq, hash) in self.taken.drain(..) {
            ring.durable(seq, seq + 1);
            self.safe.insert(hash);
        }
    }
}

proptest! {
    /// I12: a frame is in the ring, or durable, or was reported as dropped; and the ring is bounded.
    #[test]
    fn i12_no_frame_leaves_unseen(events in prop::collection::vec(event(), 1..400)) {
        let max_bytes = 40_000;
        let mut ring = Ring::new(Limits { max_bytes, preroll: Duration::from_millis(400) });
        let mut world = World::default();
        for (n, event) in events.iter().enumerate() {
            world.step(&mut ring, n as u64, event);
            prop_assert!(ring.bytes() <= max_bytes);
            let held: HashSet<_> = ring.frames().map(|f| f.hash).collect();
            let nowhere = world.pushed.iter().filter(|f| !held.contains(&f.hash) && !world.safe.contains(&f.hash));
            prop_assert!(nowhere.count() as u64 <= world.lost);
            let sum: usize = ring.frames().map(|f| f.cost()).sum();
            prop_assert_eq!(sum, ring.bytes());
        }
    }

    /// Each stretch that the writer takes starts with a key frame and skips nothing inside a group.
    #[test]
    fn the_writer_never_gets_a_torn_group(events in prop::collection::vec(event(), 1..400)) {
        let mut ring = Ring::new(Limits { max_bytes: 40_000, preroll: Duration::ZERO });
        let run = run();
        let (mut last, mut taken): (Option<u64>, Vec<u64>) = (None, Vec::new());
        for (n, event) in events.iter().enumerate() {
            match event {
                Event::Frame { key, len } => _ = ring.push(frame(&run, n as u64, *key, *len)),
                Event::Close => ring.close_gop(),
                Event::Start if !ring.is_writing() => {
                    let _ = ring.start();
                    last = None;
                }
                Event::Stop => _ = ring.stop(),
                Event::Take(max) => {
                    for (seq, f) in ring.take(*max) {
                        prop_assert!(f.key || last.is_some_and(|l| l + 1 == seq));
                        last = Some(seq);
                        taken.push(seq);
                    }
                }
                Event::Sync => taken.drain(..).for_each(|seq| ring.durable(seq, seq + 1)),
                Event::Refuse => {
                    taken.clear();
                    last = None;
                    let _ = ring.rewind();
                }
                _ => {}
            }
        }
    }
}
