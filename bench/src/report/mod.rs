//! From raw data to what people look at: summary.md and pictures of one folder, one page over all of them.
//!
//! Promises: raw data are only read; foreign text (titles, error texts, names of files) never becomes markup; the page needs no network.
//! Never: knows how something was measured. Start at `measured.rs`, then `summary.rs`, `pictures.rs`, `page.rs`.

mod chart;
mod disturbance;
mod early;
#[cfg(test)]
mod fixture;
mod folder;
mod history;
mod html;
mod measured;
mod page;
pub(crate) mod pictures;
mod quantity;
mod section;
pub(crate) mod summary;
mod target;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Flags of `report`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The directory of all results
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// Make the summary and the pictures of this folder again
    #[arg(long)]
    folder: Option<String>,
}

/// Makes what can be made from raw data, which stay as they are, and says what it wrote and what it could not read.
///
/// # Errors
/// When a directory cannot be read, a file not be written, or the named folder has no plan.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let results = &arguments.results;
    if let Some(name) = &arguments.folder {
        let mut problems = Vec::new();
        let folder = folder::read(&results.join(name), name, &mut problems)
            .with_context(|| format!("reading {name}"))?;
        ensure!(
            !folder.is_early,
            "{name} is of the first format: its summary was written then and stays"
        );
        remake(results, &folder)?;
    }
    for folder in folder::read_all(results)?.readable {
        if !folder.has_summary && !folder.is_early {
            remake(results, &folder)?;
        }
    }
    let problems = page::write(results)?;
    println!("wrote {}", results.join("index.html").display());
    for problem in problems {
        println!("not readable: {problem}");
    }
    Ok(())
}

fn remake(results: &Path, folder: &folder::Folder) -> Result<()> {
    let path = results.join(&folder.name);
    let mut summary = summary::text(&folder.plan, &folder.slices);
    let old = fs::read_to_string(path.join("summary.md")).unwrap_or_default();
    summary.push_str(of_the_run(&old));
    fs::write(path.join("summary.md"), summary)?;
    pictures::write(&path, &folder.plan, &folder.slices)?;
    println!("wrote summary.md and the pictures of {}", path.display());
    Ok(())
}

/// The end of a summary that only the run itself could write: what failed, what it warned of, whether it was interrupted.
fn of_the_run(summary: &str) -> &str {
    let begins = ["\n## Failed\n", "\n## Warnings\n", "\nInterrupted: "];
    let first = begins.iter().filter_map(|begin| summary.find(begin)).min();
    first.map_or("", |at| &summary[at..])
}
