//! Replication lag, coarsely: a status that changed with every frame would be written with every frame.

/// Where each step begins, in milliseconds, and what status says of it.
const STEPS: [(u64, &str); 4] = [(300_000, ">5m"), (30_000, "<5m"), (5_000, "<30s"), (1_000, "<5s")];

fn step(lag_ms: u64) -> (u64, &'static str) {
    let found = STEPS.into_iter().find(|(begins, _)| lag_ms >= *begins);
    found.unwrap_or((0, "<1s"))
}

/// The same for every lag of one step, in milliseconds.
pub(crate) fn rounded(lag_ms: u64) -> u64 {
    step(lag_ms).0
}

/// What status says.
pub(crate) fn words(lag_ms: u64) -> &'static str {
    step(lag_ms).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_where_the_next_begins() {
        let told = [
            0,
            999,
            1_000,
            4_999,
            5_000,
            29_999,
            30_000,
            299_999,
            300_000,
            u64::MAX,
        ]
        .map(words);
        let expected = [
            "<1s", "<1s", "<5s", "<5s", "<30s", "<30s", "<5m", "<5m", ">5m", ">5m",
        ];
        assert_eq!(told, expected);
        assert_eq!((rounded(999), rounded(7_000)), (0, 5_000));
    }
}
