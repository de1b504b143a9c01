//! The generator of `src/generated/`: reads `api.txt`, writes one module of prost structs a
//! package.
//!
//! As a test it fails when a checked-in file differs from what the table says. To write them anew:
//! `BASALT_REGENERATE=1 cargo test -p basalt-pb --test generated`.

#![allow(clippy::unwrap_used, reason = "a test file")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

const HEAD: &str = "// Made from net/pb/api.txt by net/pb/tests/generated.rs; do not edit.\n";

#[test]
fn generated_files_are_what_the_table_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let api = Api::parse(&std::fs::read_to_string(root.join("api.txt")).unwrap());
    let rewrite = std::env::var_os("BASALT_REGENERATE").is_some();
    for (name, text) in api.files() {
        let path = root.join("src/generated").join(&name);
        if rewrite {
            std::fs::write(&path, &text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{name} is not what api.txt says; see the head of this file"
        );
    }
}

struct Field {
    number: u32,
    name: String,
    kind: String,
    /// `""`, `repeated` or `optional` (explicit presence, proto2).
    label: String,
    oneof: Option<String>,
}

struct Message {
    package: String,
    name: String,
    fields: Vec<Field>,
}

struct Enum {
    package: String,
    /// The message that the enum is declared in, if any.
    parent: Option<String>,
    name: String,
    values: Vec<(String, i32)>,
}

#[derive(Default)]
struct Api {
    /// Service name as on the wire, and its methods in the table's order.
    services: Vec<(String, Vec<String>)>,
    messages: Vec<Message>,
    enums: Vec<Enum>,
}

impl Api {
    fn parse(table: &str) -> Api {
        let mut api = Api::default();
        let mut package = String::new();
        let mut in_enums = false;
        for line in table.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] | ["#", ..] => {}
                ["##", "3.", ..] => in_enums = true,
                ["###", "package", name, ..] => package = (*name).to_owned(),
                ["service", name, ..] => api.services.push(((*name).to_owned(), Vec::new())),
                ["message", name, ..] => api.messages.push(Message {
                    package: package.clone(),
                    name: (*name).to_owned(),
                    fields: Vec::new(),
                }),
                [path, ..] if path.starts_with('/') => {
                    let method = path.rsplit('/').next().unwrap();
                    api.services.last_mut().unwrap().1.push(method.to_owned());
                }
                [number, name, kind, rest @ ..] if number.parse::<u32>().is_ok() => {
                    let label = rest.iter().find(|w| ["repeated", "optional"].contains(w));
                    let oneof = rest.iter().position(|w| *w == "oneof");
                    api.messages.last_mut().unwrap().fields.push(Field {
                        number: number.parse().unwrap(),
                        name: (*name).to_owned(),
                        kind: (*kind).to_owned(),
                        label: label.map_or(String::new(), |l| (*l).to_owned()),
                        oneof: oneof.map(|at| rest[at + 1].to_owned()),
                    });
                }
                _ if in_enums => api.enums.push(Enum::parse(line)),
                _ => {}
            }
        }
        api
    }

    fn files(&self) -> Vec<(String, String)> {
        let packages: BTreeSet<&str> = self.messages.iter().map(|m| m.package.as_str()).collect();
        let mut files = Vec::new();
        let mut head = HEAD.to_owned();
        for package in packages {
            writeln!(head, "pub mod {package};").unwrap();
            files.push((format!("{package}.rs"), self.package(package)));
        }
        head.push_str("pub mod paths;\n");
        files.push(("paths.rs".to_owned(), self.paths()));
        files.push(("mod.rs".to_owned(), head));
        files
    }

    /// `paths::kv::RANGE` and its like: what a client writes into `:path`.
    fn paths(&self) -> String {
        let mut out = HEAD.to_owned();
        for (service, methods) in &self.services {
            let short = service.rsplit('.').next().unwrap();
            writeln!(out, "\npub mod {} {{", snake(short)).unwrap();
            writeln!(out, "    pub const SERVICE: &str = \"{service}\";").unwrap();
            for method in methods {
                let name = snake(method).to_uppercase();
                writeln!(out, "    pub const {name}: &str = \"/{service}/{method}\";").unwrap();
            }
            out.push_str("}\n");
        }
        out
    }

    fn package(&self, package: &str) -> String {
        let mut out = HEAD.to_owned();
        // What prost-build puts into a module named after the message: its enums and oneofs.
        let mut nested: BTreeMap<&str, String> = BTreeMap::new();
        for e in self.enums.iter().filter(|e| e.package == package) {
            match &e.parent {
                Some(parent) => e.write(nested.entry(parent).or_default(), "    "),
                None => e.write(&mut out, ""),
            }
        }
        for m in self.messages.iter().filter(|m| m.package == package) {
            for oneof in m.oneofs() {
                self.oneof(nested.entry(&m.name).or_default(), m, oneof);
            }
            self.message(&mut out, m);
        }
        for (parent, body) in nested {
            write!(out, "\npub mod {} {{{body}}}\n", snake(parent)).unwrap();
        }
        out
    }

    fn message(&self, out: &mut String, m: &Message) {
        let copy = if self.is_copy(m) { "Copy, " } else { "" };
        let name = camel(&m.name);
        writeln!(
            out,
            "\n#[derive({copy}Clone, PartialEq, Eq, Hash, ::prost::Message)]"
        )
        .unwrap();
        writeln!(out, "pub struct {name} {{").unwrap();
        let mut seen: Vec<&str> = Vec::new();
        for f in &m.fields {
            let Some(oneof) = &f.oneof else {
                let (attr, kind) = self.field(m, f);
                writeln!(out, "    #[prost({attr}, tag = \"{}\")]", f.number).unwrap();
                writeln!(out, "    pub {}: {kind},", field_name(&f.name)).unwrap();
                continue;
            };
            if seen.contains(&oneof.as_str()) {
                continue;
            }
            seen.push(oneof);
            let of = m.fields.iter().filter(|f| f.oneof.as_ref() == Some(oneof));
            let tags: Vec<String> = of.map(|f| f.number.to_string()).collect();
            let path = format!("{}::{}", snake(&m.name), camel(oneof));
            writeln!(
                out,
                "    #[prost(oneof = \"{path}\", tags = \"{}\")]",
                tags.join(", ")
            )
            .unwrap();
            writeln!(out, "    pub {}: Option<{path}>,", field_name(oneof)).unwrap();
        }
        out.push_str("}\n");
    }

    fn oneof(&self, out: &mut String, m: &Message, oneof: &str) {
        let of: Vec<&Field> = m
            .fields
            .iter()
            .filter(|f| f.oneof.as_deref() == Some(oneof))
            .collect();
        let copy = of.iter().all(|f| self.is_copy_kind(m, f));
        let copy = if copy { "Copy, " } else { "" };
        writeln!(
            out,
            "\n    #[derive({copy}Clone, PartialEq, Eq, Hash, ::prost::Oneof)]"
        )
        .unwrap();
        writeln!(out, "    pub enum {} {{", camel(oneof)).unwrap();
        for f in of {
            let (attr, kind) = match self.scalar(m, f) {
                Some(scalar) => scalar,
                None => (
                    "message".to_owned(),
                    format!("super::{}", self.type_path(m, &f.kind)),
                ),
            };
            writeln!(out, "        #[prost({attr}, tag = \"{}\")]", f.number).unwrap();
            writeln!(out, "        {}({kind}),", camel(&f.name)).unwrap();
        }
        out.push_str("    }\n");
    }

    /// The prost attribute (without the tag) and the Rust type of a field outside a oneof.
    fn field(&self, m: &Message, f: &Field) -> (String, String) {
        if let Some(of) = f.kind.strip_prefix("map<string,") {
            let kind = self.type_path(m, of.trim_end_matches('>'));
            let attr = "btree_map = \"string, message\"".to_owned();
            return (attr, format!("std::collections::BTreeMap<String, {kind}>"));
        }
        let Some((attr, kind)) = self.scalar(m, f) else {
            let kind = self.type_path(m, &f.kind);
            return match f.label.as_str() {
                "repeated" => ("message, repeated".to_owned(), format!("Vec<{kind}>")),
                _ => ("message, optional".to_owned(), format!("Option<{kind}>")),
            };
        };
        match f.label.as_str() {
            // proto2 does not pack by default, proto3 does.
            "repeated" if m.package == "raftpb" => (
                format!("{attr}, repeated, packed = \"false\""),
                format!("Vec<{kind}>"),
            ),
            "repeated" => (format!("{attr}, repeated"), format!("Vec<{kind}>")),
            "optional" => (format!("{attr}, optional"), format!("Option<{kind}>")),
            _ => (attr, kind),
        }
    }

    /// Attribute and Rust type of a scalar or an enum; `None` for a message.
    fn scalar(&self, m: &Message, f: &Field) -> Option<(String, String)> {
        let of = |attr: &str, kind: &str| Some((attr.to_owned(), kind.to_owned()));
        match f.kind.as_str() {
            "bytes" => of("bytes = \"bytes\"", "::prost::bytes::Bytes"),
            "string" => of("string", "String"),
            "bool" => of("bool", "bool"),
            "int32" => of("int32", "i32"),
            "uint32" => of("uint32", "u32"),
            "int64" => of("int64", "i64"),
            "uint64" => of("uint64", "u64"),
            name => {
                let e = self
                    .enums
                    .iter()
                    .find(|e| e.package == m.package && e.name == name)?;
                let path = match &e.parent {
                    Some(parent) => format!("{}::{}", snake(parent), camel(name)),
                    None => camel(name),
                };
                Some((format!("enumeration = \"{path}\""), "i32".to_owned()))
            }
        }
    }

    fn type_path(&self, m: &Message, kind: &str) -> String {
        let (package, name) = kind.split_once('.').unwrap_or((&m.package, kind));
        let known = self
            .messages
            .iter()
            .any(|m| m.package == package && m.name == name);
        assert!(
            known,
            "{}.{} names the unknown type {kind}",
            m.package, m.name
        );
        if package == m.package {
            camel(name)
        } else {
            format!("super::{package}::{}", camel(name))
        }
    }

    fn is_copy(&self, m: &Message) -> bool {
        m.fields.iter().all(|f| self.is_copy_kind(m, f))
    }

    fn is_copy_kind(&self, m: &Message, f: &Field) -> bool {
        let plain = self
            .scalar(m, f)
            .is_some_and(|(_, kind)| kind != "String" && !kind.contains("Bytes"));
        let embedded = self
            .messages
            .iter()
            .find(|o| o.package == m.package && o.name == f.kind);
        f.label != "repeated"
            && (plain || embedded.is_some_and(|o| o.name != m.name && self.is_copy(o)))
    }
}

impl Message {
    fn oneofs(&self) -> BTreeSet<&str> {
        self.fields
            .iter()
            .filter_map(|f| f.oneof.as_deref())
            .collect()
    }
}

impl Enum {
    /// `package.[Message.]Name (since 3.0): A=0, B=1 (since 3.1)`.
    fn parse(line: &str) -> Enum {
        let (path, values) = line.split_once(": ").unwrap();
        let path: Vec<&str> = path.split_whitespace().next().unwrap().split('.').collect();
        let (package, parent, name) = match path.as_slice() {
            [package, name] => (package, None, name),
            [package, parent, name] => (package, Some((*parent).to_owned()), name),
            _ => panic!("enum path in: {line}"),
        };
        let value = |text: &str| {
            let (name, number) = text
                .split_whitespace()
                .next()
                .unwrap()
                .split_once('=')
                .unwrap();
            (name.to_owned(), number.parse().unwrap())
        };
        Enum {
            package: (*package).to_owned(),
            parent,
            name: (*name).to_owned(),
            values: values.split(", ").map(value).collect(),
        }
    }

    fn write(&self, out: &mut String, indent: &str) {
        let derives =
            "Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration";
        write!(
            out,
            "\n{indent}#[derive({derives})]\n{indent}#[repr(i32)]\n"
        )
        .unwrap();
        writeln!(out, "{indent}pub enum {} {{", self.name).unwrap();
        for (name, number) in &self.values {
            writeln!(
                out,
                "{indent}    {} = {number},",
                camel(&name.to_lowercase())
            )
            .unwrap();
        }
        writeln!(out, "{indent}}}").unwrap();
        // The names as etcd prints them, in texts and in JSON.
        writeln!(out, "\n{indent}impl {} {{", self.name).unwrap();
        writeln!(
            out,
            "{indent}    pub const fn as_str_name(self) -> &'static str {{"
        )
        .unwrap();
        writeln!(out, "{indent}        match self {{").unwrap();
        for (name, _) in &self.values {
            let variant = camel(&name.to_lowercase());
            writeln!(out, "{indent}            Self::{variant} => \"{name}\",").unwrap();
        }
        write!(out, "{indent}        }}\n{indent}    }}\n{indent}}}\n").unwrap();
    }
}

/// `peerURLs` to `peer_urls`, `HashKVRequest` to `hash_kv_request`.
fn snake(name: &str) -> String {
    words(name).join("_")
}

/// `HashKVRequest` to `HashKvRequest`, `request_op` to `RequestOp`.
fn camel(name: &str) -> String {
    words(name)
        .iter()
        .map(|w| w[..1].to_uppercase() + &w[1..])
        .collect()
}

fn field_name(name: &str) -> String {
    match snake(name).as_str() {
        "type" => "r#type".to_owned(),
        name => name.to_owned(),
    }
}

/// Lower-case words of a name. A run of capitals is one word (`TTL`), its last letter begins the
/// next one if a small letter follows (`KVRequest`), except for the plural of `URL`.
fn words(name: &str) -> Vec<String> {
    let name = name.replace("URLs", "Urls");
    let chars: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (i, c) in chars.iter().enumerate() {
        let after_small = i > 0 && chars[i - 1].is_lowercase();
        let before_small = i > 0 && chars.get(i + 1).is_some_and(|c| c.is_lowercase());
        if *c == '_' || (c.is_uppercase() && (after_small || before_small)) {
            words.push(String::new());
        }
        if *c != '_' {
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
    }
    words.retain(|w| !w.is_empty());
    words
}
