#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_net::hpack::fuzz::hpack(data));
