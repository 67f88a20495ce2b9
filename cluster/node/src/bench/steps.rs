//! How long the steps of agents last: `lognormal:p50=2s,p99=30s`, `fixed:200ms`, `file:steps.txt`.
//!
//! **Invariant:** the same seed draws the same steps.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rand::Rng;
use rand_distr::{Distribution, Normal};

use super::limits::{STEP_MAX, STEP_MIN};
use super::times;

/// The 99th percentile of the standard normal distribution.
const NORMAL_P99: f64 = 2.326_347_874_040_841;

/// A distribution of step lengths.
#[derive(Clone, Debug, PartialEq)]
pub struct StepDist {
    shape: Shape,
    /// As it was typed.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// Of the logarithm of seconds.
    LogNormal(Normal<f64>),
    Fixed(Duration),
    /// Recorded lengths in their order, drawn with equal chances.
    Recorded(Arc<[Duration]>),
}

impl StepDist {
    /// One step's length, between [`STEP_MIN`] and [`STEP_MAX`].
    pub fn draw(&self, rng: &mut impl Rng) -> Duration {
        let drawn = match &self.shape {
            Shape::LogNormal(logs) => {
                Duration::try_from_secs_f64(logs.sample(rng).exp()).unwrap_or(STEP_MAX)
            }
            Shape::Fixed(length) => *length,
            Shape::Recorded(lengths) => lengths[rng.random_range(0..lengths.len())],
        };
        drawn.clamp(STEP_MIN, STEP_MAX)
    }

    /// The length that one step in a hundred exceeds.
    pub fn p99(&self) -> Duration {
        match &self.shape {
            Shape::LogNormal(logs) => {
                let seconds = (logs.mean() + logs.std_dev() * NORMAL_P99).exp();
                Duration::try_from_secs_f64(seconds).unwrap_or(STEP_MAX)
            }
            Shape::Fixed(length) => *length,
            Shape::Recorded(lengths) => {
                let mut sorted = lengths.to_vec();
                sorted.sort_unstable();
                sorted[(sorted.len() * 99).div_ceil(100) - 1]
            }
        }
        .clamp(STEP_MIN, STEP_MAX)
    }

    /// The mean length, without regard to the cut at [`STEP_MAX`].
    pub fn mean(&self) -> Duration {
        match &self.shape {
            Shape::LogNormal(logs) => {
                let seconds = (logs.mean() + logs.std_dev() * logs.std_dev() / 2.0).exp();
                Duration::try_from_secs_f64(seconds).unwrap_or(STEP_MAX)
            }
            Shape::Fixed(length) => *length,
            Shape::Recorded(lengths) => {
                let sum: Duration = lengths.iter().sum();
                sum / u32::try_from(lengths.len()).unwrap_or(u32::MAX)
            }
        }
        .clamp(STEP_MIN, STEP_MAX)
    }
}

impl FromStr for StepDist {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let shape = match kind {
            "lognormal" => lognormal(rest)?,
            "fixed" => Shape::Fixed(within(times::parse(rest)?)?),
            "file" => recorded(rest)?,
            _ => bail!(
                "{text:?} is no distribution; write lognormal:p50=2s,p99=30s, fixed:200ms or \
                 file:PATH with one length on each line"
            ),
        };
        Ok(Self { shape, text: text.to_owned() })
    }
}

fn within(length: Duration) -> anyhow::Result<Duration> {
    ensure!(
        (STEP_MIN..=STEP_MAX).contains(&length),
        "a step lasts between {STEP_MIN:?} and {STEP_MAX:?}, not {length:?}"
    );
    Ok(length)
}

fn lognormal(rest: &str) -> anyhow::Result<Shape> {
    let (mut p50, mut p99) = (None, None);
    for part in rest.split(',') {
        let place = match part.split_once('=') {
            Some(("p50", value)) => (&mut p50, value),
            Some(("p99", value)) => (&mut p99, value),
            _ => bail!("{part:?} is not p50=… or p99=…, as in lognormal:p50=2s,p99=30s"),
        };
        *place.0 = Some(within(times::parse(place.1)?)?);
    }
    let (Some(p50), Some(p99)) = (p50, p99) else {
        bail!("a lognormal needs both, as in lognormal:p50=2s,p99=30s");
    };
    ensure!(p50 <= p99, "p50 ({p50:?}) cannot be longer than p99 ({p99:?})");
    let mu = p50.as_secs_f64().ln();
    let sigma = (p99.as_secs_f64().ln() - mu) / NORMAL_P99;
    Ok(Shape::LogNormal(Normal::new(mu, sigma).context("no such lognormal")?))
}

fn recorded(path: &str) -> anyhow::Result<Shape> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    let lines = text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#'));
    let lengths = lines
        .map(|line| times::parse(line).and_then(within))
        .collect::<anyhow::Result<Vec<_>>>()
        .with_context(|| format!("{path} has a line that is no length of a step"))?;
    ensure!(!lengths.is_empty(), "{path} has no length of a step");
    Ok(Shape::Recorded(lengths.into()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn dist(text: &str) -> StepDist {
        text.parse().expect("a distribution")
    }

    #[test]
    fn a_lognormal_has_the_percentiles_that_were_asked_for() {
        let dist = dist("lognormal:p50=200ms,p99=3s");
        let mut rng = StdRng::seed_from_u64(1);
        let mut drawn: Vec<_> = (0..20_000).map(|_| dist.draw(&mut rng).as_secs_f64()).collect();
        drawn.sort_by(f64::total_cmp);
        assert!((drawn[10_000] / 0.2 - 1.0).abs() < 0.05, "{}", drawn[10_000]);
        assert!((drawn[19_800] / 3.0 - 1.0).abs() < 0.15, "{}", drawn[19_800]);
        assert!((dist.p99().as_secs_f64() / 3.0 - 1.0).abs() < 1e-6);
        let mean = drawn.iter().sum::<f64>() / 20_000.0;
        assert!((mean / dist.mean().as_secs_f64() - 1.0).abs() < 0.1, "{mean}");
    }

    #[test]
    fn the_same_seed_draws_the_same_steps() {
        let dist = dist("lognormal:p50=2s,p99=30s");
        let draw = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (0..100).map(|_| dist.draw(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_file_has_one_length_on_each_line() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "# from a trace\n10ms\n\n20ms\n30ms\n").expect("written");
        let dist = dist(&format!("file:{}", file.path().display()));
        assert_eq!(dist.mean(), Duration::from_millis(20));
        assert_eq!(dist.p99(), Duration::from_millis(30));
        let mut rng = StdRng::seed_from_u64(1);
        let drawn: std::collections::BTreeSet<_> =
            (0..100).map(|_| dist.draw(&mut rng).as_millis()).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [10, 20, 30]);
    }

    #[test]
    fn what_is_no_distribution_is_refused_with_what_to_write() {
        for (text, hint) in [
            ("normal:p50=1s", "lognormal:p50=2s,p99=30s"),
            ("lognormal:p50=2s", "needs both"),
            ("lognormal:p50=3s,p99=2s", "cannot be longer"),
            ("lognormal:p50=2s,p90=3s", "is not p50"),
            ("fixed:0s", "a step lasts between"),
            ("fixed:", "is no duration"),
            ("file:/nowhere/at/all", "cannot be read"),
        ] {
            let said = format!("{:#}", text.parse::<StepDist>().expect_err(text));
            assert!(said.contains(hint), "{text}: {said}");
        }
    }
}
