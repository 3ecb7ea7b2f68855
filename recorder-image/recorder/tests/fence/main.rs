//! Two bugs of others, as tests of this code: HDFS-7065, and BookKeeper's lost acknowledged entry. Each is run on a build that is broken
//! on purpose, too, and has to show there.
#![cfg(feature = "sabotage")]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod media;

use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

use failover::{
    BootTime, Config, Effect, Epoch, Event, Health, Incarnation, Member, MemberName, MemberRef, Request,
    Settings, StoreId,
};
use media::{file, sample};
use recorder::local::ToRecorder;
use recorder::replicator::driver::fence;
use recorder::replicator::hub::Hub;
use recorder::replicator::keeper::{Keeper, Peer, Reply, Work};
use segment::inventory::Held;
use segment::{Catalogue, EpochSlots, Error, Role, SegmentFile, SegmentId, Volume};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

// ---- HDFS-7065: the check and the write of a fence were two steps, and a lower one undid a higher one.

/// Three that fence at once, on one volume, in all orders. Returns what is durable in the end, and what each found durable when it was
/// told that its own epoch is.
fn fence_at_once(dir: &Path, epochs: [u64; 3], atomic: bool) -> (u64, Vec<(u64, u64)>) {
    let volume = Volume::open(dir, Role::Replicator).unwrap();
    let slots = Mutex::new(EpochSlots::open(&volume).unwrap());
    let together = Barrier::new(3);
    let durable = || EpochSlots::open(&volume).unwrap().epoch();
    let told = std::thread::scope(|scope| {
        let one = |n: usize, epoch: u64| {
            let (slots, together, durable) = (&slots, &together, &durable);
            move || {
                if atomic {
                    together.wait();
                    fence(slots, Epoch(epoch)).unwrap();
                } else {
                    assert!(slots.lock().unwrap().epoch() < epoch, "the check");
                    // Everyone has checked before anyone writes; then they write in the order in which they are given.
                    for earlier in 0..3 {
                        together.wait();
                        if earlier == n {
                            slots.lock().unwrap().raise_unchecked(epoch).unwrap();
                        }
                    }
                    together.wait();
                }
                (epoch, durable())
            }
        };
        let threads: Vec<_> = epochs
            .into_iter()
            .enumerate()
            .map(|(n, e)| scope.spawn(one(n, e)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    (durable(), told)
}

/// Whether a member that starts with this epoch on its volume acknowledges a claim of `claimed`.
fn acknowledges(synced: u64, claimed: u64) -> bool {
    let name = |name| MemberName::new(name).unwrap();
    let reference = |member, store| MemberRef {
        member: name(member),
        store: StoreId::new(store).unwrap(),
        incarnation: Incarnation(1),
    };
    let config = Config {
        me: reference("front-1", "b"),
        peers: vec![name("front-0")],
        synced: Epoch(synced),
        settings: Settings::default(),
    };
    let request = Request {
        from: reference("front-0", "a"),
        epoch: Epoch(claimed),
        sequence: 1,
        claims: true,
        leash_ms: 600,
        health: Health::Fit,
        wants: None,
    };
    let mut member = Member::new(BootTime(1), config);
    let effects = member.step(BootTime(2), Event::RequestReceived(request));
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::SendAnswer { .. }))
}

#[test]
fn hdfs_7065() {
    let orders = [[2, 3, 4], [2, 4, 3], [3, 2, 4], [3, 4, 2], [4, 2, 3], [4, 3, 2]];
    let mut undone = 0;
    for epochs in orders {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let (durable, told) = fence_at_once(dir.path(), epochs, true);
            assert_eq!(durable, 4, "{epochs:?}");
            for (epoch, found) in told {
                assert!(found >= epoch, "{epoch} was said to be durable, {found} was");
                assert!(
                    !acknowledges(durable, epoch - 1),
                    "a fenced epoch is acknowledged"
                );
            }
        }
        // The same where check and write are two steps: for some order the highest is undone, and what it fenced is acknowledged.
        let dir = tempfile::tempdir().unwrap();
        let (durable, _) = fence_at_once(dir.path(), epochs, false);
        if durable < 4 {
            assert!(acknowledges(durable, 3), "{durable} is durable after {epochs:?}");
            undone += 1;
        }
    }
    assert!(undone > 0, "a fence of two steps was not found");
    println!("{undone} of {} orders undo a fence of two steps", orders.len());
}

// ---- BookKeeper: a recovery that did not fence closed a ledger below an entry that was acknowledged meanwhile.

/// More bytes than all else in a test.
const PROBE: usize = 1 << 20;

/// A replicator's keeper at work.
struct Keeping {
    volume: Arc<Volume>,
    hub: Arc<Hub>,
    work: mpsc::Sender<Work>,
    told: mpsc::UnboundedReceiver<ToRecorder>,
}

impl Keeping {
    fn start(dir: &Path) -> Self {
        let volume = Arc::new(Volume::open(dir, Role::Replicator).unwrap());
        let hub = Arc::new(Hub::new(volume.store(), &Catalogue::default()));
        let (tell, told) = mpsc::unbounded_channel();
        let (work, inbox) = mpsc::channel(16);
        let keeper = Keeper::new(Arc::clone(&volume), Arc::clone(&hub), tell).unwrap();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(keeper.run(inbox));
        });
        Self {
            volume,
            hub,
            work,
            told,
        }
    }

    /// The peer connects, and holds this much. Returns once the keeper has dealt with it.
    fn connect(&self, id: &SegmentId, length: u64) {
        let (replies, mut heard) = mpsc::channel(64);
        let held = Held {
            id: id.clone(),
            length,
            root: None,
            span_us: None,
            reclaimed: false,
        };
        let connected = Work::Connected {
            peer: Peer {
                member: "front-1".into(),
                store: id.store,
            },
            held: vec![held],
            replies,
        };
        self.work.blocking_send(connected).unwrap();
        self.settle(id, &mut heard);
    }

    /// The keeper answers in order: the credit for a payload comes after all that was asked before.
    fn settle(&self, id: &SegmentId, heard: &mut mpsc::Receiver<Reply>) {
        self.work
            .blocking_send(Work::Opened(id.clone(), vec![0; PROBE].into()))
            .unwrap();
        while !matches!(heard.blocking_recv(), Some(Reply::Credit(n)) if n >= PROBE as u64) {}
    }

    /// Whether the recorder was told that its segment may be sealed.
    fn may_seal(&mut self, id: &SegmentId) -> bool {
        let mut may = false;
        while let Ok(message) = self.told.try_recv() {
            may |= matches!(message, ToRecorder::TailComplete { id: of, .. } if of == *id);
        }
        may
    }
}

/// The recorder's recovery of a segment: what is whole of it is sealed.
fn recover(volume: &Volume, id: &SegmentId) -> u64 {
    let finished = SegmentFile::resume(volume, id).unwrap().finish();
    volume.sync().unwrap();
    let entry = finished.rename().unwrap().entry;
    volume.sync().unwrap();
    entry.length
}

/// A writer appends while recovery runs beside it. Returns the end that the peer acknowledged, and the length that was sealed.
fn recover_beside_a_late_append(fenced: bool) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let writing = Volume::open(dir.path(), Role::Recorder).unwrap();
    let mut keeping = Keeping::start(dir.path());
    let mut late = file(&writing, 1, 0);
    let id = late.header().id.clone();
    late.append(&[sample(0, true)], &[]).unwrap();
    let first = late.append(&[sample(1, false)], &[]).unwrap().end;
    writing.sync().unwrap();
    keeping.hub.grew(&id, first, !fenced);
    keeping.hub.acknowledge(&id, first);
    // The fence: only what no living recorder writes is recovered. Broken: the other start counts while this one lives.
    keeping.hub.set_alive(if fenced { 1 } else { 2 });
    keeping.connect(&id, first);
    let early = keeping.may_seal(&id).then(|| recover(&keeping.volume, &id));
    assert_eq!(early.is_some(), !fenced, "recovery runs beside the writer");
    // The other fence: no second recorder uses the volume while the first one does.
    let second = Volume::open(dir.path(), Role::Recorder);
    assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");

    let acknowledged = late.append(&[sample(2, false)], &[]).unwrap().end;
    writing.sync().unwrap();
    keeping.hub.grew(&id, acknowledged, false);
    keeping.hub.acknowledge(&id, acknowledged);

    drop((late, writing));
    let sealed = early.unwrap_or_else(|| {
        let _second = Volume::open(dir.path(), Role::Recorder).unwrap();
        keeping.hub.grew(&id, acknowledged, true);
        keeping.hub.set_alive(2);
        keeping.connect(&id, acknowledged);
        assert!(keeping.may_seal(&id), "a dead writer's segment is recovered");
        recover(&keeping.volume, &id)
    });
    (acknowledged, sealed)
}

#[test]
fn bookkeeper_lost_acknowledged_entry() {
    let (acknowledged, sealed) = recover_beside_a_late_append(true);
    assert!(
        sealed >= acknowledged,
        "{acknowledged} bytes were acknowledged, {sealed} are sealed"
    );
    let (acknowledged, sealed) = recover_beside_a_late_append(false);
    assert!(
        sealed < acknowledged,
        "a recovery that does not fence was not found"
    );
    println!(
        "without a fence {} acknowledged bytes are lost",
        acknowledged - sealed
    );
}

/// The other side: what comes on a connection after its copies were closed is neither kept nor acknowledged.
#[test]
fn bookkeeper_a_closed_copy_takes_no_late_append() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let writing = Volume::open(theirs.path(), Role::Recorder).unwrap();
    let mut live = file(&writing, 1, 0);
    let id = live.header().id.clone();
    let head = live.read_at(0, live.head_len() as usize).unwrap();
    let mut keeping = Keeping::start(ours.path());
    keeping.hub.set_alive(9);
    let (replies, mut heard) = mpsc::channel(64);
    let member = "front-0".to_owned();
    let (peer, held) = (
        Peer {
            member,
            store: id.store,
        },
        Vec::new(),
    );
    keeping
        .work
        .blocking_send(Work::Connected { peer, held, replies })
        .unwrap();
    keeping
        .work
        .blocking_send(Work::Opened(id.clone(), head))
        .unwrap();
    let mut ends = Vec::new();
    let mut append = |live: &mut SegmentFile, n: u64| {
        let added = live.append(&[sample(n, n == 0)], &[]).unwrap();
        let bytes = live
            .read_at(added.fragment.offset, added.fragment.len as usize)
            .unwrap();
        ends.push(added.end);
        Work::Append(id.clone(), added.fragment.offset, added.chain, bytes)
    };
    keeping.work.blocking_send(append(&mut live, 0)).unwrap();
    let late = append(&mut live, 1);
    keeping.work.blocking_send(Work::Disconnected).unwrap();
    keeping.work.blocking_send(late).unwrap();
    // The keeper lets go of the connection when it is closed: what it acknowledged is all there is.
    let mut acknowledged = 0;
    while let Some(reply) = heard.blocking_recv() {
        if let Reply::Ack(acks) = reply {
            acknowledged = acks.iter().map(|(_, end)| *end).fold(acknowledged, u64::max);
        }
    }
    keeping.connect(&id, 0);
    let closed = std::iter::from_fn(|| keeping.told.try_recv().ok());
    let partial = closed.filter_map(|m| match m {
        ToRecorder::ReceivedPartial { len, .. } => Some(len),
        _ => None,
    });
    assert_eq!(partial.last(), Some(ends[0]));
    assert_eq!(acknowledged, ends[0]);
    let copy = segment::scan::scan(&keeping.volume.open_path(&id)).unwrap();
    assert_eq!(copy.end, ends[0], "the late append is not in the copy");
}
