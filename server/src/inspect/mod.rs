//! `basalt inspect wal|checkpoint|revlog|integrity DIR`: what a data directory holds, read as a start would read it.
//!
//! Promises: nothing is written, made or removed, and no server is kept from starting; a running one's directory may be
//! inspected, and that is said. Never: a parser of its own; the engine reads and reports. Start at [`main`].

mod checkpoint;
mod integrity;
mod revlog;
mod wal;

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use basalt_engine::io::{BlockingDisk, DataDir, DirRefused};
use basalt_engine::wal::{Found, Superblock, look};
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use crate::tools::{BAD_LINE, parse};

/// Shows what a data directory holds. Changes nothing, and may be used while a server runs on it.
#[derive(Debug, Parser)]
#[command(name = "basalt inspect", disable_version_flag = true)]
struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Superblocks, segments, hard state, and where the log ends and why.
    Wal {
        #[command(flatten)]
        on: On,
        /// A line for each frame too.
        #[arg(long)]
        frames: bool,
    },
    /// The checkpoint that the log continues: what it describes, its revisions and sizes.
    Checkpoint {
        #[command(flatten)]
        on: On,
    },
    /// The files of the revision log that the checkpoint names: segments, sizes, what compaction dropped, revisions.
    Revlog {
        #[command(flatten)]
        on: On,
    },
    /// Reads everything and names each byte that is not as it was written, as far as the format lets that be known.
    Integrity {
        #[command(flatten)]
        on: On,
    },
}

#[derive(Debug, Args)]
struct On {
    /// The data directory, as --data-dir names it.
    dir: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// A directory to be read.
struct Opened {
    disk: BlockingDisk,
    /// A server runs on it.
    is_in_use: bool,
}

/// The command, without its name: 0 if all is as it was written, 1 if not or if it cannot be read, 2 for a wrong command line.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flags: Flags = match parse("basalt inspect", args, BAD_LINE) {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let (What::Wal { on, .. }
    | What::Checkpoint { on }
    | What::Revlog { on }
    | What::Integrity { on }) = &flags.what;
    let shown = open(on).map_err(|refused| Ended::Said(refused.to_string()));
    let shown = shown.and_then(|mut opened| match &flags.what {
        What::Wal { on, frames } => wal::show(&mut opened, on.json, *frames, &mut out),
        What::Checkpoint { on } => checkpoint::show(&mut opened, on.json, &mut out),
        What::Revlog { on } => revlog::show(&mut opened, on.json, &mut out),
        What::Integrity { on } => integrity::show(&mut opened, on.json, &mut out),
    });
    match shown.and_then(|is_good| out.flush().map(|()| is_good).map_err(Ended::Out)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Who reads on only to the tenth line has what they wanted.
        Err(Ended::Out(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Ended::Out(error)) => refuse(&error.to_string()),
        Err(Ended::Said(why)) => refuse(&why),
    }
}

/// Why nothing, or not all, was shown.
enum Ended {
    Out(io::Error),
    Said(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Out(error)
    }
}

/// Whether all is as it was written.
type Shown = Result<bool, Ended>;

fn refuse(why: &str) -> ExitCode {
    eprintln!("Error: {why}");
    ExitCode::FAILURE
}

fn open(on: &On) -> Result<Opened, DirRefused> {
    let (dir, is_in_use) = DataDir::open_read_only(&on.dir)?;
    Ok(Opened {
        disk: dir.disk(),
        is_in_use,
    })
}

impl Opened {
    fn say_in_use(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_in_use {
            writeln!(out, "{IN_USE}\n")?;
        }
        Ok(())
    }

    /// Looks again if a server changes the directory while it is read.
    fn settle<T>(
        &mut self,
        is_good: impl Fn(&T) -> bool,
        mut look: impl FnMut(&mut BlockingDisk, bool) -> T,
    ) -> T {
        let mut found = look(&mut self.disk, self.is_in_use);
        for _ in 1..TRIES_IN_USE {
            if !self.is_in_use || is_good(&found) {
                break;
            }
            found = look(&mut self.disk, self.is_in_use);
        }
        found
    }
}

/// The superblock that holds.
fn superblock_of(disk: &mut BlockingDisk) -> Result<Superblock, Ended> {
    match look(disk) {
        Ok(Found::Ours(block)) => Ok(block),
        Ok(Found::Empty) => Err(Ended::Said(
            "there is no member in this directory yet".to_owned(),
        )),
        Err(corrupt) => Err(Ended::Said(corrupt.to_string())),
    }
}

/// The heads of all texts.
fn say_superblock(block: &Superblock, out: &mut dyn Write) -> io::Result<()> {
    let identity = &block.identity;
    writeln!(
        out,
        "member {} of cluster {}",
        identity.member, identity.cluster
    )?;
    let vote = block.vote.map_or("nobody".to_owned(), |id| id.to_string());
    writeln!(
        out,
        "superblock {}: term {}, vote for {vote}, log durable up to frame {} (index {}), checkpoint of index {}",
        block.counter, block.term, block.floor_sequence, block.floor_index, block.checkpoint
    )
}

fn superblock_json(block: &Superblock) -> Value {
    json!({
        "member_id": block.identity.member.to_string(),
        "cluster_id": block.identity.cluster.to_string(),
        "counter": block.counter,
        "term": block.term.0,
        "vote": block.vote.map(|id| id.to_string()),
        "floor_sequence": block.floor_sequence,
        "floor_index": block.floor_index.0,
        "checkpoint_index": block.checkpoint.0,
    })
}

/// Tells a terminal how far a long read is.
fn progress() -> impl FnMut(u64, u64) {
    let mut last = Instant::now();
    let is_terminal = io::stderr().is_terminal();
    move |done, total| {
        if is_terminal && last.elapsed() >= PROGRESS_INTERVAL {
            last = Instant::now();
            let percent = done as f64 * 100.0 / total.max(1) as f64;
            eprint!("\rreading the checkpoint {percent:.0} %\x1b[K\r");
        }
    }
}

const IN_USE: &str = "a server runs on this directory: this is a moment of it, and what it writes just now may look unfinished";

/// Often enough for a log that changes segments once in some seconds.
const TRIES_IN_USE: u32 = 5;

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
