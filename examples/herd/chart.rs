//! How all pictures look: black on white, pens that differ in lightness and in dashes too.

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;
pub(crate) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Plot<'a, X, Y> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>;

pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const FONT: &str = "sans-serif";

/// A way to draw a line.
#[derive(Clone, Copy)]
pub(crate) struct Pen {
    pub(crate) color: RGBColor,
    width: u32,
    /// Pixels drawn, and pixels left out.
    dashes: (i32, i32),
}

const SOLID: (i32, i32) = (i32::MAX, 0);

/// Told apart by lightness (dark to light) where there is no colour, and by dashes where there is
/// no lightness.
pub(crate) const PENS: [Pen; 5] = [
    Pen::new(RGBColor(0x00, 0x00, 0x00), 2, SOLID),
    Pen::new(RGBColor(0x00, 0x4c, 0x8c), 3, (9, 5)),
    Pen::new(RGBColor(0xd5, 0x5e, 0x00), 3, (2, 4)),
    Pen::new(RGBColor(0x2f, 0xa8, 0x74), 3, (16, 4)),
    Pen::new(RGBColor(0x8f, 0xb8, 0xde), 5, SOLID),
];

impl Pen {
    pub(crate) const fn new(color: RGBColor, width: u32, dashes: (i32, i32)) -> Pen {
        Pen {
            color,
            width,
            dashes,
        }
    }

    /// A thin line for a limit.
    pub(crate) const LIMIT: Pen = Pen::new(INK, 1, (12, 6));

    fn stroke(self) -> ShapeStyle {
        self.color.stroke_width(self.width)
    }
}

/// A white page of this many pixels, written when dropped.
pub(crate) fn page(file: &std::path::Path, size: (u32, u32)) -> Result<Canvas<'_>> {
    let canvas = SVGBackend::new(file, size).into_drawing_area();
    canvas.fill(&WHITE)?;
    Ok(canvas)
}

pub(crate) fn font(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

/// A plot with room for its labels.
pub(crate) fn plot<'a, X, Y>(
    canvas: &Canvas<'a>,
    title: &str,
    x: X,
    y: Y,
) -> Result<Plot<'a, X::CoordDescType, Y::CoordDescType>>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
{
    Ok(ChartBuilder::on(canvas)
        .caption(title, font(16))
        .margin(6)
        .margin_right(16)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?)
}

/// Axes with their units, and a light grid.
pub(crate) fn axes<X, Y>(plot: &mut Plot<'_, X, Y>, x: &str, y: &str) -> Result
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    plot.configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .axis_desc_style(font(13))
        .label_style(font(12))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()?;
    Ok(())
}

/// A line through `points`, with a name in the legend.
pub(crate) fn line<X, Y>(
    plot: &mut Plot<'_, X, Y>,
    points: &[(f64, f64)],
    pen: Pen,
    name: &str,
) -> Result
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let (dash, gap) = pen.dashes;
    let series = DashedLineSeries::new(points.to_vec(), dash, gap, pen.stroke());
    plot.draw_series(series)?.label(name).legend(move |(x, y)| {
        DashedPathElement::new(vec![(x, y), (x + 28, y)], dash, gap, pen.stroke())
    });
    Ok(())
}

/// A filled area from `floor` up to `points`, with a name in the legend.
pub(crate) fn area<X, Y>(
    plot: &mut Plot<'_, X, Y>,
    points: &[(f64, f64)],
    floor: f64,
    color: RGBColor,
    name: &str,
) -> Result
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let style = color.filled();
    plot.draw_series(AreaSeries::new(points.to_vec(), floor, style))?
        .label(name)
        .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 28, y + 5)], style));
    Ok(())
}

/// The names of all that was drawn.
pub(crate) fn legend<X, Y>(plot: &mut Plot<'_, X, Y>, position: SeriesLabelPosition) -> Result
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    plot.configure_series_labels()
        .position(position)
        .legend_area_size(34)
        .margin(8)
        .background_style(WHITE.mix(0.9))
        .border_style(GRID)
        .label_font(font(13))
        .draw()?;
    Ok(())
}

/// `1500000` as `1.5 M`.
fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e4 => format!("{} k", value / 1e3),
        value => format!("{}", (value * 1e9).round() / 1e9),
    }
}
