//! One workload of the page: a table of its cells, its pictures, and every figure behind a fold.

use anyhow::Result;

use super::html::Html;
use super::measured::{Advantage, Measured, Side, describe};
use super::page::Shown;
use super::pictures;
use super::quantity::{QUANTITIES, Quantity, digits, values};
use super::target::{Outcome, Verdict, outcomes};
use crate::plan::Kind;
use crate::statistics::median;

/// Writes it.
///
/// # Errors
/// As [`pictures::cpu`].
pub(super) fn write(html: &mut Html, workload: &str, cells: &[&Shown<'_, '_>]) -> Result<()> {
    let measured: Vec<&Measured<'_>> = cells.iter().map(|cell| cell.measured).collect();
    let (growing, plain): (Vec<&Measured<'_>>, Vec<&Measured<'_>>) =
        measured.iter().partition(|measured| measured.is_growth());
    html.open("section", &[("id", workload)])
        .raw("<h2>")
        .text(workload);
    if let Some((_, title)) = TITLES.iter().find(|(known, _)| *known == workload) {
        html.raw(" <span class=\"soft\">")
            .text(title)
            .raw("</span>");
    }
    html.raw("</h2>\n");
    targets(html, &plain);
    table(html, workload, &measured);
    html.raw("<div class=\"pictures\">");
    if let Some(first) = cells.iter().find(|cell| !cell.measured.is_growth()) {
        figure(html, &pictures::cpu(workload, &plain)?);
        figure(html, &pictures::latency(first.measured)?);
        let slices = &first.folder.slices;
        figure(html, &pictures::throughput(first.measured, slices)?);
        if first.measured.cell.load.beside.is_some() {
            figure(html, &pictures::tail(first.measured, slices)?);
        }
    }
    for picture in pictures::growth(&growing)? {
        figure(html, &picture);
    }
    html.raw("</div>\n");
    let first = cells.iter().position(|cell| !cell.measured.is_growth());
    for (at, cell) in cells.iter().enumerate() {
        details(html, cell, Some(at) != first)?;
    }
    html.raw("</section>\n");
    Ok(())
}

fn targets(html: &mut Html, measured: &[&Measured<'_>]) {
    let outcomes = outcomes(measured.iter().copied());
    if outcomes.is_empty() {
        return;
    }
    html.raw("<ul class=\"targets\">");
    for target in super::target::all() {
        let mine: Vec<&Outcome<'_>> = outcomes
            .iter()
            .filter(|outcome| std::ptr::eq(outcome.target, target))
            .collect();
        if mine.is_empty() {
            continue;
        }
        html.raw("<li>").text(target.title).raw(": ");
        let has_must = |verdict| matches!(verdict, Verdict::Must | Verdict::Moon);
        holds(
            html,
            "must",
            target.bound_text(target.must),
            &mine,
            has_must,
        );
        if let Some(moon) = target.moon {
            html.raw(", ");
            let has_moon = |verdict| verdict == Verdict::Moon;
            holds(html, "moon", target.bound_text(moon), &mine, has_moon);
        }
        html.raw("</li>");
    }
    html.raw("</ul>\n");
}

/// `must 7× holds in 3 of 4`; of the plain cases only the word.
fn holds(
    html: &mut Html,
    name: &str,
    bound: String,
    outcomes: &[&Outcome<'_>],
    test: impl Fn(Verdict) -> bool,
) {
    let count = outcomes.iter().filter(|o| test(o.verdict)).count();
    let is_missed = name == "must" && outcomes.iter().any(|o| o.verdict == Verdict::Missed);
    let (class, words) = match count {
        n if n == outcomes.len() => ("yes", "holds".to_owned()),
        0 if is_missed => ("no", "missed".to_owned()),
        0 => ("open", "not yet proven".to_owned()),
        n => (
            if is_missed { "no" } else { "open" },
            format!("holds in {n} of {} cells", outcomes.len()),
        ),
    };
    html.open("span", &[("class", class)])
        .text(&format!("{name} {bound} {words}"))
        .close("span");
}

/// A line for each cell and placement, three columns for each figure that matters here.
fn table(html: &mut Html, workload: &str, measured: &[&Measured<'_>]) {
    let columns: Vec<&Quantity> = QUANTITIES
        .iter()
        .filter(|quantity| is_shown(quantity, measured))
        .collect();
    html.open(
        "div",
        &[
            ("class", "box"),
            ("tabindex", "0"),
            ("role", "region"),
            ("aria-label", &format!("{workload} figures")),
        ],
    );
    html.raw("<table><thead><tr><th rowspan=\"2\" scope=\"col\">cell</th>");
    for column in &columns {
        html.raw("<th colspan=\"3\" scope=\"colgroup\">")
            .text(column.label)
            .raw("</th>");
    }
    html.raw("</tr><tr>");
    for _ in &columns {
        html.raw("<th scope=\"col\">times better</th><th scope=\"col\">basalt</th><th scope=\"col\">best other</th>");
    }
    html.raw("</tr></thead><tbody>\n");
    for measured in measured {
        html.raw("<tr><th scope=\"row\">")
            .text(&measured.cell.name)
            .raw(" <small>")
            .text(measured.placement.name())
            .raw("</small></th>");
        for column in &columns {
            triple(html, measured, column);
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}

fn triple(html: &mut Html, measured: &Measured<'_>, quantity: &Quantity) {
    let of = |side: &Side<'_>| quantity.unit.text(median(&values(quantity, &side.slices)));
    let Some(advantage) = measured.advantage_over_best(quantity) else {
        html.raw("<td>—</td>")
            .element("td", &of(measured.subject()))
            .raw("<td>—</td>");
        return;
    };
    times_cell(html, Some(&advantage));
    let side = measured
        .rivals()
        .find(|side| side.server == advantage.rival);
    html.element("td", &of(measured.subject()))
        .raw("<td>")
        .text(&side.map_or_else(String::new, of))
        .raw("<small>")
        .text(advantage.rival)
        .raw("</small></td>");
}

/// How many times better, green or red only where that is a claim.
fn times_cell(html: &mut Html, advantage: Option<&Advantage<'_>>) {
    let Some(Advantage { times, .. }) = advantage else {
        html.raw("<td>—</td>");
        return;
    };
    let class = match times.is_claim() {
        true if times.median > 1.0 => "yes",
        true => "no",
        false => "open",
    };
    html.raw("<td>")
        .open("b", &[("class", class)])
        .text(&format!("{}×", digits(times.median)))
        .close("b")
        .raw("<small>");
    if times.slices < 2 {
        html.raw("one slice");
    } else {
        html.text(&format!("{} to {}", digits(times.low), digits(times.high)));
    }
    html.raw("</small></td>");
}

/// The few figures of the table; the others are behind the fold.
fn is_shown(quantity: &Quantity, measured: &[&Measured<'_>]) -> bool {
    let any = |test: fn(&Measured<'_>) -> bool| measured.iter().any(|measured| test(measured));
    let is_there = measured
        .iter()
        .any(|measured| measured.subject().spread(quantity).is_some());
    is_there
        && match quantity.id {
            "cpu" | "cpu-inner" | "p99" => true,
            "connects" | "idle-bytes" | "used-bytes" => true,
            "event-cpu" | "event-p99" | "watch-bytes" | "watch-creations" | "catch-up" => true,
            "watch-p99-times" | "watch-cpu-times" => true,
            "major-faults" => any(|m| m.cell.memory_max_mib.is_some()),
            "leases-gone" => true,
            "restart" | "restart-cpu" | "restart-resident" => true,
            "walk" | "beside" | "beside-rate" => true,
            "stall" => any(|m| m.cell.load.beside.is_some()),
            // Where cells differ in it, it is what they are about.
            "value-rate" => measured
                .windows(2)
                .any(|pair| pair[0].cell.shape.value_size != pair[1].cell.shape.value_size),
            "reads" | "reads-p99" | "writes" | "writes-p99" => true,
            "capacity" | "goodput" | "goodput-share" | "recovery" => true,
            "p50" => measured.iter().all(|m| m.cell.load.conns == 1),
            "p999" => any(|m| m.cell.load.rate.is_some()),
            "rate" => any(|m| {
                let load = &m.cell.load;
                let is_closed = load.rate.is_none() && load.capacity_p99_ms.is_none();
                is_closed && !load.overload && m.cell.shape.workload != Kind::Mixed
            }),
            _ => false,
        }
}

fn details(html: &mut Html, shown: &Shown<'_, '_>, with_pictures: bool) -> Result<()> {
    let Shown { folder, measured } = shown;
    html.raw("<details><summary>")
        .text(&format!("{}: all figures", measured.name()))
        .raw("</summary>\n<p>")
        .text(&format!(
            "{}: {}. ",
            measured.cell.title,
            describe(&folder.plan, measured.cell)
        ))
        .link(&[&folder.name, ""], "Raw data")
        .raw("</p>\n");
    all_figures(html, measured);
    if with_pictures {
        html.raw("<div class=\"pictures\">");
        figure(html, &pictures::latency(measured)?);
        figure(html, &pictures::throughput(measured, &folder.slices)?);
        if measured.cell.load.beside.is_some() {
            figure(html, &pictures::tail(measured, &folder.slices)?);
        }
        html.raw("</div>\n");
    }
    html.raw("</details>\n");
    Ok(())
}

fn all_figures(html: &mut Html, measured: &Measured<'_>) {
    html.open(
        "div",
        &[
            ("class", "box full"),
            ("tabindex", "0"),
            ("role", "region"),
            ("aria-label", &format!("All figures of {}", measured.name())),
        ],
    )
    .raw("<table><thead><tr><th scope=\"col\">median<small>least to most</small></th>");
    for rival in measured.rivals() {
        html.raw("<th scope=\"col\">times better<small>than ")
            .text(rival.server)
            .raw("</small></th>");
    }
    for side in &measured.sides {
        html.raw("<th scope=\"col\">")
            .text(side.server)
            .raw("<small>")
            .text(&format!("slices: {}", side.slices.len()))
            .raw("</small></th>");
    }
    html.raw("</tr></thead><tbody>\n");
    for quantity in measured.quantities() {
        html.raw("<tr><th scope=\"row\">")
            .text(quantity.label)
            .raw("</th>");
        for rival in measured.rivals() {
            times_cell(html, measured.advantage(quantity, rival).as_ref());
        }
        for side in &measured.sides {
            let Some(spread) = side.spread(quantity) else {
                html.raw("<td>—</td>");
                continue;
            };
            let [median, least, most] =
                [spread.median, spread.least, spread.most].map(|value| quantity.unit.text(value));
            html.raw("<td>").text(&median);
            if least != most {
                html.raw("<small>")
                    .text(&format!("{least} to {most}"))
                    .raw("</small>");
            }
            html.raw("</td>");
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}

fn figure(html: &mut Html, picture: &super::chart::Picture) {
    html.raw("<figure>").picture(picture).raw("</figure>\n");
}

/// The workloads by the names of workloads.md, for people.
const TITLES: &[(&str, &str)] = &[
    ("W01", "a lone put"),
    ("W02", "puts, 100 in flight"),
    ("W03", "puts, 1000 in flight"),
    ("W04", "puts at a given rate"),
    ("W05", "values of many sizes"),
    ("W06", "puts among more and more keys"),
    ("W07", "gets of one key"),
    ("W08", "ranges of 1000 keys"),
    ("W09", "pages of a list"),
    ("W10", "counts and names of all keys"),
    ("W11", "lists of everything beside puts"),
    ("W12", "reads and writes mixed"),
    ("W13", "what Kubernetes sends"),
    ("W14", "transactions of many operations"),
    ("W15", "one hot key"),
    ("W16", "one watcher"),
    ("W17", "ten thousand watchers of the same keys"),
    ("W18", "many watchers of a key each"),
    ("W19", "ten thousand watchers with previous values"),
    ("W20", "watchers that do not read for a while"),
    ("W21", "watchers that begin far behind"),
    ("W22", "renewals of leases"),
    ("W23", "puts while leases end together"),
    ("W24", "puts while a large lease ends"),
    ("W25", "puts beside a compaction"),
    ("W26", "puts beside compactions again and again"),
    ("W27", "puts and gets beside a defragmentation"),
    ("W28", "puts beside a snapshot"),
    ("W29", "restarts"),
    ("W30", "more data than memory"),
    ("W31", "idle connections"),
    ("W33", "three members"),
    ("W35", "overload"),
];
