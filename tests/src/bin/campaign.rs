//! Simulations by the thousand: `cargo run --profile sim -p basalt-tests --bin campaign -- --seeds 20000 --jobs 2`.
//!
//! Seeds run in worker processes, so that a panic of the engine is one failing seed. What fails is made smaller and kept in
//! `tests/bugs`. One in a hundred seeds runs once more in a process of its own and must leave the same trace.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use basalt_tests::sim::kept::Kept;
use basalt_tests::sim::plan::{Plan, Wish};
use basalt_tests::sim::shrink::shrink;
use basalt_tests::sim::{Tally, run};
use clap::Parser;

/// Runs simulations and keeps what fails.
#[derive(Parser, Debug)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Processes at a time.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Members of each cluster; 0 lets the seed decide.
    #[arg(long, default_value_t = 0)]
    members: u8,
    /// Where failing plans go.
    #[arg(long, default_value = "tests/bugs")]
    keep: PathBuf,
    /// Ends after so many failing seeds.
    #[arg(long, default_value_t = 10)]
    failures: usize,
    /// Runs one kept plan and nothing else.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// With `--seeds 1` or `--plan`: prints all that happens.
    #[arg(long)]
    trace: bool,
    /// Inside: every so many seeds, reporting on the output.
    #[arg(long, hide = true)]
    worker: bool,
    /// Inside: from one seed to the next.
    #[arg(long, hide = true, default_value_t = 1)]
    stride: u64,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let wish = Wish {
        members: args.members,
    };
    if let Some(path) = &args.plan {
        return Ok(show(&Kept::read(path)?.plan, args.trace));
    }
    if args.worker {
        work(&args, wish)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.seeds == 1 {
        return Ok(show(&Plan::draw(args.first, wish), args.trace));
    }
    Campaign::new(&args, wish).run()
}

/// Runs one plan and says how it went.
fn show(plan: &Plan, wants_lines: bool) -> ExitCode {
    let report = run(plan, wants_lines);
    for line in &report.lines {
        println!("{line}");
    }
    println!("trace {:032x}", report.trace);
    match report.violation {
        None => ExitCode::SUCCESS,
        Some(wrong) => {
            println!("VIOLATION {wrong}");
            ExitCode::FAILURE
        }
    }
}

/// What a worker says: `begin SEED`, then `done SEED TRACE` or `fail SEED WHY`, and now and then `tally JSON`.
fn work(args: &Args, wish: Wish) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut tally = Tally::default();
    let end = args.first + args.seeds;
    for (number, seed) in (args.first..end).step_by(args.stride as usize).enumerate() {
        writeln!(out, "begin {seed}")?;
        out.flush()?;
        let report = run(&Plan::draw(seed, wish), false);
        tally.merge(&report.tally);
        match report.violation {
            None => writeln!(out, "done {seed} {:032x}", report.trace)?,
            Some(wrong) => writeln!(out, "fail {seed} {}", wrong.replace('\n', " "))?,
        }
        if number % 64 == 63 {
            writeln!(out, "tally {}", serde_json::to_string(&tally.0)?)?;
            tally = Tally::default();
        }
    }
    writeln!(out, "tally {}", serde_json::to_string(&tally.0)?)?;
    Ok(out.flush()?)
}

struct Campaign<'a> {
    args: &'a Args,
    wish: Wish,
    began: Instant,
    done: u64,
    failed: BTreeMap<u64, String>,
    tally: BTreeMap<String, u64>,
    repeated: u64,
}

/// Something that a worker said, or that it is gone.
enum Said {
    Line(u64, String),
    Gone(u64, Child),
}

impl<'a> Campaign<'a> {
    fn new(args: &'a Args, wish: Wish) -> Self {
        Self {
            args,
            wish,
            began: Instant::now(),
            done: 0,
            failed: BTreeMap::new(),
            tally: BTreeMap::new(),
            repeated: 0,
        }
    }

    fn run(mut self) -> Result<ExitCode> {
        let (sender, said) = channel();
        let jobs = self.args.jobs.clamp(1, self.args.seeds);
        let mut at: BTreeMap<u64, u64> = BTreeMap::new();
        for job in 0..jobs {
            self.spawn(job, self.args.first + job, &sender)?;
            at.insert(job, self.args.first + job);
        }
        self.listen(&said, &sender, &mut at)?;
        self.report();
        let is_well = self.failed.is_empty() && self.done == self.args.seeds;
        for (seed, wrong) in std::mem::take(&mut self.failed) {
            println!("seed {seed}: {wrong}");
            let path = self.keep(seed, &wrong)?;
            println!("  kept as {}", path.display());
        }
        Ok(if is_well {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn listen(
        &mut self,
        said: &Receiver<Said>,
        sender: &Sender<Said>,
        at: &mut BTreeMap<u64, u64>,
    ) -> Result<()> {
        let mut told = Instant::now();
        while !at.is_empty() {
            match said.recv_timeout(Duration::from_secs(1)) {
                Ok(Said::Line(job, line)) => self.hear(job, &line, at)?,
                Ok(Said::Gone(job, mut child)) => {
                    let seed = at.remove(&job).expect("it ran");
                    let status = child.wait()?;
                    let end = self.args.first + self.args.seeds;
                    if !status.success() && self.failed.len() < self.args.failures {
                        self.failed.insert(seed, format!("panic ({status})"));
                        let next = seed + self.args.jobs.clamp(1, self.args.seeds);
                        if next < end {
                            self.spawn(job, next, sender)?;
                            at.insert(job, next);
                        }
                    }
                }
                Err(_) => {}
            }
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                self.say_progress();
            }
            if self.failed.len() >= self.args.failures {
                println!("{} failing seeds: enough", self.failed.len());
                break;
            }
        }
        Ok(())
    }

    fn hear(&mut self, job: u64, line: &str, at: &mut BTreeMap<u64, u64>) -> Result<()> {
        let (word, rest) = line.split_once(' ').context("a word and more")?;
        let (first, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "begin" => {
                at.insert(job, first.parse()?);
            }
            "done" => {
                let seed: u64 = first.parse()?;
                if seed.is_multiple_of(100) {
                    self.repeated += 1;
                    let again = self.trace_of(seed)?;
                    if again != rest {
                        let wrong = format!("other traces: {rest}, then {again}");
                        self.failed.insert(seed, wrong);
                        return Ok(());
                    }
                }
                self.done += 1;
            }
            "fail" => {
                self.failed.insert(first.parse()?, rest.to_owned());
            }
            "tally" => {
                let more: BTreeMap<String, u64> = serde_json::from_str(&line["tally ".len()..])?;
                for (what, count) in more {
                    *self.tally.entry(what).or_default() += count;
                }
            }
            _ => bail!("a worker said: {line}"),
        }
        Ok(())
    }

    fn spawn(&self, job: u64, first: u64, sender: &Sender<Said>) -> Result<()> {
        let end = self.args.first + self.args.seeds;
        let mut child = command()?
            .args(["--worker", "--first", &first.to_string()])
            .args(["--seeds", &(end - first).to_string()])
            .args([
                "--stride",
                &self.args.jobs.clamp(1, self.args.seeds).to_string(),
            ])
            .args(["--members", &self.wish.members.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody listens any more when the campaign was ended early.
                if sender.send(Said::Line(job, line)).is_err() {
                    break;
                }
            }
            // As above.
            let _ = sender.send(Said::Gone(job, child));
        });
        Ok(())
    }

    /// The trace of a seed in a process of its own.
    fn trace_of(&self, seed: u64) -> Result<String> {
        let output = command()?
            .args(["--seeds", "1", "--first", &seed.to_string()])
            .args(["--members", &self.wish.members.to_string()])
            .env("BASALT_OTHER_ENVIRONMENT", "1".repeat(seed as usize % 997))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let trace = text.lines().find_map(|line| line.strip_prefix("trace "));
        Ok(trace.unwrap_or("none").to_owned())
    }

    /// Makes a failing plan smaller and writes it down.
    fn keep(&self, seed: u64, wrong: &str) -> Result<PathBuf> {
        let plan = Plan::draw(seed, self.wish);
        let scratch = tempfile::tempdir()?;
        let file = scratch.path().join("plan.json");
        let kind = fails_with(&plan, &file)?;
        let mut small = plan;
        if let Some(kind) = &kind {
            let mut fails =
                |plan: &Plan| fails_with(plan, &file).is_ok_and(|it| it.as_deref() == Some(kind));
            small = shrink(&small, SHRINK_TRIES, &mut fails);
        }
        println!(
            "  {} faults and {} questions are left of it",
            small.faults.len(),
            small.steps.len()
        );
        let kept = Kept {
            violation: wrong.to_owned(),
            plan: small,
        };
        kept.write(&self.args.keep)
    }

    fn say_progress(&self) {
        let seconds = self.began.elapsed().as_secs_f64();
        println!(
            "{} of {} seeds, {:.1} a second, {} failing",
            self.done + self.failed.len() as u64,
            self.args.seeds,
            self.done as f64 / seconds,
            self.failed.len()
        );
    }

    fn report(&self) {
        for (what, count) in &self.tally {
            println!("{count:>12} {what}");
        }
        println!("{:>12} seeds run twice", self.repeated);
        self.say_progress();
    }
}

/// The kind of failure of a plan, run in a process of its own: its words without numbers. `None`: it passes.
fn fails_with(plan: &Plan, file: &Path) -> Result<Option<String>> {
    let kept = Kept {
        violation: String::new(),
        plan: plan.clone(),
    };
    std::fs::write(file, serde_json::to_string(&kept)?)?;
    let output = command()?.arg("--plan").arg(file).output()?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let violation = text
        .lines()
        .find_map(|line| line.strip_prefix("VIOLATION "));
    let words = violation.unwrap_or("panic").chars();
    let words = words.filter(|c| c.is_alphabetic()).take(KIND_LETTERS);
    Ok(Some(words.collect()))
}

fn command() -> Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

/// Enough to tell one violation from another.
const KIND_LETTERS: usize = 30;

/// Runs of smaller plans for each failing seed.
const SHRINK_TRIES: usize = 600;
