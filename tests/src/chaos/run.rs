use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use basalt_pb::etcdserverpb as pb;
use bytes::Bytes;
use pb::alarm_request::AlarmAction;
use rustix::process::Signal;

use super::disk::SmallDisk;
use super::load::Load;
use super::proxy::{Fault, Proxy};
use crate::check::order::{self, Written};
use crate::check::{history::Violation, linear};
use crate::cluster::Cluster;
use crate::grpc::Client;

/// What to do to whom, for how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Members.
    pub members: usize,
    /// Clients that work all the time.
    pub clients: u64,
    /// How long a client waits between two calls.
    pub pause: Duration,
    /// Faults begin until then.
    pub time: Duration,
    /// From the end of one fault to the next one, at least and at most.
    pub rest: (Duration, Duration),
    /// Decides what happens; what the processes make of it is theirs.
    pub seed: u64,
}

/// What happened and was checked.
#[derive(Clone, Debug)]
pub struct Report {
    /// How often each fault was made.
    pub faults: BTreeMap<&'static str, u32>,
    /// Calls that were made, and those that were answered.
    pub calls: (u64, u64),
    /// The last revision.
    pub revision: i64,
    /// Answers compared with the model, and unanswered calls that turned out to have taken effect.
    pub checked: order::Tally,
    /// What the checker that ignores revisions says; long histories are too hard for it.
    pub verdict: linear::Verdict,
    /// From the healing of each fault to the next answered writes, the longest.
    pub slowest_return: Duration,
}

/// Runs a cluster through faults and judges what its clients saw.
///
/// # Errors
/// A contradiction in the history, members that differ, or a cluster that does not come back.
pub fn run(plan: &Plan) -> Result<Report, Violation> {
    let proxy = Proxy::new();
    let mut disks = Vec::new();
    let mut place = 0;
    let mut cluster = Cluster::start_behind(plan.members, &["--log-level=info"], |folder, peer| {
        disks.extend(SmallDisk::mount(folder));
        place += 1;
        proxy.before(peer, place - 1)
    });
    let clients: Vec<SocketAddr> = (0..plan.members).map(|at| cluster.client(at)).collect();
    proxy.know(places(&clients)?);
    let load = Load::new();
    let mut chaos = Chaos {
        random: fastrand::Rng::with_seed(plan.seed),
        faults: BTreeMap::new(),
        slowest_return: Duration::ZERO,
    };
    let began = Instant::now();
    let faulted = thread::scope(|scope| {
        let (loaded, members) = (&load, &clients);
        for client in 0..plan.clients {
            let seed = plan.seed ^ (client + 1) << 32;
            scope.spawn(move || loaded.run(members, seed, plan.pause));
        }
        let mut result = Ok(());
        while result.is_ok() && began.elapsed() < plan.time {
            result = chaos.fault(&mut cluster, &proxy, &disks, &load, began);
            let (least, most) = plan.rest;
            thread::sleep(least + (most - least).mul_f64(chaos.random.f64()));
        }
        load.stop.store(true, Ordering::Relaxed);
        result
    });
    faulted?;
    for at in 0..plan.members {
        cluster.await_ready(at);
    }
    let written = written(clients[0])?;
    let revision = written.keys().next_back().copied().unwrap_or(1);
    all_equal(&clients, revision)?;
    let answered = load.answered.load(Ordering::Relaxed);
    let calls = load.calls();
    println!(
        "{} calls, {answered} answered, revision {revision}: checking",
        calls.len()
    );
    let checked = order::check(&calls, &written)?;
    let verdict = match calls.len() {
        0..=LINEAR_CALLS_MAX => linear::check(&calls, LINEAR_STEPS_MAX)?,
        _ => linear::Verdict::TooHard,
    };
    Ok(Report {
        faults: chaos.faults,
        calls: (calls.len() as u64, answered),
        revision,
        checked,
        verdict,
        slowest_return: chaos.slowest_return,
    })
}

struct Chaos {
    random: fastrand::Rng,
    faults: BTreeMap<&'static str, u32>,
    slowest_return: Duration,
}

impl Chaos {
    /// One fault from its beginning to its healing, and until calls are answered again.
    fn fault(
        &mut self,
        cluster: &mut Cluster,
        proxy: &Proxy,
        disks: &[SmallDisk],
        load: &Load,
        began: Instant,
    ) -> Result<(), Violation> {
        let members = cluster.count();
        let victim = self.random.usize(..members);
        let other = (victim + 1 + self.random.usize(..members - 1)) % members;
        let time = Duration::from_millis(self.random.u64(200..6000));
        let names = [
            "kill", "stop", "isolate", "one way", "pair", "late", "garble", "break", "kill all",
            "full", "full all",
        ];
        let possible = match disks.len() == members {
            true => names.len(),
            false => names.len() - 2,
        };
        let name = names[self.random.usize(..possible)];
        println!(
            "{:6.1} s  {name} m{victim} for {time:?}",
            began.elapsed().as_secs_f64()
        );
        *self.faults.entry(name).or_default() += 1;
        let others: Vec<usize> = (0..members).filter(|at| *at != victim).collect();
        let both = |fault: Fault| {
            for at in &others {
                proxy.set(victim, *at, fault);
                proxy.set(*at, victim, fault);
            }
        };
        match name {
            "kill" => cluster.kill(victim),
            "kill all" => (0..members).for_each(|at| cluster.kill(at)),
            "stop" => cluster.signal(victim, Signal::STOP),
            "full" => disks[victim].fill(),
            "full all" => disks.iter().for_each(SmallDisk::fill),
            "isolate" => both(Fault::Hold),
            "one way" => others
                .iter()
                .for_each(|at| proxy.set(victim, *at, Fault::Hold)),
            "pair" => {
                proxy.set(victim, other, Fault::Hold);
                proxy.set(other, victim, Fault::Hold);
            }
            "late" => both(Fault::Late(Duration::from_millis(self.random.u64(5..300)))),
            "garble" => both(Fault::Garble),
            _ => both(Fault::Break),
        }
        thread::sleep(time);
        match name {
            "kill" => cluster.start_again(victim),
            "kill all" => (0..members).for_each(|at| cluster.start_again(at)),
            "stop" => cluster.signal(victim, Signal::CONT),
            "full" | "full all" => disks.iter().for_each(SmallDisk::free),
            _ => proxy.heal(),
        }
        let (healed, before) = (Instant::now(), load.written.load(Ordering::Relaxed));
        while load.written.load(Ordering::Relaxed) < before + ANSWERS_AFTER {
            // Whoever ran out of space has said so, and as in etcd somebody has to take that back.
            disarm(cluster.client(victim));
            if healed.elapsed() > RETURN_MAX {
                let logs: Vec<String> = (0..members).map(|at| cluster.log(at)).collect();
                return Err(format!(
                    "no answers for {RETURN_MAX:?} after {name}:\n{}",
                    logs.join("\n---\n")
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.slowest_return = self.slowest_return.max(healed.elapsed());
        Ok(())
    }
}

/// Takes back the alarms that members have raised. Where that fails it is tried again as long as writes are refused.
fn disarm(client: SocketAddr) {
    let request = |action: AlarmAction, alarm: &pb::AlarmMember| pb::AlarmRequest {
        action: action.into(),
        member_id: alarm.member_id,
        alarm: alarm.alarm,
    };
    let path = "/etcdserverpb.Maintenance/Alarm";
    let list = request(AlarmAction::Get, &pb::AlarmMember::default());
    let Ok(mut client) = Client::connect_within(client, ALARM_PATIENCE) else {
        return;
    };
    let alarms = client.ask::<pb::AlarmResponse>(path, &list);
    for alarm in alarms.map(|it| it.alarms).unwrap_or_default() {
        let lift = request(AlarmAction::Deactivate, &alarm);
        if client.ask::<pb::AlarmResponse>(path, &lift).is_err() {
            return;
        }
    }
}

/// Ids by the members' own word.
fn places(clients: &[SocketAddr]) -> Result<BTreeMap<u64, usize>, Violation> {
    let mut places = BTreeMap::new();
    for (at, client) in clients.iter().enumerate() {
        let status: pb::StatusResponse = ask(
            *client,
            "/etcdserverpb.Maintenance/Status",
            &pb::StatusRequest {},
        )?;
        places.insert(status.header.map_or(0, |header| header.member_id), at);
    }
    Ok(places)
}

/// Each revision as it stands in the history: nothing was deleted, so what a revision wrote can be read at it.
fn written(from: SocketAddr) -> Result<Written, Violation> {
    let all = pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..pb::RangeRequest::default()
    };
    let newest: pb::RangeResponse = ask(from, "/etcdserverpb.KV/Range", &all)?;
    let last = newest.header.map_or(0, |header| header.revision);
    let mut client = Client::connect(from).map_err(|error| error.to_string())?;
    let mut written = Written::new();
    for revision in 2..=last {
        let range = pb::RangeRequest {
            revision,
            min_mod_revision: revision,
            max_mod_revision: revision,
            ..all.clone()
        };
        let found: pb::RangeResponse = client
            .ask("/etcdserverpb.KV/Range", &range)
            .map_err(|error| error.to_string())?;
        let changed = found.kvs.into_iter().map(|kv| (kv.key.clone(), Some(kv)));
        written.insert(revision, changed.collect());
    }
    Ok(written)
}

fn all_equal(clients: &[SocketAddr], revision: i64) -> Result<(), Violation> {
    let mut hashes = Vec::new();
    for client in clients {
        let request = pb::HashKvRequest { revision };
        let began = Instant::now();
        // A follower may still be on its way to that revision.
        let answer: pb::HashKvResponse = loop {
            match ask(*client, "/etcdserverpb.Maintenance/HashKV", &request) {
                Ok(answer) => break answer,
                Err(error) if began.elapsed() > RETURN_MAX => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        };
        hashes.push(answer.hash);
    }
    match hashes.windows(2).all(|pair| pair[0] == pair[1]) {
        true => Ok(()),
        false => Err(format!("members differ at revision {revision}: {hashes:?}")),
    }
}

fn ask<A: prost::Message + Default>(
    to: SocketAddr,
    path: &str,
    request: &impl prost::Message,
) -> Result<A, Violation> {
    let mut client = Client::connect(to).map_err(|error| error.to_string())?;
    client.ask(path, request).map_err(|error| error.to_string())
}

/// After a fault is healed. Members that lost each other dial again after a second at most, an election takes two.
const RETURN_MAX: Duration = Duration::from_secs(20);
/// Answered writes that show that the cluster works.
const ANSWERS_AFTER: u64 = 20;
const ALARM_PATIENCE: Duration = Duration::from_secs(2);
const LINEAR_STEPS_MAX: usize = 200_000;
/// Transactions join all keys into one part, and each step looks at all of its calls: only short histories are for that checker.
const LINEAR_CALLS_MAX: usize = 2_000;
