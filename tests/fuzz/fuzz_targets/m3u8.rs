#![no_main]

use glasswatch::fuzzing::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("m3u8"), |data: &[u8]| run("m3u8", data));
