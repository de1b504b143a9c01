//! Each headline figure over all results folders.

use anyhow::Result;

use super::chart::{Axis, Lines, Role, Series, round_ticks};
use super::html::Html;
use super::page::Read;
use super::quantity::digits;
use super::target::{Outcome, Target, headlines, outcomes};
use crate::record::Placement;

/// Writes the section.
///
/// # Errors
/// As [`Lines::draw`].
pub(super) fn write(html: &mut Html, read: &[Read<'_>]) -> Result<()> {
    html.raw("<section id=\"history\"><h2>History</h2>\n");
    let all: Vec<(&Read<'_>, Vec<Outcome<'_>>)> = read
        .iter()
        .filter(|read| read.folder.is_of_record())
        .map(|read| (read, outcomes(&read.measured)))
        .collect();
    for target in headlines() {
        let points: Vec<(&Read<'_>, &Outcome<'_>)> = all
            .iter()
            .filter_map(|(read, outcomes)| Some((*read, newest(outcomes, target)?)))
            .collect();
        if !points.is_empty() {
            one(html, target, &points)?;
        }
    }
    html.raw("</section>\n");
    Ok(())
}

/// The one that the headline would show: pinned, else what there is.
fn newest<'o, 'a>(outcomes: &'o [Outcome<'a>], target: &Target) -> Option<&'o Outcome<'a>> {
    let mine = || {
        outcomes
            .iter()
            .filter(|outcome| std::ptr::eq(outcome.target, target))
    };
    mine()
        .find(|outcome| outcome.placement == Placement::Pinned)
        .or_else(|| mine().next())
}

/// `points`: newest first.
fn one(html: &mut Html, target: &Target, points: &[(&Read<'_>, &Outcome<'_>)]) -> Result<()> {
    let unit = target.quantity().unit;
    html.raw("<h3>")
        .text(&format!("{} {}", target.workload, target.title))
        .raw("</h3>\n<div class=\"past\">");
    if points.len() > 1 {
        html.raw("<figure>")
            .picture(&line(target, points)?)
            .raw("</figure>");
    }
    html.open(
        "div",
        &[
            ("class", "box"),
            ("tabindex", "0"),
            ("role", "region"),
            ("aria-label", &format!("History of {}", target.title)),
        ],
    )
    .raw(
        "<table><thead><tr><th scope=\"col\">results</th><th scope=\"col\">times better</th><th scope=\"col\">basalt</th>\
         <th scope=\"col\">best other</th></tr></thead><tbody>",
    );
    for (read, outcome) in points {
        let (rival, theirs) = outcome.rival.unwrap_or(("", f64::NAN));
        html.raw("<tr><th scope=\"row\">")
            .link(&[&read.folder.name, ""], &read.folder.name)
            .raw("</th><td><b>")
            .text(&format!("{}×", digits(outcome.reached.median)))
            .raw("</b><small>")
            .text(&format!(
                "{} to {}",
                digits(outcome.reached.low),
                digits(outcome.reached.high)
            ))
            .raw("</small></td>")
            .element("td", &unit.text(outcome.own))
            .raw("<td>")
            .text(&unit.text(theirs))
            .raw("<small>")
            .text(rival)
            .raw("</small></td></tr>\n");
    }
    html.raw("</tbody></table></div></div>\n");
    Ok(())
}

/// Times better over the folders, oldest on the left.
fn line(target: &Target, points: &[(&Read<'_>, &Outcome<'_>)]) -> Result<super::chart::Picture> {
    let of = |outcome: &Outcome<'_>| outcome.reached.median;
    let most = points
        .iter()
        .map(|(_, outcome)| outcome.reached.high)
        .fold(target.must, f64::max);
    let count = points.len();
    let at = |place: usize| (count - 1 - place) as f64;
    let ticks = round_ticks(most);
    let label = |place: usize| {
        (
            at(place),
            points[place]
                .0
                .folder
                .date()
                .get(5..)
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let mut series = vec![
        Series {
            role: Role::Soft,
            is_bold: false,
            has_marks: false,
            points: vec![(-0.3, target.must), (count as f64 - 0.7, target.must)],
        },
        Series {
            role: Role::Server(0),
            is_bold: true,
            has_marks: true,
            points: (0..count).rev().map(|n| (at(n), of(points[n].1))).collect(),
        },
    ];
    // The intervals, as upright strokes.
    series.extend(
        points
            .iter()
            .enumerate()
            .map(|(place, (_, outcome))| Series {
                role: Role::Server(0),
                is_bold: false,
                has_marks: false,
                points: vec![
                    (at(place), outcome.reached.low),
                    (at(place), outcome.reached.high),
                ],
            }),
    );
    Lines {
        name: String::new(),
        title: format!("{} over time", target.headline.unwrap_or(target.title)),
        legend: vec![
            ("times better".to_owned(), Role::Server(0)),
            (
                format!("must {}", target.bound_text(target.must)),
                Role::Soft,
            ),
        ],
        x: Axis {
            label: "results folders by day, newest on the right",
            ends: (-0.3, count as f64 - 0.7),
            is_logarithmic: false,
            ticks: vec![label(count - 1), label(0)],
        },
        y: Axis {
            label: "times better, with its interval",
            ends: (0.0, ticks.last().copied().unwrap_or(1.0)),
            is_logarithmic: false,
            ticks: ticks
                .into_iter()
                .map(|tick| (tick, format!("{}×", super::target::trimmed(tick))))
                .collect(),
        },
        series,
    }
    .draw()
}
