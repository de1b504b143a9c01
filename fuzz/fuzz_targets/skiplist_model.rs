#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_engine::watch::model::skiplist_model(data));
