use super::*;
use basalt_pb::paths::{election, lock};
use basalt_pb::v3electionpb::{LeaderRequest, LeaderResponse};
use basalt_pb::v3lockpb::LockRequest;

impl Bench {
    fn told(&mut self, stream: u32) -> Vec<(String, i64)> {
        for _ in 0..4 {
            self.turn();
        }
        let messages = self.calls.messages.remove(&stream).unwrap_or_default();
        let told = messages.iter().map(|message| {
            let told = LeaderResponse::decode(&message[..]).unwrap();
            let value = String::from_utf8(told.kv.unwrap().value.to_vec()).unwrap();
            (value, told.header.unwrap().revision)
        });
        told.collect()
    }

    fn delete(&mut self, key: &str) {
        let store = &mut self.api.services.backend.store;
        store.write().delete(key.as_bytes()).expect("in memory");
        store.publish();
    }
}

/// [ELECT-3] An observer is told of the leader there is, of each of its proclamations, and of the next leader.
#[test]
fn an_observer_follows_the_leader() {
    let mut bench = Bench::new();
    let name = LeaderRequest { name: "e".into() };
    let stream = bench.ask(election::OBSERVE, &name);
    assert_eq!(bench.told(stream), []);
    bench.put("e/1", "one");
    bench.put("e/2", "two");
    assert_eq!(bench.told(stream), [("one".to_owned(), 2)]);
    bench.put("e/2", "not heard");
    bench.put("e/1", "uno");
    assert_eq!(bench.told(stream), [("uno".to_owned(), 5)]);
    bench.delete("e/1");
    assert_eq!(bench.told(stream), [("not heard".to_owned(), 6)]);
    bench.delete("e/2");
    assert_eq!(bench.told(stream), []);
    bench.put("e/3", "three");
    assert_eq!(bench.told(stream), [("three".to_owned(), 8)]);
    bench.api.on_cancel(call(stream));
    bench.put("e/3", "for nobody");
    assert_eq!(bench.told(stream), []);
}

/// [LOCK-3] A client that goes away before its key is made must not leave it: what is in the log then goes right after.
#[test]
fn a_lock_that_is_cancelled_early_deletes_its_key_later() {
    let mut bench = Bench::new();
    let request = LockRequest {
        name: "l".into(),
        lease: 77,
    };
    let stream = bench.ask(lock::LOCK, &request);
    let (to, field, _) = bench.proposed().remove(0);
    assert_eq!(field, 6);
    bench.api.on_cancel(call(stream));
    let answer = pb::TxnResponse {
        header: Some(pb::ResponseHeader {
            revision: 5,
            ..Default::default()
        }),
        succeeded: true,
        responses: Vec::new(),
    };
    let work: Work = Box::new(move |_, out| {
        answer.encode_raw(out);
        Step::Done
    });
    bench.api.services.backend.works.push((to, work));
    bench.turn();
    let (_, field, body) = bench.proposed().remove(0);
    let delete = pb::DeleteRangeRequest::decode(&body[..]).unwrap();
    assert_eq!((field, &delete.key[..]), (5, &b"l/4d"[..]));
    assert!(!bench.calls.ended.contains_key(&stream));
}

/// [LOCK-2] The text is the service's below, the code is lost, as in etcd.
#[test]
fn refusals_of_a_lock_have_no_code() {
    let mut bench = Bench::new();
    let request = LockRequest {
        name: "l".into(),
        lease: 77,
    };
    let stream = bench.ask(lock::LOCK, &request);
    let to = bench.proposed()[0].0;
    let refused = Outcome::Refused(Refused::LeaseNotFound);
    bench.api.services.backend.answers.push((to, refused));
    bench.turn();
    let text = "etcdserver: requested lease not found";
    assert_eq!(bench.error(stream), Ended::new(Code::Unknown, text));
}
