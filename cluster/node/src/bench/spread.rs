//! Percentiles of values of which some are only known to be larger than what was seen.
//!
//! **Invariant:** a censored value is never left out: it stands in the order with what was seen of
//! it, and a percentile at or behind the first one is marked as a lower bound.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::limits::RESAMPLES;
use super::times::millis;

/// A duration in microseconds, or what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// It lasted so long.
    Exact(u64),
    /// It had lasted so long when it was looked at last.
    AtLeast(u64),
}

impl Value {
    /// What was seen of it, in microseconds.
    pub fn us(self) -> u64 {
        match self {
            Self::Exact(us) | Self::AtLeast(us) => us,
        }
    }

    /// Whether it had not ended.
    pub fn is_censored(self) -> bool {
        matches!(self, Self::AtLeast(_))
    }
}

/// The percentiles that are shown, in thousandths.
pub const SHOWN: [(u32, &str); 7] = [
    (500, "p50"),
    (750, "p75"),
    (900, "p90"),
    (950, "p95"),
    (990, "p99"),
    (999, "p999"),
    (1000, "max"),
];

/// Values in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    sorted: Vec<Value>,
    censored: usize,
    first_censored: Option<u64>,
}

impl Spread {
    /// Of these values.
    pub fn of(values: impl IntoIterator<Item = Value>) -> Self {
        let mut sorted: Vec<_> = values.into_iter().collect();
        sorted.sort_unstable_by_key(|value| (value.us(), value.is_censored()));
        let censored = sorted.iter().filter(|value| value.is_censored());
        let first_censored = censored.clone().map(|value| value.us()).next();
        Self { censored: censored.count(), first_censored, sorted }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// How many of them had not ended.
    pub fn censored(&self) -> usize {
        self.censored
    }

    /// The values in their order.
    pub fn values(&self) -> &[Value] {
        &self.sorted
    }

    /// The nearest-rank percentile: a value that was seen, nothing in between.
    pub fn at(&self, thousandths: u32) -> Option<Value> {
        let rank = (self.sorted.len() as u64 * u64::from(thousandths)).div_ceil(1000).max(1);
        let us = self.sorted.get(usize::try_from(rank).ok()? - 1)?.us();
        let is_bound = self.first_censored.is_some_and(|first| first <= us);
        Some(if is_bound { Value::AtLeast(us) } else { Value::Exact(us) })
    }
}

/// A 95 % confidence interval, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower bound.
    pub low_ms: f64,
    /// Upper bound.
    pub high_ms: f64,
}

/// The interval of a percentile by bootstrap, from the seed: rotations are drawn with replacement,
/// each with all of its values, because values of one rotation are alike.
pub fn interval(rotations: &[Vec<u64>], thousandths: u32, seed: u64) -> Option<Interval> {
    if rotations.iter().filter(|values| !values.is_empty()).count() < 2 {
        return None;
    }
    let of_rotation =
        |(at, values): (usize, &Vec<u64>)| values.iter().map(|us| (*us, at)).collect::<Vec<_>>();
    let mut sorted: Vec<_> = rotations.iter().enumerate().flat_map(of_rotation).collect();
    sorted.sort_unstable();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut resample = || {
        let mut times = vec![0_u64; rotations.len()];
        for _ in rotations {
            times[rng.random_range(0..rotations.len())] += 1;
        }
        let size = |(times, values): (&u64, &Vec<u64>)| times * values.len() as u64;
        let drawn: u64 = times.iter().zip(rotations).map(size).sum();
        let rank = (drawn * u64::from(thousandths)).div_ceil(1000).max(1);
        let mut passed = 0;
        let found = sorted.iter().find(|(_, at)| {
            passed += times[*at];
            passed >= rank
        });
        found.map(|(us, _)| *us)
    };
    // None where only rotations without values were drawn.
    let mut found: Vec<_> = (0..RESAMPLES).filter_map(|_| resample()).collect();
    found.sort_unstable();
    let cut = found.len() / 40;
    let low_ms = millis(*found.get(cut)?);
    Some(Interval { low_ms, high_ms: millis(found[found.len() - 1 - cut]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let spread = Spread::of((1..=1000).rev().map(Value::Exact));
        let at = SHOWN.map(|(thousandths, _)| spread.at(thousandths));
        let us = [500, 750, 900, 950, 990, 999, 1000];
        assert_eq!(at, us.map(|us| Some(Value::Exact(us))));
        assert_eq!(Spread::of([Value::Exact(7)]).at(500), Some(Value::Exact(7)));
        assert_eq!(Spread::default().at(500), None);
    }

    #[test]
    fn a_censored_value_stays_in_the_order_and_marks_what_stands_behind_it() {
        let mut values: Vec<_> = (1..=9).map(Value::Exact).collect();
        values.push(Value::AtLeast(8));
        let spread = Spread::of(values);
        assert_eq!((spread.len(), spread.censored()), (10, 1));
        assert_eq!(spread.at(500), Some(Value::Exact(5)));
        assert_eq!(spread.at(750), Some(Value::AtLeast(8)), "the censored one may be any longer");
        assert_eq!(spread.at(1000), Some(Value::AtLeast(9)));
    }

    #[test]
    fn leaving_the_censored_out_would_have_made_the_percentile_smaller() {
        let ended = (1..=90).map(Value::Exact);
        let stuck = (0..10).map(|_| Value::AtLeast(60_000));
        let all = Spread::of(ended.clone().chain(stuck));
        assert_eq!(all.at(990), Some(Value::AtLeast(60_000)));
        assert_eq!(Spread::of(ended).at(990), Some(Value::Exact(90)));
    }

    #[test]
    fn the_interval_holds_the_median_and_narrows_with_more_rotations() {
        let values = |n: u64| (0..n).map(|i| vec![1000 + (i * 37) % 500]).collect::<Vec<_>>();
        let few = interval(&values(10), 500, 1).expect("enough");
        let many = interval(&values(400), 500, 1).expect("enough");
        // The values are 1000, 1037 ... 1333 us.
        assert!(few.low_ms <= 1.148 && few.high_ms >= 1.148, "{few:?}");
        assert!(many.high_ms - many.low_ms < few.high_ms - few.low_ms);
        assert_eq!(interval(&values(10), 500, 1), Some(few), "from the seed");
        assert_eq!(interval(&values(1), 500, 1), None);
    }

    #[test]
    fn the_interval_is_that_of_the_percentile_over_all_values_of_a_rotation_together() {
        // A tenth of each rotation's values is slow; no rotation's median is.
        let rotation = |n: u64| (0..100).map(|i| if i < 10 { 9000 + n } else { 100 + n }).collect();
        let rotations: Vec<Vec<u64>> = (0..20).map(rotation).collect();
        let all = Spread::of(rotations.iter().flatten().map(|us| Value::Exact(*us)));
        for thousandths in [500, 990] {
            let shown = millis(all.at(thousandths).expect("a value").us());
            let Interval { low_ms, high_ms } =
                interval(&rotations, thousandths, 1).expect("enough");
            assert!((low_ms..=high_ms).contains(&shown), "{low_ms} {shown} {high_ms}");
        }
        // One rotation that is slow as a whole: drawn often, it moves the percentile far.
        let mut uneven = rotations;
        uneven[0] = vec![20_000; 100];
        let wide = interval(&uneven, 990, 1).expect("enough");
        assert!(wide.low_ms < 10.0 && wide.high_ms > 19.0, "{wide:?}");
    }
}
