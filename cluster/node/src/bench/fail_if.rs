//! `--fail-if 'drain.p99>12s,dropped>0'`: conditions that fail a run.
//!
//! **Invariant:** what was not measured, or is only known to be larger, never passes a condition
//! that it could break.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};

use super::spread::SHOWN;
use super::summary::{Baseline, Condition, Figure};
use super::times::{self, millis};

/// Names that stand alone.
const COUNTS: [&str; 7] =
    ["dropped", "refused", "interrupted", "lost", "doubled", "touched", "unfinished"];

/// Names that need a percentile behind a point.
const FIGURES: [&str; 6] = ["drain", "floor", "overhead", "swap", "pause", "revoke_lag"];

/// All conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct FailIf(Vec<One>);

#[derive(Clone, Debug, PartialEq)]
struct One {
    text: String,
    what: What,
    op: Op,
    bound: Bound,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Count(&'static str),
    /// A figure's percentile.
    Percentile(&'static str, &'static str),
    /// A figure's `n` (false) or `censored` (true).
    Values(&'static str, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    More,
    AtLeast,
    Less,
    AtMost,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// Milliseconds for a percentile, a plain number otherwise.
    Number(f64),
    /// Times the baseline.
    Times(f64),
}

/// A number, and whether it is only a lower bound.
#[derive(Clone, Copy)]
struct Reading {
    number: f64,
    is_bound: bool,
}

impl FromStr for FailIf {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let all = parts.map(One::parse).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(!all.is_empty(), "no condition; write for example drain.p99>12s,dropped>0");
        Ok(Self(all))
    }
}

impl FailIf {
    /// Whether some condition compares with a baseline.
    pub fn needs_baseline(&self) -> bool {
        self.0.iter().any(|one| matches!(one.bound, Bound::Times(_)))
    }

    /// What each condition comes to.
    pub fn judge(
        &self,
        figures: &BTreeMap<String, Figure>,
        counts: &BTreeMap<String, u64>,
        baseline: Option<&Baseline>,
    ) -> Vec<Condition> {
        let judge = |one: &One| {
            let before = baseline.and_then(|it| one.what.read(&it.figures, &it.counts));
            let (fails, why) = one.judge(one.what.read(figures, counts), before);
            Condition { condition: one.text.clone(), fails, why }
        };
        self.0.iter().map(judge).collect()
    }
}

impl One {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let at = text.find(['>', '<']).with_context(|| {
            format!("{text:?} is no condition; write for example drain.p99>12s or dropped>0")
        })?;
        let (name, rest) = text.split_at(at);
        let (op, bound) = match rest {
            rest if rest.starts_with(">=") => (Op::AtLeast, &rest[2..]),
            rest if rest.starts_with("<=") => (Op::AtMost, &rest[2..]),
            rest if rest.starts_with('>') => (Op::More, &rest[1..]),
            rest => (Op::Less, &rest[1..]),
        };
        let what = What::parse(name.trim())?;
        let bound = what.bound(bound.trim()).with_context(|| format!("in {text:?}"))?;
        Ok(Self { text: text.to_owned(), what, op, bound })
    }

    fn judge(&self, found: Option<Reading>, before: Option<Reading>) -> (bool, String) {
        let Some(found) = found else {
            return (true, "it was not measured".to_owned());
        };
        let bound = match (self.bound, before) {
            (Bound::Number(bound), _) => bound,
            (Bound::Times(times), Some(before)) => times * before.number,
            (Bound::Times(_), None) => return (true, "the baseline does not have it".to_owned()),
        };
        let number = found.number;
        let is_true = match self.op {
            // A lower bound that is below may be above in truth.
            Op::More | Op::AtLeast if found.is_bound => true,
            Op::More => number > bound,
            Op::AtLeast => number >= bound,
            Op::Less => number < bound,
            Op::AtMost => number <= bound,
        };
        let at_least = if found.is_bound { "at least " } else { "" };
        let why = match self.what {
            What::Percentile(..) => {
                format!("{at_least}{}, bound {}", times::shown(number), times::shown(bound))
            }
            _ => format!("{number}, bound {bound}"),
        };
        (is_true, why)
    }
}

impl What {
    fn parse(name: &str) -> anyhow::Result<Self> {
        if let Some(count) = COUNTS.into_iter().find(|count| *count == name) {
            return Ok(Self::Count(count));
        }
        let (figure, part) = name.split_once('.').unwrap_or((name, ""));
        let Some(figure) = FIGURES.into_iter().find(|known| *known == figure) else {
            bail!(
                "{name:?} is not known; there are {} and {}",
                FIGURES.join(", "),
                COUNTS.join(", ")
            )
        };
        let percentile = SHOWN.into_iter().find(|(_, shown)| *shown == part);
        match (part, percentile) {
            ("n", _) => Ok(Self::Values(figure, false)),
            ("censored", _) => Ok(Self::Values(figure, true)),
            (_, Some((_, percentile))) => Ok(Self::Percentile(figure, percentile)),
            _ => bail!(
                "{name:?}: behind the point stands p50, p75, p90, p95, p99, p999, max, n or censored"
            ),
        }
    }

    fn bound(&self, text: &str) -> anyhow::Result<Bound> {
        if let Some(times) = text.strip_suffix('x') {
            let times = times.parse().with_context(|| format!("{text:?} is no multiple"))?;
            return Ok(Bound::Times(times));
        }
        Ok(Bound::Number(match self {
            Self::Percentile(..) => millis(times::micros(times::parse(text)?)),
            Self::Count(_) | Self::Values(..) => {
                text.parse().with_context(|| format!("{text:?} is no number"))?
            }
        }))
    }

    fn read(
        &self,
        figures: &BTreeMap<String, Figure>,
        counts: &BTreeMap<String, u64>,
    ) -> Option<Reading> {
        let exact = |number: u64| Some(Reading { number: number as f64, is_bound: false });
        match *self {
            Self::Count(name) => exact(*counts.get(name)?),
            Self::Values(figure, false) => exact(figures.get(figure)?.n),
            Self::Values(figure, true) => exact(figures.get(figure)?.censored),
            Self::Percentile(figure, name) => {
                let figure = figures.get(figure)?;
                let is_bound = figure.lower_bounds.iter().any(|bound| bound == name);
                Some(Reading { number: *figure.percentiles_ms.get(name)?, is_bound })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spread::{Spread, Value};
    use super::*;

    fn judge(text: &str, values: &[Value], dropped: u64) -> Vec<bool> {
        let figures = [("drain".to_owned(), Figure::of(&Spread::of(values.iter().copied())))];
        let counts = [("dropped".to_owned(), dropped)];
        let conditions: FailIf = text.parse().expect("conditions");
        let judged = conditions.judge(&figures.into(), &counts.into(), None);
        judged.into_iter().map(|it| it.fails).collect()
    }

    #[test]
    fn conditions_compare_what_was_measured() {
        let seconds: Vec<_> = (1..=10).map(|s| Value::Exact(s * 1_000_000)).collect();
        let text = "drain.p99>12s, drain.p50>=5s,drain.max<10.5s,dropped>0,drain.n<10,drain.p50>4s";
        assert_eq!(judge(text, &seconds, 0), [false, true, true, false, false, true]);
        assert_eq!(judge("dropped>0", &seconds, 1), [true]);
        assert_eq!(judge("drain.censored>0", &[Value::AtLeast(1)], 0), [true]);
    }

    #[test]
    fn what_is_not_known_for_sure_does_not_pass() {
        let censored = [Value::Exact(1000), Value::AtLeast(2000)];
        assert_eq!(judge("drain.p50>1s,drain.max>1s", &censored, 0), [false, true]);
        assert_eq!(judge("pause.p50>1s,drain.p99>1.2x", &censored, 0), [true, true]);
    }

    #[test]
    fn a_multiple_is_compared_with_the_baseline() {
        let figure = |us| Figure::of(&Spread::of([Value::Exact(us)]));
        let conditions: FailIf = "drain.p50>1.2x".parse().expect("a condition");
        assert!(conditions.needs_baseline());
        let before: Baseline = serde_json::from_value(serde_json::json!({
            "schema": 1, "kind": "keybaton-drain", "counts": {}, "figures": {"drain": figure(1000)},
        }))
        .expect("a baseline");
        for (us, fails) in [(1200, false), (1201, true)] {
            let found = [("drain".to_owned(), figure(us))].into();
            let judged = conditions.judge(&found, &BTreeMap::new(), Some(&before));
            assert_eq!(judged[0].fails, fails, "{judged:?}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_what_to_write() {
        for (text, hint) in [
            ("", "no condition"),
            ("drain.p99", "is no condition"),
            ("drains.p99>1s", "is not known"),
            ("drain.p98>1s", "behind the point"),
            ("drain>1s", "behind the point"),
            ("drain.p99>fast", "is no duration"),
            ("dropped>1s", "is no number"),
            ("dropped>ax", "is no multiple"),
        ] {
            let said = format!("{:#}", text.parse::<FailIf>().expect_err(text));
            assert!(said.contains(hint), "{text}: {said}");
        }
    }
}
