use super::table::FLAGS;
use super::value::{self, Value};

/// One command line flag. Its environment variable, YAML key, help and warnings are all made from this.
#[derive(Debug)]
pub(super) struct Flag {
    /// The name without dashes, which is also the key in the YAML file.
    pub(super) name: &'static str,
    /// The heading in `--help`.
    pub(super) group: Group,
    /// What its value is, in Go's syntax.
    pub(super) kind: Kind,
    /// The default in Go's syntax; it parses as `kind` (a test holds this).
    pub(super) default: &'static str,
    /// What setting it does today.
    pub(super) status: Status,
    /// One sentence; says the unit where the kind does not.
    pub(super) help: &'static str,
}

/// The headings of `--help`, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// This member alone.
    Member,
    /// Bootstrap and membership.
    Clustering,
    /// TLS, CORS and the Host check.
    Security,
    /// Users and tokens.
    Auth,
    /// Metrics and profiles.
    Monitoring,
    /// Where log lines go and what they look like.
    Logging,
    /// OpenTelemetry.
    Tracing,
    /// Checks and compaction.
    Features,
    /// Gives up a guarantee.
    Unsafe,
    /// What only basalt has.
    Basalt,
    /// Accepted so that old command lines keep working; not shown.
    Legacy,
}

impl Group {
    /// The heading as printed.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Group::Member => "Member",
            Group::Clustering => "Clustering",
            Group::Security => "Security",
            Group::Auth => "Auth",
            Group::Monitoring => "Profiling and monitoring",
            Group::Logging => "Logging",
            Group::Tracing => "Distributed tracing",
            Group::Features => "Checks and compaction",
            Group::Unsafe => "Unsafe (may break the guarantees of consensus)",
            Group::Basalt => "basalt",
            Group::Legacy => "Legacy",
        }
    }
}

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// Go's spellings of a truth value; alone it means true.
    Bool,
    /// A signed 64-bit number.
    Int,
    /// An unsigned 64-bit number.
    Uint,
    /// An unsigned 32-bit number.
    Uint32,
    /// Go's duration (`1h30m`, `100ms`); in the file also a number of nanoseconds.
    Duration,
    /// Comma-separated URLs, kept sorted and without repetitions.
    Urls,
    /// Comma-separated words.
    List,
    /// `Name=true,Name=false`.
    Gates,
    /// Any text, or none at all.
    Loose,
    /// One word of these.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// The placeholder in `--help`.
    pub(super) fn placeholder(self) -> &'static str {
        match self {
            Kind::Text | Kind::Loose => "text",
            Kind::Bool => "true|false",
            Kind::Int => "int",
            Kind::Uint | Kind::Uint32 => "uint",
            Kind::Duration => "duration",
            Kind::Urls => "urls",
            Kind::List => "list",
            Kind::Gates => "name=bool,...",
            Kind::Choice(_) => "word",
        }
    }
}

/// What setting a flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It does what it says.
    Works,
    /// Parsed and checked; its subject is not built yet, so setting it warns.
    NoEffectYet,
    /// It has no meaning here and never will; the reason is part of the warning.
    Ignored(&'static str),
    /// An older name of another flag.
    Alias(&'static str),
    /// An older flag that is now this feature gate.
    Gate(&'static str),
}

impl Flag {
    /// The environment variable: `ETCD_` and the name in capitals.
    pub(super) fn env(&self) -> String {
        format!("ETCD_{}", self.name.to_uppercase().replace(['-', '.'], "_"))
    }

    /// Reads a value in Go's syntax. The error says what is wrong, without the flag's name.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        value::parse(self.kind, text)
    }
}

/// The flag of that name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// The name most like `wrong`, if one is near enough to be a slip: two letters, or a third of them.
pub(super) fn nearest(wrong: &str) -> Option<&'static str> {
    nearest_of(
        wrong,
        FLAGS
            .iter()
            .filter(|flag| flag.group != Group::Legacy)
            .map(|flag| flag.name),
    )
}

/// As [`nearest`], among any words.
pub(super) fn nearest_of<'a>(wrong: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words
        .map(|word| (edit_distance(wrong, word), word))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, _)| distance <= (wrong.chars().count() / 3).max(2))
        .map(|(_, word)| word)
}

/// Levenshtein's distance in characters; the words here are short, so the quadratic form is enough.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A default that does not parse would panic at every start.
    #[test]
    fn every_default_parses_as_its_kind() {
        for flag in FLAGS {
            assert!(
                flag.parse(flag.default).is_ok(),
                "--{} has a bad default",
                flag.name
            );
        }
    }

    #[test]
    fn names_are_unique_and_aliases_lead_to_a_flag() {
        for (i, flag) in FLAGS.iter().enumerate() {
            assert!(
                FLAGS[..i].iter().all(|other| other.name != flag.name),
                "--{} twice",
                flag.name
            );
            if let Status::Alias(target) = flag.status {
                let target = find(target).expect("alias leads to a flag");
                assert_eq!(target.kind, flag.kind, "--{}", flag.name);
            }
        }
    }

    #[test]
    fn a_slip_of_the_pen_finds_the_flag_and_nonsense_finds_none() {
        assert_eq!(nearest("data-dri"), Some("data-dir"));
        assert_eq!(nearest("listen-client-url"), Some("listen-client-urls"));
        assert_eq!(nearest("nmae"), Some("name"));
        assert_eq!(nearest("zzzzzz"), None);
    }
}
