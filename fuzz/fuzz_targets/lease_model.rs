#![no_main]
libfuzzer_sys::fuzz_target!(
    |data: &[u8]| basalt_engine::apply::lease_model::fuzz_lease_model(data)
);
