//! The charts of the report, as SVG texts.
//!
//! **Invariant:** nothing is drawn that is not in the raw data or in the summary.

use anyhow::Result;

use super::figures::{Figures, drain, overhead};
use super::plot::{MS_MIN, Plan, Series};
use super::sighting::Sighting;
use super::spread::Spread;
use super::summary::CaseSummary;
use super::times::{millis, tick};

/// A wait of nothing, on an axis that has no zero, in seconds.
const WAIT_MIN: f64 = 0.1;

/// Points of one curve of holders: more cannot be told apart on a page.
const CURVE_POINTS: usize = 300;

/// A picture.
pub struct Chart {
    /// Its file without the ending.
    pub name: &'static str,
    /// What it shows, for the page.
    pub caption: &'static str,
    /// The picture.
    pub svg: String,
}

/// Draws all that there is something to draw for; `ours` is [`broken_calls`] under keybaton.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn draw(
    sightings: &[Sighting],
    figures: &Figures,
    cases: &[CaseSummary],
    ours: f64,
) -> Result<Vec<Chart>> {
    let all = [
        ("spectrum", "How long each figure takes, by percentile", spectrum(figures)),
        ("holders", "Holders of the old version after its end was committed", holders(sightings)),
        ("overhead", "What the machinery adds, by the number of holders", by_holders(sightings)),
        ("safety", "Calls refused or cut, by the time until the old key was dead", {
            safety(sightings, cases, ours)
        }),
    ];
    let mut charts = Vec::new();
    for (name, caption, plan) in all {
        let Some(plan) = plan else { continue };
        charts.push(Chart { name, caption, svg: plan.svg(name)? });
    }
    Ok(charts)
}

fn spectrum(figures: &Figures) -> Option<Plan> {
    let line = |(colour, (name, spread)): (usize, (&str, &Spread))| {
        let n = spread.len();
        // Every rank below a thousand values, and the tail's ranks in any case.
        let ranks = (1..=n).filter(|rank| n <= 1000 || rank % (n / 500) == 0 || n - rank < 100);
        let points = ranks.map(|rank| {
            let value = spread.values()[rank - 1].us();
            (n as f64 / (n - rank + 1) as f64, millis(value).max(MS_MIN))
        });
        Series { name: name.into(), points: points.collect(), width: 2, is_dots: false, colour }
    };
    let lines: Vec<_> = figures.named().into_iter().enumerate().map(line).collect();
    let lines: Vec<_> = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
    (!lines.is_empty()).then_some(Plan {
        x: "percentile",
        y: "",
        x_is_log: true,
        y_is_log: true,
        x_label: |x| {
            format!("{:.5}", 100.0 - 100.0 / x)
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned()
                + "%"
        },
        y_label: tick,
        lines,
    })
}

fn holders(sightings: &[Sighting]) -> Option<Plan> {
    let counted = sightings.iter().filter(|it| !it.is_warm_up && it.curve.len() > 1);
    let mut counted: Vec<_> = counted.filter_map(|it| Some((drain(it)?, it))).collect();
    counted.sort_by_key(|(drain, _)| *drain);
    let middle = counted.get(counted.len().checked_sub(1)? / 2)?.1.number;
    let line =
        |it: &Sighting, width, colour, name: &str, of: fn(&super::sighting::Count) -> u64| {
            let from = it.committed.unwrap_or_default();
            let every = it.curve.len().div_ceil(CURVE_POINTS);
            let kept = it.curve.iter().step_by(every).chain(it.curve.last());
            let points =
                kept.map(|count| (millis(count.at.saturating_sub(from)), of(count) as f64));
            let is_dots = false;
            Series { name: name.into(), points: points.collect(), width, is_dots, colour }
        };
    let others = counted.iter().filter(|(_, it)| it.number != middle);
    let mut lines: Vec<_> = others.map(|(_, it)| line(it, 1, 7, "", |count| count.old)).collect();
    let (_, it) = counted.iter().find(|(_, it)| it.number == middle)?;
    lines.push(line(it, 2, 1, "new version, median rotation", |count| count.new));
    lines.push(line(it, 3, 0, "old version, median rotation", |count| count.old));
    Some(Plan {
        x: "since the commit",
        y: "holders",
        x_is_log: false,
        y_is_log: false,
        x_label: tick,
        y_label: |y| format!("{y:.0}"),
        lines,
    })
}

fn by_holders(sightings: &[Sighting]) -> Option<Plan> {
    let counted = sightings.iter().filter(|it| !it.is_warm_up);
    let points: Vec<_> = counted
        .filter_map(|it| Some((it.holders_at_close as f64, millis(overhead(it)?.us()).max(MS_MIN))))
        .collect();
    (!points.is_empty()).then(|| Plan {
        x: "holders when the old version was closed",
        y: "",
        x_is_log: false,
        y_is_log: true,
        x_label: |x| format!("{x:.0}"),
        y_label: tick,
        lines: vec![Series { name: "overhead".into(), points, width: 2, is_dots: true, colour: 0 }],
    })
}

/// Calls that the provider refused or that its revocation cut, for each hundred agents.
pub fn broken_calls(refused: u64, interrupted: u64, agents: u64) -> f64 {
    (refused + interrupted) as f64 * 100.0 / agents.max(1) as f64
}

fn safety(sightings: &[Sighting], cases: &[CaseSummary], ours: f64) -> Option<Plan> {
    if cases.is_empty() {
        return None;
    }
    let mut lines = Vec::new();
    for (colour, name) in [(1, "clock"), (2, "poll"), (3, "restart")] {
        let own = cases.iter().filter(|case| case.name == name);
        let broken = |case: &CaseSummary| broken_calls(case.refused, case.interrupted, case.tasks);
        let points: Vec<_> = own.map(|case| (case.wait_s.max(WAIT_MIN), broken(case))).collect();
        if !points.is_empty() {
            let is_dots = points.len() == 1;
            lines.push(Series { name: name.into(), points, width: 2, is_dots, colour });
        }
    }
    let dead = |it: &Sighting| {
        let end = it.acknowledged.or(it.emptied)?;
        let took = end.checked_sub(it.committed?)?;
        Some((took as f64 / 1e6, ours))
    };
    let seen = sightings.iter().filter(|it| !it.is_warm_up).filter_map(dead);
    let points: Vec<_> = seen.map(|(x, y)| (x.max(WAIT_MIN), y)).collect();
    lines.push(Series { name: "keybaton".into(), points, width: 2, is_dots: true, colour: 0 });
    Some(Plan {
        x: "from the new key to the end of the old one",
        y: "for each 100 agents",
        x_is_log: true,
        y_is_log: false,
        x_label: |x| tick(x * 1e3),
        y_label: |y| format!("{y:.0}"),
        lines,
    })
}

#[cfg(test)]
mod tests {
    use super::super::sighting::Count;
    use super::*;

    fn rotation(number: u32) -> Sighting {
        let at = u64::from(number);
        Sighting {
            number,
            committed: Some(1000),
            closed: Some(1010),
            emptied: Some(9000 + at),
            acknowledged: Some(12_000 + at),
            looked: 20_000,
            holders_at_close: 50 + at,
            curve: (0..50).map(|n| Count { at: 1000 + n * 160, old: 50 - n, new: n }).collect(),
            ..Sighting::default()
        }
    }

    #[test]
    fn each_chart_has_its_axes_and_its_lines() {
        let seen: Vec<_> = (0..200).map(rotation).collect();
        let charts = draw(&seen, &Figures::of(&seen), &[], 0.0).expect("drawn");
        let named: Vec<_> = charts.iter().map(|chart| chart.name).collect();
        assert_eq!(named, ["spectrum", "holders", "overhead"], "no safety without comparators");
        let words = [&["drain", "99%"][..], &["old version, median"], &["holders when the old"]];
        for (chart, words) in charts.iter().zip(words) {
            assert!(chart.svg.starts_with("<svg"), "{}", chart.svg);
            words
                .iter()
                .for_each(|word| assert!(chart.svg.contains(word), "{}: {word}", chart.name));
        }
    }

    #[test]
    fn a_run_without_rotations_has_no_charts() {
        assert!(draw(&[], &Figures::default(), &[], 0.0).expect("drawn").is_empty());
    }
}
