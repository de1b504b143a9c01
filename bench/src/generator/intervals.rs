//! One histogram a second, kept for later: an interval log as the HdrHistogram tools read it.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

/// The measured seconds of one run, in order and without a gap; values are nanoseconds.
pub(crate) struct Intervals {
    /// Since the epoch, when the measurement began.
    pub(super) began: Duration,
    /// How long it took: the last interval may be shorter.
    pub(super) measured: Duration,
    pub(super) seconds: Vec<Histogram<u64>>,
}

impl Intervals {
    /// Begins a log: comments that say what follows. Its times are seconds since the epoch. It names no start time: readers
    /// leave out what is before it, and the log may begin after the first measurement.
    ///
    /// # Errors
    /// The writer's.
    pub(crate) fn write_header(mut out: &mut dyn Write) -> Result<()> {
        IntervalLogWriterBuilder::new()
            .add_comment("[Latencies in nanoseconds, logged by basalt-bench]")
            .add_comment("[Histogram log format version 1.3]")
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
            let passed = INTERVAL * place as u32;
            let length = self.measured.saturating_sub(passed).min(INTERVAL);
            log.write_histogram(second, self.began + passed, length, Some(tag))
                .map_err(|error| anyhow::anyhow!("writing a histogram: {error}"))?;
        }
        Ok(())
    }
}

const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn what_is_written_is_read_again_second_by_second() {
        let second = |value: u64| {
            let mut histogram = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap();
            histogram.record(value).unwrap();
            histogram
        };
        let intervals = Intervals {
            began: Duration::from_secs(1_800_000_000),
            measured: Duration::from_millis(1_500),
            seconds: vec![second(5_000_000), second(3_000_000)],
        };
        let mut out = Vec::new();
        Intervals::write_header(&mut out).unwrap();
        intervals.write(&mut out, "basalt-1").unwrap();
        intervals.write(&mut out, "etcd-tuned-2").unwrap();
        assert!(intervals.write(&mut out, "with a blank").is_err());

        let mut read = Vec::new();
        for entry in IntervalLogIterator::new(&out) {
            let LogEntry::Interval(entry) = entry.unwrap() else {
                continue;
            };
            read.push((
                entry.tag().unwrap().as_str().to_owned(),
                entry.start_timestamp().as_secs(),
                entry.duration().as_millis(),
                entry.max() as u64 / 1_000_000,
            ));
        }
        let line = |tag: &str, at, length, max_ms| (tag.to_owned(), at, length, max_ms);
        let expected = [
            line("basalt-1", 1_800_000_000, 1_000, 5),
            line("basalt-1", 1_800_000_001, 500, 3),
            line("etcd-tuned-2", 1_800_000_000, 1_000, 5),
            line("etcd-tuned-2", 1_800_000_001, 500, 3),
        ];
        assert_eq!(read, expected);
    }
}
