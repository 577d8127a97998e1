#![no_main]

use glasswatch::fuzzing::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("ts"), |data: &[u8]| run("ts", data));
