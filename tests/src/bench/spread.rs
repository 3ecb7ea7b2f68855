//! The spread of what was measured again and again.

/// With fewer values, one in a hundred says nothing.
const ENOUGH_FOR_P99: usize = 300;

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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that one in a hundred exceeds; only of 300 or more.
    pub fn p99(&self) -> Option<u64> {
        let enough = self.len() >= ENOUGH_FOR_P99;
        enough.then(|| self.percentile(99)).flatten()
    }

    /// The largest value.
    pub fn max(&self) -> Option<u64> {
        self.0.last().copied()
    }

    /// As `p50 / p90 / max`, for a table; a dash where nothing was measured.
    pub fn cell(&self) -> String {
        if self.is_empty() {
            return text(None);
        }
        [self.p50(), self.percentile(90), self.max()]
            .map(text)
            .join(" / ")
    }

    /// As `p50 / p90 / p99 / max`, for a table; a dash for what there are too few values of.
    pub fn tail(&self) -> String {
        let all = [self.p50(), self.percentile(90), self.p99(), self.max()];
        all.map(text).join(" / ")
    }
}

fn text(value: Option<u64>) -> String {
    value.map_or("–".to_owned(), |value| value.to_string())
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

    #[test]
    fn one_in_a_hundred_wants_300_values() {
        let of = |count: u64| Spread::of(1..=count);
        assert_eq!((of(299).p99(), of(300).p99()), (None, Some(297)));
        assert_eq!(of(300).tail(), "150 / 270 / 297 / 300");
    }
}
