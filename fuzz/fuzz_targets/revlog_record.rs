#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_engine::mvcc::fuzz::revlog_record(data));
