//! Leases as entries make and end them.

use super::*;
use crate::command::{Fence, LeaseRevoke};
use crate::lease::Change;
use crate::limits::{APPLY_RECORDS_A_DELETE, LEASE_TTL_MAX};
use crate::types::LeaseId;

impl Rig {
    fn grant(&mut self, id: i64, ttl: i64) -> Result<pb::LeaseGrantResponse, Refused> {
        self.ask(field::LEASE_GRANT, &pb::LeaseGrantRequest { ttl, id })
    }

    fn revoke(&mut self, id: i64) -> Result<pb::LeaseRevokeResponse, Refused> {
        self.ask(field::LEASE_REVOKE, &pb::LeaseRevokeRequest { id })
    }

    fn put_with(&mut self, key: &str, lease: i64) -> Applied {
        let put = pb::PutRequest {
            lease,
            ..put(key, "v")
        };
        self.apply(field::PUT, &put)
    }

    fn keys_of(&self, lease: i64) -> Vec<String> {
        let attached = self.machine.store().attached();
        let keys = attached.keys_from(LeaseId(lease), &[]);
        keys.map(|key| String::from_utf8(key.to_vec()).unwrap())
            .collect()
    }

    fn changes(&mut self) -> usize {
        let mut changes = Vec::new();
        self.machine.take_lease_changes(&mut changes);
        changes.len()
    }
}

/// [LEASE-4] In etcd's order: the time to live before the id.
#[test]
fn a_lease_is_granted_once_and_not_for_ever() {
    let mut rig = Rig::new();
    assert_eq!(rig.grant(0, 10), Err(Refused::LeaseNotFound));
    let granted = rig.grant(-7, 10).unwrap();
    assert_eq!(
        (granted.id, granted.ttl, granted.error),
        (-7, 10, String::new())
    );
    assert_eq!(granted.header.unwrap().revision, 1);
    assert_eq!(rig.grant(-7, 10), Err(Refused::LeaseExists));
    let too_long = LEASE_TTL_MAX + 1;
    assert_eq!(rig.grant(-7, too_long), Err(Refused::LeaseTtlTooLarge));
    assert!(rig.grant(8, LEASE_TTL_MAX).is_ok());
    assert_eq!(rig.changes(), 2);
}

/// [LEASE-9] The keys of a lease are those whose newest record names it, whatever wrote that.
#[test]
fn keys_hang_on_the_lease_of_their_last_write() {
    let mut rig = Rig::new();
    let missing = Applied::Done(Outcome::Refused(Refused::LeaseNotFound));
    assert_eq!(rig.put_with("a", 1), missing);
    rig.grant(1, 10).unwrap();
    rig.grant(2, 10).unwrap();
    for (key, lease) in [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("b", 2), ("c", 0)] {
        rig.put_with(key, lease);
    }
    assert_eq!(rig.keys_of(1), ["a", "d"]);
    assert_eq!(rig.keys_of(2), ["b"]);
    rig.apply(
        field::PUT,
        &pb::PutRequest {
            ignore_lease: true,
            ..put("a", "kept")
        },
    );
    rig.apply(field::DELETE_RANGE, &delete("d", ""));
    rig.put("e", "1");
    let txn = success(vec![
        op(request_op::Request::RequestPut(pb::PutRequest {
            lease: 2,
            ..put("e", "2")
        })),
        op_delete("b", "c"),
    ]);
    rig.txn(&txn).unwrap();
    assert_eq!(rig.keys_of(1), ["a"]);
    assert_eq!(rig.keys_of(2), ["e"]);
    // [TXN-3] A lease that is missing refuses the whole transaction.
    let txn = success(vec![
        op_put("x", "1"),
        op(request_op::Request::RequestPut(pb::PutRequest {
            lease: 3,
            ..put("y", "2")
        })),
    ]);
    assert_eq!(rig.txn(&txn), Err(Refused::LeaseNotFound));
    assert_eq!(rig.value("x"), None);
}

/// [LEASE-9] etcd-facts 8: the deletions are the changes of one revision, in byte order.
#[test]
fn a_revoke_deletes_its_keys_in_one_revision() {
    let mut rig = Rig::new();
    rig.grant(1, 10).unwrap();
    assert_eq!(rig.revoke(1).unwrap().header.unwrap().revision, 1);
    assert_eq!(rig.revoke(1), Err(Refused::LeaseNotFound));
    rig.grant(1, 10).unwrap();
    for key in ["b", "a", "c"] {
        rig.put_with(key, 1);
    }
    rig.put("d", "stays");
    assert_eq!(rig.revoke(1).unwrap().header.unwrap().revision, 6);
    assert_eq!((rig.revision(), rig.value("b")), (6, None));
    assert!(rig.value("d").is_some());
    rig.machine.store_mut().publish();
    let mut history = crate::mvcc::History::take(&rig.reader).unwrap();
    let (mut at, mut deleted) = (crate::mvcc::HistoryAt::default(), Vec::new());
    history
        .visit(&mut at, &mut rig.disk, |record| {
            if record.version == 0 {
                deleted.push((record.key.to_vec(), record.mod_revision.sub));
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(
        deleted,
        [(b"a".to_vec(), 0), (b"b".to_vec(), 1), (b"c".to_vec(), 2)]
    );
    // A later lease of the same id has none of them.
    rig.grant(1, 10).unwrap();
    assert!(rig.keys_of(1).is_empty());
}

/// [LEASE-9] Readers see all of a large lease or nothing of it, and a small one never waits for the publishing of others.
#[test]
fn a_large_lease_is_revoked_in_slices() {
    let mut rig = Rig::new();
    rig.grant(1, 10).unwrap();
    for number in 0..10 {
        rig.put_with(&format!("k{number}"), 1);
    }
    let revoke = pb::LeaseRevokeRequest { id: 1 }.encode_to_vec();
    let bound = SliceBound {
        records: 4 * APPLY_RECORDS_A_DELETE,
        bytes: 1 << 20,
    };
    let (applied, slices) = rig.apply_sliced(bound, field::LEASE_REVOKE, &revoke);
    assert!(matches!(applied, Applied::Done(Outcome::Encoded { .. })));
    assert_eq!((slices, rig.revision()), (3, 12));
    assert_eq!(rig.changes(), 2);
    assert!(rig.machine.store().grants().is_empty());
    // Two keys fit a slice, but not what the first lease has left of it.
    for id in 2..=3 {
        rig.grant(id, 10).unwrap();
        rig.put_with(&format!("x{id}"), id);
        rig.put_with(&format!("y{id}"), id);
        rig.put_with(&format!("z{id}"), id);
    }
    rig.machine.store_mut().publish();
    rig.machine.begin_slice(bound);
    assert!(rig.revoke(2).is_ok());
    let revoke = pb::LeaseRevokeRequest { id: 3 }.encode_to_vec();
    assert_eq!(
        rig.apply_bytes(field::LEASE_REVOKE, &revoke),
        Err(Halt::More)
    );
    assert!(!rig.machine.is_mid_entry());
    rig.machine.begin_slice(bound);
    assert!(rig.apply_bytes(field::LEASE_REVOKE, &revoke).is_ok());
}

/// C3, M18: what a leader found to be over, it may have found when it led no more, or of a lease that was granted again since.
#[test]
fn a_revoke_of_another_term_or_generation_does_nothing() {
    let mut rig = Rig::new();
    rig.grant(1, 10).unwrap();
    let generation = rig.machine.applied().0.0;
    let mut revoke = |term, generation| {
        let fence = Some(Fence {
            term: Term(term),
            generation,
        });
        let id = LeaseId(1);
        let mut body = Vec::new();
        LeaseRevoke { id, fence }.write(&mut body);
        rig.apply_bytes(field::LEASE_REVOKE, &body).unwrap()
    };
    let refused = Applied::Done(Outcome::Refused(Refused::LeaseNotFound));
    assert_eq!(revoke(1, generation), refused);
    assert_eq!(revoke(2, generation - 1), refused);
    assert_ne!(revoke(2, generation), refused);
    assert_eq!(revoke(2, generation), refused);
}

/// [LEASE-7] A checkpoint of a lease that is gone is nothing.
#[test]
fn checkpoints_set_what_a_new_leader_gives() {
    let mut rig = Rig::new();
    rig.grant(1, 1000).unwrap();
    let checkpoint = |id, remaining_ttl| pb::LeaseCheckpoint { id, remaining_ttl };
    let checkpoints = vec![checkpoint(1, 700), checkpoint(2, 5)];
    let request = pb::LeaseCheckpointRequest { checkpoints };
    rig.apply(field::LEASE_CHECKPOINT, &request);
    let grants = rig.machine.store().grants();
    assert_eq!(grants.get(LeaseId(1)).unwrap().1.rest(), 700);
    let mut changes = Vec::new();
    rig.machine.take_lease_changes(&mut changes);
    assert!(matches!(
        changes[1],
        Change::Checkpointed { id: LeaseId(1), .. }
    ));
    assert_eq!(changes.len(), 2);
}

/// [MNT-9] A lease takes space, and alarms refuse what they refuse of writes.
#[test]
fn leases_count_for_the_quota_and_stop_at_alarms() {
    let mut rig = Rig::with_quota(1 << 20);
    let before = rig.machine.store().sizes().in_use;
    for id in 1..=1000 {
        rig.grant(id, 10).unwrap();
    }
    let after = rig.machine.store().sizes().in_use;
    assert!((60_000..70_000).contains(&(after - before)));
    let raise = |alarm| pb::AlarmRequest {
        action: 1,
        member_id: 0xa,
        alarm,
    };
    rig.apply(field::ALARM, &raise(1));
    assert_eq!(rig.grant(5000, 10), Err(Refused::NoSpace));
    assert!(rig.revoke(1).is_ok());
    rig.apply(field::ALARM, &raise(2));
    assert_eq!(rig.grant(5000, 10), Err(Refused::CorruptCluster));
    assert_eq!(rig.revoke(2), Err(Refused::CorruptCluster));
}
