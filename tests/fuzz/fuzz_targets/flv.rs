#![no_main]

use glasswatch::fuzzing::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("flv"), |data: &[u8]| run("flv", data));
