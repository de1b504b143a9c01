//! `results/index.html`: one file over all results folders, readable without a server, a network or a script.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::chart::{PALETTE, STYLE};
use super::disturbance::disturbances;
use super::folder::{Folder, Folders, read_all};
use super::html::Html;
use super::measured::{Measured, measured};
use super::quantity::digits;
use super::target::{Outcome, Verdict, outcomes};
use super::{history, section};
use crate::record::Placement;

/// A folder and what it measured.
pub(super) struct Read<'a> {
    pub folder: &'a Folder,
    pub measured: Vec<Measured<'a>>,
}

/// A cell at a placement in the newest folder that has it.
#[derive(Clone, Copy)]
pub(super) struct Shown<'r, 'a> {
    pub folder: &'a Folder,
    pub measured: &'r Measured<'a>,
}

/// Writes the page and tells what could not be read.
///
/// # Errors
/// When the directory cannot be read or the page not be written.
pub(crate) fn write(results: &Path) -> Result<Vec<String>> {
    let folders = read_all(results)?;
    let page = text(&folders)?;
    let path = results.join("index.html");
    fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
    Ok(folders.problems)
}

/// The whole page.
pub(super) fn text(folders: &Folders) -> Result<String> {
    let read: Vec<Read<'_>> = folders
        .readable
        .iter()
        .map(|folder| Read {
            folder,
            measured: measured(&folder.plan, &folder.slices),
        })
        .collect();
    let shown = newest(&read);
    let mut html = Html::default();
    html.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>")
        .raw("<meta name=\"color-scheme\" content=\"light dark\"/><title>basalt beside etcd</title><style>")
        .raw(PALETTE)
        .raw(STYLE)
        .raw(include_str!("page.css"))
        .raw("</style></head><body>\n");
    first_screen(&mut html, &shown, folders.problems.len());
    html.raw("<main>\n");
    let workloads = by_workload(&shown);
    for (workload, cells) in &workloads {
        section::write(&mut html, workload, cells)?;
    }
    history::write(&mut html, &read)?;
    method(&mut html);
    doubts(&mut html, &shown, &read);
    if !folders.problems.is_empty() {
        problems(&mut html, &folders.problems);
    }
    if let Some(newest) = shown.first() {
        host(&mut html, newest.folder);
    }
    all_folders(&mut html, &read);
    html.raw("</main>\n</body></html>\n");
    Ok(html.into_string())
}

/// Per cell and placement the newest folder of record; cells of the first format only where the workload has nothing newer.
fn newest<'r, 'a>(read: &'r [Read<'a>]) -> Vec<Shown<'r, 'a>> {
    let mut shown: Vec<Shown<'r, 'a>> = Vec::new();
    for read in read.iter().filter(|read| read.folder.is_of_record()) {
        for measured in &read.measured {
            let is_known = shown.iter().any(|known| {
                let is_same = known.measured.cell.name == measured.cell.name
                    && known.measured.placement == measured.placement;
                let is_outlived = read.folder.is_early
                    && !known.folder.is_early
                    && known.measured.workload() == measured.workload();
                is_same || is_outlived
            });
            if !is_known {
                shown.push(Shown {
                    folder: read.folder,
                    measured,
                });
            }
        }
    }
    shown
}

fn by_workload<'s, 'r, 'a>(
    shown: &'s [Shown<'r, 'a>],
) -> BTreeMap<&'a str, Vec<&'s Shown<'r, 'a>>> {
    let mut workloads: BTreeMap<&str, Vec<&Shown<'_, '_>>> = BTreeMap::new();
    for shown in shown {
        workloads
            .entry(shown.measured.workload())
            .or_default()
            .push(shown);
    }
    workloads
}

fn first_screen(html: &mut Html, shown: &[Shown<'_, '_>], problems: usize) {
    html.raw("<header>\n<h1>basalt beside etcd</h1>\n");
    html.raw(
        "<p class=\"lead\">How many times better basalt does than the better of default and tuned etcd, measured in turns on one machine. \
         CPU per operation is the processor time that the server’s process used, by its own clock, divided by the operations it answered.</p>\n",
    );
    let outcomes = outcomes(shown.iter().map(|shown| shown.measured));
    html.raw("<div class=\"cards\">\n");
    let mut count = 0;
    for target in super::target::headlines() {
        let mine = || {
            outcomes
                .iter()
                .filter(|outcome| std::ptr::eq(outcome.target, target))
        };
        let Some(outcome) = mine()
            .find(|outcome| outcome.placement == Placement::Pinned)
            .or_else(|| mine().next())
        else {
            continue;
        };
        let folder = shown.iter().find(|shown| {
            std::ptr::eq(shown.measured.cell, outcome.cell)
                && shown.measured.placement == outcome.placement
        });
        card(html, outcome, folder.map(|shown| shown.folder));
        count += 1;
    }
    html.raw("</div>\n");
    if count == 0 {
        html.raw("<p>None of the headline workloads has been measured yet.</p>\n");
    }
    html.raw("<nav aria-label=\"Sections\">");
    for workload in by_workload(shown).keys() {
        html.open("a", &[("href", &format!("#{workload}"))])
            .text(workload)
            .close("a");
    }
    html.raw("<a href=\"#history\">History</a><a href=\"#method\">Method</a><a href=\"#doubts\">What to doubt</a>")
        .raw("<a href=\"#folders\">All results</a>");
    if problems > 0 {
        html.raw("<a class=\"no\" href=\"#problems\">")
            .text(&format!("Not readable: {problems}"))
            .raw("</a>");
    }
    html.raw("</nav>\n</header>\n");
}

fn card(html: &mut Html, outcome: &Outcome<'_>, folder: Option<&Folder>) {
    let (target, reached) = (outcome.target, &outcome.reached);
    let unit = target.quantity().unit;
    html.raw("<article class=\"card\"><h2><span class=\"big\">")
        .text(&digits(reached.median))
        .raw("<span class=\"x\">×</span></span> ")
        .text(target.headline.unwrap_or(target.title))
        .raw("</h2>\n");
    if let Some((rival, theirs)) = outcome.rival {
        let most = outcome.own.max(theirs);
        html.raw("<dl class=\"duel\">");
        for (class, name, value) in [("own", "basalt", outcome.own), ("rival", rival, theirs)] {
            html.raw("<div><dt>")
                .text(name)
                .raw("</dt><dd>")
                .text(&unit.text(value))
                .raw("</dd>");
            let width = format!("width:{:.1}%", (value / most * 100.0).max(0.5));
            html.open("span", &[("class", class), ("style", &width)])
                .close("span")
                .raw("</div>");
        }
        html.raw("</dl>\n");
    }
    html.raw("<p class=\"fine\">")
        .text(&match (reached.slices, reached.is_claim()) {
            (0 | 1, _) => "one slice, no claim".to_owned(),
            (_, is_claim) => format!(
                "95 % between {} and {}×{}",
                digits(reached.low),
                digits(reached.high),
                if is_claim { "" } else { ", no claim" }
            ),
        })
        .raw("</p>\n<p class=\"fine\">");
    bounds(html, outcome);
    html.raw("</p>\n<p class=\"fine\">").text(&format!(
        "{}, {}",
        outcome.cell.name,
        outcome.placement.name()
    ));
    if let Some(folder) = folder {
        html.raw(" · ").link(&[&folder.name, ""], "raw data");
    }
    html.raw("</p></article>\n");
}

/// `must 6× holds, moon 12× not yet`.
fn bounds(html: &mut Html, outcome: &Outcome<'_>) {
    let target = outcome.target;
    let (class, word) = match outcome.verdict {
        Verdict::Moon | Verdict::Must => ("yes", "holds"),
        Verdict::Unproven => ("open", "reached, not proven"),
        Verdict::Missed => ("no", "missed"),
    };
    html.open("span", &[("class", class)])
        .text(&format!("must {} {word}", target.bound_text(target.must)))
        .close("span");
    if let Some(moon) = target.moon {
        let (class, word) = if outcome.verdict == Verdict::Moon {
            ("yes", "holds")
        } else {
            ("open", "not yet")
        };
        html.raw(", ")
            .open("span", &[("class", class)])
            .text(&format!("moon {} {word}", target.bound_text(moon)))
            .close("span");
    }
}

fn problems(html: &mut Html, problems: &[String]) {
    html.raw("<section id=\"problems\"><h2>Not readable</h2><ul class=\"no\">");
    for problem in problems {
        html.element("li", problem);
    }
    html.raw("</ul></section>\n");
}

fn method(html: &mut Html) {
    html.raw(
        "<section id=\"method\"><h2>Method</h2>\
         <p>Both servers are measured by turns, A B B A, in one run on one machine, each started fresh with the same data, pinned (server on one \
         core, generator on the other) and unpinned. Latencies of open loops count from the moment at which a call was due, so a pause of the server is never \
         hidden; every slice is verified by reading back what was acknowledged. A ratio is the median over rounds, of which each gives one; its \
         interval holds 95 % of such medians of rounds drawn again 10 000 times (with one round it is the range of the slices' ratios), and one that holds 1 claims nothing.</p>\
         <p><a href=\"../docs/BENCHMARKS.md\">How to repeat each figure, what is not measured, limits of the method</a></p></section>\n",
    );
}

fn doubts(html: &mut Html, shown: &[Shown<'_, '_>], read: &[Read<'_>]) {
    html.raw("<section id=\"doubts\"><h2>What to doubt</h2>\n");
    for read in read {
        let is_shown = shown
            .iter()
            .any(|shown| std::ptr::eq(shown.folder, read.folder));
        if !is_shown {
            continue;
        }
        let found = disturbances(&read.measured, &read.folder.slices);
        html.raw("<h3>")
            .link(&[&read.folder.name, ""], &read.folder.name)
            .raw("</h3>");
        html.element("p", &found.count());
        for (heading, slices) in found.groups() {
            html.raw("<details><summary>")
                .text(&heading)
                .raw("</summary><ul>");
            for slice in slices {
                html.element("li", &slice);
            }
            html.raw("</ul></details>");
        }
    }
    html.raw("</section>\n");
}

fn host(html: &mut Html, folder: &Folder) {
    html.raw("<section id=\"host\"><h2>The machine</h2><p>")
        .text("As recorded in ")
        .link(&[&folder.name, "host.json"], &folder.name)
        .raw("</p><dl class=\"facts\">");
    facts(html, "", &folder.host);
    html.raw("</dl></section>\n");
}

fn facts(html: &mut Html, name: &str, value: &Value) {
    let text = match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() {
                    field.clone()
                } else {
                    format!("{name} {field}")
                };
                facts(html, &name, value);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Array(values) if values.iter().any(Value::is_object) => {
            for (at, value) in values.iter().enumerate() {
                let own = value.get("name").and_then(Value::as_str);
                let number = (at + 1).to_string();
                facts(html, &format!("{name} {}", own.unwrap_or(&number)), value);
            }
            return;
        }
        Value::Array(values) => {
            let lines = values.iter().map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            lines.collect::<Vec<_>>().join("\n")
        }
        Value::Null => "not recorded".to_owned(),
        other => other.to_string(),
    };
    if text.is_empty() {
        return;
    }
    html.element("dt", &name.replace('_', " "))
        .element("dd", &text);
}

fn all_folders(html: &mut Html, read: &[Read<'_>]) {
    html.raw("<section id=\"folders\"><h2>All results</h2><div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"All results\"><table>\
              <thead><tr><th scope=\"col\">folder</th><th scope=\"col\">commit</th><th scope=\"col\">slices</th><th scope=\"col\">discarded</th>\
              <th scope=\"col\" class=\"prose\">what for</th></tr></thead><tbody>");
    for Read { folder, .. } in read {
        let file = if folder.has_summary { "summary.md" } else { "" };
        let discarded = folder.slices.iter().filter(|s| s.discarded.is_some());
        html.raw("<tr><th scope=\"row\">")
            .link(&[&folder.name, file], &folder.name)
            .raw("</th>")
            .element("td", folder.commit())
            .element("td", &folder.slices.len().to_string())
            .element("td", &discarded.count().to_string())
            .raw("<td class=\"prose\">")
            .text(&folder.plan.note)
            .raw("</td></tr>\n");
    }
    html.raw("</tbody></table></div></section>\n");
}
