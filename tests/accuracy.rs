//! A slice of the proving ground, drawn by the commit: other clips with every commit, the same with the same one.
//! `GLASSWATCH_SLICE_SEED` draws the slice of a seed that failed before.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

use accuracy::damage::impair::impair_fragments;
use accuracy::encode::{Codec, Encoding, encode};
use accuracy::keep::key;
use accuracy::slice;
use accuracy::sources::{Class, Set, Source};
use accuracy::watch::{Ask, Product};

/// What is drawn where there is neither a seed nor a commit.
const SEED: u64 = 1;

fn seed() -> u64 {
    let given = std::env::var("GLASSWATCH_SLICE_SEED");
    if let Some(seed) = given.ok().and_then(|s| s.parse().ok()) {
        return seed;
    }
    let said = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match said {
        Ok(said) if said.status.success() => {
            let commit = String::from_utf8_lossy(&said.stdout);
            u64::from_str_radix(&key(commit.trim())[..8], 16).unwrap()
        }
        _ => SEED,
    }
}

#[test]
fn av1_is_watched_to_its_end_past_pictures_that_cannot_be_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let (intact, damaged) = (folder.path().join("a.mp4"), folder.path().join("b.mp4"));
    let mut encoding = Encoding::new(Codec::Av1, 640, 360, 25.0, 800, 0.4);
    let fragments = ["-movflags", "frag_keyframe+empty_moov+default_base_moof"];
    encoding.options = fragments.map(str::to_owned).to_vec();
    let source = Source::generated(Set::Tune, Class::Pan, 1);
    encode(source.open(640, 360, 25.0).take(100), &encoding, &intact).unwrap();
    // Fragments of ten pictures; the last ones stay as they are.
    let bytes = fs::read(&intact).unwrap();
    let mut heads = (4..bytes.len()).filter(|at| bytes[*at..].starts_with(b"moof"));
    let (harmed, rest) = bytes.split_at(heads.nth(6).unwrap() - 4);
    let harmed = impair_fragments(harmed, true, 0.02, 1).unwrap();
    fs::write(&damaged, [&harmed, rest].concat()).unwrap();
    let product = Product::new(Path::new(env!("CARGO_BIN_EXE_glasswatch"))).unwrap();
    let ask = Ask::only(&product, &["block_damage"]);
    let whole = product.watch(&intact, 4.0, &ask).unwrap();
    assert_eq!((whole.pictures, whole.defects), (100, Vec::new()));
    let watched = product.watch(&damaged, 4.0, &ask).unwrap();
    assert!((40..100).contains(&watched.pictures), "{watched:?}");
    assert!(watched.of("block_damage", None).count() > 0, "{watched:?}");
}

#[test]
fn faults_of_a_slice_are_told_and_nothing_else_pages() {
    let seed = seed();
    // Kept until the next run, to be looked at.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("slice");
    let _ = fs::remove_dir_all(&folder);
    let product = Product::new(Path::new(env!("CARGO_BIN_EXE_glasswatch"))).unwrap();
    let clips = slice::draw(seed);
    let wrong = slice::run(&clips, &folder, &product).unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {} clips of slice {seed} (again: GLASSWATCH_SLICE_SEED={seed} cargo test --test accuracy):\n{}",
        wrong.len(),
        clips.len(),
        wrong.join("\n")
    );
}
