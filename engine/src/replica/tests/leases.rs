//! Leases of one member while time passes.

use super::*;
use crate::limits::LEASE_REVOKES_MAX;
use crate::mvcc::KeyRange;
use crate::types::LeaseId;

impl Rig {
    fn grant(&mut self, id: i64, ttl: i64) {
        self.propose(field::LEASE_GRANT, &pb::LeaseGrantRequest { ttl, id });
    }

    fn put_with(&mut self, key: &str, lease: i64) {
        let put = pb::PutRequest {
            lease,
            ..put(key, "v")
        };
        self.propose(field::PUT, &put);
    }

    /// Lets the member run at `now` until it has nothing to do before a later time.
    fn run_at(&mut self, now: u64) {
        self.now = Millis(now);
        for _ in 0..1000 {
            let (turn, moved) = self.step();
            if !moved && turn.wake.is_none_or(|wake| wake > self.now) {
                return;
            }
        }
        panic!("the member never rests");
    }

    /// The answer to the question, once it is there.
    fn answer<A: Message + Default>(&mut self, stream: u32) -> Option<A> {
        let replies = self.replica.replies();
        let at = replies.items.iter().find(|(to, _)| to.stream == stream)?;
        let Outcome::Encoded { start, end } = at.1 else {
            panic!("unexpected {:?}", at.1);
        };
        Some(A::decode(replies.encoded(start, end)).expect("an answer"))
    }

    fn time_to_live(&mut self, id: i64) -> (i64, i64, Vec<String>) {
        let id = LeaseId(id);
        let asked = self.ask(Ask::TimeToLive { id, keys: true });
        let now = self.now.0;
        self.run_at(now);
        let answer: pb::LeaseTimeToLiveResponse = self.answer(asked).expect("answered");
        let keys = answer.keys.iter();
        let keys = keys.map(|key| String::from_utf8(key.to_vec()).unwrap());
        (answer.ttl, answer.granted_ttl, keys.collect())
    }

    /// The time to live that is answered to a renewal, once it is.
    fn renew(&mut self, id: i64) -> Option<i64> {
        let asked = self.ask(Ask::KeepAlive(LeaseId(id)));
        self.replica.turn(self.now);
        let answer: pb::LeaseKeepAliveResponse = self.answer(asked)?;
        assert_eq!(answer.id, id);
        Some(answer.ttl)
    }

    fn live_keys(&self) -> u64 {
        let pin = self.replica.reader().pin();
        let view = pin.view();
        view.count_newest(&KeyRange::All).unwrap()
    }
}

const NOT_THERE: (i64, i64, Vec<String>) = (-1, 0, vec![]);

/// [LEASE-5] [LEASE-9] The keys go with the lease, in one revision, soon after its time and not before.
#[test]
fn a_lease_that_nobody_renews_takes_its_keys_with_it() {
    let mut rig = Rig::new(config());
    rig.grant(7, 10);
    rig.put_with("b", 7);
    rig.put_with("a", 7);
    rig.put("c", "stays");
    rig.run_at(0);
    assert_eq!(rig.time_to_live(7), (9, 10, vec!["a".into(), "b".into()]));
    rig.run_at(9_999);
    assert_eq!(rig.time_to_live(7), (0, 10, vec!["a".into(), "b".into()]));
    assert_eq!(rig.live_keys(), 3);
    let before = rig.replica.reader().pin().view().revision();
    rig.run_at(10_016);
    assert_eq!(rig.live_keys(), 1);
    assert_eq!(rig.replica.reader().pin().view().revision(), before + 1);
    assert_eq!(rig.time_to_live(7), NOT_THERE);
    assert_eq!(rig.renew(7), Some(0));
    let totals = rig.replica.published().leases().totals();
    assert_eq!((totals.granted, totals.revoked, totals.expired), (1, 1, 1));
    assert_eq!((totals.ttls[4], totals.ttl_seconds), (1, 10));
}

/// [LEASE-11] A renewal is answered at once, without an entry; one that comes too late waits until the lease is gone.
#[test]
fn renewals_cost_no_entry() {
    let mut rig = Rig::new(config());
    rig.grant(7, 10);
    rig.run_at(0);
    let committed = rig.status().committed;
    rig.run_at(9_000);
    assert_eq!(rig.renew(7), Some(10));
    rig.run_at(18_999);
    assert_eq!(rig.time_to_live(7).0, 0);
    assert_eq!(rig.status().committed, committed);
    rig.now = Millis(19_001);
    let late = rig.ask(Ask::KeepAlive(LeaseId(7)));
    rig.replica.turn(rig.now);
    assert_eq!(rig.answer::<pb::LeaseKeepAliveResponse>(late), None);
    rig.run_at(19_016);
    let answer: pb::LeaseKeepAliveResponse = rig.answer(late).expect("answered");
    assert_eq!((answer.id, answer.ttl), (7, 0));
}

/// [LEASE-6] [LEASE-10] After a restart each lease lives for its whole time and an election, from log or checkpoint alike.
#[test]
fn leases_survive_restarts() {
    for checkpoint_entries in [u64::MAX, 8] {
        let mut rig = Rig::new(ReplicaConfig {
            checkpoint_entries,
            ..config()
        });
        rig.grant(7, 10);
        rig.grant(-8, 3600);
        rig.grant(9, 100);
        rig.put_with("a", 7);
        rig.put_with("b", -8);
        rig.run_at(0);
        rig.propose(field::LEASE_REVOKE, &pb::LeaseRevokeRequest { id: 9 });
        rig.run_at(5_000);
        assert_eq!(
            rig.replica.checkpoint.last > Index(0),
            checkpoint_entries == 8
        );
        let config = rig.replica.config.clone();
        let mut rig = Rig::booted(rig.disk, config);
        rig.run_at(50_000);
        assert_eq!(rig.time_to_live(7), (10, 10, vec!["a".into()]));
        assert_eq!(rig.time_to_live(-8), (3600, 3600, vec!["b".into()]));
        assert_eq!(rig.time_to_live(9), NOT_THERE);
        rig.run_at(60_999);
        assert_eq!(rig.live_keys(), 2);
        rig.run_at(61_016);
        assert_eq!(rig.live_keys(), 1);
    }
}

/// [LEASE-7] What a checkpoint says is given after a restart; a renewal takes it back in the log before it is answered.
#[test]
fn a_renewal_takes_a_checkpoint_back_first() {
    let mut rig = Rig::new(config());
    rig.grant(7, 1000);
    rig.grant(8, 1000);
    rig.run_at(0);
    rig.run_at(300_016);
    let entry = |rig: &Rig, id| {
        let grants = rig.replica.machine.store().grants();
        *grants.get(LeaseId(id)).expect("it exists").1
    };
    assert_eq!(entry(&rig, 7).remaining, 700);
    rig.now = Millis(300_100);
    let asked = rig.ask(Ask::KeepAlive(LeaseId(7)));
    let again = rig.ask(Ask::KeepAlive(LeaseId(7)));
    rig.replica.turn(rig.now);
    assert_eq!(rig.answer::<pb::LeaseKeepAliveResponse>(asked), None);
    rig.run_at(300_100);
    for asked in [asked, again] {
        let answer: pb::LeaseKeepAliveResponse = rig.answer(asked).expect("answered");
        assert_eq!(answer.ttl, 1000);
    }
    assert_eq!(
        (entry(&rig, 7).remaining, entry(&rig, 8).remaining),
        (0, 700)
    );
    assert_eq!(rig.time_to_live(7).0, 999);
    assert_eq!(rig.time_to_live(8).0, 699);
}

/// [LEASE-3] In the order of their ends.
#[test]
fn leases_are_listed_by_what_is_left_of_them() {
    let mut rig = Rig::new(config());
    for (id, ttl) in [(1, 30), (2, 10), (-3, 20)] {
        rig.grant(id, ttl);
    }
    rig.run_at(0);
    rig.now = Millis(5_000);
    assert_eq!(rig.renew(2), Some(10));
    let asked = rig.ask(Ask::Leases);
    rig.run_at(6_000);
    let answer: pb::LeaseLeasesResponse = rig.answer(asked).expect("answered");
    let ids: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
    assert_eq!(ids, [2, -3, 1]);
    assert_eq!(answer.header.unwrap().revision, 1);
}

/// [LEASE-2] Long lists of keys are made over several turns, of which none is long.
#[test]
fn the_keys_of_a_large_lease_are_listed_in_slices() {
    let mut rig = Rig::new(config());
    rig.grant(7, 1000);
    let mut expected = Vec::new();
    for number in 0..3000 {
        let key = format!("key-{number:04}");
        rig.put_with(&key, 7);
        expected.push(key);
    }
    rig.run_at(0);
    let id = LeaseId(7);
    let asked = rig.ask(Ask::TimeToLive { id, keys: true });
    let wake = rig.replica.turn(rig.now).wake;
    assert_eq!(wake, Some(rig.now));
    assert_eq!(rig.answer::<pb::LeaseTimeToLiveResponse>(asked), None);
    assert_eq!(rig.time_to_live(7), (999, 1000, expected));
}

/// [LEASE-8] A storm of expiries goes through the log in waves, and writes go between them.
#[test]
fn thousands_of_leases_that_end_at_once_are_gone_at_once() {
    let mut rig = Rig::new(config());
    let leases = 2 * LEASE_REVOKES_MAX as i64 + 10;
    for id in 1..=leases {
        rig.grant(id, 10);
        rig.put_with(&format!("{id}"), id);
    }
    rig.run_at(0);
    rig.outcomes();
    rig.now = Millis(10_016);
    let waiting = |rig: &Rig| {
        let status = rig.status();
        rig.replica.raft.log().last().index.0 - status.applied.0
    };
    for _ in 0..3 {
        rig.replica.turn(rig.now);
        assert!(waiting(&rig) <= LEASE_REVOKES_MAX as u64);
    }
    rig.run_at(10_016);
    assert_eq!(rig.live_keys(), 0);
    assert!(rig.replica.machine.store().grants().is_empty());
}

/// Nobody waits for ever: not on a member that stops, nor behind a failed disk.
#[test]
fn questions_are_refused_when_the_member_stops() {
    let mut rig = Rig::new(config());
    rig.grant(7, 10);
    rig.run_at(0);
    rig.outcomes();
    rig.now = Millis(10_000);
    rig.ask(Ask::KeepAlive(LeaseId(7)));
    rig.replica.turn(rig.now);
    assert!(rig.outcomes().is_empty());
    rig.replica.stop();
    rig.run_at(10_000);
    let refused = Outcome::Refused(Refused::Stopped);
    assert_eq!(rig.outcomes()[0].1, refused);
}
