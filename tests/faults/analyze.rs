//! `analyze` of files that are broken.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::media::media;

/// Exit code, the summary line, and what was said on standard error.
fn analyze(path: &Path) -> (i32, Value, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_glasswatch"))
        .args(["analyze", "--format", "jsonl"])
        .arg(path)
        .output()
        .unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    let last = said.lines().last().unwrap_or("null");
    let summary = serde_json::from_str(last).unwrap();
    let problem = String::from_utf8(run.stderr).unwrap();
    (run.status.code().unwrap(), summary, problem)
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".ts").tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn a_cut_file_is_analysed_up_to_the_cut() {
    let seconds = (1..5).flat_map(|n| media().second(n).to_vec());
    let whole: Vec<u8> = media().segment(0).into_iter().chain(seconds).collect();
    let cut = file(&whole[..whole.len() - media().second(4).len() / 2 - 77]);
    let (code, summary, said) = analyze(cut.path());
    assert_eq!(code, 0, "{said}");
    let frames = summary["video_frames"].as_u64().unwrap();
    assert!((105..125).contains(&frames), "{summary}");
}

#[test]
fn a_file_that_ends_before_its_first_picture_is_named() {
    let cut = file(&media().segment(0)[..3 * 188]);
    let (code, summary, said) = analyze(cut.path());
    assert_eq!(code, 3, "{summary} {said}");
    assert_eq!(summary["input_cause"], "undecodable");
    assert!(said.contains("undecodable"), "{said}");
}

#[test]
fn noise_is_named() {
    let mut noise = vec![0; 300_000];
    fastrand::Rng::with_seed(5).fill(&mut noise);
    let (code, summary, said) = analyze(file(&noise).path());
    assert_eq!(code, 3, "{summary} {said}");
    assert_eq!(summary["input_cause"], "unsupported_format");
    assert!(said.contains("unsupported_format"), "{said}");
}
