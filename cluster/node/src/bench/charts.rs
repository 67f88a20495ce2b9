//! The charts of the report, as SVG texts.
//!
//! **Invariant:** nothing is drawn that is not in the raw data or in the summary.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries,
    Palette, Palette99, PathElement, SVGBackend, SeriesLabelPosition, WHITE,
};

use super::figures::{Figures, drain, overhead};
use super::sighting::Sighting;
use super::spread::Spread;
use super::summary::CaseSummary;
use super::times::{millis, tick};

/// Small, with large letters: it is read on a phone, scaled to its width.
const SIZE: (u32, u32) = (600, 400);
const LETTERS: (&str, u32) = ("sans-serif", 15);

/// The smallest value on an axis that has no zero: a microsecond in milliseconds.
const MS_MIN: f64 = 1e-3;

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

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A named line; `is_dots`: points without a line between them.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    width: u32,
    is_dots: bool,
    colour: usize,
}

/// Draws all that there is something to draw for.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn draw(
    sightings: &[Sighting],
    figures: &Figures,
    cases: &[CaseSummary],
) -> Result<Vec<Chart>> {
    let all = [
        ("spectrum", "How long each figure takes, by percentile", spectrum(figures)),
        ("holders", "Holders of the old version after its end was committed", holders(sightings)),
        ("overhead", "What the machinery adds, by the number of holders", by_holders(sightings)),
        ("safety", "Agents that were harmed, by the time until the old key was dead", {
            safety(sightings, cases)
        }),
    ];
    let mut charts = Vec::new();
    for (name, caption, plan) in all {
        let Some(plan) = plan else { continue };
        let mut svg = String::new();
        plan.draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())
            .map_err(|fault| anyhow!("cannot draw {name}: {fault}"))?;
        charts.push(Chart { name, caption, svg });
    }
    Ok(charts)
}

/// Axes and lines of one chart.
struct Plan {
    x: &'static str,
    y: &'static str,
    x_is_log: bool,
    y_is_log: bool,
    x_label: fn(f64) -> String,
    y_label: fn(f64) -> String,
    lines: Vec<Series>,
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

fn safety(sightings: &[Sighting], cases: &[CaseSummary]) -> Option<Plan> {
    if cases.is_empty() {
        return None;
    }
    let mut lines = Vec::new();
    for (colour, name) in [(1, "clock"), (2, "poll"), (3, "restart")] {
        let own = cases.iter().filter(|case| case.name == name);
        let points: Vec<_> =
            own.map(|case| (case.wait_s.max(WAIT_MIN), case.harmed * 100.0)).collect();
        if !points.is_empty() {
            let is_dots = points.len() == 1;
            lines.push(Series { name: name.into(), points, width: 2, is_dots, colour });
        }
    }
    let dead = |it: &Sighting| {
        let end = it.acknowledged.or(it.emptied)?;
        let took = end.checked_sub(it.committed?)?;
        Some((took as f64 / 1e6, 0.0))
    };
    let ours = sightings.iter().filter(|it| !it.is_warm_up).filter_map(dead);
    let points: Vec<_> = ours.map(|(x, y)| (x.max(WAIT_MIN), y)).collect();
    lines.push(Series { name: "keybaton".into(), points, width: 2, is_dots: true, colour: 0 });
    Some(Plan {
        x: "from the new key to the end of the old one",
        y: "agents harmed",
        x_is_log: true,
        y_is_log: false,
        x_label: |x| tick(x * 1e3),
        y_label: |y| format!("{y:.0}%"),
        lines,
    })
}

impl Plan {
    fn draw(&self, area: &Area<'_>) -> Drawn {
        area.fill(&WHITE).map_err(text)?;
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let (left, right) = span(all().map(|point| point.0), self.x_is_log);
        let (bottom, top) = span(all().map(|point| point.1), self.y_is_log);
        // The axes differ in their types: each pair is a chart of its own.
        match (self.x_is_log, self.y_is_log) {
            (true, true) => self.on(area, (left..right).log_scale(), (bottom..top).log_scale()),
            (true, false) => self.on(area, (left..right).log_scale(), bottom..top),
            (false, true) => self.on(area, left..right, (bottom..top).log_scale()),
            (false, false) => self.on(area, left..right, bottom..top),
        }
    }

    fn on<X, Y>(&self, area: &Area<'_>, x: X, y: Y) -> Drawn
    where
        X: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        X::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
        Y::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(24)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y)
            .map_err(text)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_labels(6)
            .y_labels(7)
            .label_style(LETTERS)
            .axis_desc_style(LETTERS)
            .x_label_formatter(&|x| (self.x_label)(*x))
            .y_label_formatter(&|y| (self.y_label)(*y))
            .light_line_style(WHITE)
            .draw()
            .map_err(text)?;
        for line in &self.lines {
            let colour = Palette99::pick(line.colour).to_rgba();
            let drawn = if line.is_dots {
                let dots = line.points.iter().map(|at| Circle::new(*at, 4, colour.filled()));
                chart.draw_series(dots).map_err(text)?
            } else {
                let style = colour.stroke_width(line.width);
                chart.draw_series(LineSeries::new(line.points.clone(), style)).map_err(text)?
            };
            if !line.name.is_empty() {
                drawn.label(line.name.as_str()).legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(3))
                });
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(LETTERS)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()
            .map_err(text)?;
        area.present().map_err(text)
    }
}

fn text(fault: impl std::fmt::Display) -> Box<dyn std::error::Error + Send + Sync> {
    fault.to_string().into()
}

/// From the smallest to the largest with a little room, never empty; a plain axis begins at zero.
fn span(values: impl Iterator<Item = f64>, is_log: bool) -> (f64, f64) {
    let (low, high) = values
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    match is_log {
        true if low.is_finite() => (low / 1.3, high.max(low) * 1.6),
        true => (MS_MIN, 1.0),
        false => (0.0, if high > 0.0 { high * 1.08 } else { 1.0 }),
    }
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
        let seen: Vec<_> = (0..5).map(rotation).collect();
        let charts = draw(&seen, &Figures::of(&seen), &[]).expect("drawn");
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
        assert!(draw(&[], &Figures::default(), &[]).expect("drawn").is_empty());
    }
}
