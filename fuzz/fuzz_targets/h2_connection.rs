#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| basalt_net::grpc::fuzz::h2_connection(data));
