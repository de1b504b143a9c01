use std::collections::{BTreeMap, BTreeSet};

use basalt_pb::etcdserverpb as pb;
use prost::Message;

use super::*;
use crate::command::field;
use crate::disk::{Disk, DiskAnswer, DiskError, DiskErrorKind, File};
use crate::member::{Member, RequestIds, cluster_id, member_id};
use crate::mvcc::{HashAnswer, HashJob, StoreConfig};
use crate::raft::Settings;
use crate::types::{ReplyTo, Term};
use crate::wal::mem_disk::MemDisk;
use crate::wal::{
    CheckpointReader, Found, Identity, RecoverConfig, WalLimits, create, look, recover,
};

/// One member on a disk in memory, driven by hand.
struct Rig {
    disk: MemDisk,
    replica: Replica,
    now: Millis,
    jobs: Vec<Job>,
    /// Streams are numbered in the order of the proposals.
    asked: u32,
}

const LIMITS: WalLimits = WalLimits {
    group_bytes: 64 << 10,
    run_bytes_max: 64 << 10,
    segment_bytes_min: 256 << 10,
    segment_bytes_max: 256 << 10,
    ballast_bytes: 256 << 10,
    fill_bytes: 64 << 10,
};

fn config() -> ReplicaConfig {
    let urls = vec!["http://127.0.0.1:2380".to_owned()];
    let me = member_id(&urls, "etcd-cluster");
    let member = Member {
        id: me,
        name: "default".to_owned(),
        peer_urls: urls,
        ..Member::default()
    };
    ReplicaConfig {
        cluster: cluster_id(&[me]),
        me,
        name: "default".to_owned(),
        client_urls: vec!["http://127.0.0.1:2379".to_owned()],
        initial: vec![member],
        request_ids: Arc::new(RequestIds::new(me, 0)),
        force_new_cluster: false,
        quota_bytes: 0,
        auto_compaction: None,
        auto_disarm: false,
        scrub_first: None,
        checkpoint_bytes: u64::MAX,
        checkpoint_entries: u64::MAX,
        checkpoint_unfiled_bytes: u64::MAX,
        store: StoreConfig::default(),
        raft: Settings::default(),
    }
}

/// Starts a member from whatever `disk` holds.
fn boot(disk: &mut MemDisk, config: ReplicaConfig) -> Replica {
    let (salt, checkpoint) = match look(disk).expect("a directory") {
        Found::Ours(block) => (block.files_salt, block.checkpoint),
        Found::Empty => {
            let (cluster, member, salt) = (config.cluster, config.me, 9 + config.store.files_seed);
            let identity = Identity {
                cluster,
                member,
                salt,
            };
            create(disk, &identity, &LIMITS).expect("made");
            (salt, Index(0))
        }
    };
    let mut boot = if checkpoint == Index(0) {
        Boot::first(config)
    } else {
        let mut content = CheckpointContent::new(config.store);
        let mut reader = CheckpointReader::open(disk, checkpoint, salt).expect("there");
        while let Some(chunk) = reader.next(disk).expect("whole") {
            content.push(chunk).expect("content");
        }
        Boot::restore(config, checkpoint, content, disk, salt, &mut |_, _| {}).expect("restored")
    };
    let named = boot.named().to_vec();
    let told = RecoverConfig {
        limits: LIMITS,
        segments: &named,
        ..RecoverConfig::default()
    };
    let recovered = recover(
        disk,
        &told,
        &mut |event, disk| boot.on_event(event, disk),
        &mut |_| {},
    );
    boot.start(recovered.expect("recovered"), disk)
        .expect("started")
}

impl Rig {
    fn new(config: ReplicaConfig) -> Self {
        Self::on(MemDisk::default(), config)
    }

    fn on(disk: MemDisk, config: ReplicaConfig) -> Self {
        let mut rig = Self::booted(disk, config);
        rig.settle();
        rig
    }

    /// Started, and nothing has run yet.
    fn booted(mut disk: MemDisk, config: ReplicaConfig) -> Self {
        let replica = boot(&mut disk, config);
        Self {
            disk,
            replica,
            now: Millis(0),
            jobs: Vec::new(),
            asked: 0,
        }
    }

    /// One turn and what it asks of disk and worker; whether that was anything.
    fn step(&mut self) -> (Turn, bool) {
        let turn = self.replica.turn(self.now);
        let mut moved = false;
        while let Some((id, op)) = self.replica.poll_op() {
            let result = self.disk.perform(op);
            self.replica.on_disk(DiskDone { id, result });
            moved = true;
        }
        self.replica.take_jobs(&mut self.jobs);
        for job in self.jobs.drain(..) {
            let done = job.run(&mut self.disk);
            self.replica.on_job(done, self.now);
            moved = true;
        }
        (turn, moved)
    }

    /// Lets everything run until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let (turn, moved) = self.step();
            if !moved {
                match turn.wake {
                    Some(wake) => self.now = wake,
                    None => return,
                }
            }
        }
        panic!("the member never settles");
    }

    /// As `settle`, but work for the background worker stays in `jobs`.
    fn settle_but_jobs(&mut self) {
        self.replica.turn(self.now);
        while let Some((id, op)) = self.replica.poll_op() {
            let result = self.disk.perform(op);
            self.replica.on_disk(DiskDone { id, result });
            self.replica.turn(self.now);
        }
        self.replica.take_jobs(&mut self.jobs);
    }

    fn propose(&mut self, field: u32, request: &impl Message) -> ReplyTo {
        let to = ReplyTo {
            stream: self.asked,
            ..ReplyTo::default()
        };
        self.asked += 1;
        let mut batch = Proposals::new();
        let id = self.replica.config.request_ids.draw();
        batch.push(Some(to), id, field, &request.encode_to_vec());
        self.replica.propose(&mut batch).expect("room");
        to
    }

    fn ask(&mut self, ask: Ask) -> u32 {
        let to = ReplyTo {
            stream: self.asked,
            ..ReplyTo::default()
        };
        self.asked += 1;
        let mut batch = Proposals::new();
        assert!(batch.ask(to, ask));
        self.replica.propose(&mut batch).expect("room");
        to.stream
    }

    fn put(&mut self, key: &str, value: &str) -> ReplyTo {
        self.propose(field::PUT, &put(key, value))
    }

    /// Compacts at the newest revision, to be answered when the space is given back.
    fn compact_all(&mut self) {
        let revision = self.replica.reader().pin().view().revision();
        let physical = true;
        let request = pb::CompactionRequest { revision, physical };
        self.propose(field::COMPACTION, &request);
    }

    fn outcomes(&mut self) -> Vec<(u32, Outcome)> {
        let replies = self.replica.replies();
        let items = replies
            .items
            .iter()
            .map(|(to, outcome)| (to.stream, *outcome))
            .collect();
        replies.clear();
        items
    }

    fn status(&self) -> Status {
        self.replica.published().status()
    }

    fn hash(&mut self) -> HashAnswer {
        let mut job = HashJob::start(self.replica.reader(), 0).expect("a job");
        loop {
            if let Some(answer) = job.poll(1000, &mut self.disk).expect("it can be read") {
                return answer;
            }
        }
    }

    fn restart(self) -> Self {
        Self::on(self.disk, self.replica.config.clone())
    }
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

/// [MNT-1] [MEM-1] etcd-facts 3: term 2, raft index 4, revision 1, the cluster version and the name right after the first start.
#[test]
fn the_first_start_is_visible_as_etcds() {
    let rig = Rig::new(config());
    let status = rig.status();
    assert_eq!(
        (status.raft_term, status.committed, status.applied),
        (Term(2), Index(4), Index(4))
    );
    assert_eq!(status.applied_term, Term(2));
    assert_eq!(status.leader, Some(rig.replica.config.me));
    assert!(status.is_ready);
    assert!(status.db_size >= 20_480);
    let cluster = rig.replica.published().cluster();
    assert_eq!(cluster.cluster_version.as_deref(), Some("3.7.0"));
    assert_eq!(cluster.members[0].name, "default");
    assert_eq!(cluster.members[0].client_urls, ["http://127.0.0.1:2379"]);
    assert_eq!(rig.replica.reader().pin().view().revision(), 1);
    assert!(rig.replica.published().read_gate().is_free());
}

/// [DUR-4] R1: no answer leaves before the write that covers it is done; then it does, and readers see it.
#[test]
fn a_put_is_answered_when_it_is_durable() {
    let mut rig = Rig::new(config());
    let to = rig.put("a", "1");
    rig.replica.turn(rig.now);
    let (id, op) = rig.replica.poll_op().expect("a frame");
    assert!(matches!(op, DiskOp::Write { durable: true, .. }));
    rig.replica.turn(rig.now);
    assert_eq!(rig.outcomes(), []);
    assert_eq!(rig.replica.reader().pin().view().revision(), 1);
    let result = rig.disk.perform(op);
    rig.replica.on_disk(DiskDone { id, result });
    rig.replica.turn(rig.now);
    let answer = Outcome::Put {
        revision: 2,
        term: Term(2),
    };
    assert_eq!(rig.outcomes(), [(to.stream, answer)]);
    assert_eq!(rig.replica.reader().pin().view().revision(), 2);
}

/// Everything proposed while a write is in flight is the next one, and is answered in order.
#[test]
fn what_arrives_during_a_write_is_the_next_one() {
    let mut rig = Rig::new(config());
    rig.put("a", "1");
    rig.replica.turn(rig.now);
    let (id, op) = rig.replica.poll_op().expect("a frame");
    for key in ["b", "c", "d"] {
        rig.put(key, "1");
        rig.replica.turn(rig.now);
        assert!(rig.replica.poll_op().is_none());
    }
    let result = rig.disk.perform(op);
    rig.replica.on_disk(DiskDone { id, result });
    rig.replica.turn(rig.now);
    assert_eq!(rig.outcomes().len(), 1);
    assert!(rig.replica.poll_op().is_some_and(|(id, op)| {
        let result = rig.disk.perform(op);
        rig.replica.on_disk(DiskDone { id, result });
        rig.replica.poll_op().is_none()
    }));
    rig.replica.turn(rig.now);
    let streams: Vec<u32> = rig
        .outcomes()
        .into_iter()
        .map(|(stream, _)| stream)
        .collect();
    assert_eq!(streams, [1, 2, 3]);
    assert_eq!(rig.status().committed, Index(8));
}

/// R2: after a failed write nothing is acknowledged, whoever waits is told, and reads are not free.
#[test]
fn a_failed_write_is_final() {
    let mut rig = Rig::new(config());
    rig.put("a", "1");
    rig.replica.turn(rig.now);
    let (id, op) = rig.replica.poll_op().expect("a frame");
    rig.put("b", "1");
    rig.replica.turn(rig.now);
    let error = DiskError {
        site: op.site(),
        kind: DiskErrorKind::Failed,
        errno: Some(5),
    };
    rig.replica.on_disk(DiskDone {
        id,
        result: Err(error),
    });
    rig.put("c", "1");
    rig.settle();
    let refused = Outcome::Refused(Refused::DiskFailed);
    assert_eq!(rig.outcomes(), [(0, refused), (1, refused), (2, refused)]);
    assert!(matches!(rig.replica.failure(), Some(Failure::Wal(_))));
    assert_eq!(rig.status().failed, Some(Refused::DiskFailed));
    assert!(!rig.replica.published().read_gate().is_free());
    assert_eq!(rig.status().applied, Index(4));
}

/// An entry of a newer release stops the member: it must not guess.
#[test]
fn an_entry_that_cannot_be_applied_stops_the_member() {
    let mut rig = Rig::new(config());
    rig.propose(1000, &pb::LeaseGrantRequest::default());
    rig.put("a", "1");
    rig.settle();
    assert!(matches!(
        rig.replica.failure(),
        Some(Failure::Entry {
            index: Index(5),
            ..
        })
    ));
    let told: Vec<Outcome> = rig
        .outcomes()
        .into_iter()
        .map(|(_, outcome)| outcome)
        .collect();
    assert_eq!(told, [Outcome::Refused(Refused::Stopped); 2]);
}

/// [DUR-1] [DUR-3] A restart keeps everything acknowledged, takes a new term and publishes the name again.
#[test]
fn a_restart_keeps_the_state() {
    let mut rig = Rig::new(config());
    for n in 0..50 {
        rig.put(&format!("key{}", n % 7), &n.to_string());
    }
    rig.settle();
    assert_eq!(rig.outcomes().len(), 50);
    let hash = rig.hash();
    let mut rig = rig.restart();
    assert_eq!(rig.hash(), hash);
    let status = rig.status();
    // 54 entries, the empty one of term 3, the name.
    assert_eq!((status.raft_term, status.committed), (Term(3), Index(56)));
    assert!(status.is_ready);
    assert_eq!(rig.restart().status().raft_term, Term(4));
}

/// A clean stop answers what was taken over, refuses what comes later, and leaves a sealed log.
#[test]
fn a_stop_finishes_what_was_taken_over() {
    let mut rig = Rig::new(config());
    rig.put("a", "1");
    rig.replica.stop();
    rig.put("b", "1");
    assert!(!rig.replica.is_stopped());
    rig.settle();
    assert!(rig.replica.is_stopped());
    let mut outcomes = rig.outcomes();
    outcomes.sort_by_key(|(stream, _)| *stream);
    assert_eq!(
        outcomes[0].1,
        Outcome::Put {
            revision: 2,
            term: Term(2)
        }
    );
    assert_eq!(outcomes[1].1, Outcome::Refused(Refused::Stopped));
    let told = RecoverConfig {
        limits: LIMITS,
        ..RecoverConfig::default()
    };
    let recovered = recover(&mut rig.disk, &told, &mut |_, _| {}, &mut |_| {}).expect("recovered");
    assert!(recovered.is_clean);
}

/// More than one frame holds is taken over and waits its turn; more than the inbox holds stays outside.
#[test]
fn proposals_beyond_the_room_wait_and_then_stay_outside() {
    let mut rig = Rig::new(config());
    let value = "x".repeat(50 << 10);
    let mut taken = 0;
    let mut batch = Proposals::new();
    loop {
        let body = put("a", &value).encode_to_vec();
        let to = ReplyTo {
            stream: taken,
            ..ReplyTo::default()
        };
        batch.push(
            Some(to),
            rig.replica.config.request_ids.draw(),
            field::PUT,
            &body,
        );
        if rig.replica.propose(&mut batch).is_err() {
            break;
        }
        taken += 1;
    }
    assert_eq!(batch.len(), 1);
    assert!(taken as usize * value.len() <= INBOX_BYTES_MAX);
    rig.settle();
    let streams: Vec<u32> = rig
        .outcomes()
        .into_iter()
        .map(|(stream, _)| stream)
        .collect();
    assert_eq!(streams, (0..taken).collect::<Vec<_>>());
    assert_eq!(rig.replica.propose(&mut batch), Ok(()));
}

/// [COMPACT-1] physical: the answer comes when the memory is given back, other answers overtake it.
#[test]
fn a_physical_compaction_is_answered_when_it_is_finished() {
    let mut rig = Rig::new(config());
    for n in 0..20 {
        rig.put("a", &n.to_string());
    }
    rig.settle();
    rig.outcomes();
    let hold = rig.replica.reader().hold(5).expect("a hold");
    let request = pb::CompactionRequest {
        revision: 15,
        physical: true,
    };
    let compaction = rig.propose(field::COMPACTION, &request);
    rig.put("b", "1");
    for _ in 0..20 {
        let turn = rig.replica.turn(rig.now);
        while let Some((id, op)) = rig.replica.poll_op() {
            let result = rig.disk.perform(op);
            rig.replica.on_disk(DiskDone { id, result });
        }
        rig.now = turn.wake.unwrap_or(rig.now);
    }
    let outcomes = rig.outcomes();
    assert_eq!(outcomes.len(), 1);
    assert!(matches!(outcomes[0].1, Outcome::Put { .. }));
    assert_eq!(rig.replica.reader().pin().view().compacted(), 15);
    drop(hold);
    rig.settle();
    let replies = rig.replica.replies();
    let [(to, Outcome::Encoded { start, end })] = replies.items[..] else {
        panic!("one answer: {:?}", replies.items);
    };
    assert_eq!(to, compaction);
    let answer = pb::CompactionResponse::decode(replies.encoded(start, end)).expect("an answer");
    assert_eq!(answer.header.expect("a header").revision, 21);
    assert_eq!(rig.replica.reader().pin().view().finished(), 15);
}

/// [MNT-9] The write that does not fit is done; its caller hears NoSpace once the member's alarm is active.
#[test]
fn a_write_beyond_the_quota_raises_the_alarm_first() {
    let quota = ReplicaConfig {
        quota_bytes: 1,
        ..config()
    };
    let mut rig = Rig::new(quota);
    rig.put("a", "1");
    rig.put("b", "1");
    rig.settle();
    let told = Outcome::Refused(Refused::NoSpace);
    assert_eq!(rig.outcomes(), [(0, told), (1, told)]);
    let me = rig.replica.config.me;
    assert_eq!(rig.replica.published().cluster().alarms, [(me, 1)]);
    assert_eq!(rig.replica.reader().pin().view().revision(), 3);
    // Two puts, one alarm.
    assert_eq!(rig.status().applied, Index(7));
    rig.put("c", "1");
    rig.settle();
    assert_eq!(rig.outcomes(), [(2, told)]);
    assert_eq!(rig.replica.reader().pin().view().revision(), 3);
    let lift = pb::AlarmRequest {
        action: 2,
        member_id: me.0,
        alarm: 1,
    };
    rig.propose(field::ALARM, &lift);
    rig.put("d", "1");
    rig.settle();
    assert_eq!(rig.outcomes().len(), 2);
    assert_eq!(rig.replica.reader().pin().view().revision(), 4);
    let rig = rig.restart();
    assert_eq!(rig.replica.published().cluster().alarms, [(me, 1)]);
}

/// Batches and lists go round: proposing allocates nothing once the first ones came back.
#[test]
fn batches_come_back_with_room() {
    let mut rig = Rig::new(config());
    let body = put("key", &"v".repeat(100)).encode_to_vec();
    let mut batch = Proposals::new();
    for round in 0..10 {
        let room = (batch.bytes.capacity(), batch.waiters.capacity());
        for n in 0..100 {
            let to = ReplyTo {
                stream: n,
                ..ReplyTo::default()
            };
            let id = rig.replica.config.request_ids.draw();
            batch.push(Some(to), id, field::PUT, &body);
        }
        if round > 2 {
            let grown = (batch.bytes.capacity(), batch.waiters.capacity());
            assert_eq!(grown, room);
        }
        rig.replica.propose(&mut batch).expect("room");
        rig.settle();
    }
    assert_eq!(rig.outcomes().len(), 1000);
}

mod chaos;
mod cluster;
mod cold;
mod handover;
mod leases;
mod members;
mod questions;
mod recovery;
mod scrub;
mod snapshots;
mod space;
