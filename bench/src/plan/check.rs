//! The rules of a plan: what the types cannot say.

use crate::record::Placement;

use super::{Action, Cell, Kind, Load, Method, Plan, Role, Shape, Watching, is_file_name};

impl Plan {
    /// Everything that is wrong with it, each in a line of its own. `servers` are the names that mean something.
    pub(crate) fn problems(&self, servers: &[&str]) -> Vec<String> {
        let mut problems = Vec::new();
        if !is_file_name(&self.name) {
            problems.push(format!(
                "the name {:?} has other than lower case letters, digits and `-`",
                self.name
            ));
        }
        if self.cells.is_empty() {
            problems.push("there are no cells".to_owned());
        }
        for (name, method) in &self.methods {
            let whose = |problem| format!("method {name}: {problem}");
            problems.extend(method.problems(servers).into_iter().map(whose));
            if !self.cells.iter().any(|cell| cell.method == *name) {
                problems.push(format!("method {name}: no cell uses it"));
            }
        }
        for (place, cell) in self.cells.iter().enumerate() {
            let whose = |problem| format!("cell {}: {problem}", cell.name);
            problems.extend(cell.problems(servers).into_iter().map(whose));
            if !self.methods.contains_key(&cell.method) {
                problems.push(whose(format!("there is no method {}", cell.method)));
            }
            if self.cells[..place]
                .iter()
                .any(|other| other.name == cell.name)
            {
                problems.push(whose("the name is used twice".to_owned()));
            }
        }
        problems
    }
}

impl Method {
    fn problems(&self, servers: &[&str]) -> Vec<String> {
        let mut problems = server_problems(&self.servers, servers);
        let mut placements = self.placements.clone();
        placements.sort_unstable();
        placements.dedup();
        let mut demand = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        demand(!placements.is_empty(), "there are no placements");
        demand(
            placements.len() == self.placements.len(),
            "a placement is named twice",
        );
        demand(
            (1..=1000).contains(&self.rounds)
                && (1..=1000).contains(&self.rounds(Placement::Unpinned)),
            "rounds are 1 to 1000",
        );
        demand(
            (0.1..=600.0).contains(&self.seconds),
            "seconds are 0.1 to 600",
        );
        demand((0.0..=60.0).contains(&self.warmup), "warmup is 0 to 60 s");
        demand(self.repeats_max <= 1000, "repeats_max is at most 1000");
        problems
    }
}

impl Cell {
    fn problems(&self, servers: &[&str]) -> Vec<String> {
        let mut problems = Vec::new();
        if !is_cell_name(&self.name) {
            problems.push(
                "a name is W, two digits, `-`, and lower case letters, digits and `-`".to_owned(),
            );
        }
        if let Some(own) = &self.servers {
            problems.extend(server_problems(own, servers));
        }
        if self.load.restart.is_some() && self.stay_up {
            problems.push("a server that is restarted does not stay up".to_owned());
        }
        if self
            .memory_max_mib
            .is_some_and(|mib| !(16..=1_048_576).contains(&mib))
        {
            problems.push("memory_max_mib is 16 to 1048576".to_owned());
        }
        if self.memory_max_mib.is_some() && self.load.members > 1 {
            problems.push("memory_max_mib is for a lone member".to_owned());
        }
        if let Some(watching) = self.load.watchers() {
            if self.shape.workload != Kind::Put {
                problems.push("watchers watch puts".to_owned());
            }
            if watching.watch_own && watching.watchers != self.shape.keys {
                problems.push("with watch_own there are as many watchers as keys".to_owned());
            }
        }
        let ends_leases = matches!(self.load.beside, Some(Action::Expire | Action::Revoke));
        if ends_leases && (self.shape.leased_keys == 0 || self.stay_up) {
            problems
                .push("leases that end need keys, and leave no data for another slice".to_owned());
        }
        problems.extend(self.load.problems());
        problems.extend(self.shape.problems());
        problems
    }
}

fn server_problems(named: &[String], known: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    if named.is_empty() {
        problems.push("there are no servers".to_owned());
    }
    for (place, name) in named.iter().enumerate() {
        if !known.contains(&name.as_str()) {
            problems.push(format!(
                "no server is called {name}: there are {}",
                known.join(", ")
            ));
        }
        if named[..place].contains(name) {
            problems.push(format!("the server {name} is named twice"));
        }
    }
    problems
}

/// The workload's number comes first: `W02-put-100`.
fn is_cell_name(name: &str) -> bool {
    let Some((number, rest)) = name.strip_prefix('W').and_then(|name| name.split_once('-')) else {
        return false;
    };
    number.len() == 2 && number.chars().all(|c| c.is_ascii_digit()) && is_file_name(rest)
}

impl Load {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut demand = |holds: bool, problem: &str| {
            if !holds {
                problems.push(format!("load: {problem}"));
            }
        };
        demand((1..=10_000).contains(&self.conns), "conns are 1 to 10000");
        demand((1..=1000).contains(&self.streams), "streams are 1 to 1000");
        demand(
            self.rate.is_none_or(|rate| (0.1..=1e7).contains(&rate)),
            "rate is 0.1 to 10000000 per second",
        );
        demand(!self.poisson || self.rate.is_some(), "poisson needs a rate");
        demand(
            self.capacity_p99_ms
                .is_none_or(|p99| (0.01..=60e3).contains(&p99)),
            "capacity_p99_ms is 0.01 to 60000",
        );
        demand(
            self.beside_every
                .is_none_or(|every| self.beside.is_some() && (0.1..=600.0).contains(&every)),
            "beside_every is 0.1 to 600 s, and needs beside",
        );
        demand(
            (1..=100).contains(&self.beside_conns),
            "beside_conns are 1 to 100",
        );
        demand(
            self.beside.is_none() || self.capacity_p99_ms.is_none() && !self.overload,
            "beside excludes capacity_p99_ms and overload",
        );
        demand(
            !self.idle || self.rate.is_some() && self.beside.is_none() && self.restart.is_none(),
            "idle needs a rate, and excludes beside and restart",
        );
        demand(
            self.restart.is_none()
                || self.capacity_p99_ms.is_none() && !self.overload && self.beside.is_none(),
            "restart excludes capacity_p99_ms, overload and beside",
        );
        demand((1..=7).contains(&self.members), "members are 1 to 7");
        demand(
            self.members > 1 || self.to == Role::Leader,
            "a lone member is its leader",
        );
        demand(
            self.members == 1 || self.restart.is_none(),
            "restart is for a lone member",
        );
        demand(
            self.leader_kills.is_none_or(|kills| {
                (1..=1000).contains(&kills) && self.members >= 3 && self.rate.is_some()
            }),
            "leader_kills are 1 to 1000, and need a rate and 3 members",
        );
        demand(
            self.leader_kills.is_none() || self.beside.is_none() && !self.idle,
            "leader_kills exclude beside and idle",
        );
        let Watching {
            watchers,
            watch_conns,
            watch_streams,
            ..
        } = self.watching;
        demand(
            watchers.is_multiple_of(u32::from(watch_conns) * u32::from(watch_streams)),
            "watchers are equally many on each stream",
        );
        demand(
            (0.0..=600.0).contains(&self.watching.watch_pause),
            "watch_pause is 0 to 600 s",
        );
        let is_plain = self.capacity_p99_ms.is_none()
            && !self.overload
            && !self.idle
            && self.beside.is_none()
            && self.restart.is_none()
            && self.members == 1;
        demand(
            watchers == 0 || is_plain,
            "watchers are for a lone member, and exclude capacity_p99_ms, overload, idle, beside and restart",
        );
        let ways = [
            self.rate.is_some(),
            self.capacity_p99_ms.is_some(),
            self.overload,
        ];
        demand(
            ways.iter().filter(|way| **way).count() <= 1,
            "rate, capacity_p99_ms and overload exclude each other",
        );
        problems
    }
}

impl Shape {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut demand = |holds: bool, problem: &str| {
            if !holds {
                problems.push(format!("shape: {problem}"));
            }
        };
        demand(
            (1..=100_000_000).contains(&self.keys),
            "keys are 1 to 100000000",
        );
        demand(
            (8..4096).contains(&self.key_size),
            "key_size is 8 to 4095 bytes",
        );
        demand(
            (8..1_500_000).contains(&self.value_size),
            "value_size is 8 to 1499999 bytes",
        );
        demand(
            (1..=100).contains(&self.revisions),
            "revisions are 1 to 100",
        );
        demand(self.limit >= 1, "limit is at least 1");
        demand(
            (1e-6..=1e6).contains(&self.read_ratio),
            "read_ratio is 0.000001 to 1000000",
        );
        demand(
            self.conflict_percent <= 100,
            "conflict_percent is at most 100",
        );
        demand((1..=128).contains(&self.batch), "batch is 1 to 128");
        demand(
            (2..=86_400).contains(&self.lease_ttl),
            "lease_ttl is 2 to 86400 s",
        );
        demand(
            u64::from(self.leases) * u64::from(self.leased_keys) <= 4_000_000
                && self.leases <= 4_000_000,
            "leases, and keys on them, are at most 4000000",
        );
        demand(
            self.workload != Kind::KeepAlive || self.leases > 0,
            "keep-alive needs leases",
        );
        demand(
            self.workload != Kind::TxnPuts || self.keys >= u32::from(self.batch),
            "a txn cannot put a key twice: keys are at least batch",
        );
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::super::{COMMITTED, Plan};

    #[test]
    fn every_committed_plan_keeps_the_rules_and_its_name() {
        for (name, text) in COMMITTED {
            let plan = Plan::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(plan.name, *name);
            assert!(!plan.note.is_empty(), "{name} has no note");
        }
    }

    #[test]
    fn all_broken_rules_are_named_at_once() {
        let text = r#"{
            "name": "Bad name", "note": "",
            "methods": {"m": {"servers": ["etcd"], "placements": [], "rounds": 0, "seconds": 1, "warmup": 0, "repeats_max": 0}},
            "cells": [{"name": "put", "title": "", "method": "n", "stay_up": true, "load": {"rate": 5, "overload": true, "restart": "kill", "beside_every": 1}}]
        }"#;
        let error = Plan::parse(text).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(
            lines,
            [
                "the name \"Bad name\" has other than lower case letters, digits and `-`",
                "method m: no server is called etcd: there are basalt, basalt-again, etcd-tuned, etcd-default",
                "method m: there are no placements",
                "method m: rounds are 1 to 1000",
                "method m: no cell uses it",
                "cell put: a name is W, two digits, `-`, and lower case letters, digits and `-`",
                "cell put: a server that is restarted does not stay up",
                "cell put: load: beside_every is 0.1 to 600 s, and needs beside",
                "cell put: load: restart excludes capacity_p99_ms, overload and beside",
                "cell put: load: rate, capacity_p99_ms and overload exclude each other",
                "cell put: there is no method n",
            ]
        );
    }

    #[test]
    fn a_misspelt_word_is_an_error_with_its_place() {
        let error = Plan::parse("{\"name\": \"a\",\n \"nota\": \"b\"}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown field `nota`, expected one of `name`, `note`, `methods`, `cells` at line 2 column 7"
        );
    }

    #[test]
    fn a_name_that_is_no_plan_says_which_there_are() {
        let error = Plan::load("fulll").unwrap_err();
        assert_eq!(
            error.to_string(),
            "fulll is neither a file nor one of the plans full, quick, a-a, storage, cluster, watch, lease"
        );
    }
}
