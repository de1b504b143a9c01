//! Whether the simulator sees mistakes: `cargo run --profile sim -p basalt-tests --features mutants --bin mutants -- --jobs 2`.
//!
//! Each mistake of `engine/src/mutant.rs` is switched on in a process of its own, which runs seeds until the first one that fails; a
//! panic of the engine counts. The table says how many seeds it took and how it showed. A mistake that no seed shows fails the run.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use basalt_engine::mutant::Mutant;
use basalt_tests::sim::plan::{Plan, Wish};
use basalt_tests::sim::run;
use clap::Parser;

/// Runs the simulator on an engine with one mistake at a time.
#[derive(Parser, Debug)]
struct Args {
    /// Seeds for each mistake at most.
    #[arg(long, default_value_t = 5000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Mistakes at a time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Only mistakes with this in their names.
    #[arg(long, default_value = "")]
    only: String,
    /// Inside: makes this mistake and reports on the output.
    #[arg(long, hide = true)]
    worker: Option<String>,
}

/// How a mistake showed.
struct Kill {
    seeds: u64,
    seconds: f64,
    /// `None`: it did not.
    how: Option<String>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(name) = &args.worker {
        work(name, &args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let all = Mutant::ALL.map(|it| format!("{it:?}"));
    let wanted: Vec<&String> = all.iter().filter(|it| it.contains(&args.only)).collect();
    let kills = Mutex::new(BTreeMap::new());
    let next = Mutex::new(wanted.iter());
    thread::scope(|scope| {
        let judge = || -> Result<()> {
            loop {
                let name = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(name) = name else {
                    return Ok(());
                };
                let kill = kill(name, &args)?;
                eprintln!("{}", line(name, &kill));
                let mut kills = kills.lock().unwrap_or_else(PoisonError::into_inner);
                kills.insert((*name).clone(), kill);
            }
        };
        let judges: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(judge)).collect();
        for judge in judges {
            judge.join().expect("judges do not panic")?;
        }
        anyhow::Ok(())
    })?;
    let kills = kills.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("| mistake | seeds | s | seen as |\n|---|---|---|---|");
    for name in wanted {
        println!("{}", line(name, &kills[name]));
    }
    let killed = kills.values().filter(|it| it.how.is_some()).count();
    println!("\n{killed} of {} seen", kills.len());
    Ok(if killed == kills.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line(name: &str, kill: &Kill) -> String {
    let how = kill.how.as_deref().unwrap_or("NOT SEEN");
    format!("| {name} | {} | {:.1} | {how} |", kill.seeds, kill.seconds)
}

/// Runs seeds in a process that makes the mistake, until one fails.
fn kill(name: &str, args: &Args) -> Result<Kill> {
    let began = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--worker", name])
        .args(["--seeds", &args.seeds.to_string()])
        .args(["--first", &args.first.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let errors = child.stderr.take().context("a pipe")?;
    let panics = thread::spawn(move || {
        let lines = BufReader::new(errors).lines().map_while(Result::ok);
        lines.take(20).collect::<Vec<_>>()
    });
    let (mut seeds, mut how) = (0, None);
    for line in BufReader::new(child.stdout.take().context("a pipe")?).lines() {
        match line?.strip_prefix("fail ") {
            None => seeds += 1,
            Some(wrong) => how = Some(short(wrong)),
        }
    }
    let status = child.wait()?;
    let said = panics.join().unwrap_or_default();
    if how.is_none() && !status.success() {
        let place = said.iter().position(|it| it.contains("panicked at"));
        let text = place.and_then(|at| said.get(at + 1));
        how = Some(short(&format!("panic: {}", text.map_or("", |it| it))));
    }
    Ok(Kill {
        seeds,
        seconds: began.elapsed().as_secs_f64(),
        how,
    })
}

/// The beginning of what went wrong, without the time.
fn short(wrong: &str) -> String {
    let text = wrong.split_once(" ms: ").map_or(wrong, |it| it.1);
    text.replace('|', "/").chars().take(100).collect()
}

fn work(name: &str, args: &Args) -> Result<()> {
    let mutant = Mutant::ALL.into_iter().find(|it| format!("{it:?}") == name);
    mutant.context("a mistake by its name")?.switch_on();
    let mut out = std::io::stdout().lock();
    for seed in args.first..args.first + args.seeds {
        writeln!(out, "begin {seed}")?;
        out.flush()?;
        let report = run(&Plan::draw(seed, Wish::default()), false);
        if let Some(wrong) = report.violation {
            writeln!(out, "fail {}", wrong.replace('\n', " "))?;
            break;
        }
    }
    Ok(out.flush()?)
}
