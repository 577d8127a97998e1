#![no_main]

use glasswatch::fuzzing::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("scte35"), |data: &[u8]| run("scte35", data));
