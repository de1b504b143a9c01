#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_engine::raft::message::fuzz::raft_message(data));
