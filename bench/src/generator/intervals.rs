//! One histogram a second, kept for later: an interval log as the HdrHistogram tools read it.

use std::io::Write;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

/// The measured seconds of one run, in order and without a gap; values are nanoseconds.
pub(crate) struct Intervals {
    /// Since the epoch, when the measurement began.
    pub(super) began: Duration,
    pub(super) seconds: Vec<Histogram<u64>>,
}

impl Intervals {
    /// Begins a log: comments that say what follows. Its times are seconds since the epoch.
    ///
    /// # Errors
    /// The writer's.
    pub(crate) fn write_header(mut out: &mut dyn Write) -> Result<()> {
        IntervalLogWriterBuilder::new()
            .add_comment("[Latencies in nanoseconds, logged by basalt-bench]")
            .add_comment("[Histogram log format version 1.3]")
            .with_start_time(SystemTime::now())
            .begin_log_with(&mut out, &mut V2DeflateSerializer::new())?;
        writeln!(
            out,
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
        )?;
        Ok(())
    }

    /// Adds a line for each second. `tag` holds no blank, comma or line end.
    ///
    /// # Errors
    /// The writer's.
    pub(crate) fn write(&self, mut out: &mut dyn Write, tag: &str) -> Result<()> {
        let tag = Tag::new(tag).context("a tag without blanks, commas and line ends")?;
        let mut serializer = V2DeflateSerializer::new();
        let mut log = IntervalLogWriterBuilder::new().begin_log_with(&mut out, &mut serializer)?;
        for (place, second) in self.seconds.iter().enumerate() {
            let begins = self.began + INTERVAL * place as u32;
            log.write_histogram(second, begins, INTERVAL, Some(tag))
                .map_err(|error| anyhow::anyhow!("writing a histogram: {error}"))?;
        }
        Ok(())
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
