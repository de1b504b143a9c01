use super::*;

/// [HDR-1] The plainest read, whose answer has a path of its own.
#[test]
fn a_key_is_answered_with_its_record_and_header() {
    let mut bench = Bench::new();
    bench.put("a", "1");
    let response = bench.range(&get("a"));
    let header = pb::ResponseHeader {
        cluster_id: CLUSTER,
        member_id: MEMBER,
        revision: 2,
        raft_term: TERM,
    };
    assert_eq!(response.header, Some(header));
    assert_eq!(response.count, 1);
    assert_eq!(response.kvs[0].value, "1");
    assert_eq!(response.kvs[0].mod_revision, 2);
    let response = bench.range(&get("b"));
    assert_eq!((response.count, response.kvs.len()), (0, 0));
    assert_eq!(response.header, Some(header));
}

/// [KV-10] [KV-11] [KV-12] Options on a single key that take the other path answer alike.
#[test]
fn options_on_one_key_act_as_on_a_range() {
    let mut bench = Bench::new();
    bench.put("a", "1");
    let mut request = get("a");
    request.keys_only = true;
    let response = bench.range(&request);
    assert_eq!((response.count, response.kvs[0].value.len()), (1, 0));
    request.count_only = true;
    let response = bench.range(&request);
    assert_eq!((response.count, response.kvs.len()), (1, 0));
    let mut request = get("a");
    request.min_mod_revision = 3;
    let response = bench.range(&request);
    assert_eq!((response.count, response.kvs.len()), (1, 0));
}

/// [KV-5] [KV-8] [KV-12] [KV-14] What is cut, counted and sorted, and in which order.
#[test]
fn ranges_are_limited_sorted_and_filtered() {
    let mut bench = Bench::new();
    for (key, value) in [("a", "3"), ("b", "2"), ("c", "1")] {
        bench.put(key, value);
    }
    let mut request = prefix("a", "z");
    request.limit = 2;
    let response = bench.range(&request);
    assert_eq!(keys(&response), ["a", "b"]);
    assert_eq!((response.more, response.count), (true, 3));
    request.sort_order = SortOrder::Descend as i32;
    assert_eq!(keys(&bench.range(&request)), ["c", "b"]);
    request.sort_target = SortTarget::Value as i32;
    request.sort_order = SortOrder::Ascend as i32;
    assert_eq!(keys(&bench.range(&request)), ["c", "b"]);
    // Without an order the limit acts first: c is never looked at but to see that there is more.
    request.sort_order = SortOrder::None as i32;
    request.limit = 1;
    let response = bench.range(&request);
    assert_eq!((keys(&response), response.more), (vec!["b"], true));
    let mut request = prefix("a", "z");
    request.min_mod_revision = 3;
    request.max_mod_revision = 3;
    let response = bench.range(&request);
    assert_eq!((keys(&response), response.count), (vec!["b"], 3));
}

/// [KV-3] [KV-6] [KV-7] [KV-9] The first check that fails decides.
#[test]
fn bad_ranges_are_refused() {
    let mut bench = Bench::new();
    let refused = |bench: &mut Bench, request: pb::RangeRequest| {
        let stream = bench.ask(kv::RANGE, &request);
        bench.error(stream)
    };
    let mut request = get("");
    request.sort_order = 9;
    assert_eq!(
        refused(&mut bench, request.clone()),
        Error::EmptyKey.status()
    );
    request.key = "a".into();
    request.revision = 100;
    assert_eq!(
        refused(&mut bench, request.clone()),
        Error::InvalidSortOption.status()
    );
    request.sort_order = 0;
    assert_eq!(
        refused(&mut bench, request.clone()),
        Error::FutureRev.status()
    );
    bench.put("a", "1");
    bench.put("a", "2");
    bench.api.services.backend.store.compact(3).unwrap();
    bench.api.services.backend.store.publish();
    request.revision = 2;
    assert_eq!(
        refused(&mut bench, request.clone()),
        Error::Compacted.status()
    );
    request.revision = 3;
    assert_eq!(bench.range(&request).kvs[0].value, "2");

    let stream = bench.ask_bytes(kv::RANGE, &[0x0a, 5], &Metadata::default());
    assert_eq!(bench.error(stream).code, Code::Internal);
}

/// [KV-13] A linearizable read waits for the gate, a serializable one does not.
#[test]
fn linearizable_reads_wait_for_a_leader_and_time_out() {
    let mut bench = Bench::new();
    bench.put("a", "1");
    bench.api.services.backend.published.read_gate().set(false);
    let mut local = get("a");
    local.serializable = true;
    assert_eq!(bench.range(&local).count, 1);

    let waits = bench.ask(kv::RANGE, &get("a"));
    bench.turn();
    assert!(!bench.calls.ended.contains_key(&waits));
    bench.put("a", "2");
    bench.api.services.backend.published.read_gate().set(true);
    bench.turn();
    let response: pb::RangeResponse = bench.answer(waits);
    assert_eq!(response.kvs[0].value, "2");

    bench.api.services.backend.published.read_gate().set(false);
    let waits = bench.ask(kv::RANGE, &get("a"));
    let wake = bench.turn();
    assert_eq!(wake, Some(bench.now + Duration::from_secs(7)));
    bench.now += Duration::from_secs(7);
    bench.turn();
    assert_eq!(bench.error(waits), Error::Timeout.status());
}

/// A range beyond one slice is answered over several turns, at the revision it began with.
#[test]
fn long_ranges_go_on_over_turns_at_one_revision() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..20_000).map(|i| format!("k{i:05}")).collect();
    bench.put_all(names.iter().map(|name| (name.as_str(), &b"value"[..])));
    let stream = bench.ask(kv::RANGE, &prefix("k", "l"));
    assert!(!bench.calls.ended.contains_key(&stream));
    let later = b"later";
    bench.put_all(names.iter().map(|name| (name.as_str(), &later[..])));
    bench.api.services.backend.store.compact(3).unwrap();
    bench.api.services.backend.store.publish();
    let mut turns = 0;
    while !bench.calls.ended.contains_key(&stream) {
        assert_eq!(
            bench.turn(),
            Some(bench.now).filter(|_| !bench.calls.ended.contains_key(&stream))
        );
        turns += 1;
    }
    assert!(turns > 1);
    let response: pb::RangeResponse = bench.answer(stream);
    assert_eq!(response.count, 20_000);
    assert_eq!(response.kvs.len(), 20_000);
    assert!(response.kvs.iter().all(|kv| kv.value == "value"));
    assert_eq!(response.header.unwrap().revision, 2);
}

/// [SAFE-4] A client that takes nothing could else make the server hold all the answers it asked for.
#[test]
fn long_ranges_are_not_made_while_the_client_takes_nothing() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..20_000).map(|i| format!("k{i:05}")).collect();
    bench.put_all(names.iter().map(|name| (name.as_str(), &b"value"[..])));
    bench.calls.has_no_room = true;
    let stream = bench.ask(kv::RANGE, &prefix("k", "l"));
    let wake = bench.turn();
    assert!(
        wake.is_some_and(|wake| wake > bench.now),
        "it is looked at again, later"
    );
    for _ in 0..50 {
        bench.turn();
    }
    assert!(!bench.calls.ended.contains_key(&stream));
    bench.calls.has_no_room = false;
    bench.now += Duration::from_millis(20);
    for _ in 0..50 {
        bench.turn();
    }
    let response: pb::RangeResponse = bench.answer(stream);
    assert_eq!(response.kvs.len(), 20_000);
}

impl Bench {
    /// Puts all records into files and out of memory. The directory lives as long as the answer.
    fn chill(&mut self) -> tempfile::TempDir {
        let path = tempfile::tempdir().expect("a directory");
        let backend = &mut self.api.services.backend;
        let mut disk = DataDir::open(path.path()).expect("a directory").disk();
        let mut cursor = backend.store.checkpoint().expect("nothing is compacted");
        while cursor.write_segment(&mut disk, 7).expect("written") {}
        let mut content = Vec::new();
        while cursor
            .next_chunk(&mut content, 1 << 20, &mut disk, 7)
            .expect("in memory")
        {}
        backend.store.on_checkpoint(cursor.take_files());
        backend.store.evict();
        backend.store.publish();
        backend.disk = Box::new(disk);
        path
    }

    /// Reads what was missed, as the member does.
    fn load(&mut self) {
        let backend = &mut self.api.services.backend;
        for part in backend.store.take_wanted() {
            match backend.disk.perform(part.op()) {
                Ok(DiskAnswer::Read { pages, bytes }) => {
                    let taken = backend.store.on_part(&part, &pages, bytes);
                    taken.expect("as it was written");
                }
                other => panic!("{other:?}"),
            }
        }
        backend.store.publish_log();
    }
}

/// Who reads what is not in memory waits for it, and nobody else does.
#[test]
fn reads_of_cold_records_wait_while_others_are_answered() {
    let mut bench = Bench::new();
    let value = vec![b'v'; 1000];
    let names: Vec<String> = (0..2000).map(|i| format!("k{i:05}")).collect();
    bench.put_all(names.iter().map(|name| (name.as_str(), &value[..])));
    let _dir = bench.chill();
    bench.put("warm", "1");
    let cold: Vec<u32> = names
        .iter()
        .step_by(3)
        .map(|name| bench.ask(kv::RANGE, &get(name)))
        .collect();
    let old = bench.ask(
        kv::RANGE,
        &pb::RangeRequest {
            revision: 2,
            ..get("k00000")
        },
    );
    let all = bench.ask(kv::RANGE, &prefix("k", "l"));
    let stream = bench.ask(kv::RANGE_STREAM, &prefix("k", "l"));
    for _ in 0..3 {
        bench.turn();
    }
    assert!(bench.calls.ended.is_empty());
    assert_eq!(bench.range(&get("warm")).kvs[0].value, "1");
    let mut request = prefix("k", "l");
    request.keys_only = true;
    assert_eq!(bench.range(&request).kvs.len(), 2000);
    request.count_only = true;
    assert_eq!(bench.range(&request).count, 2000);
    for _ in 0..200 {
        bench.load();
        bench.turn();
    }
    for stream in cold.into_iter().chain([old]) {
        let response: pb::RangeResponse = bench.answer(stream);
        assert_eq!(response.kvs[0].value, value);
    }
    let response: pb::RangeResponse = bench.answer(all);
    assert_eq!(response.kvs.len(), 2000);
    assert_eq!(bench.calls.ended.get(&stream), Some(&Ended::OK));
}

/// What was asked for and came, but was given back before its reader looked, is asked for again.
#[test]
fn reads_ask_again_for_what_is_still_missing() {
    let mut bench = Bench::new();
    bench.put("a", "1");
    let _dir = bench.chill();
    let stream = bench.ask(kv::RANGE, &get("a"));
    bench.turn();
    assert_eq!(bench.api.services.backend.store.take_wanted().len(), 1);
    let wake = bench.turn().expect("it looks again");
    assert_eq!(bench.api.services.backend.store.take_wanted().len(), 0);
    bench.now = wake;
    bench.turn();
    bench.load();
    bench.turn();
    let response: pb::RangeResponse = bench.answer(stream);
    assert_eq!(response.kvs[0].value, "1");
}

/// D8: a member whose records cannot be read has stopped, and says so instead of letting clients wait.
#[test]
fn reads_of_lost_records_end_with_the_data_corruption_error() {
    let mut bench = Bench::new();
    bench.put("a", "1");
    bench.put("b", "1");
    let _dir = bench.chill();
    let one = bench.ask(kv::RANGE, &get("a"));
    let all = bench.ask(kv::RANGE, &prefix("a", "c"));
    bench.turn();
    bench.api.services.backend.published.set_status(Status {
        failed: Some(Refused::CorruptCluster),
        ..leading()
    });
    bench.turn();
    for stream in [one, all] {
        assert_eq!(bench.error(stream), Error::Corrupt.status());
    }
}

/// HashKV reads for itself and leaves the memory to clients.
#[test]
fn a_hash_of_cold_records_asks_the_member_for_none() {
    let mut bench = Bench::new();
    bench.put("a", "1");
    let warm = bench.ask(maintenance::HASH_KV, &pb::HashKvRequest { revision: 0 });
    bench.turn();
    bench.turn();
    let _dir = bench.chill();
    let cold = bench.ask(maintenance::HASH_KV, &pb::HashKvRequest { revision: 0 });
    bench.turn();
    bench.turn();
    let (warm, cold): (pb::HashKvResponse, pb::HashKvResponse) =
        (bench.answer(warm), bench.answer(cold));
    assert_eq!(warm, cold);
    assert!(bench.api.services.backend.store.take_wanted().is_empty());
}

/// [STREAM-1] [STREAM-2] Pieces of 10, 20, 40 keys; the header comes in the last one only.
#[test]
fn streamed_ranges_come_in_growing_pieces() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..100).map(|i| format!("k{i:03}")).collect();
    bench.put_all(names.iter().map(|name| (name.as_str(), &b"v"[..])));
    let mut request = prefix("k", "l");
    request.limit = 75;
    let stream = bench.ask(kv::RANGE_STREAM, &request);
    while !bench.calls.ended.contains_key(&stream) {
        bench.turn();
    }
    let pieces: Vec<pb::RangeResponse> = pieces(&bench, stream);
    let lengths: Vec<usize> = pieces.iter().map(|piece| piece.kvs.len()).collect();
    assert_eq!(lengths, [10, 20, 40, 5]);
    let (last, first) = pieces.split_last().unwrap();
    assert!(
        first
            .iter()
            .all(|piece| piece.header.is_none() && piece.count == 0 && !piece.more)
    );
    assert_eq!((last.count, last.more), (100, true));
    assert_eq!(last.header.unwrap().revision, 2);
    let all: Vec<&str> = pieces.iter().flat_map(keys).collect();
    assert_eq!(all, &names[..75]);
}

/// [STREAM-1] At one revision, as long as that can be read.
#[test]
fn streams_stop_while_the_client_does_not_read_and_when_compacted() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..100).map(|i| format!("k{i:03}")).collect();
    bench.put_all(names.iter().map(|name| (name.as_str(), &b"v"[..])));
    bench.calls.is_full = true;
    let stream = bench.ask(kv::RANGE_STREAM, &prefix("k", "l"));
    for _ in 0..5 {
        bench.turn();
    }
    assert_eq!(bench.calls.messages[&stream].len(), 1);
    bench.api.on_writable(&mut bench.calls, call(stream));
    bench.turn();
    assert_eq!(bench.calls.messages[&stream].len(), 2);
    bench.put("x", "1");
    bench.api.services.backend.store.compact(3).unwrap();
    bench.api.services.backend.store.publish();
    bench.api.on_writable(&mut bench.calls, call(stream));
    bench.turn();
    assert_eq!(bench.calls.ended[&stream], Error::Compacted.status());
}

/// [STREAM-1] [STREAM-3] The odd cases.
#[test]
fn streams_of_nothing_of_counts_and_of_odd_orders_are_as_etcds() {
    let mut bench = Bench::new();
    bench.put("a", "1");
    let stream = bench.ask(kv::RANGE_STREAM, &prefix("x", "z"));
    bench.turn();
    let only = pieces(&bench, stream);
    assert_eq!((only.len(), only[0].count, only[0].kvs.len()), (1, 0, 0));
    assert!(only[0].header.is_some());

    let mut request = prefix("a", "z");
    request.count_only = true;
    let stream = bench.ask(kv::RANGE_STREAM, &request);
    bench.turn();
    assert_eq!(pieces(&bench, stream)[0].count, 1);

    let mut request = prefix("a", "z");
    request.sort_order = SortOrder::Descend as i32;
    let stream = bench.ask(kv::RANGE_STREAM, &request);
    assert_eq!(bench.error(stream), Error::StreamSortOrder.status());
    request.sort_order = 0;
    request.max_create_revision = 1;
    let stream = bench.ask(kv::RANGE_STREAM, &request);
    assert_eq!(bench.error(stream), Error::StreamFilters.status());
}

/// [STREAM-1] Ranges that end inside a piece, at its end, and one key behind it.
#[test]
fn streams_end_with_their_range() {
    for (keys_there, lengths) in [
        (3, vec![3]),
        (10, vec![10]),
        (11, vec![10, 1]),
        (30, vec![10, 20]),
    ] {
        let mut bench = Bench::new();
        let names: Vec<String> = (0..keys_there).map(|i| format!("k{i:03}")).collect();
        bench.put_all(names.iter().map(|name| (name.as_str(), &b"v"[..])));
        let stream = bench.ask(kv::RANGE_STREAM, &prefix("k", "l"));
        for _ in 0..9 {
            bench.turn();
        }
        assert_eq!(bench.calls.ended.get(&stream), Some(&Ended::OK));
        let pieces = pieces(&bench, stream);
        let found: Vec<usize> = pieces.iter().map(|piece| piece.kvs.len()).collect();
        assert_eq!(found, lengths);
        let last = pieces.last().unwrap();
        assert_eq!((last.count, last.more), (keys_there, false));
    }
}

fn pieces(bench: &Bench, stream: u32) -> Vec<pb::RangeResponse> {
    let piece = |bytes: &Vec<u8>| {
        let piece = pb::RangeStreamResponse::decode(&bytes[..]).unwrap();
        piece.range_response.unwrap()
    };
    bench.calls.messages[&stream].iter().map(piece).collect()
}
