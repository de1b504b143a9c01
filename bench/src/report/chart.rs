//! Drawing: lines over two axes and horizontal bars, as SVG whose colours follow the reader's theme.
//!
//! Plotters knows fixed colours only, so each role is drawn in a colour of its own that no theme has, and becomes a class afterwards.

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Ink,
    Soft,
    Grid,
    Surface,
    Discarded,
    /// By the number of the server; from the sixth on they repeat.
    Server(usize),
}

impl Role {
    fn number(self) -> u8 {
        match self {
            Self::Ink => 0,
            Self::Soft => 1,
            Self::Grid => 2,
            Self::Surface => 3,
            Self::Discarded => 4,
            Self::Server(n) => 5 + (n % SERVERS) as u8,
        }
    }

    fn color(self) -> RGBColor {
        RGBColor(0, 0, self.number())
    }
}

/// A finished picture.
pub(super) struct Picture {
    /// Its file is this with `.svg`.
    pub name: String,
    pub title: String,
    /// The elements inside the `svg`, in tenths of a pixel.
    body: String,
    height: i32,
}

impl Picture {
    /// A file of its own, with both themes inside.
    pub(super) fn file(&self) -> String {
        let style = format!("<style>{PALETTE}{STYLE}</style>");
        self.svg(
            &format!(" width=\"{WIDTH}\" height=\"{}\"", self.height),
            &style,
        )
    }

    /// As part of a page that has the styles.
    pub(super) fn inline(&self) -> String {
        self.svg("", "")
    }

    fn svg(&self, size: &str, style: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\"{size} viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{style}{}</svg>\n",
            WIDTH * SCALE,
            self.height * SCALE,
            super::html::escaped(&self.title),
            self.body
        )
    }
}

/// An axis from end to end. Logarithmic ones take values above zero only.
#[derive(Clone)]
pub(super) struct Axis {
    pub label: &'static str,
    pub ends: (f64, f64),
    pub is_logarithmic: bool,
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        if self.is_logarithmic {
            value.max(f64::MIN_POSITIVE).log10()
        } else {
            value
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (from, to) = (self.at(self.ends.0), self.at(self.ends.1));
        let share = (self.at(*value) - from) / (to - from);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.ends.0..self.ends.1
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == value);
        tick.map_or_else(String::new, |(_, text)| text.clone())
    }
}

/// One line of a picture.
pub(super) struct Series {
    pub role: Role,
    pub is_bold: bool,
    /// A dot on every point.
    pub has_marks: bool,
    pub points: Vec<(f64, f64)>,
}

/// A picture of lines.
pub(super) struct Lines {
    pub name: String,
    pub title: String,
    pub legend: Vec<(String, Role)>,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

impl Lines {
    /// Draws it.
    ///
    /// # Errors
    /// When plotters fails, which it does not into a string.
    pub(super) fn draw(&self) -> Result<Picture> {
        picture(&self.name, &self.title, LINES_HEIGHT, |area| {
            self.draw_on(area)
        })
    }

    fn draw_on(&self, area: &Area<'_>) -> Result<()> {
        header(area, &self.title, &self.legend)?;
        text(area, self.y.label, (0, 49), TEXT, Role::Soft, HPos::Left)?;
        text(
            area,
            self.x.label,
            (WIDTH - 2 * MARGIN, LINES_HEIGHT - 2 * MARGIN - 6),
            TEXT,
            Role::Soft,
            HPos::Right,
        )?;
        let plot = area.margin(px(66), px(16), 0, px(14));
        let mut chart = ChartBuilder::on(&plot)
            .x_label_area_size(px(20))
            .y_label_area_size(px(50))
            .build_cartesian_2d(self.x.clone(), self.y.clone())
            .map_err(|error| anyhow!("{error}"))?;
        let label = font(TEXT, Role::Soft);
        chart
            .configure_mesh()
            .bold_line_style(Role::Grid.color().stroke_width(SCALE as u32))
            .axis_style(Role::Soft.color().stroke_width(SCALE as u32))
            .light_line_style(TRANSPARENT)
            .label_style(label)
            .set_all_tick_mark_size(px(5))
            .draw()
            .map_err(|error| anyhow!("{error}"))?;
        for series in &self.series {
            let width = if series.is_bold { 22 } else { 10 };
            let opacity = if series.is_bold { 1.0 } else { 0.5 };
            let style = series.role.color().mix(opacity).stroke_width(width);
            let points = || series.points.iter().copied();
            chart
                .draw_series(LineSeries::new(points(), style))
                .map_err(|error| anyhow!("{error}"))?;
            if series.has_marks {
                chart
                    .draw_series(
                        points().map(|at| Circle::new(at, px(3), series.role.color().filled())),
                    )
                    .map_err(|error| anyhow!("{error}"))?;
            }
        }
        Ok(())
    }
}

/// Bars of one cell, one below the other.
pub(super) struct Group {
    pub label: String,
    pub bars: Vec<Bar>,
}

/// One bar, with a whisker from least to most.
pub(super) struct Bar {
    pub role: Role,
    pub median: f64,
    pub least: f64,
    pub most: f64,
    /// Written behind it.
    pub text: String,
}

/// A picture of bars, all on one scale that begins at zero.
pub(super) struct Bars {
    pub name: String,
    pub title: String,
    pub legend: Vec<(String, Role)>,
    pub groups: Vec<Group>,
}

impl Bars {
    /// Draws it.
    ///
    /// # Errors
    /// As [`Lines::draw`].
    pub(super) fn draw(&self) -> Result<Picture> {
        let bars: usize = self.groups.iter().map(|group| group.bars.len()).sum();
        let height = 46 + 24 * self.groups.len() as i32 + BAR * bars as i32 + 2 * MARGIN;
        picture(&self.name, &self.title, height, |area| self.draw_on(area))
    }

    fn draw_on(&self, area: &Area<'_>) -> Result<()> {
        header(area, &self.title, &self.legend)?;
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let most = bars().map(|bar| bar.most).fold(f64::MIN_POSITIVE, f64::max);
        let length = |value: f64| (value / most * f64::from(px(BARS_WIDTH))) as i32;
        let mut top = 46;
        for group in &self.groups {
            text(
                area,
                &group.label,
                (0, top + 10),
                TEXT,
                Role::Ink,
                HPos::Left,
            )?;
            top += 20;
            for bar in &group.bars {
                let (above, below, middle) =
                    (px(top + 2), px(top + BAR - 3), px(top) + px(BAR) / 2);
                area.draw(&Rectangle::new(
                    [(0, above), (length(bar.median).max(10), below)],
                    bar.role.color().filled(),
                ))?;
                let whisker = Role::Ink.color().stroke_width(12);
                let (from, to) = (length(bar.least), length(bar.most));
                area.draw(&PathElement::new([(from, middle), (to, middle)], whisker))?;
                for end in [from, to] {
                    area.draw(&PathElement::new(
                        [(end, middle - 40), (end, middle + 40)],
                        whisker,
                    ))?;
                }
                let behind = length(bar.most).max(10) / SCALE + 7;
                text(
                    area,
                    &bar.text,
                    (behind, top + BAR / 2),
                    TEXT,
                    Role::Ink,
                    HPos::Left,
                )?;
                top += BAR;
            }
            top += 4;
        }
        Ok(())
    }
}

/// Round numbers from zero to at least `most`, four to seven of them.
pub(super) fn round_ticks(most: f64) -> Vec<f64> {
    let most = if most.is_finite() && most > 0.0 {
        most
    } else {
        1.0
    };
    let rough = most / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let count = (most / step).ceil() as u32;
    (0..=count).map(|n| f64::from(n) * step).collect()
}

/// Powers of ten that hold all of `least..most` between them; with 2 and 5 times them when there are few.
pub(super) fn power_ticks(least: f64, most: f64) -> Vec<f64> {
    let (from, to) = (
        least.log10().floor() as i32,
        (most.log10().ceil() as i32).max(least.log10().floor() as i32 + 1),
    );
    let factors: &[f64] = if to - from <= 2 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    (from..to)
        .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
        .chain([10f64.powi(to)])
        .collect()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn picture(
    name: &str,
    title: &str,
    height: i32,
    draw: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<Picture> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (px(WIDTH) as u32, px(height) as u32))
            .into_drawing_area();
        area.fill(&Role::Surface.color())?;
        draw(&area.margin(px(MARGIN), px(MARGIN), px(MARGIN), px(MARGIN)))?;
        area.present()?;
    }
    let body = svg
        .split_once('>')
        .and_then(|(_, rest)| rest.rsplit_once("</svg>"))
        .map_or("", |(body, _)| body);
    Ok(Picture {
        name: name.to_owned(),
        title: title.to_owned(),
        body: with_classes(body),
        height,
    })
}

/// The title, and below it what the colours mean.
fn header(area: &Area<'_>, title: &str, legend: &[(String, Role)]) -> Result<()> {
    let bold = font(TITLE, Role::Ink).pos(Pos::new(HPos::Left, VPos::Center));
    let bold = TextStyle {
        font: bold.font.style(FontStyle::Bold),
        ..bold
    };
    area.draw(&Text::new(printable(title), (0, px(6)), bold))?;
    let mut left = 0;
    for (name, role) in legend {
        area.draw(&Rectangle::new(
            [(px(left), px(23)), (px(left + 12), px(33))],
            role.color().filled(),
        ))?;
        text(area, name, (left + 17, 28), TEXT, Role::Soft, HPos::Left)?;
        left += 17 + 14 + name.chars().count() as i32 * CHARACTER;
    }
    Ok(())
}

/// One line of text; `at` is the left or right end of its middle, in pixels.
fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    role: Role,
    side: HPos,
) -> Result<()> {
    let style = font(size, role).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(printable(text), (px(at.0), px(at.1)), style))?;
    Ok(())
}

fn font(size: i32, role: Role) -> TextStyle<'static> {
    // The backend divides by this factor.
    ("sans-serif", f64::from(px(size)) * 1.24)
        .into_font()
        .color(&role.color())
}

/// XML has no way to write control characters.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Plotters' colours become classes, its fonts the style's, and what is the default anyway goes.
fn with_classes(body: &str) -> String {
    let mut out = body
        .replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "")
        .replace(" font-family=\"sans-serif\"", "");
    for number in 0..5 + SERVERS as u8 {
        out = out
            .replace(
                &format!("fill=\"#0000{number:02X}\""),
                &format!("class=\"f{number}\""),
            )
            .replace(
                &format!("stroke=\"#0000{number:02X}\""),
                &format!("class=\"s{number}\""),
            );
    }
    out
}

/// From pixels to the picture's own unit, a tenth, as plotters draws at whole numbers.
const fn px(pixels: i32) -> i32 {
    pixels * SCALE
}

const SCALE: i32 = 10;
/// Fits a phone with little scaling; a desktop shows several side by side.
const WIDTH: i32 = 400;
const LINES_HEIGHT: i32 = 280;
const MARGIN: i32 = 12;
const BAR: i32 = 18;
/// The longest bar; behind it there is room for its text.
const BARS_WIDTH: i32 = 290;
const TITLE: i32 = 14;
const TEXT: i32 = 12;
/// About the width of a character of `TEXT`.
const CHARACTER: i32 = 7;
/// Colours of servers.
const SERVERS: usize = 5;
pub(super) const PALETTE: &str = include_str!("palette.css");
pub(super) const STYLE: &str = include_str!("picture.css");
