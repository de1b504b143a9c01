//! The committed corpora of `fuzz/` through the same bodies, on any toolchain: what once broke must not break again.

use std::fs;
use std::path::PathBuf;

fn replay(target: &str, body: fn(&[u8])) {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus", target]
        .iter()
        .collect();
    let mut seeds: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seeds for {target}");
    for seed in seeds {
        // Captured, and printed only where the body panics: names the seed.
        println!("{}", seed.display());
        body(&fs::read(&seed).expect("a readable seed"));
    }
}

macro_rules! targets {
    ($($name:ident: $body:path;)*) => {$(
        #[test]
        fn $name() {
            replay(stringify!($name), $body);
        }
    )*};
}

targets! {
    bbolt_reader: basalt_engine::snapshot::fuzz::bbolt_reader;
    checkpoint_page: basalt_engine::mvcc::model::fuzz_checkpoint_page;
    grpc_frame: basalt_net::grpc::fuzz::grpc_frame;
    h2_connection: basalt_net::grpc::fuzz::h2_connection;
    hpack: basalt_net::hpack::fuzz::hpack;
    lease_model: basalt_engine::apply::lease_model::fuzz_lease_model;
    mvcc_model: basalt_engine::mvcc::model::fuzz_mvcc_model;
    peer_link: basalt_net::peer::fuzz::peer_link;
    proto_request: basalt_pb::hot::fuzz_one;
    raft_message: basalt_engine::raft::message::fuzz::raft_message;
    snapshot_list: basalt_engine::replica::fuzz::snapshot_list;
    revlog_record: basalt_engine::mvcc::fuzz::revlog_record;
    skiplist_model: basalt_engine::watch::model::skiplist_model;
    tree_model: basalt_engine::mvcc::model::fuzz_tree_model;
    wal_recover: basalt_engine::wal::fuzz::wal_recover;
    watch_oracle: basalt_engine::watch::fuzz::watch_oracle;
}
