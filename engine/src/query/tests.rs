use basalt_pb::etcdserverpb::RangeResponse;
use prost::Message;

use super::*;
use crate::limits::SORT_RUN_RECORDS;
use crate::mvcc::{Store, StoreConfig};
use crate::types::LeaseId;

/// Keys a to e; revisions: a created 2, modified 7; b 3; c 4, modified 8; d 5; e 6. Values run backwards.
fn store() -> Store {
    let (mut store, _) = Store::new(StoreConfig::default());
    for (key, value) in [
        ("a", "5"),
        ("b", "4"),
        ("c", "3"),
        ("d", "2"),
        ("e", "1"),
        ("a", "9"),
        ("c", "0"),
    ] {
        let mut write = store.write();
        write
            .put(key.as_bytes(), value.as_bytes(), LeaseId(0))
            .unwrap();
        write.finish();
    }
    store
}

fn ask(store: &Store, request: &RangeRequest<'_>, bound: SliceBound) -> RangeResponse {
    let view = store.view();
    let range = KeyRange::new(request.key, request.range_end);
    let revision = view.check(request.revision).expect("a revision");
    let mut query = RangeQuery::new(request, revision);
    let mut out = Vec::new();
    // A slice hands out at least one record, so this ends.
    for _ in 0..100 {
        if let Progress::Done { count } = query
            .poll(&range, view, bound, &mut out)
            .expect("in memory")
        {
            let answer = RangeResponse::decode(&out[..]).expect("an answer");
            assert_eq!(answer.count as u64, count);
            return answer;
        }
    }
    panic!("the query does not end");
}

/// Keys in the order of the answer, whether there are more, and the count; the same in one go and in slices.
fn answer(request: &RangeRequest<'_>) -> (String, bool, i64) {
    let store = store();
    let whole = ask(&store, request, SliceBound::NONE);
    let one = SliceBound {
        records: 1,
        bytes: usize::MAX,
    };
    assert_eq!(ask(&store, request, one), whole);
    let keys: Vec<u8> = whole.kvs.iter().flat_map(|kv| kv.key.to_vec()).collect();
    (
        String::from_utf8(keys).expect("text"),
        whole.more,
        whole.count,
    )
}

fn all() -> RangeRequest<'static> {
    RangeRequest {
        key: b"\0",
        range_end: b"\0",
        ..RangeRequest::default()
    }
}

fn expect(request: RangeRequest<'_>, keys: &str, more: bool, count: i64) {
    assert_eq!(
        answer(&request),
        (keys.to_owned(), more, count),
        "{request:?}"
    );
}

/// [KV-4] [KV-5] Ranges, limits, `more` and the count, which no limit reduces.
#[test]
fn ranges_and_limits() {
    let range = |key: &'static [u8], range_end: &'static [u8], limit| RangeRequest {
        key,
        range_end,
        limit,
        ..RangeRequest::default()
    };
    expect(range(b"c", b"", 0), "c", false, 1);
    expect(range(b"x", b"", 0), "", false, 0);
    expect(range(b"b", b"d", 0), "bc", false, 2);
    expect(range(b"b", b"\0", 2), "bc", true, 4);
    expect(range(b"b", b"\0", 4), "bcde", false, 4);
    expect(range(b"b", b"\0", -1), "bcde", false, 4);
    expect(range(b"d", b"b", 0), "", false, 0);
    expect(range(b"\0", b"\0", 1), "a", true, 5);
}

/// [KV-6] An older revision shows what was then.
#[test]
fn older_revisions() {
    expect(
        RangeRequest {
            revision: 4,
            ..all()
        },
        "abc",
        false,
        3,
    );
    expect(
        RangeRequest {
            revision: 4,
            limit: 2,
            ..all()
        },
        "ab",
        true,
        3,
    );
    expect(
        RangeRequest {
            revision: -7,
            ..all()
        },
        "abcde",
        false,
        5,
    );
}

/// [KV-8] Every target both ways; an explicit order sorts the whole range before it is cut.
#[test]
fn sorting_by_every_target() {
    let sorted = |sort_target, sort_order, limit| RangeRequest {
        sort_target,
        sort_order,
        limit,
        ..all()
    };
    expect(sorted(0, 1, 0), "abcde", false, 5);
    expect(sorted(0, 2, 0), "edcba", false, 5);
    expect(sorted(0, 2, 2), "ed", true, 5);
    // Equals keep key order, also when descending.
    expect(sorted(1, 1, 0), "bdeac", false, 5);
    expect(sorted(1, 2, 0), "acbde", false, 5);
    expect(sorted(2, 2, 0), "edcba", false, 5);
    expect(sorted(3, 1, 0), "bdeac", false, 5);
    expect(sorted(3, 2, 3), "cae", true, 5);
    expect(sorted(4, 1, 0), "cedba", false, 5);
    expect(sorted(4, 2, 1), "a", true, 5);
}

/// [KV-14] A target without an order: etcd's storage cuts in key order first, then sorts what is left.
#[test]
fn a_target_without_order_is_cut_before_it_is_sorted() {
    let sorted = |sort_target, limit| RangeRequest {
        sort_target,
        limit,
        ..all()
    };
    expect(sorted(4, 0), "cedba", false, 5);
    // Of the first three in key order (a = 9, b = 4, c = 0) the two smallest values.
    expect(sorted(4, 2), "cb", true, 5);
    // With a filter the whole range is read first.
    let filtered = RangeRequest {
        min_create_revision: 1,
        ..sorted(4, 2)
    };
    expect(filtered, "ce", true, 5);
}

/// [KV-12] Filters reduce the answer and `more`, not the count.
#[test]
fn filters_leave_the_count() {
    expect(
        RangeRequest {
            min_mod_revision: 6,
            ..all()
        },
        "ace",
        false,
        5,
    );
    expect(
        RangeRequest {
            max_mod_revision: 5,
            ..all()
        },
        "bd",
        false,
        5,
    );
    expect(
        RangeRequest {
            min_create_revision: 4,
            max_create_revision: 5,
            ..all()
        },
        "cd",
        false,
        5,
    );
    expect(
        RangeRequest {
            min_mod_revision: 6,
            limit: 2,
            ..all()
        },
        "ac",
        true,
        5,
    );
    expect(
        RangeRequest {
            min_mod_revision: 6,
            limit: 3,
            ..all()
        },
        "ace",
        false,
        5,
    );
    expect(
        RangeRequest {
            min_mod_revision: 6,
            limit: 1,
            sort_order: 2,
            ..all()
        },
        "e",
        true,
        5,
    );
    expect(
        RangeRequest {
            max_mod_revision: -1,
            ..all()
        },
        "",
        false,
        5,
    );
    let single = RangeRequest {
        key: b"a",
        min_mod_revision: 9,
        ..RangeRequest::default()
    };
    expect(single, "", false, 1);
}

/// [KV-10] [KV-11] count_only ignores the limit and never has more; keys_only leaves the rest of the record.
#[test]
fn counts_and_keys_alone() {
    expect(
        RangeRequest {
            count_only: true,
            limit: 1,
            ..all()
        },
        "",
        false,
        5,
    );
    let store = store();
    for (sort_target, revision) in [(0, 0), (3, 0), (4, 0), (0, 5)] {
        let request = RangeRequest {
            keys_only: true,
            sort_target,
            revision,
            ..all()
        };
        for kv in ask(&store, &request, SliceBound::NONE).kvs {
            assert!(kv.value.is_empty());
            assert!(kv.mod_revision > 0);
            assert!(kv.version > 0);
        }
    }
    let by_value = RangeRequest {
        keys_only: true,
        sort_target: 4,
        ..all()
    };
    expect(by_value, "cedba", false, 5);
}

/// [KV-8] Beyond one sorted run, in slices and in one go: a stable sort by the target.
#[test]
fn long_answers_are_sorted_as_short_ones() {
    let (mut store, _) = Store::new(StoreConfig::default());
    let count = 3 * SORT_RUN_RECORDS + 17;
    let mut expected = Vec::new();
    for i in 0..count {
        let key = format!("k{i:05}");
        // Many equals, and neighbours far apart.
        let value = format!("v{:03}", (i * 7919) % 331);
        let mut write = store.write();
        write
            .put(key.as_bytes(), value.as_bytes(), LeaseId(0))
            .unwrap();
        write.finish();
        expected.push((value, key));
    }
    for (descending, keys_only) in [(false, false), (true, true)] {
        expected.sort_by(|(a, a_key), (b, b_key)| {
            let order = a.cmp(b);
            let order = if descending { order.reverse() } else { order };
            order.then(a_key.cmp(b_key))
        });
        let order = match descending {
            true => SortOrder::Descend,
            false => SortOrder::Ascend,
        };
        let request = RangeRequest {
            sort_target: SortTarget::Value as i32,
            sort_order: order as i32,
            keys_only,
            limit: count as i64 - 1,
            ..all()
        };
        let whole = ask(&store, &request, SliceBound::NONE);
        assert_eq!(ask(&store, &request, SliceBound::SLICE), whole);
        assert!(whole.more);
        assert_eq!(whole.count, count as i64);
        let keys: Vec<&[u8]> = whole.kvs.iter().map(|kv| &kv.key[..]).collect();
        let wanted: Vec<&[u8]> = expected.iter().map(|(_, key)| key.as_bytes()).collect();
        assert!(keys == wanted[..count - 1]);
        assert_eq!(whole.kvs.iter().all(|kv| kv.value.is_empty()), keys_only);
    }
}
