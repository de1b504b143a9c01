#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_engine::replica::fuzz::snapshot_list(data));
