use super::*;
use basalt_net::grpc::Opening;
use basalt_pb::mvccpb::event::EventType;
use basalt_pb::paths::watch;
use pb::watch_request::RequestUnion;

impl Bench {
    fn open_watch(&mut self, meta: &Metadata) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let opening = Opening {
            path: watch::WATCH.as_bytes(),
            meta,
        };
        self.api.on_open(&mut self.calls, call(stream), opening);
        stream
    }

    fn say(&mut self, stream: u32, union: RequestUnion) {
        let message = pb::WatchRequest {
            request_union: Some(union),
        };
        self.say_bytes(stream, &message.encode_to_vec());
    }

    fn say_bytes(&mut self, stream: u32, message: &[u8]) {
        let request = Request {
            path: watch::WATCH.as_bytes(),
            message,
            meta: &Metadata::default(),
            timeout: None,
            last: false,
        };
        self.api.on_request(&mut self.calls, call(stream), request);
    }

    fn create(&mut self, stream: u32, create: pb::WatchCreateRequest) {
        self.say(stream, RequestUnion::CreateRequest(create));
    }

    /// What has come on the stream since the last time.
    fn heard(&mut self, stream: u32) -> Vec<pb::WatchResponse> {
        self.turn();
        let messages = self.calls.messages.remove(&stream).unwrap_or_default();
        let decode = |message: &Vec<u8>| pb::WatchResponse::decode(&message[..]).unwrap();
        messages.iter().map(decode).collect()
    }

    /// The keys, values and revisions of the events that came, and the ids of their watchers.
    fn events(&mut self, stream: u32) -> Vec<(i64, String, String, i64)> {
        let mut events = Vec::new();
        for response in self.heard(stream) {
            assert!(!response.created && !response.canceled, "{response:?}");
            for event in response.events {
                let kv = event.kv.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let (key, value) = (text(&kv.key), text(&kv.value));
                events.push((response.watch_id, key, value, kv.mod_revision));
            }
        }
        events
    }

    fn watch(&mut self, create: pb::WatchCreateRequest) -> u32 {
        let stream = self.open_watch(&Metadata::default());
        self.create(stream, create);
        let [created] = &self.heard(stream)[..] else {
            panic!("created and nothing else");
        };
        assert!(created.created && !created.canceled);
        stream
    }
}

fn on(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

fn event(id: i64, key: &str, value: &str, revision: i64) -> (i64, String, String, i64) {
    (id, key.to_owned(), value.to_owned(), revision)
}

/// [WATCH-2] Clients count on the numbers: Go's client maps answers to watchers by them.
#[test]
fn ids_are_chosen_or_counted_and_created_comes_before_events() {
    let mut bench = Bench::new();
    bench.put("a", "old");
    let stream = bench.open_watch(&Metadata::default());
    for watch_id in [0, 1, 0] {
        let start_revision = 2;
        let create = pb::WatchCreateRequest {
            watch_id,
            start_revision,
            ..on("a")
        };
        bench.create(stream, create);
    }
    let heard: Vec<_> = bench
        .heard(stream)
        .iter()
        .map(|response| (response.watch_id, response.created))
        .collect();
    let created = [(0, true), (1, true), (2, true)];
    assert_eq!(heard[..3], created);
    let mut told: Vec<i64> = heard[3..].iter().map(|it| it.0).collect();
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2]);
    bench.put("a", "new");
    let mut events = bench.events(stream);
    events.sort_unstable();
    assert_eq!(events, [0, 1, 2].map(|id| event(id, "a", "new", 3)));
}

/// [WATCH-3] The texts are etcd's, two of them without its usual beginning.
#[test]
fn what_cannot_be_watched_is_refused_in_etcds_words() {
    let mut bench = Bench::new();
    let stream = bench.watch(pb::WatchCreateRequest {
        watch_id: 7,
        ..on("a")
    });
    let negative = pb::WatchCreateRequest {
        start_revision: -1,
        ..on("a")
    };
    let empty = pb::WatchCreateRequest {
        range_end: "a".into(),
        ..on("b")
    };
    let taken = pb::WatchCreateRequest {
        watch_id: 7,
        ..on("a")
    };
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let duplicate = "mvcc: duplicate watch ID provided on the WatchStream";
    for (create, reason) in [
        (negative, compacted),
        (empty, "mvcc: watcher range is empty"),
        (taken, duplicate),
    ] {
        bench.create(stream, create);
        let [refused] = &bench.heard(stream)[..] else {
            panic!("one answer");
        };
        assert!(refused.created && refused.canceled);
        assert_eq!((refused.watch_id, &refused.cancel_reason[..]), (-1, reason));
        assert_eq!(refused.header.unwrap().revision, 1);
    }
}

/// [WATCH-4] What is gone is said, with where to begin anew; what is still there is replayed.
#[test]
fn a_start_in_the_past_replays_or_is_told_what_is_compacted() {
    let mut bench = Bench::new();
    for value in ["2", "3", "4", "5"] {
        bench.put("a", value);
    }
    let store = &mut bench.api.services.backend.store;
    store.compact(4).unwrap();
    store.publish();
    let from = |start_revision| pb::WatchCreateRequest {
        start_revision,
        ..on("a")
    };
    let stream = bench.open_watch(&Metadata::default());
    bench.create(stream, from(3));
    let heard = bench.heard(stream);
    let [created, canceled] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert!(created.created && !created.canceled);
    assert!(canceled.canceled && canceled.cancel_reason.is_empty());
    assert_eq!(canceled.compact_revision, 4);
    assert_eq!(canceled.header.unwrap().revision, 0);
    bench.create(stream, from(4));
    let heard = bench.heard(stream);
    let [created, replayed] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert!(created.created);
    assert_eq!(replayed.header.unwrap().revision, 5);
    let revisions = replayed
        .events
        .iter()
        .map(|it| it.kv.as_ref().unwrap().mod_revision);
    assert!(revisions.eq([4, 5]));
    let stream = bench.watch(from(8));
    for value in ["6", "7", "8"] {
        bench.put("a", value);
    }
    assert_eq!(bench.events(stream), [event(0, "a", "8", 8)]);
}

/// [WATCH-5] Controllers keep their caches by these.
#[test]
fn filters_leave_events_out_and_prev_kv_shows_what_was_before() {
    let mut bench = Bench::new();
    bench.put("a", "old");
    let all = bench.watch(pb::WatchCreateRequest {
        prev_kv: true,
        ..on("a")
    });
    let deletes = bench.watch(pb::WatchCreateRequest {
        filters: vec![0, 9],
        ..on("a")
    });
    let puts = bench.watch(pb::WatchCreateRequest {
        filters: vec![1],
        ..on("a")
    });
    bench.put("a", "new");
    let store = &mut bench.api.services.backend.store;
    store.write().delete(b"a").unwrap();
    store.publish();
    assert_eq!(bench.events(puts), [event(0, "a", "new", 3)]);
    assert_eq!(bench.events(deletes), [event(0, "a", "", 4)]);
    let heard = bench.heard(all);
    let events: Vec<_> = heard.iter().flat_map(|response| &response.events).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].r#type(), EventType::Put);
    assert_eq!(events[0].prev_kv.as_ref().unwrap().value, "old");
    assert_eq!(events[1].r#type(), EventType::Delete);
    assert_eq!(events[1].prev_kv.as_ref().unwrap().value, "new");
    assert_eq!(events[1].kv.as_ref().unwrap().create_revision, 0);
}

/// [WATCH-6] A client with a bound on messages asks for this.
#[test]
fn a_large_revision_is_cut_only_for_who_wants_it() {
    const LIMIT_BYTES: usize = 1_572_864 + 524_288;
    let mut bench = Bench::new();
    let range_end = "b".into();
    let whole = pb::WatchCreateRequest {
        range_end,
        ..on("a")
    };
    let cut = pb::WatchCreateRequest {
        fragment: true,
        ..whole.clone()
    };
    let (whole, cut) = (bench.watch(whole), bench.watch(cut));
    let value = vec![7; 1 << 20];
    bench.put_all(["a1", "a2", "a3"].map(|key| (key, &value[..])));
    let [message] = &bench.heard(whole)[..] else {
        panic!("one message");
    };
    assert_eq!(message.events.len(), 3);
    let pieces = bench.heard(cut);
    let shape: Vec<_> = pieces
        .iter()
        .map(|it| (it.fragment, it.events.len()))
        .collect();
    assert_eq!(shape, [(true, 1), (true, 1), (false, 1)]);
    assert!(pieces.iter().all(|it| it.encoded_len() < LIMIT_BYTES));
}

/// [WATCH-7] Progress that runs ahead of an event loses it at the next reconnect (etcd #15220).
#[test]
fn progress_is_told_of_by_request_and_by_time() {
    let mut bench = Bench::new();
    let stream = bench.open_watch(&Metadata::default());
    let progress = || RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    bench.say(stream, progress());
    assert!(bench.heard(stream).is_empty(), "nobody watches");
    bench.create(
        stream,
        pb::WatchCreateRequest {
            progress_notify: true,
            ..on("a")
        },
    );
    assert_eq!(bench.heard(stream).len(), 1);
    bench.put("b", "");
    bench.put("a", "");
    bench.say(stream, progress());
    let heard = bench.heard(stream);
    let shape: Vec<_> = heard
        .iter()
        .map(|it| (it.watch_id, it.header.unwrap().revision, it.events.len()))
        .collect();
    assert_eq!(shape, [(0, 3, 1), (-1, 3, 0)]);
    // An event came since the last tick, so that the first one after it tells nothing.
    bench.now += Duration::from_secs(661);
    assert!(bench.heard(stream).is_empty());
    bench.now += Duration::from_secs(661);
    let heard = bench.heard(stream);
    let [told] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!((told.watch_id, told.header.unwrap().revision), (0, 3));
    let start_revision = 100;
    bench.create(
        stream,
        pb::WatchCreateRequest {
            start_revision,
            ..on("a")
        },
    );
    assert_eq!(bench.heard(stream).len(), 1);
    bench.say(stream, progress());
    assert!(bench.heard(stream).is_empty(), "one begins in the future");
}

/// [WATCH-8] A client that half closes goes on to listen; one that cancels hears that it did.
#[test]
fn a_watcher_ends_when_it_is_cancelled_and_not_with_the_requests() {
    let mut bench = Bench::new();
    let stream = bench.watch(on("a"));
    bench.api.on_end(&mut bench.calls, call(stream));
    bench.put("a", "1");
    assert_eq!(bench.events(stream), [event(0, "a", "1", 2)]);
    for (watch_id, answers) in [(5, 0), (0, 1), (0, 0)] {
        let cancel = pb::WatchCancelRequest { watch_id };
        bench.say(stream, RequestUnion::CancelRequest(cancel));
        let heard = bench.heard(stream);
        assert_eq!(heard.len(), answers);
        assert!(heard.iter().all(|it| it.canceled && it.watch_id == 0));
    }
    bench.put("a", "2");
    assert!(bench.heard(stream).is_empty());
    bench.say_bytes(stream, b"");
    bench.say_bytes(stream, &[0x0a, 0x05]);
    let ended = &bench.calls.ended[&stream];
    assert_eq!(ended.code, Code::Internal);
    assert_eq!(bench.api.services.config.hub.counts().streams, 0);
}

/// [WATCH-9] One socket that is not read must not hold up the others, nor be forgotten (etcd #17529).
#[test]
fn who_does_not_read_is_passed_by_and_hears_everything_later() {
    let mut bench = Bench::new();
    let stream = bench.watch(on("a"));
    bench.calls.has_no_room = true;
    for value in ["1", "2", "3"] {
        bench.put("a", value);
        assert!(bench.heard(stream).is_empty());
    }
    assert_eq!(bench.api.services.config.hub.counts().slow_watchers, 1);
    bench.calls.has_no_room = false;
    let expected = ["1", "2", "3"].iter().zip(2..);
    let expected: Vec<_> = expected
        .map(|(value, revision)| event(0, "a", value, revision))
        .collect();
    assert_eq!(bench.events(stream), expected);
    assert_eq!(bench.api.services.config.hub.counts().slow_watchers, 0);
    bench.put("a", "4");
    assert_eq!(bench.events(stream), [event(0, "a", "4", 5)]);
}

/// [WATCH-10] A watch on a member that is cut off would otherwise wait for ever.
#[test]
fn without_a_leader_a_watch_that_needs_one_ends_and_at_a_stop_all_do() {
    let mut bench = Bench::new();
    let mut meta = Metadata::default();
    meta.push(b"hasleader", b"true");
    let (needing, other) = (bench.open_watch(&meta), bench.watch(on("a")));
    let status = Status {
        leader: None,
        ..leading()
    };
    bench.api.services.backend.published.set_status(status);
    bench.turn();
    assert!(!bench.calls.ended.contains_key(&needing));
    bench.now += Duration::from_secs(3);
    bench.turn();
    assert_eq!(bench.calls.ended[&needing], Error::NoLeader.status());
    assert!(!bench.calls.ended.contains_key(&other));
    let refused = bench.open_watch(&meta);
    assert_eq!(bench.calls.ended[&refused], Error::NoLeader.status());
    bench.api.on_stop(&mut bench.calls);
    assert_eq!(bench.calls.ended[&other], Error::Stopped.status());
    assert_eq!(bench.api.services.config.hub.counts().watchers, 0);
}
