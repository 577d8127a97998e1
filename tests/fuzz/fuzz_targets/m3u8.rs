#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glasswatch::fuzzing::run("m3u8", data));
