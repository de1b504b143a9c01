//! What a snapshot holds for a member that is made from it, whoever wrote it.

use basalt_pb::hot::{self, KeyValue, Wire};

use super::buckets::{Bucket, REVISION_KEY_BYTES};
use super::read::{Damage, Database, Source};
use crate::lease::{GrantsImage, Lease};
use crate::limits::{LEASES_MAX, SNAPSHOT_ALARMS_MAX, SNAPSHOT_REVISION_MAX};
use crate::member::Release;
use crate::mvcc::Record;
use crate::types::{LeaseId, MemberId, Revision};

/// A snapshot that was read once from end to end and is good.
pub struct Import<S> {
    database: Database<S>,
    /// The newest record's; 1 if there is none.
    pub revision: i64,
    /// The compacted revision, -1 if there was no compaction.
    pub compacted: i64,
    /// The compaction that was finished, -1 if none was; at most `compacted`.
    pub finished: i64,
    /// How many records there are.
    pub records: u64,
    /// Active alarms: member and `AlarmType` number.
    pub alarms: Vec<(MemberId, i32)>,
    /// The leases, each id once.
    pub leases: GrantsImage,
    /// The cluster's version, if it was decided.
    pub cluster_version: Option<Release>,
}

/// Why a snapshot is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportRefused<E> {
    /// The file.
    #[error(transparent)]
    Damage(#[from] Damage<E>),
    /// It is a database, but not etcd's.
    #[error("the snapshot has no bucket `{0}`: it is no database of etcd")]
    NoBucket(&'static str),
    /// An entry is not what it must be.
    #[error("bucket `{bucket}`: {what}")]
    Entry {
        /// Where it stands.
        bucket: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// It has what this release cannot keep, and losing it in silence would be worse.
    #[error("the snapshot has {0}, which this release of basalt does not support yet")]
    Unsupported(&'static str),
    /// It has more of something than any cluster.
    #[error("the snapshot has more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most that are taken.
        max: usize,
    },
    /// It comes from a later release.
    #[error("the snapshot is of a cluster of version {0}, later than this release's")]
    Later(Release),
}

impl<S: Source> Import<S> {
    /// Reads all there is, keeps what is small, and checks the records.
    ///
    /// # Errors
    /// See [`ImportRefused`].
    pub fn open(database: Database<S>) -> Result<Self, ImportRefused<S::Error>> {
        let mut import = Self {
            database,
            revision: 1,
            compacted: -1,
            finished: -1,
            records: 0,
            alarms: Vec::new(),
            leases: GrantsImage::default(),
            cluster_version: None,
        };
        import.read_meta()?;
        import.read_alarms()?;
        import.read_cluster()?;
        import.read_leases()?;
        import.refuse_users()?;
        let (mut revision, mut records) = (1, 0);
        import.each_record(|record| {
            revision = record.mod_revision.main;
            records += 1;
            Ok::<_, ImportRefused<S::Error>>(())
        })?;
        // As etcd: a compaction may be newer than every record that it left.
        import.revision = revision.max(import.compacted);
        import.records = records;
        Ok(import)
    }

    /// Hands the records to `each`, deletions with version 0, in revision order.
    ///
    /// # Errors
    /// The file's, or what `each` says.
    pub fn each_record<E: From<ImportRefused<S::Error>>>(
        &mut self,
        mut each: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last = None;
        let found = self.database.bucket(KEY.as_bytes(), |key, value| {
            let refuse = |what| Stop::Import(ImportRefused::Entry { bucket: KEY, what });
            let record = read_record(key, value).map_err(refuse)?;
            // Keys ascend, but a deletion has one byte more than a put of the same revision.
            if last.replace(record.mod_revision) == Some(record.mod_revision) {
                return Err(refuse("two records have one revision"));
            }
            each(&record).map_err(Stop::Each)
        });
        match found {
            Ok(true) => Ok(()),
            Ok(false) => Err(ImportRefused::NoBucket(KEY).into()),
            Err(Stop::Import(refused)) => Err(refused.into()),
            Err(Stop::Each(error)) => Err(error),
        }
    }

    fn read_meta(&mut self) -> Result<(), ImportRefused<S::Error>> {
        let (mut scheduled, mut finished) = (-1, -1);
        let found = self.database.bucket(Bucket::Meta.name(), |key, value| {
            let mark = match key {
                b"scheduledCompactRev" => &mut scheduled,
                b"finishedCompactRev" => &mut finished,
                _ => return Ok(()),
            };
            let entry = ImportRefused::Entry {
                bucket: "meta",
                what: "a compaction mark is no revision",
            };
            *mark = read_revision(value).ok_or(entry)?.main;
            Ok::<_, ImportRefused<S::Error>>(())
        })?;
        if !found {
            return Err(ImportRefused::NoBucket("meta"));
        }
        self.compacted = scheduled.max(finished);
        self.finished = finished;
        Ok(())
    }

    fn read_alarms(&mut self) -> Result<(), ImportRefused<S::Error>> {
        let alarms = &mut self.alarms;
        self.database.bucket(Bucket::Alarm.name(), |key, _| {
            let alarm = read_alarm(key).ok_or(ImportRefused::Entry {
                bucket: "alarm",
                what: "an alarm cannot be read",
            })?;
            if alarms.len() == SNAPSHOT_ALARMS_MAX {
                return Err(ImportRefused::TooMany {
                    what: "alarms",
                    max: SNAPSHOT_ALARMS_MAX,
                });
            }
            alarms.push(alarm);
            Ok::<_, ImportRefused<S::Error>>(())
        })?;
        Ok(())
    }

    fn read_cluster(&mut self) -> Result<(), ImportRefused<S::Error>> {
        let mut version = None;
        self.database.bucket(Bucket::Cluster.name(), |key, value| {
            if key == b"clusterVersion" {
                let text = core::str::from_utf8(value).ok();
                let read = text.and_then(|text| text.parse::<Release>().ok());
                version = Some(read.ok_or(ImportRefused::Entry {
                    bucket: "cluster",
                    what: "the version cannot be read",
                })?);
            }
            Ok::<_, ImportRefused<S::Error>>(())
        })?;
        match version {
            Some(later) if later > Release::OWN.cluster() => Err(ImportRefused::Later(later)),
            version => {
                self.cluster_version = version;
                Ok(())
            }
        }
    }

    fn read_leases(&mut self) -> Result<(), ImportRefused<S::Error>> {
        let mut leases: Vec<Lease> = Vec::new();
        self.database.bucket(Bucket::Lease.name(), |key, value| {
            let lease = read_lease(key, value).ok_or(ImportRefused::Entry {
                bucket: "lease",
                what: "a lease cannot be read",
            })?;
            // Keys ascend, so that no id comes twice.
            if leases.len() == LEASES_MAX {
                return Err(ImportRefused::TooMany {
                    what: "leases",
                    max: LEASES_MAX,
                });
            }
            leases.push(lease);
            Ok::<_, ImportRefused<S::Error>>(())
        })?;
        self.leases = leases.into_iter().collect();
        Ok(())
    }

    fn refuse_users(&mut self) -> Result<(), ImportRefused<S::Error>> {
        for (bucket, what) in [(Bucket::AuthUsers, "users"), (Bucket::AuthRoles, "roles")] {
            self.database.bucket(bucket.name(), |_, _| {
                Err::<(), _>(ImportRefused::<S::Error>::Unsupported(what))
            })?;
        }
        Ok(())
    }
}

/// Who ended a walk over the records.
enum Stop<I, E> {
    Import(I),
    Each(E),
}

impl<S, E> From<Damage<S>> for Stop<ImportRefused<S>, E> {
    fn from(damage: Damage<S>) -> Self {
        Stop::Import(damage.into())
    }
}

fn read_revision(key: &[u8]) -> Option<Revision> {
    let key: &[u8; REVISION_KEY_BYTES] = key.try_into().ok()?;
    let number = |at: usize| key[at..].first_chunk().map(|it| i64::from_be_bytes(*it));
    let (main, sub) = (number(0)?, number(9)?);
    let is_possible = key[8] == b'_' && (0..=SNAPSHOT_REVISION_MAX).contains(&main) && sub >= 0;
    is_possible.then(|| Revision::new(main, sub))
}

fn read_record<'a>(key: &[u8], value: &'a [u8]) -> Result<Record<'a>, &'static str> {
    let (front, is_tombstone) = match key.split_at_checked(REVISION_KEY_BYTES) {
        Some((front, b"")) => (front, false),
        Some((front, b"t")) => (front, true),
        _ => return Err("a key is no revision"),
    };
    let revision = read_revision(front).ok_or("a key is no revision")?;
    if revision.main < 1 || u32::try_from(revision.sub).is_err() {
        return Err("a key is no revision");
    }
    let kv = read_key_value(value).ok_or("a value is no key-value")?;
    let mut record = Record {
        key: kv.key,
        value: b"",
        create_revision: 0,
        mod_revision: revision,
        version: 0,
        lease: LeaseId(0),
    };
    // The second is what etcd's restore leaves where it raises the revision.
    let is_bare = is_tombstone && !kv.key.is_empty() || !is_tombstone && value.is_empty();
    if is_bare {
        return Ok(record);
    }
    let is_whole = !is_tombstone
        && !kv.key.is_empty()
        && (1..=revision.main).contains(&kv.version)
        && kv.mod_revision == revision.main
        && (1..=revision.main).contains(&kv.create_revision);
    if !is_whole {
        return Err("a key-value contradicts its revision");
    }
    record.value = kv.value;
    record.create_revision = kv.create_revision;
    record.version = kv.version;
    record.lease = LeaseId(kv.lease);
    Ok(record)
}

fn read_key_value(bytes: &[u8]) -> Option<KeyValue<'_>> {
    let mut kv = KeyValue::default();
    let mut wire = Wire::new(bytes);
    while let Some(field) = wire.tag().ok()? {
        use hot::WireType::{Len, Varint};
        match field {
            (1, Len) => kv.key = wire.bytes().ok()?,
            (2, Varint) => kv.create_revision = wire.varint().ok()?.cast_signed(),
            (3, Varint) => kv.mod_revision = wire.varint().ok()?.cast_signed(),
            (4, Varint) => kv.version = wire.varint().ok()?.cast_signed(),
            (5, Len) => kv.value = wire.bytes().ok()?,
            (6, Varint) => kv.lease = wire.varint().ok()?.cast_signed(),
            other => wire.skip(other).ok()?,
        }
    }
    Some(kv)
}

fn read_alarm(bytes: &[u8]) -> Option<(MemberId, i32)> {
    let (mut member, mut kind) = (MemberId(0), 0);
    let mut wire = Wire::new(bytes);
    while let Some(field) = wire.tag().ok()? {
        match field {
            (1, hot::WireType::Varint) => member = MemberId(wire.varint().ok()?),
            (2, hot::WireType::Varint) => kind = wire.varint().ok()? as i32,
            other => wire.skip(other).ok()?,
        }
    }
    Some((member, kind))
}

/// A lease of a cluster that is gone is of no generation.
fn read_lease(key: &[u8], value: &[u8]) -> Option<Lease> {
    let id = LeaseId(i64::from_be_bytes(key.try_into().ok()?));
    let mut lease = Lease::default();
    let mut wire = Wire::new(value);
    while let Some(field) = wire.tag().ok()? {
        use hot::WireType::Varint;
        match field {
            (1, Varint) => lease.id = LeaseId(wire.varint().ok()?.cast_signed()),
            (2, Varint) => lease.ttl = wire.varint().ok()?.cast_signed(),
            (3, Varint) => lease.remaining = wire.varint().ok()?.cast_signed(),
            other => wire.skip(other).ok()?,
        }
    }
    (lease.id == id && id != LeaseId(0)).then_some(lease)
}

const KEY: &str = "key";
