//! What a person sees while a plan is measured: a bar with the time left on a terminal, plain lines elsewhere.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Counts slices, and estimates by what they took so far.
pub(crate) struct Progress {
    /// None when there is no terminal or it is not wanted.
    bar: Option<ProgressBar>,
    slices: u32,
    settled: u32,
    /// Seconds by the plan's estimate: all, and those of slices that are done.
    estimated: f64,
    estimated_done: f64,
    began: Instant,
    label: String,
}

impl Progress {
    /// Begins.
    ///
    /// # Errors
    /// Never: the template is constant.
    pub(crate) fn new(with_bar: bool, slices: u32, estimated_seconds: f64) -> Result<Self> {
        use std::io::IsTerminal as _;
        // Colours follow NO_COLOR by themselves.
        let style = ProgressStyle::with_template("{bar:16.cyan/blue} {percent:>3} % {wide_msg}")?;
        let bar = (with_bar && std::io::stderr().is_terminal())
            .then(|| ProgressBar::new(STEPS).with_style(style));
        Ok(Self {
            bar,
            slices,
            settled: 0,
            estimated: estimated_seconds,
            estimated_done: 0.0,
            began: Instant::now(),
            label: String::new(),
        })
    }

    /// Something begins.
    pub(crate) fn begin(&mut self, label: String) {
        self.label = label;
        self.show("starting", 0.0, 0.0);
    }

    /// How far the running slice is: the phase, and the share of the slice's estimate that is done.
    pub(crate) fn show(&self, phase: &str, share: f64, estimated_seconds: f64) {
        if let Some(bar) = &self.bar {
            let done = self.estimated_done + share * estimated_seconds;
            bar.set_position((done / self.estimated.max(1e-9) * STEPS as f64) as u64);
            bar.set_message(format!(
                "{}/{} {} {phase} {:.0} % · {} left",
                self.settled + 1,
                self.slices,
                self.label,
                share * 100.0,
                minutes(self.left(done))
            ));
            bar.tick();
        }
    }

    /// A slice is settled, after all its repeats.
    pub(crate) fn settle(&mut self, estimated_seconds: f64) {
        self.settled += 1;
        self.spend(estimated_seconds);
    }

    /// So much of the estimate is behind us.
    pub(crate) fn spend(&mut self, estimated_seconds: f64) {
        self.estimated_done += estimated_seconds;
    }

    /// Time that was estimated and will not be needed.
    pub(crate) fn skip(&mut self, slices: u32, estimated_seconds: f64) {
        self.slices -= slices;
        self.estimated -= estimated_seconds;
    }

    /// Says something that stays.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Says what a slice found, with the time left where no bar shows it.
    pub(crate) fn slice_line(&self, text: &str) {
        if self.bar.is_some() {
            self.line(text);
        } else {
            let left = minutes(self.left(self.estimated_done));
            self.line(&format!(
                "{}/{} {text}  ({left} left)",
                self.settled, self.slices
            ));
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The estimate of what is left, corrected by what the rest took. `done` is in seconds of the estimate.
    fn left(&self, done: f64) -> Duration {
        let took = self.began.elapsed().as_secs_f64();
        // The first slices say little: begin with the estimate and trust it less and less.
        let correction = (took + TRUST_SECONDS) / (done + TRUST_SECONDS);
        Duration::from_secs_f64(((self.estimated - done) * correction).max(0.0))
    }
}

/// For people: minutes, and seconds of the last one.
pub(crate) fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..100 => format!("{seconds} s"),
        _ => format!("{} min", (seconds + 30) / 60),
    }
}

const STEPS: u64 = 1000;
const TRUST_SECONDS: f64 = 30.0;
