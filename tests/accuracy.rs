//! A slice of the proving ground, drawn by the commit: other clips with every commit, the same with the same one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use accuracy::keep::{Bench, key};
use accuracy::parts::{Extent, freeze};
use accuracy::sources::Set;
use accuracy::watch::Product;

/// `GLASSWATCH_SLICE_SEED`, or the commit.
fn seed() -> u64 {
    if let Some(seed) = std::env::var("GLASSWATCH_SLICE_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
    {
        return seed;
    }
    let said = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let commit = said.map_or_else(|_| Vec::new(), |s| s.stdout);
    u64::from_str_radix(&key(&String::from_utf8_lossy(&commit))[..8], 16).unwrap()
}

#[test]
fn a_slice_of_the_proving_ground_finds_freezes_and_invents_none() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench {
        folder: PathBuf::from(folder.path()),
        product: Product::new(Path::new(env!("CARGO_BIN_EXE_glasswatch"))).unwrap(),
        drop_clips: true,
    };
    let seed = seed();
    let extent = Extent {
        set: Set::Tune,
        seed,
        slice: Some(2),
        small: true,
        peers: false,
    };
    let outcome = freeze::run(&bench, &extent).unwrap();
    let figure = |name: &str| outcome.figures.get(name).copied().unwrap_or(f64::NAN);
    let told = format!("seed {seed}: {:#?}", outcome.failures);
    println!("{told}");
    assert!(figure("freeze_1s_events") >= 6.0, "too few events: {told}");
    assert!(figure("freeze_1s_recall") >= 0.75, "{told}");
    assert!(figure("freeze_3s_recall") >= 0.75, "{told}");
    assert!(figure("freeze_live_false_default") <= 1.0, "{told}");
}
