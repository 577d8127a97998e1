//! The outbox under kill -9: a child decides, tells what is durable, and delivers to a receiver that refuses, stalls, cuts
//! and limits; it is killed at any moment and started again, hundreds of times. Then nothing that was acknowledged may be
//! missing, nothing may have come in the wrong order, and nothing twice under two names. And under a disk whose writes and
//! flushes fail for a while.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod desk;
mod faults;
mod store;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const FOLDER: &str = "GLASSWATCH_TEST_OUTBOX_FOLDER";
const RECEIVER: &str = "GLASSWATCH_TEST_OUTBOX_RECEIVER";
const ROUND: &str = "GLASSWATCH_TEST_OUTBOX_ROUND";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// One run of a child.
struct Life {
    folder: PathBuf,
    receiver: SocketAddr,
    round: u64,
}

impl Life {
    /// What a child was started with; `None` in the process that runs the tests.
    fn given() -> Option<Self> {
        let folder = std::env::var(FOLDER).ok()?;
        Some(Self {
            folder: folder.into(),
            receiver: std::env::var(RECEIVER).unwrap().parse().unwrap(),
            round: std::env::var(ROUND).unwrap().parse().unwrap(),
        })
    }

    /// Starts the test `child` as a process of its own.
    fn start(&self, child: &str) -> Child {
        self.start_under(Command::new(std::env::current_exe().unwrap()), child)
    }

    /// Starts it with a command that ends where its arguments begin.
    fn start_under(&self, mut command: Command, child: &str) -> Child {
        command
            .args([child, "--exact", "--nocapture", "--test-threads=1"])
            .env(FOLDER, &self.folder)
            .env(RECEIVER, self.receiver.to_string())
            .env(ROUND, self.round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    /// Starts a child and kills it somewhere, after `longest` at the latest; returns what it acknowledged: what follows `ack` on its lines.
    fn live_and_die(
        &self,
        child: &str,
        longest: Duration,
        chance: &mut fastrand::Rng,
    ) -> Vec<String> {
        let until = Instant::now() + longest;
        let mut child = self.start(child);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (said, heard) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut acks = Vec::new();
            let mut line = String::new();
            // A line without an end was cut by the kill.
            while output.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
                let _ = said.send(());
                if let Some(ack) = line.strip_prefix("ack ") {
                    acks.push(ack.trim().to_owned());
                }
                line.clear();
            }
            acks
        });
        // Some die while they start, most after some lines, so that a slow disk does not make for idle rounds.
        let lines = match chance.u8(..8) {
            0 => 0,
            _ => chance.usize(1..70),
        };
        for _ in 0..lines {
            if heard
                .recv_timeout(until.saturating_duration_since(Instant::now()))
                .is_err()
            {
                break;
            }
        }
        let wait = if lines == 0 { 40_000 } else { 4_000 };
        std::thread::sleep(Duration::from_micros(chance.u64(..wait)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), None, "it ended by itself");
        reader.join().unwrap()
    }
}
