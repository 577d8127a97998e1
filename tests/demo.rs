//! The end-to-end test: live sources with faults over real sockets, the daemon, and a comparer that knows the
//! schedule. Each seed draws another order, other lengths and other content.

#![allow(clippy::expect_used, reason = "tests")]

use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Live streams keep their pace only when nobody else needs the cores.
static ALONE: Mutex<()> = Mutex::new(());

fn check(seed: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_glasswatch"))
        .args(["demo", "--check", "--seed", seed])
        .output()
        .expect("the demo runs");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("0 missed, 0 false defects"));
}

#[test]
fn demo_finds_every_fault_and_invents_none_with_seed_1() {
    check("1");
}

#[test]
fn demo_finds_every_fault_and_invents_none_with_seed_2() {
    check("2");
}
