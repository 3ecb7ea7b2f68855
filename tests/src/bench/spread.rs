//! The spread of what was measured again and again.

/// Values in ascending order.
#[derive(Clone, Debug, Default)]
pub struct Spread(Vec<u64>);

impl Spread {
    /// Of these values.
    pub fn of(values: impl IntoIterator<Item = u64>) -> Self {
        let mut values: Vec<u64> = values.into_iter().collect();
        values.sort_unstable();
        Self(values)
    }

    /// The smallest value that is not less than so many percent of all, if there is any.
    pub fn percentile(&self, percent: usize) -> Option<u64> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }

    /// The median.
    pub fn p50(&self) -> Option<u64> {
        self.percentile(50)
    }

    /// The largest value.
    pub fn max(&self) -> Option<u64> {
        self.0.last().copied()
    }

    /// As `p50 / p90 / max`, for a table; a dash where nothing was measured.
    pub fn cell(&self) -> String {
        let text = |value: Option<u64>| value.map_or("–".to_owned(), |value| value.to_string());
        let all = [self.p50(), self.percentile(90), self.max()];
        if all[0].is_none() {
            text(None)
        } else {
            all.map(text).join(" / ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let spread = Spread::of((1..=10).rev());
        assert_eq!(
            [50, 90, 100].map(|percent| spread.percentile(percent)),
            [5, 9, 10].map(Some)
        );
        assert_eq!(spread.cell(), "5 / 9 / 10");
        assert_eq!((Spread::of([7]).p50(), Spread::default().p50()), (Some(7), None));
        assert_eq!(Spread::default().cell(), "–");
    }
}
