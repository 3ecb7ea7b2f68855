use super::camera::STILL_PLAUSIBLE_US;
use super::*;

const T0: i64 = 1_800_000_000_000_000;

fn at(n: i64) -> Arrival {
    Arrival {
        rtp: 5000 + n * 3600,
        rate: 90_000,
        own_us: T0 + n * 40_000,
        mono_us: 7_000_000 + n * 40_000,
        late_us: 0,
    }
}

fn own(first: Arrival) -> MediaClock {
    MediaClock::new(first, &CameraClock::default(), None)
}

fn report(n: i64, ahead_us: i64) -> Report {
    Report {
        rtp: at(n).rtp,
        wall_us: at(n).own_us + ahead_us,
    }
}

fn run(n: i64) -> MediaClock {
    let mut clock = own(at(0));
    for i in 0..n {
        assert_eq!(clock.breaks(&at(i)), None);
        clock.frame(at(i));
    }
    clock
}

#[test]
fn media_time_starts_at_the_unix_time_and_follows_rtp() {
    let mut clock = own(at(0));
    let first = clock.frame(at(0));
    assert_eq!(
        first,
        Times {
            dts: T0 / 100 * 9,
            cts: 0,
            wallclock_us: T0,
            step: 0,
            reordered: false
        }
    );
    let second = clock.frame(at(1));
    assert_eq!(
        (second.dts, second.step, second.wallclock_us),
        (first.dts + 3600, 3600, T0 + 40_000)
    );
}

#[test]
fn jitter_of_arrival_does_not_move_the_wall_clock() {
    let mut clock = run(100);
    let late = Arrival {
        own_us: at(100).own_us + 800_000,
        mono_us: at(100).mono_us + 800_000,
        ..at(100)
    };
    let wall = clock.frame(late).wallclock_us;
    assert!((wall - at(100).own_us).abs() < 1000, "{}", wall - at(100).own_us);
}

#[test]
fn an_rtp_jump_breaks_the_run_but_a_stall_does_not() {
    let clock = run(10);
    assert_eq!(
        clock.breaks(&Arrival {
            rtp: at(10).rtp + 90_000 * 20,
            ..at(10)
        }),
        Some(Break::RtpJump)
    );
    assert_eq!(
        clock.breaks(&Arrival {
            rtp: at(10).rtp - 90_000 * 2,
            ..at(10)
        }),
        Some(Break::RtpJump)
    );
    let stalled = Arrival {
        own_us: T0 + 60_000_000,
        mono_us: 67_000_000,
        ..at(10)
    };
    assert_eq!(clock.breaks(&stalled), None);
}

#[test]
fn what_the_camera_threw_away_while_this_member_stood_still_is_no_jump() {
    let mut clock = run(10);
    // For 30 s nothing is taken; the camera holds three frames, and those of the last two seconds.
    let taken = |n: i64| Arrival {
        late_us: (760 - n) * 40_000,
        ..late(n, (760 - n) * 40_000)
    };
    for n in (10..13).chain(710..760) {
        assert_eq!(clock.breaks(&taken(n)), None, "{n}");
        // An own clock is followed by 500 ppm of the 30 s that passed.
        let off_us = clock.frame(taken(n)).wallclock_us - at(n).own_us;
        assert!((0..=16_000).contains(&off_us), "{n}: {off_us}");
    }
    let ahead = Arrival {
        rtp: at(760 + 300).rtp,
        ..at(760)
    };
    assert_eq!(clock.breaks(&ahead), Some(Break::RtpJump));
}

#[test]
fn an_own_clock_jump_breaks_the_run() {
    let clock = run(10);
    let stepped = Arrival {
        own_us: at(10).own_us - 3_600_000_000,
        ..at(10)
    };
    assert_eq!(clock.breaks(&stepped), Some(Break::OwnClock));
}

#[test]
fn a_believed_camera_carries_the_wall_clock_and_its_jumps_are_seen() {
    let mut camera = CameraClock::default();
    assert_eq!(camera.heard(report(0, 900_000), at(0)), None);
    let mut clock = MediaClock::new(at(0), &camera, Some(report(0, 900_000)));
    assert_eq!(clock.source(), Source::Camera);
    assert_eq!(clock.frame(at(0)).wallclock_us, T0 + 900_000);
    assert_eq!(clock.report(report(5, 910_000), true), None);
    assert_eq!(clock.report(report(9, -200_000), true), Some(Break::CameraClock));
    assert_eq!(
        clock.frame(at(10)).wallclock_us,
        at(10).own_us + 910_000,
        "this run goes on"
    );
    assert_eq!(
        clock.report(report(9, 0), false),
        Some(Break::Source(Source::Own))
    );
    let mut other = own(at(0));
    assert_eq!(other.report(report(1, 0), false), None);
    assert_eq!(
        other.report(report(1, 0), true),
        Some(Break::Source(Source::Camera))
    );
}

#[test]
fn a_camera_far_from_the_own_clock_is_told_once_and_not_believed() {
    // By how much it is ahead, what is said, and whether it is believed.
    let table = [
        (1_100_000, Some(1_100_000), false),
        (1_300_000, None, false),
        (-40_000_000, Some(-40_000_000), false),
        (-40_500_000, None, false),
        (900_000, None, true),
        (1_400_000, None, true),
        (1_600_000, Some(1_600_000), false),
        (1_400_000, None, false),
    ];
    let mut camera = CameraClock::default();
    for (n, (ahead, said, believed)) in table.into_iter().enumerate() {
        let n = n as i64;
        assert_eq!(camera.heard(report(n, ahead), at(n)), said, "{n}");
        assert_eq!(camera.is_believed(), believed, "{n}");
        let source = MediaClock::new(at(n), &camera, Some(report(n, ahead))).source();
        assert_eq!(source == Source::Camera, believed, "{n}");
    }
    const { assert!(STILL_PLAUSIBLE_US < segment::canonical::WINDOW_US) };
}

#[test]
fn a_new_session_keeps_the_clock_of_the_one_before() {
    let mut camera = CameraClock::default();
    camera.heard(report(0, 700_000), at(0));
    let again = Arrival { rtp: 77, ..at(500) };
    let mut clock = MediaClock::new(again, &camera, None);
    assert_eq!(clock.source(), Source::Camera);
    assert_eq!(clock.frame(again).wallclock_us, again.own_us + 700_000);
    let stepped = Arrival {
        own_us: at(500).own_us + 3_600_000_000,
        ..at(500)
    };
    let mut clock = MediaClock::new(stepped, &camera, Some(report(400, 700_000)));
    assert_eq!(clock.source(), Source::Camera, "the own clock jumped alone");
    assert_eq!(clock.frame(stepped).wallclock_us, at(500).own_us + 700_000);
}

/// A frame after the own clock jumped by an hour.
fn after_a_jump(n: i64) -> Arrival {
    Arrival {
        own_us: at(n).own_us + 3_600_000_000,
        ..at(n)
    }
}

#[test]
fn an_own_clock_that_jumps_alone_moves_nothing_while_the_camera_is_believed() {
    let mut camera = CameraClock::default();
    camera.heard(report(0, 200_000), at(0));
    let mut clock = MediaClock::new(at(0), &camera, Some(report(0, 200_000)));
    clock.frame(at(0));
    assert_eq!(camera.own_jump(&at(1)), None);
    assert_eq!(clock.breaks(&after_a_jump(1)), None);
    let wall = clock.frame(after_a_jump(1)).wallclock_us;
    assert_eq!(wall, at(1).own_us + 200_000);
    assert_eq!(camera.heard(report(2, 200_000), after_a_jump(2)), None);
    assert!(camera.is_believed());
    assert_eq!(camera.own_jump(&after_a_jump(2)), Some(3_600_000_000));
    assert_eq!(camera.own_jump(&after_a_jump(3)), None, "told once");
    assert_eq!(camera.heard(report(4, 200_000), at(4)), None, "it came back");
    assert_eq!(camera.own_jump(&at(4)), None);
    assert_eq!(
        camera.own_jump(&after_a_jump(5)),
        Some(3_600_000_000),
        "another jump"
    );
}

#[test]
fn a_camera_that_follows_the_jump_is_believed() {
    let mut camera = CameraClock::default();
    camera.heard(report(0, 0), at(0));
    let hour = 3_600_000_000;
    assert_eq!(camera.heard(report(1, hour), after_a_jump(1)), None);
    assert!(camera.is_believed(), "both clocks agree again");
    assert_eq!(camera.own_jump(&after_a_jump(2)), None);
    assert_eq!(
        camera.heard(report(3, 0), after_a_jump(3)),
        Some(-hour),
        "it alone went back"
    );
    assert!(!camera.is_believed());
}

#[test]
fn b_frames_keep_decoding_times_rising_and_presentation_times_right() {
    let order = [0i64, 3, 1, 2, 6, 4, 5, 9, 7, 8, 12, 10, 11];
    let mut clock = own(at(0));
    let base = T0 / 100 * 9;
    let mut last = i64::MIN;
    for (n, shown) in order.iter().enumerate() {
        let a = Arrival {
            rtp: at(*shown).rtp,
            ..at(n as i64)
        };
        assert_eq!(clock.breaks(&a), None);
        let t = clock.frame(a);
        assert!(t.dts > last);
        assert_eq!(t.dts + i64::from(t.cts), base + shown * 3600);
        last = t.dts;
    }
}

#[test]
fn b_frames_do_not_run_away_from_their_presentation_times() {
    // In groups of pictures as encoders send them: how far each frame is shown after the first of its group.
    for group in [
        &[3i64, 1, 2][..],
        &[2, 1],
        &[4, 2, 1, 3],
        &[8, 4, 2, 1, 3, 6, 5, 7],
    ] {
        let mut clock = own(at(0));
        clock.frame(at(0));
        let mut steps = Vec::new();
        for n in 0..1000 {
            let (of, in_group) = (n / group.len(), n % group.len());
            let shown = (of * group.len()) as i64 + group[in_group];
            let a = Arrival {
                rtp: at(shown).rtp,
                ..at(n as i64 + 1)
            };
            let t = clock.frame(a);
            let most = 3600 * (2 * group.len() as i32 + 1);
            assert!(t.cts.abs() <= most, "{group:?}: {} at {n}", t.cts);
            steps.push(t.step);
        }
        assert!(steps[60..].iter().all(|s| (s - 3600).abs() < 700), "{group:?}");
    }
}

/// What was sent with frame `n`, and came `late_us` later than it could have.
fn late(n: i64, late_us: i64) -> Arrival {
    Arrival {
        own_us: at(n).own_us + late_us,
        mono_us: at(n).mono_us + late_us,
        ..at(n)
    }
}

#[test]
fn what_was_held_up_is_late_and_what_is_slow_is_not_for_long() {
    let mut transit = Transit::default();
    let mut took = |a: Arrival| {
        transit.learn(&a);
        transit.late_us(&a)
    };
    assert_eq!((0..100).map(|n| took(at(n))).max(), Some(0));
    // The recorder stood still for 6 s; then all that was sent meanwhile comes at once, and it goes on as before.
    let burst: Vec<i64> = (100..250).map(|n| took(late(n, (250 - n) * 40_000))).collect();
    assert_eq!((burst[0], burst[149]), (6_000_000, 40_000));
    assert_eq!(took(at(250)), 0);
    // RTP time stood still for 5 s: it looks like a delay, for a minute at most.
    let halted: Vec<i64> = (251..2000).map(|n| took(late(n, 5_000_000))).collect();
    assert_eq!((halted[0], halted[1748]), (5_000_000, 0));
    // A camera of which RTP time is slow by 1 %.
    assert!((2000..20_000).all(|n| took(late(n, 5_000_000 + (n - 2000) * 400)) <= 600_000));
}

#[test]
fn a_report_that_comes_late_costs_a_camera_no_belief() {
    let with = |late_us| Arrival {
        late_us,
        ..late(200, 4_000_000)
    };
    let heard = |ahead_us, believed: bool, now: Arrival| {
        let mut camera = CameraClock::default();
        if believed {
            assert_eq!(camera.heard(report(0, 700_000), at(0)), None);
        }
        camera.heard(report(200, ahead_us), now);
        let clock = MediaClock::new(now, &camera, Some(report(200, ahead_us)));
        camera.is_believed().then(|| {
            assert_eq!(clock.source(), Source::Camera);
            clock.clone().frame(now).wallclock_us - at(200).own_us
        })
    };
    assert_eq!(heard(700_000, true, with(4_000_000)), Some(700_000), "held up");
    assert_eq!(
        heard(700_000, false, with(4_000_000)),
        Some(700_000),
        "the first one"
    );
    assert_eq!(
        heard(4_700_000, true, with(4_000_000)),
        Some(4_700_000),
        "RTP time stood still"
    );
    assert_eq!(
        heard(4_000_000, false, with(4_000_000)),
        None,
        "wrong by what it is late"
    );
    assert_eq!(heard(700_000, true, with(0)), None, "it is wrong");
}

#[test]
fn a_run_that_begins_late_has_the_time_at_which_it_was_taken() {
    let first = Arrival {
        late_us: 2_170_000,
        ..late(50, 2_170_000)
    };
    let mut clock = own(first);
    assert_eq!(clock.frame(first).wallclock_us, at(50).own_us);
    for n in 51..150 {
        let a = late(n, (2_170_000 - (n - 50) * 40_000).max(0));
        assert_eq!(clock.breaks(&a), None);
        assert!((clock.frame(a).wallclock_us - at(n).own_us).abs() < 2000);
    }
}

#[test]
fn ntp_times_before_and_after_2036() {
    assert_eq!(ntp_to_unix_us(2_208_988_800 << 32), 0);
    assert_eq!(ntp_to_unix_us((2_208_988_800 << 32) | (1 << 31)), 500_000);
    assert_eq!(
        ntp_to_unix_us(10 << 32),
        ((1 << 32) + 10 - 2_208_988_800_i64) * 1_000_000
    );
}

proptest::proptest! {
    #[test]
    fn no_input_overflows_or_repeats_a_decoding_time(steps in proptest::collection::vec((proptest::num::i64::ANY, 0i64..1_000_000), 1..50)) {
        let mut clock = own(at(0));
        let mut last = clock.frame(at(0)).dts;
        let mut mono = at(0).mono_us;
        for (rtp, passed) in steps {
            mono += passed;
            let a = Arrival { rtp: rtp / 8, rate: 90_000, own_us: T0 + mono, mono_us: mono, late_us: 0 };
            if clock.breaks(&a).is_some() {
                clock = own(a);
                last = i64::MIN;
            }
            let t = clock.frame(a);
            proptest::prop_assert!(t.dts > last);
            last = t.dts;
        }
    }
}
