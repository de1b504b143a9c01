#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_net::peer::fuzz::peer_link(data));
