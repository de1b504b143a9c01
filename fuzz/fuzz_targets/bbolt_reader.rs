#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_engine::snapshot::fuzz::bbolt_reader(data));
