//! `basalt restore FILE`: a data directory from a snapshot, whoever wrote it, with the flags of `etcdutl snapshot restore`.
//!
//! Promises: the snapshot is read and checked whole before anything is made; a directory that holds anything is not touched; what a
//! failure leaves half made is taken away again. Never: a change to the snapshot. Start at [`main`].

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use basalt_engine::apply::{Alarms, Meta};
use basalt_engine::disk::{Disk, DiskError};
use basalt_engine::io::{DataDir, DirRefused};
use basalt_engine::limits::SNAPSHOT_REVISION_MAX;
use basalt_engine::member::Members;
use basalt_engine::mvcc::{ContentWriter, Record};
use basalt_engine::replica::CheckpointImport;
use basalt_engine::snapshot::{Database, Import, ImportRefused, Source, file_digest};
use basalt_engine::types::{Index, LeaseId, Revision, Term};
use basalt_engine::wal::{self, Corrupt, Found};
use clap::Parser;

use crate::boot::{BootError, wal_limits};
use crate::bootstrap::FirstMembers;
use crate::config::{self, Config, Exit};
use crate::tools::parse;

/// Restores a snapshot into a data directory.
#[derive(Debug, Parser)]
#[command(
    name = "basalt restore",
    disable_version_flag = true,
    next_line_help = true
)]
struct Flags {
    /// The snapshot, as `etcdctl snapshot save` or `basalt` wrote it.
    #[arg(value_name = "filename")]
    files: Vec<PathBuf>,
    /// The data directory to make; absent or empty. <name>.etcd by default.
    #[arg(long)]
    data_dir: Option<String>,
    /// Accepted for etcdutl's sake: basalt keeps its log in the data directory.
    #[arg(long)]
    wal_dir: Option<PathBuf>,
    /// This member's name.
    #[arg(long, default_value = "default")]
    name: String,
    /// The members of the new cluster.
    #[arg(long, default_value = "default=http://localhost:2380")]
    initial_cluster: String,
    /// Tells clusters with the same URLs apart.
    #[arg(long, default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// This member's peer URLs.
    #[arg(long, default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: String,
    /// Take a file without a digest, or with a wrong one: the database of a data directory.
    #[arg(long)]
    skip_hash_check: bool,
    /// Raise the revision by this much, so that it is above all that clients of the lost cluster saw.
    #[arg(long, default_value_t = 0)]
    bump_revision: u64,
    /// Make the raised revision the compacted one; belongs to --bump-revision.
    #[arg(long)]
    mark_compacted: bool,
    /// Accepted for etcdutl's sake: nothing is mapped.
    #[arg(long, hide = true)]
    initial_memory_map_size: Option<u64>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
enum RestoreFailed {
    #[error("{0}")]
    Refused(String),
    #[error("open {}: {}", path.display(), as_go_says(error))]
    Open { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Import(#[from] ImportRefused<io::Error>),
    #[error(transparent)]
    Directory(#[from] DirRefused),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    Log(#[from] Corrupt),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The command, without its name. Its status is etcdutl's: 128 for a wrong command line, 1 for everything else.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flags: Flags = match parse("basalt restore", args, BAD_ARGUMENTS) {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    let [file] = &flags.files[..] else {
        eprintln!("Error: snapshot restore requires exactly one argument");
        return ExitCode::from(BAD_ARGUMENTS);
    };
    if flags.mark_compacted != (flags.bump_revision > 0) {
        eprintln!("Error: --mark-compacted required if --revision-bump > 0");
        return ExitCode::from(BAD_ARGUMENTS);
    }
    match restore(&flags, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("Error: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn restore(flags: &Flags, path: &Path) -> Result<(), RestoreFailed> {
    let config = config_of(flags)?;
    let first = FirstMembers::of(&config)?;
    refuse_used(&config.data_dir)?;
    let (file, bytes) = open(path, flags.skip_hash_check)?;
    let database = Database::open(FileSource(file), bytes).map_err(ImportRefused::Damage)?;
    let mut import = Import::open(database)?;
    let bumped = i64::try_from(flags.bump_revision)
        .ok()
        .and_then(|by| import.revision.checked_add(by))
        .filter(|bumped| *bumped <= SNAPSHOT_REVISION_MAX)
        .ok_or_else(|| {
            let (revision, by) = (import.revision, flags.bump_revision);
            RestoreFailed::Refused(format!("revision {revision} cannot be raised by {by}"))
        })?;
    let was_there = config.data_dir.exists();
    let dir = DataDir::open(&config.data_dir)?;
    // Meanwhile somebody else may have come; from here on nobody can.
    if wal::look(&mut dir.disk())? != Found::Empty {
        return Err(not_empty(&config.data_dir));
    }
    let made = make(&dir, &config, &first, &mut import, bumped);
    if made.is_err() {
        take_away(&config.data_dir, was_there);
    }
    made?;
    println!(
        "restored {} records up to revision {} as member {} of cluster {} into {}",
        import.records,
        bumped,
        first.own,
        first.cluster,
        config.data_dir.display()
    );
    Ok(())
}

/// The configuration of a server that would start a new cluster with these flags: one place checks names and URLs.
fn config_of(flags: &Flags) -> Result<Config, RestoreFailed> {
    if flags.wal_dir.is_some() {
        let why = "--wal-dir: basalt keeps its log in the data directory; leave it out";
        return Err(RestoreFailed::Refused(why.to_owned()));
    }
    let data_dir = match &flags.data_dir {
        Some(path) => path.clone(),
        None if flags.name.contains('/') => {
            let why = format!(
                "--name {:?} names no directory; give --data-dir",
                flags.name
            );
            return Err(RestoreFailed::Refused(why));
        }
        None => format!("{}.etcd", flags.name),
    };
    let words = [
        format!("--name={}", flags.name),
        format!("--data-dir={data_dir}"),
        format!("--initial-cluster={}", flags.initial_cluster),
        format!("--initial-cluster-token={}", flags.initial_cluster_token),
        format!(
            "--initial-advertise-peer-urls={}",
            flags.initial_advertise_peer_urls
        ),
    ];
    config::load(&words, std::iter::empty(), &mut Vec::new()).map_err(|exit| match exit {
        Exit::Print(text) | Exit::Usage(text) | Exit::Refused(text) => {
            RestoreFailed::Refused(text.trim_end().to_owned())
        }
    })
}

/// The directory must be absent or empty.
fn refuse_used(path: &Path) -> Result<(), RestoreFailed> {
    let is_free = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        // A link that leads nowhere is something too.
        Err(error) => error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err(),
    };
    match is_free {
        true => Ok(()),
        false => Err(not_empty(path)),
    }
}

fn not_empty(path: &Path) -> RestoreFailed {
    RestoreFailed::Refused(format!(
        "data-dir {:?} not empty or could not be read",
        path.display().to_string()
    ))
}

/// The file and the length of its database, whose digest was checked.
fn open(path: &Path, skips_check: bool) -> Result<(File, u64), RestoreFailed> {
    let fail = |error| RestoreFailed::Open {
        path: path.to_owned(),
        error,
    };
    // Before it is opened: a pipe would wait for a writer.
    let is_file = fs::metadata(path).map_err(fail)?.is_file();
    if !is_file {
        let why = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(fail(why));
    }
    let file = File::open(path).map_err(fail)?;
    let bytes = file.metadata().map_err(fail)?.len();
    let has_digest = bytes % 512 == DIGEST_BYTES;
    if !has_digest {
        return match skips_check {
            true => Ok((file, bytes)),
            false => Err(RestoreFailed::Refused(
                "snapshot missing hash but --skip-hash-check=false".to_owned(),
            )),
        };
    }
    let bytes = bytes - DIGEST_BYTES;
    if !skips_check {
        let mut expected = [0; DIGEST_BYTES as usize];
        file.read_exact_at(&mut expected, bytes).map_err(fail)?;
        let mut report = Report::new("checking", bytes);
        let mut source = FileSource(file.try_clone().map_err(fail)?);
        let found = file_digest(&mut source, bytes, &mut |done| report.on(done)).map_err(fail)?;
        if found != expected {
            return Err(RestoreFailed::Refused(format!(
                "expected sha256 {}, got {}",
                as_go_prints(&expected),
                as_go_prints(&found)
            )));
        }
    }
    Ok((file, bytes))
}

fn make(
    dir: &DataDir,
    config: &Config,
    first: &FirstMembers,
    import: &mut Import<FileSource>,
    bumped: i64,
) -> Result<(), RestoreFailed> {
    let identity = first.identity()?;
    let mut members = Members::default();
    for member in &first.members {
        members.set(member.clone());
    }
    let mut alarms = Alarms::default();
    for (member, kind) in &import.alarms {
        alarms.raise(*member, *kind);
    }
    // As etcd: one entry for each member, all of term 1.
    let applied = (Index(first.members.len() as u64), Term(1));
    let meta = Meta {
        applied,
        members,
        alarms,
        cluster_version: import.cluster_version,
        leases: import.leases.clone(),
    };
    let is_bumped = bumped > import.revision;
    let compacted = if is_bumped { bumped } else { import.compacted };
    let finished = import.finished;
    let write = |disk: &mut dyn Disk| -> Result<(), RestoreFailed> {
        let mut checkpoint = CheckpointImport::begin(&meta, identity.salt, disk)?;
        let mut content = ContentWriter::begin(checkpoint.content(), bumped, compacted, finished);
        let records = import.records;
        let mut report = Report::new("restoring", records);
        let mut done = 0;
        import.each_record(|record| {
            content.record(checkpoint.content(), record);
            checkpoint.flush(disk)?;
            done += 1;
            report.on(done);
            Ok::<_, RestoreFailed>(())
        })?;
        if done != records {
            let why = "the snapshot changed while it was read".to_owned();
            return Err(RestoreFailed::Refused(why));
        }
        if is_bumped {
            content.record(checkpoint.content(), &mark_of(bumped));
        }
        content.end(checkpoint.content());
        Ok(checkpoint.finish(disk)?)
    };
    let mut disk = dir.disk();
    wal::create_from(&mut disk, &identity, &wal_limits(config), applied, write)
}

/// What etcd writes where the revision is raised: a record without content.
fn mark_of(revision: i64) -> Record<'static> {
    Record {
        key: b"",
        value: b"",
        create_revision: 0,
        mod_revision: Revision::new(revision, 0),
        version: 0,
        lease: LeaseId(0),
    }
}

/// What was made goes; nothing else was in the directory.
fn take_away(data_dir: &Path, was_there: bool) {
    // The failure that led here is the one to be told; what stays is not taken for a member's.
    let _ = fs::remove_dir_all(data_dir.join("member"));
    if !was_there {
        let _ = fs::remove_dir(data_dir);
    }
}

/// The system's reason without its number, in lower case.
fn as_go_says(error: &io::Error) -> String {
    let said = error.to_string();
    let said = said.split(" (os error").next().unwrap_or_default();
    let mut letters = said.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// Go's `%v` of a byte slice.
fn as_go_prints(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(" "))
}

/// A file read at any place.
struct FileSource(File);

impl Source for FileSource {
    type Error = io::Error;

    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, at)
    }
}

/// How far it is: a line that is written over on a terminal, else one every 2 s.
struct Report {
    what: &'static str,
    total: u64,
    last: Instant,
    is_terminal: bool,
}

impl Report {
    fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            last: Instant::now(),
            is_terminal: io::stderr().is_terminal(),
        }
    }

    fn on(&mut self, done: u64) {
        let pause = match self.is_terminal {
            true => Duration::from_millis(100),
            false => Duration::from_secs(2),
        };
        if self.last.elapsed() >= pause {
            self.last = Instant::now();
            let percent = done as f64 * 100.0 / self.total.max(1) as f64;
            let (before, after) = if self.is_terminal {
                ("\r", "")
            } else {
                ("", "\n")
            };
            eprint!("{before}{} {percent:.0} %{after}", self.what);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// etcdutl's status for a command line that cannot be.
const BAD_ARGUMENTS: u8 = 128;

/// SHA-256.
const DIGEST_BYTES: u64 = 32;
