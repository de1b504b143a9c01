//! `summary.md` of a results folder: the headline, the targets, every figure of every cell, and what to doubt.

use std::fmt::Write as _;

use super::disturbance::disturbances;
use super::measured::{Measured, describe, measured};
use super::quantity::{Unit, digits, quantity};
use super::target::outcomes;
use crate::plan::Plan;
use crate::record::Slice;
use crate::statistics::{Ratio, Spread};

/// The whole text. Writing to a string cannot fail, which is why the results of `writeln!` are dropped here.
pub(crate) fn text(plan: &Plan, slices: &[Slice]) -> String {
    let measured = measured(plan, slices);
    let mut out = format!("# {}\n\n{}\n\n", plain(&plan.name), plain(&plan.note));
    out.push_str(HOW_TO_READ);
    headline(&mut out, &measured);
    targets(&mut out, &measured);
    doubts(&mut out, &measured, slices);
    for measured in &measured {
        cell(&mut out, plan, measured);
    }
    out
}

fn headline(out: &mut String, measured: &[Measured<'_>]) {
    let _ = writeln!(
        out,
        "## Times better than the best of the others\n\n| cell | placement | server CPU | p99 | rate |\n|---|---|---|---|---|"
    );
    for measured in measured {
        let [cpu, p99, rate] = ["cpu", "p99", "rate"].map(|id| {
            let advantage = measured.advantage_over_best(quantity(id)?)?;
            Some(format!(
                "{} than {}",
                times(&advantage.times),
                plain(advantage.rival)
            ))
        });
        let text = |cell: Option<String>| cell.unwrap_or_else(|| "—".to_owned());
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            plain(&measured.cell.name),
            measured.placement.name(),
            text(cpu),
            text(p99),
            text(if measured.cell.load.rate.is_some() {
                None
            } else {
                rate
            }),
        );
    }
    out.push('\n');
}

fn targets(out: &mut String, measured: &[Measured<'_>]) {
    let outcomes = outcomes(measured);
    if outcomes.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "## Targets\n\nA target holds when the whole interval lies above it.\n\n\
         | workload | what | cell | placement | must | moon | reached | |\n|---|---|---|---|---|---|---|---|"
    );
    for outcome in &outcomes {
        let target = outcome.target;
        let [least, most] = outcome.ends();
        let bound = |bound: Option<f64>| {
            bound.map_or_else(|| "—".to_owned(), |bound| target.bound_text(bound))
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} ({} to {}) | {} |",
            target.workload,
            target.title,
            plain(&outcome.cell.name),
            outcome.placement.name(),
            bound(Some(target.must)),
            bound(target.moon),
            target.reached_text(outcome.reached.median),
            least,
            most,
            outcome.verdict.text(),
        );
    }
    out.push('\n');
}

fn doubts(out: &mut String, measured: &[Measured<'_>], slices: &[Slice]) {
    let found = disturbances(measured, slices);
    let _ = writeln!(out, "## What to doubt\n\n{}\n", found.count());
    for (heading, slices) in found.groups() {
        let _ = writeln!(out, "- {heading}:");
        for slice in slices {
            let _ = writeln!(out, "  - {}", plain(&slice));
        }
    }
    out.push('\n');
}

fn cell(out: &mut String, plan: &Plan, measured: &Measured<'_>) {
    let subject = measured.subject().server;
    let _ = write!(
        out,
        "## {}, {}\n\n{}: {}.\n\n| median (least to most) |",
        plain(&measured.cell.name),
        measured.placement.name(),
        plain(&measured.cell.title),
        plain(&describe(plan, measured.cell)),
    );
    for side in &measured.sides {
        let slices = side.slices.len();
        let _ = write!(
            out,
            " {}, {slices} slice{} |",
            plain(side.server),
            if slices == 1 { "" } else { "s" }
        );
    }
    for rival in measured.rivals() {
        let _ = write!(
            out,
            " {} times better than {} |",
            plain(subject),
            plain(rival.server)
        );
    }
    let has_several_rivals = measured.rivals().count() > 1;
    if has_several_rivals {
        out.push_str(" than the better |");
    }
    let columns =
        1 + measured.sides.len() + measured.rivals().count() + usize::from(has_several_rivals);
    let _ = writeln!(out, "\n|{}", "---|".repeat(columns));
    for quantity in measured.quantities() {
        let _ = write!(out, "| {} |", quantity.label);
        for side in &measured.sides {
            let spread = side.spread(quantity);
            let _ = write!(out, " {} |", spread_text(quantity.unit, spread));
        }
        let ratios = measured
            .rivals()
            .map(|rival| measured.advantage(quantity, rival))
            .chain(has_several_rivals.then(|| measured.advantage_over_best(quantity)));
        for advantage in ratios {
            let text = advantage.map_or_else(|| "—".to_owned(), |a| times(&a.times));
            let _ = write!(out, " {text} |");
        }
        out.push('\n');
    }
    out.push('\n');
}

/// `12.3× (11.8 to 12.9)`, and what an interval that holds 1 says: nothing.
fn times(ratio: &Ratio) -> String {
    let interval = if ratio.slices < 2 {
        "one slice".to_owned()
    } else {
        format!("{} to {}", digits(ratio.low), digits(ratio.high))
    };
    let doubt = if ratio.is_claim() { "" } else { ", no claim" };
    format!("{}× ({interval}{doubt})", digits(ratio.median))
}

/// `8.49 µs (8.10 µs to 8.90 µs)`; only the median when all are equal.
fn spread_text(unit: Unit, spread: Option<Spread>) -> String {
    let Some(Spread {
        median,
        least,
        most,
    }) = spread
    else {
        return "—".to_owned();
    };
    let [median, least, most] = [median, least, most].map(|value| unit.text(value));
    if least == most {
        median
    } else {
        format!("{median} ({least} to {most})")
    }
}

/// Foreign text in a table or a paragraph: nothing in it is Markdown or HTML.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '&' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

const HOW_TO_READ: &str = "\
Times better: above 1 is for the first server, whichever direction is good (less CPU, lower latency, higher rate). In brackets the bootstrap's \
95 % interval of the median over rounds, of which each gives one ratio; with one round it is the range of the slices' ratios. An interval that holds 1 claims nothing. \
Latencies of open loops count from the intended start. Every slice that counts was verified: acknowledged changes equal revisions, and \
what was acknowledged was read back.\n\n";
