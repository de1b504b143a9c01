//! What `--auto-compaction-mode` and `--auto-compaction-retention` mean together, in etcd's words.

use basalt_engine::replica::AutoCompaction;
use basalt_engine::types::Millis;

use super::value::duration;

/// The rule, or none for a retention of 0. A number alone counts revisions, or hours in the periodic mode; anything else is a duration,
/// which in the revision mode counts as many revisions as it has nanoseconds, as in etcd.
///
/// # Errors
/// What the operator is told.
pub(super) fn auto_compaction(
    mode: &str,
    retention: &str,
) -> Result<Option<AutoCompaction>, String> {
    let is_periodic = match mode {
        "periodic" => true,
        "revision" => false,
        "" => return Err("undefined auto-compaction-mode".to_owned()),
        other => return Err(format!("unknown auto-compaction-mode \"{other}\"")),
    };
    let refused = |why: String| format!("error parsing CompactionRetention: time: {why}");
    let nanos = match retention.parse::<i64>() {
        _ if retention.is_empty() => 0,
        Ok(hours @ 0..) if is_periodic => hours
            .checked_mul(HOUR_NANOS)
            .ok_or_else(|| refused(format!("{hours} hours are more than 292 years")))?,
        Ok(revisions @ 0..) => revisions,
        _ => duration(retention).ok_or_else(|| refused(why_no_duration(retention)))?,
    };
    // etcd takes this and compacts as fast as it can.
    if nanos < 0 {
        return Err(format!(
            "--auto-compaction-retention must not be negative (set to {retention})"
        ));
    }
    Ok(match (is_periodic, nanos) {
        (_, 0) => None,
        (true, nanos) => Some(AutoCompaction::Periodic {
            period: Millis((nanos.unsigned_abs() / MILLI_NANOS).max(1)),
        }),
        (false, retention) => Some(AutoCompaction::Revision { retention }),
    })
}

/// As Go's `ParseDuration` says it, for a text that is none.
fn why_no_duration(text: &str) -> String {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let unit_at = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(unit_at);
        if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            break;
        }
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        match unit {
            "" => return format!("missing unit in duration \"{text}\""),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = tail,
            _ => return format!("unknown unit \"{unit}\" in duration \"{text}\""),
        }
    }
    format!("invalid duration \"{text}\"")
}

const HOUR_NANOS: i64 = 3_600_000_000_000;
const MILLI_NANOS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn periodic(millis: u64) -> Result<Option<AutoCompaction>, String> {
        let period = Millis(millis);
        Ok(Some(AutoCompaction::Periodic { period }))
    }

    #[test]
    fn numbers_are_hours_or_revisions_and_anything_else_is_a_duration() {
        assert_eq!(auto_compaction("periodic", "0"), Ok(None));
        assert_eq!(auto_compaction("periodic", ""), Ok(None));
        assert_eq!(auto_compaction("revision", "0s"), Ok(None));
        assert_eq!(auto_compaction("periodic", "2"), periodic(7_200_000));
        assert_eq!(auto_compaction("periodic", "1h30m"), periodic(5_400_000));
        assert_eq!(auto_compaction("periodic", "10us"), periodic(1));
        let revisions = |retention| Ok(Some(AutoCompaction::Revision { retention }));
        assert_eq!(auto_compaction("revision", "1000"), revisions(1000));
        // Go's duration is a number of nanoseconds.
        assert_eq!(auto_compaction("revision", "1us"), revisions(1000));
    }

    /// The texts were seen on stock etcd 3.7.3.
    #[test]
    fn what_cannot_be_read_is_refused_in_etcds_words() {
        for (mode, retention, why) in [
            ("foo", "1", "unknown auto-compaction-mode \"foo\""),
            ("", "1", "undefined auto-compaction-mode"),
            (
                "periodic",
                "abc",
                "error parsing CompactionRetention: time: invalid duration \"abc\"",
            ),
            (
                "periodic",
                "-5",
                "error parsing CompactionRetention: time: missing unit in duration \"-5\"",
            ),
            (
                "periodic",
                "5x",
                "error parsing CompactionRetention: time: unknown unit \"x\" in duration \"5x\"",
            ),
            (
                "revision",
                "1.5",
                "error parsing CompactionRetention: time: missing unit in duration \"1.5\"",
            ),
            (
                "periodic",
                "-5m",
                "--auto-compaction-retention must not be negative (set to -5m)",
            ),
            (
                "periodic",
                "9999999",
                "error parsing CompactionRetention: time: 9999999 hours are more than 292 years",
            ),
        ] {
            assert_eq!(auto_compaction(mode, retention), Err(why.to_owned()));
        }
    }
}
