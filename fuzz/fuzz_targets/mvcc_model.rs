#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_engine::mvcc::model::fuzz_mvcc_model(data));
