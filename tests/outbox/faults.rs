//! A disk whose system calls fail for a while: what is decided goes out all the same, the store says that it is not
//! durable, and is so again by itself.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use glasswatch::notify::store::{Outcome, Phase, Settings, Store};

use crate::store::change;
use crate::{Life, words};

/// A child that never saw the disk fail ends after this.
const LONG: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    Settings {
        ballast_bytes: 16 << 10,
        ..Settings::default()
    }
}

/// Not a test by itself: commits until the disk has failed and worked again.
#[test]
fn child() {
    let Some(life) = Life::given() else {
        return;
    };
    let (store, loaded) = Store::open(&life.folder, settings());
    assert_eq!((&loaded.aside, &loaded.degraded), (&None, &None));
    println!("open");
    let (mut number, mut well, mut ill) = (0, 0, 0);
    let until = Instant::now() + LONG;
    // A good while after it.
    while (ill == 0 || well < 20) && Instant::now() < until {
        number += 1;
        let done = store
            .commit(change(&format!("k{number}"), 1, 1, "raised"))
            .wait();
        assert_eq!(done.rows.len(), 1, "told whatever the disk does");
        match done.outcome {
            Outcome::Durable => {
                println!("ack {number} durably");
                well += 1;
            }
            Outcome::InMemory => {
                println!("ack {number} in_memory");
                (well, ill) = (0, ill + 1);
            }
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let state = store.state();
    println!("degradations {} {:?}", state.degradations, state.degraded);
    store.close();
}

/// Runs the child while some of its calls fail; checks that nothing of what it said was durable is lost.
fn with_failing(calls: &str, fault: &str) {
    let traced = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "true"])
        .status();
    if !traced.is_ok_and(|status| status.success()) {
        println!("skipped: strace is missing, or may not trace here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let life = Life {
        folder: folder.path().to_owned(),
        receiver: ([127, 0, 0, 1], 9).into(),
        round: 0,
    };
    let mut tracer = Command::new("strace");
    let inject = format!("inject={calls}:{fault}");
    tracer.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={calls}"),
        "-e",
        &inject,
    ]);
    tracer.arg(std::env::current_exe().unwrap());
    let done = life
        .start_under(tracer, "faults::child")
        .wait_with_output()
        .unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{said}");
    let acks = || said.lines().filter_map(|line| line.strip_prefix("ack "));
    let durable = || acks().filter(|ack| ack.ends_with("durably"));
    assert!(acks().count() > durable().count(), "no call failed: {said}");
    assert!(
        said.contains("degradations 1 None") || said.contains("degradations 2 None"),
        "{said}"
    );

    let (store, loaded) = Store::open(folder.path(), settings());
    assert_eq!((&loaded.aside, &loaded.degraded), (&None, &None));
    let kept: BTreeSet<String> = (loaded.incidents.iter())
        .filter(|i| i.phase == Phase::Open)
        .map(|i| i.key.clone())
        .collect();
    let told: BTreeSet<String> = acks().map(|ack| format!("k{}", words(ack)[0])).collect();
    assert_eq!(
        kept, told,
        "what was held in memory is on disk by now as well"
    );
    assert_eq!(loaded.waiting.len(), told.len());
    store.close();
}

#[test]
fn flushes_that_fail_are_survived_and_healed() {
    with_failing("fdatasync,fsync", "error=EIO:when=12..16");
}

#[test]
fn writes_that_fail_are_survived_and_healed() {
    with_failing("pwrite64", "error=EIO:when=150..155");
}
