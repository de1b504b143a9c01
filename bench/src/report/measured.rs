//! The slices of a folder, sorted into cells, placements and servers, and what one server says beside another.

use std::collections::BTreeSet;

use super::quantity::{Better, QUANTITIES, Quantity, samples, values};
use crate::plan::{Action, Cell, Ending, Kind, Load, Plan, Role};
use crate::record::{CLIENT_BUSY_MAX, Placement, Slice};
use crate::statistics::{Ratio, Spread, median};

/// One cell at one placement.
pub(super) struct Measured<'a> {
    pub cell: &'a Cell,
    pub placement: Placement,
    /// In the plan's order, then whatever else has slices; never empty.
    pub sides: Vec<Side<'a>>,
}

/// One server of it.
pub(super) struct Side<'a> {
    pub server: &'a str,
    /// What counts: the slices that were not discarded. Never empty.
    pub slices: Vec<&'a Slice>,
}

/// How many times better the subject is than a rival, whatever direction is good: above 1 is for the subject.
pub(super) struct Advantage<'a> {
    pub rival: &'a str,
    pub times: Ratio,
}

/// All cells that have a slice that counts, in the plan's order.
pub(super) fn measured<'a>(plan: &'a Plan, slices: &'a [Slice]) -> Vec<Measured<'a>> {
    let mut all = Vec::new();
    for cell in &plan.cells {
        for placement in [Placement::Pinned, Placement::Unpinned] {
            let here: Vec<&Slice> = slices
                .iter()
                .filter(|slice| slice.cell == cell.name && slice.placement == placement)
                .filter(|slice| slice.discarded.is_none())
                .collect();
            let sides = sides(plan, cell, &here);
            if !sides.is_empty() {
                all.push(Measured {
                    cell,
                    placement,
                    sides,
                });
            }
        }
    }
    all
}

fn sides<'a>(plan: &'a Plan, cell: &'a Cell, here: &[&'a Slice]) -> Vec<Side<'a>> {
    let planned = plan.method(cell).map(|method| cell.servers(method)).ok();
    let mut seen = BTreeSet::new();
    planned
        .into_iter()
        .flatten()
        .map(String::as_str)
        .chain(here.iter().map(|slice| slice.server.as_str()))
        .filter(|server| seen.insert(*server))
        .filter_map(|server| {
            let slices: Vec<&Slice> = here
                .iter()
                .copied()
                .filter(|slice| slice.server == server)
                .collect();
            (!slices.is_empty()).then_some(Side { server, slices })
        })
        .collect()
}

impl<'a> Measured<'a> {
    /// The server that the others are compared with: basalt, or the first.
    pub(super) fn subject(&self) -> &Side<'a> {
        let basalt = self.sides.iter().find(|side| side.server == "basalt");
        basalt.unwrap_or(&self.sides[0])
    }

    /// All others.
    pub(super) fn rivals(&self) -> impl Iterator<Item = &Side<'a>> {
        let subject = self.subject().server;
        self.sides.iter().filter(move |side| side.server != subject)
    }

    /// Those of which some side has a figure, in the order of the tables.
    pub(super) fn quantities(&self) -> impl Iterator<Item = &'static Quantity> {
        let has = |quantity: &&Quantity| {
            let mut sides = self.sides.iter();
            sides.any(|side| side.spread(quantity).is_some())
        };
        QUANTITIES.iter().filter(has)
    }

    /// None where neither direction is good, or a side has no such figure.
    pub(super) fn advantage(&self, quantity: &Quantity, rival: &Side<'a>) -> Option<Advantage<'a>> {
        let subject = self.subject();
        let ratio = Ratio::of(
            &samples(quantity, &subject.slices),
            &samples(quantity, &rival.slices),
        )?;
        Some(Advantage {
            rival: rival.server,
            times: match quantity.better? {
                Better::Lower => ratio.inverted(),
                Better::Higher => ratio,
            },
        })
    }

    /// Against the rival that does best in this figure: of etcd's configurations where there are any, so that an older basalt beside
    /// them does not count.
    pub(super) fn advantage_over_best(&self, quantity: &Quantity) -> Option<Advantage<'a>> {
        let better = quantity.better?;
        let has_etcd = self.rivals().any(|side| is_etcd(side.server));
        let best = self
            .rivals()
            .filter(|side| !has_etcd || is_etcd(side.server))
            .filter_map(|side| {
                let values = values(quantity, &side.slices);
                (!values.is_empty()).then(|| (median(&values), side))
            })
            .min_by(|(a, _), (b, _)| match better {
                Better::Lower => a.total_cmp(b),
                Better::Higher => b.total_cmp(a),
            })?;
        self.advantage(quantity, best.1)
    }

    /// `W02` of `W02-put-100`.
    pub(super) fn workload(&self) -> &'a str {
        workload(self.cell)
    }

    /// One of a family that differs in the number of keys only: its pictures are over them, and no target is about it.
    pub(super) fn is_growth(&self) -> bool {
        self.cell.name.contains("-grow-")
    }

    /// `W02-put-100 pinned`.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.cell.name, self.placement.name())
    }
}

impl Side<'_> {
    /// None when no slice has it.
    pub(super) fn spread(&self, quantity: &Quantity) -> Option<Spread> {
        Spread::of(&values(quantity, &self.slices))
    }

    /// Whether its slices ended at the generator's limit: then the rate is a lower bound and says little about the server.
    pub(super) fn is_client_bound(&self) -> bool {
        let bound = |slice: &&&Slice| {
            let overload = slice.figures.overload.as_ref();
            let busy = overload.map_or(slice.figures.client_busy, |overload| overload.client_busy);
            busy >= CLIENT_BUSY_MAX
        };
        self.slices.iter().filter(bound).count() * 2 > self.slices.len()
    }
}

/// Any configuration of etcd.
pub(super) fn is_etcd(server: &str) -> bool {
    server.starts_with("etcd")
}

/// `W02` of `W02-put-100`.
pub(super) fn workload(cell: &Cell) -> &str {
    cell.name.split('-').next().unwrap_or_default()
}

fn beside_text(load: &Load, action: Action) -> String {
    let what = match action {
        Action::Compact => "a physical compaction",
        Action::Defragment => "a defragmentation",
        Action::Snapshot => "a snapshot",
        Action::List => "a list of everything in one answer",
        Action::ListStream => "a list of everything by RangeStream",
        Action::Expire => "all leases end, and their keys are counted",
        Action::Revoke => "a lease is revoked",
    };
    let every = load
        .beside_every
        .map_or_else(String::new, |seconds| format!(" every {seconds} s"));
    match load.beside_conns {
        1 => format!("; beside it {what}{every}"),
        many => format!("; beside it {what} on each of {many} more connections{every}"),
    }
}

/// One line: what is sent, how hard, over which data, for how long.
pub(super) fn describe(plan: &Plan, cell: &Cell) -> String {
    let (load, shape) = (&cell.load, &cell.shape);
    let reads = if shape.serializable {
        "serializable"
    } else {
        "linearizable"
    };
    let what = match shape.workload {
        Kind::Put => "puts".to_owned(),
        Kind::Get => format!("{reads} gets of one key"),
        Kind::Range => format!("{reads} ranges of {} keys", shape.limit),
        Kind::Txn => format!(
            "txns as Kubernetes sends them, {} % with an outdated revision",
            shape.conflict_percent
        ),
        Kind::Mixed => format!(
            "{reads} ranges of {} keys and puts, {} to 1",
            shape.limit, shape.read_ratio
        ),
        Kind::TxnPuts => format!("txns of {} puts", shape.batch),
        Kind::TxnCompares => format!("txns of {} compares and a put", shape.batch),
        Kind::ListPage => format!(
            "pages of {} keys of a walk at a fixed revision",
            shape.limit
        ),
        Kind::Count => format!("{reads} counts of all keys"),
        Kind::KeysOnly => format!("{reads} lists of all names"),
        Kind::KeepAlive => "renewals, on one stream a connection".to_owned(),
    };
    let leases = match (shape.leases, shape.leased_keys) {
        (0, _) => String::new(),
        (leases, keys) => format!(
            "; {leases} leases of {} s with {keys} keys each",
            shape.lease_ttl
        ),
    };
    let pace = match (load.rate, load.capacity_p99_ms) {
        _ if load.overload => "twice the capacity, then half of it".to_owned(),
        (Some(rate), _) => format!(
            "open loop, {rate}/s{}",
            if load.poisson { " at random times" } else { "" }
        ),
        (None, Some(ms)) => format!("open loop, the highest rate with p99 below {ms} ms"),
        (None, None) => format!("closed loop, {} in flight on each", load.streams),
    };
    let beside = load
        .beside
        .map_or_else(String::new, |action| beside_text(load, action));
    let restart = match load.restart {
        None => "",
        Some(Ending::Stop) => "; then SIGTERM and a restart",
        Some(Ending::Kill) => "; then SIGKILL under this load and a restart",
    };
    let kills = load.leader_kills.map_or_else(String::new, |kills| {
        format!("; then {kills} leaders killed under this load on the others")
    });
    let members = match (load.members, load.to) {
        (1, _) => String::new(),
        (members, Role::Leader) => format!("; the leader of {members} members"),
        (members, Role::Follower) => format!("; a follower of {members} members"),
    };
    let keys = if shape.zipf { ", by Zipf's law" } else { "" };
    let memory = cell
        .memory_max_mib
        .map_or_else(String::new, |mib| format!("; {mib} MiB of memory"));
    let time = plan
        .methods
        .get(&cell.method)
        .map_or_else(String::new, |m| {
            format!("; {} s after {} s of warm-up", m.seconds, m.warmup)
        });
    format!(
        "{what}; {} connections, {pace}{beside}{restart}{kills}{members}; {} keys of {} B, values of {} B{keys}{leases}{memory}{time}",
        load.conns, shape.keys, shape.key_size, shape.value_size
    )
}
