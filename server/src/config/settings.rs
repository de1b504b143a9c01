use std::collections::BTreeMap;
use std::time::Duration;

use super::Warning;
use super::flag::{self, Flag, Status};
use super::url::Url;
use super::value::Value;

/// Where a setting came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Flag,
    Env,
    File,
}

/// The flags that were set, parsed. What was not set reads as its default.
#[derive(Debug, Default)]
pub(super) struct Settings {
    set: BTreeMap<&'static str, (Value, Source)>,
}

impl Settings {
    /// Sets a flag from Go's syntax; the error says what is wrong with the text.
    pub(super) fn set(
        &mut self,
        flag: &'static Flag,
        text: &str,
        source: Source,
    ) -> Result<(), String> {
        let value = flag.parse(text)?;
        self.set.insert(flag.name, (value, source));
        Ok(())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.set.keys().copied()
    }

    /// Moves what was set under an older name to today's, which wins if both are set.
    pub(super) fn resolve_legacy(&mut self, warnings: &mut Vec<Warning>) {
        let names: Vec<&'static str> = self.names().collect();
        for name in names {
            match flag_of(name).status {
                Status::Works | Status::NoEffectYet | Status::Ignored(_) => {}
                Status::Alias(target) => {
                    warnings.push(
                        Warning::new("flag has a new name")
                            .with("flag", name)
                            .with("use", target),
                    );
                    let setting = self.set.remove(name).expect("its name was just listed");
                    self.set.entry(flag_of(target).name).or_insert(setting);
                }
                Status::Gate(gate) => {
                    let new_form = format!("feature-gates={gate}=true");
                    warnings.push(
                        Warning::new("flag has a new name")
                            .with("flag", name)
                            .with("use", &new_form),
                    );
                    let (value, source) = self.set.remove(name).expect("its name was just listed");
                    let Value::Bool(on) = value else {
                        unreachable!("gates are booleans")
                    };
                    let gates = self
                        .set
                        .entry("feature-gates")
                        .or_insert((Value::Gates(Vec::new()), source));
                    let Value::Gates(list) = &mut gates.0 else {
                        unreachable!("its kind is Gates")
                    };
                    if list.iter().all(|(name, _)| name != gate) {
                        list.push((gate.to_owned(), on));
                    }
                }
            }
        }
    }

    /// One warning for each flag that was set without effect.
    pub(super) fn warn_without_effect(&self, warnings: &mut Vec<Warning>) {
        for name in self.names() {
            match flag_of(name).status {
                Status::NoEffectYet => {
                    warnings.push(Warning::new("flag has no effect yet").with("flag", name))
                }
                Status::Ignored(reason) => {
                    warnings.push(
                        Warning::new("flag is ignored")
                            .with("flag", name)
                            .with("reason", reason),
                    );
                }
                Status::Works | Status::Alias(_) | Status::Gate(_) => {}
            }
        }
    }

    fn value(&self, name: &str) -> Value {
        if let Some((value, _)) = self.set.get(name) {
            return value.clone();
        }
        let flag = flag_of(name);
        flag.parse(flag.default)
            .expect("a test holds that every default parses")
    }

    pub(super) fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            other => unreachable!("--{name} is not a text: {other:?}"),
        }
    }

    pub(super) fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(on) => on,
            other => unreachable!("--{name} is not a boolean: {other:?}"),
        }
    }

    pub(super) fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(number) => number,
            other => unreachable!("--{name} is not a number: {other:?}"),
        }
    }

    pub(super) fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(number) => number,
            other => unreachable!("--{name} is not a number: {other:?}"),
        }
    }

    /// Negative durations, which Go allows, mean none.
    pub(super) fn duration(&self, name: &str) -> Duration {
        match self.value(name) {
            Value::Nanos(nanos) => Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)),
            other => unreachable!("--{name} is not a duration: {other:?}"),
        }
    }

    pub(super) fn urls(&self, name: &str) -> Vec<Url> {
        match self.value(name) {
            Value::Urls(urls) => urls,
            other => unreachable!("--{name} is not a list of URLs: {other:?}"),
        }
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::List(words) => words,
            other => unreachable!("--{name} is not a list: {other:?}"),
        }
    }

    pub(super) fn gate(&self, name: &str) -> bool {
        match self.value("feature-gates") {
            Value::Gates(gates) => gates.iter().any(|(gate, on)| gate == name && *on),
            other => unreachable!("--feature-gates is not a list of gates: {other:?}"),
        }
    }
}

fn flag_of(name: &str) -> &'static Flag {
    flag::find(name).unwrap_or_else(|| panic!("--{name} is not in the table"))
}
