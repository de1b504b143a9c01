//! Whole members, each on its disk in memory, joined by a network in memory.

use super::*;
use crate::raft::Settings;
use crate::raft::confchange::ConfChange;
use crate::raft::config::Step;
use crate::raft::message::Message as PeerMessage;

pub(super) struct Cluster {
    /// By number, from 1.
    pub(super) members: BTreeMap<u64, Member>,
    /// Nothing comes from or goes to these.
    pub(super) cut: BTreeSet<MemberId>,
    /// These do nothing, as a stopped process.
    pub(super) paused: BTreeSet<u64>,
    pub(super) now: Millis,
    /// Streams are numbered in the order of the questions.
    asked: u32,
    starts: u64,
    /// Entries after which a checkpoint is due, and bytes of log that are kept for others.
    pub(super) sizes: (u64, usize),
}

pub(super) struct Member {
    pub(super) disk: MemDisk,
    /// If wanted, what the disk was before each operation.
    pub(super) images: Option<Vec<MemDisk>>,
    pub(super) replica: Replica,
    outcomes: Vec<(u32, Outcome)>,
    /// The bytes of those that are encoded, by stream.
    pub(super) encoded: BTreeMap<u32, Vec<u8>>,
    /// While its disk hangs: what it was asked.
    pub(super) held: Option<Vec<(OpId, DiskOp)>>,
}

fn peer_urls(number: u64) -> Vec<String> {
    vec![format!("http://127.0.0.1:{}", 2380 + number)]
}

pub(super) fn id(number: u64) -> MemberId {
    member_id(&peer_urls(number), "etcd-cluster")
}

fn described(number: u64) -> crate::member::Member {
    crate::member::Member {
        id: id(number),
        name: format!("m{number}"),
        peer_urls: peer_urls(number),
        ..Default::default()
    }
}

impl Member {
    fn start(mut disk: MemDisk, config: ReplicaConfig) -> Self {
        let replica = boot(&mut disk, config);
        Self {
            disk,
            images: None,
            replica,
            outcomes: Vec::new(),
            encoded: BTreeMap::new(),
            held: None,
        }
    }

    /// The disk answers everything that it was asked.
    pub(super) fn release_disk(&mut self) {
        for (id, op) in self.held.take().into_iter().flatten() {
            let result = self.disk.perform(op);
            self.replica.on_disk(DiskDone { id, result });
        }
    }

    /// Everything that needs nobody else.
    fn run(&mut self, now: Millis) {
        for _ in 0..100 {
            self.replica.turn(now);
            let mut moved = false;
            while let Some((id, op)) = self.replica.poll_op() {
                if let Some(held) = &mut self.held {
                    held.push((id, op));
                    continue;
                }
                let result = Recording(&mut self.disk, &mut self.images).perform(op);
                self.replica.on_disk(DiskDone { id, result });
                moved = true;
            }
            let mut jobs = Vec::new();
            self.replica.take_jobs(&mut jobs);
            for job in jobs {
                let done = job.run(&mut Recording(&mut self.disk, &mut self.images));
                self.replica.on_job(done, now);
                moved = true;
            }
            if !moved {
                break;
            }
        }
        let replies = self.replica.replies();
        for (to, outcome) in &replies.items {
            self.outcomes.push((to.stream, *outcome));
            if let Outcome::Encoded { start, end } = *outcome {
                let bytes = replies.encoded(start, end).to_vec();
                self.encoded.insert(to.stream, bytes);
            }
        }
        replies.clear();
    }
}

/// A disk of which every state can be kept.
struct Recording<'d>(&'d mut MemDisk, &'d mut Option<Vec<MemDisk>>);

impl Disk for Recording<'_> {
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
        let is_change = !matches!(op, DiskOp::List | DiskOp::Read { .. });
        if let Some(images) = self.1.as_mut().filter(|_| is_change) {
            images.push(self.0.clone());
        }
        self.0.perform(op)
    }
}

impl Cluster {
    pub(super) fn new(count: u64) -> Self {
        Self::with_sizes(count, (u64::MAX, Settings::default().catch_up_bytes))
    }

    pub(super) fn with_sizes(count: u64, sizes: (u64, usize)) -> Self {
        let mut cluster = Self {
            members: BTreeMap::new(),
            cut: BTreeSet::new(),
            paused: BTreeSet::new(),
            now: Millis(0),
            asked: 0,
            starts: 0,
            sizes,
        };
        for number in 1..=count {
            let initial = (1..=count).map(described).collect();
            cluster.start(number, MemDisk::default(), initial);
        }
        cluster
    }

    /// A cluster with a leader that all have heard of.
    pub(super) fn led(count: u64) -> (Self, u64) {
        let mut cluster = Self::new(count);
        cluster.pass(3_000);
        let leader = cluster.leader();
        (cluster, leader)
    }

    pub(super) fn start(
        &mut self,
        number: u64,
        disk: MemDisk,
        initial: Vec<crate::member::Member>,
    ) {
        self.starts += 1;
        let ids: Vec<MemberId> = (1..=3).map(id).collect();
        let config = ReplicaConfig {
            cluster: cluster_id(&ids),
            me: id(number),
            name: format!("m{number}"),
            client_urls: vec![format!("http://127.0.0.1:{}", 12_380 + number)],
            initial,
            request_ids: Arc::new(RequestIds::new(id(number), self.starts)),
            raft: Settings {
                seed: number + 1000 * self.starts,
                catch_up_bytes: self.sizes.1,
                ..Settings::default()
            },
            checkpoint_entries: self.sizes.0,
            store: StoreConfig {
                segment_bytes: 4 << 10,
                files_seed: number,
                ..StoreConfig::default()
            },
            ..config()
        };
        self.members.insert(number, Member::start(disk, config));
    }

    /// Loses what is in memory.
    pub(super) fn restart(&mut self, number: u64) {
        let member = self.members.remove(&number).expect("a member");
        let initial = member.replica.config.initial.clone();
        self.start(number, member.disk, initial);
    }

    /// As `restart`, with `--force-new-cluster`.
    pub(super) fn restart_alone(&mut self, number: u64) {
        let member = self.members.remove(&number).expect("a member");
        let mut config = member.replica.config;
        config.force_new_cluster = true;
        self.members
            .insert(number, Member::start(member.disk, config));
    }

    pub(super) fn at(&mut self, number: u64) -> &mut Member {
        self.members.get_mut(&number).expect("a member")
    }

    fn step(&mut self) -> bool {
        let sent = self.run_all();
        let moved = !sent.is_empty();
        self.deliver_all(sent);
        moved
    }

    fn deliver_all(&mut self, sent: Vec<(MemberId, MemberId, PeerMessage)>) {
        for (from, to, message) in sent {
            if !self.cut.contains(&from) && !self.cut.contains(&to) {
                self.deliver(from, to, message);
            }
        }
    }

    /// Lets everybody do what they can; answers what they say. Whoever has taken over a snapshot is started anew.
    pub(super) fn run_all(&mut self) -> Vec<(MemberId, MemberId, PeerMessage)> {
        let sent = self.run_members();
        let refilled = self.members.iter().filter(|it| it.1.replica.is_refilled());
        for number in refilled.map(|it| *it.0).collect::<Vec<_>>() {
            self.restart(number);
        }
        sent
    }

    fn run_members(&mut self) -> Vec<(MemberId, MemberId, PeerMessage)> {
        let mut sent = Vec::new();
        for (number, member) in &mut self.members {
            if self.paused.contains(number) {
                continue;
            }
            member.run(self.now);
            let mut out = Vec::new();
            member.replica.take_messages(&mut out);
            let me = member.replica.config.me;
            sent.extend(out.into_iter().map(|(to, message)| (me, to, message)));
        }
        sent
    }

    pub(super) fn deliver(&mut self, from: MemberId, to: MemberId, message: PeerMessage) {
        let mut members = self.members.values_mut();
        if let Some(member) = members.find(|it| it.replica.config.me == to) {
            member.replica.on_message(from, message, self.now);
        }
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..500 {
            if !self.step() {
                return;
            }
        }
        panic!("the members never settle");
    }

    /// As `settle`, until one member has taken over a snapshot; that one stays as it is.
    pub(super) fn settle_but(&mut self, number: u64) {
        for _ in 0..500 {
            let sent = self.run_members();
            if self.at(number).replica.is_refilled() || sent.is_empty() {
                return;
            }
            self.deliver_all(sent);
        }
    }

    pub(super) fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 20 {
            self.now = self.now.plus(Millis(20));
            self.settle();
        }
    }

    /// The only member that leads and is not cut off.
    pub(super) fn leader(&mut self) -> u64 {
        for _ in 0..500 {
            let cut = &self.cut;
            let leaders = self.members.iter().filter(|(number, member)| {
                member.replica.raft.is_leader() && !cut.contains(&id(**number))
            });
            if let [leader] = leaders.map(|(number, _)| *number).collect::<Vec<_>>()[..] {
                return leader;
            }
            self.pass(20);
        }
        panic!("nobody is elected");
    }

    pub(super) fn follower(&mut self) -> u64 {
        let leader = self.leader();
        leader % 3 + 1
    }

    pub(super) fn next_stream(&mut self) -> ReplyTo {
        self.asked += 1;
        ReplyTo {
            stream: self.asked,
            ..ReplyTo::default()
        }
    }

    /// The answer's stream.
    pub(super) fn put(&mut self, number: u64, key: &str, value: &str) -> u32 {
        self.propose(number, field::PUT, &put(key, value))
    }

    pub(super) fn propose(&mut self, number: u64, field: u32, request: &impl Message) -> u32 {
        let to = self.next_stream();
        let member = self.at(number);
        let mut batch = Proposals::new();
        let id = member.replica.config.request_ids.draw();
        batch.push(Some(to), id, field, &request.encode_to_vec());
        member.replica.propose(&mut batch).expect("room");
        to.stream
    }

    pub(super) fn read(&mut self, number: u64) -> u32 {
        let to = self.next_stream();
        self.at(number).replica.read_index(to);
        to.stream
    }

    pub(super) fn answer(&mut self, number: u64, stream: u32) -> Option<Outcome> {
        let outcomes = &mut self.at(number).outcomes;
        let at = outcomes.iter().position(|(to, _)| *to == stream)?;
        Some(outcomes.remove(at).1)
    }

    pub(super) fn change(&mut self, number: u64, step: Step, about: u64) -> u32 {
        let to = self.next_stream();
        let mut json = String::new();
        // Here only a learner becomes a voter, and a promotion names the member alone.
        let is_promotion = matches!(step, Step::AddVoter(_));
        let mut member = described(about);
        if is_promotion {
            member.peer_urls.clear();
        }
        member.write_json(&mut json, is_promotion);
        let replica = &mut self.at(number).replica;
        let change = ConfChange {
            id: replica.config.request_ids.draw(),
            step,
            member: id(about),
            context: json.into(),
        };
        replica.propose_change(Some(to), &change);
        to.stream
    }

    pub(super) fn revision(&mut self, number: u64) -> i64 {
        let reader = self.at(number).replica.reader();
        reader.pin().view().revision()
    }

    pub(super) fn hash(&mut self, number: u64) -> HashAnswer {
        let member = self.at(number);
        let mut job = HashJob::start(member.replica.reader(), 0).expect("a job");
        loop {
            if let Some(answer) = job.poll(1000, &mut member.disk).expect("it can be read") {
                return answer;
            }
        }
    }
}

pub(super) fn is_put(outcome: Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Put { .. }))
}

/// Three members start as one cluster: everybody's name, URLs and the cluster version are known to all.
#[test]
fn three_members_become_one_cluster() {
    let (mut cluster, leader) = Cluster::led(3);
    let seen = cluster.at(leader).replica.published().cluster();
    assert_eq!(seen.cluster_version.as_deref(), Some("3.7.0"));
    for number in 1..=3 {
        let published = Arc::clone(cluster.at(number).replica.published());
        assert_eq!(published.cluster(), seen);
        let status = published.status();
        assert!(status.is_ready);
        assert_eq!(status.leader, Some(id(leader)));
        assert!(!published.read_gate().is_free());
    }
    assert!(seen.members.iter().all(|it| it.client_urls.len() == 1));
}

/// Whoever is asked, all apply, and only who was asked answers.
#[test]
fn puts_through_any_member_reach_all() {
    let (mut cluster, leader) = Cluster::led(3);
    let mut streams = Vec::new();
    for round in 0..5 {
        for number in 1..=3 {
            let stream = cluster.put(number, &format!("k{number}"), &format!("v{round}"));
            streams.push((number, stream));
        }
        cluster.settle();
    }
    for (number, stream) in streams {
        assert!(is_put(cluster.answer(number, stream)));
    }
    let hash = cluster.hash(leader);
    for number in 1..=3 {
        assert_eq!(cluster.revision(number), 16);
        assert_eq!(cluster.hash(number), hash);
        assert!(cluster.at(number).outcomes.is_empty());
    }
}

/// C2: a read on any member sees what was acknowledged before it came.
#[test]
fn reads_are_linearizable_on_every_member() {
    let (mut cluster, leader) = Cluster::led(3);
    let stream = cluster.put(leader, "a", "1");
    cluster.settle();
    assert!(is_put(cluster.answer(leader, stream)));
    for number in 1..=3 {
        let stream = cluster.read(number);
        cluster.settle();
        assert_eq!(cluster.answer(number, stream), Some(Outcome::Readable));
        assert_eq!(cluster.revision(number), 2);
    }
}

/// M17: a member that is cut off answers no linearizable read, whatever it believes to be.
#[test]
fn a_member_that_is_cut_off_answers_no_read() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.cut.insert(id(leader));
    let early = cluster.read(leader);
    cluster.settle();
    let other = cluster.leader();
    let stream = cluster.put(other, "a", "1");
    cluster.settle();
    assert!(is_put(cluster.answer(other, stream)));
    let late = cluster.read(leader);
    cluster.pass(4_000);
    assert_eq!(cluster.answer(leader, early), None);
    assert_eq!(cluster.answer(leader, late), None);
    cluster.pass(5_000);
    for stream in [early, late] {
        let refused = Outcome::Refused(Refused::LeaderChanged);
        assert_eq!(cluster.answer(leader, stream), Some(refused));
    }
    // Asked before the cut heals, answered after: with the new state.
    let stream = cluster.read(leader);
    cluster.cut.clear();
    cluster.pass(1_500);
    assert_eq!(cluster.answer(leader, stream), Some(Outcome::Readable));
    assert_eq!(cluster.revision(leader), 2);
}

/// R1: the leader's own flush is not waited for if two others have it, but its own state is.
#[test]
fn a_put_is_answered_when_a_majority_of_disks_has_it() {
    let (mut cluster, leader) = Cluster::led(3);
    for number in 1..=3 {
        if number != leader {
            cluster.at(number).held = Some(Vec::new());
        }
    }
    let stream = cluster.put(leader, "a", "1");
    cluster.settle();
    assert_eq!(cluster.answer(leader, stream), None);
    let follower = cluster.follower();
    cluster.at(follower).release_disk();
    cluster.settle();
    assert!(is_put(cluster.answer(leader, stream)));
}

/// Nothing that was acknowledged is lost when the leader goes, and the others go on.
#[test]
fn another_member_takes_over() {
    let (mut cluster, leader) = Cluster::led(3);
    let stream = cluster.put(leader, "a", "1");
    cluster.settle();
    assert!(is_put(cluster.answer(leader, stream)));
    cluster.cut.insert(id(leader));
    let unknown = cluster.put(leader, "b", "lost");
    cluster.settle();
    assert_eq!(cluster.answer(leader, unknown), None);
    let next = cluster.leader();
    assert_ne!(next, leader);
    let stream = cluster.put(next, "c", "1");
    cluster.settle();
    assert!(is_put(cluster.answer(next, stream)));
    cluster.cut.clear();
    cluster.pass(2_000);
    // Its entry was replaced: whoever waits hears that it is lost.
    let refused = Outcome::Refused(Refused::TimeoutLeaderFailed);
    assert_eq!(cluster.answer(leader, unknown), Some(refused));
    let hash = cluster.hash(next);
    for number in 1..=3 {
        assert_eq!(cluster.revision(number), 3);
        assert_eq!(cluster.hash(number), hash);
    }
}

/// A follower keeps proposals while there is no leader, and gives up after etcd's time.
#[test]
fn proposals_wait_for_a_leader_but_not_for_ever() {
    let (mut cluster, leader) = Cluster::led(3);
    let follower = cluster.follower();
    cluster.cut.insert(id(leader));
    cluster.pass(500);
    let soon = cluster.put(follower, "a", "1");
    cluster.pass(6_000);
    assert_ne!(cluster.leader(), leader);
    let answer = cluster.answer(follower, soon);
    assert!(
        is_put(answer) || answer == Some(Outcome::Refused(Refused::TimeoutLeaderFailed)),
        "{answer:?}"
    );
    let late = cluster.put(leader, "b", "1");
    cluster.pass(6_900);
    assert_eq!(cluster.answer(leader, late), None);
    cluster.pass(1_500);
    let refused = Outcome::Refused(Refused::TimeoutLeaderFailed);
    assert_eq!(cluster.answer(leader, late), Some(refused));
}

/// A5: a forwarded proposal that arrives twice, late, or in another term is executed once at most.
#[test]
fn a_forwarded_proposal_is_executed_once() {
    let (mut cluster, leader) = Cluster::led(3);
    let follower = cluster.follower();
    let stream = cluster.put(follower, "a", "1");
    cluster.at(follower).run(Millis(0));
    let mut out = Vec::new();
    cluster.at(follower).replica.take_messages(&mut out);
    assert_eq!(out.len(), 1);
    let message = out[0].1.clone();
    for _ in 0..3 {
        let now = cluster.now;
        let replica = &mut cluster.at(leader).replica;
        replica.on_message(id(follower), message.clone(), now);
        cluster.settle();
    }
    assert!(is_put(cluster.answer(follower, stream)));
    assert_eq!(cluster.revision(leader), 2);
    let stream = cluster.next_stream();
    cluster.at(leader).replica.transfer(id(follower), stream);
    cluster.pass(500);
    assert_eq!(cluster.leader(), follower);
    let now = cluster.now;
    for number in [leader, follower] {
        let replica = &mut cluster.at(number).replica;
        replica.on_message(id(follower), message.clone(), now);
        replica.on_message(id(leader), message.clone(), now);
    }
    cluster.settle();
    assert_eq!(cluster.revision(follower), 2);
}

/// M5: everybody loses power at once; all that was acknowledged is there again.
#[test]
fn a_restart_of_everybody_keeps_what_was_acknowledged() {
    let (mut cluster, leader) = Cluster::led(3);
    for number in 0..20 {
        cluster.put(leader, &format!("k{number}"), "v");
    }
    cluster.settle();
    let hash = cluster.hash(leader);
    for number in 1..=3 {
        cluster.restart(number);
    }
    cluster.pass(3_000);
    cluster.leader();
    for number in 1..=3 {
        assert_eq!(cluster.revision(number), 21);
        assert_eq!(cluster.hash(number), hash);
        assert!(cluster.at(number).replica.published().status().is_ready);
    }
}

/// A member that was away gets what it missed, also after a restart.
#[test]
fn a_member_that_was_away_catches_up() {
    let (mut cluster, leader) = Cluster::led(3);
    let follower = cluster.follower();
    cluster.cut.insert(id(follower));
    for number in 0..200 {
        cluster.put(leader, &format!("k{number}"), "v");
        cluster.settle();
    }
    cluster.restart(follower);
    cluster.pass(1_000);
    cluster.cut.clear();
    cluster.pass(1_000);
    assert_eq!(cluster.revision(follower), 201);
    let hash = cluster.hash(leader);
    assert_eq!(cluster.hash(follower), hash);
}
