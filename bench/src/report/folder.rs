//! Reading results folders: today's, those of the first format, and malformed ones, which are named and never hide the others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::early;
use super::measured::is_etcd;
use crate::plan::Plan;
use crate::record::Slice;

/// One folder as far as it can be read.
pub(super) struct Folder {
    pub name: String,
    pub plan: Plan,
    pub slices: Vec<Slice>,
    /// `null` when there is none.
    pub host: Value,
    pub has_summary: bool,
    /// In the format of before plans; its summary was written then.
    pub is_early: bool,
}

/// All folders below a directory.
#[derive(Default)]
pub(super) struct Folders {
    /// Newest first.
    pub readable: Vec<Folder>,
    /// What could not be read: file, line and reason.
    pub problems: Vec<String>,
}

impl Folder {
    /// `2026-11-21` of `2026-11-21-a5d902a-spine-put`.
    pub(super) fn date(&self) -> &str {
        self.name.get(..10).unwrap_or(&self.name)
    }

    /// `a5d902a` of it.
    pub(super) fn commit(&self) -> &str {
        self.name.split('-').nth(3).unwrap_or_default()
    }

    /// Whether its figures may stand as the newest ones: basalt beside etcd, and more than a quick look.
    pub(super) fn is_of_record(&self) -> bool {
        !self.plan.name.ends_with("quick")
            && self.slices.iter().any(|slice| slice.server == "basalt")
            && self.slices.iter().any(|slice| is_etcd(&slice.server))
    }

    fn age(&self) -> (String, u64) {
        let began = self.slices.iter().map(|slice| slice.began).min();
        (self.date().to_owned(), began.unwrap_or_default())
    }
}

/// Reads every folder of `results`.
///
/// # Errors
/// When the directory itself cannot be read.
pub(super) fn read_all(results: &Path) -> Result<Folders> {
    let mut all = Folders::default();
    let entries =
        fs::read_dir(results).with_context(|| format!("reading {}", results.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name.filter(|name| path.is_dir() && !name.starts_with('.')) else {
            continue;
        };
        match read(&path, &name, &mut all.problems) {
            Ok(folder) => all.readable.push(folder),
            Err(error) => all.problems.push(format!("{name}/{error:#}")),
        }
    }
    all.problems.sort();
    all.readable
        .sort_by_key(|folder| std::cmp::Reverse((folder.age(), folder.name.clone())));
    Ok(all)
}

/// Reads one; lines that cannot be read are left out and become problems.
///
/// # Errors
/// When there is no plan, or none that can be read; the text begins with the file's name.
pub(super) fn read(path: &Path, name: &str, problems: &mut Vec<String>) -> Result<Folder> {
    let text = fs::read_to_string(path.join("plan.json")).context("plan.json")?;
    let value: Value = serde_json::from_str(&text).context("plan.json")?;
    let is_early = early::is_plan(&value);
    let plan: Plan = if is_early {
        early::plan(&value).context("plan.json")?
    } else {
        // From the text, so that the error knows its line.
        serde_json::from_str(&text).context("plan.json")?
    };
    let host = match fs::read_to_string(path.join("host.json")) {
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| {
            problems.push(format!("{name}/host.json: {error}"));
            Value::Null
        }),
        Err(_) => Value::Null,
    };
    let lines = fs::read_to_string(path.join("slices.jsonl")).unwrap_or_else(|error| {
        problems.push(format!("{name}/slices.jsonl: {error}"));
        String::new()
    });
    let mut slices: Vec<Slice> = Vec::new();
    for (at, line) in lines.lines().enumerate() {
        let slice = if is_early {
            early::slice(line, &plan, at)
        } else {
            serde_json::from_str(line).map_err(anyhow::Error::from)
        };
        match slice {
            Ok(slice) => slices.push(slice),
            Err(error) => {
                problems.push(format!("{name}/slices.jsonl line {}: {error:#}", at + 1));
            }
        }
    }
    let known: BTreeSet<&str> = plan.cells.iter().map(|cell| &*cell.name).collect();
    let unknown: BTreeSet<&str> = slices
        .iter()
        .map(|slice| &*slice.cell)
        .filter(|cell| !known.contains(cell))
        .collect();
    for cell in unknown {
        problems.push(format!("{name}/slices.jsonl: plan.json has no cell {cell}"));
    }
    Ok(Folder {
        name: name.to_owned(),
        has_summary: path.join("summary.md").exists(),
        plan,
        slices,
        host,
        is_early,
    })
}
