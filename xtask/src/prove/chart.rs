//! The charts of the report: one for each claim that has something that grew.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use keybaton_evidence::{Evidence, Series};
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries,
    Palette, Palette99, PathElement, SVGBackend, SeriesLabelPosition, WHITE,
};

/// Width and height; a page shows it whole on a phone that is turned.
const SIZE: (u32, u32) = (720, 400);

/// How small a value may be on an axis that has no zero.
const FLOOR: f64 = 1e-3;

/// Draws them and returns (claim, file name).
pub fn write(directory: &Path, found: &[Evidence]) -> Result<Vec<(String, String)>> {
    let mut charts = Vec::new();
    for evidence in found.iter().filter(|it| it.series.iter().any(|it| !it.points.is_empty())) {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        for (number, lines) in by_axes(&evidence.series).into_iter().enumerate() {
            let file = format!("{}-{}.svg", evidence.claim, number + 1);
            let path = directory.join(&file);
            let area = SVGBackend::new(&path, SIZE).into_drawing_area();
            draw(&area, &evidence.claim, &lines)
                .map_err(|fault| anyhow!("cannot draw {file}: {fault}"))?;
            drop(area);
            charts.push((evidence.claim.clone(), file));
        }
    }
    Ok(charts)
}

/// Lines that share both axes share a chart.
fn by_axes(series: &[Series]) -> Vec<Vec<&Series>> {
    let mut charts: BTreeMap<(&str, &str), Vec<&Series>> = BTreeMap::new();
    for line in series.iter().filter(|line| !line.points.is_empty()) {
        charts.entry((&line.x, &line.y)).or_default().push(line);
    }
    charts.into_values().collect()
}

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, title: &str, lines: &[&Series]) -> Drawn {
    area.fill(&WHITE).map_err(text)?;
    let all = || lines.iter().flat_map(|line| &line.points);
    let (left, right) = span(all().map(|point| point.0));
    let (_, top) = span(all().map(|point| point.1));
    let bottom = all().map(|point| point.1).fold(f64::INFINITY, f64::min).max(FLOOR);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(left..right, (bottom / 2.0..top.max(bottom) * 2.0).log_scale())
        .map_err(text)?;
    let (x, y) = lines.first().map_or(("", ""), |line| (line.x.as_str(), line.y.as_str()));
    chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw().map_err(text)?;
    for (number, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        let points: Vec<_> = line.points.iter().map(|(x, y)| (*x, y.max(FLOOR))).collect();
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
            .map_err(text)?
            .label(line.name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        let dots = points.into_iter().map(|point| Circle::new(point, 3, colour.filled()));
        chart.draw_series(dots).map_err(text)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()
        .map_err(text)?;
    area.present().map_err(text)
}

fn text(fault: impl std::fmt::Display) -> Box<dyn std::error::Error + Send + Sync> {
    fault.to_string().into()
}

/// From the smallest to the largest, never empty.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low < high { (low, high) } else { (low - 1.0, low + 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_the_same_axes_share_a_chart_and_a_claim_without_lines_has_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let line = |name: &str, y: &str| Series {
            name: name.into(),
            x: "faults".into(),
            y: y.into(),
            points: vec![(0.0, 10.0), (1.0, 4000.0)],
        };
        let evidence =
            |claim: &str, series| Evidence { claim: claim.into(), series, ..Evidence::default() };
        let grown = vec![line("a", "states"), line("b", "states"), line("a", "seconds")];
        let found = [evidence("model", grown), evidence("none", Vec::new())];
        let charts = write(directory.path(), &found).expect("drawn");
        assert_eq!(charts.len(), 2);
        let all: String = charts
            .iter()
            .map(|(_, file)| std::fs::read_to_string(directory.path().join(file)).expect("there"))
            .collect();
        for part in ["<svg", "states", "seconds", "faults"] {
            assert!(all.contains(part), "{part}");
        }
    }
}
