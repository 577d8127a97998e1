#![no_main]

use glasswatch::fuzzing::{run, write_seeds};

libfuzzer_sys::fuzz_target!(init: write_seeds("mp4"), |data: &[u8]| run("mp4", data));
