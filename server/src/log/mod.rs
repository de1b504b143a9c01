//! Log lines in zap's shape: `{"level","ts","caller","msg",...}`, or the same as columns.
//!
//! Promises: a line never blocks the thread that writes it; what does not fit into the queue is counted and the count is logged;
//! [`flush`] returns when all lines before it are written. Never: values of keys, passwords, tokens.
//! Start at [`init`]; the texts that tools match are in `log_contract.rs`.

mod layer;
pub mod log_contract;
mod rotate;
mod time;
mod writer;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

use layer::ZapLayer;
use rotate::RotatingFile;
pub use rotate::Rotation;
use writer::Queue;

/// A line of this target has the level `fatal`: the process ends after it.
pub const FATAL: &str = "fatal";

/// Shape, threshold and places of the lines.
#[derive(Clone, Debug)]
pub struct Config {
    /// Least level that is written.
    pub level: Level,
    /// Their shape.
    pub format: Format,
    /// Where they go, each to all.
    pub outputs: Vec<Output>,
    /// How the one file among them is rotated, if it is.
    pub rotation: Option<Rotation>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            level: Level::Info,
            format: Format::Json,
            outputs: vec![Output::Stderr],
            rotation: None,
        }
    }
}

/// zap's levels. The three above `Error` let only fatal lines through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For people who change the program.
    Debug,
    /// What a healthy member does.
    Info,
    /// What an operator may want to change.
    Warn,
    /// What failed.
    Error,
    /// Also zap's panic and dpanic.
    Fatal,
}

impl Level {
    /// The level of that name in `--log-level`.
    pub fn parse(name: &str) -> Option<Level> {
        match name {
            "debug" => Some(Level::Debug),
            "info" => Some(Level::Info),
            "warn" => Some(Level::Warn),
            "error" => Some(Level::Error),
            "dpanic" | "panic" | "fatal" => Some(Level::Fatal),
            _ => None,
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error | Level::Fatal => LevelFilter::ERROR,
        }
    }
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Columns divided by tabs, the fields as a JSON object at the end.
    Console,
}

/// One of `--log-outputs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// journald, which basalt reaches through standard error until it speaks its protocol.
    Journal,
    /// A file, appended to.
    File(PathBuf),
}

impl Output {
    /// Reads one word of `--log-outputs`.
    pub fn parse(word: &str) -> Output {
        match word {
            "default" | "stderr" | "/dev/stderr" => Output::Stderr,
            "stdout" | "/dev/stdout" => Output::Stdout,
            "systemd/journal" => Output::Journal,
            path => Output::File(path.into()),
        }
    }

    fn open(&self, rotation: Option<Rotation>) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            Output::Stderr | Output::Journal => Box::new(io::stderr()),
            Output::Stdout => Box::new(io::stdout()),
            Output::File(path) => match rotation {
                Some(rotation) => Box::new(RotatingFile::open(path, rotation)?),
                None => Box::new(rotate::open(path)?),
            },
        })
    }
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Starts the writer thread and takes the lines of the whole process. Once; the error says which file cannot be opened.
pub fn init(config: &Config) -> Result<(), String> {
    let mut outputs = Vec::new();
    for output in &config.outputs {
        let opened = output.open(config.rotation).map_err(|error| match output {
            Output::File(path) => format!("open {}: {error}", path.display()),
            _ => format!("open log output: {error}"),
        })?;
        outputs.push(opened);
    }
    let queue = Queue::start(outputs, config.format)
        .map_err(|error| format!("start the log thread: {error}"))?;
    let layer = ZapLayer::new(queue.clone(), config.level, config.format);
    tracing::subscriber::set_global_default(
        tracing_subscriber::registry()
            .with(config.level.filter())
            .with(layer),
    )
    .map_err(|_| "logging is set up twice".to_owned())?;
    if QUEUE.set(queue).is_err() {
        return Err("logging is set up twice".to_owned());
    }
    if config.outputs.contains(&Output::Journal) {
        tracing::warn!("systemd/journal is not spoken yet, lines go to standard error");
    }
    Ok(())
}

/// Waits until everything logged so far is written. Before the process ends.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush();
    }
}

/// A field whose value is a JSON list of texts: `urls = ?log::list(&urls)`.
pub fn list<T: fmt::Display>(items: &[T]) -> JsonList {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    JsonList(serde_json::to_string(&texts).expect("texts are always JSON"))
}

/// A finished JSON value. Its `Debug` form carries a mark by which the layer knows it from text.
pub struct JsonList(String);

impl fmt::Debug for JsonList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", layer::JSON_MARK, self.0)
    }
}
