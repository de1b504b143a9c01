//! What the compiler does not hold: who may know whom, how long a file is, where unsafe code lives, which clause has no test.
//!
//! A rule changes here and in docs/ARCHITECTURE.md in one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Packages and what they may depend on within the workspace.
const PACKAGES: &[(&str, &[&str])] = &[
    ("net/pb", &[]),
    ("engine", &["basalt-pb"]),
    ("net", &["basalt-pb"]),
    ("server", &["basalt-engine", "basalt-net", "basalt-pb"]),
    (
        "bench",
        &["basalt-engine", "basalt-gate", "basalt-net", "basalt-pb"],
    ),
    ("bench/gate", &["basalt-engine", "basalt-net", "basalt-pb"]),
];

/// The rooms of `engine`; each uses lower ranks only.
const ENGINE: &[(&str, u8)] = &[
    ("types", 0),
    ("limits", 0),
    ("mutant", 0),
    ("disk", 0),
    ("command", 1),
    ("run", 1),
    ("raft", 2),
    ("wal", 2),
    ("mvcc", 2),
    ("lease", 1),
    ("auth", 2),
    ("member", 2),
    ("snapshot", 3),
    ("query", 3),
    ("watch", 4),
    ("apply", 4),
    ("replica", 5),
    ("io", 6),
];

/// The rooms of `net`; each uses lower ranks only.
const NET: &[(&str, u8)] = &[
    ("limits", 0),
    ("hpack", 1),
    ("h1", 1),
    ("sniff", 1),
    ("h2", 2),
    ("grpc", 3),
    ("peer", 1),
    ("tls", 4),
    ("reactor", 5),
];

/// Rooms that must not know each other although their ranks would allow it.
const APART: &[(&str, &[&str])] = &[("apply", &["raft", "wal"]), ("replica", &["io"])];

/// Files that hold unsafe code, or directories whose one file does.
const UNSAFE: &[&str] = &[
    "engine/src/mvcc/tree/",
    "engine/src/mvcc/revlog/segment.rs",
    "engine/src/watch/skiplist.rs",
    "engine/src/io/uring.rs",
    "engine/src/io/aligned.rs",
];
const UNSAFE_FILES_MAX: usize = 6;

/// Beyond this the cut is wrong; tables that a program wrote are apart.
const FILE_LINES_MAX: usize = 700;
const GENERATED: &[&str] = &["net/pb/src/generated/", "net/src/hpack/huffman_table.rs"];

/// Words that say that something is not done.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "allow(dead_code)", "#[ignore"];

struct Source {
    /// From the workspace's root, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The lines that are code, with their numbers; what follows `#[cfg(test)]` and `mod tests` is left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_tests = self.path.ends_with("tests.rs") || self.path.contains("/tests/");
        let end = if is_tests { 0 } else { self.test_start() };
        self.text
            .lines()
            .enumerate()
            .take(end)
            .map(|(i, line)| (i + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn test_start(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        lines
            .windows(2)
            .position(|pair| {
                pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod ")
            })
            .unwrap_or(lines.len())
    }

    /// The rooms of its own package that it names, as `crate::room` or in `crate::{...}`.
    fn rooms_used(&self) -> BTreeSet<String> {
        let code: String = self.code().map(|(_, line)| format!("{line}\n")).collect();
        let mut rooms = BTreeSet::new();
        for (at, _) in code.match_indices("crate::") {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &code[at + "crate::".len()..];
            match rest.strip_prefix('{') {
                Some(group) => rooms.extend(group_heads(group)),
                None => rooms.extend(head(rest)),
            }
        }
        rooms
    }
}

/// The first segment of a path, if it is a room's name and not a type's.
fn head(path: &str) -> Option<String> {
    let word: String = path
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty() && !word.starts_with(char::is_uppercase)).then_some(word)
}

/// The first segments inside `{...}`, whose opening brace is already gone.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads: Vec<String> = head(group).into_iter().collect();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(head(&group[at + 1..])),
            _ => {}
        }
    }
    heads
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
}

fn files_below(dir: &str, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a readable directory").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default()
                .to_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if name.ends_with(ending) {
                let relative = path.strip_prefix(root()).expect("below the root");
                let path_text = relative.to_str().expect("a plain path").to_owned();
                found.push(Source {
                    path: path_text,
                    text: fs::read_to_string(&path).expect("a readable file"),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn all_rust() -> Vec<Source> {
    let dirs = ["engine", "net", "server", "bench", "tests", "fuzz"];
    dirs.iter()
        .flat_map(|dir| files_below(dir, ".rs"))
        .collect()
}

fn is_listed(path: &str, list: &[&str]) -> bool {
    list.iter()
        .any(|entry| path == *entry || entry.ends_with('/') && path.starts_with(entry))
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// `net` that knows meaning, or `engine` that knows sockets, could no longer be tested alone.
#[test]
fn packages_depend_in_one_direction() {
    let mut wrong = Vec::new();
    for (package, allowed) in PACKAGES {
        let manifest =
            fs::read_to_string(root().join(package).join("Cargo.toml")).expect("a manifest");
        for line in manifest.lines().filter(|line| line.starts_with("basalt-")) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if !allowed.contains(&name) {
                wrong.push(format!("{package}/Cargo.toml: {name}"));
            }
        }
    }
    assert_none("dependencies against the direction", &wrong);
}

#[test]
fn rooms_use_lower_ranks_only() {
    let mut wrong = Vec::new();
    for (package, table) in [("engine/src", ENGINE), ("net/src", NET)] {
        let ranks: BTreeMap<&str, u8> = table.iter().copied().collect();
        for source in files_below(package, ".rs") {
            let inside = source
                .path
                .strip_prefix(package)
                .expect("below it")
                .trim_start_matches('/');
            let room = inside
                .split('/')
                .next()
                .expect("a name")
                .trim_end_matches(".rs");
            if room == "lib" {
                continue;
            }
            let Some(own_rank) = ranks.get(room) else {
                wrong.push(format!(
                    "{}: room `{room}` has no rank in tidy.rs",
                    source.path
                ));
                continue;
            };
            let apart = APART
                .iter()
                .find(|(name, _)| *name == room)
                .map_or(&[][..], |(_, rooms)| rooms);
            for used in source.rooms_used() {
                let allowed = used == room
                    || ranks.get(used.as_str()).is_some_and(|rank| rank < own_rank)
                        && !apart.contains(&used.as_str());
                if !allowed {
                    wrong.push(format!("{}: {room} uses {used}", source.path));
                }
            }
        }
    }
    assert_none("rooms that know too much", &wrong);
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let long: Vec<String> = all_rust()
        .iter()
        .filter(|source| !is_listed(&source.path, GENERATED))
        .map(|source| (source.text.lines().count(), &source.path))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert_none("files over the limit", &long);
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    let mut files = BTreeSet::new();
    let mut wrong = Vec::new();
    for source in all_rust()
        .iter()
        .filter(|source| !source.path.starts_with("tests/"))
    {
        for (number, line) in source.code() {
            let is_unsafe = ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern "]
                .iter()
                .any(|form| line.contains(form));
            if is_unsafe && is_listed(&source.path, UNSAFE) {
                files.insert(source.path.clone());
            } else if is_unsafe {
                wrong.push(format!("{}:{number}", source.path));
            }
        }
    }
    assert_none("unsafe code outside its rooms", &wrong);
    assert!(
        files.len() <= UNSAFE_FILES_MAX,
        "too many files with unsafe code: {files:?}"
    );
}

#[test]
fn nothing_is_left_unfinished() {
    let mut wrong = Vec::new();
    for source in all_rust()
        .iter()
        .filter(|source| !source.path.ends_with("tests/tidy.rs"))
    {
        for (i, line) in source.text.lines().enumerate() {
            if UNFINISHED.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{}: {}", source.path, i + 1, line.trim()));
            }
        }
    }
    assert_none("unfinished or silenced", &wrong);
}

/// A promise to clients that no test holds is a hope; a test that cites no promise has lost its reason.
#[test]
fn each_clause_of_the_contract_is_cited_by_a_test() {
    let Ok(contract) = fs::read_to_string(root().join("docs/CONTRACT.md")) else {
        panic!("docs/CONTRACT.md is missing");
    };
    let promised = clauses(&contract);
    let mut cited = BTreeSet::new();
    for ending in [".rs", ".py", ".go", ".script"] {
        for dir in ["engine", "net", "server", "tests", "fuzz"] {
            let sources = files_below(dir, ending);
            let citing = sources
                .iter()
                .filter(|source| !source.path.ends_with("tests/tidy.rs"));
            cited.extend(citing.flat_map(|source| clauses(&source.text)));
        }
    }
    let untested: Vec<String> = promised.difference(&cited).cloned().collect();
    assert_none("clauses of docs/CONTRACT.md without a test", &untested);
    let unknown: Vec<String> = cited.difference(&promised).cloned().collect();
    assert_none(
        "tests that cite a clause which docs/CONTRACT.md does not have",
        &unknown,
    );
}

/// Everything of the form `[KV-9]`.
fn clauses(text: &str) -> BTreeSet<String> {
    text.split('[')
        .skip(1)
        .filter_map(|after| after.split(']').next())
        .filter(|word| {
            word.split_once('-').is_some_and(|(area, number)| {
                area.len() >= 2
                    && area.chars().all(|c| c.is_ascii_uppercase())
                    && !number.is_empty()
                    && number.chars().all(|c| c.is_ascii_digit())
            })
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_readers_of_this_file_find_what_they_should() {
    let source = Source {
        path: "engine/src/x.rs".to_owned(),
        text: "use crate::{a::{b, c}, d};\nlet x = crate::e::f();\n// crate::g\nuse crate::Type;\n\
               #[cfg(test)]\nmod tests {\nuse crate::h;\n}\n"
            .to_owned(),
    };
    let rooms: Vec<String> = source.rooms_used().into_iter().collect();
    assert_eq!(rooms, ["a", "d", "e"]);
    let found: Vec<String> = clauses("x [KV-9] [a-1] [KV-] [LEASE-12]: y")
        .into_iter()
        .collect();
    assert_eq!(found, ["KV-9", "LEASE-12"]);
}
