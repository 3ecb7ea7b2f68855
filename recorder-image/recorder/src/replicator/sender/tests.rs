//! What is sent, in which order, and how it is cut.
#![allow(clippy::unwrap_used)]

use segment::{Catalogue, Header, Role, Sample, SegmentFile};
use uuid::Uuid;

use super::*;
use crate::fixtures::{header, track};
use crate::wire::halves;

/// The volume of the peer.
const PEER: Uuid = Uuid::from_u128(3);

/// Boxes of 12 bytes each.
fn boxes(kinds: &[&[u8; 4]]) -> Vec<u8> {
    let one = |kind: &&[u8; 4]| [&12u32.to_be_bytes()[..], &kind[..], &[0; 4]].concat();
    kinds.iter().flat_map(one).collect()
}

#[test]
fn a_fragment_is_four_boxes_and_with_sound_six() {
    let plain = boxes(&[b"prft", b"uuid", b"moof", b"mdat"]);
    let sound = [&plain[..], &boxes(&[b"moof", b"mdat"])].concat();
    let next = boxes(&[b"prft"]);
    assert_eq!(fragment_len(&plain, true), Some(48));
    assert_eq!(fragment_len(&plain, false), None, "sound may follow");
    assert_eq!(fragment_len(&[&plain[..], &next].concat(), false), Some(48));
    for last in [true, false] {
        assert_eq!(fragment_len(&sound, last), Some(72));
        assert_eq!(fragment_len(&[&sound[..], &next].concat(), last), Some(72));
        assert_eq!(fragment_len(&sound[..71], last), None, "torn");
        assert_eq!(fragment_len(&plain[..47], last), None, "torn");
    }
}

/// A volume of which the peer has nothing.
struct Side {
    volume: Arc<Volume>,
    hub: Arc<Hub>,
    _dir: tempfile::TempDir,
}

impl Side {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let volume = Arc::new(Volume::open(dir.path(), Role::Recorder).unwrap());
        let hub = Arc::new(Hub::new(volume.store(), &Catalogue::default()));
        Self {
            volume,
            hub,
            _dir: dir,
        }
    }

    /// A segment that begins in a second, of which one turn of backfill is not enough.
    fn open(&self, stream: u128, sequence: u64, second: u64) -> SegmentFile {
        let id = SegmentId {
            stream: Uuid::from_u128(stream),
            store: self.volume.store(),
            ..id(sequence)
        };
        let header = Header {
            opened_us: second as i64 * 1_000_000,
            ..header(id)
        };
        let mut file = SegmentFile::create(&self.volume, header, &track()).unwrap();
        for n in 0..3 {
            file.append(&[sample(second, n)], &[]).unwrap();
        }
        file
    }

    fn sealed(&self, stream: u128, sequence: u64, second: u64) {
        let entry = self
            .open(stream, sequence, second)
            .finish()
            .rename()
            .unwrap()
            .entry;
        self.hub.sealed(&entry.held());
    }

    fn live(&self, stream: u128, sequence: u64, second: u64) {
        let file = self.open(stream, sequence, second);
        self.hub.grew(&file.header().id, file.end(), false);
    }

    /// The segments that a peer with nothing is sent, in this order, until so many are whole; those that are sealed with a mark.
    async fn sent(&self, until: usize) -> Vec<(u64, &'static str)> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let ((from, to), (mut theirs, mut ours)) = (halves(near), halves(far));
        let (acks, _acked) = mpsc::channel(8);
        let serving = serve(
            from,
            to,
            Arc::clone(&self.volume),
            Arc::clone(&self.hub),
            PEER,
            acks,
        );
        let serving = tokio::spawn(serving);
        let nothing = Message::Inventory {
            held: Vec::new(),
            declined: Vec::new(),
            floors: Vec::new(),
            last: true,
            levels: false,
            pins: false,
        };
        ours.send(nothing).await.unwrap();
        read_inventory(&mut theirs).await.unwrap();
        ours.send(Message::Credit(64 << 20)).await.unwrap();
        let mut sent = Vec::new();
        while sent.iter().filter(|(_, what)| *what == "sealed").count() < until {
            sent.push(match theirs.next().await.unwrap().0 {
                Message::Opened { id } | Message::Append { id, .. } => (id.sequence, "sent"),
                Message::Seal { id, .. } => (id.sequence, "sealed"),
                other => panic!("{other:?}"),
            });
        }
        serving.abort();
        sent.dedup();
        sent
    }
}

fn id(sequence: u64) -> SegmentId {
    SegmentId {
        stream: Uuid::nil(),
        store: Uuid::nil(),
        member: "front-0".into(),
        incarnation: 1,
        sequence,
    }
}

/// Frame `n` of a segment, 200 KiB.
fn sample(second: u64, n: u64) -> Sample {
    let mut data = (200_u32 << 10).to_be_bytes().to_vec();
    data.push(if n == 0 { 0x65 } else { 0x41 });
    data.resize(4 + (200 << 10), 7);
    Sample {
        hash: segment::nal::frame_hash(&data, false),
        data: data.into(),
        key: n == 0,
        dts: n * 3600,
        cts: 0,
        duration: 3600,
        wallclock_us: second as i64 * 1_000_000 + n as i64 * 40_000,
    }
}

#[tokio::test]
async fn live_media_goes_first_and_then_what_is_lacking_the_newest_first() {
    let side = Side::new();
    // Neither in the order of streams nor of numbers.
    let lacking = [(1, 0, 30), (1, 1, 10), (1, 2, 50), (2, 3, 20), (2, 4, 40)];
    for (stream, sequence, second) in lacking {
        side.sealed(stream, sequence, second);
    }
    side.live(2, 5, 5);
    let sent = tokio::time::timeout(Duration::from_mins(1), side.sent(lacking.len())).await;
    let expected: Vec<(u64, &str)> = [2, 4, 0, 3, 1]
        .into_iter()
        .flat_map(|sequence| [(sequence, "sent"), (sequence, "sealed")])
        .collect();
    assert_eq!(sent.unwrap(), [vec![(5, "sent")], expected].concat());
}

#[tokio::test]
async fn a_change_that_was_missed_ends_the_connection() {
    let (tell, mut changes) = broadcast::channel(2);
    let change = |n| Change {
        id: id(n),
        from: None,
    };
    let mut taken = Vec::new();
    tell.send(change(1)).unwrap();
    let work = async {
        // More than wait, one after the other.
        for n in 2..9 {
            tell.send(change(n)).unwrap();
            tokio::task::yield_now().await;
        }
        "done"
    };
    let done = meanwhile(work, &mut changes, |change| taken.push(change.id.sequence)).await;
    assert_eq!(done.unwrap(), "done");
    assert_eq!(taken, [1, 2, 3, 4, 5, 6, 7, 8]);
    (2..5).for_each(|n| drop(tell.send(change(n))));
    assert!(
        meanwhile(std::future::pending::<()>(), &mut changes, |_| {})
            .await
            .is_err()
    );
    drop(tell);
    assert!(meanwhile(async {}, &mut changes, |_| {}).await.is_ok());
}

/// A large archive: many changes are written while both say what they hold, and what the peer was not told of is no backfill.
#[tokio::test]
async fn what_changes_while_inventories_are_exchanged_is_sent_and_ends_nothing() {
    let side = Side::new();
    let grows = side.open(1, 0, 50);
    let named = |n| SegmentId {
        store: side.volume.store(),
        ..id(n)
    };
    // So many that they do not fit into the connection at once.
    (100..3000).for_each(|n| side.hub.grew(&named(n), 10, true));
    let (near, far) = tokio::io::duplex(1 << 16);
    let ((from, to), (mut theirs, mut ours)) = (halves(near), halves(far));
    let (acks, _acked) = mpsc::channel(8);
    let (volume, hub) = (Arc::clone(&side.volume), Arc::clone(&side.hub));
    let serving = tokio::spawn(serve(from, to, volume, hub, PEER, acks));
    let changes = async || {
        // It is news each time.
        for n in 0..20_000_u64 {
            let partial = n.is_multiple_of(2);
            side.hub.grew(&grows.header().id, grows.end(), partial);
            if n.is_multiple_of(100) {
                tokio::task::yield_now().await;
            }
        }
    };
    let page = |held, last| Message::Inventory {
        held,
        declined: Vec::new(),
        floors: Vec::new(),
        last,
        levels: true,
        pins: false,
    };
    ours.send(page(side.hub.inventory(), false)).await.unwrap();
    changes().await;
    ours.send(page(Vec::new(), true)).await.unwrap();
    changes().await;
    side.sealed(1, 1, 60);
    let held = read_inventory(&mut theirs).await.unwrap().held;
    assert!(held.iter().all(|held| held.id.sequence != 1), "it came later");
    ours.send(Message::Credit(64 << 20)).await.unwrap();
    let mut sent = Vec::new();
    loop {
        match theirs.next().await.unwrap().0 {
            Message::Seal { id, .. } => sent.push(id.sequence),
            Message::Level => break,
            _ => {}
        }
    }
    assert_eq!(sent, [1], "before it is told that all was sent");
    serving.abort();
}

/// The volume that the peer had before was lost while the last of it was on its way here: the new one has to get that, too.
#[test]
fn the_last_that_came_of_a_lost_volume_is_news_to_the_next_one() {
    let (here, lost) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let table = [
        // Who wrote it, which volume sent it, and whether it is news.
        ((here, None), true),
        ((PEER, None), false),
        ((lost, None), false),
        ((PEER, Some(PEER)), false),
        ((lost, Some(PEER)), false),
        ((here, Some(PEER)), false),
        ((lost, Some(lost)), true),
        ((here, Some(lost)), true),
    ];
    for ((store, from), is_news) in table {
        let id = SegmentId { store, ..id(1) };
        let told = news(Change { id, from }, here, PEER);
        assert_eq!(told.is_some(), is_news, "{store} from {from:?}");
    }
}

#[tokio::test]
async fn an_inventory_without_an_end_is_refused() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let ((mut from, _to), (_theirs, mut ours)) = (halves(near), halves(far));
    let endless = tokio::spawn(async move {
        let mut n = 0;
        loop {
            let declined = (n..n + 8_000).map(id).collect();
            n += 8_000;
            let page = Message::Inventory {
                held: Vec::new(),
                declined,
                floors: Vec::new(),
                last: false,
                levels: false,
                pins: false,
            };
            if ours.send(page).await.is_err() {
                return n;
            }
        }
    });
    let read = tokio::time::timeout(Duration::from_mins(1), read_inventory(&mut from)).await;
    assert!(read.unwrap().is_err());
    drop(from);
    endless.abort();
}

#[tokio::test]
async fn nobody_waits_for_what_cannot_be_read() {
    let side = Side::new();
    side.sealed(1, 0, 30);
    side.sealed(1, 1, 10);
    let lost = SegmentId {
        stream: Uuid::from_u128(1),
        store: side.volume.store(),
        ..id(0)
    };
    std::fs::remove_file(side.volume.sealed_path(&lost)).unwrap();
    let sent = tokio::time::timeout(Duration::from_mins(1), side.sent(1))
        .await
        .unwrap();
    assert_eq!(sent, [(1, "sent"), (1, "sealed")]);
    let held = SegmentId {
        sequence: 1,
        ..lost.clone()
    };
    side.hub.acknowledge(&held, side.hub.get(&held).unwrap().end);
    let figures = side.hub.figures();
    assert_eq!((figures.peer.backfill_bytes, figures.unreadable), (0, 1));
    side.hub.evicted(&lost, 0);
    side.hub.unreadable(&lost);
    assert_eq!(side.hub.figures().unreadable, 0, "it left by retention");
}
