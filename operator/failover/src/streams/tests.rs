//! Tables, two members that talk, and a search for a stream that both claim.

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

fn streams(me: u64) -> Streams<u8> {
    Streams::new(Incarnation(me), Policy::default(), LEASH)
}

fn holder() -> Standing {
    Standing {
        held: Some(Epoch(5)),
        floor: Epoch(5),
        peer_fit: true,
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
        named: ms(0),
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
        idle: false,
        peers: peers.map(silent),
        peer_again: None,
        peer_idle: false,
        peer_hears: true,
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
    let again = |since| Case {
        peer_again: Some(ms(since)),
        ..blind
    };
    assert_eq!(decide(&again(95_001)), None, "the follower was the first only");
    assert_eq!(decide(&again(95_000)), SILENT, "the holder does not follow");
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
    assert_eq!(
        decided(away(Some(95_001)), None, Some(0)),
        None,
        "the holder was the first only"
    );
    assert_eq!(
        decided(away(Some(95_000)), None, Some(0)),
        SILENT,
        "the follower does not follow"
    );
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
    assert_eq!(two.talk_until(3000, 7950), []);
    assert!(two.talk(8000)[0].to_follower);
    // Now the primary rests: well or not, nobody knows.
    two.primary.set_faults([], ms(8050));
    two.primary.set_idle([S]);
    assert_eq!(two.talk_until(8050, 600_000), []);
    assert_eq!(two.claims(600_000), (false, true));
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

#[test]
fn a_silent_follower_loses_its_streams_after_a_leash_and_a_quarter() {
    let mut two = Two::new();
    two.primary.set_faults([(S, Fault::Silent)], ms(0));
    two.talk_until(0, 1000);
    // The words are said still, and not answered.
    let _ = two.primary.word(ms(1400));
    let moved = two.primary.advance(ms(1600), holder());
    assert_eq!(moved[0].why, Why::FollowerSilent);
    two.primary.advance(ms(2149), holder());
    assert!(!two.primary.share(ms(2149)).claims(S));
    two.primary.advance(ms(2150), holder());
    assert!(two.primary.share(ms(2150)).claims(S));
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
        lasts in 1_000_u64..10_000,
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
}

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
    /// The primary loses authority and takes it again; a while may pass between the two.
    Again {
        pause: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u64..700).prop_map(Step::Wait),
        4 => any::<bool>().prop_map(|primary| Step::Say { primary }),
        4 => (any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(primary, lost)| Step::Arrive { primary, lost }),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(primary, blind)| Step::Faults { primary, blind }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(primary, idle)| Step::Idle { primary, idle }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(primary, long)| Step::Leash { primary, long }),
        1 => prop_oneof![Just(0), 1_u64..700].prop_map(|pause| Step::Again { pause }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// Words are delayed, lost and out of order with time; the follower's clock is slower by a fifth.
    #[test]
    fn i6_no_stream_is_claimed_by_both(steps in prop::collection::vec(step(), 1..200)) {
        let (mut primary, mut standby) = (streams(1), streams(2));
        let (mut to_standby, mut to_primary) = (Vec::new(), Vec::new());
        let (mut at, mut held) = (0, holder());
        let policy = Policy { failback_after: Some(Duration::from_millis(500)) };
        primary.configure(policy, LEASH);
        for step in steps {
            let (mine, theirs) = (ms(at), BootTime(at * 1_000_000 * 5 / 6));
            match step {
                Step::Wait(passed) => at += passed,
                Step::Say { primary: true } => to_standby.push(primary.word(mine)),
                Step::Say { primary: false } => to_primary.push(standby.word(theirs)),
                Step::Arrive { primary: true, lost } if !to_primary.is_empty() => {
                    let word = to_primary.remove(0);
                    if !lost { primary.hear(word, mine); }
                }
                Step::Arrive { primary: false, lost } if !to_standby.is_empty() => {
                    let word = to_standby.remove(0);
                    if !lost { standby.hear(word, theirs); }
                }
                Step::Arrive { .. } => {}
                Step::Faults { primary: true, blind } => primary.set_faults(blind.then_some((S, Fault::Silent)), mine),
                Step::Faults { primary: false, blind } => standby.set_faults(blind.then_some((S, Fault::Silent)), theirs),
                Step::Idle { primary: true, idle } => primary.set_idle(idle.then_some(S)),
                Step::Idle { primary: false, idle } => standby.set_idle(idle.then_some(S)),
                Step::Leash { primary: of_primary, long } => {
                    let leash = if long { LEASH * 3 } else { LEASH };
                    let member = if of_primary { &mut primary } else { &mut standby };
                    member.configure(policy, leash);
                }
                Step::Again { pause } => {
                    let epoch = held.held.map(|epoch| Epoch(epoch.0 + 1));
                    if pause > 0 {
                        primary.advance(mine, Standing { held: None, ..held });
                        // A shorter leash counts for what is delegated from now on.
                        primary.configure(policy, LEASH);
                        at += pause;
                    }
                    held = Standing { held: epoch, floor: epoch.unwrap_or_default(), ..held };
                }
            }
            let (mine, theirs) = (ms(at), BootTime(at * 1_000_000 * 5 / 6));
            primary.advance(mine, held);
            standby.advance(theirs, follower());
            prop_assert!(!(primary.share(mine).claims(S) && standby.share(theirs).claims(S)), "both at {at}");
        }
    }
}
