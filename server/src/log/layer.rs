use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::time::Timestamp;
use super::writer::Queue;
use super::{FATAL, Format, Level};

/// Begins the `Debug` form of a finished JSON value. What follows is checked, so a text that happens to begin so stays a text.
pub(super) const JSON_MARK: char = '\u{1f}';

/// Turns events into lines, and thins out a line that repeats too fast.
pub(super) struct ZapLayer {
    queue: Queue,
    level: Level,
    format: Format,
    sampler: Sampler,
}

impl ZapLayer {
    pub(super) fn new(queue: Queue, level: Level, format: Format) -> ZapLayer {
        ZapLayer {
            queue,
            level,
            format,
            sampler: Sampler::default(),
        }
    }
}

impl<S: Subscriber> Layer<S> for ZapLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let is_fatal = metadata.target() == FATAL;
        if self.level == Level::Fatal && !is_fatal {
            return;
        }
        let ts = Timestamp::now();
        if !is_fatal && !self.sampler.admit(metadata, ts.seconds()) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = if is_fatal {
            FATAL
        } else {
            level_name(metadata)
        };
        self.queue
            .push(line(self.format, level, ts, metadata, &fields));
    }
}

fn line(
    format: Format,
    level: &str,
    ts: Timestamp,
    metadata: &Metadata<'_>,
    fields: &Fields,
) -> Vec<u8> {
    let mut out = String::with_capacity(256);
    let caller = Caller(metadata);
    // Writing to a String cannot fail.
    let _ = match format {
        Format::Json => {
            let _ = write!(
                out,
                "{{\"level\":\"{level}\",\"ts\":\"{ts}\",\"caller\":\"{caller}\",\"msg\":"
            );
            push_json_text(&mut out, &fields.message);
            if !fields.json.is_empty() {
                out.push(',');
            }
            writeln!(out, "{}}}", fields.json)
        }
        Format::Console if fields.json.is_empty() => {
            writeln!(out, "{ts}\t{level}\t{caller}\t{}", fields.message)
        }
        Format::Console => {
            writeln!(
                out,
                "{ts}\t{level}\t{caller}\t{}\t{{{}}}",
                fields.message, fields.json
            )
        }
    };
    out.into_bytes()
}

/// A line about the log itself, which comes from no call.
pub(super) fn dropped_line(format: Format, count: u64) -> Vec<u8> {
    let ts = Timestamp::now();
    let text = match format {
        Format::Json => format!(
            "{{\"level\":\"warn\",\"ts\":\"{ts}\",\"caller\":\"log/writer.rs\",\"msg\":\"log lines dropped\",\"count\":{count}}}\n"
        ),
        Format::Console => {
            format!("{ts}\twarn\tlog/writer.rs\tlog lines dropped\t{{\"count\":{count}}}\n")
        }
    };
    text.into_bytes()
}

fn level_name(metadata: &Metadata<'_>) -> &'static str {
    match *metadata.level() {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warn",
        tracing::Level::INFO => "info",
        tracing::Level::DEBUG | tracing::Level::TRACE => "debug",
    }
}

/// The fields of one event, written as JSON members, the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    json: String,
}

impl Fields {
    fn key(&mut self, field: &Field) {
        if !self.json.is_empty() {
            self.json.push(',');
        }
        push_json_text(&mut self.json, field.name());
        self.json.push(':');
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        let _ = write!(self.json, "{value}");
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
            return;
        }
        self.key(field);
        match text.strip_prefix(JSON_MARK) {
            Some(json) if serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok() => {
                self.json += json
            }
            _ => push_json_text(&mut self.json, &text),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.key(field);
        push_json_text(&mut self.json, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value)
        } else {
            self.record_debug(field, &value)
        }
    }
}

/// Escaped and cut at [`TEXT_LEN_MAX`], so that no foreign text makes a line without end.
fn push_json_text(out: &mut String, text: &str) {
    let mut end = text.len().min(TEXT_LEN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    *out += &serde_json::to_string(&text[..end]).expect("texts are always JSON");
}

/// `directory/file.rs:line`.
struct Caller<'a>(&'a Metadata<'a>);

impl fmt::Display for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.file().unwrap_or("unknown.rs");
        let start = file
            .rmatch_indices('/')
            .nth(1)
            .map_or(0, |(slash, _)| slash + 1);
        write!(f, "{}:{}", &file[start..], self.0.line().unwrap_or(0))
    }
}

/// zap's rule: of one line, the first hundred of a second and then each hundredth.
struct Sampler {
    /// Per slot: the second in the upper 32 bits, lines seen in it in the lower. Lines that share a slot share the count.
    slots: [AtomicU64; SAMPLER_SLOTS],
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler {
            slots: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Sampler {
    fn admit(&self, metadata: &Metadata<'_>, second: u64) -> bool {
        let mut hasher = DefaultHasher::new();
        metadata.callsite().hash(&mut hasher);
        let slot = &self.slots[hasher.finish() as usize % SAMPLER_SLOTS];
        let second = second & 0xffff_ffff;
        // Relaxed: the count orders nothing; two threads may at worst both see the hundredth.
        let seen = slot.load(Ordering::Relaxed);
        let count = if seen >> 32 == second {
            (seen & 0xffff_ffff) + 1
        } else {
            1
        };
        slot.store(second << 32 | count.min(0xffff_ffff), Ordering::Relaxed);
        count <= SAMPLE_FIRST || count.is_multiple_of(SAMPLE_EACH)
    }
}

const SAMPLER_SLOTS: usize = 512;
const SAMPLE_FIRST: u64 = 100;
const SAMPLE_EACH: u64 = 100;
/// Bytes of one text in a line.
const TEXT_LEN_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use tracing_subscriber::layer::SubscriberExt;

    use super::super::writer::Message;
    use super::*;

    fn lines(format: Format, emit: impl FnOnce()) -> Vec<String> {
        let (queue, received): (Queue, Receiver<Message>) = Queue::for_test(1_000);
        let layer = ZapLayer::new(queue, Level::Info, format);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), emit);
        received
            .try_iter()
            .map(|message| match message {
                Message::Line(line) => String::from_utf8(line).expect("lines are text"),
                Message::Flush(_) => panic!("nobody flushed"),
            })
            .collect()
    }

    /// Tools parse these keys in this order.
    #[test]
    fn a_json_line_has_zaps_keys_in_zaps_order() {
        let lines = lines(Format::Json, || {
            tracing::info!(
                "local-member-id" = %format_args!("{:x}", 0xabu32),
                "current-rev" = 1,
                "is-learner" = false,
                urls = ?super::super::list(&["a", "b"]),
                "say \"hi\"\n"
            );
        });
        let line = &lines[0];
        assert!(
            line.starts_with("{\"level\":\"info\",\"ts\":\"20"),
            "{line}"
        );
        assert!(line.contains("Z\",\"caller\":\"log/layer.rs:"), "{line}");
        assert!(
            line.ends_with(
                "\"msg\":\"say \\\"hi\\\"\\n\",\"local-member-id\":\"ab\",\"current-rev\":1,\"is-learner\":false,\"urls\":[\"a\",\"b\"]}\n"
            ),
            "{line}"
        );
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok());
    }

    #[test]
    fn a_console_line_has_columns_and_the_fields_last() {
        let lines = lines(Format::Console, || tracing::warn!(took = 3, "slow"));
        let columns: Vec<&str> = lines[0].trim_end().split('\t').collect();
        assert_eq!(columns[1], "warn");
        assert_eq!(columns[3..], ["slow", "{\"took\":3}"]);
    }

    /// A key or a peer's name must not be able to write fields of its own.
    #[test]
    fn foreign_text_cannot_break_out_of_its_field() {
        let lines = lines(Format::Json, || {
            tracing::info!(name = %"\u{1f}1,\"level\":\"fatal\"", "x");
        });
        let line: serde_json::Value = serde_json::from_str(&lines[0]).expect("still JSON");
        assert_eq!(line["level"], "info");
        assert_eq!(line["name"], "\u{1f}1,\"level\":\"fatal\"");
    }

    #[test]
    fn the_fatal_target_has_its_own_level() {
        let lines = lines(Format::Json, || tracing::error!(target: FATAL, "gone"));
        assert!(lines[0].starts_with("{\"level\":\"fatal\""));
    }

    #[test]
    fn a_line_that_repeats_too_fast_is_thinned_out() {
        let lines = lines(Format::Json, || {
            for i in 0..900 {
                tracing::info!(i, "again");
            }
        });
        assert!(lines.len() >= 100, "the first hundred pass");
        assert!(lines.len() < 900, "the rest does not");
    }
}
