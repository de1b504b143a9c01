//! Whole members under everything that a network, disks and power can do, by seed.

use super::cluster::*;
use super::*;
use crate::raft::message::Message as PeerMessage;

/// What clients have seen.
#[derive(Default)]
struct Seen {
    /// Puts that nobody has answered: stream, member, key.
    puts: Vec<(u32, u64, u64)>,
    /// Reads that nobody has answered: stream, member, the newest revision answered to anybody before.
    reads: Vec<(u32, u64, i64)>,
    /// Key to revision.
    acknowledged: BTreeMap<u64, i64>,
    newest: i64,
    leaders: BTreeMap<Term, u64>,
}

/// What one run is made of; each may be absent, so that seeds differ in kind.
struct Plan {
    loss: u64,
    doubles: u64,
    delays: u64,
    cuts: u64,
    crashes: u64,
    hangs: u64,
    transfers: u64,
}

impl Plan {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let mut percent = |most: u64| match random.bool() {
            true => random.u64(0..=most),
            false => 0,
        };
        Self {
            loss: percent(30),
            doubles: percent(20),
            delays: percent(50),
            cuts: percent(4),
            crashes: percent(2),
            hangs: percent(4),
            transfers: percent(2),
        }
    }
}

fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let count = if random.bool() { 3 } else { 5 };
    let mut cluster = Cluster::new(count);
    let plan = Plan::draw(&mut random);
    let mut seen = Seen::default();
    let mut pool: Vec<Sent> = Vec::new();
    let mut cut: BTreeSet<(MemberId, MemberId)> = BTreeSet::new();
    let mut keys = 0;
    let happens = |random: &mut fastrand::Rng, percent| random.u64(0..100) < percent;
    for _ in 0..random.u64(200..600) {
        cluster.now = cluster.now.plus(Millis(random.u64(1..60)));
        let number = random.u64(1..=count);
        if random.u64(0..3) == 0 {
            keys += 1;
            let stream = cluster.put(number, &format!("k{keys}"), "v");
            seen.puts.push((stream, number, keys));
        }
        if random.u64(0..6) == 0 {
            let stream = cluster.read(number);
            seen.reads.push((stream, number, seen.newest));
        }
        if happens(&mut random, plan.crashes) {
            cluster.restart(number);
            // Its clients hear nothing more.
            seen.puts.retain(|it| it.1 != number);
            seen.reads.retain(|it| it.1 != number);
        }
        if happens(&mut random, plan.hangs) {
            cluster.at(number).held.get_or_insert_default();
        }
        if happens(&mut random, 20) {
            cluster.at(number).release_disk();
        }
        if happens(&mut random, plan.transfers) {
            let to = id(random.u64(1..=count));
            let reply = cluster.next_stream();
            cluster.at(number).replica.transfer(to, reply);
        }
        if happens(&mut random, plan.cuts) {
            let other = id(random.u64(1..=count));
            cut.insert((id(number), other));
            if random.bool() {
                cut.insert((other, id(number)));
            }
        }
        if happens(&mut random, 3) {
            cut.clear();
        }
        pool.extend(cluster.run_all());
        random.shuffle(&mut pool);
        let late = pool.len() as u64
            * if plan.delays > 0 {
                random.u64(0..=plan.delays)
            } else {
                0
            }
            / 100;
        let late = pool.split_off(pool.len() - late as usize);
        for (from, to, message) in std::mem::replace(&mut pool, late) {
            if cut.contains(&(from, to)) || happens(&mut random, plan.loss) {
                continue;
            }
            if happens(&mut random, plan.doubles) {
                pool.push((from, to, message.clone()));
            }
            cluster.deliver(from, to, message);
        }
        pool.truncate(10_000);
        look(&mut cluster, &mut seen, seed);
    }
    // Everything is well again: within a few elections all agree, and a put goes through.
    pool.clear();
    for number in 1..=count {
        cluster.at(number).release_disk();
    }
    cluster.pass(10_000);
    let leader = cluster.leader();
    cluster.pass(1_000);
    look(&mut cluster, &mut seen, seed);
    let stream = cluster.put(leader, "last", "v");
    cluster.pass(200);
    let answer = cluster.answer(leader, stream);
    assert!(
        matches!(answer, Some(Outcome::Put { .. })),
        "seed {seed}: {answer:?}"
    );
    let (revision, hash) = (cluster.revision(leader), cluster.hash(leader));
    for number in 1..=count {
        assert_eq!(cluster.revision(number), revision, "seed {seed}");
        assert_eq!(cluster.hash(number), hash, "seed {seed}");
        let reader = cluster.at(number).replica.reader();
        let pinned = reader.pin();
        let view = pinned.view();
        for key in 1..=keys {
            let record = view.meta_at(format!("k{key}").as_bytes(), revision);
            let record = record.expect("in memory");
            // A5: nothing is executed twice.
            assert!(
                record.is_none_or(|it| it.version == 1),
                "seed {seed}: k{key} twice"
            );
            if let Some(at) = seen.acknowledged.get(&key) {
                let found = record.map(|it| it.create_revision);
                assert_eq!(found, Some(*at), "seed {seed}: k{key} was acknowledged");
            }
        }
    }
}

type Sent = (MemberId, MemberId, PeerMessage);

/// C1, C8: what must hold at any time, and what clients hear.
fn look(cluster: &mut Cluster, seen: &mut Seen, seed: u64) {
    for (number, member) in &cluster.members {
        if member.replica.raft.is_leader() {
            let term = member.replica.raft.term();
            let first = *seen.leaders.entry(term).or_insert(*number);
            assert_eq!(first, *number, "seed {seed}: two leaders of one term");
        }
    }
    let mut puts = std::mem::take(&mut seen.puts);
    puts.retain(
        |(stream, number, key)| match cluster.answer(*number, *stream) {
            None => true,
            Some(Outcome::Put { revision, .. }) => {
                seen.newest = seen.newest.max(revision);
                let before = seen.acknowledged.insert(*key, revision);
                assert_eq!(before, None);
                false
            }
            Some(_) => false,
        },
    );
    seen.puts = puts;
    let mut reads = std::mem::take(&mut seen.reads);
    reads.retain(
        |(stream, number, floor)| match cluster.answer(*number, *stream) {
            None => true,
            Some(Outcome::Readable) => {
                let revision = cluster.revision(*number);
                assert!(revision >= *floor, "seed {seed}: a stale read");
                false
            }
            Some(_) => false,
        },
    );
    seen.reads = reads;
}

/// Whatever happens, nothing acknowledged is lost or done twice, no read is stale, and afterwards all are equal. More seeds:
/// `BASALT_CHAOS_SEEDS=1000`.
#[test]
fn members_under_chaos_keep_their_promises() {
    // Read when it is built: a member's code knows no environment.
    let seeds = option_env!("BASALT_CHAOS_SEEDS").and_then(|it| it.parse().ok());
    let seeds = seeds.unwrap_or(12);
    for seed in 0..seeds {
        run(seed);
    }
}
