//! Lock and Election where calls wait for each other, on basalt and on stock etcd.

use std::thread;
use std::time::{Duration, Instant};

use basalt_pb::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, RangeRequest,
    RangeResponse,
};
use basalt_pb::paths::{election, kv, lease, lock};
use basalt_pb::v3electionpb::{CampaignRequest, CampaignResponse, ResignRequest, ResignResponse};
use basalt_pb::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use basalt_tests::grpc::Client;
use basalt_tests::server::{Kind, Server};
use prost::Message;

/// [LOCK-1] [LOCK-3]
#[test]
fn basalt_hands_locks_on() {
    hand_on(Kind::Basalt);
}

/// What is asked of basalt holds for etcd.
#[test]
fn etcd_hands_locks_on() {
    hand_on(Kind::Etcd);
}

/// [ELECT-1]
#[test]
fn basalt_elects_the_next_when_a_leader_resigns() {
    elect(Kind::Basalt);
}

/// What is asked of basalt holds for etcd.
#[test]
fn etcd_elects_the_next_when_a_leader_resigns() {
    elect(Kind::Etcd);
}

fn hand_on(kind: Kind) {
    let Some(server) = Server::start(kind, QUIET) else {
        return;
    };
    let mut client = Client::connect(server.address()).expect("a server");
    for id in 1..=5 {
        grant(&mut client, id);
    }
    let first: LockResponse = client.ask(lock::LOCK, &on(1)).expect("free");
    assert_eq!(&first.key[..], b"q/1");
    let second = client.call(lock::LOCK, &on(2));
    client.flush().expect("sent");
    wait_for(&mut client, &["q/1", "q/2"]);
    let third = client.call(lock::LOCK, &on(3));
    client.flush().expect("sent");
    wait_for(&mut client, &["q/1", "q/2", "q/3"]);
    // A client that goes away while it waits leaves nothing behind.
    let mut gone = Client::connect(server.address()).expect("a server");
    gone.call(lock::LOCK, &on(4));
    gone.flush().expect("sent");
    wait_for(&mut client, &["q/1", "q/2", "q/3", "q/4"]);
    drop(gone);
    wait_for(&mut client, &["q/1", "q/2", "q/3"]);

    let key = first.key;
    let unlock = client.call(lock::UNLOCK, &UnlockRequest { key });
    let answers = [
        client.answer().expect("an answer"),
        client.answer().expect("an answer"),
    ];
    for answer in answers {
        let message = answer.message.expect("not refused");
        if answer.stream == unlock {
            UnlockResponse::decode(&message[..]).expect("an answer");
        } else {
            assert_eq!(answer.stream, second);
            let locked = LockResponse::decode(&message[..]).expect("an answer");
            assert_eq!(&locked.key[..], b"q/2");
        }
    }
    // The one that waits loses its key with its lease, and hears of it when it would be next.
    revoke(&server, 3);
    revoke(&server, 2);
    let answer = client.answer().expect("an answer");
    assert_eq!((answer.stream, answer.message), (third, None));
    let last: LockResponse = client.ask(lock::LOCK, &on(5)).expect("free");
    assert_eq!(&last.key[..], b"q/5");
    // Without a lease there is one of the server's, and a key of its own.
    let name = "other".into();
    let own: LockResponse = client
        .ask(lock::LOCK, &LockRequest { name, lease: 0 })
        .expect("free");
    assert!(own.key.len() > b"other/".len());
}

fn elect(kind: Kind) {
    let Some(server) = Server::start(kind, QUIET) else {
        return;
    };
    let mut client = Client::connect(server.address()).expect("a server");
    grant(&mut client, 1);
    grant(&mut client, 2);
    let campaign = |lease| CampaignRequest {
        name: "q".into(),
        lease,
        value: "v".into(),
    };
    let first: CampaignResponse = client
        .ask(election::CAMPAIGN, &campaign(1))
        .expect("elected");
    let leader = first.leader.expect("a key");
    assert_eq!((&leader.key[..], leader.lease), (&b"q/1"[..], 1));
    let second = client.call(election::CAMPAIGN, &campaign(2));
    client.flush().expect("sent");
    wait_for(&mut client, &["q/1", "q/2"]);
    let leader = Some(leader);
    let mut other = Client::connect(server.address()).expect("a server");
    let _: ResignResponse = other
        .ask(election::RESIGN, &ResignRequest { leader })
        .expect("resigned");
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.stream, second);
    let message = answer.message.expect("not refused");
    let elected = CampaignResponse::decode(&message[..]).expect("an answer");
    let leader = elected.leader.expect("a key");
    assert_eq!((&leader.key[..], leader.lease), (&b"q/2"[..], 2));
    // The header is that of the entry that made the key.
    assert_eq!(elected.header.expect("it has one").revision, leader.rev);
}

fn on(lease: i64) -> LockRequest {
    LockRequest {
        name: "q".into(),
        lease,
    }
}

fn grant(client: &mut Client, id: i64) {
    let granted: LeaseGrantResponse = client
        .ask(lease::LEASE_GRANT, &LeaseGrantRequest { ttl: 1000, id })
        .expect("granted");
    assert_eq!(granted.id, id);
}

fn revoke(server: &Server, id: i64) {
    let mut client = Client::connect(server.address()).expect("a server");
    let _: LeaseRevokeResponse = client
        .ask(lease::LEASE_REVOKE, &LeaseRevokeRequest { id })
        .expect("revoked");
}

/// Waits until these are the keys of the name, over a connection that may have calls under way.
fn wait_for(client: &mut Client, keys: &[&str]) {
    let began = Instant::now();
    loop {
        let request = RangeRequest {
            key: "q/".into(),
            range_end: "q0".into(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let range: RangeResponse = client.ask(kv::RANGE, &request).expect("an answer");
        let found = range.kvs.iter().map(|kv| &kv.key[..]);
        if found.eq(keys.iter().map(|key| key.as_bytes())) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "never {keys:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

const QUIET: &[&str] = &["--log-level", "error"];
