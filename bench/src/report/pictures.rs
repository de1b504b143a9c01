//! Which pictures there are, and what goes into each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::chart::{
    Axis, Bar, Bars, Group, Lines, Picture, Role, Series, power_ticks, round_ticks,
};
use super::measured::{Measured, Side, measured};
use super::quantity::{Quantity, Unit, quantity};
use crate::plan::Plan;
use crate::record::{Latency, Second, Slice};
use crate::statistics::median;

/// Writes all of a folder.
///
/// # Errors
/// The file system's.
pub(crate) fn write(folder: &Path, plan: &Plan, slices: &[Slice]) -> Result<()> {
    let measured = measured(plan, slices);
    let mut pictures = growth(&measured.iter().collect::<Vec<_>>())?;
    let workloads: BTreeSet<&str> = measured.iter().map(Measured::workload).collect();
    for workload in workloads {
        let cells: Vec<&Measured<'_>> = measured
            .iter()
            .filter(|measured| measured.workload() == workload && !measured.is_growth())
            .collect();
        if !cells.is_empty() {
            pictures.push(cpu(workload, &cells)?);
        }
    }
    for measured in &measured {
        pictures.push(latency(measured)?);
        pictures.push(throughput(measured, slices)?);
        if measured.cell.load.beside.is_some() {
            pictures.push(tail(measured, slices)?);
        }
    }
    for picture in pictures {
        let path = folder.join(format!("{}.svg", picture.name));
        fs::write(&path, picture.file()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// CPU per operation of all cells of a workload, as bars.
///
/// # Errors
/// As [`Lines::draw`].
pub(super) fn cpu(workload: &str, cells: &[&Measured<'_>]) -> Result<Picture> {
    let figure = quantity("cpu").context("the list of quantities has no cpu")?;
    let mut legend: Vec<(String, Role)> = Vec::new();
    let groups = cells
        .iter()
        .map(|measured| Group {
            label: measured.name(),
            bars: measured
                .sides
                .iter()
                .enumerate()
                .filter_map(|(place, side)| {
                    let spread = side.spread(figure)?;
                    let role = role(side.server, place);
                    if !legend.iter().any(|(name, _)| name == side.server) {
                        legend.push((side.server.to_owned(), role));
                    }
                    Some(Bar {
                        role,
                        median: spread.median,
                        least: spread.least,
                        most: spread.most,
                        text: figure.unit.text(spread.median),
                    })
                })
                .collect(),
        })
        .collect();
    Bars {
        name: file_name(&[workload, "cpu"]),
        title: format!("{workload}: server CPU per operation"),
        legend,
        groups,
    }
    .draw()
}

/// Latency by percentile: every slice thin, the slice with the median p99 bold.
///
/// # Errors
/// As [`Lines::draw`].
pub(super) fn latency(measured: &Measured<'_>) -> Result<Picture> {
    let mut series = Vec::new();
    for (place, side) in measured.sides.iter().enumerate() {
        let typical = typical(side);
        for (at, slice) in side.slices.iter().enumerate() {
            series.push(Series {
                role: role(side.server, place),
                is_bold: at == typical,
                has_marks: false,
                points: curve(&slice.figures.latency, slice.figures.operations),
            });
        }
    }
    // The bold ones last: they lie above.
    series.sort_by_key(|series| series.is_bold);
    let values = |of: fn(&(f64, f64)) -> f64| series.iter().flat_map(|s| &s.points).map(of);
    let (least, most) = ends(values(|(_, latency)| *latency));
    let tail = values(|(x, _)| *x).fold(100.0, f64::max);
    let x_ticks = power_ticks(1.0, tail)
        .into_iter()
        .filter(|at| (at.log10() - at.log10().round()).abs() < 1e-9)
        .map(|at| (at, percentile_text(at)));
    Lines {
        name: file_name(&[&measured.cell.name, measured.placement.name(), "latency"]),
        title: format!("{}: latency", measured.name()),
        legend: legend(measured),
        x: Axis {
            label: "percentile of operations",
            ends: (1.0, 10f64.powf(tail.log10().ceil())),
            is_logarithmic: true,
            ticks: x_ticks.collect(),
        },
        y: logarithmic("latency, logarithmic", Unit::Microseconds, least, most),
        series,
    }
    .draw()
}

/// Operations per second over time: all slices one after the other, in the order in which they ran.
///
/// # Errors
/// As [`Lines::draw`].
pub(super) fn throughput(measured: &Measured<'_>, slices: &[Slice]) -> Result<Picture> {
    let track = track(measured, slices, |second| second.done as f64);
    let values = track.series.iter().flat_map(|s| &s.points);
    let most = values.map(|(_, done)| *done).fold(1.0, f64::max);
    let ticks = round_ticks(most);
    let y = Axis {
        label: "operations per second",
        ends: (0.0, ticks.last().copied().unwrap_or(1.0)),
        is_logarithmic: false,
        ticks: ticks.into_iter().map(|tick| (tick, short(tick))).collect(),
    };
    over_time(measured, track, "throughput", y)
}

/// The 99.9th percentile over time, as [`throughput`]: where something else was done beside, it shows when that was felt.
///
/// # Errors
/// As [`Lines::draw`].
pub(super) fn tail(measured: &Measured<'_>, slices: &[Slice]) -> Result<Picture> {
    // Of a second without an answer nothing is known; the answer after it tells how long it was.
    let track = track(measured, slices, |second| second.p999_us.max(1.0));
    let values = track.series.iter().flat_map(|s| &s.points);
    let (least, most) = ends(values.map(|(_, latency)| *latency));
    let label = "p99.9 of each second, logarithmic";
    let y = logarithmic(label, Unit::Microseconds, least, most);
    over_time(measured, track, "tail", y)
}

/// A figure of each second of all slices, one slice after the other, in the order in which they ran.
struct Track {
    legend: Vec<(String, Role)>,
    series: Vec<Series>,
    seconds: f64,
}

fn track(measured: &Measured<'_>, slices: &[Slice], of: fn(&Second) -> f64) -> Track {
    let mut here: Vec<&Slice> = slices
        .iter()
        .filter(|s| s.cell == measured.cell.name && s.placement == measured.placement)
        .collect();
    here.sort_by_key(|slice| slice.place);
    let mut track = Track {
        legend: legend(measured),
        series: Vec::new(),
        seconds: 0.0,
    };
    for slice in here {
        let place = measured
            .sides
            .iter()
            .position(|side| side.server == slice.server);
        let role = match (&slice.discarded, place) {
            (None, Some(place)) => role(&slice.server, place),
            _ => Role::Discarded,
        };
        if role == Role::Discarded && !track.legend.iter().any(|(_, known)| *known == role) {
            track.legend.push(("discarded".to_owned(), role));
        }
        let seconds = &slice.figures.by_second;
        let begin = track.seconds;
        let points = seconds.iter().enumerate().flat_map(|(n, second)| {
            let (from, value) = (begin + n as f64, of(second));
            [(from, value), (from + 1.0, value)]
        });
        track.series.push(Series {
            role,
            is_bold: role != Role::Discarded,
            has_marks: false,
            points: points.collect(),
        });
        track.seconds += seconds.len() as f64;
    }
    track
}

fn over_time(measured: &Measured<'_>, track: Track, name: &str, y: Axis) -> Result<Picture> {
    let end = track.seconds;
    let ticks = round_ticks(end);
    Lines {
        name: file_name(&[&measured.cell.name, measured.placement.name(), name]),
        title: format!("{}: {name}", measured.name()),
        legend: track.legend,
        x: Axis {
            label: "seconds, slices in the order they ran",
            ends: (0.0, end.max(1.0)),
            is_logarithmic: false,
            ticks: ticks
                .into_iter()
                .filter(|tick| *tick <= end)
                .map(|tick| (tick, short(tick)))
                .collect(),
        },
        y,
        series: track.series,
    }
    .draw()
}

/// How CPU, p99 and memory grow with the number of keys: for cells that differ in nothing else.
///
/// # Errors
/// As [`Lines::draw`].
pub(super) fn growth(measured: &[&Measured<'_>]) -> Result<Vec<Picture>> {
    let mut families: BTreeMap<(String, &str), Vec<&Measured<'_>>> = BTreeMap::new();
    for &measured in measured {
        let key = (family(measured), measured.placement.name());
        families.entry(key).or_default().push(measured);
    }
    let mut pictures = Vec::new();
    for ((_, placement), mut cells) in families {
        cells.sort_by_key(|measured| measured.cell.shape.keys);
        cells.dedup_by_key(|measured| measured.cell.shape.keys);
        if cells.len() < 2 {
            continue;
        }
        for (id, word, what) in GROWING {
            let figure = quantity(id).context("the list of quantities lacks one that grows")?;
            if cells[0].subject().spread(figure).is_none() {
                continue;
            }
            pictures.push(grown(&cells, placement, figure, [word, what])?);
        }
    }
    Ok(pictures)
}

fn grown(
    cells: &[&Measured<'_>],
    placement: &str,
    figure: &Quantity,
    [word, what]: [&'static str; 2],
) -> Result<Picture> {
    let first = cells[0];
    let mut series = Vec::new();
    for (place, side) in first.sides.iter().enumerate() {
        let points = cells.iter().filter_map(|measured| {
            let side = measured.sides.iter().find(|s| s.server == side.server)?;
            Some((
                f64::from(measured.cell.shape.keys),
                side.spread(figure)?.median,
            ))
        });
        series.push(Series {
            role: role(side.server, place),
            is_bold: true,
            has_marks: true,
            points: points.collect(),
        });
    }
    let values = |of: fn(&(f64, f64)) -> f64| series.iter().flat_map(|s| &s.points).map(of);
    let (fewest, most_keys) = ends(values(|(keys, _)| *keys));
    let (least, most) = ends(values(|(_, value)| *value));
    let keys = power_ticks(fewest, most_keys);
    let (from, to) = (fewest / 1.3, most_keys * 1.3);
    let name = first
        .cell
        .name
        .rsplit_once('-')
        .map_or(&*first.cell.name, |(family, _)| family);
    Lines {
        name: file_name(&[name, placement, "growth", figure.id]),
        title: format!("{name} {placement}: {word} by keys"),
        legend: legend(first),
        x: Axis {
            label: "keys, logarithmic",
            ends: (from, to),
            is_logarithmic: true,
            ticks: keys
                .into_iter()
                .filter(|keys| *keys >= from && *keys <= to)
                .map(|keys| (keys, short(keys)))
                .collect(),
        },
        y: logarithmic(what, figure.unit, least, most),
        series,
    }
    .draw()
}

/// Equal for cells that differ in the number of keys only, and were measured with the same effort.
fn family(measured: &Measured<'_>) -> String {
    let mut shape = measured.cell.shape.clone();
    shape.keys = 1;
    let cell = measured.cell;
    let workload = measured.workload();
    format!("{workload} {} {:?} {shape:?}", cell.method, cell.load)
}

/// The colour of a server: fixed for the known ones, so that all pictures agree.
fn role(server: &str, place: usize) -> Role {
    Role::Server(match server {
        "basalt" => 0,
        "etcd-tuned" | "etcd" => 1,
        "etcd-default" => 2,
        _ => 3 + place % 2,
    })
}

fn legend(measured: &Measured<'_>) -> Vec<(String, Role)> {
    measured
        .sides
        .iter()
        .enumerate()
        .map(|(place, side)| (side.server.to_owned(), role(side.server, place)))
        .collect()
}

/// The slice whose p99 is next to the median.
fn typical(side: &Side<'_>) -> usize {
    let all: Vec<f64> = side
        .slices
        .iter()
        .map(|slice| slice.figures.latency.p99_us)
        .collect();
    let middle = median(&all);
    let nearest = all
        .iter()
        .enumerate()
        .min_by(|(_, a), (_, b)| (**a - middle).abs().total_cmp(&(**b - middle).abs()));
    nearest.map_or(0, |(at, _)| at)
}

/// Points of the picture: 1 / (1 - quantile), where 10 is the 90th and 100 the 99th percentile. The worst is put where one operation of
/// all lies beyond.
fn curve(latency: &Latency, operations: u64) -> Vec<(f64, f64)> {
    let percentiles = [
        (0.5, latency.p50_us),
        (0.9, latency.p90_us),
        (0.99, latency.p99_us),
        (0.999, latency.p999_us),
        (0.9999, latency.p9999_us),
        (1.0, latency.max_us),
    ];
    let points: &[(f64, f64)] = if latency.curve.is_empty() {
        &percentiles
    } else {
        &latency.curve
    };
    let last = (operations as f64).clamp(2.0, TAIL_MAX);
    points
        .iter()
        .map(|(quantile, latency)| ((1.0 / (1.0 - quantile).max(1e-12)).min(last), *latency))
        .filter(|(_, latency)| *latency > 0.0)
        .collect()
}

/// `99.9` for 1000.
fn percentile_text(x: f64) -> String {
    if x <= 1.0 {
        return "0".to_owned();
    }
    let places = (x.log10().round() as usize).saturating_sub(2);
    format!("{:.places$}", 100.0 - 100.0 / x)
}

fn logarithmic(label: &'static str, unit: Unit, least: f64, most: f64) -> Axis {
    // Bytes are written in powers of two.
    let scale = if unit == Unit::Bytes {
        1_048_576.0
    } else {
        1.0
    };
    let ticks: Vec<f64> = power_ticks(least / scale, most / scale)
        .into_iter()
        .map(|tick| tick * scale)
        .collect();
    let low = ticks
        .iter()
        .copied()
        .filter(|t| *t <= least)
        .fold(ticks[0], f64::max);
    let high = ticks.iter().copied().find(|t| *t >= most).unwrap_or(most);
    Axis {
        label,
        ends: (low, high.max(low * 2.0)),
        is_logarithmic: true,
        ticks: ticks
            .into_iter()
            .filter(|tick| *tick >= low && *tick <= high)
            .map(|tick| (tick, tick_text(unit, tick)))
            .collect(),
    }
}

/// As the unit writes it, without the zeros of a round number.
fn tick_text(unit: Unit, tick: f64) -> String {
    if unit == Unit::Bytes {
        // The unit stands beside the axis.
        return format!("{}", tick / 1_048_576.0);
    }
    let text = unit.text(tick);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    format!("{number} {unit}").trim_end().to_owned()
}

/// `400k` for 400 000.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e3 => format!("{}k", v / 1e3),
        v => format!("{v}"),
    }
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values
        .filter(|value| *value > 0.0 && value.is_finite())
        .fold((f64::INFINITY, 0.0), |(least, most), value| {
            (value.min(least), value.max(most))
        });
    if least <= most {
        (least, most)
    } else {
        (1.0, 10.0)
    }
}

/// Names of cells come from files: nothing in them may lead elsewhere.
fn file_name(parts: &[&str]) -> String {
    parts
        .join(".")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// What is drawn over the number of keys: id, word of the title, label of the axis.
const GROWING: [(&str, &str, &str); 4] = [
    (
        "restart",
        "restart",
        "restart to the first linearizable get",
    ),
    ("cpu", "CPU", "server CPU per operation"),
    ("p99", "p99", "latency p99"),
    ("resident", "memory", "resident memory at the end, MiB"),
];

/// Where the latency axis ends: the 99.999th percentile.
const TAIL_MAX: f64 = 1e5;
