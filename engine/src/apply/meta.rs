//! What a checkpoint holds beside the key space, which brings its revision and compaction marks itself.

use basalt_pb::hot::{self, Wire};

use super::{Alarms, Machine, Quota};
use crate::lease::{GrantsImage, Lease};
use crate::limits::{LEASE_META_BYTES_MAX, LEASES_MAX};
use crate::member::{Member, Members, Release};
use crate::mvcc::Store;
use crate::types::{ClusterId, Index, LeaseId, MemberId, Term};

/// The state of a [`Machine`] without its keys, at one index. Who votes follows from the members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The last entry that is in the state, and its term.
    pub applied: (Index, Term),
    /// The members and who is gone.
    pub members: Members,
    /// The active alarms.
    pub alarms: Alarms,
    /// The version that the leader decided.
    pub cluster_version: Option<Release>,
    /// The leases. Which keys hang on them, the keys say.
    pub leases: GrantsImage,
}

/// The bytes are no [`Meta`] of this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint's description cannot be read")]
pub struct BadMeta;

impl Meta {
    /// Appends it in protobuf's wire form, the same bytes for the same state.
    pub fn write(&self, out: &mut Vec<u8>) {
        hot::put_uint_field(out, INDEX, self.applied.0.0);
        hot::put_uint_field(out, TERM, self.applied.1.0);
        let mut json = String::new();
        for member in self.members.iter() {
            json.clear();
            member.write_json(&mut json, false);
            hot::put_bytes_field(out, MEMBER, json.as_bytes());
        }
        for id in self.members.removed() {
            hot::put_uint_field(out, REMOVED, id.0);
        }
        for (member, kind) in self.alarms.iter() {
            let alarm = hot::begin_nested(out, ALARM);
            hot::put_uint_field(out, 1, member.0);
            hot::put_int_field(out, 2, i64::from(kind));
            hot::end_nested(out, alarm);
        }
        if let Some(release) = self.cluster_version {
            hot::put_bytes_field(out, VERSION, release.to_string().as_bytes());
        }
        for lease in self.leases.sorted() {
            let start = out.len();
            let nested = hot::begin_nested(out, LEASE);
            hot::put_int_field(out, 1, lease.id.0);
            hot::put_int_field(out, 2, lease.ttl);
            hot::put_int_field(out, 3, lease.remaining);
            hot::put_uint_field(out, 4, lease.generation);
            hot::end_nested(out, nested);
            assert!(out.len() - start <= LEASE_META_BYTES_MAX);
        }
    }

    /// Reads what [`Meta::write`] wrote; later releases may have added fields.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn read(bytes: &[u8]) -> Result<Self, BadMeta> {
        Self::read_wire(Wire::new(bytes)).ok_or(BadMeta)
    }

    fn read_wire(mut wire: Wire<'_>) -> Option<Self> {
        let mut meta = Self::default();
        let mut leases: Vec<Lease> = Vec::new();
        while let Some(field) = wire.tag().ok()? {
            match field.0 {
                INDEX => meta.applied.0 = Index(wire.varint().ok()?),
                TERM => meta.applied.1 = Term(wire.varint().ok()?),
                MEMBER => {
                    let text = core::str::from_utf8(wire.bytes().ok()?).ok()?;
                    let member = Member::read_json(text).ok()?;
                    if member.id == MemberId(0) {
                        return None;
                    }
                    meta.members.set(member);
                }
                REMOVED => meta.members.remove(MemberId(wire.varint().ok()?)),
                ALARM => {
                    let mut alarm = Wire::new(wire.bytes().ok()?);
                    let (mut member, mut kind) = (MemberId(0), 0);
                    while let Some(field) = alarm.tag().ok()? {
                        match field.0 {
                            1 => member = MemberId(alarm.varint().ok()?),
                            2 => kind = alarm.varint().ok()? as i32,
                            _ => alarm.skip(field).ok()?,
                        }
                    }
                    meta.alarms.raise(member, kind);
                }
                VERSION => {
                    let text = core::str::from_utf8(wire.bytes().ok()?).ok()?;
                    meta.cluster_version = Some(text.parse().ok()?);
                }
                LEASE => {
                    let lease = read_lease(Wire::new(wire.bytes().ok()?))?;
                    let is_next = leases.last().is_none_or(|last| last.id < lease.id);
                    if lease.id == LeaseId(0) || !is_next || leases.len() >= LEASES_MAX {
                        return None;
                    }
                    leases.push(lease);
                }
                _ => wire.skip(field).ok()?,
            }
        }
        meta.leases = leases.into_iter().collect();
        Some(meta)
    }
}

fn read_lease(mut wire: Wire<'_>) -> Option<Lease> {
    let mut lease = Lease::default();
    while let Some(field) = wire.tag().ok()? {
        match field.0 {
            1 => lease.id = LeaseId(wire.varint().ok()?.cast_signed()),
            2 => lease.ttl = wire.varint().ok()?.cast_signed(),
            3 => lease.remaining = wire.varint().ok()?.cast_signed(),
            4 => lease.generation = wire.varint().ok()?,
            _ => wire.skip(field).ok()?,
        }
    }
    Some(lease)
}

impl Machine {
    /// The state without the keys.
    #[must_use]
    pub fn meta(&self) -> Meta {
        Meta {
            applied: self.applied,
            members: self.members.clone(),
            alarms: self.alarms.clone(),
            cluster_version: self.cluster_version,
            leases: self.store.grants().image().clone(),
        }
    }

    /// The state of a checkpoint.
    #[must_use]
    pub fn restore(
        cluster: ClusterId,
        me: MemberId,
        quota: Quota,
        mut store: Store,
        meta: Meta,
    ) -> Self {
        store.set_leases(meta.leases);
        Self {
            members: meta.members,
            alarms: meta.alarms,
            cluster_version: meta.cluster_version,
            applied: meta.applied,
            ..Self::new(cluster, me, quota, store)
        }
    }
}

const INDEX: u32 = 1;
const TERM: u32 = 2;
const MEMBER: u32 = 3;
const REMOVED: u32 = 4;
const ALARM: u32 = 5;
const VERSION: u32 = 6;
const LEASE: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    /// [DUR-5] Everything that entries have decided must come back with the keys.
    #[test]
    fn a_description_survives_a_round_trip() {
        let mut meta = Meta {
            applied: (Index(9), Term(3)),
            cluster_version: Some(Release::OWN.cluster()),
            ..Meta::default()
        };
        meta.members.set(Member {
            id: MemberId(u64::MAX),
            peer_urls: vec!["http://a:1".to_owned()],
            name: "one".to_owned(),
            ..Member::default()
        });
        meta.members.remove(MemberId(7));
        meta.alarms.raise(MemberId(5), 1);
        meta.alarms.raise(MemberId(0), 2);
        let lease = |id, remaining| Lease {
            id: LeaseId(id),
            ttl: i64::MAX,
            remaining,
            generation: u64::MAX,
        };
        meta.leases = [lease(i64::MAX, -1), lease(-1, 60)].into_iter().collect();
        let mut bytes = Vec::new();
        meta.write(&mut bytes);
        assert_eq!(Meta::read(&bytes), Ok(meta));
        assert_eq!(Meta::read(&bytes[..bytes.len() - 1]), Err(BadMeta));
        assert_eq!(Meta::read(&[]), Ok(Meta::default()));
    }
}
