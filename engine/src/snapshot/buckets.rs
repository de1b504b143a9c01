//! What stands in etcd's buckets, beside the records. etcd-facts 18.3.

use basalt_pb::hot::{KeyValue, key_value_len, put_int_field, put_uint_field, write_key_value};

use super::tree::TreeWriter;
use crate::lease::Lease;
use crate::member::{Member, Release};
use crate::mvcc::{History, Record};
use crate::types::{Index, MemberId, Term};

/// The state of a member beside its key space.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The last entry that is in the state, and its term.
    pub applied: (Index, Term),
    /// By ascending id.
    pub members: Vec<Member>,
    /// Ids that never come back.
    pub removed: Vec<MemberId>,
    /// Active alarms: member and `AlarmType` number.
    pub alarms: Vec<(MemberId, i32)>,
    /// `None` before the leader decided.
    pub cluster_version: Option<String>,
}

/// etcd's buckets, in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's names")]
pub enum Bucket {
    Alarm,
    Auth,
    AuthRoles,
    AuthUsers,
    Cluster,
    Key,
    Lease,
    Members,
    MembersRemoved,
    Meta,
}

impl Bucket {
    /// All there are.
    pub const ALL: [Bucket; 10] = [
        Bucket::Alarm,
        Bucket::Auth,
        Bucket::AuthRoles,
        Bucket::AuthUsers,
        Bucket::Cluster,
        Bucket::Key,
        Bucket::Lease,
        Bucket::Members,
        Bucket::MembersRemoved,
        Bucket::Meta,
    ];

    /// The name in the file.
    #[must_use]
    pub fn name(self) -> &'static [u8] {
        match self {
            Bucket::Alarm => b"alarm",
            Bucket::Auth => b"auth",
            Bucket::AuthRoles => b"authRoles",
            Bucket::AuthUsers => b"authUsers",
            Bucket::Cluster => b"cluster",
            Bucket::Key => b"key",
            Bucket::Lease => b"lease",
            Bucket::Members => b"members",
            Bucket::MembersRemoved => b"members_removed",
            Bucket::Meta => b"meta",
        }
    }
}

impl Description {
    /// What stands in `bucket`, sorted. `Key` is not its business.
    pub(super) fn entries(&self, bucket: Bucket, history: &History) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = match bucket {
            Bucket::Alarm => self.alarms.iter().map(alarm).collect(),
            Bucket::Auth => vec![
                (b"authEnabled".to_vec(), vec![0]),
                (b"authRevision".to_vec(), AUTH_REVISION.to_be_bytes().into()),
            ],
            Bucket::AuthRoles | Bucket::AuthUsers | Bucket::Key => Vec::new(),
            Bucket::Lease => history.leases().iter().map(lease).collect(),
            Bucket::Cluster => self.cluster(),
            Bucket::Members => self.members.iter().map(member).collect(),
            Bucket::MembersRemoved => {
                let removed = self.removed.iter();
                removed.map(|id| (hex(*id), b"removed".to_vec())).collect()
            }
            Bucket::Meta => self.meta(history),
        };
        entries.sort_unstable();
        entries
    }

    fn cluster(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let downgrade = br#"{"target-version":"","enabled":false}"#;
        let mut entries = vec![(b"downgrade".to_vec(), downgrade.to_vec())];
        if let Some(version) = &self.cluster_version {
            entries.push((b"clusterVersion".to_vec(), version.clone().into()));
        }
        entries
    }

    fn meta(&self, history: &History) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (index, term) = self.applied;
        let mut entries = vec![
            (b"confState".to_vec(), self.conf_state().into()),
            (b"consistent_index".to_vec(), index.0.to_be_bytes().into()),
            (b"storageVersion".to_vec(), storage_version().into()),
            (b"term".to_vec(), term.0.to_be_bytes().into()),
        ];
        if history.compacted() >= 0 {
            let key = revision_key(history.compacted(), 0);
            entries.push((b"scheduledCompactRev".to_vec(), key.to_vec()));
        }
        if history.finished() >= 0 {
            let key = revision_key(history.finished(), 0);
            entries.push((b"finishedCompactRev".to_vec(), key.to_vec()));
        }
        entries
    }

    /// raft's `ConfState` as Go writes it in JSON.
    fn conf_state(&self) -> String {
        let ids = |is_learner: bool| {
            let of_kind = self.members.iter().filter(|it| it.is_learner == is_learner);
            let ids: Vec<String> = of_kind.map(|it| it.id.0.to_string()).collect();
            ids.join(",")
        };
        let learners = match ids(true) {
            none if none.is_empty() => String::new(),
            some => format!(r#""learners":[{some}],"#),
        };
        format!(
            r#"{{"voters":[{}],{learners}"auto_leave":false}}"#,
            ids(false)
        )
    }
}

/// `storageVersion`: the release whose layout this is.
#[must_use]
pub(super) fn storage_version() -> String {
    Release::OWN.cluster().to_string()
}

/// Adds one record to the bucket `key`.
pub(super) fn push_record(tree: &mut TreeWriter, record: &Record<'_>) {
    let revision = record.mod_revision;
    let front = revision_key(revision.main, revision.sub);
    if record.version == 0 && record.key.is_empty() {
        // What etcd's own restore writes to raise the revision: a record without content.
        return tree.push(&front, 0, |_| {});
    }
    if record.version == 0 {
        let mut key = [0; REVISION_KEY_BYTES + 1];
        key[..REVISION_KEY_BYTES].copy_from_slice(&front);
        key[REVISION_KEY_BYTES] = b't';
        let kv = KeyValue {
            key: record.key,
            ..KeyValue::default()
        };
        return tree.push(&key, key_value_len(&kv), |out| write_key_value(out, &kv));
    }
    let kv = KeyValue {
        key: record.key,
        create_revision: record.create_revision,
        mod_revision: revision.main,
        version: record.version,
        value: record.value,
        lease: record.lease.0,
    };
    tree.push(&front, key_value_len(&kv), |out| write_key_value(out, &kv));
}

/// `00000001_00000000`, the numbers as 8 bytes big-endian.
fn revision_key(main: i64, sub: i64) -> [u8; REVISION_KEY_BYTES] {
    let mut key = [b'_'; REVISION_KEY_BYTES];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key[9..].copy_from_slice(&sub.to_be_bytes());
    key
}

/// An `AlarmMember`, all in the key.
fn alarm((member, kind): &(MemberId, i32)) -> (Vec<u8>, Vec<u8>) {
    let mut key = Vec::new();
    put_uint_field(&mut key, 1, member.0);
    put_int_field(&mut key, 2, i64::from(*kind));
    (key, Vec::new())
}

/// etcd's `Lease` message under the id as 8 bytes big-endian.
fn lease(lease: &Lease) -> (Vec<u8>, Vec<u8>) {
    let mut value = Vec::new();
    put_int_field(&mut value, 1, lease.id.0);
    put_int_field(&mut value, 2, lease.ttl);
    put_int_field(&mut value, 3, lease.remaining);
    (lease.id.0.to_be_bytes().into(), value)
}

fn member(member: &Member) -> (Vec<u8>, Vec<u8>) {
    let mut json = String::new();
    member.write_json(&mut json, false);
    (hex(member.id), json.into())
}

fn hex(id: MemberId) -> Vec<u8> {
    id.to_string().into()
}

pub(super) const REVISION_KEY_BYTES: usize = 17;

/// What a cluster without users has.
const AUTH_REVISION: u64 = 1;
