//! How a chart is drawn: axes, lines, and above them a legend that covers nothing.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, Circle, Color, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries, Palette,
    Palette99, PathElement, RGBAColor, SVGBackend, Text, WHITE,
};

/// Small, with large letters: it is read on a phone, scaled to its width.
const SIZE: (u32, u32) = (600, 400);
const LETTERS: (&str, u32) = ("sans-serif", 18);

/// A name in the legend takes so much room; two of them stand in a row.
const NAME: (i32, i32) = (290, 26);

/// The smallest value on an axis that has no zero: a microsecond in milliseconds.
pub const MS_MIN: f64 = 1e-3;

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A named line.
pub struct Series {
    /// In the legend, unless empty.
    pub name: String,
    /// In their order.
    pub points: Vec<(f64, f64)>,
    /// Of the line.
    pub width: u32,
    /// Points without a line between them.
    pub is_dots: bool,
    /// A place in the palette.
    pub colour: usize,
}

/// Axes and lines of one chart.
pub struct Plan {
    /// Under the axis.
    pub x: &'static str,
    /// Beside the axis.
    pub y: &'static str,
    /// No zero.
    pub x_is_log: bool,
    /// No zero.
    pub y_is_log: bool,
    /// How a value is written.
    pub x_label: fn(f64) -> String,
    /// How a value is written.
    pub y_label: fn(f64) -> String,
    /// What is drawn, the last on top.
    pub lines: Vec<Series>,
}

impl Plan {
    /// The picture as a text.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn svg(&self, name: &str) -> Result<String> {
        let mut svg = String::new();
        let legend = self.legend_height();
        let size = (SIZE.0, SIZE.1 + legend);
        self.draw(&SVGBackend::with_string(&mut svg, size).into_drawing_area(), legend)
            .map_err(|fault| anyhow!("cannot draw {name}: {fault}"))?;
        Ok(svg)
    }

    fn named(&self) -> impl Iterator<Item = &Series> {
        self.lines.iter().filter(|line| !line.name.is_empty())
    }

    fn legend_height(&self) -> u32 {
        let rows = u32::try_from(self.named().count().div_ceil(2)).unwrap_or(u32::MAX);
        rows.saturating_mul(NAME.1.unsigned_abs())
    }

    fn draw(&self, area: &Area<'_>, legend: u32) -> Drawn {
        area.fill(&WHITE).map_err(text)?;
        let (above, area) = &area.split_vertically(legend);
        self.draw_legend(above)?;
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
            .x_label_area_size(56)
            .y_label_area_size(84)
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
            let colour = line.colour();
            if line.is_dots {
                let dots = line.points.iter().map(|at| Circle::new(*at, 4, colour.filled()));
                chart.draw_series(dots).map_err(text)?;
            } else {
                let style = colour.stroke_width(line.width);
                chart.draw_series(LineSeries::new(line.points.clone(), style)).map_err(text)?;
            }
        }
        area.present().map_err(text)
    }

    fn draw_legend(&self, area: &Area<'_>) -> Drawn {
        for (place, line) in (0..).zip(self.named()) {
            let (x, y) = (14 + place % 2 * NAME.0, (place / 2) * NAME.1 + NAME.1 / 2 + 4);
            let style = line.colour().stroke_width(3);
            area.draw(&PathElement::new([(x, y), (x + 20, y)], style)).map_err(text)?;
            area.draw(&Text::new(line.name.clone(), (x + 28, y - 9), LETTERS)).map_err(text)?;
        }
        Ok(())
    }
}

impl Series {
    fn colour(&self) -> RGBAColor {
        Palette99::pick(self.colour).to_rgba()
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
