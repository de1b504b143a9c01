//! When each revision was asked for and acknowledged, and when its last event came.

use std::ops::Range;

use hdrhistogram::Histogram;

/// The revisions behind `base`, one by one: each is one put.
pub(crate) struct Told {
    base: i64,
    rows: Vec<Row>,
    /// Watchers that hear of each revision.
    wanted: u64,
    puts: u64,
    events: u64,
    /// The same in the measured time.
    events_measured: u64,
    measured: Range<u64>,
}

/// Nanoseconds on the driver's clock; 0 is never.
#[derive(Clone, Copy, Default)]
struct Row {
    due: u64,
    acknowledged: u64,
    last_event: u64,
}

/// Of the puts that were due in the measured time: microseconds until all watchers had heard of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Delays {
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    /// The same from the acknowledgement on; 0 where the event came first.
    pub after_acknowledged_p99_us: f64,
}

impl Told {
    pub(crate) fn new(base: i64, wanted: u32) -> Self {
        Self {
            base,
            rows: Vec::new(),
            wanted: u64::from(wanted),
            puts: 0,
            events: 0,
            events_measured: 0,
            measured: 0..0,
        }
    }

    /// Nobody is told of it or what is before.
    pub(crate) fn base(&self) -> i64 {
        self.base
    }

    /// The last revision that was acknowledged or heard of.
    pub(crate) fn newest(&self) -> i64 {
        self.base + self.rows.len() as i64
    }

    pub(crate) fn begin(&mut self, measured: Range<u64>) {
        self.measured = measured;
    }

    pub(crate) fn on_put(&mut self, revision: i64, due: u64, now: u64) {
        self.puts += 1;
        let row = self.row(revision);
        (row.due, row.acknowledged) = (due, now);
    }

    pub(crate) fn on_event(&mut self, revision: i64, now: u64) {
        self.events += 1;
        self.events_measured += u64::from(self.measured.contains(&now));
        self.row(revision).last_event = now;
    }

    /// Events of acknowledged puts that have not come.
    pub(crate) fn owed(&self) -> u64 {
        (self.puts * self.wanted).saturating_sub(self.events)
    }

    /// Whether just those events came that had to.
    pub(crate) fn is_whole(&self) -> bool {
        self.puts * self.wanted == self.events
    }

    /// Events of the measured time.
    pub(crate) fn events_measured(&self) -> u64 {
        self.events_measured
    }

    pub(crate) fn delays(&self) -> Delays {
        let mut whole = histogram();
        let mut after = histogram();
        let is_meant = |row: &&Row| self.measured.contains(&row.due) && row.last_event > 0;
        for row in self.rows.iter().filter(is_meant) {
            whole.saturating_record(row.last_event.saturating_sub(row.due));
            after.saturating_record(row.last_event.saturating_sub(row.acknowledged));
        }
        let us = |ns: u64| ns as f64 / 1e3;
        Delays {
            p50_us: us(whole.value_at_quantile(0.5)),
            p99_us: us(whole.value_at_quantile(0.99)),
            max_us: us(whole.max()),
            after_acknowledged_p99_us: us(after.value_at_quantile(0.99)),
        }
    }

    fn row(&mut self, revision: i64) -> &mut Row {
        let place = (revision - self.base - 1).max(0) as usize;
        if place >= self.rows.len() {
            self.rows.resize(place + 1, Row::default());
        }
        &mut self.rows[place]
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("bounds that hdrhistogram takes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_run_from_the_moment_a_put_was_due_until_its_last_event() {
        let mut told = Told::new(100, 2);
        told.begin(1_000_000..9_000_000);
        told.on_event(101, 2_000_000);
        told.on_put(101, 1_000_000, 3_000_000);
        assert_eq!((told.owed(), told.is_whole()), (1, false));
        told.on_event(101, 5_000_000);
        assert_eq!((told.owed(), told.is_whole()), (0, true));
        // Due before the measured time: its event counts, its delay does not.
        told.on_put(102, 500_000, 800_000);
        told.on_event(102, 8_000_000);
        told.on_event(102, 10_000_000);
        let delays = told.delays();
        assert_eq!(told.events_measured(), 3);
        assert!((3_990.0..4_010.0).contains(&delays.max_us), "{delays:?}");
        assert!((1_990.0..2_010.0).contains(&delays.after_acknowledged_p99_us));
    }
}
