//! Tables, and two members that talk.

mod search;

use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;

use super::holder::{Case, Place, decide};
use super::*;

const LEASH: Duration = Duration::from_millis(600);
const S: u8 = 7;

fn ms(ms: u64) -> BootTime {
    BootTime(ms * 1_000_000)
}

/// One that just started, and was told of no stream.
fn started(me: u64) -> Streams<u8> {
    Streams::new(Incarnation(me), Policy::default(), LEASH)
}

fn streams(me: u64) -> Streams<u8> {
    let mut streams = started(me);
    streams.set_idle([]);
    streams
}

/// A member of two streams.
impl Streams<u8> {
    fn set_faults(&mut self, faults: impl IntoIterator<Item = (u8, Fault)>, now: BootTime) {
        let received = Received {
            known: vec![S, S + 1],
            faults: faults.into_iter().collect(),
            idle: self.own.idle.iter().copied().collect(),
        };
        self.set_received(received, now);
    }

    fn set_idle(&mut self, idle: impl IntoIterator<Item = u8>) {
        let faults = self.own.faults.iter();
        let received = Received {
            known: vec![S, S + 1],
            faults: faults.map(|(key, (fault, _))| (*key, *fault)).collect(),
            idle: idle.into_iter().collect(),
        };
        self.set_received(received, ms(0));
    }
}

fn holder() -> Standing {
    Standing {
        held: Some(Epoch(5)),
        floor: Epoch(5),
        leash: LEASH * 3,
        peer_fit: true,
        peer_suspected: false,
        peer_claims: false,
    }
}

fn follower() -> Standing {
    Standing {
        held: None,
        peer_claims: true,
        ..holder()
    }
}

const SILENT: Option<Why> = Some(Why::Fault(Fault::Silent));

fn away(well: Option<u64>) -> Place {
    Place::There {
        until: ms(0),
        well: well.map(ms),
    }
}

/// What is decided 100 s after the start, where faults and good times begin at these moments, in milliseconds.
fn decided(place: Place, own: Option<u64>, peers: Option<u64>) -> Option<Why> {
    decide(&case(place, own, peers))
}

fn case(place: Place, own: Option<u64>, peers: Option<u64>) -> Case {
    let silent = |since: u64| (Fault::Silent, ms(since));
    Case {
        now: ms(100_000),
        place,
        held_off: ms(0),
        own: own.map(silent),
        own_again: None,
        idle: false,
        peers: peers.map(silent),
        peer_again: None,
        peer_idle: false,
        peer_told: true,
        peer_hears: true,
        peer_suspected: false,
        policy: Policy::default(),
    }
}

#[test]
fn a_stream_moves_where_its_owner_alone_is_blind() {
    let here = Place::Here;
    assert_eq!(decided(here, None, None), None, "all is well");
    assert_eq!(decided(here, Some(99_000), None), SILENT);
    assert_eq!(decided(here, Some(99_001), None), None, "not for long yet");
    assert_eq!(decided(here, Some(0), Some(0)), None, "both are blind");
    let blind = case(here, Some(0), None);
    let again = |counts| Case {
        peer_again: Some(ms(counts)),
        ..blind
    };
    assert_eq!(decide(&again(100_001)), None, "the follower was the first only");
    assert_eq!(decide(&again(100_000)), SILENT, "the holder does not follow");
    let new = Case {
        peer_told: false,
        ..blind
    };
    assert_eq!(decide(&new), None, "the follower does not know of it yet");
    let deaf = Case {
        peer_hears: false,
        ..blind
    };
    assert_eq!(decide(&deaf), None, "nobody answers");
    let moved = Case {
        held_off: ms(100_001),
        ..blind
    };
    assert_eq!(decide(&moved), None, "it moved just now");
}

#[test]
fn a_stream_returns_where_the_holder_receives_it_and_should_have_it() {
    assert_eq!(decided(away(None), Some(0), None), None, "away, and well");
    assert_eq!(decided(away(Some(99_000)), None, Some(99_000)), SILENT);
    let blind = case(away(Some(95_000)), None, Some(0));
    let again = |counts| Case {
        own_again: Some(ms(counts)),
        ..blind
    };
    assert_eq!(decide(&again(100_001)), None, "the holder was the first only");
    assert_eq!(decide(&again(100_000)), SILENT, "the follower does not follow");
    assert_eq!(decided(away(None), Some(0), Some(0)), None, "blind here too");
    assert_eq!(decided(away(Some(40_000)), None, None), Some(Why::Returned));
    assert_eq!(
        decided(away(Some(40_001)), None, None),
        None,
        "not for a minute yet"
    );
    let well = case(away(Some(0)), None, None);
    let hold = Policy { failback_after: None };
    assert_eq!(decide(&Case { policy: hold, ..well }), None, "by policy it stays");
    let deaf = Case {
        peer_hears: false,
        ..well
    };
    assert_eq!(decide(&deaf), Some(Why::FollowerSilent));
    let settling = Place::Settling {
        until: ms(0),
        after: 0,
    };
    assert_eq!(decided(settling, Some(0), None), None, "on its way");
}

#[test]
fn nothing_moves_to_a_member_that_is_idle() {
    let blind = case(Place::Here, Some(0), None);
    assert_eq!(decide(&blind), SILENT);
    let resting = Case {
        peer_idle: true,
        ..blind
    };
    assert_eq!(decide(&resting), None, "it has to show first that it receives it");
    let moved = Case {
        idle: true,
        ..case(away(Some(0)), None, Some(0))
    };
    assert_eq!(decide(&moved), None, "the holder too");
}

/// Both members of a pair, and what they say to each other.
struct Two {
    primary: Streams<u8>,
    standby: Streams<u8>,
}

impl Two {
    fn new() -> Self {
        let mut two = Self {
            primary: streams(1),
            standby: streams(2),
        };
        two.talk(0);
        two
    }

    /// One exchange of words, after time passed on both sides.
    fn talk(&mut self, at: u64) -> Vec<Moved<u8>> {
        let mut moved = self.primary.advance(ms(at), holder());
        self.standby.advance(ms(at), follower());
        for _ in 0..2 {
            let word = self.primary.word(ms(at));
            self.standby.hear(word, ms(at));
            let word = self.standby.word(ms(at));
            self.primary.hear(word, ms(at));
            moved.extend(self.primary.advance(ms(at), holder()));
        }
        moved
    }

    fn talk_until(&mut self, from: u64, to: u64) -> Vec<Moved<u8>> {
        (from..=to).step_by(50).flat_map(|at| self.talk(at)).collect()
    }

    /// Who claims the stream, by each one's own word and by the other's view of it.
    fn claims(&self, at: u64) -> (bool, bool) {
        let at = ms(at);
        let (p, s) = (self.primary.share(at).claims(S), self.standby.share(at).claims(S));
        assert_eq!(self.standby.peer_share(at).claims(S), p, "the standby's view");
        assert_eq!(self.primary.peer_share(at).claims(S), s, "the primary's view");
        (p, s)
    }
}

#[test]
fn a_silent_stream_moves_alone_and_returns_after_a_quiet_time() {
    let mut two = Two::new();
    assert_eq!(two.claims(0), (true, false));
    two.primary.set_faults([(S, Fault::Silent)], ms(1000));
    assert_eq!(two.talk_until(1000, 1950), []);
    let moved = two.talk(2000);
    assert_eq!(moved.len(), 1);
    assert!(moved[0].to_follower && moved[0].stream == S);
    assert_eq!(two.claims(2000), (false, true));
    assert!(two.primary.share(ms(2000)).claims(S + 1), "no other moves");
    assert_eq!(two.standby.share(ms(2000)).epoch(S), 1);
    assert_eq!(two.talk_until(2050, 2950), []);
    two.primary.set_faults([], ms(3000));
    assert_eq!(two.talk_until(3000, 62_950), []);
    let returned = two.talk(63_000);
    assert_eq!(returned[0].why, Why::Returned);
    two.talk(63_050);
    assert_eq!(two.claims(63_050), (true, false));
    assert_eq!(
        two.primary.share(ms(63_050)).epoch(S),
        2,
        "stream epochs only rise"
    );
    assert_eq!((two.primary.moves(), two.primary.away().len()), (2, 0));
}

/// Both are blind for ten seconds, and this one is the first to receive the camera again.
fn moved_where_one_is_the_first(holder_is_first: bool, ahead: u64) -> usize {
    let mut two = Two::new();
    let silent = [(S, Fault::Silent)];
    two.primary.set_faults(silent, ms(1000));
    two.standby.set_faults(silent, ms(1050));
    let mut moved = two.talk_until(1050, 10_950);
    let first = if holder_is_first {
        &mut two.primary
    } else {
        &mut two.standby
    };
    first.set_faults([], ms(11_000));
    moved.extend(two.talk_until(11_000, 10_950 + ahead));
    two.primary.set_faults([], ms(11_000 + ahead));
    two.standby.set_faults([], ms(11_000 + ahead));
    moved.extend(two.talk_until(11_000 + ahead, 20_000));
    moved.len()
}

#[test]
fn a_camera_that_comes_back_moves_nothing_where_both_receive_it_almost_at_once() {
    // The other one just missed a key frame, of groups of one, two and four seconds.
    for ahead in [950, 1_200, 2_200, 4_200] {
        for holder_is_first in [false, true] {
            assert_eq!(moved_where_one_is_the_first(holder_is_first, ahead), 0, "{ahead}");
        }
    }
    assert_eq!(
        moved_where_one_is_the_first(false, 5500),
        1,
        "the holder stays blind"
    );
    assert_eq!(
        moved_where_one_is_the_first(true, 5500),
        0,
        "the holder has it already"
    );
}

#[test]
fn a_stream_moves_to_a_standby_that_was_idle_once_it_receives_it_and_stays() {
    let mut two = Two::new();
    two.standby.set_idle([S]);
    two.primary.set_faults([(S, Fault::Silent)], ms(0));
    assert_eq!(two.talk_until(0, 1950), []);
    // It heard of it, and connects.
    two.standby.set_idle([]);
    two.standby.set_faults([(S, Fault::Silent)], ms(2000));
    assert_eq!(two.talk_until(2000, 2950), []);
    two.standby.set_faults([], ms(3000));
    assert_eq!(two.talk_until(3000, 3950), []);
    assert!(two.talk(4000)[0].to_follower);
    // Now the primary rests: well or not, nobody knows.
    two.primary.set_faults([], ms(4050));
    two.primary.set_idle([S]);
    assert_eq!(two.talk_until(4050, 600_000), []);
    assert_eq!(two.claims(600_000), (false, true));
    // It wakes, and returns as soon.
    two.standby.set_faults([(S, Fault::Silent)], ms(600_050));
    assert_eq!(two.talk_until(600_050, 600_100), []);
    two.primary.set_faults([(S, Fault::Silent)], ms(600_150));
    two.primary.set_idle([]);
    assert_eq!(two.talk_until(600_150, 603_950), []);
    two.primary.set_faults([], ms(604_000));
    assert_eq!(two.talk_until(604_000, 604_950), []);
    assert!(!two.talk(605_000)[0].to_follower);
}

#[test]
fn who_wakes_and_finds_no_camera_either_is_the_first_only() {
    let mut two = Two::new();
    let silent = [(S, Fault::Silent)];
    two.standby.set_idle([S]);
    two.primary.set_faults(silent, ms(0));
    two.talk_until(0, 100);
    two.standby.set_idle([]);
    two.standby.set_faults(silent, ms(150));
    assert_eq!(two.talk_until(150, 9950), []);
    two.standby.set_faults([], ms(10_000));
    assert_eq!(two.talk_until(10_000, 14_950), []);
    assert!(two.talk(15_000)[0].to_follower, "the primary does not follow");
}

#[test]
fn nothing_moves_to_a_member_that_does_not_know_the_stream_yet() {
    // The new configuration comes to the primary first, or the standby has just started and was told of none.
    for known in [vec![S + 1], vec![]] {
        let mut two = Two::new();
        two.standby = started(3);
        let mut received = Received {
            known,
            faults: vec![],
            idle: vec![],
        };
        two.standby.set_received(received.clone(), ms(0));
        two.talk_until(0, 950);
        two.primary.set_faults([(S, Fault::Silent)], ms(1000));
        assert_eq!(two.talk_until(1000, 60_000), []);
        assert_eq!(two.claims(60_000), (true, false));
        let there: Vec<u8> = two.primary.not_with_peer().collect();
        assert_eq!(there, [S], "what the primary's recorder is told");
        // It comes to the standby too, which connects.
        received.known = vec![S, S + 1];
        received.faults = vec![(S, Fault::Silent)];
        two.standby.set_received(received.clone(), ms(60_050));
        assert_eq!(two.talk_until(60_050, 60_950), []);
        received.faults = vec![];
        two.standby.set_received(received, ms(61_000));
        assert_eq!(two.talk_until(61_000, 61_950), []);
        assert!(two.talk(62_000)[0].to_follower);
    }
}

#[test]
fn a_member_at_rest_is_told_what_its_peer_does_not_know_yet() {
    let mut two = Two::new();
    let told = |two: &Two| two.standby.not_with_peer().collect::<Vec<u8>>();
    let received = |known: &[u8], idle: &[u8]| Received {
        known: known.to_vec(),
        faults: vec![],
        idle: idle.to_vec(),
    };
    // The configuration with a new stream comes to the standby first.
    two.primary.set_received(received(&[S + 1], &[]), ms(50));
    two.standby
        .set_received(received(&[S, S + 1], &[S, S + 1]), ms(50));
    two.talk_until(50, 100);
    assert_eq!(told(&two), [S], "its recorder receives it then");
    two.standby.set_received(received(&[S, S + 1], &[S + 1]), ms(110));
    two.talk_until(110, 140);
    assert_eq!(told(&two), [S], "and goes on");
    two.primary.set_received(received(&[S, S + 1], &[]), ms(150));
    two.talk_until(150, 200);
    assert!(told(&two).is_empty(), "and rests again");
    two.standby
        .set_received(received(&[S, S + 1], &[S, S + 1]), ms(210));
    // It is taken away again. One that knows it no more does not keep the other one naming it.
    two.primary.set_received(received(&[S + 1], &[]), ms(250));
    two.talk_until(250, 300);
    assert_eq!(told(&two), [S]);
    two.standby.set_received(received(&[S, S + 1], &[S + 1]), ms(310));
    two.talk_until(310, 340);
    assert_eq!(told(&two), [S]);
    two.standby.set_received(received(&[S + 1], &[S + 1]), ms(350));
    two.talk_until(350, 400);
    for member in [&two.primary, &two.standby] {
        let named = [member.own_unknown().count(), member.own_asked().count()];
        assert_eq!((named, member.not_with_peer().find(|k| *k == S)), ([0, 0], None));
    }
}

#[test]
fn who_has_just_started_is_well_at_nothing_before_it_was_told_what_the_other_one_lost() {
    let mut two = Two::new();
    let silent = [(S, Fault::Silent)];
    two.primary.set_faults(silent, ms(50));
    two.standby.set_faults(silent, ms(50));
    assert_eq!(two.talk_until(50, 10_000), []);
    two.standby = started(3);
    two.standby.advance(ms(10_050), follower());
    let first = two.standby.word(ms(10_050));
    assert!(first.heard.is_none() && first.idle.is_empty() && first.unknown.is_empty());
    two.primary.hear(first, ms(10_050));
    assert_eq!(two.primary.advance(ms(10_050), holder()), []);
    assert_eq!(two.talk_until(10_100, 20_000), []);
    // Its recorder does not find the camera either. When it is back, the standby has a key frame first.
    two.standby.set_faults(silent, ms(20_050));
    assert_eq!(two.talk_until(20_050, 30_000), []);
    two.standby.set_faults([], ms(30_050));
    assert_eq!(two.talk_until(30_050, 34_900), []);
    two.primary.set_faults([], ms(34_950));
    assert_eq!(two.talk_until(34_950, 50_000), []);
}

#[test]
fn a_recorder_that_died_receives_nothing_before_the_next_one_says_so() {
    let mut two = Two::new();
    two.talk_until(0, 1000);
    two.standby.recorder_died();
    two.primary.set_faults([(S, Fault::Silent)], ms(1050));
    assert_eq!(two.talk_until(1050, 10_000), []);
    two.standby.set_faults([], ms(10_050));
    assert!(two.talk(10_050)[0].to_follower);
}

#[test]
fn ownership_does_not_flap() {
    let mut two = Two::new();
    let mut moves = 0;
    for at in (0..600_000).step_by(50) {
        // Each side is blind in turn, for 1.5 s.
        let blind = at / 1500 % 2;
        let faults = |side| (side == blind).then_some((S, Fault::Broken));
        two.primary.set_faults(faults(0), ms(at));
        two.standby.set_faults(faults(1), ms(at));
        moves += two.talk(at).len();
    }
    assert!((4..=12).contains(&moves), "{moves} moves in ten minutes");
}

#[test]
fn a_delegation_ends_with_the_epoch_and_with_the_holders_words() {
    let mut two = Two::new();
    two.primary.set_faults([(S, Fault::Frozen)], ms(0));
    two.talk_until(0, 1000);
    assert_eq!(two.claims(1000), (false, true));
    assert!(two.standby.share(ms(1599)).claims(S));
    assert!(!two.standby.share(ms(1600)).claims(S), "one leash without a word");
    let newer = Standing {
        floor: Epoch(6),
        ..follower()
    };
    two.standby.advance(ms(1100), newer);
    assert!(!two.standby.share(ms(1100)).claims(S), "another epoch");
    // The new holder begins with everything, and moves at once what it does not receive.
    let taken = Standing {
        held: Some(Epoch(6)),
        floor: Epoch(6),
        ..holder()
    };
    two.standby.advance(ms(1200), taken);
    assert!(two.standby.share(ms(1200)).claims(S));
}

/// The configuration came while nothing was delegated, and a longer leash was said just before.
#[test]
fn i6_a_delegation_counts_by_the_leash_of_the_word_that_names_it() {
    let mut two = Two::new();
    two.primary.configure(Policy::default(), LEASH * 3);
    two.standby.configure(Policy::default(), LEASH * 3);
    two.standby.set_idle([S]);
    two.primary.set_faults([(S, Fault::Silent)], ms(0));
    assert_eq!(two.talk_until(0, 1200), []);
    two.primary.configure(Policy::default(), LEASH);
    two.standby.set_idle([]);
    assert_eq!(two.talk(1250).len(), 1);
    assert!(two.standby.share(ms(1849)).claims(S));
    assert!(!two.standby.share(ms(1850)).claims(S), "one leash of the word");
    two.primary.advance(ms(1850), holder());
    two.primary.set_faults([], ms(1900));
    two.primary.advance(ms(1999), holder());
    assert!(!two.primary.share(ms(1999)).claims(S));
    two.primary.advance(ms(2000), holder());
    assert!(two.primary.share(ms(2000)).claims(S), "and a quarter");
}

/// Whoever takes authority waits for the leash that the Lease says.
#[test]
fn i6_a_delegation_counts_by_the_leash_of_authority_where_that_is_shorter() {
    let mut two = Two::new();
    let short = Standing {
        leash: LEASH / 3,
        ..holder()
    };
    two.primary.set_faults([(S, Fault::Silent)], ms(0));
    two.talk_until(0, 1000);
    let until = two.primary.delegated_until();
    assert_eq!(until, ms(1750), "a shorter one is not written before");
    two.primary.advance(ms(1000), short);
    let word = two.primary.word(ms(1000));
    assert_eq!(word.leash_ms, Some(200));
    two.standby.hear(word, ms(1000));
    assert!(two.standby.share(ms(1199)).claims(S));
    assert!(!two.standby.share(ms(1200)).claims(S));
    assert_eq!(
        two.primary.delegated_until(),
        until,
        "that word may not have come"
    );
}

#[test]
fn a_silent_follower_loses_its_streams_after_a_leash_and_a_quarter() {
    let mut two = Two::new();
    two.primary.set_faults([(S, Fault::Silent)], ms(0));
    two.talk_until(0, 1000);
    // The words are said still, and not answered.
    let _ = two.primary.word(ms(1400));
    let moved = two.primary.advance(ms(1600), holder());
    assert_eq!(moved[0].why, Why::FollowerSilent);
    two.primary.set_faults([], ms(2000));
    two.primary.advance(ms(2149), holder());
    assert!(!two.primary.share(ms(2149)).claims(S));
    two.primary.advance(ms(2150), holder());
    assert!(two.primary.share(ms(2150)).claims(S));
}

#[test]
fn a_suspicion_takes_no_stream_from_a_follower() {
    let mut two = Two::new();
    two.primary.set_faults([(S, Fault::Silent)], ms(0));
    two.talk_until(0, 1000);
    let suspected = Standing {
        peer_suspected: true,
        ..holder()
    };
    assert_eq!(two.primary.advance(ms(1599), suspected), []);
    assert_eq!(two.claims(1599), (false, true));
    let unfit = Standing {
        peer_fit: false,
        ..holder()
    };
    assert_eq!(two.primary.advance(ms(1599), unfit)[0].why, Why::FollowerSilent);
}

#[test]
fn nobody_claims_what_the_follower_gave_up_and_the_holder_does_not_receive() {
    let mut two = Two::new();
    two.primary.set_faults([(S, Fault::Silent)], ms(0));
    two.talk_until(0, 1000);
    let moved = two.primary.advance(ms(1600), holder());
    assert_eq!(moved[0].why, Why::FollowerSilent);
    // It is heard again, and knows of it: if the holder claimed the stream, a follower that rests would let go of the camera.
    let moved = two.talk(1700);
    assert_eq!(
        (moved.len(), moved[0].to_follower, moved[0].why),
        (1, true, Why::Fault(Fault::Silent))
    );
    assert_eq!(two.claims(1700), (false, true));
    // The next time it does not receive the stream either, when it is back.
    two.primary.advance(ms(2300), holder());
    two.standby.set_faults([(S, Fault::Silent)], ms(2300));
    assert_eq!(two.talk_until(3100, 4000), []);
    assert_eq!(two.claims(4000), (false, false));
    two.primary.set_faults([], ms(4050));
    assert_eq!(two.talk(4050), []);
    assert_eq!(two.claims(4050), (true, false));
    // Silence is no fault of the stream, and holds it nowhere: it counts as moved once.
    two.standby.set_faults([], ms(6000));
    two.primary.set_faults([(S, Fault::Silent)], ms(6000));
    assert_eq!(two.talk_until(6000, 6950), []);
    assert!(two.talk(7000)[0].to_follower);
}

#[test]
fn an_older_word_that_comes_late_counts_for_nothing() {
    let mut two = Two::new();
    two.primary.set_faults([(S, Fault::Silent)], ms(0));
    two.talk_until(0, 1000);
    let late = two.primary.word(ms(1000));
    two.primary.set_faults([], ms(1001));
    two.talk_until(1050, 61_100);
    assert_eq!(two.claims(61_100), (true, false));
    two.standby.hear(late, ms(61_100));
    assert_eq!(two.claims(61_100), (true, false));
}

/// The moves until `to`, where each side is blind in these spans, in milliseconds: when, and whether to the follower.
fn moves(blind: &[Vec<Range<u64>>; 2], to: u64) -> Vec<(u64, bool)> {
    let (mut two, mut moves) = (Two::new(), Vec::new());
    for at in (0..=to).step_by(10) {
        let fault = |side: usize| {
            let is_blind = blind[side].iter().any(|span| span.contains(&at));
            is_blind.then_some((S, Fault::Silent))
        };
        two.primary.set_faults(fault(0), ms(at));
        two.standby.set_faults(fault(1), ms(at));
        moves.extend(two.talk(at).iter().map(|moved| (at, moved.to_follower)));
    }
    moves
}

/// The holder loses the stream for a moment, and it is with the follower from then on.
fn moved_away(away: bool) -> Vec<Range<u64>> {
    away.then_some(0..1_500).into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// Each one notices the loss by itself; the one that is the first to receive it again has a whole group before the other one.
    #[test]
    fn a_camera_that_both_lose_moves_nothing(
        lost in [10_000_u64..10_900, 10_000_u64..10_900],
        // One that is shorter than they are apart only one of them may notice, and then wait for its key frame for long.
        lasts in 10_u64..10_000,
        again in [0_u64..4_900, 0_u64..4_900],
        away: bool,
    ) {
        let blind = |side: usize| lost[side]..10_900 + lasts + again[side];
        let spans = [[moved_away(away), vec![blind(0)]].concat(), vec![blind(1)]];
        let moves = moves(&spans, 30_000);
        prop_assert_eq!(moves.len(), usize::from(away), "{:?}", moves);
    }

    /// The detector needs what else there is of two seconds. Shortly before, the other one may have been blind too.
    #[test]
    fn a_stream_that_its_owner_alone_loses_moves_within_a_second(
        lasts in 1_050_u64..8_000,
        before in prop::option::of(10_u64..2_000),
        away: bool,
    ) {
        let (owner, at) = (usize::from(away), 20_000);
        let mut spans = [moved_away(away), Vec::new()];
        spans[1 - owner].extend(before.map(|before| at - before - 500..at - before));
        spans[owner].push(at..at + lasts);
        let moves = moves(&spans, at + lasts);
        let moved = moves.last().filter(|(_, to_follower)| *to_follower != away);
        prop_assert!(moved.is_some_and(|(when, _)| *when <= at + 1_010), "{:?}", moves);
    }

    /// The other one fails too now and then, perhaps from the beginning on: it is ahead all the same.
    #[test]
    fn a_stream_that_its_owner_loses_moves_to_one_that_flaps(
        first in 0_u64..2_000,
        well in 1_050_u64..6_000,
        blip in 50_u64..900,
        away: bool,
    ) {
        let (owner, at, to) = (usize::from(away), 20_000, 31_000);
        let mut spans = [moved_away(away), Vec::new()];
        spans[owner].push(at..to);
        let blips = (at + first..to).step_by((well + blip) as usize);
        spans[1 - owner].extend(blips.map(|begins| begins..begins + blip));
        let moves = moves(&spans, to);
        let moved = moves.iter().find(|(when, to_follower)| *when > at && *to_follower != away);
        let due = at + first + blip + 5_000 + blip + 1_000;
        prop_assert!(moved.is_some_and(|(when, _)| *when <= due + 20), "{:?}", moves);
    }
}
