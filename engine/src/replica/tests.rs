use basalt_pb::etcdserverpb as pb;
use prost::Message;

use super::*;
use crate::command::field;
use crate::disk::{Disk, DiskAnswer, DiskError, DiskErrorKind};
use crate::member::{Member, RequestIds, cluster_id, member_id};
use crate::mvcc::{HashAnswer, HashJob, StoreConfig};
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
        quota_bytes: 0,
        checkpoint_bytes: u64::MAX,
        checkpoint_entries: u64::MAX,
        store: StoreConfig::default(),
    }
}

/// Starts a member from whatever `disk` holds.
fn boot(disk: &mut MemDisk, config: ReplicaConfig) -> Replica {
    let (identity, checkpoint) = match look(disk).expect("a directory") {
        Found::Ours(block) => (block.identity, block.checkpoint),
        Found::Empty => {
            let (cluster, member, salt) = (config.cluster, config.me, 9);
            let identity = Identity {
                cluster,
                member,
                salt,
            };
            create(disk, &identity, &LIMITS).expect("made");
            (identity, Index(0))
        }
    };
    let mut boot = if checkpoint == Index(0) {
        Boot::first(config)
    } else {
        let mut content = CheckpointContent::new(config.store);
        let mut reader = CheckpointReader::open(disk, checkpoint, identity.salt).expect("there");
        while let Some(chunk) = reader.next(disk).expect("whole") {
            content.push(chunk).expect("content");
        }
        Boot::restore(config, checkpoint, content).expect("restored")
    };
    let told = RecoverConfig {
        limits: LIMITS,
        ..RecoverConfig::default()
    };
    let recovered = recover(disk, &told, &mut |event| boot.on_event(event), &mut |_| {});
    boot.start(recovered.expect("recovered")).expect("started")
}

impl Rig {
    fn new(config: ReplicaConfig) -> Self {
        Self::on(MemDisk::default(), config)
    }

    fn on(mut disk: MemDisk, config: ReplicaConfig) -> Self {
        let replica = boot(&mut disk, config);
        let mut rig = Self {
            disk,
            replica,
            now: Millis(0),
            jobs: Vec::new(),
            asked: 0,
        };
        rig.settle();
        rig
    }

    /// Lets everything run until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..10_000 {
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
            if !moved {
                match turn.wake {
                    Some(wake) => self.now = wake,
                    None => return,
                }
            }
        }
        panic!("the member never settles");
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

    fn put(&mut self, key: &str, value: &str) -> ReplyTo {
        self.propose(field::PUT, &put(key, value))
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

    fn hash(&self) -> HashAnswer {
        let mut job = HashJob::start(self.replica.reader(), 0).expect("a job");
        loop {
            if let Some(answer) = job.poll(1000).expect("in memory") {
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

/// etcd-facts 3: term 2, raft index 4, revision 1, the cluster version and the name right after the first start.
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
