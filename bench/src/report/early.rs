//! Results of before plans (2026-11-21, `spine-*`): one comparison of `A` (basalt) and `B` (etcd) a folder, lifted to today's records.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::plan::{Cell, Load, Method, Plan, Shape};
use crate::record::{Figures, Placement, Slice};

/// Whether a plan.json is of that format.
pub(super) fn is_plan(value: &Value) -> bool {
    value.get("comparison").is_some()
}

/// A plan of one cell, named after the workload that it is.
///
/// # Errors
/// When a part is missing.
pub(super) fn plan(value: &Value) -> Result<Plan> {
    let part = |name: &str| value.get(name).with_context(|| format!("no `{name}`"));
    let comparison = part("comparison")?;
    let name = comparison["name"].as_str().context("no `name`")?.to_owned();
    let load: Load = serde_json::from_value(only(part("load")?, &["conns", "streams", "rate"]))?;
    let shape: Shape = serde_json::from_value(only(
        part("shape")?,
        &[
            "workload",
            "keys",
            "key_size",
            "value_size",
            "serializable",
            "limit",
            "seed",
        ],
    ))?;
    let what = match name.as_str() {
        "spine-put" => "W02-put-100",
        "spine-put-lone" => "W01-put-lone",
        "spine-get" => "W07-get-lin",
        other => other,
    };
    let placement = if comparison["pin"] == true {
        Placement::Pinned
    } else {
        Placement::Unpinned
    };
    let method = Method {
        servers: vec!["basalt".to_owned(), ETCD.to_owned()],
        placements: vec![placement],
        rounds: comparison["rounds"].as_u64().unwrap_or(1) as u32,
        unpinned_rounds: None,
        seconds: value["load"]["duration"].as_f64().unwrap_or_default(),
        warmup: value["load"]["warmup"].as_f64().unwrap_or_default(),
        repeats_max: 0,
    };
    Ok(Plan {
        note: format!(
            "A comparison of before plans. {ETCD}: 8 GiB of quota, log level error, Go's own garbage collection."
        ),
        methods: BTreeMap::from([("comparison".to_owned(), method)]),
        cells: vec![Cell {
            title: name.clone(),
            name: what.to_owned(),
            method: "comparison".to_owned(),
            servers: None,
            stay_up: false,
            memory_max_mib: None,
            load,
            shape,
        }],
        name,
    })
}

/// A line of slices.jsonl; what was not measured then is zero.
///
/// # Errors
/// When it lacks what was always there.
pub(super) fn slice(line: &str, plan: &Plan, at: usize) -> Result<Slice> {
    let value: Value = serde_json::from_str(line)?;
    let cell = plan.cells.first().context("a plan without a cell")?;
    let placement = plan
        .methods
        .get(&cell.method)
        .and_then(|method| method.placements.first())
        .context("a plan without a placement")?;
    let mut report = value.get("report").context("no `report`")?.clone();
    let operations = report["operations"].clone();
    fill(
        &mut report,
        json!({
            "inner_operations": operations, "others_busy": 0.0, "server_proportional_bytes": 0, "capacity": null, "overload": null,
            "latency": {"curve": []}, "parts": [], "cost": {"server_threads_ns": 0},
        }),
    );
    let figures: Figures = serde_json::from_value(report)?;
    let is_stolen = value["stolen"] == true;
    Ok(Slice {
        cell: cell.name.clone(),
        placement: *placement,
        server: match value["server"].as_str() {
            Some("A") => "basalt".to_owned(),
            Some("B") => ETCD.to_owned(),
            _ => anyhow::bail!("the server is neither A nor B"),
        },
        round: at as u32 / 4 + 1,
        place: at as u32 + 1,
        discarded: None,
        disturbed: is_stolen.then(|| "more than 1 % of the time was stolen".to_owned()),
        began: 0,
        busiest_other: None,
        idle_busy: 0.0,
        warnings: Vec::new(),
        figures,
    })
}

/// Adds what is missing, at any depth.
fn fill(value: &mut Value, defaults: Value) {
    let (Value::Object(value), Value::Object(defaults)) = (value, defaults) else {
        return;
    };
    for (name, default) in defaults {
        match value.get_mut(&name) {
            Some(present) => fill(present, default),
            None => {
                value.insert(name, default);
            }
        }
    }
}

fn only(value: &Value, names: &[&str]) -> Value {
    let fields = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), value.get(name)?.clone())));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// Neither of today's two configurations.
const ETCD: &str = "etcd";
