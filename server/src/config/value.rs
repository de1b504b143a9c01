//! Values of flags in Go's syntax.
//!
//! Promises: accepts what Go's `flag` package accepts for the kind, and nothing else.

use super::flag::Kind;
use super::url::Url;

/// A parsed value. Its variant belongs to the flag's [`Kind`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Of `Text`, `Loose` and `Choice`.
    Text(String),
    /// Of `Bool`.
    Bool(bool),
    /// Of `Int`.
    Int(i64),
    /// Of `Uint` and `Uint32`.
    Uint(u64),
    /// Of `Duration`, in nanoseconds, as Go keeps it.
    Nanos(i64),
    /// Of `Urls`: sorted, each once.
    Urls(Vec<Url>),
    /// Of `List`: in the order given.
    List(Vec<String>),
    /// Of `Gates`.
    Gates(Vec<(String, bool)>),
}

/// The feature gates of etcd 3.7.
pub(super) const GATES: &[&str] = &[
    "AllAlpha",
    "AllBeta",
    "CompactHashCheck",
    "FastLeaseKeepAlive",
    "InitialCorruptCheck",
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "PriorityRequest",
    "SetMemberLocalAddr",
    "StopGRPCServiceOnDefrag",
    "TxnModeWriteWithSharedBuffer",
];

pub(super) fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    const PARSE: &str = "parse error";
    Ok(match kind {
        Kind::Text | Kind::Loose => Value::Text(text.to_owned()),
        Kind::Bool => Value::Bool(boolean(text).ok_or(PARSE)?),
        Kind::Int => Value::Int(text.parse().map_err(|_| PARSE)?),
        Kind::Uint => Value::Uint(text.parse().map_err(|_| PARSE)?),
        Kind::Uint32 => Value::Uint(u64::from(text.parse::<u32>().map_err(|_| PARSE)?)),
        Kind::Duration => Value::Nanos(duration(text).ok_or(PARSE)?),
        Kind::Urls => Value::Urls(urls(text)?),
        Kind::List => Value::List(words(text).map(str::to_owned).collect()),
        Kind::Gates => Value::Gates(gates(text)?),
        Kind::Choice(allowed) if allowed.contains(&text) => Value::Text(text.to_owned()),
        Kind::Choice(allowed) => return Err(format!("must be one of {}", allowed.join(", "))),
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// An empty text is no URL; a list with an empty place is an error, as in etcd.
fn urls(text: &str) -> Result<Vec<Url>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut urls = text
        .split(',')
        .map(Url::parse)
        .collect::<Result<Vec<_>, _>>()?;
    urls.sort();
    urls.dedup();
    Ok(urls)
}

fn gates(text: &str) -> Result<Vec<(String, bool)>, String> {
    words(text)
        .map(|word| {
            let (name, value) = word
                .split_once('=')
                .ok_or_else(|| format!("missing bool value for {word}"))?;
            if !GATES.contains(&name) {
                return Err(format!("unrecognized feature gate: {name}"));
            }
            let value = boolean(value)
                .ok_or_else(|| format!("invalid value of {name}={value}, err: must be a bool"))?;
            Ok((name.to_owned(), value))
        })
        .collect()
}

/// Go's duration: a sign, then numbers with fractions, each with a unit; `0` needs none. None also where it passes 292 years.
pub(super) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit_nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        nanos += digits(whole)? * unit_nanos;
        // Past 15 places a fraction is below a nanosecond for every unit.
        let fraction = &fraction[..fraction.len().min(15)];
        nanos += digits(fraction)? * unit_nanos / 10_i128.pow(fraction.len() as u32);
        if nanos > i128::from(i64::MAX) {
            return None;
        }
        rest = tail;
    }
    i64::try_from(if negative { -nanos } else { nanos }).ok()
}

fn digits(text: &str) -> Option<i128> {
    if text.is_empty() {
        Some(0)
    } else {
        text.parse::<u64>().ok().map(i128::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        assert_eq!(duration("10m"), Some(600_000_000_000));
        assert_eq!(duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(duration("1.5s"), Some(1_500_000_000));
        assert_eq!(duration(".5ms"), Some(500_000));
        assert_eq!(duration("-2us"), Some(-2_000));
        assert_eq!(duration("0"), Some(0));
        for bad in [
            "",
            "5",
            "s",
            "1x",
            "1..5s",
            ".s",
            "-",
            "9999999h",
            "1 s",
            "99999999999999999999s",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_gos_spellings_are_booleans() {
        assert_eq!(boolean("T"), Some(true));
        assert_eq!(boolean("False"), Some(false));
        assert_eq!(boolean("yes"), None);
    }

    #[test]
    fn an_unknown_feature_gate_is_named() {
        assert_eq!(
            gates("Foo=true").unwrap_err(),
            "unrecognized feature gate: Foo"
        );
        assert_eq!(
            gates("AllAlpha").unwrap_err(),
            "missing bool value for AllAlpha"
        );
        assert_eq!(gates("AllBeta=f").unwrap(), [("AllBeta".to_owned(), false)]);
    }

    #[test]
    fn urls_are_sorted_and_kept_once() {
        let urls = urls("http://b:2,http://a:1,http://b:2").unwrap();
        assert_eq!(
            urls.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["http://a:1", "http://b:2"]
        );
    }
}
