//! Figures of status, coarsely: a status that changed with every byte would be written with every byte. What was made coarse
//! once stays as it is.

use std::time::Duration;

/// Milliseconds as seconds, rounded up, with two significant digits.
pub(crate) fn seconds(ms: u64) -> u64 {
    let mut step = 1;
    while ms.div_ceil(1000).div_ceil(step) > 99 {
        step *= 10;
    }
    ms.div_ceil(1000).div_ceil(step).saturating_mul(step)
}

/// A time that runs out, in seconds, rounded up: to 10 s, from a minute on to minutes, from an hour on to 10 minutes.
pub(crate) fn remaining(seconds: u64) -> u64 {
    let step = match seconds {
        0..=60 => 10,
        61..=3600 => 60,
        _ => 600,
    };
    seconds.div_ceil(step).saturating_mul(step)
}

/// Where each step of a time that lasts begins, in seconds, and what is said of it.
const LASTED: [(u64, &str); 5] = [
    (86_400, "a day"),
    (3_600, "an hour"),
    (600, "10 minutes"),
    (60, "a minute"),
    (15, "15 s"),
];

fn step(lasted: Duration) -> (u64, &'static str) {
    let found = LASTED.into_iter().find(|(begins, _)| lasted.as_secs() >= *begins);
    found.unwrap_or((0, "a moment"))
}

/// The same for every time of one step.
pub(crate) fn lasted(time: Duration) -> Duration {
    Duration::from_secs(step(time).0)
}

/// What has passed at least of a time that lasts.
pub(crate) fn lasted_words(time: Duration) -> &'static str {
    step(time).1
}

/// How many hundredths `part` is of `all`, rounded up; `None` where it is nothing, or the whole is not known.
pub(crate) fn percent(part: u64, all: u64) -> Option<u64> {
    let hundredths = (u128::from(part) * 100).div_ceil(u128::from(all.max(1)));
    (part > 0 && all > 0).then(|| u64::try_from(hundredths.min(100)).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_two_digits() {
        let told = [0, 1, 1000, 1001, 99_000, 99_001, 123_456, 999_000, u64::MAX].map(seconds);
        let expected = [0, 1, 1, 2, 99, 100, 130, 1000, 19_000_000_000_000_000];
        assert_eq!(told, expected);
        let again = told.map(|told| seconds(told.saturating_mul(1000)));
        assert_eq!(again[..8], told[..8]);
    }

    #[test]
    fn a_time_that_runs_out_goes_by_steps() {
        let told = [0, 1, 60, 61, 599, 3600, 3601, 50_000].map(remaining);
        assert_eq!(told, [0, 10, 60, 120, 600, 3600, 4200, 50_400]);
        assert_eq!(told.map(remaining), told);
    }

    #[test]
    fn a_time_that_lasts_goes_by_its_last_step() {
        let table = [
            (0, 0, "a moment"),
            (15, 15, "15 s"),
            (59, 15, "15 s"),
            (60, 60, "a minute"),
            (3_599, 600, "10 minutes"),
            (86_399, 3_600, "an hour"),
            (u64::MAX, 86_400, "a day"),
        ];
        for (seconds, begins, words) in table {
            let time = Duration::from_secs(seconds);
            let told = lasted(time);
            assert_eq!((told.as_secs(), lasted(told)), (begins, told), "{seconds} s");
            assert_eq!(
                (lasted_words(time), lasted_words(told)),
                (words, words),
                "{seconds} s"
            );
        }
    }

    #[test]
    fn a_share_is_nothing_only_where_nothing_is_lacking() {
        let table = [
            ((0, 100), None),
            ((5, 0), None),
            ((1, u64::MAX), Some(1)),
            ((500_000, 1_000_000), Some(50)),
            ((500_001, 1_000_000), Some(51)),
            ((7, 7), Some(100)),
            ((9, 7), Some(100)),
        ];
        for ((part, all), want) in table {
            assert_eq!(percent(part, all), want, "{part} of {all}");
        }
    }
}
