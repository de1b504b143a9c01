use std::sync::LazyLock;

/// One name of `table.txt`.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: Vec<&'static str>,
    pub(super) help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram {
        first: f64,
        factor: f64,
        bounds: usize,
    },
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram { .. } => "histogram",
        }
    }

    /// Upper bounds of the buckets, without the last, infinite one.
    pub(super) fn bounds(self) -> Vec<f64> {
        match self {
            Kind::Histogram {
                first,
                factor,
                bounds,
            } => std::iter::successors(Some(first), |bound| Some(bound * factor))
                .take(bounds)
                .collect(),
            Kind::Counter | Kind::Gauge => Vec::new(),
        }
    }
}

/// All names, sorted.
pub(super) static TABLE: LazyLock<Vec<Metric>> = LazyLock::new(|| {
    let lines = include_str!("table.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines
        .map(|line| parse(line).unwrap_or_else(|| panic!("table.txt: {line}")))
        .collect()
});

fn parse(line: &'static str) -> Option<Metric> {
    let mut columns = line.splitn(5, '|').map(str::trim);
    let (name, kind, labels, buckets) = (
        columns.next()?,
        columns.next()?,
        columns.next()?,
        columns.next()?,
    );
    let mut buckets = buckets.split_whitespace();
    let kind = match kind {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram {
            first: buckets.next()?.parse().ok()?,
            factor: buckets.next()?.parse().ok()?,
            bounds: buckets.next()?.parse().ok()?,
        },
        _ => return None,
    };
    Some(Metric {
        name,
        kind,
        labels: labels.split_whitespace().collect(),
        help: columns.next()?,
    })
}
