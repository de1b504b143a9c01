use std::fmt::Write;

use super::histogram::Sum;
use super::table::{Kind, Metric};

/// One family of the text exposition, version 0.0.4. Its head is written with its first sample.
pub(super) struct Family<'a> {
    metric: &'a Metric,
    out: &'a mut String,
    has_head: bool,
}

impl<'a> Family<'a> {
    pub(super) fn new(metric: &'a Metric, out: &'a mut String) -> Family<'a> {
        Family {
            metric,
            out,
            has_head: false,
        }
    }

    pub(super) fn has_samples(&self) -> bool {
        self.has_head
    }

    /// One value of a counter or gauge; `labels` in the order of the table.
    pub(super) fn value(&mut self, labels: &[&str], value: f64) {
        self.sample("", labels, None, value);
    }

    /// One histogram; bucket counts in `sum` are by bucket.
    pub(super) fn histogram(&mut self, labels: &[&str], sum: &Sum) {
        let bounds = self.metric.kind.bounds();
        assert!(
            sum.counts.is_empty() || sum.counts.len() == bounds.len() + 1,
            "{} has other buckets",
            self.metric.name
        );
        let mut below = 0;
        for (number, bound) in bounds.iter().enumerate() {
            below += sum.counts.get(number).copied().unwrap_or(0);
            self.sample("_bucket", labels, Some(&number_text(*bound)), below as f64);
        }
        self.sample("_bucket", labels, Some("+Inf"), sum.total() as f64);
        self.sample("_sum", labels, None, sum.seconds);
        self.sample("_count", labels, None, sum.total() as f64);
    }

    fn sample(&mut self, suffix: &str, labels: &[&str], le: Option<&str>, value: f64) {
        assert_eq!(
            labels.len(),
            self.metric.labels.len(),
            "labels of {}",
            self.metric.name
        );
        if !self.has_head {
            self.has_head = true;
            let Metric {
                name, help, kind, ..
            } = self.metric;
            write_line(
                self.out,
                format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.word()),
            );
        }
        self.out.push_str(self.metric.name);
        self.out.push_str(suffix);
        let named = self
            .metric
            .labels
            .iter()
            .copied()
            .zip(labels.iter().copied());
        let mut open = '{';
        for (name, text) in named.chain(le.map(|bound| ("le", bound))) {
            self.out.push(open);
            open = ',';
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(self.out, text);
            self.out.push('"');
        }
        if open == ',' {
            self.out.push('}');
        }
        write_line(self.out, format_args!(" {}\n", number_text(value)));
    }
}

impl Metric {
    /// Whether a scrape shows it before anything happened.
    pub(super) fn is_always_shown(&self) -> bool {
        self.labels.is_empty()
    }

    /// Its value before anything happened.
    pub(super) fn write_zero(&self, family: &mut Family<'_>) {
        match self.kind {
            Kind::Counter | Kind::Gauge => family.value(&[], 0.0),
            Kind::Histogram { .. } => family.histogram(&[], &Sum::default()),
        }
    }
}

fn write_line(out: &mut String, line: std::fmt::Arguments<'_>) {
    out.write_fmt(line)
        .expect("writing to a String cannot fail");
}

fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// A number as Go's `%g` with the shortest exact digits prints it: some readers of the exposition compare texts.
pub(super) fn number_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value.fract() == 0.0 && value.abs() < 1e6 {
        return (value as i64).to_string();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific
        .split_once('e')
        .expect("LowerExp always writes an exponent");
    let exponent: i32 = exponent
        .parse()
        .expect("LowerExp writes a decimal exponent");
    if (-4..SCIENTIFIC_FROM).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Go writes larger exponents in scientific form.
const SCIENTIFIC_FROM: i32 = 6;
