use std::time::{Duration, SystemTime, UNIX_EPOCH};

use basalt_engine::replica::{AutoCompaction, Notice};
use basalt_engine::types::Millis;

use crate::api::Error;
use crate::log::log_contract::FINISHED_COMPACTION;
use crate::metrics::EngineMetrics;

/// Writes an event's lines, in etcd's words, and counts it.
pub(super) fn tell(notice: Notice, metrics: &EngineMetrics) {
    match notice {
        Notice::AutoCompactionBegan { rule, revision } => match rule {
            AutoCompaction::Periodic { period } => tracing::info!(
                revision,
                "compact-period" = %go_duration(period),
                "starting auto periodic compaction"
            ),
            AutoCompaction::Revision { retention } => tracing::info!(
                revision,
                "revision-compaction-retention" = retention,
                "starting auto revision compaction"
            ),
        },
        Notice::AutoCompactionDone {
            rule,
            revision,
            took,
        } => match rule {
            AutoCompaction::Periodic { period } => tracing::info!(
                revision,
                "compact-period" = %go_duration(period),
                took = %go_duration(took),
                "completed auto periodic compaction"
            ),
            AutoCompaction::Revision { retention } => tracing::info!(
                revision,
                "revision-compaction-retention" = retention,
                took = %go_duration(took),
                "completed auto revision compaction"
            ),
        },
        Notice::AutoCompactionFailed {
            rule,
            revision,
            retry_interval,
            is_corrupt,
        } => {
            let error = match is_corrupt {
                true => Error::Corrupt,
                false => Error::Timeout,
            };
            let error = error.status().message;
            match rule {
                AutoCompaction::Periodic { period } => tracing::warn!(
                    revision,
                    "compact-period" = %go_duration(period),
                    "retry-interval" = %go_duration(retry_interval),
                    %error,
                    "failed auto periodic compaction"
                ),
                AutoCompaction::Revision { retention } => tracing::warn!(
                    revision,
                    "revision-compaction-retention" = retention,
                    "retry-interval" = %go_duration(retry_interval),
                    %error,
                    "failed auto revision compaction"
                ),
            }
        }
        Notice::Damaged(damage) => tracing::error!(
            error = %damage,
            "the scrub found damaged data on the disk; serving goes on until a request needs it"
        ),
        Notice::AlarmLifted { used } => tracing::info!(
            "current-db-size-in-use-bytes" = used,
            "disarming the NOSPACE alarm"
        ),
        Notice::SnapshotBegan { from, index } => tracing::info!(
            "remote-peer-id" = %from,
            "incoming-snapshot-index" = index.0,
            "receiving database snapshot"
        ),
        Notice::SnapshotFailed { index } => tracing::warn!(
            "incoming-snapshot-index" = index.0,
            "failed to receive database snapshot"
        ),
        Notice::CompactionFinished {
            revision,
            took,
            records,
            hash,
            sizes,
        } => {
            tracing::info!(
                "compact-revision" = revision,
                took = %go_duration(took),
                "number-of-keys-compacted" = records,
                hash,
                "current-db-size-bytes" = sizes.total,
                "current-db-size-in-use-bytes" = sizes.in_use,
                "{FINISHED_COMPACTION}"
            );
            metrics.compaction_keys.add(records);
            metrics.compaction.observe(Duration::from_millis(took.0));
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let last = now.unwrap_or_default().as_secs();
            // The counter is this thread's alone.
            let before = metrics.compaction_last.get();
            metrics.compaction_last.add(last.saturating_sub(before));
        }
    }
}

/// As Go prints a duration of whole milliseconds: `1h0m0s`, `2.5s`, `7ms`.
fn go_duration(span: Millis) -> String {
    let (seconds, millis) = (span.0 / 1000, span.0 % 1000);
    if seconds == 0 {
        return match millis {
            0 => "0s".to_owned(),
            millis => format!("{millis}ms"),
        };
    }
    let fraction = match millis {
        0 => String::new(),
        millis => format!(".{millis:03}").trim_end_matches('0').to_owned(),
    };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, minutes) => format!("{minutes}m{seconds}{fraction}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts read these fields with Go's parser.
    #[test]
    fn spans_are_printed_as_go_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (7, "7ms"),
            (2500, "2.5s"),
            (60_000, "1m0s"),
            (600_000, "10m0s"),
            (3_600_000, "1h0m0s"),
            (5_400_050, "1h30m0.05s"),
        ] {
            assert_eq!(go_duration(Millis(millis)), text);
        }
    }
}
