#![no_main]

use glasswatch::fuzzing::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("sample_aes"), |data: &[u8]| run("sample_aes", data));
