#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_pb::hot::fuzz_one(data));
