#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glasswatch::fuzzing::run("pes", data));
