use super::super::limits::{SNAPSHOT_BLOB_BYTES, SNAPSHOT_STALL_MAX, SNAPSHOTS_MAX};
use super::*;

fn ask(bench: &mut Bench) -> u32 {
    bench.ask(maintenance::SNAPSHOT, &pb::SnapshotRequest {})
}

fn messages(bench: &Bench, stream: u32) -> Vec<pb::SnapshotResponse> {
    let messages = &bench.calls.messages[&stream];
    let decode = |message: &Vec<u8>| pb::SnapshotResponse::decode(&message[..]).unwrap();
    messages.iter().map(decode).collect()
}

fn filled() -> Bench {
    let mut bench = Bench::new();
    for place in 0..40 {
        bench.put(&format!("k{place}"), &"v".repeat(30_000));
    }
    bench
}

/// [SNAP-3] etcdctl trusts the number of bytes still to come, and cuts the digest off the end.
#[test]
fn a_snapshot_comes_in_etcds_pieces_with_the_digest_last() {
    let mut bench = filled();
    let stream = ask(&mut bench);
    while !bench.calls.ended.contains_key(&stream) {
        bench.turn();
    }
    assert_eq!(bench.calls.ended[&stream], Ended::OK);
    let messages = messages(&bench, stream);
    let (digest, blobs) = messages.split_last().unwrap();
    let mut left = blobs.iter().map(|it| it.blob.len() as u64).sum::<u64>();
    assert!(left > 40 * 30_000);
    for (place, message) in blobs.iter().enumerate() {
        left -= message.blob.len() as u64;
        assert_eq!(message.remaining_bytes, left);
        assert_eq!(message.version, "3.7.0");
        assert!(message.header.is_none());
        let is_last = place + 1 == blobs.len();
        assert!(is_last || message.blob.len() == SNAPSHOT_BLOB_BYTES);
    }
    assert_eq!((digest.remaining_bytes, digest.blob.len()), (0, 32));
}

/// [SNAP-4] Memory and compaction belong to all: a client that reads nothing does not keep them.
#[test]
fn a_client_that_reads_nothing_gets_one_piece_and_is_ended() {
    let mut bench = filled();
    bench.calls.is_full = true;
    let stream = ask(&mut bench);
    bench.turn();
    bench.turn();
    let sent = bench.calls.messages[&stream].len();
    assert!(sent > 0);
    let wake = bench.turn().unwrap();
    assert_eq!(bench.calls.messages[&stream].len(), sent);
    assert_eq!(wake, bench.now + SNAPSHOT_STALL_MAX);
    bench.api.on_writable(&mut bench.calls, call(stream));
    bench.turn();
    bench.turn();
    assert!(bench.calls.messages[&stream].len() > sent);
    bench.now += SNAPSHOT_STALL_MAX;
    bench.turn();
    assert_eq!(bench.calls.ended[&stream], Error::SnapshotNotRead.status());
}

/// [SNAP-4] Each holds up compaction, so there are few; one that is cancelled makes room.
#[test]
fn only_a_few_snapshots_are_on_their_way_at_a_time() {
    let mut bench = filled();
    bench.calls.is_full = true;
    let first = ask(&mut bench);
    for _ in 1..SNAPSHOTS_MAX {
        ask(&mut bench);
    }
    bench.turn();
    let refused = ask(&mut bench);
    assert_eq!(bench.error(refused), Error::TooManyRequests.status());
    bench.api.on_cancel(call(first));
    let next = ask(&mut bench);
    bench.turn();
    bench.turn();
    assert!(!bench.calls.ended.contains_key(&next));
}
