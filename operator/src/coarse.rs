//! Figures of status, coarsely: a status that changed with every byte would be written with every byte. What was made coarse
//! once stays as it is.

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
