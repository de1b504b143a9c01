#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_engine::wal::fuzz::wal_recover(data));
