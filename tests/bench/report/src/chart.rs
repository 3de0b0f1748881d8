//! Charts as SVG, with a ground of their own, so that they can be read on light pages and dark ones.

use std::fmt::Write as _;

use crate::figures::Figure;
use crate::table::number;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 78.0;
const BOTTOM: f64 = 62.0;
/// Told apart by most people who see colours differently.
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#7a5195"];

/// How the figures are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Groups of bars, from zero.
    Bars,
    /// Groups of bars over powers of ten.
    TallBars,
    /// Points with lines between them, from zero.
    Lines,
}

/// One colour of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// One for each category; `None` was not measured.
    pub figures: Vec<Option<Figure>>,
}

/// Figures of several things under several circumstances.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The name of its file, without the ending.
    pub file: &'static str,
    /// The heading, which stands for it where pictures are not shown.
    pub title: String,
    /// How the figures are drawn.
    pub kind: Kind,
    /// What the circumstances are.
    pub across: &'static str,
    /// What the figures are, with their unit.
    pub up: &'static str,
    /// The circumstances.
    pub categories: Vec<String>,
    /// The things.
    pub series: Vec<Series>,
    /// Where to draw the line that we aim at.
    pub aim: Option<f64>,
}

impl Chart {
    pub(crate) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\" role=\"img\">\n\
             <title>{0}</title>\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#fff\"/>\n",
            escaped(&self.title)
        );
        let scale = self.scale();
        text(&mut svg, LEFT, 24.0, "start\" font-size=\"15\" font-weight=\"bold", &self.title);
        self.legend(&mut svg);
        self.axes(&mut svg, &scale);
        match self.kind {
            Kind::Bars | Kind::TallBars => self.bars(&mut svg, &scale),
            Kind::Lines => self.lines(&mut svg, &scale),
        }
        if let Some(aim) = self.aim {
            let y = scale.y(aim);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#c1121f\" stroke-dasharray=\"6 4\"/>",
                WIDTH - RIGHT
            );
            text(&mut svg, WIDTH - RIGHT, y - 5.0, "end\" fill=\"#c1121f", &format!("aim: {}", short(aim)));
        }
        svg + "</svg>\n"
    }

    fn scale(&self) -> Scale {
        let all = || self.series.iter().flat_map(|series| series.figures.iter().flatten());
        let high = all().map(|figure| figure.high).chain(self.aim).filter(|value| value.is_finite());
        let high = high.fold(0.0, f64::max);
        if self.kind == Kind::TallBars {
            let low =
                all().map(|figure| figure.low).filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
            let low = if low.is_finite() { low.log10().floor() } else { 0.0 };
            let high = high.log10().ceil().max(low + 1.0);
            let decades = 0..=((high - low) as i32);
            return Scale {
                low,
                high,
                powers: true,
                ticks: decades.map(|step| 10f64.powf(low + f64::from(step))).collect(),
            };
        }
        let step = step(high);
        let steps = (high / step).ceil().max(1.0);
        let ticks = (0..=steps as u32).map(|count| f64::from(count) * step).collect();
        Scale { low: 0.0, high: steps * step, powers: false, ticks }
    }

    fn legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let _ =
                writeln!(svg, "<rect x=\"{x:.0}\" y=\"38\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
            text(svg, x + 17.0, 48.0, "start", &series.name);
            x += 40.0 + 6.8 * series.name.chars().count() as f64;
        }
    }

    fn axes(&self, svg: &mut String, scale: &Scale) {
        for &tick in &scale.ticks {
            let y = scale.y(tick);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>",
                WIDTH - RIGHT
            );
            text(svg, LEFT - 8.0, y + 4.0, "end", &short(tick));
        }
        for (place, category) in self.categories.iter().enumerate() {
            text(svg, self.middle(place), HEIGHT - BOTTOM + 20.0, "middle", category);
        }
        text(svg, LEFT + plot_width() / 2.0, HEIGHT - 16.0, "middle", self.across);
        let y = TOP + plot_height() / 2.0;
        let turned = format!("middle\" transform=\"rotate(-90 18 {y:.0})");
        text(svg, 18.0, y, &turned, self.up);
    }

    fn bars(&self, svg: &mut String, scale: &Scale) {
        let group = plot_width() / self.categories.len().max(1) as f64 * 0.76;
        let width = (group / self.series.len().max(1) as f64).min(64.0);
        let zero = TOP + plot_height();
        for (number, (series, colour)) in self.series.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let aside = (number as f64 - self.series.len() as f64 / 2.0) * width;
            for (place, figure) in series.figures.iter().enumerate() {
                let Some(figure) = figure.as_ref().filter(|figure| figure.median.is_finite()) else {
                    continue;
                };
                let (x, y) = (self.middle(place) + aside, scale.y(figure.median));
                let _ = writeln!(
                    svg,
                    "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                    x + 1.0,
                    width - 2.0,
                    (zero - y).max(0.0)
                );
                spread(svg, scale, x + width / 2.0, figure);
                text(
                    svg,
                    x + width / 2.0,
                    scale.y(figure.high) - 4.0,
                    "middle\" font-size=\"10",
                    &short(figure.median),
                );
            }
        }
    }

    fn lines(&self, svg: &mut String, scale: &Scale) {
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let mut points = String::new();
            for (place, figure) in series.figures.iter().enumerate() {
                let Some(figure) = figure.as_ref().filter(|figure| figure.median.is_finite()) else {
                    continue;
                };
                let (x, y) = (self.middle(place), scale.y(figure.median));
                let _ = write!(points, "{x:.1},{y:.1} ");
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
                spread(svg, scale, x, figure);
            }
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                points.trim_end()
            );
        }
    }

    fn middle(&self, place: usize) -> f64 {
        LEFT + plot_width() * (place as f64 + 0.5) / self.categories.len().max(1) as f64
    }
}

/// From figures to places on the picture.
struct Scale {
    low: f64,
    high: f64,
    /// Over powers of ten: the bounds are exponents.
    powers: bool,
    ticks: Vec<f64>,
}

impl Scale {
    fn y(&self, value: f64) -> f64 {
        let value = if self.powers { value.log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        TOP + plot_height() * (1.0 - share)
    }
}

/// From the lowest to the highest.
fn spread(svg: &mut String, scale: &Scale, x: f64, figure: &Figure) {
    if figure.low < figure.high {
        let (low, high) = (scale.y(figure.low), scale.y(figure.high));
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"#222\"/>"
        );
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ =
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(words));
}

/// So that there are about five ticks, at round numbers.
fn step(high: f64) -> f64 {
    let rough = if high > 0.0 { high / 5.0 } else { 1.0 };
    let power = 10f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 5.0].into_iter().find(|nice| nice * power >= rough).unwrap_or(10.0);
    nice * power
}

fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    number(value, decimals)
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn plot_width() -> f64 {
    WIDTH - LEFT - RIGHT
}

fn plot_height() -> f64 {
    HEIGHT - TOP - BOTTOM
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(kind: Kind, values: [f64; 2]) -> Chart {
        let figures = values.map(|value| Some(Figure::once(value))).to_vec();
        Chart {
            file: "c",
            title: "bare & ours".into(),
            kind,
            across: "size",
            up: "a second",
            categories: vec!["1".into(), "<2".into()],
            series: vec![Series { name: "s".into(), figures }],
            aim: None,
        }
    }

    #[test]
    fn bars_stand_in_proportion_and_words_are_escaped() {
        let svg = chart(Kind::Bars, [50.0, 100.0]).svg();
        let heights: Vec<f64> = svg
            .lines()
            .filter(|line| line.starts_with("<rect x=") && line.contains("width=\"62.0\""))
            .filter_map(|line| line.split("height=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(heights, [120.0, 240.0]);
        assert!(svg.contains("bare &amp; ours") && svg.contains("&lt;2"), "{svg}");
    }

    #[test]
    fn powers_of_ten_have_a_tick_each() {
        let svg = chart(Kind::TallBars, [3.0, 20_000.0]).svg();
        for tick in ["1", "10", "100", "1 000", "10 000", "100 000"] {
            assert!(svg.contains(&format!(">{tick}</text>")), "{tick}: {svg}");
        }
    }

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        let svg = chart(Kind::Lines, [1.0, f64::NAN]).svg();
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
