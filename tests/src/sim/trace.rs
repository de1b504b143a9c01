//! What happened, as a number to compare two runs by, and as lines to read.

use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A growing trace.
#[derive(Debug)]
pub(super) struct Trace {
    digest: [DefaultHasher; 2],
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps lines only if they are wanted.
    pub(super) fn new(wants_lines: bool) -> Self {
        let mut other = DefaultHasher::new();
        other.write_u8(1);
        Self {
            digest: [DefaultHasher::new(), other],
            lines: wants_lines.then(Vec::new),
        }
    }

    /// Adds what happened.
    pub(super) fn note(&mut self, now_us: u64, what: fmt::Arguments<'_>) {
        let _ = write!(self, "{now_us} {what};");
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.3} {what}", now_us as f64 / 1000.0));
        }
    }

    /// Adds a value: its hash, which is cheaper than its text.
    pub(super) fn note_value<T: Hash + fmt::Debug>(&mut self, now_us: u64, what: &T) {
        for digest in &mut self.digest {
            (now_us, what).hash(digest);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.3} {what:?}", now_us as f64 / 1000.0));
        }
    }

    /// 128 bits of everything so far, and the lines.
    pub(super) fn finish(self) -> (u128, Vec<String>) {
        let [high, low] = self.digest.map(|it| u128::from(it.finish()));
        (high << 64 | low, self.lines.unwrap_or_default())
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for digest in &mut self.digest {
            digest.write(text.as_bytes());
        }
        Ok(())
    }
}
